//! The content of one volume in a sparse file (F10 to F13).
//!
//! Written through the page cache, and flushed before anything is called durable. What was never written, or
//! lies behind the end of the file, reads as zeroes.

use super::{BLOCK, How, byte};
use crate::mirror::tenancy::lock_file;
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

const _: () = assert!(BLOCK_LEN == 4096, "one size of block");

/// The content of one volume.
#[derive(Debug)]
pub struct Sparse(File);

impl Sparse {
    /// The file at `path`; made, if `make` says so and it is not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], or the file system refuses.
    pub fn open(path: &Path, make: bool) -> Result<Self, Error> {
        OpenOptions::new().read(true).write(true).create(make).mode(0o600).open(path).map(Self)
    }

    /// Keeps other holders that reach it from taking it.
    ///
    /// # Errors
    ///
    /// One of them has it; or the file system refuses.
    pub fn take(&self) -> Result<(), Error> {
        lock_file(&self.0)
    }

    /// Durably, there is nothing in it any more.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn clear(&self) -> Result<(), Error> {
        self.0.set_len(0)?;
        self.0.sync_all()
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
        read_ahead(&self.0, byte(first), byte(blocks));
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

/// Reads; what lies behind the end of the file is zero.
///
/// # Errors
///
/// The disk failed, or would have to be waited for.
pub(in super::super) fn read_at(file: &File, at: u64, bytes: &mut [u8], how: How) -> Result<(), Error> {
    let count = read_some(file, at, bytes, how)?;
    bytes.get_mut(count..).unwrap_or_default().fill(0);
    Ok(())
}

/// Reads to the end of the file. Returns how many bytes there were.
///
/// # Errors
///
/// The disk failed, or would have to be waited for.
pub(super) fn read_some(file: &File, mut at: u64, bytes: &mut [u8], how: How) -> Result<usize, Error> {
    let flags = match how {
        How::AtOnce => ReadWriteFlags::NOWAIT,
        How::Waiting | How::FromDisk => ReadWriteFlags::empty(),
    };
    if let (How::FromDisk, Some(length)) = (how, NonZeroU64::new(u64::try_from(bytes.len()).unwrap_or(0))) {
        // What is still to be written stays. Where it cannot be dropped, it is what is read.
        let _ = fadvise(file, at, Some(length), Advice::DontNeed);
    }
    let mut done = 0_usize;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match preadv2(file, &mut [IoSliceMut::new(rest)], at, flags) {
            Ok(0) => break,
            Ok(count) => {
                done = done.saturating_add(count);
                at = at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            }
            Err(Errno::INTR) => {}
            // A file system that cannot tell.
            Err(Errno::OPNOTSUPP) if how == How::AtOnce => return Err(ErrorKind::WouldBlock.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// Has the system read ahead: a hint, and no more of it than [`FETCH_MAX`].
pub(super) fn read_ahead(file: &File, at: u64, bytes: u64) {
    if let Some(bytes) = NonZeroU64::new(bytes.min(FETCH_MAX)) {
        // Nothing depends on it.
        let _ = fadvise(file, at, Some(bytes), Advice::WillNeed);
    }
}

/// Makes some bytes of a file zero, without room on the disk where the file system can. Behind its end there
/// is nothing to do.
///
/// # Errors
///
/// The disk is full, or fails.
pub(in super::super) fn make_zero(file: &File, at: u64, bytes: u64) -> Result<(), Error> {
    let end = at.saturating_add(bytes).min(file.metadata()?.len());
    if end <= at || is_punched(file, at, end)? { Ok(()) } else { write_zeroes(file, at, end) }
}

/// Has the file system or the device give up what is there, so that it is zero. Whether it can.
///
/// # Errors
///
/// The disk fails.
pub(super) fn is_punched(file: &File, at: u64, end: u64) -> Result<bool, Error> {
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        match rustix::fs::fallocate(file, how, at, end.saturating_sub(at)) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => return Ok(false),
            done => return done.map(|()| true).map_err(Error::from),
        }
    }
}

/// Writes zeroes, piece after piece.
///
/// # Errors
///
/// The disk is full, or fails.
pub(super) fn write_zeroes(file: &File, mut at: u64, end: u64) -> Result<(), Error> {
    let zeroes = vec![0; PIECE];
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
pub(in super::super) fn next_data(file: &File, at: u64, end: u64) -> Result<Option<u64>, Error> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data.min(end))),
        Err(Errno::NXIO) => Ok(Some(end)),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
