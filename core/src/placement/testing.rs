//! Sites for tests: small ones by hand, and many by chance.

use core::time::Duration;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use crate::id::NodeId;

use super::amounts::Amounts;
use super::answer::{Certainty, Outcome, Placement};
use super::guest::{Apart, Defaults, Dependency, Guest, GuestIndex, Overrides, PoolIndex, Power, Priority};
use super::hosts::{HostIndex, HostSet};
use super::memory::{Fate, Level, Memory, Turn};
use super::priority::Priorities;
use super::search::{Question, place};
use super::site::{ClassId, Description, Host, Pool, Site};
use super::zones::{Zone, ZoneIndex};

/// A site that owns its lists.
#[derive(Clone, Debug)]
pub struct Town {
    pub zones: Vec<Zone>,
    pub pools: Vec<Pool>,
    pub hosts: Vec<Host<2>>,
    pub guests: Vec<Guest<2>>,
    pub dependencies: Vec<Dependency>,
    pub defaults: Defaults,
}

pub const fn zone(within: Option<u16>) -> Zone {
    let within = match within {
        Some(zone) => Some(ZoneIndex(zone)),
        None => None,
    };
    Zone { within, round_trip: Duration::from_micros(100) }
}

pub const fn pool(class: u8) -> Pool {
    Pool { class: ClassId(class), provides_permille: 1_000 }
}

pub const fn host(node: u16, zone: u16, pool: u8, capacity: [u64; 2]) -> Host<2> {
    Host { node: NodeId(node), zone: ZoneIndex(zone), pool: PoolIndex(pool), capacity: Amounts(capacity) }
}

pub const fn guest(needs: [u64; 2], priority: u16, power: Power) -> Guest<2> {
    Guest {
        needs: Amounts(needs),
        load: None,
        pool: PoolIndex(0),
        hosts: HostSet::ALL,
        apart: None,
        power,
        placeholder: None,
        overrides: Overrides { is_protected: None, priority: Some(Priority(priority)), alternate: None },
    }
}

pub const fn on(host: u8) -> Power {
    Power::On(HostIndex(host))
}

impl Town {
    /// Two compartments of two racks each. In each rack a host of the first pool, and in the last rack one of
    /// another pool of the class; each has ten of both kinds.
    ///
    /// ```text
    /// zone 0 ─┬─ 1 ─┬─ 3: host 0
    ///         │     └─ 4: host 1
    ///         └─ 2 ─┬─ 5: host 2
    ///               └─ 6: host 3, host 4 (pool 1)
    /// ```
    pub fn small(guests: Vec<Guest<2>>) -> Self {
        let within = [None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(2)];
        let hosts = [(3, 0), (4, 0), (5, 0), (6, 0), (6, 1)].into_iter().zip(1..);
        Self {
            zones: within.into_iter().map(zone).collect(),
            pools: vec![pool(0), pool(0)],
            hosts: hosts.map(|((zone, pool), node)| host(node, zone, pool, [10, 10])).collect(),
            guests,
            dependencies: vec![],
            defaults: Defaults { is_protected: true, priority: Priority(5) },
        }
    }

    pub fn description(&self) -> Description<'_, 2> {
        Description {
            zones: &self.zones,
            pools: &self.pools,
            hosts: &self.hosts,
            guests: &self.guests,
            dependencies: &self.dependencies,
            defaults: self.defaults,
            synchronous: Duration::from_millis(2),
        }
    }

    pub fn site(&self) -> Site<'_, 2> {
        Site::new(self.description()).unwrap()
    }

    /// What becomes of all guests when only those hosts are up.
    pub fn with_placement<T>(
        &self,
        up: HostSet,
        steps_max: u64,
        look: impl FnOnce(&Placement<'_, '_, 2>) -> T,
    ) -> T {
        let count = self.guests.len();
        let mut priorities = vec![Priority(0); count];
        let (mut fates, mut turns, mut levels) =
            (vec![Fate::NEW; count], vec![Turn::NEW; count], vec![Level::NEW; count]);
        let site = self.site();
        let priorities = Priorities::new(&site, &mut priorities).unwrap();
        let memory = Memory { fates: &mut fates, turns: &mut turns, levels: &mut levels };
        let placement = place(Question { site: &site, up, priorities, steps_max }, memory).unwrap();
        look(&placement)
    }

    /// All hosts but these.
    pub fn without(&self, lost: &[u8]) -> HostSet {
        let lost: HostSet = lost.iter().copied().map(HostIndex).collect();
        self.site().hosts().without(lost)
    }

    /// What becomes of the guests that do not just stay, a line for each.
    pub fn story(&self, lost: &[u8]) -> String {
        self.with_placement(self.without(lost), 1_000_000, |placement| {
            assert_eq!(placement.certainty(), Certainty::Exact);
            let moved = placement.outcomes().filter(|(_, outcome)| !matches!(outcome, Outcome::Stays(_)));
            moved.map(|(guest, outcome)| line(guest, outcome)).collect()
        })
    }
}

