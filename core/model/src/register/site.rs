//! The site of this model: voters with disks, proposers, and what is under way between them.

use std::hash::Hash;

use bulkhead_core::id::{Epoch, NodeId, RegisterId};
use bulkhead_core::register::acceptor::{self, Acceptor, PersistId};
use bulkhead_core::register::ballot::Ballot;
use bulkhead_core::register::message::{Answer, Ask, AskId, Lending, Millis, Refusal, Reply, Request, Start};
use bulkhead_core::register::proposer::{Progress, Round};
use bulkhead_core::register::record::{Payload, Record};
use bulkhead_core::register::store::Stored;
use bulkhead_core::register::voters::{Life, Set, Voter as Named, Voters};
use bulkhead_core::time::{Drift, Instant};

use crate::run::Reached;
use crate::shared::Shared;

use super::Bounds;

pub(super) const REGISTER: RegisterId = RegisterId(1);
const NOW: Instant = Instant::ZERO;
const VOTERS: usize = 3;
/// Questions of one start of a proposer.
const STARTS: u32 = 1_000;

pub(super) const CHOSEN: [u32; 2] = [0, 1];
pub(super) const OUTBID: u32 = 2;
pub(super) const BUILT_UPON: u32 = 3;

#[derive(Clone, Debug)]
pub(super) struct Voter {
    pub(super) machine: Acceptor<1>,
    /// What is certainly on the disk.
    pub(super) durable: Option<Stored>,
    /// What was written since the last flush, oldest first.
    pub(super) unflushed: Vec<(PersistId, Stored)>,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Proposer {
    pub(super) round: Option<Round>,
    pub(super) round_max: u64,
    pub(super) epoch_max: Epoch,
    /// Counts up.
    pub(super) start: u32,
    /// The question of the phase under way.
    pub(super) ask: AskId,
    pub(super) rounds_left: u8,
}

#[derive(Clone, Debug, Hash)]
pub(super) enum Message {
    Request { by: usize, to: usize, request: Request },
    Answer { from: usize, to: usize, answer: Answer },
}

/// The whole site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) voters: [Shared<Voter>; VOTERS],
    pub(super) proposers: [Shared<Proposer>; 2],
    /// In the order of their digests: an order of sending there is not.
    pub(super) wire: Vec<Shared<Message>>,
    pub(super) cuts: u8,
    pub(super) restarts: u8,
    pub(super) repeats: u8,
    /// The longest line that was chosen, and the epoch of its end.
    pub(super) line: (Payload, Epoch),
    pub(super) broken: Broken,
}

/// Promises that were broken on the way here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Broken {
    pub(super) forked: bool,
    pub(super) epoch_fell: bool,
    pub(super) volatile: bool,
}

fn node(proposer: usize) -> NodeId {
    NodeId(if proposer == 0 { 11 } else { 12 })
}

fn voter_id(place: usize) -> NodeId {
    NodeId(u16::try_from(place).unwrap_or(u16::MAX).saturating_add(1))
}

fn life(place: usize) -> Life {
    Life(u32::from(voter_id(place).0).saturating_add(100))
}

fn founders() -> Voters {
    let all = (0..VOTERS).map(|place| Named { node: voter_id(place), life: life(place) });
    Voters::settled(Set::new(all).unwrap_or_else(|_| unreachable!("three different nodes are a set")))
}

fn settings(place: usize) -> acceptor::Settings {
    let lease_max = core::time::Duration::from_secs(1);
    acceptor::Settings { life: life(place), lease_max, drift: Drift::DEFAULT }
}

impl Voter {
    pub(super) fn start(place: usize, durable: Option<Stored>) -> Self {
        let machine = Acceptor::new(NOW, settings(place), durable.clone());
        Self { machine, durable, unflushed: Vec::new() }
    }

    pub(super) fn share(self) -> Shared<Self> {
        Shared::new(self, |voter, hasher| {
            voter.machine.hash_at(NOW, hasher);
            let plain = |stored: &Stored| (stored.promised, stored.accepted.clone());
            voter.durable.as_ref().map(plain).hash(hasher);
            for (_, stored) in &voter.unflushed {
                plain(stored).hash(hasher);
            }
        })
    }

    pub(super) fn promised(&self) -> Ballot {
        self.durable.as_ref().map_or(Ballot::NONE, |stored| stored.promised)
    }

    pub(super) fn accepted(&self) -> Option<&(Ballot, Record)> {
        self.durable.as_ref().and_then(|stored| stored.accepted.as_ref())
    }

