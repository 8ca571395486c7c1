//! Stories of one instance, every short story, and the picture.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use super::*;
use crate::register::message::{Millis, Start};

const ME: NodeId = NodeId(2);
const PEER: NodeId = NodeId(1);
const THIRD: NodeId = NodeId(3);
const GONE: Fenced = Fenced { node: PEER, start: Start(7) };

fn settings() -> Settings {
    let candidates = [Candidate { node: PEER, side: Side::A }, Candidate { node: ME, side: Side::B }];
    Settings {
        me: ME,
        candidates: Vec::from_iter(candidates).into_iter().collect(),
        heir: Heir::Across,
        listen: Duration::from_millis(300),
        leave: Duration::from_millis(300),
        stagger: Duration::from_millis(50),
        silence: Duration::from_millis(200),
        lease: Duration::from_millis(600),
        activate: Some(Duration::from_millis(1_000)),
        fence: Some(Duration::from_millis(5_000)),
    }
}

/// With a second node in the compartment across.
fn three() -> Settings {
    let mut settings = settings();
    settings.candidates.push(Candidate { node: THIRD, side: Side::A }).unwrap();
    settings
}

fn heard(alive: bool) -> Event {
    Event::Heard { node: PEER, alive }
}

fn said(role: Role) -> Event {
    Event::Said { node: PEER, saying: Saying { role, epoch: Epoch(4) } }
}

fn leased(left: u32) -> Event {
    Event::Leased(Leased { holder: PEER, epoch: Epoch(4), start: Some(GONE.start), left: Millis(left) })
}

