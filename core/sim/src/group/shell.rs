//! A holder's shell: tells the machine what happens, as `host-linux/src/mirror` does.

use std::collections::{BTreeMap, VecDeque};

use bulkhead_core::holder::machine::{Holder, Mode};
use bulkhead_core::holder::words::{Event, Refused, Word};
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::Seq;
use bulkhead_core::log::ring::Position;
use bulkhead_core::log::writer::Log;
use bulkhead_core::mirror::membership::Membership;
use bulkhead_core::node::storage;
use bulkhead_core::register::record::Payload;
use bulkhead_core::register::seat::Verdict;
use bulkhead_core::time::Instant;

use super::act::Act;
use super::drive::Io;
use super::guests::Outcome;
use super::ledger::Entry;
use super::store::{Apply, Filled};
use super::streams::Message;
use super::{Flushed, Told, Wish};
use crate::queue::Timer;
use crate::world::World;

/// The process of a holder.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) holder: Holder,
    pub(crate) timer_at: Option<u64>,
    /// The writes of its log.
    pub(crate) window: BTreeMap<Seq, Entry>,
    pub(crate) flights: Vec<(Position, Io)>,
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    /// Guests' writes that the log has no room for now.
    pub(crate) waiting: VecDeque<(Entry, Option<u64>)>,
    /// Who waits for a write: the number of the request.
    pub(crate) owed: BTreeMap<Seq, u64>,
    pub(crate) lease: Option<Instant>,
    /// Its newest write when it began to lead.
    pub(crate) led_from: Option<Seq>,
    /// Its node has said that the register is lost.
    pub(crate) knows_loss: bool,
    /// An operator has its node give the register to another one.
    pub(crate) gives: bool,
    pub(crate) apply: Apply,
    pub(crate) filled: Option<Filled>,
    /// When it was asked last whether to lead.
    pub(crate) asked_at: u64,
}

/// Another holder.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    pub(crate) stream: Option<u64>,
    /// What it said, and the log has no room for.
    pub(crate) heard: VecDeque<Message>,
}

impl Shell {
    /// Under which epoch it leads, as far as it knows.
    pub(crate) fn reigns(&self, now: Instant) -> Option<Epoch> {
        let holds = self.lease.is_some_and(|until| now < until) && !self.knows_loss;
        let leads = holds && self.holder.mode() == Mode::Leading;
        self.holder.primary().filter(|_| leads).map(|primary| primary.epoch())
    }
}

impl Shell {
    /// Whether all that was acknowledged before it led may be read.
    pub(crate) fn is_readable(&self) -> bool {
        self.led_from.is_some_and(|from| self.apply.shows_all(from))
    }
}

impl World {
    /// Something happened to a holder, which may sleep, still read its log, or be gone.
    pub(crate) fn is_told(&mut self, node: NodeId, start: u64, told: Told) {
        let runs = self.machines.get(&node).is_some_and(|one| one.starts == start && one.node.is_some());
        if !runs {
            return;
        }
        let mut told = told;
        if let Told::Flushed { io, works, what } = &mut told {
            // What was repaired meanwhile works.
            *works |= self.is_healed;
            let (io, works, what) = (*io, *works, *what);
            self.flushed_io(node, io, works, what);
        }
        let is_open = matches!(told, Told::Open);
        let Some(machine) = self.machines.get_mut(&node) else { return };
        if machine.sleeps || (machine.group.shell.is_none() && !is_open) {
            return machine.group.missed.push_back(told);
        }
        self.tell_now(node, told);
    }

    /// What it missed while it slept; its timers are late, too, and what it does first is chance.
    pub(crate) fn group_wakes(&mut self, node: NodeId) {
        if self.shell(node).is_some() && self.chance.happens(500) {
            self.timeout(node);
        }
        self.catch_up(node);
        self.timeout(node);
    }

    /// What it missed.
    pub(crate) fn catch_up(&mut self, node: NodeId) {
        let mut missed = match self.machines.get_mut(&node) {
            Some(machine) => std::mem::take(&mut machine.group.missed),
            None => return,
        };
        if self.shell(node).is_none() {
            // It slept while it read its log.
            let opened = missed.iter().position(|told| matches!(told, Told::Open));
            match opened.and_then(|at| missed.remove(at)) {
                Some(open) => missed.push_front(open),
                None => {
                    return self
                        .machines
                        .get_mut(&node)
                        .into_iter()
                        .for_each(|one| one.group.missed.append(&mut missed));
                }
            }
        }
        for told in missed {
            self.tell_now(node, told);
        }
    }

