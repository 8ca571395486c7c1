//! Stories of a seat among real voters, every short disorder of them, and the picture.

use core::time::Duration;
use std::collections::BTreeSet;
use std::string::String;

use super::*;
use crate::register::message::{Fenced, Reply, Start};
use crate::register::testing::{LEASE, Message, REGISTER, Sent, Site, Verdicts};

const MS: Duration = Duration::from_millis(1);

pub(super) fn epoch(site: &mut Site, node: u16) -> Epoch {
    let now = site.clock(NodeId(node));
    site.machine(node).seat.as_ref().unwrap().holds(now).unwrap()
}

/// S1-18: one holds, the other knows who does.
#[test]
fn one_holds_and_the_other_waits() {
    let mut site = Site::new(3, 1);
    site.want(1, Wish::Hold);
    site.settle();
    // The third voter was not heard when the first record was written: the second record names it.
    assert_eq!(site.told(), ["1 holds 1", "1 holds 2"]);
    site.want(2, Wish::Hold);
    site.pass(20 * LEASE);
    assert_eq!(site.told(), ["1 holds 1", "1 holds 2"], "a lease that is renewed is never lost");
    assert_eq!(site.holders(), [NodeId(1)]);
}

/// S1-19: the holder is gone, the other takes over when its lease has run out, not before.
#[test]
fn the_other_takes_over_when_the_lease_has_run_out() {
    let mut site = Site::new(3, 2);
    site.want(1, Wish::Hold);
    site.settle();
    site.want(2, Wish::Hold);
    site.pass(LEASE);
    site.machine(1).up = false;
    let died = site.now;
    while site.holders() != [NodeId(2)] {
        site.pass(5 * MS);
        assert!(site.now < died + 2_000_000, "nobody took over");
    }
    assert!(died + 400_000 < site.now, "taken over while the lease could still hold");
    assert_eq!(epoch(&mut site, 2), Epoch(3));
    site.restart(NodeId(1));
    site.pass(3 * LEASE);
    assert_eq!(site.holders(), [NodeId(2)], "the old holder follows");
}

/// A planned handover costs no lease.
#[test]
fn what_is_given_back_is_free_at_once() {
    let mut site = Site::new(3, 3);
    site.want(1, Wish::Hold);
    site.settle();
    site.want(1, Wish::Follow);
    site.settle();
    site.want(2, Wish::Hold);
    site.pass(LEASE / 4);
    assert_eq!(site.told(), ["1 holds 1", "1 holds 2", "1 released", "2 holds 3"]);
}

/// V20: a confirmed fence makes the lease void, for the start it was granted to.
#[test]
fn a_confirmed_fence_ends_the_wait() {
    let mut site = Site::new(3, 4);
    site.want(1, Wish::Hold);
    site.settle();
    site.machine(1).up = false;
    site.want(2, Wish::Hold);
    site.settle();
    assert_eq!(site.holders(), [], "the lease still holds");
    let wrong = Fenced { node: NodeId(1), start: Start(7) };
    site.seat_step(NodeId(2), Event::Fenced(wrong));
    site.settle();
    assert_eq!(site.told(), ["1 holds 1", "1 holds 2"], "a fence of another start proves nothing");
    site.seat_step(NodeId(2), Event::Fenced(Fenced { node: NodeId(1), start: Start(1) }));
    site.pass(LEASE / 4);
    assert_eq!(site.told(), ["1 holds 1", "1 holds 2", "2 holds 3"]);
}

/// F19: a process that slept through its lease knows so before it does anything.
#[test]
fn who_slept_through_its_lease_has_lost_it() {
    let mut site = Site::new(3, 5);
    site.want(1, Wish::Hold);
    site.settle();
    site.now += 30_000_000;
    assert_eq!(site.holders(), []);
    site.seat_step(NodeId(1), Event::Want(Wish::Hold));
    assert_eq!(site.told(), ["1 holds 1", "1 holds 2", "1 expired"]);
}

