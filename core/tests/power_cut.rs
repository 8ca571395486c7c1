//! Every plan with the power cut before, inside and after each of its writes, and again while the
//! node recovers (I8, V30, V31, V35, V36, V37; STYLE rule 33; FAULTS asks for 50,000 points).
//!
//! A cut leaves any part of what was not flushed, in any order; one sector may be torn at any
//! byte, garbage, or unreadable. Few outcomes are tried all, many are sampled from a seed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test code: a panic is a red test"
)]

mod support;

use bulkhead_core::slot::SlotId::{A, B};
use std::rc::Rc;
use support::Dice;
use support::disk::{Effort, Stop};
use support::events::{Event, Told};
use support::images::Images;
use support::node::{Fate, Node};

/// Cut points that a run must have, or it has collapsed.
const POINTS_MIN: u64 = 50_000;

const BOOT: Event = Event::Boot(Fate::Runs);
const HANG: Event = Event::Boot(Fate::Hangs);

/// What led to the change, and the change that is cut. Each plan of the core is in one at least.
const SCENES: &[(&str, &[Event], Event)] = &[
    ("record a boot", &[], BOOT),
    ("record the first try", &[Event::Flash(B, 1)], BOOT),
    ("record the last try", &[Event::Flash(B, 1), HANG], BOOT),
    ("leave a candidate", &[Event::Flash(B, 1), HANG, HANG], BOOT),
    ("leave a candidate that returns", &[Event::Flash(B, 1)], Event::Boot(Fate::Returns)),
    ("leave a rotten candidate", &[Event::Flash(B, 1), Event::Rot(B)], BOOT),
    ("record a person's choice", &[Event::Flash(B, 1), BOOT, Event::Confirm], Event::Choose(A)),
    ("record a rescue", &[Event::Rot(A)], BOOT),
    ("flash", &[BOOT], Event::Flash(B, 1)),
    ("flash over a candidate", &[BOOT, Event::Flash(B, 1)], Event::Flash(B, 2)),
    ("flash over a confirmed slot", &[Event::Flash(B, 1), BOOT, Event::Confirm], Event::Flash(A, 2)),
    ("flash the same image again", &[Event::Flash(B, 1), BOOT, Event::Confirm], Event::Flash(A, 0)),
    ("confirm", &[Event::Flash(B, 1), BOOT], Event::Confirm),
    ("confirm on the last try", &[Event::Flash(B, 1), HANG, BOOT], Event::Confirm),
    ("confirm and raise the floor", &[Event::Flash(B, 2), BOOT], Event::Confirm),
    ("set next", &[Event::Flash(B, 1), BOOT, Event::Confirm], Event::SetNext(A)),
    ("roll back a candidate", &[Event::Flash(B, 1), BOOT], Event::RollBack),
    ("roll back a confirmed slot", &[Event::Flash(B, 1), BOOT, Event::Confirm], Event::RollBack),
    ("rebuild the block", &[Event::Flash(B, 1), BOOT, Event::Confirm, Event::LoseBoth], BOOT),
    ("rebuild beside a candidate", &[Event::Flash(B, 2), HANG, Event::LoseBoth], BOOT),
];

/// Efforts of a cut, of a second during recovery, of a third during the recovery from that.
const AGAIN: [Effort; 3] = [Effort::Some, Effort::Few, Effort::Few];
const LONG_AGAIN: [Effort; 2] = [Effort::Few, Effort::Few];

struct Cutter {
    points: u64,
    dice: Dice,
}

impl Cutter {
    /// Cuts `event` at every write; then lets the node recover from each outcome, cut again.
    fn cut(&mut self, node: &Node, event: Event, efforts: &[Effort]) {
        let Some((effort, later)) = efforts.split_first() else { return };
        for power in 0.. {
            let mut cut = node.clone();
            cut.disk.power = Some(power);
            match cut.tell(event) {
                Ok(_) => return,
                Err(stop) => assert_eq!(stop, Stop::Cut),
            }
            for disk in cut.disk.outcomes(*effort, &mut self.dice) {
                self.points += 1;
                let mut node = cut.after_cut(disk);
                if let Some(floor) = node.newest().map(|bcb| bcb.floor.0) {
                    assert!(floor >= node.truth.floor, "V35: the floor fell");
                }
                self.cut(&node, BOOT, later);
                node.comes_back();
            }
        }
    }
}

#[test]
fn a_cut_at_any_write_leaves_a_node_that_boots() {
    let images = Rc::new(Images::new());
    let mut cutter = Cutter { points: 0, dice: Dice(0x51a2) };
    for (name, before, event) in SCENES {
        let points = cutter.points;
        let mut node = Node::new(&images);
        for event in *before {
            assert_ne!(node.tell(*event), Ok(Told::Refused), "{name}: {event:?}");
        }
        let worked = node.clone().tell(*event);
        assert!(worked.is_ok_and(|told| told != Told::Refused), "{name} does not happen");
        cutter.cut(&node, *event, &[Effort::Whole]);
        // A flash has ten times the writes of the others.
        let long = matches!(event, Event::Flash(..));
        let again = if long { &LONG_AGAIN[..] } else { &AGAIN[..] };
        cutter.cut(&node, *event, again);
        for copy in [0, 1] {
            let mut node = node.clone();
            if node.newest().is_some() && node.lose_one(copy) {
                cutter.cut(&node, *event, if long { &LONG_AGAIN[1..] } else { &AGAIN[..2] });
            }
        }
        println!("{:>8} cut points: {name}", cutter.points - points);
    }
    println!("{:>8} cut points in all", cutter.points);
    assert!(cutter.points >= POINTS_MIN, "{} cut points", cutter.points);
}