    fn tell_now(&mut self, node: NodeId, told: Told) {
        self.trace.mix(self.now ^ u64::from(node.0) << 40);
        match told {
            Told::Open => self.open(node),
            Told::Register(action) => self.register_news(node, action),
            Told::Flushed { io, works, what } => self.is_flushed(node, io, works, what),
            Told::Met(peer, stream) => {
                let Some(shell) = self.shell(node) else { return };
                shell.peers.insert(peer, Peer { stream: Some(stream), heard: VecDeque::new() });
                self.shell_step(node, Event::Met(peer));
            }
            Told::Gone(peer) => {
                let Some(shell) = self.shell(node) else { return };
                shell.peers.insert(peer, Peer::default());
                self.fill_broke(node, peer);
                self.shell_step(node, Event::Gone(peer));
            }
            Told::Frames(from, stream, messages) => {
                let peer = self.shell(node).and_then(|shell| shell.peers.get_mut(&from));
                if let Some(peer) = peer.filter(|peer| peer.stream == Some(stream)) {
                    peer.heard.extend(messages);
                }
            }
            Told::Ask(ask) => self.is_asked(node, ask),
            Told::Answer { ask, epoch, broken } => self.answers(node, &ask, epoch, broken),
            Told::Round => self.round(node),
            Told::Fill { to, stream, epoch, upto, at } => self.fill_on(node, (to, stream), (epoch, upto), at),
        }
        self.pump(node);
    }

    fn register_news(&mut self, node: NodeId, action: storage::Action) {
        if self.shell(node).is_none() {
            return;
        }
        match action {
            storage::Action::Decide(current) if self.takes_store(node, current.as_deref()) => {
                self.shell_step(node, Event::Decide(current.as_deref()));
            }
            storage::Action::Decide(_) => {
                self.wish(node, Wish::Say(storage::Event::Decided(Verdict::Leave)));
            }
            // To lead without the store is of no use.
            storage::Action::Held { .. } if !self.is_tenant(node) => {
                self.wish(node, Wish::Say(storage::Event::Release));
            }
            storage::Action::Held { epoch, payload, until } => {
                self.shell(node).into_iter().for_each(|shell| {
                    shell.lease = Some(until);
                    (shell.knows_loss, shell.gives) = (false, false);
                });
                self.chosen(node, epoch, &payload);
                self.shell_step(node, Event::Held { epoch, payload: &payload, until });
            }
            storage::Action::Leased { until } => {
                self.shell(node).into_iter().for_each(|shell| {
                    shell.lease = shell.lease.map(|lease| lease.max(until));
                });
                self.shell_step(node, Event::Leased { until });
            }
            storage::Action::Lost => {
                self.shell(node).into_iter().for_each(|shell| shell.lease = None);
                self.shell_step(node, Event::Lost);
            }
        }
    }

    fn chosen(&mut self, node: NodeId, epoch: Epoch, payload: &Payload) {
        match Membership::parse(payload) {
            Ok(set) => {
                let nodes: Vec<_> = set.holders().iter().map(|one| one.node.0).collect();
                self.note(&|| {
                    format!("n{} holds the group, epoch {}: {nodes:?} {:?}", node.0, epoch.0, set.policy())
                });
                if 1 < nodes.len() {
                    self.oracle.reached.insert("in sync");
                }
            }
            Err(why) => self.oracle.violated(self.now, format!("n{}: {why}", node.0)),
        }
    }

