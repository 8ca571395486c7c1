//! What goes to the backing store, what may be read, and the filling of a whole store (S4-03, S4-05, S4-12;
//! I10, I12, X13).

use std::collections::BTreeMap;

use bulkhead_core::holder::words::Event;
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::Seq;
use bulkhead_core::log::writer::Log;
use bulkhead_core::mirror::membership::Policy;
use bulkhead_core::mirror::secondary::{Following, Mode};

use super::drive::{Cell, Io};
use super::streams::Message;
use super::{Flushed, Told};
use crate::world::World;

/// Blocks of one message of a fill.
const RUN: u64 = 64;

/// How far the store is.
#[derive(Debug, Default)]
pub(crate) struct Apply {
    /// Every write up to this one may be read.
    target: Seq,
    /// Every write up to this one can be.
    pub(crate) visible: Seq,
    /// What is not known to be in the store: of which write, and what.
    dirty: BTreeMap<u64, (Seq, u64)>,
    is_running: bool,
    is_due: bool,
    /// A primary fills the store: nothing of the log goes there.
    is_stopped: bool,
}

impl Apply {
    /// The store has every write up to this one.
    pub(crate) fn new(applied: Seq) -> Self {
        Self { target: applied, visible: applied, ..Self::default() }
    }

    pub(crate) fn restart(&mut self, applied: Seq, target: Seq) {
        let (is_running, is_due) = (self.is_running, self.is_due);
        *self = Self { is_running, is_due, target: target.max(applied), ..Self::new(applied) };
    }

    /// What was on its way to the store failed.
    pub(crate) const fn fail(&mut self) {
        self.is_running = false;
    }

    /// Whether something is on its way to the store.
    pub(crate) const fn is_running(&self) -> bool {
        self.is_running
    }

    /// Whether all that may be read can be, and this write with it.
    pub(crate) fn shows_all(&self, from: Seq) -> bool {
        from <= self.visible && self.visible == self.target
    }

    /// What a block says, if it is not in the store.
    pub(crate) fn dirty(&self, block: u64) -> Option<u64> {
        self.dirty.get(&block).map(|(_, value)| *value)
    }
}

/// A primary that fills this holder's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    by: (NodeId, Epoch),
    /// All of it came.
    upto: Option<Seq>,
    newest: Io,
}

impl World {
    /// Writes up to this one count: nobody ever takes them back (I10).
    pub(crate) fn may_apply(&mut self, node: NodeId, seq: Seq) {
        let pair = self.pair_of(node);
        let Self { machines, groups, .. } = self;
        let ledger = &mut groups[pair].ledger;
        let Some(shell) = machines.get_mut(&node).and_then(|one| one.group.shell.as_deref_mut()) else {
            return;
        };
        let from = shell.apply.target.next();
        shell.apply.target = shell.apply.target.max(seq);
        let promised = match shell.holder.primary() {
            Some(_) => ledger.promise(seq, &shell.window),
            None if ledger.upto() < seq => Err(format!("write {} does not count yet", seq.0)),
            None => Ok(()),
        };
        let all = promised.and_then(|()| ledger.agrees(&shell.window, from, seq));
        if let Err(why) = all {
            self.oracle.violated(self.now, format!("n{} is to apply up to {}: {why}", node.0, seq.0));
        }
    }

    /// Makes readable what may be read, and has the store written when it is worth it.
    pub(crate) fn show(&mut self, node: NodeId) {
        let Some(shell) = self.shell(node) else { return };
        let mut missing = None;
        while shell.apply.visible < shell.apply.target && !shell.apply.is_stopped {
            let seq = shell.apply.visible.next();
            let Some(entry) = shell.window.get(&seq) else {
                missing = Some(seq);
                break;
            };
            shell.apply.dirty.extend(entry.blocks().map(|(block, value)| (block, (seq, value))));
            shell.apply.visible = seq;
        }
        if let Some(seq) = missing {
            let text = format!("write {} counts, and is not in the log of n{}", seq.0, node.0);
            return self.oracle.violated(self.now, text);
        }
        let primary = shell.holder.primary();
        let is_through = primary.is_some_and(|primary| primary.chosen().policy() == Policy::Through);
        let ring = shell.holder.kept().ring.blocks();
        let is_full = shell.holder.log().map(Log::free).is_some_and(|free| free < ring / 2);
        let lags = shell.holder.applied() < shell.apply.visible;
        let apply = &mut shell.apply;
        if lags && !apply.is_running && !apply.is_stopped && (!apply.is_due || is_through || is_full) {
            apply.is_due = true;
            let wait = if is_through || is_full { 50 } else { self.chance.between(1_000, 200_000) };
            self.tell(node, self.now + wait, Told::Round);
        }
    }

    /// Everything that may be read goes to the store.
    pub(crate) fn round(&mut self, node: NodeId) {
        let has_store = self.has_store(node);
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let Some(shell) = &mut machine.group.shell else { return };
        let apply = &mut shell.apply;
        apply.is_due = false;
        if !has_store || apply.is_running || apply.is_stopped || apply.visible <= shell.holder.applied() {
            return;
        }
        apply.is_running = true;
        let upto = apply.visible;
        let cells: Vec<_> =
            apply.dirty.iter().map(|(block, (_, value))| (*block, Cell::of(*value))).collect();
        let whole = &mut self.groups[usize::from(machine.member.pair.0)];
        let store = whole.shared.as_mut().map_or(&mut machine.group.store, |all| &mut all.store);
        let io = store.write(cells);
        self.flush_later(node, io, Flushed::Store(upto));
    }

