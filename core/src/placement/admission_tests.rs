//! S3-15 to S3-18, X16: boxes and slots by hand, every corner, remedies that help, and what admission is for.

use std::vec;
use std::vec::Vec;

use super::admission::{Admission, Policy, Remedy, Verdict};
use super::amounts::Amounts;
use super::guest::{GuestIndex, PoolIndex, Power, Priority};
use super::hosts::{HostIndex, HostSet};
use super::priority::Priorities;
use super::site::ClassId;
use super::slots::{Boxes, Count};
use super::testing::{Chance, Town, everybody_has_room, guest, host, on};

const ONE: Policy<2> = Policy { losses: 1, boxes: Boxes::One };

/// What is said of a guest, or of all that run.
fn ask(town: &Town, policy: Policy<2>, candidate: Option<u16>) -> Verdict<2> {
    let site = town.site();
    let mut priorities = vec![Priority(0); town.guests.len()];
    let priorities = Priorities::new(&site, &mut priorities).unwrap();
    let admission = Admission { site: &site, up: HostSet::ALL, priorities, policy };
    match candidate {
        Some(guest) => admission.of(GuestIndex(guest)).unwrap(),
        None => admission.of_class(ClassId(0)),
    }
}

fn refused(verdict: Verdict<2>) -> (Count<2>, Vec<Remedy<2>>) {
    match verdict {
        Verdict::Refused(count, remedies) => (count, remedies.iter().collect()),
        Verdict::Admitted(count) => panic!("admitted: {count:?}"),
    }
}

fn admitted(verdict: Verdict<2>) -> Count<2> {
    match verdict {
        Verdict::Admitted(count) => count,
        Verdict::Refused(count, _) => panic!("refused: {count:?}"),
    }
}

/// Three hosts of 10 and 10. The first two guests set a box of 4 and 5, the others need little; the last one
/// is off.
fn town(running: usize) -> Town {
    let mut town = Town::small(vec![guest([2, 5], 4, on(0)), guest([4, 1], 4, on(1))]);
    town.hosts.truncate(3);
    town.guests.extend((2..running).map(|_| guest([1, 1], 4, on(2))));
    town.guests.push(guest([1, 1], 5, Power::Off));
    town
}

#[test]
fn the_box_is_the_largest_need_of_each_kind() {
    // Boxes of 4 and 5: two on each host, six in all, four when a host is lost.
    let count = admitted(ask(&town(3), ONE, Some(3))).large;
    assert_eq!(count.capacity, Amounts([4, 5]));
    assert_eq!(count.set_by, [Some(GuestIndex(1)), Some(GuestIndex(0))]);
    assert_eq!((count.total, count.lost, count.max(), count.needed), (6, 2, 4, 4));
    // Half of each host has nothing to do; one more is refused all the same (S3-18).
    let (count, remedies) = refused(ask(&town(4), ONE, Some(4)));
    assert_eq!((count.large.needed, count.large.lacks()), (5, 1));
    // Two guests set the box: it does not help if one of them needs less.
    let stop = Remedy::Stop { count: 1, up_to: GuestIndex(3) };
    let add = Remedy::AddHosts { count: 1, like: HostIndex(2) };
    let grade = Remedy::Grade { small: Amounts([1, 1]) };
    assert_eq!(remedies, [stop, add, Remedy::Tolerate { losses: 0 }, grade]);
}

#[test]
fn who_sets_the_box_may_need_as_much_as_leaves_slots_enough() {
    // Boxes of 6 and 5, one on each of three hosts: with two on each there is room for four.
    let mut town = town(3);
    town.guests[0].needs = Amounts([6, 5]);
    let (count, remedies) = refused(ask(&town, ONE, Some(3)));
    assert_eq!(count.large.set_by, [Some(GuestIndex(0)), Some(GuestIndex(0))]);
    assert_eq!(remedies.first(), Some(&Remedy::Shrink { guest: GuestIndex(0), to: Amounts([5, 5]) }));
}

