//! Two ends and a network that loses, repeats, reorders and replays: nothing is delivered twice or changed,
//! and a session always comes back (V22, F31, F39, S1-09).

use core::time::Duration;
use std::collections::BTreeSet;
use std::format;
use std::vec::Vec;

use super::*;
use crate::id::SiteId;
use crate::link::frame::{self, Header, Kind};
use crate::link::hello::Hello;
use crate::link::key::SiteKey;
use crate::link::ring::Pace;
use crate::link::suspicion::Limits;

const SITE: SiteId = SiteId([9; 16]);
const HEARTBEAT: Duration = Duration::from_millis(100);

fn end(me: u16, start: u8, now: u64) -> Links<4> {
    let limits = Limits {
        slow: Duration::from_millis(250),
        silence: Duration::from_millis(500),
        stable: Duration::from_millis(300),
    };
    let key = SiteKey::new([3; 32]);
    let settings =
        Settings { site: SITE, me: NodeId(me), nonce: Nonce([start; 16]), key, heartbeat: HEARTBEAT, limits };
    let mut links = Links::new(Instant::from_millis(now), settings);
    assert!(links.add(Instant::from_millis(now), NodeId(3 - me), Pace::Close));
    links
}

/// Two ends, and what is under way between them.
struct Wire {
    ends: [Links<4>; 2],
    starts: [u8; 2],
    now: u64,
    under_way: Vec<(usize, Path, Datagram)>,
    /// Everything ever sent: what somebody could replay.
    recorded: Vec<(usize, Path, Datagram)>,
    sent: BTreeSet<Vec<u8>>,
    delivered: BTreeSet<(usize, Vec<u8>)>,
    chance: u64,
}

impl Wire {
    fn new(seed: u64) -> Self {
        Self {
            ends: [end(1, 1, 0), end(2, 2, 0)],
            starts: [1, 2],
            now: 0,
            under_way: Vec::new(),
            recorded: Vec::new(),
            sent: BTreeSet::new(),
            delivered: BTreeSet::new(),
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        usize::try_from(self.chance % u64::try_from(bound).unwrap()).unwrap()
    }

    fn send(&mut self, from: usize, path: Option<Path>, datagram: &Datagram) {
        for path in path.map_or(Path::ALL.to_vec(), |path| std::vec![path]) {
            self.under_way.push((1 - from, path, datagram.clone()));
            self.recorded.push((1 - from, path, datagram.clone()));
        }
    }

    fn tick(&mut self, millis: u64) {
        self.now += millis;
        let now = Instant::from_millis(self.now);
        for from in 0..2 {
            while let Some(out) = self.ends[from].next_due(now) {
                self.send(from, out.path, &out.datagram);
            }
            self.ends[from].judge(now, |_, _| {});
        }
    }

    fn say(&mut self, from: usize, text: &[u8]) {
        let to = NodeId(u16::try_from(2 - from).unwrap());
        if let Ok(datagram) = self.ends[from].seal(to, text) {
            self.sent.insert(text.to_vec());
            self.send(from, None, &datagram);
        }
    }

    fn arrive(&mut self, (to, path, datagram): (usize, Path, Datagram)) {
        if let Received::Message { message, .. } =
            self.ends[to].receive(Instant::from_millis(self.now), path, &datagram)
        {
            assert!(self.sent.contains(message), "delivered what nobody sent");
            assert!(self.delivered.insert((to, message.to_vec())), "delivered twice: {message:?}");
        }
    }

    /// A network without delay, and shells that send at once: how many datagrams until all is said.
    fn chatter(&mut self) -> usize {
        let (mut count, now) = (0, Instant::from_millis(self.now));
        self.tick(0);
        while let Some(one) = self.under_way.pop() {
            count += 1;
            assert!(count < 1_000, "they talk for ever");
            let to = one.0;
            self.arrive(one);
            while let Some(out) = self.ends[to].next_due(now) {
                self.send(to, out.path, &out.datagram);
            }
        }
        count
    }

    fn restart(&mut self, which: usize) {
        self.starts[which] += 2;
        self.ends[which] = end(u16::try_from(which + 1).unwrap(), self.starts[which], self.now);
    }

    fn connected(&self) -> bool {
        let spoken = |end: usize, other: usize| {
            let node = NodeId(u16::try_from(other + 1).unwrap());
            self.ends[end].start_of(node) == Some(Nonce([self.starts[other]; 16]).mark())
        };
        spoken(0, 1) && spoken(1, 0)
    }

    /// A good network for a while.
    fn heal(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.tick(50);
            while let Some(one) = self.under_way.pop() {
                self.arrive(one);
            }
        }
    }
}

