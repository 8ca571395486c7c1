//! The group of this model: its holders, their register, the streams between them, and the guest.

use std::hash::Hash;

use bulkhead_core::holder::machine::Mode;
use bulkhead_core::holder::words::{Backing, Event, Refused, Word};
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::Seq;
use bulkhead_core::mirror::membership::Membership;
use bulkhead_core::mirror::secondary;
use bulkhead_core::register::seat::Verdict;
use bulkhead_core::time::Instant;

use super::disk::Entry;
use super::node::{Effect, Node};
use super::truth::Wrong;
use super::{Bounds, Lie, Mark, Step};
use crate::run::Reached;
use crate::shared::Shared;

/// What goes from one holder to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "shared")]
pub(super) enum Message {
    Word(Word),
    Fed { epoch: Epoch, seq: Seq, entry: Entry },
}

/// The group's register: one record, and who may act by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Register {
    pub(super) epoch: Epoch,
    pub(super) payload: Option<Vec<u8>>,
    /// Who took it last, and in which epoch.
    pub(super) by: Option<(usize, Epoch)>,
    pub(super) is_leased: bool,
    /// Whether its holder was told that it holds it.
    pub(super) is_told: bool,
    /// Whether the start that took it goes on.
    pub(super) is_alive: bool,
    /// What its holder wants it to say, and whether that may still be chosen.
    pub(super) rewrite: Option<Vec<u8>>,
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) writes: u8,
    pub(super) crashes: u8,
    pub(super) losses: u8,
    pub(super) breaks: u8,
    pub(super) timeouts: u8,
}

/// The group, and what is around it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) backing: Backing,
    pub(super) lie: Option<Lie>,
    /// Blocks of a write.
    blocks: u32,
    pub(super) nodes: Vec<Shared<Node>>,
    pub(super) register: Register,
    /// What the register has to tell each of them: the record as it was when it was chosen.
    pub(super) news: Vec<Option<(Epoch, Vec<u8>)>>,
    /// Whose lease ended without its knowing.
    pub(super) lost: Vec<bool>,
    /// From each to each, in order.
    pub(super) wires: Vec<Vec<Vec<Shared<Message>>>>,
    /// What was under way on streams that broke. Empty, unless this is a lie.
    pub(super) old: Vec<(usize, usize, Shared<Message>)>,
    pub(super) met: Vec<Vec<bool>>,
    /// Who fills whom.
    pub(super) fills: Vec<(usize, usize)>,
    pub(super) acknowledged: Vec<Entry>,
    /// The store of all, when they share one.
    pub(super) shared: Vec<Entry>,
    /// Writes that were offered.
    values: u8,
    pub(super) left: Budget,
    pub(super) wrong: Option<Wrong>,
}

pub(super) fn id(place: usize) -> NodeId {
    NodeId(u16::try_from(place).expect("few") + 1)
}

fn place(node: NodeId) -> usize {
    usize::from(node.0) - 1
}

fn share(node: Node) -> Shared<Node> {
    Shared::new(node, Node::hash)
}

impl State {
    /// All are down, and their logs are empty.
    pub(super) fn new(bounds: &Bounds) -> Self {
        let Bounds { holders, backing, blocks, lie, .. } = *bounds;
        Self {
            backing,
            lie,
            blocks,
            nodes: (0..holders).map(|place| share(Node::new(id(place)))).collect(),
            register: Register::default(),
            news: vec![None; holders],
            lost: vec![false; holders],
            wires: vec![vec![vec![]; holders]; holders],
            old: vec![],
            met: vec![vec![false; holders]; holders],
            fills: vec![],
            acknowledged: vec![],
            shared: vec![],
            values: 0,
            left: Budget::default(),
            wrong: None,
        }
    }

    pub(super) fn node(&self, place: usize) -> &Node {
        self.nodes[place].get()
    }

    pub(super) fn is_up(&self, place: usize) -> bool {
        self.node(place).holder.is_some()
    }

    /// Whether the register is this one's, and it knows.
    pub(super) fn holds(&self, place: usize) -> bool {
        let Register { by, is_leased, is_told, .. } = &self.register;
        *is_leased && *is_told && by.is_some_and(|(by, _)| by == place)
    }

