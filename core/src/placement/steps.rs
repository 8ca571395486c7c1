//! The five steps of S1-40: all hosts that a guest may be put on, the best first.
//!
//! | step | where                                          | who has to go            |
//! |------|------------------------------------------------|--------------------------|
//! | 1    | its own zone, its own pool                     | nobody                   |
//! | 2    | its own pool in other zones, the nearest first | nobody                   |
//! | 3    | other pools of its class, the nearest first    | nobody                   |
//! | 4    | its own zone, its own pool                     | guests of lower priority |
//! | 5    | elsewhere in its class, the nearest first      | guests of lower priority |
//!
//! Two things come before them: the room that is kept for this guest alone (S4-04), and the host that the
//! operator named for it, if that has room (S3-13). Its *own zone* is the innermost one of the host that it
//! ran on. Of hosts that one step finds equally near, the one comes first
//!
//! 1. whose guests that have to go matter least,
//! 2. that is not overloaded then, by what its guests were last measured to use (S3-21),
//! 3. on which least is left: large holes are kept for large guests.

use heapless::Vec;

use super::amounts::Amounts;
use super::guest::{Guest, GuestIndex, Power, Priority};
use super::hosts::{HOSTS_MAX, HostIndex, HostSet};
use super::memory::{Decision, Fate, Turn};
use super::priority::Priorities;
use super::rooms::Rooms;
use super::site::{Site, running_on};
use super::zones::ZoneIndex;

/// How a guest's host was found; the earlier, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Found {
    /// It runs there, and has room beside those who came and matter more: [`super::answer::Outcome::Stays`].
    Kept,
    /// Its placeholder was there.
    Placeholder,
    /// The operator named this host for it.
    Alternate,
    /// Step 1: room in its own zone and pool.
    SameZone,
    /// Step 2: room in its own pool in another zone.
    SamePool,
    /// Step 3: room in another pool of its class.
    SameClass,
    /// Step 4: guests of lower priority had to go in its own zone and pool.
    PreemptedHere,
    /// Step 5: guests of lower priority had to go elsewhere in its class.
    PreemptedElsewhere,
}

impl Found {
    /// Whether somebody may have had to go.
    pub const fn is_preemption(self) -> bool {
        matches!(self, Self::PreemptedHere | Self::PreemptedElsewhere)
    }
}

/// A host that a guest may be put on. Candidates are compared field by field, from the first on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub found: Found,
    /// How many zones one leaves to get there.
    pub distance: u8,
    is_other_pool: bool,
    /// The highest priority of those that have to go.
    harm: Option<Priority>,
    is_overloaded: bool,
    /// In thousandths of the host, of the kind of which most is left.
    left: u64,
    pub host: HostIndex,
}

/// Each host at most once.
pub(super) type Candidates = Vec<Candidate, HOSTS_MAX>;

/// A site in the middle of a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'v, 'a, const K: usize> {
    pub site: &'v Site<'a, K>,
    pub up: HostSet,
    pub priorities: Priorities<'v>,
    pub rooms: &'v Rooms<K>,
    pub fates: &'v [Fate],
    /// Those whose turn is still to come, in order.
    pub later: &'v [Turn],
}

/// Where the guests are that another one is kept apart from (S0-12, S4-05).
#[derive(Clone, Copy, Debug, Default)]
struct Siblings {
    /// They were put there, stay there, or have a placeholder there.
    settled: HostSet,
    /// Of those, they came from elsewhere.
    arrived: HostSet,
    /// They run there, and their turn is still to come.
    standing: HostSet,
    /// They have a placeholder there.
    placeholders: HostSet,
}

/// The zone in which the search for a guest's host begins.
pub(super) fn near<const K: usize>(site: &Site<'_, K>, guest: &Guest<K>) -> Option<ZoneIndex> {
    match guest.power {
        Power::On(host) => Some(site.host(host).zone),
        Power::Waiting(zone) => Some(zone),
        Power::Off => None,
    }
}

/// The hosts that could run a guest if they had nothing else to do: up, of its class, near its data.
pub(super) fn possible<const K: usize>(site: &Site<'_, K>, up: HostSet, guest: &Guest<K>) -> HostSet {
    let near = near(site, guest);
    let class = site.hosts_of(site.class(guest.pool));
    let reached = |host: &HostIndex| near.is_some_and(|near| site.distance(near, *host).is_some());
    class.among(up).among(guest.hosts).iter().filter(reached).collect()
}

impl<const K: usize> View<'_, '_, K> {
    /// All hosts for a guest, the best first.
    pub fn candidates(&self, guest: GuestIndex) -> Candidates {
        let what = self.site.guest(guest);
        let siblings = self.siblings(guest);
        let mut candidates = Candidates::new();
        if let Some(host) = running_on(what).filter(|host| self.up.has(*host))
            && self.rooms.of(host).keeps(what.needs)
            && !siblings.arrived.has(host)
        {
            self.add(&mut candidates, guest, host, Some(Found::Kept));
        }
        let own = running_on(what).map_or(HostSet::NONE, HostSet::one);
        let actual = siblings.settled.without(siblings.placeholders);
        for host in possible(self.site, self.up, what).without(own).iter() {
            let room = self.rooms.of(host);
            if what.placeholder == Some(host) {
                if !actual.has(host) {
                    self.add(&mut candidates, guest, host, Some(Found::Placeholder));
                }
            } else if siblings.settled.has(host) || !what.needs.fits(room.by_force()) {
                // No room, whoever goes.
            } else if siblings.standing.has(host) || !what.needs.fits(room.free()) {
                self.add(&mut candidates, guest, host, None);
            } else {
                self.add(&mut candidates, guest, host, Some(self.step(what, host)));
            }
        }
        self.weigh_harm(&mut candidates, guest, siblings.standing);
        candidates.sort_unstable();
        candidates
    }

