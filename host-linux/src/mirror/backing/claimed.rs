//! A device, or an export, that reads as zeroes wherever the volume was never written, whatever was on it
//! before (V5, F14).
//!
//! # How it is new without being wiped
//!
//! It is divided into chunks, and a map beside the store says which of them are the volume's:
//!
//! ```text
//! device   |old old old old|0  0  W  0 |old old old old|W  W  W  W |     old: somebody else's, never read
//! map      |      0        |     1     |      0        |     1     |     W: written into the volume
//! reads as |0  0  0  0     |0  0  W  0 |0  0  0  0     |W  W  W  W |     0: zero
//! ```
//!
//! The first write into a chunk makes zeroes of its rest. Nothing takes hours when a volume is made, what was
//! never written is known to be a hole, and who compares stores need not read it.
//!
//! # Why a cut at any instant shows nothing old
//!
//! Invariant: a bit that is durable in the map is of a chunk every block of which is durably the volume's, or
//! is written again before it is read: the log repeats it, or the store says that it is part filled. A bit is
//! set after all of its chunk was written; [`Claimed::sync`] looks at the map first, flushes the device then,
//! and keeps what it saw last. So what it keeps was flushed. Until then the bit is 0 for the next start, the
//! chunk zero, and the log still has what was written: only after the sync is that called applied.
//!
//! A chunk that is trimmed as a whole becomes unwritten, in the same order: its bit is 0 before the device is
//! told to give it up.

use super::medium::Medium;
use super::written::Written;
use super::{BLOCK, How};
use crate::mirror::handle::lock;
use crate::replication::words::REGION;
use std::io::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blocks of a chunk: a region, as stores are compared by. Larger ones make more zeroes, smaller ones a
/// longer map.
const CHUNK: u64 = 32;

const _: () = assert!(REGION == 32 && CHUNK * BLOCK == 128 << 10, "a chunk is a region");

/// A claimed device or export, while it is used.
#[derive(Debug)]
pub struct Claimed {
    medium: Medium,
    written: Written,
    /// Blocks that it had when it was looked at last. What is behind them was never made zero.
    blocks: AtomicU64,
    /// Held while a chunk and its bit change, which is not one step.
    changing: Mutex<()>,
    /// Held from the look at the map until that is durable: what is kept later is newer.
    syncing: Mutex<()>,
}

impl Claimed {
    /// A device of so many blocks, of which this is the volume's.
    pub fn new(medium: Medium, written: Written, blocks: u64) -> Self {
        let blocks = AtomicU64::new(blocks);
        Self { medium, written, blocks, changing: Mutex::default(), syncing: Mutex::default() }
    }

    /// What it is.
    pub const fn medium(&self) -> &Medium {
        &self.medium
    }

