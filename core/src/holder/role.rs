//! What a holder with an open log is: one that follows, or the one that leads.

use crate::id::Epoch;
use crate::log::Seq;
use crate::log::writer::Log;
use crate::mirror::history::History;
use crate::mirror::primary::{self, Primary};
use crate::mirror::secondary::Secondary;

/// A log that is open, and who uses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Open {
    pub(super) log: Log,
    pub(super) role: Role,
    pub(super) next: Option<Next>,
}

/// Who says what goes into the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "no heap to box into; a group has one")]
pub(super) enum Role {
    /// Another holder.
    Follows(Secondary),
    /// This one. The history is that of its log.
    Leads(Primary, History),
}

/// What is to be done when nothing is on its way to the log any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Next {
    /// Cut the log, and promise an epoch.
    Adopt { epoch: Epoch, from: Seq },
    /// The superblock that says so is on its way.
    Adopting { run: u64, from: Seq },
    /// Make the log anew, with this first write.
    Remake { first: Seq },
}

impl Open {
    /// Whether all that was appended is durable.
    pub(super) fn is_drained(&self) -> bool {
        self.log.durable() == self.log.end().next.before()
    }

    /// Whether it leads, and acknowledges.
    pub(super) fn leads(&self) -> bool {
        matches!(&self.role, Role::Leads(primary, _) if *primary.mode() != primary::Mode::Stopped)
    }

    /// Every write up to this one is known to be on all in-sync holders.
    pub(super) const fn commit(&self) -> Seq {
        match &self.role {
            Role::Follows(secondary) => secondary.commit(),
            Role::Leads(primary, _) => primary.commit(),
        }
    }
}
