//! A change to a disk, as a list of writes and flushes in the order that makes it safe.
//!
//! The core makes plans; a shell carries them out, step by step, and stops at the first step that
//! fails. What holds after a power cut at any point of a plan is the promise of the function
//! that makes it, and is tested by cutting there (I8, V31).

/// Bytes of the structures that plans write whole: one block of the smallest block size.
pub const SECTOR: usize = 512;
/// Steps of the longest plan: flashing a slot.
pub const STEPS_MAX: usize = 16;

/// Bytes from the start of the disk. A multiple of the disk's block size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskOffset(pub u64);

impl DiskOffset {
    /// The place `bytes` further on; saturates, and a saturated offset is on no disk.
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

/// What a write puts on the disk.
#[expect(clippy::large_enum_variant, reason = "no heap to box into; a plan has few steps and lives briefly")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// These bytes, then zeros up to the end of the block.
    Sector([u8; SECTOR]),
    /// `len` bytes of the image container that is being flashed, from `from` on, then zeros up
    /// to the end of the last block. May be written in any number of pieces, in any order.
    Image {
        /// First byte, from the start of the container.
        from: u64,
        /// Number of bytes.
        len: u64,
    },
    /// The entry array of the partition table the plan was made for: as many bytes as
    /// `Table::array_len` says, then zeros up to the end of the last block.
    Entries,
}

/// One step of a plan.
#[expect(clippy::large_enum_variant, reason = "as for `Data`")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write `data` at `at`. Not durable before the next flush; may reach the disk torn, or
    /// after a later write of the same plan, if power is cut before that flush.
    Write {
        /// Where.
        at: DiskOffset,
        /// What.
        data: Data,
    },
    /// Make all writes so far durable. An error here ends the plan for good (V13).
    Flush,
}

/// Steps in the order they must be carried out.
#[must_use = "a plan that is not carried out changes nothing"]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    steps: heapless::Vec<Step, STEPS_MAX>,
}

impl Plan {
    /// A plan without steps.
    pub const fn new() -> Self {
        Self { steps: heapless::Vec::new() }
    }

    /// Appends a write.
    pub fn write(&mut self, at: DiskOffset, data: Data) {
        self.push(Step::Write { at, data });
    }

    /// Appends a flush.
    pub fn flush(&mut self) {
        self.push(Step::Flush);
    }

    /// Appends the steps of `then`.
    pub fn append(&mut self, then: Self) {
        for step in then.steps {
            self.push(step);
        }
    }

    /// # Panics
    ///
    /// If a plan has more than [`STEPS_MAX`] steps. Plans have a fixed shape, so this is a defect
    /// of the core that its first test finds.
    fn push(&mut self, step: Step) {
        assert!(self.steps.push(step).is_ok(), "a plan is longer than its documented bound");
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}
