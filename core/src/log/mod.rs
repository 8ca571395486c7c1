//! The write log of a mirror group: what a holder has acknowledged is in it, whatever happens (I2, I6, V1,
//! V12).
//!
//! A log is a ring of blocks on the `infra` partition, with two superblocks in front of it. Writes are
//! numbered by the primary, and every holder keeps them in that order, in batches of its own: one header
//! that names up to [`batch::WRITES_MAX`] writes, then their payload, in one device write. The payload never
//! passes through the core: the shell holds it, and tells the checksum of each block.
//!
//! ```text
//! block   0            1            2 ..                                        2 + ring
//!         superblock 0 superblock 1 │ header payload │ header payload payload │ ... │
//! ```
//!
//! # Reading order
//!
//! 1. [`ring`]: where a position of the log lies on the device.
//! 2. [`superblock`]: what a log is, and from where on it counts.
//! 3. [`keeper`]: how its changes become durable.
//! 4. [`batch`]: how a batch looks.
//! 5. [`writer`]: how writes become batches (group commit), and when they are durable.
//! 6. [`marks`]: where some of them begin.
//! 7. [`scan`]: what a log holds after a power cut.
//!
//! # Why nothing that was durable is lost, and nothing else is believed
//!
//! 1. A batch is believed when its header names this log, its own position, the write that is expected next
//!    and the checksum of the header before it, and when its checksums fit. So a torn, lost, misdirected or
//!    stale batch ends the log there (F1 to F4), and never counts in its middle.
//! 2. A header says which writes were durable when it was made. A later header that says so of what cannot be
//!    read proves that this is damage and no torn tail: the log then ends in [`scan::Outcome::Damaged`], and
//!    needs its peer (F7). No more than [`writer::FLIGHTS_MAX`] batches are ahead of what is durable, so that
//!    the proof is within reach of a bounded search. Of the last batches nothing says so yet: their damage
//!    looks like a torn tail, and what they held is only on the peer.
//! 3. A start appends under a new run, which is in the superblock first. What lies behind the end of the log
//!    is of an earlier run, and proves nothing. A newer run than the superblock's, at the end of the log,
//!    proves that the newest superblock is lost (F8).
//! 4. What is cut off the end (an old primary's unacknowledged writes) is void because the superblock says
//!    so, for as long as a batch that holds some of it is in the log.

pub mod batch;
pub mod keeper;
pub mod marks;
pub mod ring;
pub mod scan;
pub mod superblock;
pub mod writer;

#[cfg(test)]
mod power_cut_tests;
#[cfg(test)]
pub(crate) mod testing;

use serde::{Deserialize, Serialize};

use crate::id::Epoch;

/// Bytes of a block: the unit of everything in a log, and the smallest part of a volume that is kept alone.
pub const BLOCK_LEN: usize = 4096;

/// A block.
pub type Block = [u8; BLOCK_LEN];

/// Tells a log from one that its holder had before: drawn at random when it is made, never 0 (F14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life(pub u32);

/// The number of a write in its group, from 1. Given by the primary; the same on every holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// The write after this one. Saturates: 2^64 writes do not happen.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// This many writes later.
    pub const fn after(self, writes: u64) -> Self {
        Self(self.0.saturating_add(writes))
    }

    /// The write before this one; 0, which is none, before the first.
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Where a log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// Where the next batch begins.
    pub at: ring::Position,
    /// Its first write.
    pub next: Seq,
    /// The checksum of the header before it.
    pub chain: u32,
    /// The newest epoch of a write in the log.
    pub epoch: Epoch,
    /// Every write up to this one was durable on all in-sync holders, as far as the log knows.
    pub commit: Seq,
}
