//! Every short history of two ends and a network that forgets nothing (V22, F31, F39, S1-09).
//!
//! What was ever sent can arrive, at any time, any number of times, or never: loss, repetition, reordering
//! and replay are one thing here. The ends restart, and forget each other. The model knows what the ends
//! cannot: who is alive, and what was said. From each state, a good network brings both together.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::vec::Vec;

use sha2::{Digest, Sha256};

use super::*;
use crate::id::SiteId;
use crate::link::key::SiteKey;
use crate::link::ring::Pace;
use crate::link::suspicion::Limits;

const HEARTBEAT: Duration = Duration::from_millis(100);
/// Longer than the longest wait between two hellos: in the walk, whatever is repeated is due at each tick.
const TICK: u64 = 1_000;
/// Events in one history: from nothing, and from a session.
const DEPTHS: [u32; 2] = [6, 5];
/// Restarts, and times that a peer is forgotten, at each end; messages of each end.
const RESTARTS: u8 = 1;
const FORGETS: u8 = 1;
const WORDS: u8 = 2;
/// What is under way: more is lost at once.
const SENT_MAX: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Time passes, and this end sends what is due.
    Tick(usize),
    /// The datagram of this number arrives, perhaps again.
    Arrive(usize),
    Restart(usize),
    Forget(usize),
    Say(usize),
}

/// What is true of one end.
#[derive(Clone, Debug)]
struct Truth {
    /// Which start is alive.
    start: u8,
    forgets: u8,
    words: u8,
    /// After how many events this start, or its present record of the peer, began.
    began: u32,
    /// When each earlier start ended.
    ended: Vec<u32>,
}

#[derive(Clone)]
struct World {
    ends: [Links<1>; 2],
    truth: [Truth; 2],
    now: u64,
    events: u32,
    sent: Vec<(usize, Datagram)>,
    delivered: BTreeSet<Vec<u8>>,
}

fn node(end: usize) -> NodeId {
    NodeId(u16::try_from(end + 1).unwrap())
}

fn nonce(end: usize, start: u8) -> Nonce {
    Nonce([u8::try_from(end).unwrap() * 100 + start + 1; 16])
}

fn links(end: usize, start: u8, now: u64) -> Links<1> {
    let limits = Limits {
        slow: Duration::from_millis(250),
        silence: Duration::from_millis(500),
        stable: Duration::from_millis(300),
    };
    let (site, key, nonce) = (SiteId([9; 16]), SiteKey::new([3; 32]), nonce(end, start));
    let now = Instant::from_millis(now);
    let settings = Settings { site, me: node(end), nonce, key, heartbeat: HEARTBEAT, limits };
    let mut links = Links::new(now, settings);
    assert!(links.add(now, node(1 - end), Pace::Close));
    links
}

impl World {
    fn new() -> Self {
        let truth = || Truth { start: 0, forgets: 0, words: 0, began: 0, ended: Vec::new() };
        Self {
            ends: [links(0, 0, 0), links(1, 0, 0)],
            truth: [truth(), truth()],
            now: 0,
            events: 0,
            sent: Vec::new(),
            delivered: BTreeSet::new(),
        }
    }

    fn choices(&self) -> Vec<Event> {
        let mut choices: Vec<_> = (0..self.sent.len()).map(Event::Arrive).collect();
        for (end, truth) in self.truth.iter().enumerate() {
            choices.push(Event::Tick(end));
            if truth.start < RESTARTS {
                choices.push(Event::Restart(end));
            }
            if truth.forgets < FORGETS {
                choices.push(Event::Forget(end));
            }
            if truth.words < WORDS && self.ends[end].contacted(node(1 - end)) {
                choices.push(Event::Say(end));
            }
        }
        choices
    }

    fn after(&self, event: Event) -> Self {
        let mut next = self.clone();
        next.events += 1;
        match event {
            Event::Tick(end) => {
                next.now += TICK;
                next.send_due(end);
            }
            Event::Arrive(number) => {
                let (to, datagram) = next.sent[number].clone();
                next.arrive(to, &datagram);
                next.send_due(to);
            }
            Event::Restart(end) => {
                let truth = &mut next.truth[end];
                truth.start += 1;
                truth.began = next.events;
                truth.ended.push(next.events);
                next.ends[end] = links(end, truth.start, next.now);
            }
            Event::Forget(end) => {
                next.truth[end].forgets += 1;
                next.truth[end].began = next.events;
                next.ends[end].remove(node(1 - end));
                assert!(next.ends[end].add(Instant::from_millis(next.now), node(1 - end), Pace::Close));
            }
            Event::Say(end) => next.say(end),
        }
        next
    }

    fn send(&mut self, from: usize, datagram: Datagram) {
        let one = (1 - from, datagram);
        if self.sent.len() < SENT_MAX && !self.sent.contains(&one) {
            self.sent.push(one);
        }
    }

