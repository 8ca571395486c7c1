//! Every short history of a node: all sequences of operations, boots, faults and cuts, walked
//! breadth first over all states they lead to, against an oracle that knows the truth (FAULTS,
//! model c: 2 slots, N = 2, a cut at each write, torn or not: V30, V31, V35, V36, V38; I8).
//!
//! The walk also draws the picture of slot states that stands in `bcb::state`, and must have
//! reached every reason for a boot and every cause of a bad slot.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test code: a panic is a red test"
)]

mod support;

use bulkhead_core::bcb::state::{Reason, SlotState, Why};
use bulkhead_core::slot::SlotId::{A, B};
use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::rc::Rc;
use support::disk::Stop;
use support::events::{EVENTS, Event, Told};
use support::images::Images;
use support::node::{Fate, Node, Outcome};

/// Distinct states the walk visits before it stops, unless `BULKHEAD_STATES` says otherwise.
const STATES: usize = 25_000;

/// What happened to a node so far; told when the test fails on the way.
#[derive(Clone)]
struct Tale(Rc<(Option<Tale>, String)>);

impl Tale {
    fn then(&self, what: String) -> Self {
        Self(Rc::new((Some(self.clone()), what)))
    }

    fn tell(&self) {
        if let Some(before) = &self.0.0 {
            before.tell();
        }
        println!("  {}", self.0.1);
    }
}

/// Tells the tale if the test fails while it lives.
struct Teller(Tale);

impl Drop for Teller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("it came to this by:");
            self.0.tell();
        }
    }
}

/// Histories too long for the walk to begin with. They are walked on from, all two steps further.
const SCENES: &[&[Event]] = &[
    &[Event::Flash(B, 1), HANG, HANG, BOOT],
    &[Event::Flash(B, 1), BOOT, Event::Confirm],
    &[Event::Flash(B, 2), BOOT, Event::Confirm],
    &[Event::Flash(B, 1), Event::BootUnreadable(B)],
    &[Event::Flash(B, 1), Event::Rot(B), Event::BootUnreadable(A)],
    &[Event::LoseBoth, Event::LoseMark(A), BOOT],
    &[Event::Flash(B, 1), HANG, HANG, BOOT, Event::Choose(B)],
    &[Event::Flash(B, 1), Event::Boot(Fate::Returns), Event::Choose(B)],
    &[Event::Flash(B, 1), Event::BootUnreadable(B), Event::Choose(B)],
    &[Event::Flash(B, 1), Event::RollBack, Event::Choose(B)],
];
const BOOT: Event = Event::Boot(Fate::Runs);
const HANG: Event = Event::Boot(Fate::Hangs);

fn staged(first: &Node, scene: &[Event]) -> (u64, Node, Tale) {
    let mut node = first.clone();
    for event in scene {
        assert_ne!(node.tell(*event), Ok(Told::Refused), "{event:?} in {scene:?}");
    }
    (node.key(), node, Tale(Rc::new((None, format!("{scene:?}")))))
}

struct Walk {
    seen: HashSet<u64>,
    steps: u64,
    cuts: u64,
    reached: BTreeSet<&'static str>,
}

impl Walk {
    /// All nodes that may come of `event`, without and with a cut.
    fn after(&mut self, node: &Node, tale: &Tale, event: Event, found: &mut Vec<(Node, Tale)>) {
        let tale = tale.then(format!("{event:?}"));
        let _teller = Teller(tale.clone());
        let writes = {
            let mut whole = node.clone();
            if let Told::Booted(Outcome::Running(_, reason) | Outcome::Hung(_, reason)) =
                whole.tell(event).unwrap()
            {
                self.reached.insert(reason.token());
            }
            let writes = whole.disk.writes - node.disk.writes;
            found.push((whole, tale.clone()));
            writes
        };
        for power in (0..writes).filter(|power| worth_a_cut(event, *power)) {
            let mut cut = node.clone();
            cut.disk.power = Some(power);
            assert_eq!(cut.tell(event), Err(Stop::Cut));
            self.cuts += 1;
            for (kind, disk) in cut.disk.kinds_of_outcome().into_iter().enumerate() {
                let what = ["none", "some", "all"][kind];
                let tale =
                    tale.then(format!("cut at its write {power}, of what was not flushed {what} is left"));
                found.push((cut.after_cut(disk), tale));
            }
        }
    }

    /// Facts that hold in every state; and what is reached by it.
    fn look(&mut self, node: &Node) {
        let Some(bcb) = node.newest() else { return };
        assert!(bcb.floor.0 >= node.truth.floor || node.truth.lost, "V35: the floor fell");
        self.reached.insert(bcb.reason.token());
        for state in [bcb.slots.a, bcb.slots.b] {
            if let SlotState::Bad { why, .. } = state {
                self.reached.insert(why.token());
            }
        }
    }
}

/// Of the sixteen sectors of an image, a cut is made in the first, in the middle and in the last
/// of payload and header; in between nothing differs.
fn worth_a_cut(event: Event, power: usize) -> bool {
    !matches!(event, Event::Flash(..)) || [0, 1, 2, 6, 9, 10, 17, 18, 19].contains(&power)
}

fn walked() -> (Walk, Node) {
    let states = std::env::var("BULKHEAD_STATES").ok().and_then(|states| states.parse().ok());
    let states = states.unwrap_or(STATES);
    let first = Node::new(&Rc::new(Images::new()));
    let mut walk = Walk { seen: HashSet::new(), steps: 0, cuts: 0, reached: BTreeSet::new() };
    let mut frontier = vec![(first.clone(), Tale(Rc::new((None, "a new disk".into()))))];
    let mut depth = 0;
    while !frontier.is_empty() && walk.seen.len() < states {
        let mut next = Vec::new();
        for (node, tale) in &frontier {
            if walk.seen.len() >= states {
                break;
            }
            for event in EVENTS {
                let mut found = Vec::new();
                walk.after(node, tale, event, &mut found);
                for (mut node, tale) in found {
                    let _teller = Teller(tale.clone());
                    walk.steps += 1;
                    node.disk.writes = 0;
                    let key = node.key();
                    if walk.seen.insert(key) {
                        walk.look(&node);
                        node.clone().comes_back();
                        next.push((key, node, tale));
                    }
                }
            }
        }
        depth += 1;
        if depth == 1 {
            next.extend(SCENES.iter().map(|scene| staged(&first, scene)));
        }
        println!("depth {depth}: {} states, {} steps, {} cuts", walk.seen.len(), walk.steps, walk.cuts);
        // Where the walk stops in the middle of a depth, it has seen some of everything.
        next.sort_unstable_by_key(|(key, ..)| *key);
        frontier = next.into_iter().map(|(_, node, tale)| (node, tale)).collect();
    }
    if frontier.is_empty() {
        println!("closed: there are no more states");
    }
    (walk, first)
}

#[test]
fn every_short_history_keeps_the_promises() {
    let (walk, first) = walked();
    assert!(walk.seen.len() >= 20_000.min(STATES), "the walk collapsed to {} states", walk.seen.len());
    for token in Reason::ALL.iter().map(|(reason, _)| reason.token()) {
        assert!(walk.reached.contains(token), "no history reaches reason {token}");
    }
    for token in Why::ALL.iter().map(|(why, _)| why.token()) {
        assert!(walk.reached.contains(token), "no history makes a slot bad with cause {token}");
    }
    let mut drawn = String::new();
    for (from, to, what) in first.edges.borrow().iter() {
        writeln!(drawn, "{from:>20} -> {to:<20} {what}").unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bcb/state.edges.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &drawn).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), drawn, "run with UPDATE=1");
}
