//! A small site for the tests of this module: voters and seats, a network that can lose, repeat and reorder,
//! drifting clocks, restarts. One seed determines everything.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use super::acceptor::{self, Acceptor};
use super::message::{Answer, Request, Start};
use super::record::Payload;
use super::seat::{self, Seat, Verdict, Why, Wish};
use super::store::Stored;
use super::voters::{Life, Set};
use crate::id::{Epoch, NodeId, RegisterId};
use crate::time::{Drift, Instant};

pub const REGISTER: RegisterId = RegisterId(1);
pub const LEASE: Duration = Duration::from_millis(600);
/// The worst allowed, so that a missing margin shows.
const DRIFT: u32 = 100_000;

/// A xorshift sequence.
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[derive(Clone, Debug)]
pub enum Message {
    Request(Request),
    Answer(Answer),
}

#[derive(Clone, Debug)]
pub struct Sent {
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
}

/// A node: a voter on a disk, and perhaps a seat.
pub struct Machine {
    pub voter: Acceptor<4>,
    pub disk: BTreeMap<u16, Stored>,
    pub seat: Option<Seat>,
    pub wish: Wish,
    /// Parts per million that this clock runs fast (or slow).
    rate: i64,
    pub up: bool,
    pub life: Life,
    pub start: Start,
}

/// How the machine above decides.
#[derive(Clone, Copy, Debug)]
pub enum Verdicts {
    Take,
    Leave,
    Late,
}

pub struct Site {
    /// Whose disk was replaced.
    pub wiped: Option<NodeId>,
    /// Who never starts again.
    pub dead: Option<NodeId>,
    pub verdicts: Verdicts,
    pub machines: BTreeMap<NodeId, Machine>,
    pub wire: Vec<Sent>,
    /// True time, microseconds.
    pub now: u64,
    pub chance: Chance,
    /// Nodes that cannot be reached and reach nobody.
    pub cut: BTreeSet<NodeId>,
    /// What happened, for the stories.
    pub log: Vec<(NodeId, seat::Action)>,
    pub edges: BTreeSet<(&'static str, &'static str)>,
    pub held_epochs: BTreeMap<Epoch, NodeId>,
}

pub fn founders(voters: u16) -> Set {
    Set::on((1..=voters).map(NodeId)).unwrap()
}

