//! The site of this model: seats, voters and clocks, and what is under way between them.

use std::hash::Hash;
use std::time::Duration;

use bulkhead_core::id::{NodeId, RegisterId};
use bulkhead_core::monitor::alone;
use bulkhead_core::register::acceptor::{self, Acceptor};
use bulkhead_core::register::ballot::Ballot;
use bulkhead_core::register::message::{Answer, Ask, AskId, Fenced, Request, Start};
use bulkhead_core::register::record::Payload;
use bulkhead_core::register::seat::{self, Mode, Seat, Verdict, Wait, Why};
use bulkhead_core::register::store::Stored;
use bulkhead_core::register::voters::{Life, Set, Voter as Named};
use bulkhead_core::time::{Drift, Instant};

use crate::run::Reached;
use crate::shared::Shared;

use super::Bounds;

pub(super) const REGISTER: RegisterId = RegisterId(1);
pub(super) const LEASE: Duration = Duration::from_millis(600);
/// Where there is a fencing device, a lease that was not renewed for this long is asked for again.
const STALE: Duration = Duration::from_millis(200);
/// True time that no lease ends before, however fast the clocks of its voters are.
pub(super) const LEASED_TICKS: u8 = 5;
/// Nodes 0 and 1 have seats; 2 is the witness.
pub(super) const NODES: usize = 3;
pub(super) const SEATS: usize = 2;

pub(super) const HELD: [u32; SEATS] = [0, 1];
pub(super) const LEASED: u32 = 2;
pub(super) const EXPIRED: u32 = 3;
pub(super) const RENEWED: u32 = 4;
pub(super) const HELD_AGAIN: u32 = 5;
pub(super) const UNKNOWN_START: u32 = 6;
pub(super) const ALONE: u32 = 7;

#[derive(Clone, Debug)]
pub(super) struct Voter {
    pub(super) machine: Acceptor<1>,
    pub(super) disk: Option<Stored>,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Message {
    from: usize,
    to: usize,
    body: Body,
}

#[derive(Clone, Debug, Hash)]
pub(super) enum Body {
    Request(Request),
    Answer(Answer),
}

/// The whole site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) tick: u8,
    pub(super) fast: [bool; NODES],
    pub(super) voters: [Shared<Voter>; NODES],
    pub(super) seats: [Shared<Seat>; SEATS],
    pub(super) starts: [u8; SEATS],
    /// Questions whose answers may still count.
    pub(super) open: [Vec<AskId>; SEATS],
    pub(super) wire: Vec<Shared<Message>>,
    pub(super) rounds: [u8; SEATS],
    pub(super) renewals: u8,
    pub(super) voter_restarts: u8,
    pub(super) restarts: u8,
    pub(super) releases: u8,
    pub(super) revotes: u8,
}

fn id(place: usize) -> NodeId {
    NodeId(u16::try_from(place).unwrap_or(u16::MAX).saturating_add(1))
}

fn life(place: usize) -> Life {
    Life(u32::from(id(place).0).saturating_add(100))
}

fn drift() -> Drift {
    Drift::MAX
}

/// All voters, each in its life: as when the site has run before.
fn founders() -> Set {
    let all = (0..NODES).map(|place| Named { node: id(place), life: life(place) });
    Set::new(all).unwrap_or_else(|_| unreachable!("three different nodes are a set"))
}

fn start(place: usize, count: u8) -> Start {
    Start(u64::from(id(place).0) * 1_000 + u64::from(count))
}

fn seat_settings(place: usize, count: u8, fenced: bool) -> seat::Settings {
    seat::Settings {
        register: REGISTER,
        me: id(place),
        start: start(place, count),
        founders: founders(),
        lease: LEASE,
        renew: Duration::from_millis(90),
        answer_max: Duration::from_millis(200),
        watch: Duration::from_secs(10),
        backoff: Duration::from_millis(40),
        stale: fenced.then_some(STALE),
        drift: drift(),
        seed: 1,
    }
}

impl Voter {
    pub(super) fn start(now: Instant, place: usize, disk: Option<Stored>) -> Self {
        let settings = acceptor::Settings { life: life(place), lease_max: LEASE, drift: drift() };
        Self { machine: Acceptor::new(now, settings, disk.clone()), disk }
    }

    pub(super) fn share(self, now: Instant) -> Shared<Self> {
        Shared::new(self, |voter, hasher| voter.machine.hash_at(now, hasher))
    }
}

fn share(seat: Seat) -> Shared<Seat> {
    Shared::new(seat, |seat, hasher| seat.hash(hasher))
}

impl Message {
    pub(super) fn share(self) -> Shared<Self> {
        Shared::new(self, |message, hasher| message.hash(hasher))
    }
}

