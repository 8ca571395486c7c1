//! What is wanted of a guest, as people and programs say it (S3-13, S3-19).

use bulkhead_core::volume::record::{self, Guest};
use serde::{Deserialize, Serialize};

/// The priority of a guest that says nothing of it.
pub const PRIORITY: u8 = 100;

/// What is wanted of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wanted {
    /// It is to run.
    pub running: bool,
    /// What is done when it does not.
    pub policy: Policy,
    /// Those with a higher one begin first.
    pub priority: u8,
}

impl Wanted {
    /// Of a guest that is described so.
    #[must_use]
    pub const fn of(running: bool, failover: Failover) -> Self {
        let Failover { policy, priority } = failover;
        Self { running, policy, priority }
    }

    /// What follows when it does not run.
    #[must_use]
    pub const fn failover(self) -> Failover {
        let Self { policy, priority, .. } = self;
        Failover { policy, priority }
    }
}

/// What follows when a guest that is to run does not, and when its turn is: as its description says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Failover {
    /// What is done.
    pub policy: Policy,
    /// Those with a higher one begin first.
    pub priority: u8,
}

impl Default for Failover {
    fn default() -> Self {
        Self { policy: Policy::Restart, priority: PRIORITY }
    }
}

/// What is done about a guest that is to run and does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Nothing: an operator starts it.
    Stay,
    /// It begins anew.
    #[default]
    Restart,
    /// It goes on from its last snapshot, where its disks are as they were then; else it begins anew.
    Resume,
}

impl Policy {
    /// As a description says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stay => "stay",
            Self::Restart => "restart",
            Self::Resume => "resume",
        }
    }
}

impl From<Guest> for Wanted {
    fn from(guest: Guest) -> Self {
        let policy = match guest.failover {
            record::Failover::Stay => Policy::Stay,
            record::Failover::Restart => Policy::Restart,
            record::Failover::Resume => Policy::Resume,
        };
        Self { running: guest.is_wanted, policy, priority: guest.priority }
    }
}

impl From<Wanted> for Guest {
    fn from(wanted: Wanted) -> Self {
        let Wanted { running: is_wanted, policy, priority } = wanted;
        let failover = match policy {
            Policy::Stay => record::Failover::Stay,
            Policy::Restart => record::Failover::Restart,
            Policy::Resume => record::Failover::Resume,
        };
        Self { is_wanted, failover, priority }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BLACKBOX 3: programs read these names, and the catalogue keeps all of it.
    #[test]
    fn what_is_wanted_has_one_form() {
        for policy in [Policy::Stay, Policy::Restart, Policy::Resume] {
            let wanted = Wanted::of(true, Failover { policy, priority: 7 });
            assert_eq!(Wanted::from(Guest::from(wanted)), wanted);
            let text = format!("{{\"running\":true,\"policy\":\"{}\",\"priority\":7}}", policy.name());
            assert_eq!(serde_json::to_string(&wanted).unwrap(), text);
            assert_eq!(serde_json::from_str::<Wanted>(&text).unwrap(), wanted);
        }
    }
}