    fn is_flushed(&mut self, node: NodeId, io: Io, works: bool, what: Flushed) {
        match (what, works) {
            (Flushed::Log, true) => {
                let Some(shell) = self.shell(node) else { return };
                let Some(which) = shell.flights.iter().position(|(_, one)| *one == io) else { return };
                let (at, _) = shell.flights.remove(which);
                self.shell_step(node, Event::Committed(at));
            }
            (Flushed::Superblock, true) => {
                self.shell_step(node, Event::Kept);
                let Some(shell) = self.shell(node) else { return };
                // What the log does not have any more, nobody asks for.
                let tail = shell.holder.kept().tail.first;
                shell.window = shell.window.split_off(&tail);
            }
            (Flushed::Superblock, false) => self.shell_step(node, Event::KeepFailed),
            // What the store has is not known any more: whoever has a whole one is to lead (F13).
            (Flushed::Log | Flushed::Store(_) | Flushed::Fill, false) => {
                if let (Flushed::Store(_), Some(shell)) = (what, self.shell(node)) {
                    shell.apply.fail();
                }
                self.shell_step(node, Event::CommitFailed);
            }
            (Flushed::Store(upto), true) => self.is_stored(node, upto),
            (Flushed::Fill, true) => self.fill_is_durable(node),
        }
    }

    /// Lets the machine take an event, and does what it asks for.
    pub(crate) fn shell_step(&mut self, node: NodeId, event: Event<'_>) {
        let acts = self.machine(node, event);
        acts.into_iter().for_each(|act| self.act(node, act));
    }

    /// Lets the machine take an event.
    pub(crate) fn machine(&mut self, node: NodeId, event: Event<'_>) -> Vec<Act> {
        let mut acts = Vec::new();
        let Some(machine) = self.machines.get_mut(&node) else { return acts };
        let now = machine.clock.at(self.now);
        let Some(shell) = &mut machine.group.shell else { return acts };
        let before = shell.holder.mode();
        shell.holder.step(now, event, &mut |action| acts.extend(Act::of(action)));
        let after = shell.holder.mode();
        if before == after {
            return acts;
        }
        self.note(&|| format!("n{}: its holder is {after:?}", node.0));
        if after == Mode::Leading {
            self.leads(node);
        }
        if before == Mode::Leading {
            self.forsake(node);
        }
        acts
    }

    /// I3, I10, V4: whoever leads has every write that was promised, each in its place.
    fn leads(&mut self, node: NodeId) {
        self.oracle.reached.insert("group taken over");
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let Some(shell) = &mut machine.group.shell else { return };
        shell.led_from = shell.holder.primary().map(|primary| primary.newest());
        let epoch = shell.holder.primary().map(|primary| primary.epoch()).unwrap_or_default();
        if shell.holder.kept().promised < epoch {
            let text = format!("n{} leads under epoch {}, which is not durable here", node.0, epoch.0);
            self.oracle.violated(self.now, text);
        }
        let next = shell.holder.log().map(Log::next).unwrap_or_default();
        let (window, applied) = (&shell.window, shell.holder.applied());
        let whole = &self.groups[usize::from(machine.member.pair.0)];
        let store = whole.shared.as_ref().map_or(&machine.group.store, |all| &all.store);
        if let Err(why) = whole.ledger.is_whole(next, window, (store, applied)) {
            self.oracle.violated(self.now, format!("n{} leads, but {why}", node.0));
        }
        self.begin_behind_store(node);
    }

    /// Nobody who waits here will be told that what was asked for is done.
    fn forsake(&mut self, node: NodeId) {
        let Some(shell) = self.shell(node) else { return };
        shell.led_from = None;
        let owed: Vec<_> = std::mem::take(&mut shell.owed).into_values().collect();
        let waiting: Vec<_> = shell.waiting.drain(..).filter_map(|(_, request)| request).collect();
        owed.into_iter().chain(waiting).for_each(|request| self.ended(node, request, Outcome::Unknown));
        self.begin_behind_store(node);
    }

    /// Does what can be done now.
    fn pump(&mut self, node: NodeId) {
        self.hear(node);
        self.write(node);
        self.show(node);
        self.leave_store(node);
        self.set_pulse(node);
    }

    fn hear(&mut self, node: NodeId) {
        let Some(shell) = self.shell(node) else { return };
        for peer in shell.peers.keys().copied().collect::<Vec<_>>() {
            loop {
                let heard = self.shell(node).and_then(|shell| shell.peers.get_mut(&peer));
                let Some(message) = heard.and_then(|one| one.heard.pop_front()) else { break };
                if let Some(message) = self.heard(node, peer, message) {
                    let heard = self.shell(node).and_then(|shell| shell.peers.get_mut(&peer));
                    heard.into_iter().for_each(|one| one.heard.push_front(message.clone()));
                    break;
                }
            }
        }
    }

