//! S1-37 to S1-39: what a site may be, each flaw of a description, and what its pools have.

use core::time::Duration;
use std::vec;

use super::amounts::{AMOUNT_MAX, Amounts};
use super::guest::{Dependency, GUESTS_MAX, GuestIndex, PoolIndex, Power, Priority};
use super::hosts::{HOSTS_MAX, HostIndex, HostSet};
use super::quota::{Quota, of_pool, share};
use super::site::{ClassId, DEPENDENCIES_MAX, Flaw, List, POOLS_MAX, Site, ZONES_MAX};
use super::testing::{Town, guest, host, on, pool, zone};
use super::zones::ZoneIndex;
use crate::id::NodeId;

fn town() -> Town {
    Town::small(vec![guest([1, 1], 1, on(0)), guest([1, 1], 1, on(1))])
}

#[track_caller]
fn check(change: impl Fn(&mut Town), flaw: Flaw) {
    let mut town = town();
    change(&mut town);
    assert_eq!(Site::new(town.description()).map(|_| ()), Err(flaw));
}

#[test]
fn every_list_has_a_bound() {
    let check = |change: fn(&mut Town), list, most| check(change, Flaw::TooMany { list, most });
    check(|town| town.zones = vec![zone(None); ZONES_MAX + 1], List::Zones, ZONES_MAX);
    check(|town| town.pools = vec![pool(0); POOLS_MAX + 1], List::Pools, POOLS_MAX);
    check(|town| town.hosts = vec![host(1, 0, 0, [1, 1]); HOSTS_MAX + 1], List::Hosts, HOSTS_MAX);
    check(|town| town.guests = vec![town.guests[0]; GUESTS_MAX + 1], List::Guests, GUESTS_MAX);
    let dependency = Dependency { user: GuestIndex(0), on: GuestIndex(1), gain: 1 };
    let most = DEPENDENCIES_MAX;
    let mut town = town();
    town.dependencies = vec![dependency; most];
    let site = Site::new(town.description()).unwrap();
    // It saturates, and does not wrap.
    let mut priorities = [Priority(0); 2];
    town.dependencies.iter().for_each(|dependency| assert_eq!(dependency.gain, 1));
    let priorities = super::priority::Priorities::new(&site, &mut priorities).unwrap();
    assert_eq!(priorities.of(GuestIndex(1)), Priority(1 + u16::try_from(most).unwrap()));
    let mut town = town.clone();
    town.dependencies.push(dependency);
    let flaw = Flaw::TooMany { list: List::Dependencies, most };
    assert_eq!(Site::new(town.description()).map(|_| ()), Err(flaw));
}

#[test]
fn every_flaw_is_named() {
    check(|town| town.zones[1].within = Some(ZoneIndex(1)), Flaw::ZoneOutOfOrder(ZoneIndex(1)));
    check(|town| town.zones[1].within = Some(ZoneIndex(9)), Flaw::ZoneOutOfOrder(ZoneIndex(1)));
    check(
        |town| town.zones = (0..9_u16).map(|outer| zone(outer.checked_sub(1))).collect(),
        Flaw::ZoneTooDeep(ZoneIndex(8)),
    );
    let (round_trip, most) = (Duration::from_millis(3), Duration::from_millis(2));
    check(
        move |town| town.zones[2].round_trip = round_trip,
        Flaw::ZoneTooWide { zone: ZoneIndex(2), round_trip, most },
    );
    check(|town| town.pools[1].provides_permille = 1_001, Flaw::PoolProvidesTooMuch(PoolIndex(1)));
    check(|town| town.hosts[2].capacity.0[1] = AMOUNT_MAX + 1, Flaw::HostTooLarge(HostIndex(2)));
    check(|town| town.hosts[2].zone = ZoneIndex(7), Flaw::HostWithoutZone(HostIndex(2)));
    check(|town| town.hosts[2].pool = PoolIndex(2), Flaw::HostWithoutPool(HostIndex(2)));
    check(|town| town.hosts[2].node = NodeId(1), Flaw::NodeTwice(NodeId(1)));
    check(|town| town.guests[1].needs.0[0] = AMOUNT_MAX + 1, Flaw::GuestTooLarge(GuestIndex(1)));
    check(
        |town| town.guests[1].load = Some(Amounts([0, AMOUNT_MAX + 1])),
        Flaw::GuestTooLarge(GuestIndex(1)),
    );
    check(|town| town.guests[1].needs = Amounts::NONE, Flaw::NeedsNothing(GuestIndex(1)));
    let nowhere = Flaw::GuestNowhere(GuestIndex(1));
    check(|town| town.guests[1].power = on(5), nowhere);
    check(|town| town.guests[1].power = on(64), nowhere);
    check(|town| town.guests[1].power = Power::Waiting(ZoneIndex(7)), nowhere);
    check(|town| town.guests[1].pool = PoolIndex(2), nowhere);
    check(|town| town.guests[1].placeholder = Some(HostIndex(5)), nowhere);
    check(|town| town.guests[1].overrides.alternate = Some(HostIndex(5)), nowhere);
    check(|town| town.guests[1].placeholder = Some(HostIndex(1)), Flaw::PlaceholderBeside(GuestIndex(1)));
    for (user, on) in [(0, 2), (2, 0), (1, 1)] {
        let bad = Dependency { user: GuestIndex(user), on: GuestIndex(on), gain: 1 };
        let good = Dependency { user: GuestIndex(0), on: GuestIndex(1), gain: 1 };
        check(move |town| town.dependencies = vec![good, bad], Flaw::Dependency(1));
    }
    assert!(Site::new(town().description()).is_ok());
    assert!(Site::new(Town::small(vec![]).description()).is_ok(), "a site without guests is one");
}

