//! The words of a primary: what it is told, what it asks for, what it must know.

use core::time::Duration;

use crate::id::{Epoch, NodeId};
use crate::log::Seq;
use crate::mirror::membership::{Holder, Membership, Policy};
use crate::time::Instant;

/// What the shell tells the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A guest's write was taken in. It is the one after [`super::Primary::newest`].
    Write,
    /// Every write up to this one is durable in this holder's log.
    Durable(Seq),
    /// Every write up to this one is durable in the backing store.
    Applied(Seq),
    /// The log begins with this write now: the ones before it cannot be sent any more.
    Trimmed(Seq),
    /// The register is held until then, on this node's clock.
    Leased {
        /// The end of the lease.
        until: Instant,
    },
    /// The register is not held any more.
    Lost,
    /// The register's record has this membership, as [`Action::Propose`] asked for.
    Chosen(Membership),
    /// There is a path to another holder, maybe a new one.
    Met(NodeId),
    /// There is none any more.
    Gone(NodeId),
    /// An operator takes a holder out: it leaves the set at once, and is not fed until it is met again.
    Dismiss(NodeId),
    /// A holder can be fed.
    Ready {
        /// Who.
        from: Holder,
        /// Of the offer that it answers.
        epoch: Epoch,
        /// From this write on.
        next: Seq,
    },
    /// This log does not reach back to a holder's.
    Behind {
        /// Who.
        from: NodeId,
        /// Of the offer that it answers.
        epoch: Epoch,
        /// Its backing store has every write up to this one.
        applied: Seq,
    },
    /// What is durable in a holder's log.
    Have {
        /// Who.
        from: NodeId,
        /// Of the offer.
        epoch: Epoch,
        /// Every write up to this one.
        durable: Seq,
    },
    /// What the operator wants (S0-06).
    Want(Policy),
    /// This holder's log failed.
    LogFailed,
    /// [`super::Primary::deadline`] has passed.
    Timeout,
}

/// What the machine asks the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Append the write to this holder's log.
    Append(Seq),
    /// Offer a holder to feed it, with the epoch, the history of the log and its oldest write.
    Offer {
        /// Whom.
        to: NodeId,
    },
    /// Send these writes to a holder, in order, with their own epochs, and tell it the commit point.
    Feed {
        /// Whom.
        to: NodeId,
        /// The first one.
        first: Seq,
        /// The last one.
        last: Seq,
    },
    /// Fill a holder with the blocks that changed; then report [`Event::Met`], and it is offered again.
    Fill {
        /// Whom.
        to: NodeId,
        /// Its backing store has every write up to this one.
        since: Seq,
    },
    /// Tell a holder the commit point.
    Commit {
        /// Whom.
        to: NodeId,
        /// Every write up to this one is durable on all in-sync holders.
        seq: Seq,
    },
    /// Have the register's record say this, and report [`Event::Chosen`]. Repeated by the shell until it is
    /// chosen or the register is lost.
    Propose(Membership),
    /// Every write up to this one may go to this holder's backing store (I10).
    Apply(Seq),
    /// Tell the guest: every write up to this one is safe.
    Acknowledge(Seq),
}

/// What a primary must know from its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// This holder.
    pub me: Holder,
    /// Under which it took the register.
    pub epoch: Epoch,
    /// How long a holder may owe a write before the others go on without it (S4-12, X07).
    pub late: Duration,
    /// What the operator wants.
    pub policy: Policy,
}

/// The log with which a primary begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// Its first write.
    pub oldest: Seq,
    /// Its last one. All of them are durable.
    pub newest: Seq,
    /// Every write up to this one is in the backing store.
    pub applied: Seq,
}