#[test]
fn two_nodes_find_each_other_and_talk() {
    let mut wire = Wire::new(1);
    assert_eq!(wire.ends[0].seal(NodeId(2), b"early"), Err(NoSession));
    wire.heal(10);
    assert!(wire.connected());
    assert!(wire.ends[0].contacted(NodeId(2)));
    assert_eq!(wire.ends[0].verdict(NodeId(2)), Verdict::Up);
    wire.say(0, b"hello");
    wire.heal(1);
    assert_eq!(wire.delivered.len(), 1);
    assert!(wire.ends[1].drops().repeated >= 1, "the copy on the other path");
    assert_eq!(wire.ends[1].drops().not_authentic, 0);
}

/// V16: neither a handshake, nor a restart, nor the end of a long cut sets off more than a few datagrams,
/// however fast the network is.
#[test]
fn a_handshake_is_short() {
    let mut wire = Wire::new(12);
    let first = wire.chatter();
    assert!(wire.connected() && first <= 16, "{first} datagrams");
    wire.heal(40);
    wire.restart(1);
    let again = wire.chatter();
    assert!(wire.connected() && again <= 24, "{again} datagrams");
    wire.heal(40);
    for _ in 0..100 {
        wire.tick(50);
        wire.under_way.clear();
    }
    for _ in 0..40 {
        wire.now += 10;
        let healed = wire.chatter();
        assert!(healed <= 24, "{healed} datagrams");
    }
    assert_eq!(wire.ends[0].verdict(NodeId(2)), Verdict::Up);
}

/// F39: recordings of an earlier start end no session, and deliver nothing.
#[test]
fn a_recording_is_worth_nothing() {
    let mut wire = Wire::new(2);
    wire.heal(10);
    wire.say(0, b"once");
    wire.heal(2);
    let recorded = wire.recorded.clone();
    wire.restart(0);
    wire.heal(10);
    assert!(wire.connected());
    for one in recorded.clone().into_iter().chain(recorded) {
        wire.arrive(one);
        assert!(wire.connected(), "a recording ended a session");
    }
    assert_eq!(wire.delivered.len(), 1);
    wire.heal(5);
    assert!(wire.connected());
}

/// Loss, repetition, reordering, replay, restarts, in any order: at most once, nothing foreign; and when the
/// network is good again the two speak within a second.
#[test]
fn every_disorder_ends_in_a_session() {
    for seed in 1..=300 {
        let mut wire = Wire::new(seed);
        for step in 0..300_u32 {
            match wire.below(12) {
                0..=2 => wire.tick(30),
                3 | 4 => {
                    let from = wire.below(2);
                    wire.say(from, &step.to_le_bytes());
                }
                5 if wire.below(6) == 0 => {
                    let which = wire.below(2);
                    wire.restart(which);
                }
                6 if !wire.recorded.is_empty() => {
                    let index = wire.below(wire.recorded.len());
                    wire.arrive(wire.recorded[index].clone());
                }
                7 if !wire.under_way.is_empty() => {
                    let index = wire.below(wire.under_way.len());
                    wire.under_way.swap_remove(index);
                }
                5.. if !wire.under_way.is_empty() => {
                    let index = wire.below(wire.under_way.len());
                    let one = wire.under_way.swap_remove(index);
                    wire.arrive(one);
                }
                5.. => {}
            }
        }
        wire.heal(20);
        assert!(wire.connected(), "seed {seed}");
        assert!(wire.ends.iter().all(|end| end.drops().malformed == 0));
    }
}

