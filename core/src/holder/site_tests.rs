//! I1 to I4, I10, V1, V3 to V8, V12, V13 (F1 to F4, F7, F14, F16 to F20, F33 to F40): three holders with
//! real logs on disks that tear. Whoever leads has every acknowledged write; no store has a write that is
//! not there in the end; and when the faults are over, all are in sync.

use std::collections::BTreeSet;
use std::string::String;

use super::machine::{EDGES, Mode};
use super::testing::{Entry, Seen, World, node_id};
use super::words::{Action, Backing, Event, Waits, Word};
use crate::id::Epoch;
use crate::log::superblock::CUTS_MAX;
use crate::log::{Life, Seq};
use crate::mirror::history::History;
use crate::mirror::membership::{Holder as Member, Membership, NotInSync};
use crate::register::seat::Verdict;

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

/// I1, V2: a promise counts, although the register was lost before whoever made it led.
#[test]
fn who_promised_to_lead_takes_no_older_write_although_it_never_led() {
    let mut world = World::new(1, Backing::Local);
    world.start(1);
    world.keep(1);
    let old = Epoch(1);
    let offer = Word::Offer { epoch: old, history: History::new(Seq(1)), oldest: Seq(1) };
    world.step(1, Event::Heard { from: node_id(0), word: &offer });
    world.keep(1);
    let until = world.time().after(core::time::Duration::from_secs(1));
    let payload = Membership::alone(world.nodes[1].holder.as_ref().unwrap().me()).encode();
    world.step(1, Event::Held { epoch: Epoch(4), payload: &payload, until });
    world.step(1, Event::Lost);
    world.keep(1);
    assert_eq!(world.nodes[1].holder.as_ref().unwrap().kept().promised, Epoch(4));
    let entry = Entry { made: old, ..world.offered() };
    world.nodes[1].writes.insert(Seq(1), entry);
    let (write, sums) = (entry.write(), entry.sums());
    let fed = Event::Fed { from: node_id(0), epoch: old, made: old, seq: Seq(1), write, sums: &sums };
    world.step(1, fed);
    assert_eq!(world.nodes[1].holder.as_ref().unwrap().log().unwrap().next(), Seq(1));
    assert_eq!(world.seen.outranked, 1, "the old primary is told so");
}

/// Only a log with too many cuts goes this way.
const REMADE: (&str, &str) = ("taking", "remaking");

/// I3, F14: a log that remembers too many cuts is made anew. Whoever won the register meanwhile gives it
/// back: what it won it with is gone.
#[test]
fn a_log_that_is_made_anew_does_not_lead() {
    let mut world = World::new(1, Backing::Local);
    world.start(1);
    world.keep(1);
    // Short writes: a log that is short of room forgets its cuts.
    world.values = 1;
    for epoch in (1..=1 + CUTS_MAX as u64).map(Epoch) {
        let offer = Word::Offer { epoch, history: History::new(Seq(1)), oldest: Seq(1) };
        world.step(1, Event::Heard { from: node_id(0), word: &offer });
        world.keep(1);
        let entry = Entry { made: epoch, ..world.offered() };
        world.nodes[1].writes.insert(Seq(1), entry);
        let (write, sums) = (entry.write(), entry.sums());
        let from = node_id(0);
        world.step(1, Event::Fed { from, epoch, made: epoch, seq: Seq(1), write, sums: &sums });
        if epoch <= Epoch(CUTS_MAX as u64) {
            world.complete(1);
        }
    }
    let until = world.time().after(core::time::Duration::from_secs(1));
    let me = world.nodes[1].holder.as_ref().unwrap().me();
    let offer = Word::Offer { epoch: Epoch(30), history: History::new(Seq(1)), oldest: Seq(1) };
    world.step(1, Event::Heard { from: node_id(0), word: &offer });
    let payload = Membership::alone(me).encode();
    (world.register.primary, world.register.until) = (Some(1), u64::MAX);
    world.step(1, Event::Held { epoch: Epoch(31), payload: &payload, until });
    world.complete(1);
    (0..4).for_each(|_| world.keep(1));
    let holder = world.nodes[1].holder.as_ref().unwrap();
    assert_ne!(holder.me(), me, "made anew");
    assert_eq!((holder.mode(), world.register.until), (Mode::Following, world.now), "given back");
    assert!(world.edges.contains(&REMADE), "{:?}", world.edges);
}

