//! Filling another holder's store, and being filled (S4-07, S4-12, X13; I10).
//!
//! A holder whose log is so far behind that no primary's log reaches back to it gets the blocks themselves,
//! all of them: the data as data, the holes as zeroes. They are read while the primary goes on, so what was
//! written since the fill began may be among them or not; the log is repeated from there on, and settles it.
//! Until then the holder is in no in-sync set. A fill that breaks off leaves a store that only another fill,
//! or the whole log since its last applied write, makes whole again.

use super::applier::Job;
use super::dirty::{Content, Extent, Placed};
use super::group::Group;
use super::handle::{Shared, Told, lock};
use super::store::Store;
use super::words::Streams;
use crate::replication::words::{Frame, Stream};
use crate::storage::buffers::Piece;
use crate::storage::space::sums;
use bulkhead_core::holder::words::Event;
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::{BlockIndex, Kind, Volume, Write};
use bulkhead_core::mirror::secondary::{Following, Mode};
use bulkhead_core::volume::{CATALOGUE, CATALOGUE_BLOCKS};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Blocks of one frame.
const RUN: u64 = 64;
/// Bytes on their way, above which the filler waits.
const QUEUED_MAX: usize = 2 << 20;
/// How long it waits then.
const PAUSE: Duration = Duration::from_millis(5);

/// A primary that fills this holder's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    from: NodeId,
    epoch: Epoch,
    /// All of it came; the store has every write up to this one when that is durable.
    upto: Option<Seq>,
}

impl Filled {
    /// It begins.
    pub const fn new(from: NodeId, epoch: Epoch) -> Self {
        Self { from, epoch, upto: None }
    }
}

/// A thread that fills another holder's store. Dropped, it ends.
#[derive(Debug)]
pub struct Filler {
    stop: Arc<AtomicBool>,
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Group {
    /// Fills another holder's store.
    pub(super) fn fill(&mut self, to: NodeId) {
        let stream = self.peers.get(&to).and_then(|peer| peer.stream);
        let (Some(stream), Some(primary)) = (stream, self.holder.primary()) else { return };
        let stop = Arc::new(AtomicBool::new(false));
        let present = lock(&self.shared.catalogue);
        let volumes = present.list().map(|record| (record.volume, record.blocks));
        let volumes = volumes.chain([(CATALOGUE, CATALOGUE_BLOCKS)]).collect();
        drop(present);
        let work = Work {
            shared: Arc::clone(&self.shared),
            streams: Arc::clone(&self.streams),
            stream,
            epoch: primary.epoch(),
            upto: self.holder.applied(),
            volumes,
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new().name("fill".into()).spawn(move || work.run(to));
        match thread {
            Ok(_) => drop(self.fillers.insert(to, Filler { stop })),
            Err(error) => self.last_error = Some(format!("node {} cannot be filled: {error}", to.0)),
        }
    }

    /// All was sent: it is offered to be fed again.
    pub(super) fn filler_ended(&mut self, node: NodeId, stream: Stream) {
        if self.peers.get(&node).and_then(|peer| peer.stream) == Some(stream) {
            self.fillers.remove(&node);
            self.step(Event::Met(node));
        }
    }

    /// A primary fills this store.
    pub(super) fn fill_with(&mut self, by: Filled, write: &Write, piece: Option<Piece>) {
        let following = Following { primary: by.from, epoch: by.epoch };
        if self.holder.secondary().map(|one| one.mode()) != Some(Mode::Behind(following)) {
            return;
        }
        if self.filled.is_none() {
            self.filled = Some(by);
            // What the log has is older than what comes.
            self.apply.stop();
            lock(&self.shared.dirty).clear();
        }
        let content = match (write.kind(), piece) {
            (Kind::Data, Some(piece)) => Content::Data(piece),
            (Kind::Data | Kind::Zeroes | Kind::Trimmed, _) => Content::Zeroes,
        };
        let extent = Extent { blocks: u64::from(write.blocks()), seq: Seq(0), content };
        self.applier.ask(Job::Fill(Placed { volume: write.volume(), first: write.first().0, extent }));
    }

    /// All of it came.
    pub(super) fn fill_ended(&mut self, by: Filled, upto: Seq) {
        if let Some(filled) = self.filled.as_mut().filter(|filled| **filled == by) {
            filled.upto = Some(upto);
            self.applier.ask(Job::Sync);
        }
    }

    /// All of it is durable.
    pub(super) fn fill_is_durable(&mut self) {
        if let Some(Filled { from, epoch, upto: Some(upto) }) = self.filled {
            self.step(Event::Filled { from, epoch, upto });
        }
    }

    /// Who filled this store is gone: what the log has of it is to be written again.
    pub(super) fn fill_broke(&mut self, node: NodeId) {
        if self.filled.is_some_and(|filled| filled.from == node) {
            self.filled = None;
            let commit = self.holder.secondary().map(|one| one.commit()).unwrap_or_default();
            self.apply.restart(self.holder.applied(), commit);
        }
    }
}

struct Work {
    shared: Arc<Shared>,
    streams: Arc<dyn Streams>,
    stream: Stream,
    epoch: Epoch,
    upto: Seq,
    volumes: Vec<(Volume, u64)>,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(self, to: NodeId) {
        for (volume, blocks) in &self.volumes {
            if !self.volume(*volume, *blocks) {
                return;
            }
        }
        self.streams.send(self.stream, vec![Frame::Filled { epoch: self.epoch, upto: self.upto }]);
        self.shared.tell(Told::Filled(to, self.stream));
    }

    /// Sends one volume; `false`: it is over.
    fn volume(&self, volume: Volume, blocks: u64) -> bool {
        let mut at = 0;
        while at < blocks {
            let Ok((is_data, run)) = self.shared.store.run(volume, at, blocks.saturating_sub(at)) else {
                return false;
            };
            let run = if is_data { run.min(RUN) } else { run.min(u64::from(u32::MAX)) };
            let kind = if is_data { Kind::Data } else { Kind::Zeroes };
            let Some(write) =
                Write::new(volume, BlockIndex(at), u32::try_from(run).unwrap_or(u32::MAX), kind)
            else {
                return false;
            };
            let piece = if is_data { self.read(volume, at, run) } else { Some(None) };
            let Some(payload) = piece else { return false };
            let sums = payload.iter().flat_map(|piece: &Piece| sums(piece.bytes())).collect();
            self.streams.send(self.stream, vec![Frame::Fill { epoch: self.epoch, write, sums, payload }]);
            at = at.saturating_add(run);
        }
        true
    }

    /// Reads blocks, when there is memory and the peer has taken what came before.
    fn read(&self, volume: Volume, at: u64, run: u64) -> Option<Option<Piece>> {
        loop {
            if self.stop.load(Ordering::SeqCst) {
                return None;
            }
            let blocks = usize::try_from(run).unwrap_or(usize::MAX);
            // Half of the memory stays with guests.
            let is_free = self.shared.pool_blocks / 2 <= self.shared.pool.free();
            let buffer = if is_free && self.streams.queued(self.stream) < QUEUED_MAX {
                self.shared.pool.take(blocks)
            } else {
                None
            };
            let Some(mut buffer) = buffer else {
                std::thread::sleep(PAUSE);
                continue;
            };
            let store: &Store = &self.shared.store;
            store.read(volume, at, buffer.bytes_mut()).ok()?;
            return Some(Some(buffer.keep().piece()));
        }
    }
}
