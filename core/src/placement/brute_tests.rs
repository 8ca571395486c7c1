//! X17: small sites by chance, against a model that tries every way to put every guest anywhere.
//!
//! The model says what a placement may be and which one is better, by looking at whole placements. It knows
//! nothing of turns, steps or candidates.

use std::vec;
use std::vec::Vec;

use super::amounts::Amounts;
use super::answer::{Certainty, Outcome};
use super::guest::{Guest, GuestIndex, Power};
use super::hosts::{HostIndex, HostSet};
use super::testing::{Town, by_chance};

const SEEDS: u64 = 6_000;
const STEPS: u64 = 10_000_000;

/// Where every guest is; `None`: it does not run.
type Everywhere = Vec<Option<HostIndex>>;

/// What a placement is judged by: how many are down of each priority, from the highest on; then how many that
/// ran are not where they were. Less is better.
type Harm = (Vec<usize>, usize);

struct Model<'t> {
    town: &'t Town,
    up: HostSet,
}

impl Model<'_> {
    /// Where a guest runs and could go on.
    fn home(&self, guest: &Guest<2>) -> Option<HostIndex> {
        match guest.power {
            Power::On(host) if self.up.has(host) => Some(host),
            Power::On(_) | Power::Off | Power::Waiting(_) => None,
        }
    }

    fn takes_part(&self, guest: &Guest<2>) -> bool {
        match guest.power {
            Power::Off => false,
            Power::Waiting(_) => true,
            Power::On(host) => self.up.has(host) || guest.overrides.is_protected.unwrap_or(true),
        }
    }

    /// The outermost zone of a zone.
    fn outermost(&self, mut zone: usize) -> usize {
        while let Some(outer) = self.town.zones[zone].within {
            zone = usize::from(outer.0);
        }
        zone
    }

    fn may_go(&self, guest: &Guest<2>, to: HostIndex) -> bool {
        let class = |pool: u8| self.town.pools[usize::from(pool)].class;
        let host = &self.town.hosts[usize::from(to.0)];
        let from = match guest.power {
            Power::On(host) => self.town.hosts[usize::from(host.0)].zone,
            Power::Waiting(zone) => zone,
            Power::Off => return false,
        };
        self.up.has(to)
            && guest.hosts.has(to)
            && class(guest.pool.0) == class(host.pool.0)
            && self.outermost(usize::from(from.0)) == self.outermost(usize::from(host.zone.0))
    }

    fn guests(&self) -> impl Iterator<Item = (usize, &Guest<2>)> {
        self.town.guests.iter().enumerate().filter(|(_, guest)| self.takes_part(guest))
    }

    fn priority(guest: &Guest<2>) -> u16 {
        guest.overrides.priority.unwrap().0
    }

    /// Placeholders on a host, but of those guests that count as being there themselves.
    fn kept(&self, host: HostIndex, is_there: impl Fn(usize, &Guest<2>) -> bool) -> Amounts<2> {
        let others = self.guests().filter(|(_, guest)| guest.placeholder == Some(host));
        let others = others.filter(|(place, guest)| !is_there(*place, guest));
        others.fold(Amounts::NONE, |sum, (_, guest)| sum.plus(guest.needs))
    }

    fn is_allowed(&self, all: &Everywhere) -> bool {
        let site = self.town.site();
        let has_room = site.hosts().iter().all(|host| {
            let there = self.guests().filter(|(place, _)| all[*place] == Some(host));
            let taken = there.fold(Amounts::NONE, |sum, (_, guest)| sum.plus(guest.needs));
            taken.plus(self.kept(host, |place, _| all[place] == Some(host))).fits(site.provided(host))
        });
        has_room && self.guests().all(|(place, guest)| self.is_guest_allowed(all, place, guest))
    }

    fn is_guest_allowed(&self, all: &Everywhere, place: usize, guest: &Guest<2>) -> bool {
        let home = self.home(guest);
        let arrives = all[place].filter(|host| home != Some(*host));
        if let Some(host) = arrives {
            let siblings = || self.guests().filter(|(other, of)| *other != place && of.apart == guest.apart);
            let meets = siblings().any(|(other, _)| all[other] == Some(host));
            let meets_placeholder = siblings().any(|(_, of)| of.placeholder == Some(host));
            let is_kept_for_it = guest.placeholder == Some(host);
            if guest.apart.is_some() && (meets || (meets_placeholder && !is_kept_for_it)) {
                return false;
            }
            if !self.may_go(guest, host) {
                return false;
            }
        }
        home.is_none_or(|home| all[place] == Some(home) || self.is_pressed(all, home, Self::priority(guest)))
    }

    /// Whether guests of higher priority arrived on a host, and those of this one that ran there do not all
    /// fit beside what is there of higher priority, or one would meet a sibling.
    fn is_pressed(&self, all: &Everywhere, host: HostIndex, priority: u16) -> bool {
        let is_above =
            |place: usize, guest: &Guest<2>| all[place] == Some(host) && priority < Self::priority(guest);
        let above: Vec<_> = self.guests().filter(|(place, guest)| is_above(*place, guest)).collect();
        let arrived: Vec<_> = above.iter().filter(|(_, guest)| self.home(guest) != Some(host)).collect();
        let ran = self.guests().filter(|(_, guest)| self.home(guest) == Some(host));
        let ran: Vec<_> = ran.filter(|(_, guest)| Self::priority(guest) == priority).collect();
        let taken =
            above.iter().chain(&ran).fold(self.kept(host, is_above), |sum, (_, of)| sum.plus(of.needs));
        let meets = ran.iter().any(|(_, guest)| {
            guest.apart.is_some() && arrived.iter().any(|(_, other)| other.apart == guest.apart)
        });
        !arrived.is_empty() && (meets || !taken.fits(self.town.site().provided(host)))
    }

    fn harm(&self, all: &Everywhere) -> Harm {
        let down = |priority: u16| {
            let of = self.guests().filter(|(_, guest)| Self::priority(guest) == priority);
            of.filter(|(place, _)| all[*place].is_none()).count()
        };
        let moved = self.guests().filter(|(place, guest)| {
            let home = self.home(guest);
            home.is_some() && all[*place] != home
        });
        ((0..3).rev().map(down).collect(), moved.count())
    }

    /// The least harm of any placement that is allowed.
    fn best(&self) -> Harm {
        let mut best: Option<Harm> = None;
        let mut all: Everywhere = vec![None; self.town.guests.len()];
        loop {
            let is_whole = self
                .town
                .guests
                .iter()
                .zip(&all)
                .all(|(guest, host)| host.is_none() || self.takes_part(guest));
            if is_whole {
                let harm = self.harm(&all);
                if best.as_ref().is_none_or(|best| harm < *best) && self.is_allowed(&all) {
                    best = Some(harm);
                }
            }
            if !self.next(&mut all) {
                return best.expect("that nobody who ran is touched, and nobody else runs, is allowed");
            }
        }
    }

    /// The next of all ways to put everybody anywhere.
    fn next(&self, all: &mut Everywhere) -> bool {
        let hosts = u8::try_from(self.town.hosts.len()).unwrap();
        for host in all {
            let next = host.map_or(0, |host| host.0 + 1);
            *host = (next < hosts).then_some(HostIndex(next));
            if host.is_some() {
                return true;
            }
        }
        false
    }
}