    /// Every write up to this one is durable in the store.
    pub(crate) fn is_stored(&mut self, node: NodeId, upto: Seq) {
        let Some(shell) = self.shell(node) else { return };
        shell.apply.is_running = false;
        shell.apply.dirty.retain(|_, (seq, _)| upto < *seq);
        self.shell_step(node, Event::Applied(upto));
    }

    /// The log was made anew, and holds nothing.
    pub(crate) fn remade(&mut self, node: NodeId) {
        self.note(&|| format!("n{} makes its log anew", node.0));
        self.oracle.reached.insert("log made anew");
        let Some(machine) = self.machines.get_mut(&node) else { return };
        machine.group.is_harmed = false;
        let Some(shell) = &mut machine.group.shell else { return };
        shell.window.clear();
        let applied = shell.holder.applied();
        shell.apply.restart(applied, applied);
        shell.filled = None;
        let life = shell.holder.me().life;
        if !self.whole_mut(node).lives.insert(life.0) {
            self.oracle.violated(self.now, format!("n{} has a log of a life that was (F14)", node.0));
        }
    }

    /// Fills another holder's store, while everything goes on.
    pub(crate) fn fill(&mut self, node: NodeId, to: NodeId) {
        let Some(shell) = self.shell(node) else { return };
        let stream = shell.peers.get(&to).and_then(|peer| peer.stream);
        let (Some(stream), Some(primary)) = (stream, shell.holder.primary()) else { return };
        let (epoch, upto) = (primary.epoch(), shell.holder.applied());
        self.note(&|| format!("n{} fills n{}, which has write {}", node.0, to.0, upto.0));
        self.tell(node, self.now + 10, Told::Fill { to, stream, epoch, upto, at: 0 });
    }

    /// Sends some of it.
    pub(crate) fn fill_on(&mut self, node: NodeId, whom: (NodeId, u64), what: (Epoch, Seq), at: u64) {
        let ((to, stream), (epoch, upto)) = (whom, what);
        let Some(shell) = self.shell(node) else { return };
        if shell.peers.get(&to).and_then(|peer| peer.stream) != Some(stream) {
            return;
        }
        let blocks = self.blocks();
        if at < blocks {
            let store = self.store(node);
            let cells = (at..blocks.min(at + RUN)).map(|block| store.read(block).clone()).collect();
            self.send(node, to, stream, Message::Fill { epoch, first: at, cells });
            let later = self.now + self.chance.between(100, 20_000);
            return self.tell(node, later, Told::Fill { to, stream, epoch, upto, at: at + RUN });
        }
        self.send(node, to, stream, Message::Filled { epoch, upto });
        self.shell_step(node, Event::Met(to));
    }

    /// Blocks from whoever fills this store.
    pub(crate) fn fill_with(&mut self, node: NodeId, by: (NodeId, Epoch), first: u64, cells: Vec<Cell>) {
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let Some(shell) = &mut machine.group.shell else { return };
        let following = Following { primary: by.0, epoch: by.1 };
        if shell.holder.secondary().map(|one| one.mode()) != Some(Mode::Behind(following)) {
            return;
        }
        let old = shell.filled.filter(|filled| filled.by == by);
        if old.is_some_and(|filled| filled.upto.is_some()) {
            // It was asked for again before the first one was durable.
            return;
        }
        let newest = machine.group.store.write((first..).zip(cells));
        shell.filled = Some(Filled { by, upto: None, newest });
        // What the log has is older than what comes.
        shell.apply.is_stopped = true;
        shell.apply.dirty.clear();
    }

    /// All of it came.
    pub(crate) fn fill_ended(&mut self, node: NodeId, by: (NodeId, Epoch), upto: Seq) {
        let filled = self.shell(node).and_then(|shell| shell.filled.as_mut());
        if let Some(filled) = filled.filter(|filled| filled.by == by && filled.upto.is_none()) {
            filled.upto = Some(upto);
            let io = filled.newest;
            self.flush_later(node, io, Flushed::Fill);
        }
    }

    /// All of it is durable.
    pub(crate) fn fill_is_durable(&mut self, node: NodeId) {
        let filled = self.shell(node).and_then(|shell| shell.filled);
        if let Some(Filled { by: (from, epoch), upto: Some(upto), .. }) = filled {
            self.oracle.reached.insert("store filled");
            self.shell_step(node, Event::Filled { from, epoch, upto });
        }
    }

    /// Who filled this store is gone: what the log has of it is to be written again.
    pub(crate) fn fill_broke(&mut self, node: NodeId, from: NodeId) {
        let Some(shell) = self.shell(node) else { return };
        if shell.filled.is_some_and(|filled| filled.by.0 == from) {
            shell.filled = None;
            let safe = shell.holder.secondary().map(|one| one.safe()).unwrap_or_default();
            shell.apply.restart(shell.holder.applied(), safe);
        }
    }
}
