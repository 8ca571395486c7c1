//! What this holder has of a block that is damaged in another holder's store (V5, V14; I10, I12).

use super::backing::How;
use super::dirty::Found;
use super::handle::{Shared, lock};
use super::reader::content;
use super::words::Streams;
use crate::replication::words::{Blocks, Frame, Stream};
use crate::storage::buffers::Piece;
use crate::storage::space::sums;
use bulkhead_core::id::Epoch;
use bulkhead_core::log::batch::{Kind, Write};
use std::sync::Arc;

/// An answer that is to be given, by a thread that may wait for a disk.
pub struct Given {
    /// By which it is sent.
    pub streams: Arc<dyn Streams>,
    /// To whom.
    pub stream: Stream,
    /// Under which the two are primary and secondary.
    pub epoch: Epoch,
    /// Which blocks.
    pub blocks: Blocks,
    /// Whether what is dirty is told. The one that follows has nothing to read from its primary that is not
    /// in all logs yet, and gets what is dirty there anyhow.
    pub is_dirty_told: bool,
}

impl Given {
    /// Reads, and answers.
    pub fn carry_out(self, shared: &Shared) {
        let Self { epoch, blocks, .. } = self;
        let frame = self.find(shared).and_then(|piece| {
            let write = Write::new(blocks.volume, blocks.first, blocks.count, Kind::Data)?;
            let sums = sums(piece.bytes()).collect();
            Some(Frame::Mend { epoch, write, sums, payload: Some(piece) })
        });
        self.streams.send(self.stream, vec![frame.unwrap_or(Frame::Lacks { epoch, blocks })]);
    }

    fn find(&self, shared: &Shared) -> Option<Piece> {
        let Blocks { volume, first, count } = self.blocks;
        let mut buffer = shared.pool.take(usize::try_from(count).ok()?)?;
        if self.is_dirty_told {
            let found = content(shared, volume, first.0, u64::from(count)).ok()?;
            (found.len() == buffer.bytes().len()).then(|| buffer.bytes_mut().copy_from_slice(&found))?;
        } else {
            let parts = lock(&shared.dirty).look(volume, first.0, u64::from(count));
            let is_clean = parts.iter().all(|part| matches!(part.found, Found::Store));
            let read = shared.store.read(volume, first.0, buffer.bytes_mut(), How::Waiting);
            (is_clean && read.is_ok()).then_some(())?;
        }
        Some(buffer.keep().piece())
    }
}
