//! Who may have whom cut: decided by the witness from what it knows itself, never from what the asker says of
//! others (S1-06, S1-07, X05, F29, V21).
//!
//! A witness that votes knows who holds a register: it granted the lease. Two pleas are rightful:
//!
//! 1. The asker holds the register: by the lease that this witness granted; or, where this witness does not
//!    decide because the holder may go on alone (X04), by the record it accepted, if that is still the epoch
//!    the asker holds. It is the rightful side, and may have any other node cut or switched on. (A node makes
//!    this plea only while it holds the register; nobody else can name that epoch as its own.) Such a witness
//!    was perhaps not told of what came after: who went on alone and was started anew holds a newer epoch. To
//!    switch a node on, which takes nothing from anybody, a newer epoch is enough; to cut, it is not.
//! 2. This witness decides, and the node to be cut holds it, but neither renewed its lease here nor was heard
//!    here for a silence, on either network. It is named by the start that the lease was granted to. The
//!    voters would give the register to the asker as soon as that lease ends; the cut only saves the wait.
//!
//! **Both sides at once**: a witness knows one record and grants one lease of a register at a time. By 1 the
//! asker is the holder, by 2 the node to be cut is; so at one moment a witness can cut for one side only,
//! and a side that is being cut is not heard any more. One side lives (V21). That holds for all relays of a
//! pair at *one* witness, which the site's configuration demands.
//!
//! **A wrongful plea does no harm**: to safety it cannot, because a cut takes away and gives nothing: the
//! register still moves only by a majority, and what was acknowledged is on the other holders (I1, I2). To
//! the service it can cost a master that works on, with the votes of the others, while this witness, a voter
//! too, has lost it for a whole silence: the register goes to the other compartment as after any takeover. A
//! witness that was left out of the voters refuses as soon as it knows; until then its own lease is the
//! bound, which ends one lease after the last renewal here.

use core::time::Duration;

use super::words::{Ground, Plea, Refusal, Want};
use crate::bug::{Bug, is_planted};
use crate::id::{Epoch, NodeId};
use crate::register::message::{Leased, Start};

/// What the witness knows itself at the moment of a plea.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// It switches the power of the node.
    pub has_relay: bool,
    /// Asker and node both can hold the register.
    pub concerns_both: bool,
    /// It is one of those that decide, by the record it accepted.
    pub decides: bool,
    /// The epoch of that record.
    pub epoch: Epoch,
    /// The holder by that record.
    pub holder: Option<NodeId>,
    /// The lease in force here.
    pub lease: Option<Leased>,
    /// Whether the node is silent on both networks.
    pub is_silent: bool,
    /// The start of the node with which this witness has a session.
    pub start: Option<Start>,
}

/// The times that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// A lease not renewed for this long is stale.
    pub silence: Duration,
    /// The length of a lease.
    pub lease: Duration,
}

/// Whether `asker` may have this plea.
///
/// # Errors
///
/// Why not.
pub fn judge(asker: NodeId, plea: &Plea, facts: &Facts, limits: &Limits) -> Result<Ground, Refusal> {
    if !facts.has_relay {
        return Err(Refusal::NoRelay);
    }
    if !facts.concerns_both || asker == plea.node {
        return Err(Refusal::NotACandidate);
    }
    if plea.want == Want::Look {
        return Ok(Ground::Looking);
    }
    if is_planted(Bug::RelayCutsForAnybody) {
        return Ok(Ground::HolderSilent);
    }
    let holds_newer = facts.holder.is_some() && facts.epoch < plea.epoch;
    match (facts.decides, facts.lease) {
        // Whoever went on alone came to a newer epoch without this witness. It may have its peer back (X04).
        (false, _) if holds_newer && plea.want == Want::On => Ok(Ground::Holder),
        // Where it decides, the lease counts; where it does not, only a holder can know more than it does.
        (false, _) if facts.holder == Some(asker) => by_holder(plea, facts),
        (false, _) => Err(Refusal::NotDeciding),
        (true, None) => Err(Refusal::NobodyHolds),
        (true, Some(lease)) if lease.holder == asker => by_holder(plea, facts),
        (true, Some(lease)) => of_holder(plea, facts, &lease, limits),
    }
}

fn by_holder(plea: &Plea, facts: &Facts) -> Result<Ground, Refusal> {
    let other_start = plea.start.zip(facts.start).is_some_and(|(named, runs)| named != runs);
    match (other_start, plea.epoch == facts.epoch) {
        // What was true of an earlier start says nothing of this one.
        (true, _) => Err(Refusal::OtherStart),
        (false, false) => Err(Refusal::OtherEpoch),
        (false, true) => Ok(Ground::Holder),
    }
}

fn of_holder(plea: &Plea, facts: &Facts, lease: &Leased, limits: &Limits) -> Result<Ground, Refusal> {
    if lease.holder != plea.node || plea.want != Want::Off {
        return Err(Refusal::NotHolder);
    }
    // A witness that was restarted does not know whom it granted the lease to: it waits it out.
    if plea.start.is_none() || plea.start != lease.start {
        return Err(Refusal::OtherStart);
    }
    // An asker that knows a newer one than this witness knows more than the witness may act upon.
    if facts.epoch < plea.epoch {
        return Err(Refusal::OtherEpoch);
    }
    let is_stale = lease.left.duration().saturating_add(limits.silence) <= limits.lease;
    if facts.is_silent && is_stale { Ok(Ground::HolderSilent) } else { Err(Refusal::Heard) }
}

#[cfg(test)]
#[path = "right_tests.rs"]
mod tests;
