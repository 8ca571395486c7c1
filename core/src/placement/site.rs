//! Zones, pools, hosts and guests of a site, checked once: whoever has a [`Site`] need not look again.

use core::time::Duration;

use crate::id::NodeId;

use super::amounts::{AMOUNT_MAX, Amounts};
use super::guest::{Defaults, Dependency, GUESTS_MAX, Guest, GuestIndex, PoolIndex, Power};
use super::hosts::{HOSTS_MAX, HostIndex, HostSet};
use super::zones::{self, DEPTH_MAX, Zone, ZoneIndex};

/// A class of resources: a row of the matrix of S1-37. Its pools can stand in for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u8);

/// Hosts of one class that are managed together, in any zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What its hosts are good for.
    pub class: ClassId,
    /// The provider quota (S1-38): how much of each host guests may have, in thousandths.
    pub provides_permille: u16,
}

/// A node as a place for guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host<const K: usize> {
    /// Its name.
    pub node: NodeId,
    /// Its innermost zone.
    pub zone: ZoneIndex,
    /// Its pool.
    pub pool: PoolIndex,
    /// All that it has.
    pub capacity: Amounts<K>,
}

/// What somebody says of a site.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a, const K: usize> {
    /// From the outermost inwards.
    pub zones: &'a [Zone],
    /// In any order.
    pub pools: &'a [Pool],
    /// In any order: among equals, the first one is taken.
    pub hosts: &'a [Host<K>],
    /// In any order: among equals, the first one is placed first.
    pub guests: &'a [Guest<K>],
    /// What guests gain by others that need them.
    pub dependencies: &'a [Dependency],
    /// What holds for guests that say nothing else.
    pub defaults: Defaults,
    /// The longest round trip over which replication is synchronous.
    pub synchronous: Duration,
}

/// Zones of a cluster.
pub const ZONES_MAX: usize = 1_024;
/// Pools of a cluster.
pub const POOLS_MAX: usize = HOSTS_MAX;
/// Dependencies of a cluster: four for each guest.
pub const DEPENDENCIES_MAX: usize = 4 * GUESTS_MAX;

/// A list of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Up to [`ZONES_MAX`].
    Zones,
    /// Up to [`POOLS_MAX`].
    Pools,
    /// Up to [`HOSTS_MAX`].
    Hosts,
    /// Up to [`GUESTS_MAX`].
    Guests,
    /// Up to [`DEPENDENCIES_MAX`].
    Dependencies,
}

/// What is wrong with a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A list is longer than this.
    TooMany {
        /// Which.
        list: List,
        /// How long it may be.
        most: usize,
    },
    /// It is said to be within a zone that does not come before it.
    ZoneOutOfOrder(ZoneIndex),
    /// It is deeper than [`DEPTH_MAX`].
    ZoneTooDeep(ZoneIndex),
    /// Its hosts are too far from each other for synchronous replication (S1-39).
    ZoneTooWide {
        /// Which.
        zone: ZoneIndex,
        /// How far.
        round_trip: Duration,
        /// How far they may be.
        most: Duration,
    },
    /// It provides more than all of its hosts.
    PoolProvidesTooMuch(PoolIndex),
    /// It has, or needs, more than [`AMOUNT_MAX`] of a kind.
    HostTooLarge(HostIndex),
    /// The same of a guest, or of what it uses.
    GuestTooLarge(GuestIndex),
    /// It names a zone that there is not.
    HostWithoutZone(HostIndex),
    /// It names a pool that there is not.
    HostWithoutPool(HostIndex),
    /// Two hosts are one node.
    NodeTwice(NodeId),
    /// It needs nothing of any kind: any number of it would fit anywhere.
    NeedsNothing(GuestIndex),
    /// It names a zone, pool or host that there is not.
    GuestNowhere(GuestIndex),
    /// Its placeholder is on the host on which it runs, and would be lost with it (S4-05).
    PlaceholderBeside(GuestIndex),
    /// A dependency names a guest that there is not, or is one on itself. By its place in the list.
    Dependency(u16),
}

/// A description without flaws.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a, const K: usize>(Description<'a, K>);

impl<'a, const K: usize> Site<'a, K> {
    /// Checks a description.
    ///
    /// # Errors
    ///
    /// The first flaw that is found.
    pub fn new(description: Description<'a, K>) -> Result<Self, Flaw> {
        let site = Self(description);
        site.check_lists()?;
        site.check_zones()?;
        site.check_hosts()?;
        site.check_guests()?;
        Ok(site)
    }

    fn check_lists(&self) -> Result<(), Flaw> {
        let lists = [
            (List::Zones, self.0.zones.len(), ZONES_MAX),
            (List::Pools, self.0.pools.len(), POOLS_MAX),
            (List::Hosts, self.0.hosts.len(), HOSTS_MAX),
            (List::Guests, self.0.guests.len(), GUESTS_MAX),
            (List::Dependencies, self.0.dependencies.len(), DEPENDENCIES_MAX),
        ];
        let long = lists.into_iter().find(|(_, length, most)| most < length);
        long.map_or(Ok(()), |(list, _, most)| Err(Flaw::TooMany { list, most }))
    }

    fn check_zones(&self) -> Result<(), Flaw> {
        for (zone, what) in (0..).map(ZoneIndex).zip(self.0.zones) {
            if what.within.is_some_and(|outer| zone <= outer) {
                return Err(Flaw::ZoneOutOfOrder(zone));
            }
            let outermost = zones::outwards(self.0.zones, zone).nth(DEPTH_MAX.saturating_sub(1));
            if outermost.is_some_and(|outermost| self.zone(outermost).within.is_some()) {
                return Err(Flaw::ZoneTooDeep(zone));
            }
            if self.0.synchronous < what.round_trip {
                let (round_trip, most) = (what.round_trip, self.0.synchronous);
                return Err(Flaw::ZoneTooWide { zone, round_trip, most });
            }
        }
        Ok(())
    }