/// V22, F32: a frame of which one bit was changed, or that was cut, changes nothing but the count of drops.
/// Every kind of frame, from the first hello on.
#[test]
fn a_bent_frame_changes_nothing() {
    let mut wire = Wire::new(4);
    let mut kinds = 0;
    for round in 0..8_u8 {
        wire.tick(50);
        wire.say(0, &[b't', round]);
        wire.say(1, &[b'a', round]);
        while let Some((to, path, datagram)) = wire.under_way.pop() {
            let mut end = wire.ends[to].clone();
            let state = |end: &Links<4>| format!("{:?}", Links { drops: Drops::default(), ..end.clone() });
            let before = state(&end);
            let now = Instant::from_millis(wire.now);
            for bit in 0..datagram.len() * 8 {
                let mut bent = datagram.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(end.receive(now, path, &bent), Received::Dropped(_)), "bit {bit}");
            }
            for len in 0..datagram.len() {
                assert!(matches!(end.receive(now, path, &datagram[..len]), Received::Dropped(_)));
            }
            assert_eq!(state(&end), before);
            kinds += 1;
            wire.arrive((to, path, datagram));
        }
    }
    assert!(wire.connected());
    assert!(40 < kinds, "only {kinds} frames were bent");
    assert_eq!(wire.delivered.len(), wire.sent.len());
}

/// F39: a recording does not keep a dead peer alive.
#[test]
fn a_recording_is_no_sign_of_life() {
    let mut wire = Wire::new(6);
    wire.heal(20);
    let recorded: Vec<_> = wire.recorded.iter().filter(|(to, ..)| *to == 0).cloned().collect();
    for _ in 0..20 {
        wire.tick(50);
        wire.under_way.clear();
        for one in recorded.clone() {
            wire.arrive(one);
        }
    }
    assert_eq!(wire.ends[0].verdict(NodeId(2)), Verdict::Silent);
}

/// S2-07, F39: who was removed and is added again begins a new session; nothing of the old one counts.
#[test]
fn a_peer_that_comes_back_begins_anew() {
    for who in [0, 1] {
        let mut wire = Wire::new(7);
        wire.heal(10);
        wire.say(1 - who, b"before");
        wire.heal(1);
        assert_eq!(wire.delivered.len(), 1);
        let recorded = wire.recorded.clone();
        let now = Instant::from_millis(wire.now);
        let node = wire.ends[who].peers().next().unwrap();
        wire.ends[who].remove(node);
        assert_eq!(wire.ends[who].seal(node, b"none"), Err(NoSession));
        assert!(wire.ends[who].add(now, node, Pace::Close));
        for one in recorded.iter().cloned().chain(recorded.iter().rev().cloned()) {
            wire.arrive(one);
        }
        wire.heal(20);
        assert!(wire.connected());
        for one in recorded {
            wire.arrive(one);
        }
        wire.say(0, b"after");
        wire.say(1, b"after too");
        wire.heal(1);
        assert_eq!(wire.delivered.len(), 3);
        assert!(wire.ends.iter().all(|end| end.restarts(node) == 0), "nobody restarted");
    }
}

