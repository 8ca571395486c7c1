//! Whom a node waits for before it runs the management system, and that two never run it.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;

const GRACE: Duration = Duration::from_secs(10);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn at(second: u64) -> Instant {
    Instant::ZERO.after(Duration::from_secs(second))
}

fn seen(holder: NodeId, epoch: u64) -> Event {
    Event::Seen { holder, epoch: Epoch(epoch) }
}

fn held(epoch: u64) -> Event {
    Event::Held { epoch: Epoch(epoch) }
}

fn fenced(node: NodeId, asked: u64) -> Event {
    Event::Fenced { node, asked: at(asked) }
}

/// When a node whose profile manages may start, after it was told this, each in its second.
fn from(news: &[(u64, Event)]) -> Option<Instant> {
    let mut tenure = Tenure::new(GRACE);
    tenure.step(at(0), Event::Profile { manages: true });
    for (second, event) in news {
        tenure.step(at(*second), *event);
    }
    match tenure.mode() {
        Mode::Away | Mode::Entitled => None,
        Mode::Waiting { until } => Some(until),
        Mode::Managing => news.last().map(|(second, _)| at(*second)),
    }
}

/// V20, V24: whom it waits for, and for how long.
#[test]
fn who_wins_the_role_waits_for_those_before() {
    let lost = Event::Lost;
    for (news, expected, why) in [
        (&[(5, held(1))][..], at(5), "nobody ever held it"),
        (&[(5, held(7))], at(15), "nobody knows who held it"),
        (&[(5, seen(B, 6)), (20, held(7))], at(30), "B may still stop"),
        (
            &[(5, seen(B, 6)), (20, fenced(B, 19)), (21, held(7))],
            at(21),
            "B is off, those before had the time",
        ),
        (
            &[(5, seen(B, 6)), (8, fenced(B, 7)), (9, held(7))],
            at(15),
            "B is off, but the one before stops yet",
        ),
        (&[(5, seen(B, 6)), (9, held(7)), (12, fenced(B, 8))], at(15), "B was off a little later"),
        (&[(5, seen(B, 6)), (20, fenced(C, 19)), (21, held(7))], at(31), "another one is off"),
        (&[(5, seen(B, 6)), (20, fenced(B, 3)), (21, held(7))], at(31), "an earlier start of B was off"),
        (&[(5, seen(B, 6)), (20, fenced(B, 19)), (21, held(8))], at(31), "somebody held it after B"),
        (&[(5, seen(B, 5)), (7, seen(B, 6)), (20, fenced(B, 19)), (21, held(7))], at(21), "B held it twice"),
        (&[(5, seen(B, 5)), (7, seen(B, 9)), (10, fenced(B, 8)), (11, held(10))], at(17), "not all the time"),
        // B was fenced, came back, and took the role again: that it was fenced is long ago.
        (
            &[(5, seen(B, 6)), (20, fenced(B, 19)), (30, seen(B, 7)), (40, held(8))],
            at(50),
            "B was fenced as what it was, not as what it is",
        ),
        (&[(5, held(1)), (6, lost), (7, held(2))], at(7), "it was this node's own"),
        (&[(5, held(7)), (6, lost), (7, held(8))], at(15), "what was left of the wait is waited for"),
        (&[(5, held(7)), (6, lost), (7, held(9))], at(17), "somebody else had it meanwhile"),
        (&[(5, held(7)), (6, held(9)), (8, lost), (9, held(10))], at(15), "the epoch rises while it is held"),
    ] {
        assert_eq!(from(news), Some(expected), "{why}");
    }
}

/// S1-06: the profile is chosen at a boot; what runs by it goes on while the role is here.
#[test]
fn the_profile_starts_and_the_role_ends() {
    let mut tenure = Tenure::new(GRACE);
    tenure.step(at(0), held(1));
    assert_eq!((tenure.mode(), tenure.manages(), tenure.deadline()), (Mode::Entitled, false, None));
    tenure.step(at(1), Event::Profile { manages: true });
    assert!(tenure.manages());
    tenure.step(at(2), Event::Profile { manages: false });
    assert!(tenure.manages());
    tenure.step(at(3), Event::Lost);
    assert_eq!((tenure.mode(), tenure.manages()), (Mode::Away, false));
    tenure.step(at(4), held(5));
    assert_eq!(tenure.deadline(), Some(at(14)));
    tenure.step(at(13), Event::Timeout);
    assert_eq!(tenure.deadline(), Some(at(14)), "early news are harmless");
    tenure.step(at(14), Event::Timeout);
    assert_eq!((tenure.mode(), tenure.deadline()), (Mode::Entitled, None));
}

