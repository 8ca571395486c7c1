//! Filling another holder's store, and being filled (S4-07, S4-12, X07, X13; I10).
//!
//! A holder whose log is so far behind that no primary's log reaches back to it gets the blocks themselves:
//! those that are others than the primary's (`compare`). They are found and read while the primary goes on,
//! so what was written since the fill began may be among them or not; the log is repeated from there on, and
//! settles it (`filler`).
//!
//! What is compared is the store of the one that is filled, and nothing else writes it: from the first word
//! of a fill on nothing of its log is applied, and it is the applier that compares, in its turn, behind all
//! that it was asked to write before.
//!
//! Until the end of it the holder is in no in-sync set. A fill that breaks off leaves a store that only
//! another fill, or the whole log since its last applied write, makes whole again.

use super::applier::Job;
use super::extents::{Content, Extent, Placed};
use super::filler::{ASKED_MAX, Desk, Said, Work};
use super::group::Group;
use super::handle::lock;
use super::view::FillView;
use crate::replication::tally::End;
use crate::replication::words::{Blocks, Digest, Frame};
use crate::storage::buffers::Piece;
use bulkhead_core::holder::words::Event;
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::{Kind, Volume, Write};
use bulkhead_core::mirror::secondary::{Following, Mode};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A primary that fills this holder's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    by: Following,
    /// Which fill of this holder: what was found out for an earlier one is told to nobody.
    number: u64,
    /// Questions of the primary that are not answered yet.
    asked: usize,
    state: Coming,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coming {
    /// Not all of it is here.
    Some,
    /// All of it came; the store has every write up to this one when that is durable.
    All(Seq),
    /// It is. The log is made anew now, and nothing of the old one is to be applied any more.
    Durable,
}

/// A thread that fills another holder's store. Dropped, it ends.
#[derive(Debug)]
pub struct Filler {
    number: u64,
    epoch: Epoch,
    desk: Arc<Desk>,
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.desk.end();
    }
}

impl Filler {
    /// A volume was made or deleted.
    pub fn renewed(&self, volume: Volume) {
        self.desk.renewed(volume);
    }
}

/// What was found out for whoever fills this store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Which fill.
    pub number: u64,
    /// What was compared.
    pub blocks: Blocks,
    /// The regions of it that are others here, with the digests of their blocks.
    pub differing: Vec<(Blocks, Vec<Digest>)>,
}

/// As the primary.
impl Group {
    /// Fills another holder's store.
    pub(super) fn fill(&mut self, to: NodeId) {
        let stream = self.peers.get(&to).and_then(|peer| peer.stream);
        let (Some(stream), Some(primary)) = (stream, self.holder.primary()) else { return };
        let epoch = primary.epoch();
        let number = self.next_fill();
        let desk = Arc::new(Desk::new(self.apply.visible()));
        let work = Work {
            shared: Arc::clone(&self.shared),
            streams: Arc::clone(&self.streams),
            stream,
            epoch,
            number,
            desk: Arc::clone(&desk),
            asked: VecDeque::new(),
            heard: std::time::Instant::now(),
        };
        let thread = std::thread::Builder::new().name("fill".into()).spawn(move || work.run());
        match thread {
            Ok(_) => drop(self.fillers.insert(to, Filler { number, epoch, desk })),
            Err(error) => {
                self.last_error = Some(format!("node {} cannot be filled: {error}", to.0));
                // It is met, and asked whether it is behind, again.
                self.streams.end(stream, End::Failed);
            }
        }
    }

    fn next_fill(&mut self) -> u64 {
        self.fills = self.fills.wrapping_add(1);
        self.fills
    }

    /// A filler has something to say.
    pub(super) fn filler_said(&mut self, node: NodeId, number: u64, said: Said) {
        if self.fillers.get(&node).is_none_or(|filler| filler.number != number) {
            return;
        }
        match said {
            // It says when it is durable there.
            Said::Ended => {}
            Said::Failed(why) => {
                let text = format!("node {} cannot be filled, and is tried again: {why}", node.0);
                self.last_error = Some(text);
            }
        }
    }

