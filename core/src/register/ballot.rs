//! Ballots: a total order over all attempts to write a register.

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// The number of one attempt. Two nodes never use the same one, because it carries the node; a node never
/// uses one twice, because a voter promises only what is above everything it promised before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Counts up; compared first.
    pub round: u64,
    /// Who made the attempt; 0 only in [`Self::NONE`].
    by: u16,
}

impl Ballot {
    /// Below every ballot that is used.
    pub const NONE: Self = Self { round: 0, by: 0 };

    /// The ballot of `by` in `round`.
    pub const fn new(round: u64, by: NodeId) -> Self {
        Self { round, by: by.0 }
    }

    /// Who made the attempt.
    pub const fn by(self) -> NodeId {
        NodeId(self.by)
    }

    /// The lowest ballot of `by` above this one. Saturates: 2^64 rounds do not happen, and a saturated
    /// ballot is refused by every voter.
    pub const fn above(self, by: NodeId) -> Self {
        Self::new(self.round.saturating_add(1), by)
    }
}