    fn send_due(&mut self, end: usize) {
        let now = Instant::from_millis(self.now);
        while let Some(out) = self.ends[end].next_due(now) {
            // The second path doubles what the network does anyway.
            if out.path != Some(Path::Two) {
                self.send(end, out.datagram);
            }
        }
        self.ends[end].judge(now, |_, _| {});
    }

    /// A message that nobody else says: by whom, in which start, the how manieth.
    fn say(&mut self, end: usize) {
        let Truth { start, words, .. } = self.truth[end];
        let text = [u8::try_from(end).unwrap(), start, words];
        self.truth[end].words += 1;
        if let Ok(datagram) = self.ends[end].seal(node(1 - end), &text) {
            self.send(end, datagram);
        }
    }

    fn arrive(&mut self, to: usize, datagram: &Datagram) {
        let peer = node(1 - to);
        let before = self.ends[to].start_of(peer);
        let received = self.ends[to].receive(Instant::from_millis(self.now), Path::One, datagram);
        let after = self.ends[to].start_of(peer);
        if before != after {
            self.check_adopted(to, before, after.expect("no datagram ends a session"));
        }
        if let Received::Message { message, .. } = received {
            let [by, start, _] = message[..] else { panic!("delivered what nobody said") };
            assert_eq!(usize::from(by), 1 - to, "delivered in the wrong direction");
            assert_eq!(after, Some(nonce(1 - to, start).mark()), "delivered in another start's session");
            assert!(self.delivered.insert(message.to_vec()), "delivered twice");
        }
    }

    /// A start is adopted only if it was alive after this end began to speak with it, and never after a
    /// later one.
    fn check_adopted(&self, to: usize, before: Option<Mark>, after: Mark) {
        let truth = &self.truth[1 - to];
        let number = |of: Mark| (0..=truth.start).find(|start| nonce(1 - to, *start).mark() == of).unwrap();
        let adopted = number(after);
        assert!(before.is_none_or(|before| number(before) < adopted), "an earlier start came back");
        if let Some(ended) = truth.ended.get(usize::from(adopted)) {
            assert!(self.truth[to].began < *ended, "adopted a start that had ended before");
        }
    }

    /// On a good network the two speak, and each word said then arrives, once.
    fn comes_together(mut self) -> bool {
        self.sent.clear();
        for round in 0..40 {
            self.now += 50;
            for end in 0..2 {
                self.send_due(end);
            }
            for (to, datagram) in core::mem::take(&mut self.sent) {
                self.arrive(to, &datagram);
            }
            let knows = |end: usize| {
                self.ends[end].start_of(node(1 - end))
                    == Some(nonce(1 - end, self.truth[1 - end].start).mark())
            };
            if round % 4 == 3 && knows(0) && knows(1) {
                let before = self.delivered.len();
                for end in 0..2 {
                    self.truth[end].words = self.truth[end].words.max(100) + 1;
                    self.say(end);
                }
                for (to, datagram) in core::mem::take(&mut self.sent) {
                    self.arrive(to, &datagram);
                }
                if self.delivered.len() == before + 2 {
                    return true;
                }
            }
        }
        false
    }
}

struct Walk {
    /// The digests of the states, and how much deeper the walk went from each.
    seen: BTreeMap<[u8; 32], u32>,
    steps: usize,
}

impl Walk {
    fn from(&mut self, world: &World, left: u32, history: &mut Vec<Event>) {
        let state = format!("{:?} {:?} {:?} {:?}", world.ends, world.sent, world.delivered.len(), world.now);
        let state = Sha256::digest(state).into();
        let before = self.seen.insert(state, left);
        if before.is_none() {
            assert!(world.clone().comes_together(), "for ever apart after {history:?}");
        }
        if before.is_some_and(|before| left <= before) {
            self.seen.extend(before.map(|before| (state, before)));
            return;
        }
        if left == 0 {
            return;
        }
        for event in world.choices() {
            history.push(event);
            self.steps += 1;
            self.from(&world.after(event), left - 1, history);
            history.pop();
        }
    }
}

#[test]
fn every_short_history() {
    let mut walk = Walk { seen: BTreeMap::new(), steps: 0 };
    let mut talking = World::new();
    for event in [Event::Tick(0), Event::Arrive(0), Event::Arrive(1), Event::Arrive(2), Event::Say(0)] {
        talking = talking.after(event);
    }
    assert!(talking.ends[0].contacted(node(1)) && talking.ends[1].contacted(node(0)));
    for (world, depth) in [World::new(), talking].iter().zip(DEPTHS) {
        walk.from(world, depth, &mut Vec::new());
        std::println!("{} states, {} steps", walk.seen.len(), walk.steps);
    }
    assert!(50_000 < walk.seen.len(), "the walk collapsed: {} states", walk.seen.len());
}
