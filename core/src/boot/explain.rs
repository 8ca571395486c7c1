//! Why a slot was started: every slot that was considered, in order, with what was found.

use crate::bcb::state::{Reason, Tries, Why};
use crate::container::image::SecurityVersion;
use crate::container::trust::ImageFault;
use crate::slot::SlotId;

/// Slots a decision can consider: each once.
pub const CONSIDERED_MAX: usize = 2;

/// What was found about a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing was flashed, or a flash did not finish.
    Empty,
    /// It was bad before this boot.
    Bad(Why),
    /// Its tries are used up.
    TriesUsedUp {
        /// Tries it had.
        done: Tries,
    },
    /// Its image must not be started.
    Image(ImageFault),
    /// A try of it cannot be recorded, and an unrecorded try could repeat for ever.
    CannotRecord,
    /// It is chosen to be started.
    Started {
        /// Of a candidate: which try this is, and how many are left.
        try_number: Option<(Tries, Tries)>,
    },
}

impl Finding {
    /// The reason for starting the other slot, when this was found about the preferred one.
    pub(super) const fn fallback_reason(self) -> Reason {
        match self {
            Self::TriesUsedUp { .. } => Reason::FallbackTries,
            Self::Image(ImageFault::StartFailed) => Reason::FallbackStart,
            Self::Image(_) => Reason::FallbackImage,
            Self::CannotRecord => Reason::FallbackRecord,
            Self::Empty | Self::Bad(_) | Self::Started { .. } => Reason::FallbackState,
        }
    }
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::Bad(why) => write!(f, "is bad: {why}"),
            Self::TriesUsedUp { done } => write!(f, "had {done} tries and was never confirmed"),
            Self::Image(fault) => write!(f, "passed over: {fault}"),
            Self::CannotRecord => f.write_str("passed over: a try of it cannot be recorded"),
            Self::Started { try_number: None } => f.write_str("chosen"),
            Self::Started { try_number: Some((done, left)) } => {
                write!(f, "chosen, try {done}, {left} left")
            }
        }
    }
}

/// One slot that was considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The slot.
    pub slot: SlotId,
    /// What was found.
    pub finding: Finding,
}

impl core::fmt::Display for Considered {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "slot {} {}", self.slot, self.finding)
    }
}

/// Why a decision is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The reason in one word.
    pub reason: Reason,
    /// The lowest security version that may boot.
    pub floor: SecurityVersion,
    /// Both copies of the boot control block were lost.
    pub record_lost: bool,
    considered: heapless::Vec<Considered, CONSIDERED_MAX>,
}

impl Explanation {
    pub(super) const fn new(floor: SecurityVersion, record_lost: bool) -> Self {
        Self { reason: Reason::Never, floor, record_lost, considered: heapless::Vec::new() }
    }

    pub(super) fn note(&mut self, considered: Considered) {
        // `decide` considers each slot once.
        let _ = self.considered.push(considered);
    }

    /// The slots that were considered, in order.
    pub fn considered(&self) -> &[Considered] {
        &self.considered
    }
}