    pub(super) fn membership(&self) -> Option<Membership> {
        Membership::parse(self.register.payload.as_ref()?).ok()
    }

    /// The entries of the store that a holder's log goes on with.
    pub(super) fn store(&self, place: usize) -> &[Entry] {
        match self.backing {
            Backing::Local => &self.node(place).store,
            Backing::Shared => &self.shared,
        }
    }

    /// One step. `false` when nothing would change.
    pub(super) fn take(&mut self, step: &Step, reached: &Reached) -> bool {
        match step {
            Step::Write(place) => return self.write(*place, reached),
            Step::Durable(place, which) => {
                let at = self.change(*place, |node| node.land(*which));
                self.step(*place, Event::Committed(at), reached);
            }
            Step::Kept(place) => {
                self.change(*place, Node::kept);
                self.step(*place, Event::Kept, reached);
            }
            Step::Deliver(from, to) => {
                let message = self.wires[*from][*to].remove(0);
                return self.arrive(*from, *to, &message, reached);
            }
            Step::Late(which) => {
                let (from, to, message) = self.old.remove(*which);
                return self.arrive(from, to, &message, reached);
            }
            Step::Applied(place) => self.apply(*place, reached),
            Step::Timeout(place) => self.timeout(*place, reached),
            Step::Decide(place) => {
                let current = self.answer();
                self.step(*place, Event::Decide(current.as_deref()), reached);
            }
            Step::Told(place) => self.told(*place, reached),
            Step::Rewritten => self.rewritten(reached),
            Step::LeaseEnds => self.lease_ends(),
            Step::Lost(place) => {
                self.lost[*place] = false;
                self.news[*place] = None;
                self.step(*place, Event::Lost, reached);
            }
            Step::Filled(from, to) => self.filled(*from, *to, reached),
            Step::Break(a, b) => {
                self.left.breaks -= 1;
                self.part(*a, *b);
                self.step(*a, Event::Gone(id(*b)), reached);
                self.step(*b, Event::Gone(id(*a)), reached);
            }
            Step::Meet(a, b) => {
                self.met[*a][*b] = true;
                self.step(*a, Event::Met(id(*b)), reached);
                self.step(*b, Event::Met(id(*a)), reached);
            }
            Step::Crash { place, flights, is_kept } => {
                self.left.crashes -= 1;
                let lie = self.lie;
                let is_torn = flights.contains(&super::node::Left::Header);
                self.mark(Mark::Torn, is_torn, reached);
                self.change(*place, |node| node.crash(flights, *is_kept, lie));
                self.crashed(*place, reached);
            }
            Step::Start(place) => {
                let (backing, is_founder) = (self.backing, *place == 0);
                let mut node = self.node(*place).clone();
                let effects = node.start(backing, is_founder);
                self.carry_out(*place, node, effects, reached);
            }
        }
        true
    }

    pub(super) fn mark(&self, mark: Mark, is_so: bool, reached: &Reached) {
        if is_so {
            reached.mark(mark as u32);
        }
    }

    pub(super) fn change<T>(&mut self, place: usize, change: impl FnOnce(&mut Node) -> T) -> T {
        let mut node = self.node(place).clone();
        let result = change(&mut node);
        self.nodes[place] = share(node);
        result
    }

    pub(super) fn step(&mut self, place: usize, event: Event<'_>, reached: &Reached) {
        let mut node = self.node(place).clone();
        let before = node.mode();
        let effects = node.step(event);
        self.is_drawn(before, node.mode());
        if before != Some(Mode::Leading)
            && let Some(primary) = node.primary()
        {
            self.leads(place, primary.epoch());
        }
        self.carry_out(place, node, effects, reached);
    }

    fn carry_out(&mut self, place: usize, mut node: Node, effects: Vec<Effect>, reached: &Reached) {
        for effect in effects {
            self.act(place, &mut node, effect, reached);
        }
        self.nodes[place] = share(node);
    }

