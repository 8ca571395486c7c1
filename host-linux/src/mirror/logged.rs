//! The log as others than its thread read it: what is dirty and not in memory any more, for guests and for
//! the store (I12; S4-01, V5, F3, F7).
//!
//! What is read here was durable, and stays until it is applied. So whoever reads for a guest looks again
//! afterwards whether it still is where it was; whoever applies needs not.

use super::batches::Batch;
use super::dirty::{Dirty, Era, RUN, Run};
use super::extents::{Extents, Placed};
use super::handle::lock;
use super::window::Entry;
use crate::storage::buffers::{Payload, Pool};
use crate::storage::device::Device;
use crate::storage::space::sums;
use bulkhead_core::cache::index::Place;
use bulkhead_core::log::batch::{BATCH_MAX, BlockIndex, Write};
use bulkhead_core::log::ring::{Position, Ring};
use bulkhead_core::log::superblock::Superblock;
use bulkhead_core::log::{BLOCK_LEN, Life, Seq};
use bulkhead_core::volume::CATALOGUE;
use std::io::{Error, ErrorKind};
use std::sync::Mutex;

/// Blocks that the applier reads at once: 4 MiB, several of the largest batches.
const CHUNK: usize = 1024;

const _: () = assert!(BATCH_MAX < CHUNK as u64, "a chunk has a whole batch");

/// A log on its device.
#[derive(Debug)]
pub struct LogFile {
    device: Device,
    ring: Ring,
    /// Memory that disks can fill.
    pool: Pool,
}

impl LogFile {
    /// The log on a device, to be read by so many at once, each so many blocks. `None`: there is no memory.
    pub fn new(device: Device, ring: Ring, readers: usize, blocks: usize) -> Option<Self> {
        let pool = Pool::new(readers.saturating_mul(blocks).saturating_mul(BLOCK_LEN))?;
        Some(Self { device, ring, pool })
    }

    /// Reads blocks, and waits for the disk.
    ///
    /// # Errors
    ///
    /// The disk failed, or more read at once than was said.
    pub fn read(&self, at: Position, blocks: usize) -> Result<Payload, Error> {
        let mut buffer = self.pool.take(blocks).ok_or(ErrorKind::OutOfMemory)?;
        let mut rest = buffer.bytes_mut();
        for extent in self.ring.extents(at, u64::try_from(blocks).unwrap_or(u64::MAX)) {
            let bytes = usize::try_from(extent.blocks).unwrap_or(usize::MAX).saturating_mul(BLOCK_LEN);
            let (here, behind) = rest.split_at_mut_checked(bytes).ok_or(ErrorKind::InvalidInput)?;
            self.device.read(extent.first, here)?;
            rest = behind;
        }
        Ok(buffer.keep())
    }

    /// Reads blocks that follow each other, [`RUN`] at most; `None`: they do not fit their checksums.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`].
    pub fn read_places(&self, places: &[Place]) -> Result<Option<Payload>, Error> {
        let first = places.first().map_or(0, |place| place.block);
        let payload = self.read(Position(first.into()), places.len().min(RUN))?;
        let is_whole = sums(payload.bytes()).eq(places.iter().map(|place| place.sum));
        Ok(is_whole.then_some(payload))
    }
}

/// Which writes of the log are to be applied.
#[derive(Clone, Debug)]
pub struct Logged {
    /// The store has every write up to this one.
    pub applied: Seq,
    /// The last one; it is in the log, and behind `applied`.
    pub upto: Seq,
    /// A batch begins here, with the write behind `applied` or an earlier one.
    pub from: Position,
    /// What counts of the log.
    pub kept: Superblock,
    /// When it is asked.
    pub era: Era,
}

/// Reads the log for the applier, from where it was before.
#[derive(Debug)]
pub struct Reader {
    log: LogFile,
    /// Of this log, the batch here has the write behind this one, or an earlier one.
    was: Option<(Life, Seq, Position)>,
}

impl Reader {
    /// Reads the log on this device. `None`: there is no memory.
    pub fn new(device: Device, ring: Ring) -> Option<Self> {
        Some(Self { log: LogFile::new(device, ring, 2, CHUNK)?, was: None })
    }

    /// The next writes, in order: never none, and not all that are wanted.
    ///
    /// # Errors
    ///
    /// What is wrong with the log.
    pub fn next(&mut self, logged: &Logged) -> Result<Vec<Entry>, String> {
        let Logged { applied, upto, from, kept, era: _ } = logged;
        let life = kept.identity.life;
        let was = self.was.take().filter(|(of, seq, _)| (*of, *seq) == (life, *applied));
        let (mut at, mut entries) = (was.map_or(*from, |(.., at)| at), Vec::new());
        while entries.is_empty() {
            let payload = self.log.read(at, CHUNK).map_err(|error| format!("the log failed: {error}"))?;
            let (begin, mut rest) = (at, payload.piece());
            while let Some(batch) = Batch::front(&rest, at, kept) {
                let Some((content, behind)) = batch.content() else { break };
                if batch.counts() && *applied < batch.last {
                    let next = entries.last().map_or(*applied, |last: &Entry| last.seq).next();
                    if next < batch.header.first || !batch.is_whole(&content) {
                        return Err(lost(next));
                    }
                    let wanted = batch.entries(&content, next);
                    entries.extend(wanted.into_iter().filter(|entry| entry.seq <= *upto));
                    if *upto <= batch.last {
                        break;
                    }
                }
                (rest, at) = (behind, batch.header.end());
            }
            if entries.is_empty() && at == begin {
                return Err(lost(applied.next()));
            }
        }
        self.was = entries.last().map(|last| (life, last.seq, at));
        Ok(entries)
    }
}

/// What of these writes is to be in the store: nothing that newer ones hide, for those follow before
/// they are forgotten; but all of the catalogue, which says what the log of a later start means. `None`: it
/// became void.
pub fn placed(entries: &[Entry], dirty: &Mutex<Dirty>, era: Era) -> Option<Vec<Placed>> {
    let mut extents = Extents::default();
    let dirty = lock(dirty);
    if dirty.era() != era {
        return None;
    }
    for entry in entries {
        let all = Run { from: 0, blocks: entry.write.blocks().into() };
        let is_all = entry.write.volume() == CATALOGUE;
        for Run { from, blocks } in if is_all { vec![all] } else { dirty.current(entry) } {
            let first = BlockIndex(entry.write.first().0.saturating_add(from));
            let count = u32::try_from(blocks).unwrap_or(u32::MAX);
            let Some(part) = Write::new(entry.write.volume(), first, count, entry.write.kind()) else {
                continue;
            };
            let blocks = |blocks: u64| usize::try_from(blocks).unwrap_or(usize::MAX);
            let piece = entry.piece.as_ref();
            let piece = piece.map(|piece| piece.split(blocks(from)).1.split(blocks(count.into())).0);
            extents.insert(entry.seq, &part, piece, None);
        }
    }
    Some(extents.upto(Seq(u64::MAX)))
}

fn lost(seq: Seq) -> String {
    format!("write {} of the log is safe, and cannot be read", seq.0)
}