/// What is true of one node of a random history.
struct Node {
    tenure: Tenure,
    /// Until when its service runs, once it was started; for ever while the node manages.
    runs_until: Option<Instant>,
}

/// Three nodes that hand the role on, see it or not, are fenced or not, and stop as late as they may.
struct World {
    nodes: [Node; 3],
    holder: Option<usize>,
    epoch: u64,
    won: Instant,
    chance: u64,
    starts: u32,
    /// Of these, before the grace was over.
    early: u32,
}

impl World {
    fn new(chance: u64) -> Self {
        let fresh = || Node { tenure: Tenure::new(GRACE), runs_until: None };
        let nodes = [fresh(), fresh(), fresh()];
        Self { nodes, holder: None, epoch: 0, won: at(0), chance, starts: 0, early: 0 }
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % below
    }

    /// The role is lost, and everything that follows from it begins.
    fn lose(&mut self, lost: usize, second: u64) {
        let (stop, is_fenced) = (self.roll(11), self.roll(2) == 0);
        let node = &mut self.nodes[lost];
        let managed = node.tenure.manages();
        node.tenure.step(at(second), Event::Lost);
        if managed {
            node.runs_until = Some(at(second + stop));
        }
        self.holder = None;
        // A fence is true: nothing of that node runs. Not all of the others learn of it.
        if is_fenced {
            *node = Node { tenure: Tenure::new(GRACE), runs_until: None };
            for other in (0..3).filter(|other| *other != lost) {
                if self.roll(4) != 0 {
                    self.nodes[other].tenure.step(at(second), fenced(id(lost), second));
                }
            }
        }
    }

    /// Who has the role says so; some hear it.
    fn tell(&mut self, now: Instant) {
        let Some(holder) = self.holder else { return };
        self.nodes[holder].tenure.step(now, held(self.epoch));
        for other in (0..3).filter(|other| *other != holder) {
            if self.roll(3) != 0 {
                self.nodes[other].tenure.step(now, seen(id(holder), self.epoch));
            }
        }
    }

    fn second(&mut self, second: u64) {
        let now = at(second);
        match (self.holder, self.roll(8)) {
            (Some(holder), 0) => self.lose(holder, second),
            // It changes its record.
            (Some(_), 1) => self.epoch += 1,
            (Some(_), _) => {}
            (None, 0..4) => {
                self.epoch += 1;
                (self.holder, self.won) = (Some(usize::try_from(self.roll(3)).unwrap()), now);
            }
            (None, _) => {}
        }
        self.tell(now);
        for node in 0..3 {
            let manages = self.roll(3) != 0;
            let Node { tenure, runs_until } = &mut self.nodes[node];
            tenure.step(now, Event::Profile { manages });
            tenure.step(now, Event::Timeout);
            if tenure.manages() && *runs_until != Some(at(u64::MAX)) {
                *runs_until = Some(at(u64::MAX));
                self.starts += 1;
                self.early += u32::from(now.since(self.won) < GRACE && self.epoch != 1);
            }
        }
        let running: Vec<_> = (0..3).filter(|node| self.nodes[*node].runs_until > Some(now)).collect();
        assert!(running.len() < 2, "second {second}, epoch {}: {running:?}", self.epoch);
    }
}

/// V24: at no time does the service run on two of them.
#[test]
fn no_history_runs_it_twice() {
    let (mut starts, mut early, mut chance) = (0, 0, 0x9e37_79b9);
    for _ in 0..400 {
        let mut world = World::new(chance);
        (0..200).for_each(|second| world.second(second));
        (starts, early, chance) = (starts + world.starts, early + world.early, world.chance);
    }
    assert!(1_000 < starts && 100 < early, "{starts} starts, {early} of them before the grace was over");
}

fn id(node: usize) -> NodeId {
    NodeId(u16::try_from(node).unwrap() + 1)
}

/// The picture in the documentation is printed from the code. `UPDATE=1` rewrites it.
#[test]
fn picture_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/resource/tenure.edges.txt");
    let drawn: String = EDGES.iter().map(|(from, to)| format!("{from:>10} -> {to}\n")).collect();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &drawn).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), drawn, "run with UPDATE=1");
}
