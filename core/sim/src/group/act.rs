//! What a holder asks for, and how it is done (V1, V3, V13; F5, F11, F12).

use std::rc::Rc;

use bulkhead_core::holder::machine::Mode;
use bulkhead_core::holder::words::{Action, Refused, Word};
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::ring::Position;
use bulkhead_core::log::{Block, Seq};
use bulkhead_core::mirror::membership::Policy;
use bulkhead_core::node::message::Office;
use bulkhead_core::node::storage;
use bulkhead_core::register::record::Payload;
use bulkhead_core::register::seat::Verdict;

use super::drive::{Cell, Io};
use super::guests::Outcome;
use super::ledger::Entry;
use super::streams::Message;
use super::{Flushed, Told, Wish};
use crate::world::World;

/// An action without what it borrows.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Accepted(Seq),
    Refused(Refused),
    Commit { at: Position, writes: (Seq, usize), header: Rc<Block> },
    Keep { at: u64, block: Rc<Block> },
    Cut(Seq),
    Remade,
    Say { to: NodeId, word: Box<Word> },
    Feed { to: NodeId, epoch: Epoch, first: Seq, last: Seq },
    Fill { to: NodeId },
    Apply(Seq),
    Acknowledge(Seq),
    Decided(Verdict),
    Rewrite(Payload),
    Release,
}

impl Act {
    pub(crate) fn of(action: Action<'_>) -> Option<Self> {
        Some(match action {
            Action::Accepted(seq) => Self::Accepted(seq),
            Action::Refused(why) => Self::Refused(why),
            Action::Commit { at, writes, header, .. } => {
                Self::Commit { at, writes, header: Rc::new(*header) }
            }
            Action::Keep { at, block } => Self::Keep { at, block: Rc::new(*block) },
            Action::Durable(_) => return None,
            Action::Cut(from) => Self::Cut(from),
            Action::Remade => Self::Remade,
            Action::Say { to, word } => Self::Say { to, word: Box::new(word) },
            Action::Feed { to, epoch, first, last } => Self::Feed { to, epoch, first, last },
            Action::Fill { to, .. } => Self::Fill { to },
            Action::Apply(seq) => Self::Apply(seq),
            Action::Acknowledge(seq) => Self::Acknowledge(seq),
            Action::Decided(verdict) => Self::Decided(verdict),
            Action::Rewrite(payload) => Self::Rewrite(payload),
            Action::Release => Self::Release,
        })
    }
}

impl World {
    pub(crate) fn act(&mut self, node: NodeId, act: Act) {
        match act {
            // Looked at where the write was offered.
            Act::Accepted(_) | Act::Refused(_) => {}
            Act::Commit { at, writes, header } => self.commit(node, at, writes, header),
            Act::Keep { at, block } => {
                let Some(machine) = self.machines.get_mut(&node) else { return };
                let io = machine.group.log.write([(at, Cell::Bytes(block))]);
                self.flush_later(node, io, Flushed::Superblock);
            }
            Act::Cut(from) => {
                self.note(&|| format!("n{} cuts its log at write {}", node.0, from.0));
                self.oracle.reached.insert("log cut");
                let Some(shell) = self.shell(node) else { return };
                drop(shell.window.split_off(&from));
                let owed: Vec<_> = shell.owed.split_off(&from).into_values().collect();
                owed.into_iter().for_each(|request| self.ended(node, request, Outcome::Unknown));
            }
            Act::Remade => self.remade(node),
            Act::Say { to, word } => self.say(node, to, Message::Word(word)),
            Act::Feed { to, epoch, first, last } => {
                for seq in (first.0..=last.0).map(Seq) {
                    let entry = self.shell(node).and_then(|shell| shell.window.get(&seq).copied());
                    match entry {
                        Some(entry) => self.say(node, to, Message::Write { epoch, seq, entry }),
                        None => {
                            let text = format!("n{} is to send write {}, and has it not", node.0, seq.0);
                            self.oracle.violated(self.now, text);
                        }
                    }
                }
            }
            Act::Fill { to } => self.fill(node, to),
            Act::Apply(seq) => self.may_apply(node, seq),
            Act::Acknowledge(seq) => self.acknowledge(node, seq),
            Act::Decided(verdict) => self.wish(node, Wish::Say(storage::Event::Decided(verdict))),
            Act::Rewrite(payload) => self.wish(node, Wish::Say(storage::Event::Rewrite(payload))),
            Act::Release => {
                let is_failed = self.holder(node).is_some_and(|one| one.mode() == Mode::Failed);
                let wish = if is_failed { Wish::Failed } else { Wish::Say(storage::Event::Release) };
                self.wish(node, wish);
            }
        }
    }

