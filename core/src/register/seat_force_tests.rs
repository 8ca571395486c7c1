//! Voters that are lost for good, and an operator who says so (X14, F56).

use core::time::Duration;

use super::tests::{disorder, walk};
use super::*;
use crate::register::era;
use crate::register::message::Reply;
use crate::register::testing::{LEASE, Message, REGISTER, Site, Verdicts, founders};
use crate::register::voters::Life;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

/// Node 1 holds the register, and was agreed on as the one who goes on alone.
fn alone() -> Site {
    let mut site = Site::new(3, 5);
    site.want(1, Wish::Hold);
    site.settle();
    site.seat_step(ONE, Event::Revote(Set::on([ONE]).unwrap()));
    site.pass(LEASE);
    let known = site.machine(1).seat.as_ref().unwrap().known().unwrap().voters.clone();
    assert!(known.previous.is_none() && known.current.iter().map(|voter| voter.node).eq([ONE]));
    site
}

/// The same, and node 1 is gone.
fn lost() -> Site {
    let mut site = alone();
    site.machine(1).up = false;
    site.want(2, Wish::Hold);
    site.pass(20 * LEASE);
    assert_eq!(site.holders(), [], "2 and 3 know that 1 decides alone");
    site
}

fn force(site: &mut Site, lost: &[NodeId]) {
    site.seat_step(TWO, Event::Force(Lost::from_slice(lost).unwrap()));
}

fn seat(site: &mut Site, node: u16) -> &Seat {
    site.machine(node).seat.as_ref().unwrap()
}

fn era(site: &mut Site, node: u16) -> u64 {
    era::of(seat(site, node).known().unwrap().epoch.0)
}

/// Time passes, and whoever believes so holds the register: an operator who is wrong has two holders.
fn pass_unchecked(site: &mut Site, time: Duration) {
    for _ in 0..time.as_millis() / 5 {
        site.now += 5_000;
        site.timeouts();
        site.settle();
    }
}

#[test]
fn who_is_left_decides_when_the_one_who_decided_alone_is_lost() {
    let mut site = lost();
    force(&mut site, &[ONE]);
    site.pass(2 * LEASE);
    assert_eq!(site.holders(), [TWO]);
    assert_eq!(era(&mut site, 2), 1 << 16 | 2);
    assert!(!seat(&mut site, 2).is_forcing(), "that was all");
    // Node 1 is replaced: all vote again, and the next one needs nobody's word.
    site.wipe(ONE);
    site.seat_step(TWO, Event::Revote(founders(3)));
    site.pass(4 * LEASE);
    assert_eq!(seat(&mut site, 2).known().unwrap().voters.current.iter().count(), 3);
    site.machine(2).up = false;
    site.want(1, Wish::Hold);
    site.pass(4 * LEASE);
    assert_eq!(site.holders(), [ONE]);
    assert_eq!(era(&mut site, 1), 1 << 16 | 2, "an era goes on with other holders");
}

/// F25: those that are left answer, but none remembers its votes.
#[test]
fn voters_that_forgot_everything_are_no_majority() {
    let mut site = Site::new(3, 8);
    site.want(1, Wish::Hold);
    site.settle();
    site.machine(1).up = false;
    site.wipe(THREE);
    site.want(2, Wish::Hold);
    site.pass(20 * LEASE);
    assert_eq!(site.holders(), []);
    force(&mut site, &[ONE]);
    site.pass(2 * LEASE);
    assert_eq!(site.holders(), [TWO]);
}

#[test]
fn nobody_decides_for_voters_that_can() {
    let mut site = Site::new(3, 6);
    site.want(1, Wish::Hold);
    site.settle();
    site.machine(1).up = false;
    site.pass(LEASE);
    assert!(seat(&mut site, 2).decides_without(&[ONE]) && !seat(&mut site, 2).decides_without(&[ONE, THREE]));
    force(&mut site, &[ONE]);
    site.pass(LEASE);
    assert!(!seat(&mut site, 2).is_forcing());
    site.want(2, Wish::Hold);
    site.pass(4 * LEASE);
    assert_eq!((site.holders(), era(&mut site, 2)), (std::vec![TWO], 0), "2 and 3 decided");
}

/// One that was not asked could know of voters that decide.
#[test]
fn nobody_decides_before_all_who_are_left_were_read() {
    let mut site = lost();
    site.cut.insert(THREE);
    force(&mut site, &[ONE]);
    site.pass(LEASE);
    assert!(seat(&mut site, 2).is_forcing() && !seat(&mut site, 2).decides_alone());
    site.pass(10 * LEASE);
    assert!(!seat(&mut site, 2).is_forcing(), "nobody waits for it any more");
    site.cut.clear();
    site.pass(10 * LEASE);
    assert_eq!(site.holders(), []);
    // A lost message is not the end of it.
    force(&mut site, &[ONE]);
    site.wire.clear();
    site.pass(4 * LEASE);
    assert_eq!(site.holders(), [TWO]);
}

