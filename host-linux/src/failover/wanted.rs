//! What is wanted of a guest, as people and programs say it (S3-13, S3-19).

use bulkhead_core::id::Side;
use bulkhead_core::volume::guest::{self, GROUP_MAX, Group, Guest};
use serde::{Deserialize, Serialize};
use std::num::{NonZeroU8, NonZeroU32};

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
    /// The compartment where it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Home>,
    /// It is to run on another node than the others of this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<Apart>,
    /// What it takes of its node, where that is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Needs>,
}

/// What a guest takes of its node (S3-15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Needs {
    /// MiB of memory.
    pub memory_mib: NonZeroU32,
    /// Processors.
    pub processors: NonZeroU8,
}

impl Needs {
    /// Of a guest with so many bytes of memory and so many processors; one of each at least.
    #[must_use]
    pub fn of(memory: u64, processors: u8) -> Self {
        let mib = u32::try_from(memory.div_ceil(1 << 20)).unwrap_or(u32::MAX);
        Self {
            memory_mib: NonZeroU32::new(mib).unwrap_or(NonZeroU32::MIN),
            processors: NonZeroU8::new(processors).unwrap_or(NonZeroU8::MIN),
        }
    }
}

impl From<Needs> for guest::Needs {
    fn from(needs: Needs) -> Self {
        let Needs { memory_mib: memory, processors } = needs;
        Self { memory, processors }
    }
}

impl Wanted {
    /// Of a guest that is described so.
    #[must_use]
    pub const fn of(running: bool, failover: Failover, needs: Option<Needs>) -> Self {
        let Failover { policy, priority, home, apart } = failover;
        Self { running, policy, priority, home, apart, needs }
    }

    /// What follows when it does not run.
    #[must_use]
    pub const fn failover(self) -> Failover {
        let Self { policy, priority, home, apart, .. } = self;
        Failover { policy, priority, home, apart }
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
    /// The compartment where it belongs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<Home>,
    /// It is to run on another node than the others of this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apart: Option<Apart>,
}

impl Default for Failover {
    fn default() -> Self {
        Self { policy: Policy::Restart, priority: PRIORITY, home: None, apart: None }
    }
}

/// A compartment, as the home of a guest (S0-09, S0-19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Home {
    /// The first one.
    A,
    /// The second one.
    B,
}

impl Home {
    /// The compartment of a node with this side.
    #[must_use]
    pub fn of_side(side: &str) -> Option<Self> {
        [Self::A, Self::B].into_iter().find(|home| home.name() == side)
    }

    /// As a description says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The compartment across.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// The group of guests that do each other's work, and are to run on different nodes (S0-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Apart(Group);

impl Apart {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for Apart {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let bad =
            || format!("a group has 1 to {GROUP_MAX} letters, digits, `-`, `_`, `.`, and {name:?} has not");
        Group::new(&name).map(Self).ok_or_else(bad)
    }
}

impl From<Apart> for String {
    fn from(group: Apart) -> Self {
        group.name().to_owned()
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
            guest::Failover::Stay => Policy::Stay,
            guest::Failover::Restart => Policy::Restart,
            guest::Failover::Resume => Policy::Resume,
        };
        let home = guest.home.map(|home| match home {
            Side::A => Home::A,
            Side::B => Home::B,
        });
        let (priority, apart) = (guest.priority, guest.apart.map(Apart));
        let needs = guest
            .needs
            .map(|guest::Needs { memory: memory_mib, processors }| Needs { memory_mib, processors });
        Self { running: guest.is_wanted, policy, priority, home, apart, needs }
    }
}

impl From<Policy> for guest::Failover {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Stay => Self::Stay,
            Policy::Restart => Self::Restart,
            Policy::Resume => Self::Resume,
        }
    }
}

impl From<Wanted> for Guest {
    fn from(wanted: Wanted) -> Self {
        let Wanted { running: is_wanted, policy, priority, home, apart, needs } = wanted;
        let home = home.map(|home| match home {
            Home::A => Side::A,
            Home::B => Side::B,
        });
        let (apart, needs) = (apart.map(|Apart(group)| group), needs.map(Into::into));
        Self { is_wanted, failover: policy.into(), priority, home, apart, needs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BLACKBOX 3: programs read these names, and the catalogue keeps all of it.
    #[test]
    fn what_is_wanted_has_one_form() {
        let places = [
            (None, None, None, ""),
            (Some(Home::A), None, None, ",\"home\":\"a\""),
            (
                Some(Home::B),
                Group::new("dcs").map(Apart),
                Some(Needs::of((4 << 30) - 1, 2)),
                ",\"home\":\"b\",\"apart\":\"dcs\",\"needs\":{\"memoryMib\":4096,\"processors\":2}",
            ),
        ];
        for (policy, (home, apart, needs, place)) in
            [Policy::Stay, Policy::Restart, Policy::Resume].into_iter().zip(places)
        {
            let wanted = Wanted::of(true, Failover { policy, priority: 7, home, apart }, needs);
            assert_eq!(Wanted::from(Guest::from(wanted)), wanted);
            let text = format!("{{\"running\":true,\"policy\":\"{}\",\"priority\":7{place}}}", policy.name());
            assert_eq!(serde_json::to_string(&wanted).unwrap(), text);
            assert_eq!(serde_json::from_str::<Wanted>(&text).unwrap(), wanted);
        }
    }
}