    /// Whether what it says to this attempt is on its disk.
    pub(super) fn covers(&self, attempt: Ballot, reply: &Reply) -> bool {
        match reply {
            Reply::Promised { .. } => attempt <= self.promised(),
            Reply::Accepted => self.accepted().is_some_and(|(accepted, _)| attempt <= *accepted),
            Reply::State { .. } | Reply::Granted { .. } | Reply::Released | Reply::Refused(_) => true,
        }
    }
}

impl Proposer {
    pub(super) const fn new(rounds_left: u8) -> Self {
        Self { round: None, round_max: 0, epoch_max: Epoch(0), start: 0, ask: AskId(0), rounds_left }
    }

    /// The question of this phase: it carries its attempt, and no start asks one of another's.
    pub(super) fn ask(&self, ballot: Ballot, phase: u32) -> AskId {
        let round = u32::try_from(ballot.round).unwrap_or(u32::MAX).saturating_mul(2);
        AskId(self.start.saturating_mul(STARTS).saturating_add(round).saturating_add(phase))
    }

    pub(super) fn share(self) -> Shared<Self> {
        Shared::new(self, |proposer, hasher| proposer.hash(hasher))
    }
}

/// The attempt of a question of `by`.
fn attempt(ask: AskId, by: usize) -> Ballot {
    Ballot::new(u64::from((ask.0 % STARTS) / 2), node(by))
}

impl Message {
    pub(super) fn share(self) -> Shared<Self> {
        Shared::new(self, |message, hasher| message.hash(hasher))
    }
}

