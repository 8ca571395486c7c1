//! S1-40, S3-13, S3-14, S3-21, S4-04, S4-05, S4-18, X17: one story a rule.

use std::format;
use std::vec;
use std::vec::Vec;

use super::TooSmall;
use super::amounts::Amounts;
use super::answer::Certainty;
use super::guest::{Apart, Dependency, Guest, GuestIndex, PoolIndex, Power, Priority};
use super::hosts::{HostIndex, HostSet};
use super::memory::{Fate, Level, Memory, Turn};
use super::priority::Priorities;
use super::search::{Question, place};
use super::site::ClassId;
use super::testing::{Town, guest, host, on};
use super::zones::ZoneIndex;

/// What is lost with these hosts, and what becomes of whom.
#[track_caller]
fn check(town: &Town, lost: &[u8], expected: &str) {
    let lines: Vec<_> = expected.lines().map(str::trim).collect();
    assert_eq!(town.story(lost).lines().collect::<Vec<_>>(), lines);
}

/// A guest that fills a host.
fn whole(priority: u16, power: Power) -> Guest<2> {
    guest([10, 10], priority, power)
}

fn waiting() -> Power {
    Power::Waiting(ZoneIndex(3))
}

fn only(hosts: &[u8]) -> HostSet {
    hosts.iter().copied().map(HostIndex).collect()
}

#[test]
fn the_five_steps_in_their_order() {
    // Another host beside host 0, and everybody of lower priority fills a host.
    let mut town = Town::small(vec![whole(9, on(0))]);
    town.hosts.push(host(6, 3, 0, [10, 10]));
    check(&town, &[0], "0 starts on 5, SameZone");
    town.guests.push(whole(1, on(5)));
    check(&town, &[0], "0 starts on 1, SamePool");
    town.guests.push(whole(1, on(1)));
    check(&town, &[0], "0 starts on 2, SamePool");
    town.guests.push(whole(1, on(2)));
    check(&town, &[0], "0 starts on 3, SamePool");
    town.guests.push(whole(1, on(3)));
    check(&town, &[0], "0 starts on 4, SameClass");
    town.guests.push(whole(1, on(4)));
    let full = |host: u8| format!("Full {{ host: HostIndex({host}), kind: Kind(1), lacks: 10 }}");
    check(&town, &[0], &format!("0 starts on 5, PreemptedHere\n1 down for 0, {}", full(1)));
    town.guests[1].overrides.priority = Some(Priority(9));
    check(&town, &[0], &format!("0 starts on 1, PreemptedElsewhere\n2 down for 0, {}", full(1)));
    for guest in &mut town.guests {
        guest.overrides.priority = Some(Priority(9));
    }
    check(&town, &[0], &format!("0 down, {}", full(1)));
}

#[test]
fn who_matters_more_gets_the_room_and_the_others_when_there_is_more() {
    let mut town = Town::small(vec![whole(1, on(0)), whole(2, on(1)), whole(3, on(2))]);
    town.guests.push(whole(9, on(4)));
    check(
        &town,
        &[0, 1, 2],
        "0 down, Full { host: HostIndex(3), kind: Kind(1), lacks: 10 }
         1 down, Full { host: HostIndex(3), kind: Kind(1), lacks: 10 }
         2 starts on 3, SamePool",
    );
    // As the shell puts it down afterwards.
    town.guests[2].power = on(3);
    (town.guests[0].power, town.guests[1].power) = (waiting(), waiting());
    check(
        &town,
        &[0, 1],
        "0 down, Full { host: HostIndex(2), kind: Kind(1), lacks: 10 }
         1 starts on 2, SamePool",
    );
    check(
        &town,
        &[1, 2],
        "0 down, Full { host: HostIndex(0), kind: Kind(1), lacks: 10 }\n1 starts on 0, SameZone",
    );
    check(&town, &[], "0 starts on 1, SamePool\n1 starts on 0, SameZone");
}

#[test]
fn who_has_to_go_moves_if_there_is_room_elsewhere() {
    // Only host 1 has the data of guest 0; the room on host 2 is for guest 1, which had to go.
    let mut town = Town::small(vec![whole(9, on(0)), whole(1, on(1))]);
    town.guests[0].hosts = only(&[0, 1]);
    check(&town, &[0], "0 starts on 1, PreemptedElsewhere\n1 moves to 2, SamePool, for 0");
}

#[test]
fn of_hosts_equally_near_the_one_is_taken_whose_guests_matter_least() {
    let mut town = Town::small(vec![whole(9, on(0)), whole(3, on(2)), whole(2, on(3))]);
    town.guests.extend([whole(9, on(1)), whole(9, on(4))]);
    check(
        &town,
        &[0],
        "0 starts on 3, PreemptedElsewhere
         2 down for 0, Full { host: HostIndex(1), kind: Kind(1), lacks: 10 }",
    );
    // The first way finds it; with time, any way would.
    let first = |town: &Town| {
        town.with_placement(town.without(&[0]), 0, |placement| placement.host_of(GuestIndex(0)))
    };
    assert_eq!(first(&town), Some(HostIndex(3)));
    // A host has several guests: only those that would have to go count.
    town.guests[2] = guest([5, 5], 4, on(3));
    town.guests.push(guest([5, 5], 1, on(3)));
    town.guests[0].needs = Amounts([5, 5]);
    town.guests[0].hosts = only(&[2, 3]);
    assert_eq!(first(&town), Some(HostIndex(3)));
    check(
        &town,
        &[0],
        "0 starts on 3, PreemptedElsewhere
         5 down for 0, Full { host: HostIndex(1), kind: Kind(1), lacks: 5 }",
    );
}

