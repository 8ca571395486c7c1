//! What proposers and voters say to each other. Sent as postcard inside authenticated frames, so `from` is
//! known to be true; repeated and late messages are harmless.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bug::{Bug, is_planted};
use crate::id::{Epoch, NodeId, RegisterId};
use crate::register::ballot::Ballot;
use crate::register::record::Record;
use crate::register::voters::Life;
use crate::time::micros;

/// Names a question, so that late answers to earlier ones are told apart. Never reused by a running node, and
/// each start of a node counts from elsewhere ([`Self::before_first`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AskId(pub u32);

impl AskId {
    /// Where the questions of this start of a node begin. A voter whose disk hangs answers late, and its
    /// answer to an earlier start reaches the one that runs now: it must name no question of this one, or a
    /// grant of long ago would count as new (V3). By chance it does once in millions of such cases.
    pub fn before_first(start: Start) -> Self {
        if is_planted(Bug::AskReused) {
            return Self(0);
        }
        // Multiplied by 2^64 / golden ratio: starts that differ little begin far apart.
        let spread = start.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Self(u32::try_from(spread).unwrap_or_default())
    }

    /// The next question. Wraps after 2^32, long after any answer to the first is gone.
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// Milliseconds on the wire: 49 days are more than any lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Millis(pub u32);

impl Millis {
    /// Rounded up, saturating: the one who waits waits long enough.
    pub fn ceil(duration: Duration) -> Self {
        Self(u32::try_from(micros(duration).div_ceil(1_000)).unwrap_or(u32::MAX))
    }

    /// As a duration.
    pub const fn duration(self) -> Duration {
        // Widening; `From` is not const.
        Duration::from_micros((self.0 as u64).saturating_mul(1_000))
    }
}

/// One start of a node's process: a random number drawn at that start. What is said of a start stays true of
/// it for ever, also when the same node runs again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Start(pub u64);

/// The claim that a lease holder cannot act any more: the fencing device has confirmed that the power of its
/// node was off after this start of it (V20). Made by the node that asked the device, believed by the voters.
///
/// It names a start, not an epoch: an epoch that was written to a minority, and never chosen, is used again,
/// perhaps by the same node after it was fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fenced {
    /// Who was fenced.
    pub node: NodeId,
    /// Which start of it is over.
    pub start: Start,
}

/// A lease that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lending {
    /// How long.
    pub length: Millis,
    /// Which start of the asker will act under it.
    pub start: Start,
}

/// A question to a voter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// About which register.
    pub register: RegisterId,
    /// Repeated in the answer.
    pub ask: AskId,
    /// What.
    pub body: Ask,
}

/// What is asked of a voter.
#[expect(clippy::large_enum_variant, reason = "no heap to box into; messages are sent one by one")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ask {
    /// What do you hold? Promises nothing, changes nothing.
    Read,
    /// Promise to take part in no older attempt, and tell what you accepted.
    Prepare {
        /// The attempt.
        ballot: Ballot,
        /// Lets the voter forget a lease.
        fenced: Option<Fenced>,
    },
    /// Accept this record.
    Accept {
        /// The attempt that a majority promised to take part in.
        ballot: Ballot,
        /// The value.
        record: Record,
        /// Grant its holder, the asker, this lease with it.
        lease: Option<Lending>,
        /// Lets the voter forget a lease.
        fenced: Option<Fenced>,
    },
    /// Grant the asker, who holds the register, this lease from now.
    Renew(Lending),
    /// The asker has stopped acting under this epoch: forget the lease for it. Not one of a later epoch,
    /// which it may have won since: this message may be late.
    Release {
        /// The epoch given back.
        epoch: Epoch,
    },
}

/// A voter's answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// About which register.
    pub register: RegisterId,
    /// Of the question.
    pub ask: AskId,
    /// The life of the voter's state.
    pub life: Life,
    /// What it says.
    pub body: Reply,
}

/// What a voter says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Ask::Read`].
    State {
        /// What was accepted last, and by which attempt.
        accepted: Option<(Ballot, Record)>,
        /// The lease in force.
        lease: Option<Leased>,
    },
    /// To [`Ask::Prepare`]: durable.
    Promised {
        /// What was accepted last, and by which attempt.
        accepted: Option<(Ballot, Record)>,
    },
    /// To [`Ask::Accept`]: durable, and the lease, if one was asked for, is granted.
    Accepted,
    /// To [`Ask::Renew`]: granted.
    Granted {
        /// Of the record the voter holds; an older one than the holder's own has to be brought up to date.
        epoch: Epoch,
    },
    /// To [`Ask::Release`].
    Released,
    /// No.
    Refused(Refusal),
}

/// A lease as a voter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Leased {
    /// Who has it.
    pub holder: NodeId,
    /// The epoch it was granted for.
    pub epoch: Epoch,
    /// The start of the holder that has it; `None` when the voter was restarted since and cannot know.
    pub start: Option<Start>,
    /// How much longer this voter will hold to it, on its own clock.
    pub left: Millis,
}

/// Why a voter said no. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// It promised a newer attempt.
    Outbid {
        /// That attempt.
        promised: Ballot,
    },
    /// Somebody else has a lease.
    Leased(Leased),
    /// The asker does not hold the register, as far as this voter knows.
    NotHolder {
        /// Of the record the voter holds; 0 when it holds none.
        epoch: Epoch,
    },
    /// The record is older than the one this voter accepted, which may never have been chosen. A voter's
    /// epoch only rises (V10), so the asker tries again with a higher one.
    OldEpoch {
        /// Of the record the voter holds.
        epoch: Epoch,
    },
    /// The lease is longer than what this voter waits out after a restart.
    LeaseTooLong {
        /// The longest it grants.
        max: Millis,
    },
    /// The voter's table of registers is full.
    Full,
}