impl State {
    pub(super) fn new(bounds: &Bounds, fast: [bool; NODES]) -> Self {
        let now = Instant::from_micros(0);
        let seat = |place| share(Seat::new(now, seat_settings(place, 1, bounds.fenced), None));
        Self {
            tick: 0,
            fast,
            voters: [0, 1, 2].map(|place| Voter::start(now, place, None).share(now)),
            seats: [seat(0), seat(1)],
            starts: [1; SEATS],
            open: [Vec::new(), Vec::new()],
            wire: Vec::new(),
            rounds: bounds.rounds,
            renewals: bounds.renewals,
            voter_restarts: bounds.voter_restarts,
            restarts: bounds.restarts,
            releases: bounds.releases,
            revotes: bounds.revotes,
        }
    }

    /// The clock of a node.
    pub(super) fn clock(&self, place: usize) -> Instant {
        let rate = if self.fast[place] { 110_000 } else { 90_000 };
        Instant::from_micros(u64::from(self.tick) * rate)
    }

    /// Whether the second seat holds while the lease of the first would still run.
    pub(super) fn is_taken_early(&self) -> bool {
        self.tick < LEASED_TICKS && self.seats[1].get().holds(self.clock(1)).is_some()
    }

    pub(super) fn holders(&self) -> usize {
        let holds = |place: &usize| self.seats[*place].get().holds(self.clock(*place)).is_some();
        (0..SEATS).filter(holds).count()
    }

    pub(super) fn send(&mut self, from: usize, to: usize, body: Body) {
        self.wire.push(Message { from, to, body }.share());
    }

    pub(super) fn seat_step(&mut self, place: usize, event: seat::Event, reached: &Reached) {
        let now = self.clock(place);
        let mut events = vec![event];
        while !events.is_empty() {
            let mut seat = self.seats[place].get().clone();
            let before = seat.mode().name();
            let left = seat.left(now);
            let (mut own, mut asked) = (Vec::new(), self.open[place].clone());
            let mut next = Vec::new();
            for action in seat.step(now, events.remove(0)) {
                if let seat::Action::Ask { request, .. } = &action
                    && !asked.contains(&request.ask)
                {
                    asked.push(request.ask);
                }
                match action {
                    seat::Action::Ask { to, request } if to == id(place) => own.push(request),
                    seat::Action::Ask { to, request } => {
                        self.send(place, usize::from(to.0) - 1, Body::Request(request));
                    }
                    seat::Action::Decide { .. } => {
                        next.push(seat::Event::Decided(Verdict::Take(Payload::new())));
                    }
                    seat::Action::Held(record) => {
                        reached.mark(HELD[place]);
                        if self.starts[place] != 1 {
                            reached.mark(HELD_AGAIN);
                        }
                        if record.voters.current.iter().count() == 1 && record.voters.previous.is_none() {
                            reached.mark(ALONE);
                        }
                    }
                    seat::Action::Lost(Why::Expired) => reached.mark(EXPIRED),
                    seat::Action::Lost(_) | seat::Action::Seen(_) => {}
                }
            }
            if before != "preparing" && seat.mode().name() == "preparing" {
                self.rounds[place] = self.rounds[place].saturating_sub(1);
            }
            if let Mode::Pausing { wait: Wait::Lease(lease), .. } = seat.mode() {
                reached.mark(LEASED);
                if lease.start.is_none() {
                    reached.mark(UNKNOWN_START);
                }
            }
            if before == "holding" && left < seat.left(now) {
                reached.mark(RENEWED);
            }
            self.open[place] = match seat.mode() {
                Mode::Following { .. } | Mode::Deciding(_) | Mode::Pausing { .. } => Vec::new(),
                // Only those of this phase.
                Mode::Preparing(_) | Mode::Writing(_) => asked.last().copied().into_iter().collect(),
                // Renewals under way, and what changes the voters.
                Mode::Holding(_) if before != "holding" => asked.split_off(asked.len() - 1),
                Mode::Holding(_) => asked,
            };
            self.seats[place] = share(seat);
            for request in own {
                let answers = self.voter_step(place, id(place), request);
                next.extend(
                    answers.into_iter().map(|answer| seat::Event::Answered { from: id(place), answer }),
                );
            }
            events.extend(next);
        }
    }

    /// What a voter answers: at once, because its disk is fast.
    pub(super) fn voter_step(&mut self, place: usize, from: NodeId, request: Request) -> Vec<Answer> {
        let now = self.clock(place);
        let mut voter = self.voters[place].get().clone();
        let mut answers = Vec::new();
        let mut events = vec![acceptor::Event::Asked { from, request }];
        while let Some(event) = events.pop() {
            for action in voter.machine.step(now, event) {
                match action {
                    acceptor::Action::Persist { id, stored, .. } => {
                        voter.disk = Some(stored);
                        events.push(acceptor::Event::Persisted(id));
                    }
                    acceptor::Action::Answer { answer, .. } => answers.push(answer),
                }
            }
        }
        self.voters[place] = voter.share(now);
        answers
    }