    /// Takes one message; gives it back when there is no room for it now.
    fn heard(&mut self, node: NodeId, from: NodeId, message: Message) -> Option<Message> {
        match message {
            Message::Word(word) => {
                if matches!(*word, Word::Outranked { .. }) {
                    self.oracle.reached.insert("primary outranked");
                }
                self.shell_step(node, Event::Heard { from, word: &word });
            }
            Message::Write { epoch, seq, entry } => {
                if self.offer(node, Some((from, epoch, seq)), entry, None) == Offered::Busy {
                    self.oracle.reached.insert("log of a follower full");
                    return Some(Message::Write { epoch, seq, entry });
                }
            }
            Message::Fill { epoch, first, cells } => self.fill_with(node, (from, epoch), first, cells),
            Message::Filled { epoch, upto } => self.fill_ended(node, (from, epoch), upto),
        }
        None
    }

    /// Takes in guests' writes, in the order in which they came.
    fn write(&mut self, node: NodeId) {
        while let Some((entry, request)) = self.shell(node).and_then(|shell| shell.waiting.pop_front()) {
            match self.offer(node, None, entry, request) {
                Offered::Taken => {}
                Offered::Busy => {
                    self.oracle.reached.insert("log of a primary full");
                    self.shell(node).into_iter().for_each(|one| one.waiting.push_front((entry, request)));
                    return;
                }
                Offered::Refused => {
                    request.into_iter().for_each(|one| self.ended(node, one, Outcome::Unknown))
                }
            }
        }
    }

    /// Offers a write to the machine; it is in memory before anything is done about it.
    fn offer(
        &mut self,
        node: NodeId,
        by: Option<(NodeId, Epoch, Seq)>,
        mut entry: Entry,
        request: Option<u64>,
    ) -> Offered {
        let next = |world: &Self| world.holder(node).and_then(Holder::log).map(Log::next);
        let before = next(self);
        let (write, sums) = (entry.write, entry.sums());
        let acts = self.machine(
            node,
            match by {
                Some((from, epoch, seq)) => {
                    Event::Fed { from, epoch, made: entry.made, seq, write, sums: &sums }
                }
                None => Event::Write { write, sums: &sums },
            },
        );
        let accepted =
            acts.iter().find_map(|act| if let Act::Accepted(seq) = act { Some(*seq) } else { None });
        let fed = by.map(|(.., seq)| seq).filter(|seq| before == Some(*seq) && before < next(self));
        let is_busy = acts.iter().any(|act| matches!(act, Act::Refused(Refused::Busy)));
        let taken = accepted.or(fed);
        if let (Some(seq), Some(shell)) = (taken, self.shell(node)) {
            if let (Some(primary), None) = (shell.holder.primary(), by) {
                entry.made = primary.epoch();
            }
            shell.window.insert(seq, entry);
            shell.owed.extend(request.map(|request| (seq, request)));
        }
        acts.into_iter().for_each(|act| self.act(node, act));
        match (taken, is_busy) {
            (Some(_), _) => Offered::Taken,
            (None, true) => Offered::Busy,
            (None, false) => Offered::Refused,
        }
    }

    fn set_pulse(&mut self, node: NodeId) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let Some(shell) = &mut machine.group.shell else { return };
        let at = shell.holder.deadline().map(|due| machine.clock.when(due, now).max(now + 20));
        if at == shell.timer_at {
            return;
        }
        shell.timer_at = at;
        self.queue.set(node, Timer::Holder, at);
    }

    /// The machine's deadline has passed.
    pub(crate) fn pulse(&mut self, node: NodeId) {
        let Some(machine) = self.machines.get_mut(&node).filter(|one| !one.sleeps) else { return };
        let Some(shell) = &mut machine.group.shell else { return };
        shell.timer_at = None;
        self.timeout(node);
    }

    pub(crate) fn timeout(&mut self, node: NodeId) {
        self.shell_step(node, Event::Timeout);
        self.pump(node);
    }
}

/// What became of a write that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offered {
    Taken,
    Busy,
    Refused,
}