fn found(town: &Town, up: HostSet, steps_max: u64) -> (Certainty, Everywhere) {
    town.with_placement(up, steps_max, |placement| {
        let guests = (0..).map(GuestIndex).take(town.guests.len());
        (placement.certainty(), guests.map(|guest| placement.host_of(guest)).collect())
    })
}

#[test]
fn no_placement_is_better_than_the_one_that_is_called_exact() {
    let (mut down, mut moved, mut improved) = (0, 0, 0);
    for seed in 0..SEEDS {
        let (town, up) = by_chance(seed);
        let model = Model { town: &town, up };
        let (certainty, all) = found(&town, up, STEPS);
        assert_eq!(certainty, Certainty::Exact, "seed {seed}");
        assert!(model.is_allowed(&all), "seed {seed}: {all:?}\n{town:#?}\n{up:?}");
        let (harm, best) = (model.harm(&all), model.best());
        assert_eq!(harm, best, "seed {seed}: {all:?}\n{town:#?}\n{up:?}");
        let (_, first) = found(&town, up, 0);
        assert!(model.is_allowed(&first), "seed {seed}: {first:?}");
        assert!(harm <= model.harm(&first), "seed {seed}");
        down += usize::from(harm.0 != [0, 0, 0]);
        moved += usize::from(0 < harm.1);
        improved += usize::from(harm < model.harm(&first));
    }
    // Sites on which nothing has to be decided would show nothing.
    assert!(500 < down && 200 < moved && 20 < improved, "{down} {moved} {improved}");
}

