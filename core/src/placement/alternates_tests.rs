//! S3-21, V25: whatever is lost, everybody knows where he goes, and there is room for all of them together.

use std::vec;
use std::vec::Vec;

use super::alternates::{Loss, losses, table};
use super::amounts::Amounts;
use super::guest::Priority;
use super::hosts::{HostIndex, HostSet};
use super::memory::{Fate, Level, Memory, Turn};
use super::priority::Priorities;
use super::search::Question;
use super::testing::{Town, by_chance, guest, on};
use super::zones::ZoneIndex;

/// Each guest's host after the loss of its own.
fn table_of(town: &Town, up: HostSet) -> Vec<Option<HostIndex>> {
    let count = town.guests.len();
    let mut priorities = vec![Priority(0); count];
    let (mut fates, mut turns, mut levels) =
        (vec![Fate::NEW; count], vec![Turn::NEW; count], vec![Level::NEW; count]);
    let site = town.site();
    let priorities = Priorities::new(&site, &mut priorities).unwrap();
    let mut memory = Memory { fates: &mut fates, turns: &mut turns, levels: &mut levels };
    let question = Question { site: &site, up, priorities, steps_max: 10_000 };
    let mut rows = vec![None; count];
    table(question, &mut memory, &mut rows).unwrap();
    rows
}

#[test]
fn alternates_follow_what_guests_use() {
    let mut town =
        Town::small(vec![guest([4, 4], 4, on(0)), guest([5, 5], 4, on(2)), guest([4, 4], 4, on(3))]);
    let host = |host| Some(HostIndex(host));
    assert_eq!(table_of(&town, HostSet::ALL), [host(1), host(3), host(2)]);
    assert_eq!(table_of(&town, town.without(&[1])), [host(2), host(3), host(2)]);
    // Guest 0 goes past the busy host; the others have no other host so near.
    town.guests[1].load = Some(Amounts([5, 7]));
    assert_eq!(table_of(&town, town.without(&[1])), [host(3), host(3), host(2)]);
    assert_eq!(table_of(&town, HostSet::one(HostIndex(0))), [None; 3], "who has no host has no alternate");
}

#[test]
fn losses_are_hosts_and_zones_that_have_some() {
    let mut town = Town::small(vec![]);
    town.zones.push(super::testing::zone(Some(0)));
    let site = town.site();
    let all: Vec<_> = losses(&site).collect();
    let hosts = (0..5).map(HostIndex).map(Loss::Host);
    let zones = (0..7).map(ZoneIndex).map(Loss::Zone);
    assert_eq!(all, hosts.chain(zones).collect::<Vec<_>>());
    assert_eq!(Loss::Zone(ZoneIndex(2)).hosts(&site).count(), 3);
}

#[test]
fn after_any_loss_nobody_has_more_than_his_host_provides() {
    let (mut started, mut losses_seen) = (0, 0);
    for seed in 0..500 {
        let (town, _) = by_chance(seed);
        let site = town.site();
        for loss in losses(&site) {
            losses_seen += 1;
            let up = site.hosts().without(loss.hosts(&site));
            town.with_placement(up, 1_000, |placement| {
                for host in site.hosts().iter() {
                    let there = site.guests().filter(|(guest, _)| placement.host_of(*guest) == Some(host));
                    let taken = there.fold(Amounts::NONE, |sum, (_, guest)| sum.plus(guest.needs));
                    let room = if up.has(host) { site.provided(host) } else { Amounts::NONE };
                    assert!(taken.fits(room), "seed {seed}: {loss:?}, {host:?}");
                }
            });
            let Loss::Host(lost) = loss else { continue };
            let rows = table_of(&town, HostSet::ALL);
            for (guest, _) in site.guests().filter(|(_, guest)| guest.power == on(lost.0)) {
                let row = rows[usize::from(guest.0)];
                assert_ne!(row, Some(lost), "seed {seed}");
                let same = town.with_placement(up, 10_000, |placement| placement.host_of(guest));
                assert_eq!(row, same, "seed {seed}");
                started += usize::from(row.is_some());
            }
        }
    }
    assert!(2_000 < losses_seen && 400 < started, "{losses_seen} {started}");
}
