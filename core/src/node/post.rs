//! One role that this node can take: a seat at the register, and the rule that asks for it.

use crate::id::{Epoch, NodeId, RegisterId};
use crate::monitor::pair::{Pair, Role, Saying};
use crate::node::message::Office;
use crate::register::seat::Seat;
use crate::register::voters::Set;
use crate::time::{Instant, earliest};

/// One role and what it takes.
#[derive(Clone, Debug)]
pub struct Post {
    pub(super) office: Office,
    pub(super) seat: Seat,
    pub(super) pair: Pair,
    pub(super) founders: Set,
    /// The operator wants it stopped: nobody may start it but the operator.
    pub(super) barred: bool,
    /// The holder last told of in a note.
    pub(super) told: Option<(Epoch, NodeId)>,
    /// The voters last told of in a note.
    pub(super) told_voters: Option<Set>,
    /// Questions whether to take the register that were not answered yet: an answer counts for the newest
    /// alone, for the record may have changed since.
    pub(super) unanswered: u32,
    /// The end of the lease that the mirror group was told of; `None`: that it holds nothing.
    pub(super) told_until: Option<Instant>,
    /// Guests may run by this register until then: it is not given back before, but left to expire (I5).
    pub(super) lent_until: Instant,
    /// By what an earlier start of this node told them, until then.
    pub(super) lent_before: Instant,
}

impl Post {
    /// Which office.
    pub const fn office(&self) -> Office {
        self.office
    }

    /// The seat at its register.
    pub const fn seat(&self) -> &Seat {
        &self.seat
    }

    /// The rule.
    pub const fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Its register.
    pub const fn register(&self) -> RegisterId {
        self.seat.register()
    }

    /// Who votes when none is missing.
    pub const fn founders(&self) -> &Set {
        &self.founders
    }

    /// Whether the operator keeps it stopped.
    pub const fn is_barred(&self) -> bool {
        self.barred
    }

    /// The role this node may act in at this very instant: master only while the lease holds.
    pub fn acting(&self, now: Instant) -> Role {
        match (self.pair.role(), self.seat.holds(now)) {
            (Role::Master, None) => Role::Contending,
            (role, _) => role,
        }
    }

    /// The newest epoch heard of.
    pub fn epoch(&self) -> Epoch {
        self.seat.known().map(|record| record.epoch).unwrap_or_default()
    }

    pub(super) fn saying(&self, now: Instant) -> Saying {
        Saying { role: self.acting(now), epoch: self.epoch() }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        earliest([Some(self.seat.deadline()), self.pair.deadline()])
    }
}