/// X14: who lacks what was acknowledged leads when an operator says so, once, and never with a log that has
/// a hole.
#[test]
fn an_operator_has_a_holder_lead_that_may_not() {
    let mut world = World::new(1, Backing::Local);
    world.start(1);
    world.keep(1);
    let now = world.time();
    let until = now.after(core::time::Duration::from_secs(1));
    let mut holder = world.nodes[1].holder.clone().unwrap();
    let others = Membership::alone(Member { node: node_id(0), life: Life(9) }).encode();
    assert_eq!(holder.may_lead(Some(&others)), Err(NotInSync::Stale.into()));
    assert!(holder.may_lead(None).is_err(), "another one is to found the group");
    holder.step(now, Event::Recover, &mut |_| {});
    assert_eq!((holder.may_lead(Some(&others)), holder.may_lead(None)), (Ok(()), Ok(())));
    assert!(holder.may_lead(Some(&[9])).is_err(), "nobody knows what the record says");
    let mine = Membership::alone(holder.me()).encode();
    let mut verdict = None;
    holder.step(now, Event::Decide(Some(&others)), &mut |action| {
        if let Action::Decided(said) = action {
            verdict = Some(said);
        }
    });
    assert_eq!(verdict, Some(Verdict::Take(mine.clone())), "its log is the group's from now on");
    holder.step(now, Event::Held { epoch: Epoch(7), payload: &mine, until }, &mut |_| {});
    holder.step(now, Event::Kept, &mut |_| {});
    assert_eq!((holder.mode(), holder.recovers()), (Mode::Leading, false));
    holder.step(now, Event::Recover, &mut |_| {});
    holder.step(now, Event::Lost, &mut |_| {});
    assert_eq!(holder.may_lead(Some(&others)), Err(NotInSync::Stale.into()), "it was said once");

    let mut failed = world.nodes[1].holder.clone().unwrap();
    failed.step(now, Event::Recover, &mut |_| {});
    failed.step(now, Event::CommitFailed, &mut |_| {});
    assert_eq!(failed.may_lead(Some(&others)), Err(Waits::Failed));
}

/// F7, F10: another holder is offered what can be read, and nothing before it.
#[test]
fn what_cannot_be_read_is_not_offered() {
    let mut world = World::new(1, Backing::Local);
    world.start(0);
    world.keep(0);
    let now = world.time();
    let until = now.after(core::time::Duration::from_secs(1));
    let entry = world.offered();
    let mut holder = world.nodes[0].holder.clone().unwrap();
    let payload = Membership::alone(holder.me()).encode();
    holder.step(now, Event::Held { epoch: Epoch(1), payload: &payload, until }, &mut |_| {});
    holder.step(now, Event::Kept, &mut |_| {});
    for _ in 0..3 {
        holder.step(now, Event::Write { write: entry.write(), sums: &entry.sums() }, &mut |_| {});
    }
    for (unreadable, expected) in [(0, 1), (2, 3), (1, 3)] {
        holder.step(now, Event::Unreadable(Seq(unreadable)), &mut |_| {});
        let mut offered = None;
        holder.step(now, Event::Met(node_id(1)), &mut |action| {
            if let Action::Say { word: Word::Offer { oldest, .. }, .. } = action {
                offered = Some(oldest);
            }
        });
        assert_eq!(offered, Some(Seq(expected)), "{unreadable}");
    }
}

fn calm_down(world: &mut World, seed: u64) {
    let mut steps = 0;
    while !world.is_mirrored() {
        world.something(true);
        steps += 1;
        assert!(steps < 100_000, "seed {seed}: {:?}", world.membership());
    }
}

fn run(backing: Backing, seeds: core::ops::Range<u64>) {
    let (mut seen, mut total, mut edges) = (Seen::default(), 0, BTreeSet::from([REMADE]));
    for seed in seeds {
        let mut world = World::new(seed, backing);
        (0..3).for_each(|node| world.start(node));
        for _ in 0..3_000 {
            world.something(false);
        }
        world.nodes.iter_mut().for_each(|node| node.sleeps = 0);
        calm_down(&mut world, seed);
        // A lease may end just then.
        let is_known = world.rest() || (calm_down(&mut world, seed), world.rest()).1;
        assert!(is_known, "seed {seed}: not all know what is in the store");
        total += world.acknowledged.len();
        edges.append(&mut world.edges);
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
    assert_eq!(edges, EDGES.iter().copied().collect(), "an edge is unreachable, or not drawn");
}

/// The picture in the documentation is printed from the code. `UPDATE=1` rewrites it.
#[test]
fn the_picture_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/holder/machine.edges.txt");
    let drawn: String = EDGES.iter().map(|(from, to)| std::format!("{from:>9} -> {to}\n")).collect();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &drawn).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), drawn, "run with UPDATE=1");
    let architecture = concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md");
    assert!(std::fs::read_to_string(architecture).unwrap().contains(&drawn), "ARCHITECTURE.md shows another");
}

#[test]
fn nothing_acknowledged_is_lost_when_each_has_a_store() {
    run(Backing::Local, 0..500);
}

#[test]
fn nothing_acknowledged_is_lost_when_they_share_a_store() {
    run(Backing::Shared, 10_000..10_500);
}
