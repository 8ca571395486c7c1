//! What the thread of a group does about damaged blocks: asks another holder for its own, and has others'
//! answered (V5, V14; F4, F7, F10).

use super::backing::How;
use super::dirty::Found;
use super::given::Given;
use super::group::Group;
use super::handle::lock;
use super::store::Damaged;
use crate::replication::words::{Blocks, Frame, Stream};
use crate::storage::buffers::Piece;
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::batch::{BlockIndex, Write};
use bulkhead_core::log::{BLOCK_LEN, Seq};
use bulkhead_core::mirror::secondary::{Following, Mode};
use bulkhead_core::volume::CATALOGUE;
use std::sync::Arc;

/// Questions of one holder that wait, at most. It asks for one block in each of its threads.
const WANTED_MAX: usize = 64;

/// What another holder wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    from: NodeId,
    epoch: Epoch,
    /// When this is shown here.
    upto: Seq,
    blocks: Blocks,
}

impl Group {
    /// Asks another holder what was there. One that is there and not in sync may be so in a moment: whoever
    /// waits, waits for that.
    pub(super) fn ask_for_mends(&mut self) {
        let is_alone = self.peers.values().all(|peer| peer.stream.is_none());
        for damaged in self.shared.mends.unasked() {
            let whom = self.whom_to_ask();
            if whom.is_none() && !is_alone {
                continue;
            }
            self.shared.mends.asks(damaged, whom.map(|(stream, _)| stream.peer()));
            let Some((stream, epoch)) = whom else { continue };
            let blocks = Blocks { volume: damaged.volume, first: BlockIndex(damaged.block), count: 1 };
            self.streams.send(stream, vec![Frame::Wants { epoch, upto: self.apply.visible(), blocks }]);
        }
    }

    /// A block of the catalogue is in the store again. It was damaged, or gone, as this holder started, which
    /// then knows nothing of its volume; what the log has is newer, and known.
    pub(super) fn catalogue_mended(&mut self, block: u64) {
        let parts = lock(&self.shared.dirty).look(CATALOGUE, block, 1);
        if !self.has_store() || parts.iter().any(|part| !matches!(part.found, Found::Store)) {
            return;
        }
        let mut content = [0; BLOCK_LEN];
        // One that cannot be read is damaged once more, and found once more.
        if self.shared.store.read(CATALOGUE, block, &mut content, How::Waiting).is_err() {
            return;
        }
        self.damaged.remove(&block);
        if let Err(failure) = lock(&self.shared.catalogue).take(block, &content) {
            self.last_error = Some(failure.what);
        }
        self.catalogue_changed();
    }

    /// Somebody who has every acknowledged write, and the epoch of this one or the other as primary.
    fn whom_to_ask(&self) -> Option<(Stream, Epoch)> {
        let stream = |node: NodeId| self.peers.get(&node).and_then(|peer| peer.stream);
        if let Some(primary) = self.holder.primary() {
            let in_sync = primary.chosen().holders().iter().map(|one| one.node);
            return in_sync.filter_map(stream).next().map(|stream| (stream, primary.epoch()));
        }
        let Following { primary, epoch } = self.follows()?;
        stream(primary).map(|stream| (stream, epoch))
    }

    /// Whom it follows, and has all of the log of.
    pub(super) fn follows(&self) -> Option<Following> {
        match self.holder.secondary()?.mode() {
            Mode::Following(by) => Some(by),
            Mode::Idle | Mode::Behind(_) | Mode::Adopting(_) | Mode::Failed => None,
        }
    }

    /// Another holder's block is damaged.
    pub(super) fn is_asked(&mut self, from: NodeId, epoch: Epoch, upto: Seq, blocks: Blocks) {
        if WANTED_MAX <= self.wanted_by_others.iter().filter(|wanted| wanted.from == from).count() {
            return self.babbles(from);
        }
        self.wanted_by_others.push(Wanted { from, epoch, upto, blocks });
    }

    /// Nothing more is to be said to this holder, and nothing comes of it.
    pub(super) fn mends_broke(&mut self, node: NodeId) {
        self.wanted_by_others.retain(|wanted| wanted.from != node);
        self.shared.mends.lost(node);
        self.ask_for_mends();
    }

    /// Has answered what can be answered now.
    pub(super) fn give_mends(&mut self) {
        let (visible, mut waiting) = (self.apply.visible(), Vec::new());
        for wanted in std::mem::take(&mut self.wanted_by_others) {
            let Wanted { from, epoch, upto, blocks } = wanted;
            let Some(stream) = self.peers.get(&from).and_then(|peer| peer.stream) else { continue };
            let leads = self.holder.primary().is_some_and(|primary| primary.epoch() == epoch);
            let follows = self.follows() == Some(Following { primary: from, epoch });
            if !leads && !follows {
                self.streams.send(stream, vec![Frame::Lacks { epoch, blocks }]);
            } else if visible < upto {
                waiting.push(wanted);
            } else {
                let streams = Arc::clone(&self.streams);
                let is_dirty_told = follows;
                let given = Given { streams, stream, epoch, blocks, is_dirty_told };
                self.shared.readers.give(&self.shared, given);
            }
        }
        self.wanted_by_others = waiting;
    }

    /// Another holder said what it has where this one is damaged.
    pub(super) fn is_mended(&self, from: NodeId, write: &Write, payload: Option<&Piece>) {
        let damaged = Damaged { volume: write.volume(), block: write.first().0 };
        self.shared.mends.answers(from, damaged, payload.map(Piece::bytes));
    }

    /// Another holder cannot say it.
    pub(super) fn is_lacked(&self, from: NodeId, blocks: Blocks) {
        let damaged = Damaged { volume: blocks.volume, block: blocks.first.0 };
        self.shared.mends.answers(from, damaged, None);
    }

    /// Whether all that a crash may have left half written is dirty: what else does not fit its checksum is
    /// damaged.
    pub(super) fn is_settled(&mut self) -> bool {
        if self.holder.primary().is_some() {
            return self.led_from.is_some_and(|from| self.apply.shows_all(from));
        }
        if self.tenant.is_some() {
            // The store is another one's.
            return false;
        }
        let follows = self.follows();
        if self.followed_from.map(|(by, _)| by) != follows {
            let newest = self.holder.log().map(|log| log.next().before()).unwrap_or_default();
            self.followed_from = follows.map(|by| (by, newest));
        }
        self.followed_from.is_some_and(|(_, from)| from <= self.apply.visible())
    }

    /// Tells who looks for damage whether there is any to be found now.
    pub(super) fn move_scrub(&mut self) {
        let is_settled = self.is_settled() && self.filled.is_none();
        self.shared.scrub.allow(is_settled);
    }
}