/// F39: an answer of an earlier start, late, takes away the doubt that the later start has raised; the two
/// come together nevertheless.
#[test]
fn a_late_answer_of_an_earlier_start_parts_nobody() {
    let mut wire = Wire::new(11);
    wire.heal(10);
    wire.restart(0);
    wire.heal(10);
    let recorded = wire.recorded.clone();
    wire.restart(0);
    wire.heal(10);
    // A recording raises a doubt. The answer to the challenge that follows is held back.
    let is_hello = |one: &(usize, Path, Datagram)| Frame::parse(&one.2).unwrap().header.kind == Kind::Hello;
    wire.restart(1);
    wire.heal(10);
    for one in recorded.into_iter().filter(|one| one.0 == 1 && is_hello(one)) {
        wire.arrive(one);
    }
    wire.tick(10);
    let asked: Vec<_> = wire.under_way.drain(..).filter(is_hello).collect();
    asked.into_iter().for_each(|one| wire.arrive(one));
    wire.tick(10);
    let held: Vec<_> = wire.under_way.drain(..).filter(|one| one.0 == 1 && is_hello(one)).collect();
    assert!(!held.is_empty(), "the doubt was answered");
    // The next start: its hello arrives and is answered, its own answer is lost.
    wire.restart(0);
    for _ in 0..2 {
        wire.tick(10);
        for one in wire.under_way.drain(..).collect::<Vec<_>>() {
            wire.arrive(one);
        }
    }
    wire.tick(10);
    wire.under_way.clear();
    held.into_iter().for_each(|one| wire.arrive(one));
    wire.heal(20);
    assert!(wire.connected());
}

/// F54: two nodes of one name take turns only once; the operator sees it.
#[test]
fn two_nodes_of_one_name_are_noticed() {
    let mut wire = Wire::new(8);
    wire.heal(10);
    let twin = wire.ends[0].clone();
    wire.restart(0);
    wire.heal(10);
    assert!(wire.connected());
    assert_eq!(wire.ends[1].restarts(NodeId(1)), 1);
    let newer = core::mem::replace(&mut wire.ends[0], twin);
    wire.heal(40);
    let spoken = wire.ends[1].start_of(NodeId(1));
    assert_eq!(spoken, Some(Nonce([3; 16]).mark()), "the earlier start is not taken back");
    assert!(0 < wire.ends[1].drops().earlier_start, "the operator can see it");
    wire.ends[0] = newer;
    wire.heal(10);
    assert!(wire.connected());
}

/// V41, F30: a release that speaks nothing this one speaks is refused by name, whatever else it says.
#[test]
fn a_release_too_new_is_refused_by_name() {
    let mut links = end(1, 1, 0);
    let key = SiteKey::new([3; 32]).between(NodeId(1), NodeId(2));
    let header = Header { kind: Kind::Hello, site: SITE, from: NodeId(2), to: NodeId(1), counter: 0 };
    let versions = Versions { low: 7, high: 9 };
    let challenge = Some(Nonce([8; 16]));
    let hello = Hello { nonce: Nonce([2; 16]), forgotten: 0, challenge, answer: None, versions };
    let datagram = frame::seal(&header, &[&hello.encode()], &key);
    let received = links.receive(Instant::ZERO, Path::One, &datagram);
    assert_eq!(received, Received::Dropped(Drop::NoCommonVersion));
    assert_eq!(links.refused(NodeId(2)), Some(versions));
    assert!(!links.contacted(NodeId(2)));
    assert_eq!(links.drops().no_common_version, 1);
}

/// F19, X07: after a sleep of its own a node does not take its own delay for the peer's.
#[test]
fn a_sleep_is_not_a_slow_peer() {
    let mut wire = Wire::new(9);
    wire.heal(20);
    let status = |wire: &Wire| wire.ends[0].path(NodeId(2), Path::One).unwrap();
    assert_eq!(status(&wire).round_trips, Some((Duration::ZERO, Duration::ZERO)));
    wire.tick(50);
    for _ in 0..600 {
        wire.now += 50;
        let now = Instant::from_millis(wire.now);
        while let Some(out) = wire.ends[1].next_due(now) {
            wire.send(1, out.path, &out.datagram);
        }
        wire.ends[1].judge(now, |_, _| {});
    }
    let waiting = core::mem::take(&mut wire.under_way);
    wire.ends[0].judge(Instant::from_millis(wire.now), |node, verdict| panic!("{node:?} is {verdict:?}"));
    for one in waiting {
        wire.arrive(one);
    }
    wire.heal(1);
    assert_eq!(wire.ends[0].verdict(NodeId(2)), Verdict::Up);
    assert_eq!(wire.ends[0].silences(NodeId(2)), 0);
    assert_eq!(wire.ends[1].silences(NodeId(1)), 1, "the one that was awake was right to suspect");
    assert!(status(&wire).round_trip.unwrap() < Duration::from_millis(50));
}