impl State {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let [a, b] = bounds.rounds;
        Self {
            voters: [0, 1, 2].map(|place| Voter::start(place, None).share()),
            proposers: [Proposer::new(a).share(), Proposer::new(b).share()],
            wire: Vec::new(),
            cuts: bounds.cuts,
            restarts: bounds.restarts,
            repeats: bounds.repeats,
            line: (Payload::new(), Epoch(0)),
            broken: Broken::default(),
        }
    }

    pub(super) fn begin(&mut self, by: usize) {
        let mut proposer = self.proposers[by].get().clone();
        proposer.rounds_left -= 1;
        let ballot = Ballot::new(proposer.round_max, node(by)).above(node(by));
        proposer.round_max = ballot.round;
        proposer.ask = proposer.ask(ballot, 0);
        let mut round = Round::prepare(NOW, proposer.ask, ballot, founders(), None, None);
        self.send(by, &mut round);
        proposer.round = Some(round);
        self.proposers[by] = proposer.share();
    }

    pub(super) fn send(&mut self, by: usize, round: &mut Round) {
        while let Some((to, ask, body)) = round.next_question() {
            let to = usize::from(to.0) - 1;
            let request = Request { register: REGISTER, ask, body };
            self.wire.push(Message::Request { by, to, request }.share());
        }
    }

    pub(super) fn arrive(&mut self, message: &Message, reached: &Reached) {
        match message {
            Message::Request { by, to, request } => {
                let event = acceptor::Event::Asked { from: node(*by), request: request.clone() };
                self.voter_step(*to, event);
            }
            Message::Answer { from, to, answer } => self.answered(*to, *from, answer, reached),
        }
    }

    pub(super) fn voter_step(&mut self, place: usize, event: acceptor::Event) {
        let mut voter = self.voters[place].get().clone();
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            if let acceptor::Event::Persisted(id) = &event {
                let until = voter.unflushed.iter().take_while(|(written, _)| written <= id).count();
                if let Some((_, newest)) = voter.unflushed.drain(..until).next_back() {
                    let epoch = |stored: &Stored| stored.accepted.as_ref().map(|(_, record)| record.epoch);
                    self.broken.epoch_fell |= epoch(&newest) < voter.durable.as_ref().and_then(epoch);
                    voter.durable = Some(newest);
                }
            }
            for action in voter.machine.step(NOW, event) {
                match action {
                    acceptor::Action::Persist { id, stored, .. } => {
                        voter.unflushed.push((id, stored));
                        // Where no power can be cut, a slow flush is a slow answer, and that there is.
                        if self.cuts == 0 {
                            events.push(acceptor::Event::Persisted(id));
                        }
                    }
                    acceptor::Action::Answer { to, answer } => {
                        let to = usize::from(to == node(1));
                        self.broken.volatile |= !voter.covers(attempt(answer.ask, to), &answer.body);
                        self.wire.push(Message::Answer { from: place, to, answer }.share());
                    }
                }
            }
        }
        self.voters[place] = voter.share();
        self.note_majority();
    }

    /// What a majority holds is chosen, whether a proposer hears of it or not.
    pub(super) fn note_majority(&mut self) {
        for place in 0..VOTERS {
            let Some(held) = self.voters[place].get().accepted().cloned() else { continue };
            let same = self.voters.iter().filter(|voter| voter.get().accepted() == Some(&held)).count();
            if VOTERS < 2 * same {
                self.chosen(&held.1);
            }
        }
    }

    pub(super) fn chosen(&mut self, record: &Record) {
        let (line, end) = &self.line;
        if line.starts_with(&record.payload) {
            self.broken.forked |= line.len() == record.payload.len() && *end != record.epoch;
        } else if record.payload.starts_with(line) {
            self.broken.epoch_fell |= record.epoch <= *end;
            self.line = (record.payload.clone(), record.epoch);
        } else {
            self.broken.forked = true;
        }
    }

    pub(super) fn answered(&mut self, to: usize, from: usize, answer: &Answer, reached: &Reached) {
        let mut proposer = self.proposers[to].get().clone();
        let Some(round) = &mut proposer.round else { return };
        if let Reply::Refused(Refusal::Outbid { promised }) = &answer.body {
            proposer.round_max = proposer.round_max.max(promised.round);
        }
        match round.answer(voter_id(from), answer) {
            Progress::Waiting => {}
            Progress::Decide => {
                let epoch = round.epoch_max().max(proposer.epoch_max).next();
                if round.current().is_some_and(|found| found.holder != Some(node(to))) {
                    reached.mark(BUILT_UPON);
                }
                let mut payload = round.current().map(|found| found.payload.clone()).unwrap_or_default();
                // Its own mark: no two rounds write the same.
                let mark = u8::try_from(to * 100).unwrap_or(u8::MAX) + proposer.rounds_left;
                assert!(payload.push(mark).is_ok(), "more rounds than a payload has bytes");
                let voters = round.voters().pinned(round.heard());
                let record = Record { epoch, holder: Some(node(to)), voters, payload };
                let ballot = round.ballot();
                let mut round = round.clone();
                proposer.ask = proposer.ask(ballot, 1);
                round.write(NOW, proposer.ask, record, Lending { length: Millis(0), start: Start(1) });
                self.send(to, &mut round);
                proposer.round = Some(round);
            }
            Progress::Chosen(record) => {
                self.chosen(&record);
                reached.mark(CHOSEN[to]);
                proposer.epoch_max = record.epoch;
                proposer.round = None;
            }
            Progress::Failed(refusal) => {
                if matches!(refusal, Refusal::Outbid { .. }) {
                    reached.mark(OUTBID);
                }
                proposer.epoch_max = round.epoch_max().max(proposer.epoch_max);
                proposer.round = None;
            }
        }
        self.proposers[to] = proposer.share();
    }

    pub(super) fn cut(&mut self, place: usize, reached: usize) {
        self.cuts -= 1;
        let voter = self.voters[place].get();
        let newest = voter.unflushed.iter().take(reached).next_back().map(|(_, stored)| stored.clone());
        let durable = newest.or_else(|| voter.durable.clone());
        self.voters[place] = Voter::start(place, durable).share();
        self.note_majority();
        if self.cuts == 0 {
            // From here on a slow flush is a slow answer.
            for place in 0..VOTERS {
                if let Some((id, _)) = self.voters[place].get().unflushed.last() {
                    self.voter_step(place, acceptor::Event::Persisted(*id));
                }
            }
        }
    }

    pub(super) fn restart(&mut self, by: usize) {
        self.restarts -= 1;
        let old = self.proposers[by].get();
        let start = old.start + 1;
        self.proposers[by] = Proposer { start, ..Proposer::new(old.rounds_left) }.share();
    }

    /// Takes from the wire what can change nothing any more, and puts the rest in order.
    pub(super) fn tidy(&mut self) {
        let (voters, proposers) = (&self.voters, &self.proposers);
        self.wire.retain(|message| match message.get() {
            Message::Answer { to, answer, .. } => {
                let proposer = proposers[*to].get();
                proposer.round.is_some() && proposer.ask == answer.ask
            }
            Message::Request { by, to, request } => {
                let (proposer, voter) = (proposers[*by].get(), voters[*to].get());
                let waited_for = proposer.round.is_some() && proposer.ask == request.ask;
                waited_for
                    || match &request.body {
                        Ask::Prepare { ballot, .. } => voter.promised() < *ballot,
                        Ask::Accept { ballot, .. } => voter.promised() <= *ballot,
                        Ask::Read | Ask::Renew(_) | Ask::Release { .. } => false,
                    }
            }
        });
        self.wire.sort_unstable();
    }
}