/// X04: one may go on alone, and then nobody else can, in any order of losses.
#[test]
fn who_was_agreed_to_go_on_alone_does_and_nobody_else() {
    let mut site = Site::new(3, 6);
    site.want(1, Wish::Hold);
    site.settle();
    site.cut.insert(NodeId(3));
    site.seat_step(NodeId(1), Event::Revote(Set::on([NodeId(1)]).unwrap()));
    site.settle();
    let told = site.told();
    assert_eq!(told[2..], ["1 holds 3", "1 holds 4"], "one step with both sets, one without");
    site.machine(2).up = false;
    site.pass(10 * LEASE);
    assert_eq!(site.holders(), [NodeId(1)], "it needs nobody");

    // The witness is back, this node is cut off: the other two are a majority of the old set, and may not.
    site.cut = [NodeId(1)].into();
    site.restart(NodeId(2));
    site.want(2, Wish::Hold);
    site.pass(10 * LEASE);
    assert_eq!(site.holders(), [NodeId(1)]);

    site.cut.clear();
    site.seat_step(NodeId(1), Event::Revote(Set::on([NodeId(1), NodeId(2), NodeId(3)]).unwrap()));
    site.pass(LEASE);
    site.machine(1).up = false;
    site.pass(5 * LEASE);
    assert_eq!(site.holders(), [NodeId(2)], "three voters again: the other may take over");
}

/// F14, F25, F27: a voter with an empty disk does not know what it promised. Its votes count again when the
/// record names its new life; until then two others are needed.
#[test]
fn a_voter_that_lost_its_disk_is_made_a_voter_anew() {
    let mut site = Site::new(3, 10);
    site.want(1, Wish::Hold);
    site.settle();
    site.wipe(NodeId(3));
    site.machine(1).up = false;
    site.want(2, Wish::Hold);
    site.pass(10 * LEASE);
    assert_eq!(site.holders(), [], "2 and a voter that remembers nothing are no majority");
    site.restart(NodeId(1));
    site.pass(5 * LEASE);
    assert_eq!(site.holders().len(), 1);
    let holder = site.holders()[0];
    site.machine(3 - holder.0).up = false;
    site.pass(5 * LEASE);
    assert_eq!(site.holders(), [holder], "the third counts again");
}

/// Delivers what is under way until somebody is asked to accept, and lets only node 1 hear that.
pub(super) fn only_the_first_accepts(site: &mut Site) {
    let accepts = |sent: &Sent| match &sent.message {
        Message::Request(request) => matches!(request.body, Ask::Accept { .. }) && sent.to != sent.from,
        Message::Answer(_) => false,
    };
    while !site.wire.iter().any(accepts) {
        site.deliver(0);
    }
    site.cut = [NodeId(2), NodeId(3)].into();
    site.settle();
    site.cut.clear();
}

/// X04: a change of voters that reached one voter only lets that one decide nothing, however often it is
/// tried.
#[test]
fn a_change_that_failed_lets_nobody_decide_alone() {
    let mut site = Site::new(3, 11);
    site.want(1, Wish::Hold);
    site.pass(LEASE);
    site.seat_step(NodeId(1), Event::Revote(Set::on([NodeId(1)]).unwrap()));
    only_the_first_accepts(&mut site);
    site.now += 170_000;
    site.timeouts();
    only_the_first_accepts(&mut site);
    site.cut = [NodeId(1)].into();
    site.want(2, Wish::Hold);
    site.pass(10 * LEASE);
    assert_eq!(site.holders(), [NodeId(2)]);
}

/// V3: a lease runs from the moment it was asked for, however late the answer comes.
#[test]
fn a_late_grant_is_worth_what_is_left_of_it() {
    let mut site = Site::new(3, 12);
    site.want(1, Wish::Hold);
    site.settle();
    site.now += 200_000;
    site.timeouts();
    let asked = site.wire.len();
    (0..asked).for_each(|_| site.deliver(0));
    site.now += 250_000;
    site.settle();
    site.cut = [NodeId(1)].into();
    site.want(2, Wish::Hold);
    site.pass(3 * LEASE);
    assert_eq!(site.holders(), [NodeId(2)]);
}

/// V3, V24: a voter whose disk hangs still owes grants to the start before this one, and its answers reach
/// the node that runs now. They were given long ago.
#[test]
fn a_grant_owed_to_an_earlier_start_counts_for_nothing() {
    let mut site = Site::new(3, 11);
    site.want(1, Wish::Hold);
    site.settle();
    let mut owed = std::vec::Vec::new();
    for _ in 0..60 {
        site.now += 50_000;
        site.timeouts();
        while !site.wire.is_empty() {
            let sent = site.wire.remove(0);
            if (sent.from, sent.to) == (NodeId(2), NodeId(1)) && matches!(sent.message, Message::Answer(_)) {
                owed.push(sent.clone());
            }
            site.arrive(sent);
        }
    }
    site.machine(2).up = false;
    site.restart(NodeId(1));
    site.pass(LEASE / 2);
    assert_eq!(site.holders(), [NodeId(1)], "the third voter and its own are a majority");

    site.cut = [NodeId(3)].into();
    for _ in 0..20 {
        site.now += 50_000;
        site.timeouts();
        owed.iter().for_each(|sent| site.arrive(sent.clone()));
        site.settle();
    }
    assert_eq!(site.holders(), [], "it can hear no other voter for longer than a lease");
}

