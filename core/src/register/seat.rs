//! A seat: this node's side of one register. Follows it, obtains it, keeps it (S2-04, S1-19).
//!
//! This is the narrow interface: above it, nobody knows of ballots or voters. What a machine above may rely
//! on: between [`Action::Held`] and [`Action::Lost`], and only while [`Seat::holds`] says so at the instant
//! of the effect, no other node holds the register (I1, I5).
//!
//! ```text
#![doc = include_str!("seat.edges.txt")]
//! ```

mod force;
mod holder;
mod learning;
mod mode;
mod pausing;
mod words;

use core::time::Duration;

use heapless::Vec;

use super::ballot::Ballot;
use super::lease::Lease;
use super::message::{Answer, Ask, AskId, Fenced, Leased, Millis, Request};
use super::proposer::{Progress, Round};
use super::record::{Payload, Record};
use super::voters::{ASKED_MAX, Set, VOTERS_MAX, Voter, Voters};
use crate::actions::Actions;
use crate::bug::{Bug, is_planted};
use crate::id::{Epoch, NodeId, RegisterId};
use crate::time::Instant;

pub use force::Lost;
pub use mode::{EDGES, Holding, Mode, Wait};
pub use words::{Action, Event, Settings, Verdict, Why, Wish};

/// Most actions of one step: a question to every voter, twice, to every founder once more, and what became of
/// the register.
pub const ACTIONS_MAX: usize = 2 * ASKED_MAX + VOTERS_MAX + 4;

type Todo = Actions<Action, ACTIONS_MAX>;

/// This node's side of one register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seat {
    settings: Settings,
    mode: Mode,
    wish: Wish,
    /// The newest record heard of, which may not be chosen.
    known: Option<Record>,
    /// The lease a voter last told of, and until when it may hold on this node's clock.
    told: Option<(Leased, Instant)>,
    fenced: Option<Fenced>,
    /// The voters to change to.
    revote: Option<Set>,
    /// The payload to change to.
    rewrite: Option<Payload>,
    /// The lives in which voters were heard last.
    lives: Vec<Voter, ASKED_MAX>,
    /// The attempt whose record this node knows to be chosen.
    settled: Option<Ballot>,
    /// The highest round heard of.
    round_max: u64,
    epoch_max: Epoch,
    ask: AskId,
    chance: u64,
    /// How often the machine above had no verdict for it, or left it, since it was wanted.
    left_alone: u32,
    /// Voters are lost for good, as the operator says.
    forcing: Option<force::Forcing>,
}

impl Seat {
    /// A seat that follows. `known` is what this node's own voter holds, if it is one.
    pub fn new(now: Instant, settings: Settings, known: Option<Record>) -> Self {
        let chance = settings.seed.max(1);
        let ask = AskId::before_first(settings.start);
        let epoch_max = known.as_ref().map(|record| record.epoch).unwrap_or_default();
        Self {
            settings,
            mode: Mode::Following { read_at: now },
            wish: Wish::Follow,
            known,
            told: None,
            fenced: None,
            revote: None,
            rewrite: None,
            lives: Vec::new(),
            settled: None,
            round_max: 0,
            epoch_max,
            ask,
            chance,
            left_alone: 0,
            forcing: None,
        }
    }

    /// The current mode.
    pub const fn mode(&self) -> &Mode {
        &self.mode
    }

    /// Which register.
    pub const fn register(&self) -> RegisterId {
        self.settings.register
    }

    /// The newest record heard of. May not be chosen.
    pub const fn known(&self) -> Option<&Record> {
        self.known.as_ref()
    }

    /// The lease that voters told of, while it may still hold.
    pub fn told(&self, now: Instant) -> Option<Leased> {
        self.told.filter(|(_, until)| now < *until).map(|(lease, _)| lease)
    }

    /// The epoch under which this node may act at this very instant, if it may. Asked immediately before
    /// every effect that leaves the process (F19).
    pub fn holds(&self, now: Instant) -> Option<Epoch> {
        match &self.mode {
            Mode::Holding(held) if held.lease.holds(now) => Some(held.record.epoch),
            Mode::Holding(_)
            | Mode::Following { .. }
            | Mode::Preparing(_)
            | Mode::Deciding(_)
            | Mode::Writing(_)
            | Mode::Pausing { .. } => None,
        }
    }