#[test]
fn the_corners() {
    // Nobody runs: there is no box.
    let mut town = town(2);
    town.guests.clear();
    let count = admitted(ask(&town, ONE, None)).large;
    assert_eq!((count.capacity, count.total, count.needed), (Amounts::NONE, 0, 0));
    assert_eq!(count.set_by, [None, None]);
    // The first guest is its own box. Nobody needs any of the second kind: it limits nobody.
    town.guests.push(guest([5, 0], 4, Power::Off));
    town.hosts[0].capacity = Amounts([10, 0]);
    let count = admitted(ask(&town, ONE, Some(0))).large;
    assert_eq!((count.set_by, count.total, count.lost), ([Some(GuestIndex(0)), None], 6, 2));
    // A host smaller than the box has no slot; hosts are of different sizes, the largest is lost.
    town.hosts[0].capacity = Amounts([4, 10]);
    town.hosts[1].capacity = Amounts([25, 10]);
    let count = admitted(ask(&town, ONE, Some(0))).large;
    assert_eq!((count.total, count.lost, count.max()), (7, 5, 2));
    // As many losses as hosts, or more: no slot is left.
    for losses in [3, 4, 64, 255] {
        let (count, remedies) = refused(ask(&town, Policy { losses, ..ONE }, Some(0)));
        assert_eq!((count.large.max(), count.large.lacks()), (0, 1));
        assert!(remedies.contains(&Remedy::Tolerate { losses: 1 }), "two of three hosts have slots");
    }
    // Hosts and guests of another class do not count, and hosts that are down do not.
    town.pools[1].class = ClassId(1);
    town.hosts[1].pool = PoolIndex(1);
    town.guests.push(guest([100, 100], 4, on(1)));
    town.guests[1].pool = PoolIndex(1);
    let (count, _) = refused(ask(&town, ONE, Some(0)));
    assert_eq!((count.large.total, count.large.max()), (2, 0));
    // A placeholder takes a slot, where it is on a host that counts.
    for (host, needed) in [(1, 1), (2, 2)] {
        town.guests[0].placeholder = Some(HostIndex(host));
        let (Verdict::Admitted(count) | Verdict::Refused(count, _)) = ask(&town, ONE, Some(0));
        assert_eq!(count.large.needed, needed);
    }
    town.guests[0].placeholder = None;
    // It fits on no host: it may be made as large as a host.
    town.guests[0].needs = Amounts([11, 0]);
    let (_, remedies) = refused(ask(&town, Policy { losses: 0, ..ONE }, Some(0)));
    assert_eq!(remedies, [Remedy::Shrink { guest: GuestIndex(0), to: Amounts([4, 0]) }]);
}

#[test]
fn only_those_that_matter_less_are_stopped_and_the_least_first() {
    let mut town = town(4);
    for (guest, priority) in [5, 6, 2, 3, 4].into_iter().enumerate() {
        town.guests[guest].overrides.priority = Some(Priority(priority));
    }
    let stop = |town: &Town, candidate| {
        let remedies = refused(ask(town, ONE, candidate)).1;
        remedies.into_iter().find(|remedy| matches!(remedy, Remedy::Stop { .. }))
    };
    assert_eq!(stop(&town, Some(4)), Some(Remedy::Stop { count: 1, up_to: GuestIndex(2) }));
    town.guests.push(guest([1, 1], 2, on(0)));
    assert_eq!(stop(&town, Some(4)), Some(Remedy::Stop { count: 2, up_to: GuestIndex(2) }));
    town.guests[4].overrides.priority = Some(Priority(2));
    assert_eq!(stop(&town, Some(4)), None, "it matters as little as they do");
    // A host is lost for good: who has to go so that the others are safe (S3-18).
    town.hosts.truncate(2);
    for guest in &mut town.guests {
        guest.power = on(0);
    }
    assert_eq!(stop(&town, None), Some(Remedy::Stop { count: 4, up_to: GuestIndex(3) }));
}

#[test]
fn graded_boxes_count_small_guests_in_small_boxes() {
    let small = Amounts([2, 2]);
    let policy = Policy { losses: 1, boxes: Boxes::Graded(small) };
    // Large boxes of 4 and 5, two on each of three hosts; two small ones in each of them.
    let town = town(5);
    refused(ask(&town, ONE, Some(5)));
    let count = admitted(ask(&town, policy, Some(5)));
    let of_small = count.small.unwrap();
    assert_eq!((count.large.needed, count.large.max()), (2, 4));
    assert_eq!((of_small.total, of_small.max(), of_small.needed), (12, 8, 2 * 2 + 4));
}

/// A site by chance, with nothing but room to decide about; the last guest is the one that is asked about.
fn by_chance(chance: &mut Chance) -> (Town, Policy<2>) {
    let mut town = Town::small(vec![]);
    let amounts = |chance: &mut Chance, least: u64, range: u64| {
        [least + chance.below(range), least + chance.below(range)]
    };
    let hosts = 2 + u16::try_from(chance.below(4)).unwrap();
    town.hosts = (1..=hosts).map(|node| host(node, 3, 0, amounts(chance, 5, 12))).collect();
    for place in 0..1 + chance.below(8) {
        let home = u8::try_from(place % u64::from(hosts)).unwrap();
        let mut one = guest(amounts(chance, 1, 3), 1, on(home));
        if chance.below(4) == 0 {
            one = guest(amounts(chance, 2, 5), 2, on(home));
        }
        town.guests.push(one);
    }
    town.guests.last_mut().unwrap().power = Power::Off;
    for guest in &mut town.guests {
        let other = HostIndex(u8::try_from(chance.below(u64::from(hosts))).unwrap());
        guest.placeholder = (chance.below(5) == 0 && guest.power != Power::On(other)).then_some(other);
    }
    if !everybody_has_room(&town) {
        town.guests.iter_mut().for_each(|guest| guest.placeholder = None);
    }
    let losses = u8::try_from(chance.below(3)).unwrap();
    let graded = Boxes::Graded(Amounts([3, 3]));
    (town, Policy { losses, boxes: if chance.below(3) == 0 { graded } else { Boxes::One } })
}