/// F26, V18: without a majority there is no new holder.
#[test]
fn without_a_majority_nobody_gains() {
    let mut site = Site::new(3, 7);
    site.cut = [NodeId(2), NodeId(3)].into();
    site.want(1, Wish::Hold);
    site.want(2, Wish::Hold);
    site.pass(10 * LEASE);
    assert!(site.told().is_empty());
    assert!(matches!(
        site.machine(1).seat.as_ref().unwrap().mode(),
        Mode::Pausing { wait: Wait::Majority, .. } | Mode::Preparing(_)
    ));
}

/// Growth from three to five and back keeps the holder and never lets two majorities disagree.
#[test]
fn voters_can_be_more_and_fewer() {
    let mut site = Site::new(5, 8);
    site.want(1, Wish::Hold);
    site.settle();
    for nodes in [&[1, 2, 3][..], &[1, 2, 3, 4, 5], &[3, 4, 5], &[2, 4]] {
        site.seat_step(NodeId(1), Event::Revote(Set::on(nodes.iter().map(|node| NodeId(*node))).unwrap()));
        site.pass(2 * LEASE);
        let voters = &site.machine(1).seat.as_ref().unwrap().known().unwrap().voters;
        assert!(voters.previous.is_none());
        assert_eq!(voters.current.iter().map(|voter| voter.node.0).collect::<std::vec::Vec<_>>(), nodes);
        assert_eq!(site.holders(), [NodeId(1)]);
    }
}

/// Any order of loss, repetition, reordering, restarts, cuts, sleep, changes of voters and wishes, with
/// clocks at the bound of drift: never two holders (I1, I5, V2, V3, V11), and every edge of the picture is
/// walked.
#[test]
fn no_disorder_makes_two_holders() {
    let (mut edges, mut gains) = (BTreeSet::new(), 0);
    for seed in 1..=600 {
        let site = walk(seed);
        gains += site.held_epochs.len();
        edges.extend(site.edges);
    }
    let allowed: BTreeSet<_> = EDGES.iter().copied().collect();
    assert_eq!(edges, allowed, "an edge is unreachable or unlisted");
    assert!(10_000 < gains, "the walk collapsed: {gains} records");
}

/// One random life of a register.
pub(super) fn walk(seed: u64) -> Site {
    let mut site = Site::new(3 + 2 * u16::from(seed.is_multiple_of(4)), seed);
    let voters = u64::try_from(site.machines.len()).unwrap();
    for step in 0..4_000_u64 {
        disorder(&mut site, voters);
        // In some lives the record is rewritten, too; the others are as rich in everything else as before.
        if seed.is_multiple_of(3) && step.is_multiple_of(97) {
            let seat = if step.is_multiple_of(2) { 1 } else { 2 };
            let said = u8::try_from(step % 4).unwrap();
            site.seat_step(NodeId(seat), Event::Rewrite(Payload::from_slice(&[said]).unwrap()));
        }
        site.check();
    }
    site
}