#[test]
fn zones_hold_what_is_within_them() {
    let town = town();
    let site = town.site();
    let hosts = |zone| site.hosts_in(ZoneIndex(zone)).iter().map(|host| host.0).collect::<vec::Vec<_>>();
    assert_eq!(hosts(0), [0, 1, 2, 3, 4]);
    assert_eq!(hosts(1), [0, 1]);
    assert_eq!(hosts(6), [3, 4]);
    let far = |from, to| site.distance(ZoneIndex(from), HostIndex(to));
    assert_eq!([far(3, 0), far(3, 1), far(3, 2), far(2, 3), far(2, 0)], [0, 1, 2, 0, 1].map(Some));
    assert_eq!(site.hosts_of(ClassId(1)), HostSet::NONE);
}

#[test]
fn remnants_too_small_for_any_guest_do_not_count() {
    let mut town = Town::small(vec![guest([7, 2], 1, on(0)), guest([4, 4], 1, on(1))]);
    let quota = |town: &Town, up| of_pool(&town.site(), up, PoolIndex(0)).unwrap();
    let up = HostSet::one(HostIndex(0)).with(HostSet::one(HostIndex(1)));
    let (provided, taken) = (Amounts([20, 20]), Amounts([11, 6]));
    // On host 0 there are three and eight left: nobody needs so little of the first kind.
    let (free, remnants) = (Amounts([6, 6]), Amounts([3, 8]));
    assert_eq!(quota(&town, up), Quota { provided, taken, free, remnants });
    // Somebody does, who is not even running; but his data must be there.
    town.guests.push(guest([3, 1], 1, Power::Off));
    let all = Quota { provided, taken, free: free.plus(remnants), remnants: Amounts::NONE };
    assert_eq!(quota(&town, up), all);
    town.guests[2].hosts = HostSet::one(HostIndex(1));
    assert_eq!(quota(&town, up).remnants, remnants);
    // A placeholder is taken, too; what the pool does not provide is not there.
    town.guests[1].placeholder = Some(HostIndex(0));
    town.guests[1].needs = Amounts([1, 1]);
    town.pools[0].provides_permille = 800;
    let quota = quota(&town, up);
    assert_eq!((quota.provided, quota.taken), (Amounts([16, 16]), Amounts([9, 4])));
    assert_eq!(share(&town.site(), up, GuestIndex(0)), Some(437), "7 of 16");
    assert_eq!(share(&town.site(), up, GuestIndex(9)), None);
    assert_eq!(of_pool(&town.site(), up, PoolIndex(2)), None);
    let free = of_pool(&Town::small(vec![]).site(), up, PoolIndex(0)).unwrap().free;
    assert_eq!(free, provided, "without guests there is nothing too small");
}