fn stopped(town: &Town, policy: Policy<2>, candidate: u16, up_to: GuestIndex) -> Vec<usize> {
    let site = town.site();
    let mut priorities = vec![Priority(0); town.guests.len()];
    let priorities = Priorities::new(&site, &mut priorities).unwrap();
    let admission = Admission { site: &site, up: HostSet::ALL, priorities, policy };
    let stopped = admission.stopped(ClassId(0), Some(GuestIndex(candidate)), up_to);
    stopped.map(|guest| usize::from(guest.0)).collect()
}

/// What somebody does who follows the advice.
fn follow(town: &mut Town, policy: &mut Policy<2>, remedy: Remedy<2>, candidate: u16) {
    match remedy {
        Remedy::Shrink { guest, to } => town.guests[usize::from(guest.0)].needs = to,
        Remedy::Stop { count, up_to } => {
            let named = stopped(town, *policy, candidate, up_to);
            // The least important ones, counted again by hand.
            let others = (0..town.guests.len()).filter(|guest| *guest != usize::from(candidate));
            let mut others: Vec<_> = others.filter(|guest| town.guests[*guest].power != Power::Off).collect();
            others.sort_by_key(|guest| (town.guests[*guest].overrides.priority, usize::MAX - guest));
            others.truncate(usize::from(count));
            assert!(named.len() == others.len() && named.iter().all(|guest| others.contains(guest)));
            for guest in others {
                assert!(
                    town.guests[guest].overrides.priority
                        < town.guests[usize::from(candidate)].overrides.priority
                );
                town.guests[guest].power = Power::Off;
            }
        }
        Remedy::AddHosts { count, like } => {
            for node in 0..u16::from(count) {
                let mut more = town.hosts[usize::from(like.0)];
                more.node = crate::id::NodeId(100 + node);
                town.hosts.push(more);
            }
        }
        Remedy::Tolerate { losses } => policy.losses = losses,
        Remedy::Grade { small } => policy.boxes = Boxes::Graded(small),
    }
}

#[test]
fn each_remedy_of_a_refusal_admits() {
    let mut seen = [0; 5];
    let mut without = 0;
    for seed in 0..3_000 {
        let (town, policy) = by_chance(&mut Chance::new(seed));
        let candidate = u16::try_from(town.guests.len() - 1).unwrap();
        let Verdict::Refused(_, remedies) = ask(&town, policy, Some(candidate)) else { continue };
        without += usize::from(remedies.iter().count() == 0);
        for remedy in remedies.iter() {
            let (mut town, mut policy) = (town.clone(), policy);
            follow(&mut town, &mut policy, remedy, candidate);
            let verdict = ask(&town, policy, Some(candidate));
            assert!(matches!(verdict, Verdict::Admitted(_)), "seed {seed}: {remedy:?}: {verdict:?}");
            seen[match remedy {
                Remedy::Shrink { .. } => 0,
                Remedy::Stop { .. } => 1,
                Remedy::AddHosts { .. } => 2,
                Remedy::Tolerate { .. } => 3,
                Remedy::Grade { .. } => 4,
            }] += 1;
        }
    }
    assert!(seen.iter().all(|count| 20 < *count), "each is tried: {seen:?}");
    assert!(without < 20, "{without} refusals without advice");
}

#[test]
fn whoever_is_admitted_runs_after_the_losses_that_were_provided_for() {
    let mut checked = 0;
    for seed in 0..2_000 {
        let (mut town, policy) = by_chance(&mut Chance::new(seed));
        let candidate = u16::try_from(town.guests.len() - 1).unwrap();
        let Verdict::Admitted(_) = ask(&town, policy, Some(candidate)) else { continue };
        town.guests.last_mut().unwrap().power = Power::Waiting(super::zones::ZoneIndex(3));
        if let Boxes::Graded(small) = policy.boxes {
            // As it says: large ones matter more.
            for guest in &mut town.guests {
                guest.overrides.priority = Some(Priority(u16::from(!guest.needs.fits(small))));
            }
        }
        let hosts = u32::try_from(town.hosts.len()).unwrap();
        for bits in 0..1_u32 << hosts {
            let lost: Vec<_> = (0..8).filter(|host| bits >> host & 1 == 1).collect();
            if usize::from(policy.losses) < lost.len() {
                continue;
            }
            checked += 1;
            town.with_placement(town.without(&lost), 0, |placement| {
                for guest in (0..=candidate).map(GuestIndex) {
                    assert!(placement.host_of(guest).is_some(), "seed {seed}: {guest:?} after {lost:?}");
                }
            });
        }
    }
    assert!(3_000 < checked, "{checked}");
}