/// Every bug that is this layer's to find is found: by a story, or by a walk of this many seeds.
#[cfg(feature = "bugs")]
#[test]
fn every_planted_bug_of_the_register_is_caught() {
    use crate::bug::{BUGS, Layer, plant};
    use std::panic::catch_unwind;

    const BUDGET: u64 = 20_000;
    let stories: [(&str, fn()); 9] = [
        ("a change that failed", a_change_that_failed_lets_nobody_decide_alone),
        ("a late grant", a_late_grant_is_worth_what_is_left_of_it),
        ("an owed grant", a_grant_owed_to_an_earlier_start_counts_for_nothing),
        ("takeover", the_other_takes_over_when_the_lease_has_run_out),
        ("given back", what_is_given_back_is_free_at_once),
        ("fence", a_confirmed_fence_ends_the_wait),
        ("sleep", who_slept_through_its_lease_has_lost_it),
        ("alone", who_was_agreed_to_go_on_alone_does_and_nobody_else),
        ("empty disk", a_voter_that_lost_its_disk_is_made_a_voter_anew),
    ];
    let mut missed = std::vec::Vec::new();
    std::println!("{:<24} found by", "bug");
    for planted in BUGS.iter().filter(|planted| planted.layer == Layer::Register) {
        plant(Some(planted.bug));
        let story = stories.iter().find(|(_, story)| catch_unwind(story).is_err());
        let found = match story {
            Some((name, _)) => Some(std::format!("the story of: {name}")),
            None => (1..=BUDGET)
                .find(|seed| catch_unwind(|| drop(walk(*seed))).is_err())
                .map(|seed| std::format!("seed {seed} of the walk")),
        };
        std::println!("{:<24} {}", planted.name, found.as_deref().unwrap_or("-"));
        if found.is_none() {
            missed.push(planted.name);
        }
    }
    plant(None);
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// One random thing happens.
pub(super) fn disorder(site: &mut Site, voters: u64) {
    let node = NodeId(u16::try_from(1 + site.chance.below(voters)).unwrap());
    let seat = u16::try_from(1 + site.chance.below(2)).unwrap();
    match site.chance.below(100) {
        0..=49 => (0..6).for_each(|_| transmit(site)),
        50..=79 => {
            site.now += site.chance.below(30_000);
            site.timeouts();
        }
        80..=84 => site.want(seat, Wish::Hold),
        85 => site.want(seat, Wish::Follow),
        86 => site.restart(node),
        87 if site.may_wipe(node) => site.wipe(node),
        87 => site.restart(node),
        88 => site.machine(node.0).up = false,
        89 => {
            site.cut.insert(node);
        }
        90..=93 => site.cut.clear(),
        94 => site.now += 700_000,
        95 => {
            let set = match site.chance.below(3) {
                0 => Set::on([NodeId(seat)]),
                1 => Set::on((1..=u16::try_from(voters).unwrap()).map(NodeId)),
                2.. => Set::on([NodeId(1), NodeId(2), NodeId(3)]),
            };
            site.seat_step(NodeId(seat), Event::Revote(set.unwrap()));
        }
        96 => fence(site, seat),
        97 => {
            site.verdicts = match site.chance.below(12) {
                0 => Verdicts::Leave,
                1 => Verdicts::Late,
                2.. => Verdicts::Take,
            };
        }
        98.. => {
            for node in site.machines.keys().copied().collect::<std::vec::Vec<_>>() {
                if !site.machines[&node].up {
                    site.restart(node);
                }
            }
        }
    }
}

/// One message arrives, out of order, perhaps twice, or is lost.
fn transmit(site: &mut Site) {
    let waiting = u64::try_from(site.wire.len()).unwrap().min(4);
    if waiting == 0 {
        return;
    }
    let index = usize::try_from(site.chance.below(waiting)).unwrap();
    match site.chance.below(25) {
        0 => drop(site.wire.remove(index)),
        1 => site.arrive(site.wire[index].clone()),
        2.. => site.deliver(index),
    }
}

/// Node `seat` really cuts the power of the holder it knows of, and says so.
fn fence(site: &mut Site, seat: u16) {
    let now = site.clock(NodeId(seat));
    let told = site.machine(seat).seat.as_ref().unwrap().told(now);
    if let Some(lease) = told.filter(|lease| lease.holder != NodeId(seat))
        && let Some(start) = lease.start
    {
        if site.machine(lease.holder.0).start == start {
            site.machine(lease.holder.0).up = false;
        }
        let fenced = Fenced { node: lease.holder, start };
        site.seat_step(NodeId(seat), Event::Fenced(fenced));
    }
}

#[test]
fn the_register_of_another_is_not_ours() {
    for (register, seen) in [(REGISTER, 1), (RegisterId(REGISTER.0 + 1), 0)] {
        let mut site = Site::new(3, 9);
        let voters = Voters::settled(crate::register::testing::founders(3));
        let payload = crate::register::record::Payload::new();
        let record = Record { epoch: Epoch(1), holder: Some(NodeId(2)), voters, payload };
        let body = Reply::State { accepted: Some((Ballot::new(1, NodeId(2)), record)), lease: None };
        let answer = Answer { register, ask: AskId(1), life: crate::register::voters::Life(1), body };
        site.seat_step(NodeId(1), Event::Answered { from: NodeId(2), answer });
        assert_eq!(site.log.len(), seen, "{register:?}");
    }
}

/// The picture in the documentation is printed from the code. `UPDATE=1` rewrites it.
#[test]
fn picture_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/register/seat.edges.txt");
    let drawn: String = EDGES.iter().map(|(from, to)| std::format!("{from:>9} -> {to}\n")).collect();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &drawn).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), drawn, "run with UPDATE=1");
}