    /// The step that finds a host which has room.
    fn step(&self, what: &Guest<K>, host: HostIndex) -> Found {
        let is_same_pool = self.site.host(host).pool == what.pool;
        match (what.overrides.alternate == Some(host), is_same_pool, self.distance(what, host)) {
            (true, ..) => Found::Alternate,
            (false, true, 0) => Found::SameZone,
            (false, true, _) => Found::SamePool,
            (false, false, _) => Found::SameClass,
        }
    }

    fn distance(&self, what: &Guest<K>, host: HostIndex) -> u8 {
        near(self.site, what).and_then(|near| self.site.distance(near, host)).unwrap_or(u8::MAX)
    }

    /// `None`: somebody has to go.
    fn add(&self, to: &mut Candidates, guest: GuestIndex, host: HostIndex, found: Option<Found>) {
        let (what, room) = (self.site.guest(guest), self.rooms.of(host));
        let distance = self.distance(what, host);
        let is_other_pool = self.site.host(host).pool != what.pool;
        let by_force =
            if distance == 0 && !is_other_pool { Found::PreemptedHere } else { Found::PreemptedElsewhere };
        let left = if found.is_some() { room.free() } else { room.by_force() };
        let candidate = Candidate {
            found: found.unwrap_or(by_force),
            distance,
            is_other_pool,
            harm: None,
            is_overloaded: !room.load.plus(what.load()).fits(room.provided),
            left: left.minus(what.needs).share_of(room.provided),
            host,
        };
        to.push(candidate).expect("each host once");
    }

    /// Who would have to go, of those on each host that matter least.
    fn weigh_harm(&self, candidates: &mut Candidates, guest: GuestIndex, siblings: HostSet) {
        if !candidates.iter().any(|candidate| candidate.found.is_preemption()) {
            return;
        }
        let what = self.site.guest(guest);
        let mut freed = [Amounts::<K>::NONE; HOSTS_MAX];
        let mut harms = [None; HOSTS_MAX];
        for turn in self.later.iter().rev() {
            let other = self.site.guest(turn.guest);
            let Some(host) = running_on(other).filter(|_| self.is_standing(turn.guest)) else { continue };
            let room = self.rooms.of(host);
            let place = usize::from(host.0);
            let (Some(freed), Some(harm)) = (freed.get_mut(place), harms.get_mut(place)) else { continue };
            let is_sibling = siblings.has(host) && other.apart == what.apart;
            let taken = room.settled.plus(room.standing.minus(*freed));
            if is_sibling || !what.needs.fits(room.provided.minus(taken)) {
                *freed = freed.plus(other.needs);
                *harm = (*harm).max(Some(self.priorities.of(turn.guest)));
            }
        }
        for candidate in candidates.iter_mut().filter(|candidate| candidate.found.is_preemption()) {
            candidate.harm = harms.get(usize::from(candidate.host.0)).copied().flatten();
        }
    }

    fn is_standing(&self, guest: GuestIndex) -> bool {
        let is_on = running_on(self.site.guest(guest)).is_some_and(|host| self.up.has(host));
        is_on && self.decision(guest) == Decision::Pending
    }

    fn decision(&self, guest: GuestIndex) -> Decision {
        self.fates.get(usize::from(guest.0)).map_or(Decision::Out, |fate| fate.now)
    }

    /// Whether a sibling of a guest that runs on a host was put there.
    pub fn is_met_by_sibling(&self, guest: GuestIndex, host: HostIndex) -> bool {
        self.siblings(guest).arrived.has(host)
    }

    fn siblings(&self, guest: GuestIndex) -> Siblings {
        let mut found = Siblings::default();
        let Some(group) = self.site.guest(guest).apart else { return found };
        let others = self.site.guests().filter(|(other, what)| *other != guest && what.apart == Some(group));
        for (other, what) in others {
            let on = running_on(what).filter(|host| self.up.has(*host)).map_or(HostSet::NONE, HostSet::one);
            match self.decision(other) {
                Decision::Out => continue,
                Decision::Pending => found.standing = found.standing.with(on),
                Decision::Stays => found.settled = found.settled.with(on),
                Decision::On { host, .. } => {
                    found.settled = found.settled.with(HostSet::one(host));
                    found.arrived = found.arrived.with(HostSet::one(host));
                }
                Decision::Down => {}
            }
            let placeholder = what.placeholder.map_or(HostSet::NONE, HostSet::one).among(self.up);
            found.placeholders = found.placeholders.with(placeholder);
        }
        // A guest that is there counts more than a placeholder that is there, too.
        found.placeholders = found.placeholders.without(found.settled);
        found.settled = found.settled.with(found.placeholders);
        found
    }
}