    fn act(&mut self, here: usize, node: &mut Node, effect: Effect, reached: &Reached) {
        match effect {
            Effect::Accepted(seq) => {
                let made = node.primary().map(|primary| primary.epoch()).unwrap_or_default();
                node.log.insert(seq, Entry { made, value: self.values, blocks: self.blocks });
            }
            // Whoever offered it looks whether it was taken in.
            Effect::Refused(Refused::Busy | Refused::NotPrimary) => {}
            Effect::Refused(Refused::Malformed) => self.wrong = self.wrong.or(Some(Wrong::Malformed)),
            Effect::Commit(header) => node.commit(header),
            Effect::Keep(at, block) => node.keeping = Some((at, block)),
            Effect::Durable(seq) => node.safe = seq,
            Effect::Cut(from) => {
                reached.mark(Mark::Cut as u32);
                self.cuts(node, from);
                node.log.retain(|seq, _| *seq < from);
                node.safe = node.safe.min(from.before());
            }
            Effect::Remade => {
                reached.mark(Mark::Remade as u32);
                node.log.clear();
                node.safe = Seq(0);
            }
            Effect::Say(to, mut word) => {
                if let (Some(Lie::SaidEarly), Word::Have { durable, .. }) = (self.lie, &mut word) {
                    *durable = node.log.keys().next_back().copied().unwrap_or(*durable);
                }
                let is_outranked = matches!(word, Word::Outranked { .. });
                self.mark(Mark::Outranked, is_outranked, reached);
                self.send(here, place(to), Message::Word(word));
            }
            Effect::Feed { to, epoch, first, last } => {
                for seq in (first.0..=last.0).map(Seq) {
                    let entry = node.log[&seq];
                    let is_old = seq.0 <= u64::try_from(self.acknowledged.len()).expect("few");
                    self.mark(Mark::Resync, is_old, reached);
                    self.send(here, place(to), Message::Fed { epoch, seq, entry });
                }
            }
            Effect::Fill(to) => self.fills.push((here, place(to))),
            Effect::Apply(seq) => {
                let newest =
                    node.log.keys().next_back().copied().filter(|_| self.lie == Some(Lie::AppliedEarly));
                node.to_apply = node.to_apply.max(newest.unwrap_or(seq));
            }
            Effect::Acknowledge(seq) => self.acknowledge(here, node, seq, reached),
            Effect::Decided(Verdict::Take(payload)) => self.taken(here, node, &payload, reached),
            Effect::Decided(Verdict::Leave) => reached.mark(Mark::Refused as u32),
            Effect::Rewrite(payload) => {
                if self.holds(here) {
                    self.register.rewrite = Some(payload);
                }
            }
            Effect::Release => {
                if self.register.by.is_some_and(|(by, _)| by == here) {
                    self.register.is_leased = false;
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        if self.met[from.min(to)][from.max(to)] {
            let message = Shared::new(message, Message::hash);
            self.wires[from][to].push(message);
        }
    }

    fn write(&mut self, place: usize, reached: &Reached) -> bool {
        self.left.writes -= 1;
        self.values += 1;
        let entry = Entry { made: Epoch(0), value: self.values, blocks: self.blocks };
        let before = self.node(place).next();
        self.step(place, Event::Write { write: entry.write(), sums: &entry.sums() }, reached);
        before != self.node(place).next()
    }

    fn arrive(&mut self, from: usize, to: usize, message: &Shared<Message>, reached: &Reached) -> bool {
        match message.get() {
            Message::Word(word) => {
                self.step(to, Event::Heard { from: id(from), word }, reached);
                true
            }
            Message::Fed { epoch, seq, entry } => self.fed((from, to), *epoch, *seq, *entry, reached),
        }
    }

    /// `false` when the log of whom it came to is busy: it waits at the head of the stream.
    fn fed(
        &mut self,
        (from, to): (usize, usize),
        epoch: Epoch,
        seq: Seq,
        entry: Entry,
        reached: &Reached,
    ) -> bool {
        let mut node = self.node(to).clone();
        let old = node.log.get(&seq).copied();
        let is_next = node.next() == Some(seq);
        if is_next {
            // The payload is there before the log may ask for it.
            node.log.insert(seq, entry);
        }
        let (made, write, sums) = (entry.made, entry.write(), entry.sums());
        let effects = node.step(Event::Fed { from: id(from), epoch, made, seq, write, sums: &sums });
        let is_busy = effects.iter().any(|effect| matches!(effect, Effect::Refused(Refused::Busy)));
        let is_taken = is_next && node.next() == Some(seq.next());
        if is_next && !is_taken {
            node.log.remove(&seq);
            node.log.extend(old.map(|old| (seq, old)));
        }
        if is_taken {
            self.appends(&node, epoch);
        }
        self.carry_out(to, node, effects, reached);
        !is_busy
    }

    /// All that may go to the store is durable in it.
    fn apply(&mut self, place: usize, reached: &Reached) {
        let node = self.node(place);
        let all = node.everything(self.store(place), node.to_apply);
        let seq = Seq(u64::try_from(all.len()).expect("few"));
        match self.backing {
            Backing::Local => self.change(place, |node| node.store = all),
            Backing::Shared => self.shared = all,
        }
        self.step(place, Event::Applied(seq), reached);
    }

    /// Whether [`Step::Applied`] would do something.
    pub(super) fn applies(&self, place: usize) -> bool {
        let node = self.node(place);
        let done = u64::try_from(self.store(place).len()).expect("few");
        // The store of all refuses whoever does not hold the register.
        let may = self.backing == Backing::Local || self.holds(place);
        node.holder.is_some() && done < node.to_apply.0 && may
    }

    /// Time goes on at this holder, until a timer of its is due; a lease is renewed meanwhile.
    fn timeout(&mut self, place: usize, reached: &Reached) {
        let due = self.node(place).holder.as_ref().and_then(|holder| holder.deadline());
        let clock = self.node(place).clock.max(due.map_or(0, Instant::as_micros));
        if self.holds(place) {
            self.step(place, Event::Leased { until: Instant::from_micros(clock + 1) }, reached);
        }
        self.change(place, |node| node.clock = clock);
        self.step(place, Event::Timeout, reached);
    }

    /// A holder that lacks what the primary has trimmed gets its store, as of the commit point.
    fn filled(&mut self, from: usize, to: usize, reached: &Reached) {
        self.fills.retain(|fill| *fill != (from, to));
        let primary = self.node(from).primary().map(|primary| (primary.epoch(), primary.commit()));
        let Some((epoch, commit)) = primary else { return };
        let by = secondary::Following { primary: id(from), epoch };
        let behind = self.node(to).holder.as_ref().and_then(|holder| holder.secondary());
        if behind.is_some_and(|one| one.mode() == secondary::Mode::Behind(by)) {
            reached.mark(Mark::Filled as u32);
            let upto = usize::try_from(commit.0).expect("few");
            let all = self.node(from).everything(self.store(from), commit)[..upto].to_vec();
            self.change(to, |node| node.store = all);
            self.step(to, Event::Filled { from: id(from), epoch, upto: commit }, reached);
        }
        self.step(from, Event::Met(id(to)), reached);
    }

    /// What is under way between two of them is lost.
    fn part(&mut self, a: usize, b: usize) {
        self.met[a.min(b)][a.max(b)] = false;
        self.fills.retain(|fill| *fill != (a, b) && *fill != (b, a));
        for (from, to) in [(a, b), (b, a)] {
            let lost = std::mem::take(&mut self.wires[from][to]);
            if self.lie == Some(Lie::OldWords) {
                self.old.extend(lost.into_iter().map(|message| (from, to, message)));
            }
        }
    }

    fn crashed(&mut self, place: usize, reached: &Reached) {
        self.news[place] = None;
        self.lost[place] = false;
        if self.register.by.is_some_and(|(by, _)| by == place) {
            self.register.is_told = false;
            self.register.is_alive = false;
        }
        for other in (0..self.nodes.len()).filter(|other| *other != place) {
            self.part(place, other);
            self.step(other, Event::Gone(id(place)), reached);
        }
        let is_dark = (0..self.nodes.len()).all(|place| !self.is_up(place));
        self.mark(Mark::AllDown, is_dark, reached);
    }
}
