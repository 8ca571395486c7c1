//! What a node and the witness that holds a relay say to each other. Sent inside authenticated frames, so
//! who asks is known to be true; repeated and late messages are harmless (V20).

use core::num::NonZeroU8;

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, NodeId, RegisterId};
use crate::register::message::Start;
use crate::time::Instant;

/// Names a plea of one node, so that it is carried out once however often it is sent: the asker's start
/// and a count, added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FenceId(pub u64);

/// What a witness switches the power of a node with. Both are counted from 1, as on the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outlet {
    /// A relay of the witness itself.
    Relay(NonZeroU8),
    /// An outlet of the power strip on the witness's second serial line (`fence::strip`).
    Strip(NonZeroU8),
}

/// What is wanted of the power of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Want {
    /// Cut it, and read it back as off.
    Off,
    /// Switch it on, and read it back as on.
    On,
    /// Only say what it is.
    Look,
}

/// A node asks the witness that holds the relay of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plea {
    /// Repeated in the answer.
    pub id: FenceId,
    /// Whose power.
    pub node: NodeId,
    /// Which start of it is to end; `None`: whichever runs, which only a holder may ask for.
    pub start: Option<Start>,
    /// The register that gives the right.
    pub register: RegisterId,
    /// The epoch of it that the asker knows.
    pub epoch: Epoch,
    /// What is wanted.
    pub want: Want,
}

/// The witness's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reply {
    /// Of the plea.
    pub id: FenceId,
    /// How it stands.
    pub outcome: Outcome,
}

/// How a plea stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It was granted, and is being carried out.
    UnderWay,
    /// The power was read back as off.
    Off,
    /// The power was read back as on.
    On,
    /// The switch failed, hung, or said it was done when it was not (F28): nothing is certain.
    Failed,
    /// Not granted. Nothing was done.
    Refused(Refusal),
}

/// Why a plea is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// This witness does not switch that node.
    NoRelay,
    /// The asker, or the node, has no part in the register; or they are one.
    NotACandidate,
    /// This witness does not decide about the register any more, or not yet.
    NotDeciding,
    /// Nobody holds the register, as far as this witness knows: the asker may simply take it.
    NobodyHolds,
    /// Another node than these two holds the register, or the asker wants what only a holder may.
    NotHolder,
    /// Another start of the node runs or holds the register.
    OtherStart,
    /// The asker knows another epoch of the register.
    OtherEpoch,
    /// The node holds the register, and this witness has heard of it lately.
    Heard,
    /// The witness has too much to do, or does something else with this node.
    Busy,
    /// The node has not been off for long enough.
    OffTooShort,
    /// The asker itself is being cut.
    BeingCut,
}

impl Refusal {
    /// Whether the same plea may be granted a moment later.
    pub const fn may_pass(self) -> bool {
        match self {
            Self::Heard | Self::Busy | Self::OffTooShort => true,
            Self::NoRelay
            | Self::NotACandidate
            | Self::NotDeciding
            | Self::NobodyHolds
            | Self::NotHolder
            | Self::OtherStart
            | Self::OtherEpoch
            | Self::BeingCut => false,
        }
    }
}

/// Why a plea was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ground {
    /// The asker holds the register.
    Holder,
    /// The node holds it, and has not been heard of for a silence.
    HolderSilent,
    /// Looking does no harm.
    Looking,
}

/// One line of the witness's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// +1 a plea since the witness started; a gap means that records were lost.
    pub number: u32,
    /// When it last changed.
    pub at: Instant,
    /// Who asked.
    pub asker: NodeId,
    /// For what.
    pub plea: Plea,
    /// Why it was granted; `None`: it was not.
    pub ground: Option<Ground>,
    /// How it stands.
    pub outcome: Outcome,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each refusal is either for good or for now; only what changes by itself is asked for again.
    #[test]
    fn what_only_the_asker_could_change_is_final() {
        let passing = [Refusal::Heard, Refusal::Busy, Refusal::OffTooShort];
        assert!(passing.into_iter().all(Refusal::may_pass));
        let last = [Refusal::NotHolder, Refusal::OtherStart, Refusal::NobodyHolds, Refusal::BeingCut];
        assert!(!last.into_iter().any(Refusal::may_pass));
    }
}
