//! Where the content of one volume is: a sparse file (F10 to F13).
//!
//! Written through the page cache, and flushed before anything is called durable. What was never written, or
//! lies behind the end of the file, reads as zeroes.

use bulkhead_core::log::BLOCK_LEN;
use rustix::fs::{Advice, FallocateFlags, SeekFrom, fadvise, seek};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Zeroes are written in pieces of this size where the file system makes no holes.
const PIECE: usize = 256 << 10;

/// Read ahead at most: as much as the longest read. A guest must not fill the page cache with one word.
const FETCH_MAX: u64 = 32 << 20;

/// Bytes of a block.
const BLOCK: u64 = 4096;

const _: () = assert!(BLOCK_LEN == 4096, "one size of block");

/// Whether a read may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It may not: [`ErrorKind::WouldBlock`] when it would have to.
    AtOnce,
    /// It may.
    Waiting,
    /// It may, and what is in the page cache is read again.
    FromDisk,
}

/// The content of one volume.
#[derive(Debug)]
pub struct Backing(File);

impl Backing {
    /// The file at `path`; made, if `make` says so and it is not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], or the file system refuses.
    pub fn open(path: &Path, make: bool) -> Result<Self, Error> {
        OpenOptions::new().read(true).write(true).create(make).mode(0o600).open(path).map(Self)
    }

    /// Writes from a block on; [`Self::sync`] makes it durable.
    ///
    /// # Errors
    ///
    /// The disk is full, or fails.
    pub fn write(&self, first: u64, bytes: &[u8]) -> Result<(), Error> {
        self.0.write_all_at(bytes, byte(first))
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    ///
    /// The disk failed: nobody knows what it has, and another flush would not tell (F5).
    pub fn sync(&self) -> Result<(), Error> {
        self.0.sync_data()
    }

    /// Reads from a block on.
    ///
    /// # Errors
    ///
    /// The disk failed, or would have to be waited for.
    pub fn read(&self, first: u64, bytes: &mut [u8], how: How) -> Result<(), Error> {
        read_at(&self.0, byte(first), bytes, how)
    }

    /// Has the system read some blocks ahead: a hint, and no more of it than [`FETCH_MAX`].
    pub fn fetch(&self, first: u64, blocks: u64) {
        if let Some(bytes) = NonZeroU64::new(byte(blocks).min(FETCH_MAX)) {
            // Nothing depends on it.
            let _ = fadvise(&self.0, byte(first), Some(bytes), Advice::WillNeed);
        }
    }

    /// Whether there is data at a block, and for how many blocks, of so many, it goes on like that.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn run(&self, first: u64, blocks: u64) -> Result<(bool, u64), Error> {
        let (at, end) = (byte(first), byte(first.saturating_add(blocks)));
        let Some(data) = next_data(&self.0, at, end)? else { return Ok((true, blocks)) };
        // A block is data when any byte of it is.
        let data = data / BLOCK;
        if first < data {
            return Ok((false, data.saturating_sub(first)));
        }
        let hole = seek(&self.0, SeekFrom::Hole(at))?.min(end).div_ceil(BLOCK);
        Ok((true, hole.saturating_sub(first).max(1)))
    }

    /// Makes some blocks read as zeroes.
    ///
    /// # Errors
    ///
    /// The disk is full, or fails.
    pub fn zero(&self, first: u64, blocks: u64) -> Result<(), Error> {
        make_zero(&self.0, byte(first), byte(blocks))
    }
}

/// Where a block is.
const fn byte(block: u64) -> u64 {
    block.saturating_mul(BLOCK)
}

/// Reads; what lies behind the end of the file is zero.
///
/// # Errors
///
/// The disk failed, or would have to be waited for.
pub(super) fn read_at(file: &File, mut at: u64, mut bytes: &mut [u8], how: How) -> Result<(), Error> {
    let flags = match how {
        How::AtOnce => ReadWriteFlags::NOWAIT,
        How::Waiting | How::FromDisk => ReadWriteFlags::empty(),
    };
    if let (How::FromDisk, Some(length)) = (how, NonZeroU64::new(u64::try_from(bytes.len()).unwrap_or(0))) {
        // What is still to be written stays. Where it cannot be dropped, it is what is read.
        let _ = fadvise(file, at, Some(length), Advice::DontNeed);
    }
    while !bytes.is_empty() {
        match preadv2(file, &mut [IoSliceMut::new(bytes)], at, flags) {
            Ok(0) => {
                bytes.fill(0);
                return Ok(());
            }
            Ok(count) => {
                bytes = bytes.get_mut(count..).unwrap_or_default();
                at = at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            }
            Err(Errno::INTR) => {}
            // A file system that cannot tell.
            Err(Errno::OPNOTSUPP) if how == How::AtOnce => return Err(ErrorKind::WouldBlock.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes some bytes of a file zero, without room on the disk where the file system can. Behind its end there
/// is nothing to do.
///
/// # Errors
///
/// The disk is full, or fails.
pub(super) fn make_zero(file: &File, at: u64, bytes: u64) -> Result<(), Error> {
    let end = at.saturating_add(bytes).min(file.metadata()?.len());
    let Some(bytes) = end.checked_sub(at).filter(|bytes| *bytes != 0) else { return Ok(()) };
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        match rustix::fs::fallocate(file, how, at, bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => break,
            done => return done.map_err(Error::from),
        }
    }
    let (zeroes, mut at) = (vec![0; PIECE], at);
    while at < end {
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(PIECE);
        file.write_all_at(zeroes.get(..left.min(PIECE)).unwrap_or_default(), at)?;
        at = at.saturating_add(u64::try_from(PIECE).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// Where the next byte is, before `end`, that is no hole; `None`: the file system does not know.
///
/// # Errors
///
/// The disk failed.
pub(super) fn next_data(file: &File, at: u64, end: u64) -> Result<Option<u64>, Error> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data.min(end))),
        Err(Errno::NXIO) => Ok(Some(end)),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