    /// How long this node may act without a further renewal.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.until().map(|until| until.since(now))
    }

    /// The first instant at which this node may not act without a further renewal.
    pub const fn until(&self) -> Option<Instant> {
        match &self.mode {
            Mode::Holding(held) => Some(held.lease.until()),
            Mode::Following { .. }
            | Mode::Preparing(_)
            | Mode::Deciding(_)
            | Mode::Writing(_)
            | Mode::Pausing { .. } => None,
        }
    }

    /// When [`Event::Timeout`] is due.
    pub fn deadline(&self) -> Instant {
        self.forces_at().map_or_else(|| self.due(), |at| at.min(self.due()))
    }

    /// When the mode has something to do.
    fn due(&self) -> Instant {
        match &self.mode {
            Mode::Following { read_at } => *read_at,
            Mode::Preparing(round) | Mode::Deciding(round) | Mode::Writing(round) => self.late_at(round),
            Mode::Pausing { until, .. } => *until,
            Mode::Holding(held) => held.renew_at.min(held.lease.until()),
        }
    }

    /// Takes one event and says what to do.
    pub fn step(&mut self, now: Instant, event: Event) -> Todo {
        let mut todo = Todo::none();
        self.expire(now, &mut todo);
        match event {
            Event::Want(wish) => self.want(now, wish, &mut todo),
            Event::Decided(verdict) => self.decided(now, verdict, &mut todo),
            Event::Force(lost) => self.force(now, lost, &mut todo),
            Event::Revote(set) => self.revote(now, set, &mut todo),
            Event::Rewrite(payload) => self.rewrite(now, payload, &mut todo),
            Event::Fenced(fenced) => {
                self.fenced = Some(fenced);
                if let Mode::Pausing { wait: Wait::Lease(lease), .. } = self.mode
                    && lease.holder == fenced.node
                    && lease.start == Some(fenced.start)
                {
                    self.begin(now, &mut todo);
                }
            }
            Event::Answered { from, answer } if answer.register == self.settings.register => {
                self.answered(now, from, &answer, &mut todo);
            }
            Event::Answered { .. } => {}
            Event::Timeout => self.timeout(now, &mut todo),
        }
        todo
    }

    /// A lease that ended is lost before anything else is done: the node may have slept (F19).
    fn expire(&mut self, now: Instant, todo: &mut Todo) {
        if let Mode::Holding(held) = &self.mode
            && !held.lease.holds(now)
        {
            self.lose(now, Why::Expired, todo);
        }
    }

    fn want(&mut self, now: Instant, wish: Wish, todo: &mut Todo) {
        if self.wish != wish {
            self.left_alone = 0;
        }
        if wish == Wish::Follow {
            self.stop_forcing();
        }
        self.wish = wish;
        match (&self.mode, wish) {
            (Mode::Following { .. }, Wish::Hold) => self.begin(now, todo),
            (Mode::Holding(held), Wish::Follow) => {
                let epoch = held.record.epoch;
                self.lose(now, Why::Released, todo);
                self.ask_all(Ask::Release { epoch }, todo);
            }
            (Mode::Pausing { .. }, Wish::Follow) => self.enter(Mode::Following { read_at: now }),
            // A round under way is given up by not deciding for it; a register that is won is given back.
            (Mode::Preparing(_) | Mode::Deciding(_), Wish::Follow) => {
                self.enter(Mode::Following { read_at: now });
            }
            (Mode::Following { .. } | Mode::Writing(_), Wish::Follow)
            | (
                Mode::Preparing(_)
                | Mode::Deciding(_)
                | Mode::Writing(_)
                | Mode::Pausing { .. }
                | Mode::Holding(_),
                Wish::Hold,
            ) => {}
        }
    }

    fn timeout(&mut self, now: Instant, todo: &mut Todo) {
        self.go_on_forcing(now, todo);
        if now < self.due() {
            return;
        }
        match &mut self.mode {
            Mode::Following { read_at } => {
                *read_at = now.after(self.settings.watch);
                self.next_ask();
                self.ask_all(Ask::Read, todo);
                self.ask_founders(todo);
            }
            Mode::Preparing(_) | Mode::Writing(_) => self.pause(now, Wait::Majority),
            Mode::Deciding(_) => self.pause(now, Wait::Verdict),
            Mode::Pausing { .. } => match self.wish {
                Wish::Hold => self.begin(now, todo),
                Wish::Follow => self.enter(Mode::Following { read_at: now }),
            },
            Mode::Holding(_) => self.renew(now, todo),
        }
    }

    fn answered(&mut self, now: Instant, from: NodeId, answer: &Answer, todo: &mut Todo) {
        self.learn(now, &answer.body, todo);
        let is_news = self.meet(Voter { node: from, life: answer.life });
        self.answered_force(from, answer);
        match &mut self.mode {
            Mode::Following { .. } | Mode::Deciding(_) | Mode::Pausing { .. } => {}
            Mode::Preparing(round) => match round.answer(from, answer) {
                Progress::Waiting => self.ask_round(todo),
                Progress::Decide => self.decide(now, todo),
                Progress::Failed(refusal) => self.refused(now, refusal),
                // A first phase chooses nothing.
                Progress::Chosen(_) => {}
            },
            Mode::Writing(round) => match round.answer(from, answer) {
                Progress::Chosen(record) => self.won(now, record, todo),
                Progress::Failed(refusal) => self.refused(now, refusal),
                Progress::Waiting | Progress::Decide => {}
            },
            Mode::Holding(_) => {
                self.answered_holder(now, from, answer, todo);
                if is_news {
                    // Its votes count as soon as the record names its life.
                    self.go_on_changing(now, todo);
                }
            }
        }
    }

    /// Begins a round to take the register.
    fn begin(&mut self, now: Instant, todo: &mut Todo) {
        let round = self.new_round(now);
        self.enter(Mode::Preparing(round));
        self.ask_round(todo);
        self.ask_founders(todo);
    }

    /// Reads from the founders that do not vote as far as is known: they may have been made voters again
    /// since, by somebody who is gone.
    fn ask_founders(&self, todo: &mut Todo) {
        if is_planted(Bug::FoundersForgotten) {
            return;
        }
        let (register, ask) = (self.settings.register, self.ask);
        // The lost ones, too: who answers is not lost.
        let voters = self.all_left().unwrap_or_else(|| self.voters());
        let others = self.settings.founders.iter().map(|voter| voter.node);
        for to in others.filter(|node| voters.all().all(|voter| voter.node != *node)) {
            todo.push(Action::Ask { to, request: Request { register, ask, body: Ask::Read } });
        }
    }

    fn new_round(&mut self, now: Instant) -> Round {
        let ballot = Ballot::new(self.round_max, self.settings.me).above(self.settings.me);
        self.round_max = ballot.round;
        let ask = self.next_ask();
        match self.all_left() {
            Some(left) => Round::prepare(now, ask, ballot, left, self.settled, self.fenced).forced(),
            None => Round::prepare(now, ask, ballot, self.voters(), self.settled, self.fenced),
        }
    }

    fn voters(&self) -> Voters {
        match (&self.mode, &self.known) {
            (Mode::Holding(held), _) => held.record.voters.clone(),
            (_, Some(known)) => known.voters.clone(),
            (_, None) => Voters::settled(self.settings.founders.clone()),
        }
    }

    fn decide(&mut self, now: Instant, todo: &mut Todo) {
        let Mode::Preparing(round) = &self.mode else { return };
        let current = round.current().filter(|_| !round.is_forced()).cloned();
        // Nobody of this majority has a record, but one was learned of meanwhile: its voters are to be asked.
        let others = |known: &Record| known.voters != *round.voters();
        let is_first = current.is_none() && !round.is_forced();
        if is_first && self.known.as_ref().is_some_and(others) {
            return self.pause(now, Wait::Majority);
        }
        let round = round.clone();
        self.enter(Mode::Deciding(round));
        todo.push(Action::Decide { current });
    }

    fn decided(&mut self, now: Instant, verdict: Verdict, todo: &mut Todo) {
        let Mode::Deciding(round) = &self.mode else { return };
        match verdict {
            // It is still wanted: what the machine above lacks today, it may have soon.
            Verdict::Leave => self.pause(now, Wait::Verdict),
            Verdict::Take(payload) => {
                let mut round = round.clone();
                let record = Record {
                    epoch: self.epoch_of(&round),
                    holder: Some(self.settings.me),
                    voters: self.voters_of(&round),
                    payload,
                };
                let ask = self.next_ask();
                round.write(now, ask, record, self.settings.lending());
                self.enter(Mode::Writing(round));
                self.ask_round(todo);
            }
        }
    }

    fn won(&mut self, now: Instant, record: Record, todo: &mut Todo) {
        let Mode::Writing(round) = &self.mode else { return };
        // A majority without a record chose a first one, and one was learned of meanwhile: a voter has lost
        // its disk, and what it helped to choose was there before.
        let is_known = |known: &Record| record.epoch <= known.epoch && *known != record;
        if round.current().is_none() && self.known.as_ref().is_some_and(is_known) {
            return self.pause(now, Wait::Turn);
        }
        let lease = Lease::granted(self.length(), self.settings.drift, round.sent());
        let ballot = round.ballot();
        self.settle(ballot, &record);
        let held = Holding { lease, ballot, record: record.clone(), renew_at: now, change: None };
        self.enter(Mode::Holding(held));
        todo.push(Action::Held(record));
        match self.wish {
            Wish::Hold => self.renew(now, todo),
            Wish::Follow => self.want(now, Wish::Follow, todo),
        }
    }

    /// What was chosen is known to be chosen, and is the newest there is.
    fn settle(&mut self, ballot: Ballot, record: &Record) {
        self.settled = Some(ballot);
        self.left_alone = 0;
        self.epoch_max = self.epoch_max.max(record.epoch);
        self.known = Some(record.clone());
        self.fenced = None;
        self.stop_forcing();
    }

    fn late_at(&self, round: &Round) -> Instant {
        round.sent().after(self.settings.answer_max)
    }

    /// The lease as it is put into messages, so that both sides count the same.
    fn length(&self) -> Duration {
        Millis::ceil(self.settings.lease).duration()
    }

    fn next_ask(&mut self) -> AskId {
        self.ask = self.ask.next();
        self.ask
    }

    fn ask_round(&mut self, todo: &mut Todo) {
        let register = self.settings.register;
        let round = match &mut self.mode {
            Mode::Preparing(round) | Mode::Writing(round) => round,
            Mode::Holding(Holding { change: Some(round), .. }) => round,
            Mode::Holding(Holding { change: None, .. })
            | Mode::Following { .. }
            | Mode::Deciding(_)
            | Mode::Pausing { .. } => return,
        };
        while let Some((to, ask, body)) = round.next_question() {
            todo.push(Action::Ask { to, request: Request { register, ask, body } });
        }
    }

    fn ask_all(&self, body: Ask, todo: &mut Todo) {
        for voter in self.voters().all() {
            let request = Request { register: self.settings.register, ask: self.ask, body: body.clone() };
            todo.push(Action::Ask { to: voter.node, request });
        }
    }

    fn lose(&mut self, now: Instant, why: Why, todo: &mut Todo) {
        todo.push(Action::Lost(why));
        self.settled = None;
        self.rewrite = None;
        match self.wish {
            Wish::Hold => self.pause(now, Wait::Turn),
            Wish::Follow => self.enter(Mode::Following { read_at: now }),
        }
    }

    /// The only place where the mode changes from one variant to another.
    fn enter(&mut self, next: Mode) {
        let edge = (self.mode.name(), next.name());
        assert!(EDGES.contains(&edge), "no such edge: {} -> {}", edge.0, edge.1);
        self.mode = next;
    }
}

#[cfg(test)]
#[path = "seat_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "seat_change_tests.rs"]
mod change_tests;

#[cfg(test)]
#[path = "seat_force_tests.rs"]
mod force_tests;