    /// Blocks that it had when it was looked at last.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::SeqCst)
    }

    /// Uses what a device has more than before, durably: nothing of it is the volume's yet.
    ///
    /// # Errors
    ///
    /// The device fails.
    pub fn grow(&self, blocks: u64) -> Result<(), Error> {
        let changing = lock(&self.changing);
        let (was, chunk) = (self.blocks(), self.blocks() / CHUNK);
        if was < blocks && self.written.has(chunk) {
            self.medium.zero(was, end_of(chunk).min(blocks).saturating_sub(was))?;
        }
        drop(changing);
        self.sync()?;
        self.blocks.fetch_max(blocks, Ordering::SeqCst);
        Ok(())
    }

    /// Whether nothing of it is the volume's.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Writes from a block on; [`Self::sync`] makes it durable.
    ///
    /// # Errors
    ///
    /// The device fails.
    pub fn write(&self, first: u64, bytes: &[u8]) -> Result<(), Error> {
        let blocks = u64::try_from(bytes.len()).unwrap_or(u64::MAX) / BLOCK;
        let end = first.saturating_add(blocks);
        let Some(last) = end.checked_sub(1).filter(|last| first <= *last) else { return Ok(()) };
        let (from, to) = (first / CHUNK, last / CHUNK);
        let _changing = lock(&self.changing);
        if !self.written.has(from) && start_of(from) < first {
            self.medium.zero(start_of(from), first.saturating_sub(start_of(from)))?;
        }
        let behind = end_of(to).min(self.blocks());
        if !self.written.has(to) && end < behind {
            self.medium.zero(end, behind.saturating_sub(end))?;
        }
        self.medium.write(first, bytes)?;
        (from..=to).for_each(|chunk| self.written.set(chunk, true));
        Ok(())
    }

    /// Makes some blocks read as zeroes.
    ///
    /// # Errors
    ///
    /// The device fails.
    pub fn zero(&self, first: u64, blocks: u64) -> Result<(), Error> {
        let all = first.saturating_add(blocks).min(self.blocks());
        let (mut at, _changing) = (first, lock(&self.changing));
        while at < all {
            let (is_written, run) = self.run(at, all.saturating_sub(at));
            let end = at.saturating_add(run);
            if is_written {
                self.zero_written(at, end)?;
            }
            at = end;
        }
        Ok(())
    }

    /// As [`Self::zero`], of chunks that are the volume's.
    fn zero_written(&self, first: u64, end: u64) -> Result<(), Error> {
        // Chunks from this one to the one before that are nowhere but in these blocks.
        let from = first.div_ceil(CHUNK);
        let to = if end == self.blocks() { end.div_ceil(CHUNK) } else { end / CHUNK };
        if to <= from {
            return self.medium.zero(first, end.saturating_sub(first));
        }
        (from..to).for_each(|chunk| self.written.set(chunk, false));
        let (whole, behind) = (start_of(from), start_of(to).min(end));
        self.medium.discard(whole, behind.saturating_sub(whole));
        for (at, end) in [(first, whole), (behind, end)] {
            if at < end {
                self.medium.zero(at, end.saturating_sub(at))?;
            }
        }
        Ok(())
    }

    /// What was written is void: all of it reads as zeroes, durably. The device is not wiped.
    ///
    /// # Errors
    ///
    /// The map fails.
    pub fn clear(&self) -> Result<(), Error> {
        let (_changing, _syncing) = (lock(&self.changing), lock(&self.syncing));
        self.written.clear();
        // Nothing of the device is called the volume's, so nothing of it need be flushed.
        self.written.keep(&self.written.changes())
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    ///
    /// The device or the map failed: nobody knows what it has, and another flush would not tell (F5).
    pub fn sync(&self) -> Result<(), Error> {
        let _syncing = lock(&self.syncing);
        let changes = self.written.changes();
        if let Err(error) = self.medium.sync() {
            self.written.put_back(&changes);
            return Err(error);
        }
        self.written.keep(&changes)
    }

    /// Reads from a block on.
    ///
    /// # Errors
    ///
    /// The device failed, or would have to be waited for.
    pub fn read(&self, first: u64, bytes: &mut [u8], how: How) -> Result<(), Error> {
        let (mut at, mut rest) = (first, bytes);
        while !rest.is_empty() {
            let left = u64::try_from(rest.len()).unwrap_or(u64::MAX) / BLOCK;
            let (is_written, run) = self.run(at, left.max(1));
            let count = usize::try_from(run.saturating_mul(BLOCK)).unwrap_or(usize::MAX).min(rest.len());
            let (here, behind) = rest.split_at_mut(count);
            if is_written {
                self.medium.read(at, here, how)?
            } else {
                here.fill(0)
            }
            (at, rest) = (at.saturating_add(run), behind);
        }
        Ok(())
    }

    /// Has the system read some blocks ahead: a hint.
    pub fn fetch(&self, first: u64, blocks: u64) {
        self.medium.fetch(first, blocks);
    }

    /// Whether a block is in a chunk that is the volume's, and for how many blocks, of so many, it goes on
    /// like that.
    pub fn run(&self, first: u64, blocks: u64) -> (bool, u64) {
        let (is_written, end) = (self.written.has(first / CHUNK), first.saturating_add(blocks));
        let mut at = end_of(first / CHUNK);
        while at < end && self.written.has(at / CHUNK) == is_written {
            at = end_of(at / CHUNK);
        }
        (is_written, at.min(end).saturating_sub(first))
    }
}

const fn start_of(chunk: u64) -> u64 {
    chunk.saturating_mul(CHUNK)
}

const fn end_of(chunk: u64) -> u64 {
    chunk.saturating_add(1).saturating_mul(CHUNK)
}