    pub(super) fn arrive(&mut self, message: &Message, reached: &Reached) {
        match &message.body {
            Body::Request(request) => {
                for answer in self.voter_step(message.to, id(message.from), request.clone()) {
                    self.send(message.to, message.from, Body::Answer(answer));
                }
            }
            Body::Answer(answer) => {
                let event = seat::Event::Answered { from: id(message.from), answer: answer.clone() };
                self.seat_step(message.to, event, reached);
            }
        }
    }

    /// Everything arrives, in the order in which it was sent.
    pub(super) fn settle(&mut self, reached: &Reached) {
        while !self.wire.is_empty() {
            let message = self.wire.remove(0);
            self.arrive(message.get(), reached);
        }
    }

    pub(super) fn tick(&mut self, kept: &[usize]) {
        self.tick += 1;
        self.wire = kept.iter().map(|place| self.wire[*place].clone()).collect();
        // A lease that has ended is no part of what a voter is.
        for place in 0..NODES {
            self.voters[place] = self.voters[place].get().clone().share(self.clock(place));
        }
    }

    /// Every choice of up to `max` messages that stay under way.
    pub(super) fn kept(&self, max: usize) -> Vec<Vec<usize>> {
        let mut choices = vec![Vec::new()];
        for (place, message) in self.wire.iter().enumerate() {
            if place == 0 || self.wire[place - 1] != *message {
                let room = choices.iter().filter(|choice| choice.len() < max);
                let more: Vec<Vec<usize>> = room.map(|choice| [&choice[..], &[place]].concat()).collect();
                choices.extend(more);
            }
        }
        choices
    }

    /// Takes from the wire what can change nothing any more, and puts the rest in order. An answer to a
    /// question that is not open any more counts as lost: all it could tell is how to number the next round.
    pub(super) fn tidy(&mut self) {
        let open = |place: usize, ask: AskId| self.open[place].contains(&ask);
        let voters = &self.voters;
        self.wire.retain(|message| match &message.get().body {
            Body::Answer(answer) => open(message.get().to, answer.ask),
            Body::Request(request) => {
                let Message { from, to, .. } = message.get();
                let promised = voters[*to].get().disk.as_ref().map_or(Ballot::NONE, |stored| stored.promised);
                open(*from, request.ask)
                    || match &request.body {
                        Ask::Prepare { ballot, .. } => promised < *ballot,
                        Ask::Accept { ballot, .. } => promised <= *ballot,
                        Ask::Read => false,
                        Ask::Renew(_) | Ask::Release { .. } => true,
                    }
            }
        });
        self.wire.sort_unstable();
    }

    pub(super) fn restart_voter(&mut self, place: usize) {
        let now = self.clock(place);
        let disk = self.voters[place].get().disk.clone();
        self.voters[place] = Voter::start(now, place, disk).share(now);
    }

    /// Power off and on. Sessions end with it: what was under way to and from it is lost, but for what the
    /// voters still owe.
    pub(super) fn restart(&mut self, place: usize, fenced: bool, reached: &Reached) {
        self.restarts -= 1;
        self.restart_voter(place);
        let ended = Fenced { node: id(place), start: start(place, self.starts[place]) };
        self.starts[place] += 1;
        let known = self.voters[place].get().machine.accepted(REGISTER);
        let settings = seat_settings(place, self.starts[place], fenced);
        self.seats[place] = share(Seat::new(self.clock(place), settings, known));
        self.wire.retain(|message| {
            let Message { from, to, body, .. } = message.get();
            let owed = *to == place && matches!(body, Body::Answer(_));
            owed || (*from != place && *to != place)
        });
        if fenced {
            self.seat_step(1 - place, seat::Event::Fenced(ended), reached);
        }
    }

    /// The voters that the rule of X04 wants instead of the present ones, for every set of nodes that a
    /// holder may hear.
    pub(super) fn wanted(&self, place: usize) -> Vec<Set> {
        let Some(record) = self.seats[place].get().known() else { return Vec::new() };
        let current = &record.voters.current;
        let nodes = |set: &Set| set.iter().map(|voter| voter.node).collect::<Vec<_>>();
        let mut sets = Vec::new();
        for heard in 0..1_u8 << NODES {
            let hears = |node: NodeId| heard & 1 << (node.0 - 1) != 0;
            let set = alone::voters(id(place), &founders(), current, hears);
            if nodes(&set) != nodes(current) && !sets.contains(&set) {
                sets.push(set);
            }
        }
        sets
    }
}