#[test]
fn nobody_has_to_go_for_an_equal() {
    let mut town = Town::small(vec![guest([6, 6], 4, on(0))]);
    town.guests.extend((1..5).map(|host| guest([5, 5], 4, on(host))));
    check(&town, &[0], "0 down, Full { host: HostIndex(1), kind: Kind(1), lacks: 1 }");
}

#[test]
fn a_guest_keeps_away_from_those_it_is_kept_apart_from() {
    let mut town =
        Town::small(vec![guest([1, 1], 4, on(0)), guest([1, 1], 4, on(1)), guest([1, 1], 5, on(2))]);
    for guest in &mut town.guests {
        guest.apart = Some(Apart(7));
    }
    check(&town, &[0], "0 starts on 3, SamePool");
    // Two that are lost together do not meet either.
    check(&town, &[0, 2], "0 starts on 4, SameClass\n2 starts on 3, SamePool");
    // A sibling that matters less has to go, although there is room for both.
    town.guests[2].hosts = only(&[1, 2]);
    check(&town, &[2], "1 moves to 3, SamePool, for 2\n2 starts on 1, PreemptedElsewhere");
    town.guests[2].overrides.priority = Some(Priority(4));
    check(&town, &[2], "2 down, Apart { host: HostIndex(1), sibling: GuestIndex(1) }");
    // Where a sibling's placeholder is, a sibling may be soon.
    town.guests[0].hosts = only(&[0, 3]);
    town.guests[2].placeholder = Some(HostIndex(3));
    check(&town, &[0], "0 down, Apart { host: HostIndex(3), sibling: GuestIndex(2) }");
}

#[test]
fn a_placeholder_is_for_its_guest_alone_and_first() {
    let mut town = Town::small(vec![whole(1, on(0)), whole(9, on(1))]);
    town.guests[0].placeholder = Some(HostIndex(4));
    check(&town, &[0], "0 starts on 4, Placeholder");
    // Nobody else gets it, however much he matters.
    town.guests[1].hosts = only(&[1, 4]);
    check(&town, &[1], "1 down, Full { host: HostIndex(4), kind: Kind(1), lacks: 10 }");
    check(
        &town,
        &[0, 1],
        "0 starts on 4, Placeholder\n1 down, Full { host: HostIndex(4), kind: Kind(1), lacks: 10 }",
    );
    // It goes with its host, and with a guest that is off.
    check(&town, &[0, 4], "0 starts on 2, SamePool");
    town.guests[0].power = Power::Off;
    check(&town, &[1], "0 off\n1 starts on 4, SameClass");
}

#[test]
fn what_the_operator_said_counts() {
    let mut town = Town::small(vec![guest([1, 1], 4, on(0)), guest([1, 1], 4, on(0))]);
    town.guests[0].overrides.alternate = Some(HostIndex(4));
    town.guests[1].overrides.is_protected = Some(false);
    check(&town, &[0], "0 starts on 4, Alternate\n1 unprotected");
    town.guests.push(whole(4, on(4)));
    check(&town, &[0], "0 starts on 1, SamePool\n1 unprotected");
    town.defaults.is_protected = false;
    check(&town, &[0], "0 unprotected\n1 unprotected");
    town.guests[1].overrides.is_protected = Some(true);
    check(&town, &[0], "0 unprotected\n1 starts on 1, SamePool");
}

#[test]
fn large_holes_are_kept_for_large_guests_but_not_on_an_overloaded_host() {
    let mut town = Town::small(vec![guest([3, 3], 4, on(0)), guest([6, 6], 4, on(3))]);
    check(&town, &[0, 1], "0 starts on 3, SamePool");
    town.guests[1].load = Some(Amounts([6, 8]));
    check(&town, &[0, 1], "0 starts on 2, SamePool");
}

#[test]
fn on_a_host_that_has_too_much_everybody_stays_and_nobody_comes() {
    // Guests need more than they did, or the pool provides less.
    let mut town =
        Town::small(vec![guest([6, 6], 4, on(1)), guest([6, 6], 1, on(1)), guest([1, 1], 2, on(0))]);
    check(&town, &[], "");
    check(&town, &[0], "2 starts on 2, SamePool");
    town.guests[2].hosts = only(&[1]);
    check(&town, &[0], "1 moves to 2, SamePool, for 2\n2 starts on 1, PreemptedElsewhere");
    town.guests[2].overrides.priority = Some(Priority(1));
    check(&town, &[0], "2 down, Full { host: HostIndex(1), kind: Kind(1), lacks: 1 }");
}

