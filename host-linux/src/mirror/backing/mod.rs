//! Where the content of one volume is: a sparse file, or what was there before: a device, or an export of an
//! NBD server (S1-24, S1-26, S1-31, S4-03; V5, F10 to F13).
//!
//! ```text
//! store ──▶ Backing ──┬─▶ file      a sparse file of our own: what was never written is a hole
//!                     └─▶ claimed ──┬─▶ written   which parts of it are the volume's
//!    claims: which volume has which └─▶ medium ──┬─▶ device   a block device
//!                                                └─▶ remote   an export of an NBD server
//! ```
//!
//! Reading order: [`file`], [`device`], [`remote`], [`medium`], [`written`], [`claimed`], [`claims`].

pub mod claimed;
pub mod claims;
pub mod device;
pub mod file;
#[cfg(test)]
pub mod loops;
pub mod medium;
pub mod remote;
pub mod written;

#[cfg(test)]
mod tests;

use claimed::Claimed;
use file::Sparse;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Weak};

/// Bytes of a block.
const BLOCK: u64 = 4096;

/// Whether a read may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It may not: [`std::io::ErrorKind::WouldBlock`] when it would have to.
    AtOnce,
    /// It may.
    Waiting,
    /// It may, and what is in the page cache is read again.
    FromDisk,
}

/// The content of one volume.
#[derive(Debug)]
pub enum Backing {
    /// In a file of the store's directory.
    File(Sparse),
    /// On what the configuration names, for as long as that has it.
    Claimed(Weak<Claimed>),
}

impl Backing {
    /// Whether this is where the content is, if that is claimed; else it is to be in a file.
    pub fn is_on(&self, claimed: Option<&Arc<Claimed>>) -> bool {
        match (self, claimed) {
            (Self::File(_), None) => true,
            (Self::Claimed(mine), Some(claimed)) => std::ptr::eq(mine.as_ptr(), Arc::as_ptr(claimed)),
            (Self::File(_), Some(_)) | (Self::Claimed(_), None) => false,
        }
    }

    /// Writes from a block on; [`Self::sync`] makes it durable.
    ///
    /// # Errors
    ///
    /// The disk is full, or fails.
    pub fn write(&self, first: u64, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::File(file) => file.write(first, bytes),
            Self::Claimed(claimed) => held(claimed)?.write(first, bytes),
        }
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    ///
    /// The disk failed: nobody knows what it has, and another flush would not tell (F5).
    pub fn sync(&self) -> Result<(), Error> {
        match self {
            Self::File(file) => file.sync(),
            Self::Claimed(claimed) => held(claimed)?.sync(),
        }
    }

    /// Reads from a block on.
    ///
    /// # Errors
    ///
    /// The disk failed, or would have to be waited for.
    pub fn read(&self, first: u64, bytes: &mut [u8], how: How) -> Result<(), Error> {
        match self {
            Self::File(file) => file.read(first, bytes, how),
            Self::Claimed(claimed) => held(claimed)?.read(first, bytes, how),
        }
    }

    /// Has the system read some blocks ahead: a hint.
    pub fn fetch(&self, first: u64, blocks: u64) {
        match self {
            Self::File(file) => file.fetch(first, blocks),
            // A hint.
            Self::Claimed(claimed) => held(claimed).into_iter().for_each(|one| one.fetch(first, blocks)),
        }
    }

    /// Whether there is data at a block, and for how many blocks, of so many, it goes on like that.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn run(&self, first: u64, blocks: u64) -> Result<(bool, u64), Error> {
        match self {
            Self::File(file) => file.run(first, blocks),
            Self::Claimed(claimed) => Ok(held(claimed)?.run(first, blocks)),
        }
    }

    /// Makes some blocks read as zeroes.
    ///
    /// # Errors
    ///
    /// The disk is full, or fails.
    pub fn zero(&self, first: u64, blocks: u64) -> Result<(), Error> {
        match self {
            Self::File(file) => file.zero(first, blocks),
            Self::Claimed(claimed) => held(claimed)?.zero(first, blocks),
        }
    }
}

/// What is claimed, if the volume still has it.
fn held(claimed: &Weak<Claimed>) -> Result<Arc<Claimed>, Error> {
    claimed.upgrade().ok_or_else(|| Error::new(ErrorKind::NotFound, "the volume was deleted meanwhile"))
}

/// Where a block is.
const fn byte(block: u64) -> u64 {
    block.saturating_mul(BLOCK)
}