    /// Another holder is filled, durably, and its log begins anew: it is offered to be fed.
    pub(super) fn is_filled(&mut self, node: NodeId, epoch: Epoch) {
        if self.fillers.get(&node).is_some_and(|filler| filler.epoch == epoch) {
            self.fillers.remove(&node);
            self.meet(node);
        }
    }

    /// Another holder answered its filler.
    pub(super) fn answered(&self, from: NodeId, epoch: Epoch, frame: Frame) {
        let Some(filler) = self.fillers.get(&from).filter(|filler| filler.epoch == epoch) else { return };
        if !filler.desk.answered(frame) {
            self.babbles(from);
        }
    }

    /// Another holder says more than there is to be said: it loses its stream, not this one its memory.
    pub(super) fn babbles(&self, node: NodeId) {
        if let Some(stream) = self.peers.get(&node).and_then(|peer| peer.stream) {
            self.streams.end(stream, End::Babbled);
        }
    }

    /// A write may be read from now on: what was compared of it is to be compared again.
    pub(super) fn fillers_see(&self, write: &Write) {
        let seq = self.apply.visible();
        self.fillers.values().for_each(|filler| filler.desk.shown(seq, write));
    }

    /// Tells fillers what is in the store, and what the log has.
    pub(super) fn move_fillers(&mut self) {
        let Some(primary) = self.holder.primary() else { return self.fillers.clear() };
        let (applied, oldest) = (self.holder.applied(), self.holder.kept().tail.first);
        self.fillers.retain(|_, filler| filler.epoch == primary.epoch());
        self.fillers.values().for_each(|filler| filler.desk.moved(applied, oldest));
    }

    /// How far the fill of another holder is.
    pub(super) fn fill_view(&self, node: NodeId) -> Option<FillView> {
        let desk = &self.fillers.get(&node)?.desk;
        let progress = &desk.progress;
        let bytes = progress.bytes.load(Ordering::SeqCst);
        let compared = progress.compared.load(Ordering::SeqCst).min(bytes);
        let left = bytes.saturating_sub(compared);
        let passed = u64::try_from(desk.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let pace = u128::from(passed).saturating_mul(u128::from(left)).checked_div(u128::from(compared));
        Some(FillView {
            bytes,
            compared_bytes: compared,
            moved_bytes: progress.moved.load(Ordering::SeqCst),
            left_bytes: left,
            left_millis: pace.and_then(|millis| u64::try_from(millis).ok()),
        })
    }
}

/// As the one that is filled.
impl Group {
    /// Whether this primary fills this store; with its first word the fill begins.
    fn is_filled_by(&mut self, by: Following) -> Option<Filled> {
        if self.holder.secondary().map(|one| one.mode()) != Some(Mode::Behind(by)) {
            return None;
        }
        if let Some(filled) = self.filled.filter(|filled| filled.by == by) {
            return Some(filled);
        }
        // What the log has is older than what comes.
        self.apply.stop();
        lock(&self.shared.dirty).clear();
        let filled = Filled { by, number: self.next_fill(), asked: 0, state: Coming::Some };
        self.filled = Some(filled);
        Some(filled)
    }

    /// A primary fills this store.
    pub(super) fn fill_with(&mut self, by: Following, write: &Write, piece: Option<Piece>) {
        if self.is_filled_by(by).is_none() {
            return;
        }
        let content = match (write.kind(), piece) {
            (Kind::Data, Some(piece)) => Content::Data(piece),
            (Kind::Data | Kind::Zeroes | Kind::Trimmed, _) => Content::Zeroes,
        };
        let extent = Extent { blocks: u64::from(write.blocks()), seq: Seq(0), content, at: None };
        self.applier.ask(Job::Fill(Placed { volume: write.volume(), first: write.first().0, extent }));
    }