fn line(guest: GuestIndex, outcome: Outcome) -> String {
    let name = guest.0;
    match outcome {
        Outcome::Off => format!("{name} off\n"),
        Outcome::Unprotected => format!("{name} unprotected\n"),
        Outcome::Stays(on) => format!("{name} stays on {}\n", on.0),
        Outcome::Starts { on, found } => format!("{name} starts on {}, {found:?}\n", on.0),
        Outcome::Moves { on, found, by } => format!("{name} moves to {}, {found:?}, for {}\n", on.0, by.0),
        Outcome::Preempted { by, why } => format!("{name} down for {}, {why:?}\n", by.0),
        Outcome::Down(why) => format!("{name} down, {why:?}\n"),
    }
}

/// A xorshift sequence.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        let mut chance = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            chance.below(2);
        }
        chance
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn small(&mut self, bound: u64) -> u8 {
        u8::try_from(self.below(bound)).unwrap()
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A small site by chance, on which everybody has room where he is; and its hosts that are up.
pub fn by_chance(seed: u64) -> (Town, HostSet) {
    let mut chance = Chance::new(seed);
    let mut town = Town::small(vec![]);
    town.hosts.truncate(2 + usize::from(chance.small(3)));
    for host in &mut town.hosts {
        host.zone = ZoneIndex(3 + u16::from(chance.small(4)));
        host.pool = PoolIndex(chance.small(3));
        host.capacity = Amounts([4 + chance.below(8), 4 + chance.below(8)]);
    }
    let other_class = chance.once_in(3);
    town.pools = vec![pool(0), pool(0), pool(u8::from(other_class))];
    if chance.once_in(8) {
        // The second compartment is another site.
        town.zones[2].within = None;
    }
    let hosts = u64::try_from(town.hosts.len()).unwrap();
    for _ in 0..1 + chance.below(6) {
        let guest = guest_by_chance(&mut chance, hosts);
        town.guests.push(guest);
        if !everybody_has_room(&town) {
            town.guests.last_mut().unwrap().placeholder = None;
        }
        if !everybody_has_room(&town) {
            town.guests.last_mut().unwrap().power = Power::Waiting(ZoneIndex(3 + u16::from(chance.small(4))));
        }
    }
    let up = town.site().hosts().iter().filter(|_| !chance.once_in(3)).collect();
    (town, up)
}

fn guest_by_chance(chance: &mut Chance, hosts: u64) -> Guest<2> {
    let needs = [1 + chance.below(6), chance.below(7)];
    let power = match chance.below(8) {
        0 => Power::Off,
        1 | 2 => Power::Waiting(ZoneIndex(u16::from(chance.small(7)))),
        3.. => on(chance.small(hosts)),
    };
    let mut guest = guest(needs, u16::from(chance.small(3)), power);
    guest.pool = PoolIndex(chance.small(3));
    if chance.once_in(3) {
        guest.hosts = (0..8).map(HostIndex).filter(|_| chance.once_in(2)).collect();
    }
    guest.apart = chance.once_in(3).then(|| Apart(u16::from(chance.small(2))));
    guest.placeholder = chance.once_in(4).then(|| HostIndex(chance.small(hosts)));
    if guest.placeholder.is_some_and(|host| Power::On(host) == power) {
        guest.placeholder = None;
    }
    guest.overrides.alternate = chance.once_in(5).then(|| HostIndex(chance.small(hosts)));
    guest.overrides.is_protected = chance.once_in(6).then_some(false);
    guest.load = chance.once_in(4).then(|| Amounts([chance.below(9), chance.below(9)]));
    guest
}

/// Whether no host has more than it provides.
pub fn everybody_has_room(town: &Town) -> bool {
    let site = town.site();
    site.hosts().iter().all(|host| {
        let there = town.guests.iter().filter(|guest| guest.power != Power::Off);
        let there = there.filter(|guest| guest.power == Power::On(host) || guest.placeholder == Some(host));
        there.fold(Amounts::NONE, |sum, guest| sum.plus(guest.needs)).fits(site.provided(host))
    })
}