#[test]
fn who_answers_is_not_lost() {
    let mut site = lost();
    site.cut.insert(THREE);
    force(&mut site, &[ONE]);
    site.restart(ONE);
    site.cut.clear();
    site.pass(10 * LEASE);
    assert_eq!((site.holders(), era(&mut site, 1)), (std::vec![ONE], 0));
    assert!(!seat(&mut site, 2).is_forcing());
    // Nor does a holder decide for others, or one for itself.
    site.seat_step(ONE, Event::Force(Lost::from_slice(&[TWO]).unwrap()));
    force(&mut site, &[TWO]);
    assert!(!seat(&mut site, 1).is_forcing() && !seat(&mut site, 2).is_forcing());
}

/// F25: a voter counts in the life in which it was read before the wait for leases began.
#[test]
fn a_late_answer_of_another_life_counts_for_nothing() {
    let mut site = lost();
    force(&mut site, &[ONE]);
    let ask = site.wire.iter().find_map(|sent| match &sent.message {
        Message::Request(request) if sent.to == THREE => Some(request.ask),
        Message::Request(_) | Message::Answer(_) => None,
    });
    site.pass(LEASE / 2);
    let body = Reply::State { accepted: None, lease: None };
    let answer = Answer { register: REGISTER, ask: ask.unwrap(), life: Life(999), body };
    site.seat_step(TWO, Event::Answered { from: THREE, answer });
    site.pass(2 * LEASE);
    assert_eq!(site.holders(), [TWO]);
}

/// Nothing was decided yet, for the machine above does not want to.
#[test]
fn who_answers_later_is_not_lost() {
    let mut site = lost();
    site.verdicts = Verdicts::Leave;
    force(&mut site, &[ONE]);
    site.pass(10 * LEASE);
    assert!(seat(&mut site, 2).decides_alone());
    site.machine(1).wish = Wish::Follow;
    site.restart(ONE);
    site.pass(200 * LEASE);
    assert!(!seat(&mut site, 2).is_forcing());
}

/// It was called lost, and comes back with its disk: it hears of the new era before it asks for anything.
#[test]
fn who_comes_back_follows() {
    let mut site = lost();
    force(&mut site, &[ONE]);
    site.pass(2 * LEASE);
    site.machine(1).wish = Wish::Follow;
    site.restart(ONE);
    site.pass(LEASE);
    site.want(1, Wish::Hold);
    site.pass(10 * LEASE);
    assert_eq!(site.holders(), [TWO]);
    site.seat_step(TWO, Event::Revote(founders(3)));
    site.pass(4 * LEASE);
    let voters = &seat(&mut site, 2).known().unwrap().voters;
    assert!(voters.previous.is_none() && voters.current.iter().count() == 3, "{voters:?}");
}

/// The operator was wrong: it was only cut off. When it is heard again it gives way at once, and what it
/// wrote in the old era never comes back.
#[test]
fn who_went_on_without_a_right_gives_way() {
    let mut site = alone();
    site.cut.insert(ONE);
    site.want(2, Wish::Hold);
    site.pass(4 * LEASE);
    force(&mut site, &[ONE]);
    pass_unchecked(&mut site, 4 * LEASE);
    assert_eq!(site.holders(), [ONE, TWO]);
    site.cut.clear();
    pass_unchecked(&mut site, LEASE / 2);
    assert_eq!(site.holders(), [TWO]);
    assert!(site.told().contains(&"1 outranked".into()));
    site.seat_step(TWO, Event::Revote(founders(3)));
    site.pass(10 * LEASE);
    assert_eq!((site.holders(), era(&mut site, 1)), (std::vec![TWO], 1 << 16 | 2));
    assert_eq!(seat(&mut site, 2).known().unwrap().voters.current.iter().count(), 3);
}

fn say_lost(site: &mut Site, node: NodeId) {
    site.seat_step(node, Event::Force(Lost::from_slice(&[ONE]).unwrap()));
}

/// Whatever state node 1 leaves behind when it is lost for good, an operator can go on, at any time and in
/// any disorder, and there are never two holders (I1, I5, X14).
#[test]
fn there_is_a_way_on_from_everywhere() {
    let mut eras = 0;
    for seed in 1..=300 {
        let mut site = walk(seed);
        site.dead = Some(ONE);
        site.machine(1).up = false;
        let voters = u64::try_from(site.machines.len()).unwrap();
        site.seat_at(THREE);
        for _ in 0..2_000 {
            disorder(&mut site, voters);
            match site.chance.below(200) {
                0..=9 => site.want(3, Wish::Hold),
                10 => site.want(3, Wish::Follow),
                11 => site.seat_step(THREE, Event::Revote(Set::on([THREE]).unwrap())),
                12..=19 => [TWO, THREE].iter().for_each(|node| say_lost(&mut site, *node)),
                20.. => {}
            }
            site.check();
        }
        site.cut.clear();
        site.verdicts = Verdicts::Take;
        for node in site.machines.keys().copied().collect::<std::vec::Vec<_>>() {
            if !site.machines[&node].up {
                site.restart(node);
            }
        }
        site.want(2, Wish::Hold);
        site.want(3, Wish::Follow);
        for _ in 0..10 {
            say_lost(&mut site, TWO);
            site.pass(4 * LEASE);
        }
        assert_eq!(site.holders(), [TWO], "seed {seed}");
        eras += era(&mut site, 2).min(1);
    }
    assert!((30..270).contains(&eras), "an operator was needed in {eras} of 300");
}
