//! What outlives a reset, but not a loss of power: how often the firmware failed, and how (F13, V13).

/// Words that a board keeps in memory which no start clears.
pub const WORDS: usize = 4;

/// "BHSV": these words were written by a Bulkhead.
const MAGIC: u32 = u32::from_le_bytes(*b"BHSV");

const PANIC: u16 = 1;
const FAULT: u16 = 2;
const WISH: u16 = 3;

/// Why the firmware started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The power came, or somebody reset the board before anything was remembered.
    Power,
    /// The reset button, a debugger, or the watchdog: nothing was said before.
    Reset,
    /// The firmware panicked, and said so in the log.
    Panic,
    /// The processor refused an instruction or an access, and the log has its registers.
    Fault,
    /// The firmware started anew by itself, and said why: as a rule, to look at its card again.
    Wish,
}

/// What is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survivor {
    /// Panics and faults since the power came.
    pub failures: u16,
    /// Starts without a word since the power came: as a rule, resets by the watchdog.
    pub silent: u16,
    /// How the present start ended: [`PANIC`], [`FAULT`], [`WISH`], or nothing was said yet.
    last: u16,
}

impl Survivor {
    /// What `words` remember, and why the firmware starts. Marks this start as one that says nothing, until
    /// [`Survivor::fail`] says otherwise.
    pub const fn wake(words: [u32; WORDS]) -> (Self, Start) {
        let Some(Self { failures, silent, last }) = Self::recall(words) else {
            return (Self { failures: 0, silent: 0, last: 0 }, Start::Power);
        };
        let (silent, start) = match last {
            PANIC => (silent, Start::Panic),
            FAULT => (silent, Start::Fault),
            WISH => (silent, Start::Wish),
            0.. => (silent.saturating_add(1), Start::Reset),
        };
        (Self { failures, silent, last: 0 }, start)
    }

    /// What `words` remember, in the middle of a start.
    pub const fn recall(words: [u32; WORDS]) -> Option<Self> {
        let [magic, counts, last, check] = words;
        if magic != MAGIC || check != seal(counts, last) {
            return None;
        }
        let ([a, b, c, d], [e, f, ..]) = (counts.to_le_bytes(), last.to_le_bytes());
        let (failures, silent) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        Some(Self { failures, silent, last: u16::from_le_bytes([e, f]) })
    }

    /// The firmware fails: by a panic, or by a fault of the processor.
    #[must_use]
    pub const fn fail(self, is_fault: bool) -> Self {
        let last = if is_fault { FAULT } else { PANIC };
        Self { failures: self.failures.saturating_add(1), silent: self.silent, last }
    }

    /// The firmware starts anew by itself.
    #[must_use]
    pub const fn wish(self) -> Self {
        Self { failures: self.failures, silent: self.silent, last: WISH }
    }

    /// The words to keep.
    pub const fn words(&self) -> [u32; WORDS] {
        let ([a, b], [c, d]) = (self.failures.to_le_bytes(), self.silent.to_le_bytes());
        let counts = u32::from_le_bytes([a, b, c, d]);
        let [e, f] = self.last.to_le_bytes();
        let last = u32::from_le_bytes([e, f, 0, 0]);
        [MAGIC, counts, last, seal(counts, last)]
    }
}

/// Memory that lost its power for a moment keeps most of its bits: a checksum finds the rest.
const fn seal(counts: u32, last: u32) -> u32 {
    MAGIC.rotate_left(7) ^ counts.wrapping_mul(0x9e37_79b1) ^ last.wrapping_mul(0x85eb_ca6b).rotate_left(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_says_how_the_one_before_ended() {
        let (cold, why) = Survivor::wake([0xdead_beef; WORDS]);
        assert_eq!((cold, why), (Survivor::default(), Start::Power));
        let (one, why) = Survivor::wake(cold.fail(false).words());
        assert_eq!((one.failures, one.silent, why), (1, 0, Start::Panic));
        let (two, why) = Survivor::wake(one.fail(true).words());
        assert_eq!((two.failures, two.silent, why), (2, 0, Start::Fault));
        let (same, why) = Survivor::wake(two.wish().words());
        assert_eq!((same, why), (two, Start::Wish));
        let (three, why) = Survivor::wake(two.words());
        assert_eq!((three.failures, three.silent, why), (2, 1, Start::Reset));
    }

    #[test]
    fn any_flipped_bit_is_a_start_without_memory() {
        let good = Survivor { failures: 3, silent: 4, last: 0 }.fail(true).words();
        for bit in 0..WORDS * 32 {
            let mut bad = good;
            bad[bit / 32] ^= 1 << (bit % 32);
            assert_eq!(Survivor::wake(bad).1, Start::Power, "bit {bit}");
        }
    }

    #[test]
    fn counters_end_at_their_largest_value() {
        let full = Survivor { failures: u16::MAX, silent: u16::MAX, last: 0 };
        let (again, _) = Survivor::wake(full.words());
        assert_eq!((again.fail(true).failures, again.silent), (u16::MAX, u16::MAX));
    }
}
