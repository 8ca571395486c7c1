use std::string::String;
use std::vec::Vec;
use std::{assert_eq, format};

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

/// Three nodes hand the role on, see it or not, are fenced or not, and stop as late as they may: at no time does
/// the service run on two of them (V24).
#[test]
fn no_history_runs_it_twice() {
    let mut chance = 0x9e37_79b9_u64;
    let mut roll = |below: u64| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance % below
    };
    let (mut starts, mut early) = (0_u32, 0_u32);
    for _ in 0..400 {
        let fresh = || Node { tenure: Tenure::new(GRACE), runs_until: None };
        let mut nodes = [fresh(), fresh(), fresh()];
        let (mut holder, mut epoch, mut won) = (None, 0, at(0));
        for second in 0..200 {
            let now = at(second);
            match holder {
                // The role is lost, and everything that follows from it begins.
                Some(lost) if roll(8) == 0 => {
                    let node: &mut Node = &mut nodes[lost];
                    let managed = node.tenure.manages();
                    node.tenure.step(now, Event::Lost);
                    if managed {
                        node.runs_until = Some(at(second + roll(11)));
                    }
                    holder = None;
                    // A fence is true: nothing of that node runs. Some learn of it, some late.
                    if roll(2) == 0 {
                        node.runs_until = None;
                        node.tenure = Tenure::new(GRACE);
                        let off = Event::Fenced { node: id(lost), asked: now };
                        (0..3)
                            .filter(|other| *other != lost && roll(4) != 0)
                            .collect::<Vec<_>>()
                            .into_iter()
                            .for_each(|other| nodes[other].tenure.step(now, off));
                    }
                }
                // It changes its record.
                Some(_) if roll(10) == 0 => epoch += 1,
                Some(_) => {}
                None if roll(2) == 0 => {
                    let next = usize::try_from(roll(3)).unwrap();
                    epoch += 1;
                    (holder, won) = (Some(next), now);
                }
                None => {}
            }
            if let Some(holder) = holder {
                nodes[holder].tenure.step(now, held(epoch));
                for other in (0..3).filter(|other| *other != holder) {
                    if roll(3) != 0 {
                        nodes[other].tenure.step(now, seen(id(holder), epoch));
                    }
                }
            }
            for node in &mut nodes {
                let manages = roll(3) != 0;
                node.tenure.step(now, Event::Profile { manages });
                node.tenure.step(now, Event::Timeout);
                if node.tenure.manages() && node.runs_until != Some(at(u64::MAX)) {
                    node.runs_until = Some(at(u64::MAX));
                    starts += 1;
                    early += u32::from(now.since(won) < GRACE && epoch != 1);
                }
            }
            let running: Vec<_> = (0..3).filter(|node| nodes[*node].runs_until > Some(now)).collect();
            assert!(running.len() < 2, "second {second}, epoch {epoch}: {running:?}");
        }
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