/// Runs `script` (milliseconds, event) and compares the whole trace with `expected`.
#[track_caller]
fn check(script: &[(u64, Event)], expected: &str) {
    let mut pair = Pair::new(settings());
    let mut trace = String::new();
    for &(millis, event) in script {
        let actions = pair.step(Instant::from_millis(millis), event);
        let actions: Vec<_> = actions.iter().map(short).collect();
        writeln!(trace, "{millis:>5} {:<10} {}", pair.role().name(), actions.join(", ")).unwrap();
    }
    let tidy = |text: &str| {
        text.lines().map(|l| String::from(l.trim())).filter(|l| !l.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(tidy(&trace), tidy(expected), "full trace:\n{trace}");
}

fn short(action: &Action) -> String {
    match action {
        Action::Hold => String::from("hold"),
        Action::Follow => String::from("follow"),
        Action::Role { reason, .. } => format!("{reason:?}"),
        Action::Activate { node } => format!("activate {}", node.0),
        Action::Fence(fenced) => format!("fence {}/{}", fenced.node.0, fenced.start.0),
    }
}

/// S1-18, S1-19: it follows the master it hears, and asks for the register when that is silent.
#[test]
fn the_slave_becomes_master() {
    check(
        &[
            (0, Event::Started),
            (10, heard(true)),
            (20, said(Role::Master)),
            (900, heard(false)),
            (910, Event::Held(Epoch(5))),
        ],
        "0 starting   Started
        10 starting
        20 slave      MasterHeard { master: NodeId(1) }
       900 contending MasterSilent { master: NodeId(1) }, hold
       910 master     RegisterWon { epoch: Epoch(5) }",
    );
}

/// S1-20: alone after a cold start, it asks after listening, and has the peer started.
#[test]
fn a_lone_instance_becomes_master_and_activates_the_other() {
    check(
        &[
            (0, Event::Started),
            (299, Event::Timeout),
            (300, Event::Timeout),
            (310, Event::Held(Epoch(1))),
            (1_310, Event::Timeout),
            (1_400, heard(true)),
            (2_310, Event::Timeout),
            (2_400, said(Role::Starting)),
            (3_400, Event::Timeout),
        ],
        "0 starting   Started
       299 starting
       300 contending NoMasterHeard, hold
       310 master     RegisterWon { epoch: Epoch(1) }
      1310 master     activate 1
      1400 master
      2310 master     activate 1
      2400 master
      3400 master",
    );
}

/// Both start cold: the first in order asks first, the other gives it one round.
#[test]
fn the_second_waits_for_its_turn() {
    check(
        &[
            (0, Event::Started),
            (5, heard(true)),
            (6, said(Role::Starting)),
            (300, Event::Timeout),
            (320, said(Role::Master)),
            (350, Event::Timeout),
        ],
        "0 starting   Started
         5 starting
         6 starting
       300 contending NoMasterHeard
       320 slave      follow, MasterHeard { master: NodeId(1) }
       350 slave",
    );
}

/// F33, F36, V28: a master that only this side cannot hear goes on renewing, and is not fenced.
#[test]
fn only_a_holder_that_is_dead_to_the_voters_is_fenced() {
    let base = [(0, Event::Started), (1, heard(true)), (2, said(Role::Master)), (500, heard(false))];
    let alive: Vec<_> = base.into_iter().chain([(510, leased(550)), (520, leased(401))]).collect();
    check(
        &alive,
        "0 starting   Started
         1 starting
         2 slave      MasterHeard { master: NodeId(1) }
       500 contending MasterSilent { master: NodeId(1) }, hold
       510 contending
       520 contending",
    );
    let answer = Event::FenceAnswered { fenced: GONE, confirmed: false };
    let dead: Vec<_> = base
        .into_iter()
        .chain([
            (510, leased(400)),
            (520, leased(390)),
            (530, answer),
            (540, leased(300)),
            (5_510, Event::Timeout),
        ])
        .chain([(5_520, leased(100))])
        .collect();
    check(
        &dead,
        "0 starting   Started
         1 starting
         2 slave      MasterHeard { master: NodeId(1) }
       500 contending MasterSilent { master: NodeId(1) }, hold
       510 contending fence 1/7
       520 contending
       530 contending
       540 contending
      5510 contending
      5520 contending fence 1/7",
    );
}

/// V28: whoever is heard is not fenced, however old its lease is: it gives the register up, or renews.
#[test]
fn a_holder_that_is_heard_is_not_fenced() {
    check(
        &[
            (0, Event::Started),
            (300, Event::Timeout),
            (310, heard(true)),
            (320, leased(100)),
            (330, heard(false)),
            (340, leased(90)),
        ],
        "0 starting   Started
       300 contending NoMasterHeard, hold
       310 contending
       320 contending
       330 contending
       340 contending fence 1/7",
    );
}

/// V20, V21: only the answer about the start that is being fenced ends the wait for the device.
#[test]
fn the_answer_about_another_start_is_not_the_one_waited_for() {
    let answer = |node, start| Event::FenceAnswered { fenced: Fenced { node, start }, confirmed: true };
    check(
        &[
            (0, Event::Started),
            (300, Event::Timeout),
            (310, leased(100)),
            (320, answer(PEER, Start(6))),
            (330, leased(90)),
            (340, answer(PEER, Start(7))),
            (350, leased(80)),
        ],
        "0 starting   Started
       300 contending NoMasterHeard, hold
       310 contending fence 1/7
       320 contending
       330 contending
       340 contending
       350 contending fence 1/7",
    );
}

/// S1-20: of the compartment across, a node whose control domain answers is started; the first one is
/// switched on only when none does.
#[test]
fn who_answers_is_activated_first() {
    for (alive, activated) in [(&[][..], PEER), (&[PEER], PEER), (&[THIRD], THIRD), (&[THIRD, PEER], PEER)] {
        let mut pair = Pair::new(three());
        let heard = alive.iter().map(|node| (320, Event::Heard { node: *node, alive: true }));
        let script = [(0, Event::Started), (300, Event::Timeout), (310, Event::Held(Epoch(1)))];
        for (millis, event) in script.into_iter().chain(heard) {
            let _ = pair.step(Instant::from_millis(millis), event);
        }
        let actions: Vec<_> =
            pair.step(Instant::from_millis(1_310), Event::Timeout).iter().map(short).collect();
        assert_eq!(actions, [format!("activate {}", activated.0)], "{alive:?} are heard");
    }
}

/// S1-17, S0-08: who is to be heir asks at once when the master is silent, and the other one a turn later; it
/// asks at once where the heir is silent, too.
#[test]
fn the_heir_asks_first() {
    for (heir, me, heard, waits) in [
        (Heir::Across, Side::B, true, 0),
        (Heir::Across, Side::A, true, 50),
        (Heir::Across, Side::A, false, 0),
        (Heir::Near, Side::B, true, 50),
        (Heir::Near, Side::B, false, 0),
        (Heir::Near, Side::A, true, 0),
    ] {
        let other = Candidate { node: THIRD, side: me.other() };
        let [gone, me] = [(PEER, Side::A), (ME, me)].map(|(node, side)| Candidate { node, side });
        let candidates = [gone, other, me].into_iter().collect();
        let mut pair = Pair::new(Settings { heir, candidates, ..settings() });
        let _ = pair.step(Instant::ZERO, Event::Started);
        for (node, role) in [(PEER, Role::Master), (THIRD, Role::Slave)] {
            let _ = pair.step(Instant::ZERO, Event::Heard { node, alive: true });
            let _ = pair.step(Instant::ZERO, Event::Said { node, saying: Saying { role, epoch: Epoch(4) } });
        }
        let now = Instant::from_millis(1000);
        let _ = pair.step(now, Event::Heard { node: THIRD, alive: heard });
        let _ = pair.step(now, Event::Heard { node: PEER, alive: false });
        let from = now.after(Duration::from_millis(waits));
        let expected = Mode::Contending { from, asking: waits == 0 };
        assert_eq!(pair.mode(), expected, "{heir:?} {me:?} heard {heard}");
    }
}

/// S1-18: of two that say to be master, the one with the newer epoch is.
#[test]
fn the_master_of_the_newest_epoch_is_followed() {
    for (epochs, followed) in [([4, 5], THIRD), ([5, 4], PEER)] {
        let mut pair = Pair::new(three());
        let _ = pair.step(Instant::ZERO, Event::Started);
        for (node, epoch) in [PEER, THIRD].into_iter().zip(epochs) {
            let _ = pair.step(Instant::ZERO, Event::Heard { node, alive: true });
            let saying = Saying { role: Role::Master, epoch: Epoch(epoch) };
            let _ = pair.step(Instant::ZERO, Event::Said { node, saying });
        }
        assert_eq!(pair.mode(), Mode::Slave { master: followed }, "{epochs:?}");
    }
}

/// S2-04: members come and go; the master is known as long as it is one of them.
#[test]
fn what_is_known_of_a_candidate_that_stays_is_kept() {
    let [peer, me, third] = [(PEER, Side::A), (ME, Side::B), (THIRD, Side::A)];
    for (candidates, role) in
        [(&[third, peer, me][..], Role::Slave), (&[peer, me], Role::Slave), (&[third, me], Role::Contending)]
    {
        let mut pair = Pair::new(settings());
        for event in [Event::Started, heard(true), said(Role::Master)] {
            let _ = pair.step(Instant::ZERO, event);
        }
        assert_eq!(pair.role(), Role::Slave);
        pair.set_candidates(
            candidates.iter().map(|(node, side)| Candidate { node: *node, side: *side }).collect(),
        );
        let _ = pair.step(Instant::from_millis(10), Event::Timeout);
        assert_eq!(pair.role(), role, "{candidates:?}");
    }
}

#[test]
fn a_master_that_loses_its_lease_asks_again_and_gives_way() {
    check(
        &[
            (0, Event::Started),
            (300, Event::Timeout),
            (310, Event::Held(Epoch(1))),
            (900, Event::Lost(Why::Expired)),
            (950, heard(true)),
            (951, said(Role::Master)),
            (952, Event::Held(Epoch(9))),
            (960, said(Role::Contending)),
            (970, Event::Stopped),
        ],
        "0 starting   Started
       300 contending NoMasterHeard, hold
       310 master     RegisterWon { epoch: Epoch(1) }
       900 contending LeaseExpired, hold
       950 contending
       951 slave      follow, MasterHeard { master: NodeId(1) }
       952 slave      follow
       960 contending MasterResigned { master: NodeId(1) }, hold
       970 stopped    follow, Stopped",
    );
}

/// Walks every sequence of events: the register decides who is master, and every edge is walked (X14).
#[test]
fn every_short_story_asks_before_it_acts() {
    let alphabet = vec![
        Event::Started,
        Event::Stopped,
        heard(true),
        heard(false),
        said(Role::Master),
        said(Role::Slave),
        Event::Held(Epoch(5)),
        Event::Lost(Why::Expired),
        leased(100),
        Event::FenceAnswered { fenced: GONE, confirmed: true },
        Event::Timeout,
    ];
    let (mut walked, mut steps) = (BTreeSet::new(), 0);
    let mut frontier = vec![(Pair::new(settings()), false, false)];
    for depth in 1..=10_u64 {
        let (mut next, mut seen) = (Vec::new(), BTreeSet::new());
        for (pair, asked, held) in &frontier {
            for &event in &alphabet {
                let (mut pair, mut asked, mut held) = (pair.clone(), *asked, *held);
                // A register that was not asked for is not won; one that is not held is not lost.
                if matches!(event, Event::Held(_)) && !asked || matches!(event, Event::Lost(_)) && !held {
                    continue;
                }
                let mut at = pair.role();
                let actions = pair.step(Instant::from_millis(depth * 400), event);
                held = (held || matches!(event, Event::Held(_))) && !matches!(event, Event::Lost(_));
                for action in actions.iter() {
                    match action {
                        Action::Hold => asked = true,
                        Action::Follow => (asked, held) = (false, false),
                        Action::Fence(_) => assert_eq!(pair.role(), Role::Contending),
                        Action::Activate { .. } => assert_eq!(pair.role(), Role::Master),
                        Action::Role { role, .. } => {
                            walked.insert((at.name(), role.name()));
                            at = *role;
                        }
                    }
                }
                assert_eq!(at, pair.role(), "a change of role was not told");
                assert!(pair.role() != Role::Master || held, "master without the register");
                steps += 1;
                if seen.insert(format!("{pair:?}{asked}{held}")) {
                    next.push((pair, asked, held));
                }
            }
        }
        frontier = next;
    }
    let allowed: BTreeSet<_> = EDGES.iter().copied().collect();
    assert_eq!(walked, allowed, "an edge is unreachable or unlisted");
    assert!(steps > 10_000, "the walk collapsed: {steps} steps");
}

/// The picture in the documentation is printed from the code. `UPDATE=1` rewrites it.
#[test]
fn picture_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/monitor/pair.edges.txt");
    let drawn: String = EDGES.iter().map(|(from, to)| format!("{from:>10} -> {to}\n")).collect();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &drawn).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), drawn, "run with UPDATE=1");
}