    fn check_hosts(&self) -> Result<(), Flaw> {
        let mut pools = (0..).map(PoolIndex).zip(self.0.pools);
        if let Some((pool, _)) = pools.find(|(_, what)| 1_000 < what.provides_permille) {
            return Err(Flaw::PoolProvidesTooMuch(pool));
        }
        for (host, what) in (0..).map(HostIndex).zip(self.0.hosts) {
            if !is_counted(what.capacity) {
                return Err(Flaw::HostTooLarge(host));
            }
            if self.0.zones.get(usize::from(what.zone.0)).is_none() {
                return Err(Flaw::HostWithoutZone(host));
            }
            if self.0.pools.get(usize::from(what.pool.0)).is_none() {
                return Err(Flaw::HostWithoutPool(host));
            }
            if self.0.hosts.iter().take(usize::from(host.0)).any(|other| other.node == what.node) {
                return Err(Flaw::NodeTwice(what.node));
            }
        }
        Ok(())
    }

    fn check_guests(&self) -> Result<(), Flaw> {
        for (guest, what) in (0..).map(GuestIndex).zip(self.0.guests) {
            if !is_counted(what.needs) || !is_counted(what.load()) {
                return Err(Flaw::GuestTooLarge(guest));
            }
            if what.needs == Amounts::NONE {
                return Err(Flaw::NeedsNothing(guest));
            }
            let zone = match what.power {
                Power::Waiting(zone) => Some(zone),
                Power::Off | Power::On(_) => None,
            };
            let named = [running_on(what), what.placeholder, what.overrides.alternate];
            if self.0.pools.get(usize::from(what.pool.0)).is_none()
                || zone.is_some_and(|zone| self.0.zones.get(usize::from(zone.0)).is_none())
                || named.into_iter().flatten().any(|host| !self.hosts().has(host))
            {
                return Err(Flaw::GuestNowhere(guest));
            }
            if what.placeholder.is_some() && what.placeholder == running_on(what) {
                return Err(Flaw::PlaceholderBeside(guest));
            }
        }
        let known = |guest: GuestIndex| self.0.guests.get(usize::from(guest.0)).is_some();
        let bad = (0..).zip(self.0.dependencies).find(|(_, dependency)| {
            !known(dependency.user) || !known(dependency.on) || dependency.user == dependency.on
        });
        bad.map_or(Ok(()), |(place, _)| Err(Flaw::Dependency(place)))
    }

    /// What it was made of.
    pub const fn description(&self) -> &Description<'a, K> {
        &self.0
    }

    /// All its hosts.
    pub fn hosts(&self) -> HostSet {
        (0..).map(HostIndex).zip(self.0.hosts).map(|(host, _)| host).collect()
    }

    /// All its guests.
    pub fn guests(&self) -> impl Iterator<Item = (GuestIndex, &'a Guest<K>)> {
        (0..).map(GuestIndex).zip(self.0.guests)
    }

    pub(super) fn zone(&self, zone: ZoneIndex) -> &'a Zone {
        self.0.zones.get(usize::from(zone.0)).expect("the site was checked")
    }

    pub(super) fn pool(&self, pool: PoolIndex) -> &'a Pool {
        self.0.pools.get(usize::from(pool.0)).expect("the site was checked")
    }

    pub(super) fn host(&self, host: HostIndex) -> &'a Host<K> {
        self.0.hosts.get(usize::from(host.0)).expect("the site was checked")
    }

    pub(super) fn guest(&self, guest: GuestIndex) -> &'a Guest<K> {
        self.0.guests.get(usize::from(guest.0)).expect("the site was checked")
    }

    /// What a host has for guests: its part of the provider quota of its pool (S1-38).
    pub fn provided(&self, host: HostIndex) -> Amounts<K> {
        let host = self.host(host);
        host.capacity.portion(self.pool(host.pool).provides_permille)
    }

    /// The class of a pool.
    pub(super) fn class(&self, pool: PoolIndex) -> ClassId {
        self.pool(pool).class
    }

    /// The hosts of a class.
    pub fn hosts_of(&self, class: ClassId) -> HostSet {
        self.hosts().iter().filter(|host| self.class(self.host(*host).pool) == class).collect()
    }

    /// The hosts in a zone, and in all that are within it.
    pub fn hosts_in(&self, zone: ZoneIndex) -> HostSet {
        let inside = |host: &HostIndex| zones::is_within(self.0.zones, self.host(*host).zone, zone);
        self.hosts().iter().filter(inside).collect()
    }

    /// How far a host is from a zone, in zones that one leaves on the way. `None`: it is in another site.
    pub(super) fn distance(&self, from: ZoneIndex, to: HostIndex) -> Option<u8> {
        zones::distance(self.0.zones, from, self.host(to).zone)
    }
}

/// Where a guest runs, or did until its host was lost.
pub(super) fn running_on<const K: usize>(guest: &Guest<K>) -> Option<HostIndex> {
    match guest.power {
        Power::On(host) => Some(host),
        Power::Off | Power::Waiting(_) => None,
    }
}

fn is_counted<const K: usize>(amounts: Amounts<K>) -> bool {
    amounts.0.into_iter().all(|amount| amount <= AMOUNT_MAX)
}
