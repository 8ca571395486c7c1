//! What is said to a seat, what it says, and what it must be told at its start.

use core::time::Duration;

use super::super::message::{Answer, Fenced, Lending, Millis, Request, Start};
use super::super::record::{Payload, Record};
use super::super::voters::Set;
use super::force::Lost;
use crate::id::{NodeId, RegisterId};
use crate::time::Drift;

/// What the machines above, the network and the clock tell the seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What is wanted from now on. Repeating it is harmless.
    Want(Wish),
    /// The answer to [`Action::Decide`].
    Decided(Verdict),
    /// Let these nodes decide from now on (X04). Carried out while the register is held, and repeated until
    /// done.
    Revote(Set),
    /// Let the record say this. Carried out while the register is held, and repeated until done;
    /// [`Action::Held`] says that it is. A register that is lost forgets it.
    Rewrite(Payload),
    /// The fencing device confirmed that this holder cannot act any more (V20).
    Fenced(Fenced),
    /// The operator says that these voters are lost for good: this node decides without them, if the others
    /// cannot (X14).
    Force(Lost),
    /// A voter answered.
    Answered {
        /// Which, authenticated.
        from: NodeId,
        /// What.
        answer: Answer,
    },
    /// [`Seat::deadline`] has passed.
    Timeout,
}

/// What is wanted of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// Only to know who holds it. A held register is given back.
    Follow,
    /// To hold it.
    Hold,
}

/// Whether to take a register that no lease protects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Take it, with this payload.
    Take(Payload),
    /// Leave it. While it is wanted, the seat asks again: soon at first, then more and more seldom.
    Leave,
}

/// What the seat asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a question to a voter, which may be this node's own.
    Ask {
        /// To whom.
        to: NodeId,
        /// What.
        request: Request,
    },
    /// A quorum would let this node take the register from this record (`None`: nobody ever had it). Answer
    /// with [`Event::Decided`], within what a phase of a round may take; not with the answer to an earlier
    /// question.
    Decide {
        /// The newest record.
        current: Option<Record>,
    },
    /// The register is held, or its record changed while it is held.
    Held(Record),
    /// The register is not held any more. Whatever was started because it was held must already have stopped.
    Lost(Why),
    /// Somebody's newer record became known. It may not be chosen yet.
    Seen(Record),
}

/// Why a register was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It was given back.
    Released,
    /// The lease could not be renewed in time.
    Expired,
    /// A newer record names another holder.
    Outranked,
}

/// What a seat must know from its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Which register.
    pub register: RegisterId,
    /// This node.
    pub me: NodeId,
    /// This start of it.
    pub start: Start,
    /// Who votes while there is no record.
    pub founders: Set,
    /// The length of a lease.
    pub lease: Duration,
    /// How often it is renewed. Several times shorter than the lease.
    pub renew: Duration,
    /// How long a phase of a round may take.
    pub answer_max: Duration,
    /// How often a follower asks.
    pub watch: Duration,
    /// Least pause before another attempt; up to twice as long by chance.
    pub backoff: Duration,
    /// After this long without a renewal a holder may be fenced; `None`: there is no device.
    pub stale: Option<Duration>,
    /// The bound on drift.
    pub drift: Drift,
    /// Spreads the attempts of nodes that try at the same time. Not 0.
    pub seed: u64,
}

impl Settings {
    /// The lease this node asks for.
    pub(super) fn lending(&self) -> Lending {
        Lending { length: Millis::ceil(self.lease), start: self.start }
    }
}