/// X07: of two paths the better one counts, as long as it works.
#[test]
fn a_path_that_is_gone_hides_no_slowness() {
    let mut wire = Wire::new(10);
    wire.heal(20);
    // Path one is cut, and path two takes 200 ms each way.
    let mut later: Vec<(u64, (usize, Path, Datagram))> = Vec::new();
    for _ in 0..80 {
        wire.tick(50);
        let due = wire.now + 200;
        later.extend(wire.under_way.drain(..).filter(|one| one.1 == Path::Two).map(|one| (due, one)));
        let (come, rest) = later.into_iter().partition(|(due, _)| *due <= wire.now);
        later = rest;
        let come: Vec<_> = come;
        for (_, one) in come {
            wire.arrive(one);
        }
    }
    assert_eq!(wire.ends[0].verdict(NodeId(2)), Verdict::Slow);
    assert_eq!(wire.ends[0].silences(NodeId(2)), 0);
}

/// V16: nobody answers; the node asks less and less often, and stays answerable. Every deadline is ahead.
#[test]
fn nobody_there_costs_little() {
    let mut links = end(1, 1, 0);
    let mut now = Instant::ZERO;
    let mut hellos = 0;
    while now < Instant::from_millis(60_000) {
        while links.next_due(now).is_some() {
            hellos += 1;
        }
        links.judge(now, |_, _| {});
        let next = links.deadline().unwrap();
        assert!(now < next, "a deadline that is not ahead makes the shell spin");
        now = next;
    }
    assert!((70..90).contains(&hellos), "{hellos} hellos in a minute");
}

/// F35, S3-02: one path is enough; both gone is silence.
#[test]
fn one_path_is_enough() {
    let mut wire = Wire::new(5);
    wire.heal(10);
    for _ in 0..40 {
        wire.tick(50);
        for one in std::mem::take(&mut wire.under_way) {
            if one.1 == Path::Two {
                wire.arrive(one);
            }
        }
    }
    assert_eq!(wire.ends[0].verdict(NodeId(2)), Verdict::Up);
    for _ in 0..20 {
        wire.tick(50);
        wire.under_way.clear();
    }
    assert_eq!(wire.ends[0].verdict(NodeId(2)), Verdict::Silent);
    assert_eq!(wire.ends[0].silences(NodeId(2)), 1);
    wire.heal(12);
    assert_eq!(wire.ends[0].verdict(NodeId(2)), Verdict::Up);
}

#[test]
fn strangers_are_counted() {
    let mut links = end(1, 1, 0);
    let stranger = SiteKey::new([3; 32]).between(NodeId(1), NodeId(7));
    let header = Header { kind: Kind::Hello, site: SITE, from: NodeId(7), to: NodeId(1), counter: 0 };
    for (site, to) in [(SITE, NodeId(1)), (SITE, NodeId(9)), (SiteId([8; 16]), NodeId(1))] {
        let datagram = frame::seal(&Header { site, to, ..header }, &[&[0; 56]], &stranger);
        let _ = links.receive(Instant::ZERO, Path::One, &datagram);
    }
    let _ = links.receive(Instant::ZERO, Path::One, b"noise");
    assert_eq!(*links.drops(), Drops { stranger: 1, not_for_us: 2, not_a_frame: 1, ..Drops::default() });
}
