//! S4-04, S4-05, S4-12: where room is kept for a guest.

use std::vec;

use super::TooSmall;
use super::amounts::Amounts;
use super::guest::{Apart, GuestIndex, Priority};
use super::hosts::{HostIndex, HostSet};
use super::memory::{Fate, Level, Memory, Turn};
use super::placeholder::host_for;
use super::priority::Priorities;
use super::search::Question;
use super::testing::{Town, guest, on};

/// The host for a placeholder of guest 0.
fn ask(town: &Town, up: HostSet, guest: u16) -> Option<u8> {
    let count = town.guests.len();
    let mut priorities = vec![Priority(0); count];
    let (mut fates, mut turns, mut levels) =
        (vec![Fate::NEW; count], vec![Turn::NEW; count], vec![Level::NEW; count]);
    let site = town.site();
    let priorities = Priorities::new(&site, &mut priorities).unwrap();
    let question = Question { site: &site, up, priorities, steps_max: 0 };
    let mut memory = Memory { fates: &mut fates[1..], turns: &mut turns, levels: &mut levels };
    let short = host_for(question, GuestIndex(guest), &mut memory);
    assert_eq!(short, Err(TooSmall { needed: count }));
    let mut memory = Memory { fates: &mut fates, turns: &mut turns, levels: &mut levels };
    host_for(question, GuestIndex(guest), &mut memory).unwrap().map(|host| host.0)
}

#[test]
fn a_placeholder_is_far_away_and_at_nobodys_cost() {
    let all = HostSet::ALL;
    let mut town = Town::small(vec![guest([4, 4], 9, on(0))]);
    assert_eq!(ask(&town, all, 0), Some(2), "the other compartment, its own pool");
    // Its sibling is there, or has its placeholder there.
    town.guests.push(guest([1, 1], 1, on(2)));
    (town.guests[0].apart, town.guests[1].apart) = (Some(Apart(1)), Some(Apart(1)));
    town.guests[1].placeholder = Some(HostIndex(3));
    assert_eq!(ask(&town, all, 0), Some(4), "the other compartment, another pool");
    // Who matters less has not to go for it: it comes nearer, but never beside its guest.
    town.guests.push(guest([7, 7], 1, on(4)));
    assert_eq!(ask(&town, all, 0), Some(1));
    assert_eq!(ask(&town, town.without(&[1]), 0), None);
    // It stays where it is, for its own room is kept there.
    town.guests[0].placeholder = Some(HostIndex(1));
    town.guests[2].power = on(1);
    town.guests[2].needs = Amounts([6, 6]);
    town.hosts[4].capacity = Amounts([1, 1]);
    assert_eq!(ask(&town, all, 0), Some(1));
    assert_eq!(ask(&town, all, 9), None, "there is no such guest");
}