#[test]
fn a_guest_that_is_down_has_a_reason_that_holds() {
    for seed in 0..SEEDS {
        let (town, up) = by_chance(seed);
        let model = Model { town: &town, up };
        town.with_placement(up, 0, |placement| {
            for (guest, outcome) in placement.outcomes() {
                let (Outcome::Down(_) | Outcome::Preempted { .. }) = outcome else { continue };
                let what = &town.guests[usize::from(guest.0)];
                for host in town.site().hosts().iter().filter(|host| model.may_go(what, *host)) {
                    let is_there = |place: usize| {
                        placement.host_of(GuestIndex(u16::try_from(place).unwrap())) == Some(host)
                    };
                    let stronger = model.guests().filter(|(place, of)| {
                        let is_kept = of.placeholder == Some(host);
                        is_there(*place) && !is_kept && Model::priority(what) <= Model::priority(of)
                    });
                    let kept = model.kept(host, |_, _| false);
                    let taken = stronger.fold(kept, |sum, (_, of)| sum.plus(of.needs));
                    let meets = model.guests().any(|(place, of)| {
                        let is_other = place != usize::from(guest.0) && what.apart.is_some();
                        is_other
                            && of.apart == what.apart
                            && (is_there(place) || of.placeholder == Some(host))
                    });
                    let free = town.site().provided(host).minus(taken);
                    assert!(meets || !what.needs.fits(free), "seed {seed}: {guest:?} fits on {host:?}");
                }
            }
        });
    }
}

#[test]
fn who_has_to_go_has_to_go_for_one_who_came_and_matters_more() {
    let mut seen = 0;
    for seed in 0..SEEDS {
        let (town, up) = by_chance(seed);
        let model = Model { town: &town, up };
        let guest = |guest: GuestIndex| &town.guests[usize::from(guest.0)];
        town.with_placement(up, 1_000, |placement| {
            for (one, outcome) in placement.outcomes() {
                let home = model.home(guest(one));
                let by = match outcome {
                    Outcome::Moves { by, .. } | Outcome::Preempted { by, .. } => by,
                    Outcome::Off | Outcome::Unprotected => continue,
                    Outcome::Stays(on) => {
                        assert_eq!(home, Some(on), "seed {seed}");
                        continue;
                    }
                    Outcome::Starts { .. } | Outcome::Down(_) => {
                        assert_eq!(home, None, "seed {seed}: {one:?} {outcome:?}");
                        continue;
                    }
                };
                seen += 1;
                assert!(home.is_some() && placement.host_of(by) == home, "seed {seed}: {one:?} {outcome:?}");
                assert!(model.home(guest(by)) != home, "seed {seed}: {by:?} was there already");
                assert!(Model::priority(guest(one)) < Model::priority(guest(by)), "seed {seed}");
            }
        });
    }
    assert!(200 < seen, "{seen}");
}

#[test]
fn where_there_is_too_much_already_nothing_is_added() {
    let mut over = 0;
    for seed in 0..SEEDS {
        let (mut town, up) = by_chance(seed);
        let place = usize::try_from(seed).unwrap() % town.guests.len();
        town.guests[place].needs = town.guests[place].needs.plus(Amounts([4, 4]));
        let model = Model { town: &town, up };
        let (_, all) = found(&town, up, 1_000);
        for host in town.site().hosts().among(up).iter() {
            let there = || model.guests().filter(|(place, _)| all[*place] == Some(host));
            let sum = |guests: &mut dyn Iterator<Item = (usize, &Guest<2>)>| {
                guests.fold(Amounts::NONE, |sum, (_, guest)| sum.plus(guest.needs))
            };
            let arrived = sum(&mut there().filter(|(_, guest)| model.home(guest) != Some(host)));
            let is_kept = there().any(|(_, guest)| guest.placeholder == Some(host));
            let (taken, provided) = (sum(&mut there()), town.site().provided(host));
            over += usize::from(!taken.fits(provided));
            // A kind of which there was too much may be one that the arrivals do not need.
            assert!(is_kept || taken.only(arrived).fits(provided), "seed {seed}: {host:?}");
            if arrived == Amounts::NONE {
                let ran = model.guests().filter(|(_, guest)| model.home(guest) == Some(host));
                assert_eq!(there().count(), ran.count(), "seed {seed}: nobody has to go for nobody");
            }
        }
    }
    assert!(100 < over, "{over}");
}
