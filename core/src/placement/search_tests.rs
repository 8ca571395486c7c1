//! S1-40, S3-13, S3-14, S1-41: one story a rule.

use std::format;
use std::vec;
use std::vec::Vec;

use super::amounts::Amounts;
use super::guest::{Apart, Dependency, Guest, GuestIndex, PoolIndex, Power, Priority};
use super::hosts::{HostIndex, HostSet};
use super::site::{ClassId, Flaw, List, Site};
use super::testing::{Town, guest, host, on, pool, zone};
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