impl Site {
    /// `voters` voters; the first two nodes have seats.
    pub fn new(voters: u16, seed: u64) -> Self {
        let mut chance = Chance(seed.max(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut machines = BTreeMap::new();
        for node in (1..=voters).map(NodeId) {
            let rate = i64::try_from(chance.below(2 * u64::from(DRIFT) + 1)).unwrap() - i64::from(DRIFT);
            let life = Life(u32::from(node.0) + 100);
            let voter = Acceptor::new(Instant::ZERO, settings(life), []);
            let disk = BTreeMap::new();
            let wish = Wish::Follow;
            let mut machine =
                Machine { voter, disk, seat: None, wish, rate, up: true, life, start: Start(1) };
            if node.0 <= 2 {
                machine.seat = Some(Seat::new(Instant::ZERO, seat_settings(node, voters, Start(1)), None));
            }
            machines.insert(node, machine);
        }
        Self {
            wiped: None,
            dead: None,
            verdicts: Verdicts::Take,
            machines,
            wire: Vec::new(),
            now: 0,
            chance,
            cut: BTreeSet::new(),
            log: Vec::new(),
            edges: BTreeSet::new(),
            held_epochs: BTreeMap::new(),
        }
    }

    pub fn machine(&mut self, node: u16) -> &mut Machine {
        self.machines.get_mut(&NodeId(node)).unwrap()
    }

    /// The clock of `node`.
    pub fn clock(&self, node: NodeId) -> Instant {
        let rate = self.machines[&node].rate;
        let now = i64::try_from(self.now).unwrap();
        Instant::from_micros(
            u64::try_from(now + now / 1_000_000 * rate + now % 1_000_000 * rate / 1_000_000).unwrap(),
        )
    }

    /// Gives a voter a seat.
    pub fn seat_at(&mut self, node: NodeId) {
        let (now, voters) = (self.clock(node), u16::try_from(self.machines.len()).unwrap());
        let machine = self.machine(node.0);
        let known = machine.voter.accepted(REGISTER);
        machine.seat = Some(Seat::new(now, seat_settings(node, voters, machine.start), known));
    }

    pub fn want(&mut self, node: u16, wish: Wish) {
        self.machine(node).wish = wish;
        self.seat_step(NodeId(node), seat::Event::Want(wish));
    }

    pub fn seat_step(&mut self, node: NodeId, event: seat::Event) {
        let now = self.clock(node);
        let Some(seat) = self.machines.get_mut(&node).and_then(|machine| machine.seat.as_mut()) else {
            return;
        };
        let before = seat.mode().name();
        let actions = seat.step(now, event);
        let after = seat.mode().name();
        if (before, after) == ("writing", "following") {
            // Won, and no longer wanted: held and given back in one step.
            self.edges.extend([("writing", "holding"), ("holding", "following")]);
        } else if before != after {
            self.edges.insert((before, after));
        }
        for action in actions {
            match &action {
                seat::Action::Ask { to, request } => {
                    let message = Message::Request(request.clone());
                    self.wire.push(Sent { from: node, to: *to, message });
                }
                seat::Action::Decide { .. } => match self.verdicts {
                    Verdicts::Take => {
                        self.seat_step(node, seat::Event::Decided(Verdict::Take(Payload::new())))
                    }
                    Verdicts::Leave => self.seat_step(node, seat::Event::Decided(Verdict::Leave)),
                    Verdicts::Late => {}
                },
                seat::Action::Held(record) => {
                    let holder = *self.held_epochs.entry(record.epoch).or_insert(node);
                    assert_eq!(holder, node, "two holders in one epoch (I1)");
                }
                seat::Action::Lost(_) | seat::Action::Seen(_) => {}
            }
            self.log.push((node, action));
        }
    }

    /// Delivers the message at `index` of the wire.
    pub fn deliver(&mut self, index: usize) {
        let sent = self.wire.remove(index);
        self.arrive(sent);
    }

    pub fn arrive(&mut self, sent: Sent) {
        let Sent { from, to, message } = sent;
        let cut = from != to && (self.cut.contains(&from) || self.cut.contains(&to));
        if cut || !self.machines.get(&to).is_some_and(|machine| machine.up) {
            return;
        }
        match message {
            Message::Answer(answer) => self.seat_step(to, seat::Event::Answered { from, answer }),
            Message::Request(request) => self.voter_step(to, acceptor::Event::Asked { from, request }),
        }
    }

    fn voter_step(&mut self, node: NodeId, event: acceptor::Event) {
        let now = self.clock(node);
        let machine = self.machines.get_mut(&node).unwrap();
        for action in machine.voter.step(now, event) {
            match action {
                acceptor::Action::Persist { id, place, stored } => {
                    self.machines.get_mut(&node).unwrap().disk.insert(place, stored);
                    self.voter_step(node, acceptor::Event::Persisted(id));
                }
                acceptor::Action::Answer { to, answer } => {
                    self.wire.push(Sent { from: node, to, message: Message::Answer(answer) });
                }
            }
        }
    }

    /// Delivers everything, in order, until nothing is under way.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.wire.is_empty() {
                return;
            }
            self.deliver(0);
        }
        panic!("the site never settles");
    }

    /// Lets time pass in steps, with timeouts and all messages delivered.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + u64::try_from(time.as_micros()).unwrap();
        while self.now < end {
            self.now += 5_000;
            self.timeouts();
            self.settle();
            self.check();
        }
    }

    pub fn timeouts(&mut self) {
        for node in self.machines.keys().copied().collect::<Vec<_>>() {
            if self.machines[&node].up {
                self.seat_step(node, seat::Event::Timeout);
            }
        }
    }

    /// Power off and on: what is left is the disk.
    pub fn restart(&mut self, node: NodeId) {
        if self.dead == Some(node) {
            return;
        }
        let (now, voters) = (self.clock(node), u16::try_from(self.machines.len()).unwrap());
        let machine = self.machines.get_mut(&node).unwrap();
        machine.voter = Acceptor::new(now, settings(machine.life), machine.disk.values().cloned());
        machine.start = Start(machine.start.0 + 1);
        if machine.seat.is_some() {
            let known = machine.voter.accepted(REGISTER);
            machine.seat = Some(Seat::new(now, seat_settings(node, voters, machine.start), known));
        }
        machine.up = true;
        let wish = machine.wish;
        self.seat_step(node, seat::Event::Want(wish));
    }

    /// One disk in a run is lost, and not before all others know a record: a majority that was never heard,
    /// or has forgotten all, would be a new site.
    pub fn may_wipe(&self, node: NodeId) -> bool {
        let knows = |machine: &Machine| machine.voter.accepted(REGISTER).is_some();
        let others_know = self.machines.iter().all(|(other, machine)| *other == node || knows(machine));
        self.wiped.is_none_or(|wiped| wiped == node) && others_know
    }

    /// The disk is replaced by an empty one: the voter has another life.
    pub fn wipe(&mut self, node: NodeId) {
        self.wiped = Some(node);
        let machine = self.machine(node.0);
        machine.disk.clear();
        machine.life = Life(machine.life.0 + 100);
        self.restart(node);
    }

    pub fn holders(&self) -> Vec<NodeId> {
        let holds = |(node, machine): (&NodeId, &Machine)| {
            let seat = machine.seat.as_ref().filter(|_| machine.up)?;
            seat.holds(self.clock(*node)).map(|_| *node)
        };
        self.machines.iter().filter_map(holds).collect()
    }

    /// I1, I5, V3: at no true instant do two nodes hold the register.
    pub fn check(&self) {
        let holders = self.holders();
        assert!(holders.len() <= 1, "at {} us {holders:?} hold the register", self.now);
    }

    /// What seats gained and lost, as text.
    pub fn told(&self) -> Vec<std::string::String> {
        let line = |(node, action): &(NodeId, seat::Action)| match action {
            seat::Action::Held(record) => Some(std::format!("{} holds {}", node.0, record.epoch.0)),
            seat::Action::Lost(Why::Expired) => Some(std::format!("{} expired", node.0)),
            seat::Action::Lost(Why::Released) => Some(std::format!("{} released", node.0)),
            seat::Action::Lost(Why::Outranked) => Some(std::format!("{} outranked", node.0)),
            seat::Action::Ask { .. } | seat::Action::Decide { .. } | seat::Action::Seen(_) => None,
        };
        self.log.iter().filter_map(line).collect()
    }
}

fn settings(life: Life) -> acceptor::Settings {
    acceptor::Settings { life, lease_max: LEASE, drift: Drift::from_ppm(DRIFT).unwrap() }
}

fn seat_settings(me: NodeId, voters: u16, start: Start) -> seat::Settings {
    seat::Settings {
        register: REGISTER,
        me,
        start,
        founders: founders(voters),
        lease: LEASE,
        renew: Duration::from_millis(150),
        answer_max: Duration::from_millis(100),
        watch: Duration::from_millis(300),
        backoff: Duration::from_millis(40),
        stale: None,
        drift: Drift::from_ppm(DRIFT).unwrap(),
        seed: u64::from(me.0) * 77,
    }
}
