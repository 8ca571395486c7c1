//! What is known of a guest before it is placed: needs, priority, where it may be, where it is (S3-13).

use super::amounts::Amounts;
use super::hosts::{HostIndex, HostSet};
use super::zones::ZoneIndex;

/// Guests of a cluster (S0-02), and some.
pub const GUESTS_MAX: usize = 4_096;

/// A guest, by its place in the site's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestIndex(pub u16);

/// Higher ones matter more, and may take the room of lower ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u16);

/// An anti-affinity group: no two of its guests are put on one host (S0-12, S4-05).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Apart(pub u16);

/// A pool of hosts, by its place in the site's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolIndex(pub u8);

/// Whether a guest is to run, and where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It is not to run, and takes no room.
    Off,
    /// It runs there; or did, until that host was lost.
    On(HostIndex),
    /// It is to run and has no host. The search begins in this zone: where it ran, or where its user is
    /// (S1-42).
    Waiting(ZoneIndex),
}

/// What holds for guests that say nothing else: high availability is switched on for a cluster (S3-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// A guest whose host is lost gets another one.
    pub is_protected: bool,
    /// Its priority quota before anything depends on it.
    pub priority: Priority,
}

/// What a guest says otherwise (S3-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Whether it gets another host when its own is lost.
    pub is_protected: Option<bool>,
    /// Its priority.
    pub priority: Option<Priority>,
    /// The host that the operator would have it on next, if it has room.
    pub alternate: Option<HostIndex>,
}

/// One guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest<const K: usize> {
    /// Its consumer quota: the least of each kind that it runs with, and has to itself (S1-38).
    pub needs: Amounts<K>,
    /// What it was last measured to use (S3-21); `None`: not measured, and taken for its needs.
    pub load: Option<Amounts<K>>,
    /// Its own pool; the pool's class says which others it may be in (S1-37).
    pub pool: PoolIndex,
    /// Where its data can be reached.
    pub hosts: HostSet,
    /// The group that it is kept apart from.
    pub apart: Option<Apart>,
    /// Where it is.
    pub power: Power,
    /// The host that keeps its needs free for it alone (S4-04): it cannot fail for lack of room there.
    pub placeholder: Option<HostIndex>,
    /// What the operator said of it.
    pub overrides: Overrides,
}

impl<const K: usize> Guest<K> {
    /// Whether it gets another host when its own is lost.
    pub fn is_protected(&self, defaults: Defaults) -> bool {
        self.overrides.is_protected.unwrap_or(defaults.is_protected)
    }

    /// What it uses, as far as is known.
    pub fn load(&self) -> Amounts<K> {
        self.load.unwrap_or(self.needs)
    }
}

/// `on` is used by `user`: its priority rises by `gain` for as long as `user` runs (S1-41).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Who needs it.
    pub user: GuestIndex,
    /// Whom.
    pub on: GuestIndex,
    /// How much more that one matters meanwhile.
    pub gain: u16,
}