    fn commit(&mut self, node: NodeId, at: Position, (first, count): (Seq, usize), header: Rc<Block>) {
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let Some(shell) = &mut machine.group.shell else { return };
        let writes = first.0..first.0 + u64::try_from(count).unwrap_or(0);
        let entries = writes.filter_map(|seq| shell.window.get(&Seq(seq)));
        let payload = entries.flat_map(Entry::payload);
        let cells: Vec<_> = std::iter::once(Cell::Bytes(header)).chain(payload).collect();
        let ring = shell.holder.kept().ring;
        let blocks = u64::try_from(cells.len()).unwrap_or(0);
        let places = ring.extents(at, blocks).flat_map(|extent| extent.first..extent.first + extent.blocks);
        let io = machine.group.log.write(places.zip(cells));
        shell.flights.push((at, io));
        self.flush_later(node, io, Flushed::Log);
    }

    /// A write and its flush take their time.
    pub(crate) fn flush_later(&mut self, node: NodeId, io: Io, what: Flushed) {
        let slowest = self.machines[&node].flush_max;
        let at = self.now + self.chance.between(50, slowest);
        let group = &mut self.machines.get_mut(&node).expect("a holder has a machine").group;
        let works = match what {
            Flushed::Log => !std::mem::take(&mut group.flush_fails),
            Flushed::Superblock => !std::mem::take(&mut group.keep_fails),
            Flushed::Store(_) | Flushed::Fill => !group.is_full,
        };
        self.tell(node, at, Told::Flushed { io, works, what });
    }

    /// The disk has done it, whether anybody is awake to hear of it or not.
    pub(crate) fn flushed_io(&mut self, node: NodeId, io: Io, works: bool, what: Flushed) {
        let Self { machines, chance, groups, .. } = self;
        let Some(machine) = machines.get_mut(&node) else { return };
        let whole = &mut groups[usize::from(machine.member.pair.0)];
        let store = whole.shared.as_mut().map_or(&mut machine.group.store, |all| &mut all.store);
        match (what, works) {
            (Flushed::Log | Flushed::Superblock, true) => machine.group.log.flush(io),
            (Flushed::Log | Flushed::Superblock, false) => machine.group.log.lose(io, chance),
            (Flushed::Store(_) | Flushed::Fill, true) => store.flush_all(),
            (Flushed::Store(_) | Flushed::Fill, false) => store.lose(io, chance),
        }
        if !works {
            self.note(&|| format!("a flush of n{} fails: {what:?}", node.0));
            self.oracle.reached.insert(match what {
                Flushed::Log | Flushed::Superblock => "flush of a log failed",
                Flushed::Store(_) | Flushed::Fill => "store full",
            });
        }
    }

    /// V3, S4-08: whoever acknowledges holds the register at that very instant; alone, it is in its store.
    fn acknowledge(&mut self, node: NodeId, seq: Seq) {
        let machine = &self.machines[&node];
        let now = machine.clock.at(self.now);
        let post = machine.node.as_ref().and_then(|running| running.post(Office::Storage));
        // Who gives the register to another one is told a moment later; what it acknowledges until then is
        // durable wherever somebody could lead.
        let shell = machine.group.shell.as_deref();
        let gives = shell.is_some_and(|one| one.gives && one.lease.is_some_and(|until| now < until));
        if post.and_then(|post| post.seat().holds(now)).is_none() && !gives {
            let text = format!("n{} acknowledges write {} without the register", node.0, seq.0);
            self.oracle.violated(self.now, text);
        }
        let Some(shell) = self.shell(node) else { return };
        let applied = shell.holder.applied();
        let policy = shell.holder.primary().map(|primary| primary.chosen().policy());
        let later = shell.owed.split_off(&seq.next());
        let owed: Vec<_> = std::mem::replace(&mut shell.owed, later).into_values().collect();
        if policy == Some(Policy::Through) && applied < seq {
            let text = format!("n{} acknowledges write {} in write-through, not stored", node.0, seq.0);
            self.oracle.violated(self.now, text);
        }
        if self.whole(node).ledger.upto() < seq {
            let text = format!("n{} acknowledges write {}, which does not count yet", node.0, seq.0);
            self.oracle.violated(self.now, text);
        }
        self.oracle.reached.insert("write acknowledged");
        owed.into_iter().for_each(|request| self.ended(node, request, Outcome::Done));
    }

    pub(crate) fn say(&mut self, node: NodeId, to: NodeId, message: Message) {
        let stream = self.shell(node).and_then(|shell| shell.peers.get(&to)).and_then(|peer| peer.stream);
        if let Some(stream) = stream {
            self.send(node, to, stream, message);
        }
    }
}
