//! The checksums of a volume's blocks, in a file beside its content: what is not what was written is known by
//! them, and never read (I6, V5, V14; F4, F7, F10).
//!
//! The format is `bulkhead_core::cache::stored`.
//!
//! They are written behind the content, and neither is one step with the other. They need not be: until both
//! are durable the log has the block, and whoever starts reads it there and writes both again.

use super::backing::How;
use super::backing::file::{make_zero, next_data, read_at};
use super::tenancy::lock_file;
use crate::storage::space::sums;
use bulkhead_core::cache::stored::{HEAD_LEN, Head, SUM_LEN, SUMS_AT, stored};
use bulkhead_core::log::BLOCK_LEN;
use bulkhead_core::log::batch::{BlockIndex, Volume};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// The checksums of one volume.
#[derive(Debug)]
pub struct Sums {
    file: File,
    volume: Volume,
    is_whole: AtomicBool,
}

impl Sums {
    /// Those of a volume that has no content yet, durably.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn create(path: &Path, volume: Volume, is_shared: bool) -> Result<Self, Error> {
        Self::make(path, volume, true, is_shared)
    }

    /// Those of a volume that has content; made, without a sum, if it was written before there were any.
    ///
    /// # Errors
    ///
    /// The file system refuses, or the file is damaged, or of another volume.
    pub fn open(path: &Path, volume: Volume, is_shared: bool) -> Result<Self, Error> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Self::make(path, volume, false, is_shared);
            }
            opened => opened?,
        };
        let mut head = [0; HEAD_LEN];
        read_at(&file, 0, &mut head, How::Waiting)?;
        let head = Head::parse(&head).filter(|head| head.volume == volume).ok_or_else(|| {
            let what = format!(
                "{} is no file of checksums of volume {}: if its content can be trusted, delete the file, \
                 and it is made anew",
                path.display(),
                volume.0
            );
            Error::new(ErrorKind::InvalidInput, what)
        })?;
        Ok(Self { file, volume, is_whole: AtomicBool::new(head.is_whole) })
    }

    fn make(path: &Path, volume: Volume, is_whole: bool, is_shared: bool) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if is_shared {
            // Another holder may have it by now, and what it has must not go.
            lock_file(&file)?;
        }
        let sums = Self { file, volume, is_whole: AtomicBool::new(is_whole) };
        sums.begin_anew(is_whole)?;
        Ok(sums)
    }

    /// There are no sums any more: no block of the volume was written.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn clear(&self) -> Result<(), Error> {
        self.begin_anew(true)?;
        self.is_whole.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn begin_anew(&self, is_whole: bool) -> Result<(), Error> {
        self.file.set_len(0)?;
        self.file.write_all_at(&Head { volume: self.volume, is_whole }.encode(), 0)?;
        self.file.sync_all()
    }

    /// Keeps other holders that reach it from taking it.
    ///
    /// # Errors
    ///
    /// One of them has it; or the file system refuses.
    pub fn take(&self) -> Result<(), Error> {
        lock_file(&self.file)
    }

    /// Whether every block has its sum.
    pub fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::SeqCst)
    }

    /// Says durably that every block has its sum, after all of them are durable.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub fn set_whole(&self) -> Result<(), Error> {
        self.sync()?;
        self.file.write_all_at(&Head { volume: self.volume, is_whole: true }.encode(), 0)?;
        self.sync()?;
        self.is_whole.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Remembers the sums of these blocks; [`Self::sync`] makes them durable.
    ///
    /// # Errors
    ///
    /// The disk is full, or fails.
    pub fn write(&self, first: u64, bytes: &[u8]) -> Result<(), Error> {
        let entries: Vec<_> = self.of(first, bytes).flat_map(u32::to_le_bytes).collect();
        self.file.write_all_at(&entries, place(first))
    }

    /// Remembers that these blocks are zero.
    ///
    /// # Errors
    ///
    /// The disk is full, or fails.
    pub fn zero(&self, first: u64, blocks: u64) -> Result<(), Error> {
        make_zero(&self.file, place(first), blocks.saturating_mul(SUM_LEN))
    }

    /// Makes durable what was remembered.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data()
    }

    /// The first block of these that is not what was written there; `None`: all of them are.
    ///
    /// # Errors
    ///
    /// The disk failed, or would have to be waited for.
    pub fn damaged(&self, first: u64, bytes: &[u8], how: How) -> Result<Option<u64>, Error> {
        let known = self.known(first, bytes.len() / BLOCK_LEN, how)?;
        let mut blocks = (first..).zip(bytes.chunks(BLOCK_LEN)).zip(self.of(first, bytes).zip(known));
        let damaged = blocks.find(|((_, block), (sum, known))| match known {
            0 => self.is_whole() && block.iter().any(|byte| *byte != 0),
            known => known != sum,
        });
        Ok(damaged.map(|((number, _), _)| number))
    }

    /// For how many blocks, of so many, none has a sum.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn unwritten(&self, first: u64, blocks: u64) -> Result<u64, Error> {
        let end = place(first.saturating_add(blocks));
        let next = next_data(&self.file, place(first), end)?.unwrap_or_default();
        Ok(next.saturating_sub(place(first)) / SUM_LEN)
    }

    /// Gives every block of these a sum that has none and is not zero, as it is.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn adopt(&self, first: u64, bytes: &[u8]) -> Result<(), Error> {
        let known = self.known(first, bytes.len() / BLOCK_LEN, How::Waiting)?;
        for ((number, block), known) in (first..).zip(bytes.chunks(BLOCK_LEN)).zip(known) {
            if known == 0 && block.iter().any(|byte| *byte != 0) {
                self.write(number, block)?;
            }
        }
        Ok(())
    }

    fn known(&self, first: u64, blocks: usize, how: How) -> Result<Vec<u32>, Error> {
        let mut entries = vec![[0; 4]; blocks];
        read_at(&self.file, place(first), entries.as_flattened_mut(), how)?;
        Ok(entries.into_iter().map(u32::from_le_bytes).collect())
    }

    /// The sums that these blocks must have.
    fn of(&self, first: u64, bytes: &[u8]) -> impl Iterator<Item = u32> {
        (first..).zip(sums(bytes)).map(|(block, sum)| stored(self.volume, BlockIndex(block), sum))
    }
}

const fn place(block: u64) -> u64 {
    block.saturating_mul(SUM_LEN).saturating_add(SUMS_AT)
}