    /// It asks where this store is another one than its own.
    pub(super) fn compare_with(&mut self, by: Following, blocks: Blocks, digests: Vec<Digest>) {
        let Some(filled) = self.is_filled_by(by) else { return };
        if ASKED_MAX <= filled.asked {
            return self.babbles(by.primary);
        }
        self.filled = Some(Filled { asked: filled.asked.saturating_add(1), ..filled });
        self.applier.ask(Job::Compare { number: filled.number, blocks, digests });
    }

    /// Tells it.
    pub(super) fn have_compared(&mut self, Compared { number, blocks, differing }: Compared) {
        let Some(filled) = self.filled.as_mut().filter(|filled| filled.number == number) else { return };
        filled.asked = filled.asked.saturating_sub(1);
        let Following { primary, epoch } = filled.by;
        let Some(stream) = self.peers.get(&primary).and_then(|peer| peer.stream) else { return };
        let differs = |(blocks, digests)| Frame::Differs { epoch, blocks, digests };
        let mut frames: Vec<_> = differing.into_iter().map(differs).collect();
        frames.push(Frame::Compared { epoch, blocks });
        self.streams.send(stream, frames);
    }

    /// All of it came.
    pub(super) fn fill_ended(&mut self, by: Following, upto: Seq) {
        if let Some(filled) = self.is_filled_by(by).filter(|filled| filled.state == Coming::Some) {
            self.filled = Some(Filled { state: Coming::All(upto), ..filled });
            self.applier.ask(Job::Sync { number: filled.number });
        }
    }

    /// All of it is durable.
    pub(super) fn fill_is_durable(&mut self, number: u64) {
        let Some(filled) = self.filled.filter(|filled| filled.number == number) else { return };
        let is_behind = self.holder.secondary().map(|one| one.mode()) == Some(Mode::Behind(filled.by));
        if let (Coming::All(upto), true) = (filled.state, is_behind) {
            self.filled = Some(Filled { state: Coming::Durable, ..filled });
            let Following { primary: from, epoch } = filled.by;
            self.step(Event::Filled { from, epoch, upto });
        }
    }

    /// The log was made anew: whoever filled this store can feed it now.
    pub(super) fn tell_filled(&mut self) {
        let Some(Filled { by: Following { primary, epoch }, state, .. }) = self.filled.take() else { return };
        if state == Coming::Durable {
            self.is_of_one_time();
        }
        if let (Coming::Durable, Some(stream)) =
            (state, self.peers.get(&primary).and_then(|peer| peer.stream))
        {
            self.streams.send(stream, vec![Frame::Filled { epoch, upto: self.holder.applied() }]);
        }
    }

    /// This store has all of one time, and nothing of another one.
    pub(super) fn is_of_one_time(&mut self) {
        if let Err(error) = self.shared.store.end_fill() {
            let place = self.shared.store.directory().display();
            self.last_error = Some(format!("{place} says that it is being filled, and is not: {error}"));
        }
    }

    /// There is no path to this node any more.
    pub(super) fn fill_broke(&mut self, node: NodeId) {
        if self.filled.is_some_and(|filled| filled.by.primary == node) {
            self.end_fill();
        }
    }

    /// Another primary than the one that fills this store may have been found, and its log to reach back far
    /// enough.
    pub(super) fn look_after_fill(&mut self) {
        let Some(filled) = self.filled else { return };
        let mode = self.holder.secondary().map(|one| one.mode());
        if mode.is_some_and(|mode| mode != Mode::Behind(filled.by)) {
            self.end_fill();
        }
    }

    /// The fill broke off: what the log has is to be written again.
    fn end_fill(&mut self) {
        if self.filled.take_if(|filled| filled.state != Coming::Durable).is_some() {
            let safe = self.holder.secondary().map(|one| one.safe()).unwrap_or_default();
            self.apply.restart(self.holder.applied(), safe);
        }
    }
}
