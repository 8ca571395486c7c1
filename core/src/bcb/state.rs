//! What the disk remembers about its boot slots.
//!
//! The words of `systemd-bless-boot` for a slot are in brackets: empty, candidate
//! ("indeterminate"), confirmed ("good"), bad ("bad").
//!
//! Every change of a slot's state there is, and what makes it. The test `boot_model` draws this
//! from its walk over all short histories and fails when it differs (`UPDATE=1` draws it anew):
//!
//! ```text
#![doc = include_str!("state.edges.txt")]
//! ```

use crate::container::image::{ImageId, SecurityVersion};
use crate::slot::{PerSlot, SlotId};

/// How often a candidate is tried unless the disk says otherwise.
pub const TRIES_DEFAULT: Tries = Tries(3);

/// A number of tries, 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tries(u8);

impl Tries {
    /// No tries.
    pub const NONE: Self = Self(0);

    /// `count` tries; `None` above 15.
    pub const fn new(count: u8) -> Option<Self> {
        if count <= 15 { Some(Self(count)) } else { None }
    }

    /// The count.
    pub const fn count(self) -> u8 {
        self.0
    }

    /// One try less; `None` when there was none.
    pub fn spend(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }

    /// One try more, at most 15: the record of tries done saturates.
    pub fn count_up(self) -> Self {
        Self(self.0.saturating_add(1).min(15))
    }
}

impl core::fmt::Display for Tries {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&self.0, f)
    }
}

/// What is known about one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Nothing was flashed, or a flash did not finish. Exit: a flash finishes.
    Empty,
    /// Flashed, never confirmed. Exit: confirmed by the boot that runs it, or bad.
    Candidate {
        /// The image that was flashed.
        image: ImageId,
        /// Tries it still has.
        left: Tries,
        /// Tries it has had.
        done: Tries,
    },
    /// Confirmed good by a boot of it. Exit: flashed anew, or retired by a higher floor.
    Confirmed {
        /// The image that was confirmed.
        image: ImageId,
    },
    /// Never started by itself again. Exit: flashed anew, or confirmed after an operator started it.
    Bad {
        /// The image that is in the slot.
        image: ImageId,
        /// Why.
        why: Why,
    },
}

impl SlotState {
    /// The image recorded for the slot.
    pub const fn image(&self) -> Option<&ImageId> {
        match self {
            Self::Empty => None,
            Self::Candidate { image, .. } | Self::Confirmed { image } | Self::Bad { image, .. } => {
                Some(image)
            }
        }
    }

    /// The state's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Candidate { .. } => "candidate",
            Self::Confirmed { .. } => "confirmed",
            Self::Bad { .. } => "bad",
        }
    }
}

/// Why a slot is bad. The codes are on disks in the field and must not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was tried as often as allowed and never confirmed.
    TriesUsedUp,
    /// Its image could not be verified.
    ImageBad,
    /// The firmware refused to start it, or it returned.
    StartFailed,
    /// An operator or the health checks went back to the other slot.
    RolledBack,
    /// A confirmation raised the security floor above it.
    BelowFloor,
    /// Both copies of the boot control block were lost and it carried no confirmation mark.
    RecordLost,
}

impl Why {
    /// All causes, with their codes on disk.
    pub const ALL: [(Self, u8); 6] = [
        (Self::TriesUsedUp, 1),
        (Self::ImageBad, 2),
        (Self::StartFailed, 3),
        (Self::RolledBack, 4),
        (Self::BelowFloor, 5),
        (Self::RecordLost, 6),
    ];

    /// The cause as one word for machines.
    pub const fn token(self) -> &'static str {
        match self {
            Self::TriesUsedUp => "tries-used-up",
            Self::ImageBad => "image-bad",
            Self::StartFailed => "start-failed",
            Self::RolledBack => "rolled-back",
            Self::BelowFloor => "below-floor",
            Self::RecordLost => "record-lost",
        }
    }
}

impl core::fmt::Display for Why {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TriesUsedUp => "its tries are used up",
            Self::ImageBad => "its image could not be verified",
            Self::StartFailed => "its image did not start",
            Self::RolledBack => "it was rolled back",
            Self::BelowFloor => "a later confirmation raised the security floor above it",
            Self::RecordLost => "its record was lost and it carries no confirmation mark",
        })
    }
}

/// Why the last boot started what it started. The codes are on disks in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No boot yet.
    Never,
    /// The preferred slot is confirmed.
    Confirmed,
    /// The preferred slot is a candidate with tries left.
    Candidate,
    /// The preferred slot used up its tries: back to the other.
    FallbackTries,
    /// The preferred slot's image could not be verified: the other.
    FallbackImage,
    /// The preferred slot's image did not start: the other.
    FallbackStart,
    /// The preferred slot is empty or was bad before: the other.
    FallbackState,
    /// The preferred slot is a candidate, but its try could not be recorded: the other.
    FallbackRecord,
    /// A person chose the slot on the rescue console.
    Operator,
    /// Both copies of the record were lost: the slot that was confirmed last (F9).
    Rebuilt,
    /// No slot may be started: the rescue console (X20).
    Rescue,
}

impl Reason {
    /// All reasons, with their codes on disk.
    pub const ALL: [(Self, u8); 11] = [
        (Self::Never, 0),
        (Self::Confirmed, 1),
        (Self::Candidate, 2),
        (Self::FallbackTries, 3),
        (Self::FallbackImage, 4),
        (Self::FallbackStart, 5),
        (Self::FallbackState, 6),
        (Self::FallbackRecord, 7),
        (Self::Operator, 8),
        (Self::Rebuilt, 9),
        (Self::Rescue, 10),
    ];

    /// The word after `reason=` in a `BOOT` line.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Confirmed => "confirmed",
            Self::Candidate => "candidate",
            Self::FallbackTries => "fallback-tries-used-up",
            Self::FallbackImage => "fallback-image-bad",
            Self::FallbackStart => "fallback-start-failed",
            Self::FallbackState => "fallback-slot-state",
            Self::FallbackRecord => "fallback-no-record",
            Self::Operator => "operator",
            Self::Rebuilt => "rebuilt",
            Self::Rescue => "rescue",
        }
    }
}

/// Number of a boot of this disk, counted from 1. Names the boot in which a slot was started, so
/// that only that boot can confirm it (V38).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootId(pub u64);

impl core::fmt::Display for BootId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The boot control block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bcb {
    /// No image below this security version boots. Invariant: never falls, and rises only in the
    /// write that confirms a slot (V35).
    pub floor: SecurityVersion,
    /// Tries a candidate gets when it is flashed. Invariant: not zero.
    pub tries_max: Tries,
    /// The slot that is considered first.
    pub preferred: SlotId,
    /// The slots.
    pub slots: PerSlot<SlotState>,
    /// The last boot; 0 before the first.
    pub boot: BootId,
    /// The slot the last boot started; `None` before the first boot and in rescue.
    pub booted: Option<SlotId>,
    /// Why it started that slot.
    pub reason: Reason,
}

impl Bcb {
    /// The block of a disk on which nothing has been flashed.
    pub const fn new(tries_max: Tries) -> Self {
        Self {
            floor: SecurityVersion(0),
            tries_max,
            preferred: SlotId::A,
            slots: PerSlot { a: SlotState::Empty, b: SlotState::Empty },
            boot: BootId(0),
            booted: None,
            reason: Reason::Never,
        }
    }

    /// The same block with `slot` in `state`.
    #[must_use]
    pub fn with(mut self, slot: SlotId, state: SlotState) -> Self {
        *self.slots.get_mut(slot) = state;
        self
    }
}
