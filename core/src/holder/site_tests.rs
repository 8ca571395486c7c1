//! I1 to I4, I10, V1, V3 to V8, V12, V13 (F1 to F4, F7, F14, F16 to F20, F33 to F40): three holders with
//! real logs on disks that tear. Whoever leads has every acknowledged write; no store has a write that is
//! not there in the end; and when the faults are over, all are in sync.

use super::machine::Mode;
use super::testing::{Seen, World, node_id};
use super::words::{Action, Backing, Event, Word};
use crate::id::Epoch;
use crate::log::Seq;
use crate::mirror::history::History;
use crate::mirror::membership::Membership;

/// I11, F51: an offer that no log can make changes nothing, whatever the holder would make of it.
#[test]
fn an_offer_that_no_log_can_make_is_ignored() {
    for backing in [Backing::Local, Backing::Shared] {
        let mut world = World::new(1, backing);
        world.start(1);
        world.keep(1);
        let (epoch, history) = (Epoch(7), History::new(Seq(5)));
        let word = Word::Offer { epoch, history: history.clone(), oldest: Seq(u64::MAX) };
        world.step(1, Event::Heard { from: node_id(0), word: &word });
        let holder = world.nodes[1].holder.as_ref().unwrap();
        assert_eq!((holder.mode(), holder.kept().promised), (Mode::Following, Epoch(0)));
        assert!(!world.nodes[1].is_keeping, "{backing:?}");
        let word = Word::Offer { epoch, history, oldest: Seq(5) };
        world.step(1, Event::Heard { from: node_id(0), word: &word });
        assert_eq!(
            world.nodes[1].is_keeping,
            backing == Backing::Shared,
            "made anew: the store has the rest"
        );
    }
}

/// I3: a register that was won with a log that is not whole any more is given back.
#[test]
fn a_log_that_failed_since_it_was_decided_does_not_lead() {
    let mut world = World::new(1, Backing::Local);
    world.start(0);
    world.keep(0);
    let until = world.time().after(core::time::Duration::from_secs(1));
    let holder = world.nodes[0].holder.as_ref().unwrap();
    let payload = Membership::alone(holder.me()).encode();
    assert_eq!(holder.may_lead(None), Ok(()));
    let mut failed = holder.clone();
    let mut given_back = false;
    failed.step(world.time(), Event::CommitFailed, &mut |_| {});
    let held = Event::Held { epoch: Epoch(1), payload: &payload, until };
    failed.step(world.time(), held, &mut |action| given_back |= action == Action::Release);
    assert!(given_back && failed.mode() == Mode::Failed);
}

fn run(backing: Backing, seeds: core::ops::Range<u64>) {
    let (mut seen, mut total) = (Seen::default(), 0);
    for seed in seeds {
        let mut world = World::new(seed, backing);
        (0..3).for_each(|node| world.start(node));
        for _ in 0..3_000 {
            world.something(false);
        }
        world.nodes.iter_mut().for_each(|node| node.sleeps = 0);
        let mut steps = 0;
        while !world.is_mirrored() {
            world.something(true);
            steps += 1;
            assert!(steps < 100_000, "seed {seed}: {:?}", world.membership());
        }
        total += world.acknowledged.len();
        let one = world.seen;
        seen.takeovers += one.takeovers;
        seen.cuts += one.cuts;
        seen.fills += one.fills;
        seen.remade += one.remade;
        seen.damaged += one.damaged;
        seen.busy += one.busy;
        seen.full += one.full;
        seen.trims += one.trims;
        seen.joined += one.joined;
        seen.outranked += one.outranked;
    }
    let Seen { takeovers, cuts, fills, remade, damaged, busy, full, trims, joined, outranked } = seen;
    let fills = if backing == Backing::Local { fills } else { remade };
    let happened = [takeovers, cuts, fills, remade, damaged, busy, full, trims, joined, outranked];
    assert!(happened.iter().all(|count| 5 < *count) && 10_000 < total, "{seen:?}, {total} acknowledged");
}

#[test]
fn nothing_acknowledged_is_lost_when_each_has_a_store() {
    run(Backing::Local, 0..300);
}

#[test]
fn nothing_acknowledged_is_lost_when_they_share_a_store() {
    run(Backing::Shared, 10_000..10_300);
}