#[test]
fn a_database_gains_while_its_users_run_and_loses_when_they_are_down() {
    // Guest 2 needs a host; only that of the database, 0, could have it.
    let mut town = Town::small(vec![whole(1, on(1)), guest([1, 1], 1, on(2)), whole(5, on(0))]);
    for guest in &mut town.guests {
        guest.hosts = only(&[0, 1, 2]);
    }
    town.guests[1].needs = Amounts([8, 8]);
    town.guests[1].overrides.priority = Some(Priority(9));
    let full =
        |host: u8, lacks: u8| format!("Full {{ host: HostIndex({host}), kind: Kind(1), lacks: {lacks} }}");
    check(&town, &[0], &format!("0 down for 2, {}\n2 starts on 1, PreemptedElsewhere", full(2, 8)));
    town.dependencies = vec![Dependency { user: GuestIndex(1), on: GuestIndex(0), gain: 7 }];
    check(&town, &[0], &format!("2 down, {}", full(2, 8)));
    // The user is lost in the same moment: it will be back, and needs its database.
    town.guests[1].power = on(0);
    town.guests[2].needs = Amounts([9, 9]);
    check(&town, &[0], &format!("1 starts on 2, SamePool\n2 down, {}", full(2, 7)));
    town.guests[1].power = Power::Off;
    town.guests[2].hosts = only(&[0, 1]);
    check(&town, &[0], "0 moves to 2, SamePool, for 2\n1 off\n2 starts on 1, PreemptedElsewhere");
}

#[test]
fn why_there_is_no_host() {
    let mut town = Town::small(vec![guest([11, 2], 4, on(0))]);
    check(&town, &[0], "0 down, TooLarge { host: HostIndex(1), kind: Kind(0), lacks: 1 }");
    town.hosts[1].capacity = Amounts([20, 20]);
    town.pools[0].provides_permille = 500;
    check(&town, &[0], "0 down, TooLarge { host: HostIndex(1), kind: Kind(0), lacks: 1 }");
    town.pools[0].provides_permille = 550;
    check(&town, &[0], "0 starts on 1, SamePool");
    town.guests[0].hosts = only(&[0, 2]);
    check(&town, &[0, 2], "0 down, NoHost { of_class: 5, up: 3, reached: 0 }");
    // Another compartment may be another site, and another pool of another class.
    town.guests[0] = guest([1, 1], 4, on(0));
    town.zones[2].within = None;
    check(&town, &[0], "0 starts on 1, SamePool");
    check(&town, &[0, 1], "0 down, NoHost { of_class: 5, up: 3, reached: 0 }");
    town.zones[2].within = Some(ZoneIndex(0));
    town.pools[1].class = ClassId(1);
    check(&town, &[0, 1, 2, 3], "0 down, NoHost { of_class: 4, up: 0, reached: 0 }");
    town.guests[0].pool = PoolIndex(1);
    check(&town, &[0], "0 starts on 4, SamePool");
}

#[test]
fn the_answer_says_whether_there_is_no_better_one() {
    // The first way puts the large guest down first, and both others find no room any more.
    let mut town = Town::small(vec![
        guest([6, 6], 4, waiting()),
        guest([5, 5], 4, waiting()),
        guest([5, 5], 4, waiting()),
    ]);
    let up = only(&[0]);
    for (steps_max, certainty, count) in [(0, Certainty::BestFound, 1), (1_000, Certainty::Exact, 2)] {
        town.with_placement(up, steps_max, |placement| {
            assert_eq!(placement.certainty(), certainty);
            let running = (0..3).filter(|guest| placement.host_of(GuestIndex(*guest)).is_some());
            assert_eq!(running.count(), count);
        });
    }
    // Nobody is down, and nobody had to go: no time is needed to know that.
    town.guests.truncate(1);
    town.with_placement(up, 0, |placement| {
        assert_eq!(placement.certainty(), Certainty::Exact);
        assert!(placement.steps() <= 3, "{}", placement.steps());
        assert_eq!(placement.of(GuestIndex(1)), None);
    });
}

#[test]
fn too_little_memory_is_refused_with_the_size_it_takes() {
    let town = Town::small(vec![guest([1, 1], 1, on(0)), guest([1, 1], 1, on(0))]);
    let site = town.site();
    let needed = Err(TooSmall { needed: 2 });
    assert_eq!(Priorities::new(&site, &mut [Priority(0)]).map(|_| ()), needed);
    let mut priorities = [Priority(0); 2];
    let priorities = Priorities::new(&site, &mut priorities).unwrap();
    let question = Question { site: &site, up: HostSet::ALL, priorities, steps_max: 0 };
    for [fates, turns, levels] in [[1, 2, 2], [2, 1, 2], [2, 2, 1]] {
        let (fates, turns, levels) =
            (&mut vec![Fate::NEW; fates], &mut vec![Turn::NEW; turns], &mut vec![Level::NEW; levels]);
        assert_eq!(place(question, Memory { fates, turns, levels }).map(|_| ()), needed);
    }
}
