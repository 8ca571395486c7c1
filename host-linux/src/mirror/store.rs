//! The backing store of a holder: one sparse file for each volume, below one directory (S4-03; V1, V13, F10
//! to F13).
//!
//! Written through the page cache, which is its read cache, and flushed before anything is called durable. A
//! block that was never written, or lies behind the end of its file, reads as zeroes.

use super::extents::Content;
use crate::failure::Failure;
use bulkhead_core::log::BLOCK_LEN;
use bulkhead_core::log::batch::Volume;
use rustix::fs::{Advice, FallocateFlags, SeekFrom, fadvise, seek};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Zeroes are written in pieces of this size where the file system makes no holes.
const PIECE: usize = 256 << 10;

/// Read ahead at most: as much as the longest read. A guest must not fill the page cache with one word.
const FETCH_MAX: u64 = 32 << 20;

/// Is there while a primary fills this store: between its first block and its last one, the store has parts
/// of two times.
const FILLING: &str = "filling";

/// Bytes of a block.
const BLOCK: u64 = 4096;

const _: () = assert!(BLOCK_LEN == 4096, "one size of block");

/// The files of a group's volumes.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    files: Mutex<BTreeMap<Volume, Arc<File>>>,
    /// Held by a test, no write ends: a disk that stands still.
    #[cfg(test)]
    pub gate: Mutex<()>,
}

impl Store {
    /// The store below this directory, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// It cannot be made, or used.
    pub fn open(directory: &Path) -> Result<Self, Failure> {
        let made = std::fs::create_dir_all(directory).and_then(|()| File::open(directory)?.sync_all());
        made.map_err(|error| Failure::io("use", directory, &error))?;
        Ok(Self {
            directory: directory.into(),
            files: Mutex::default(),
            #[cfg(test)]
            gate: Mutex::default(),
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a volume's content is.
    pub fn path(&self, volume: Volume) -> PathBuf {
        self.directory.join(format!("volume-{}", volume.0))
    }

    /// Writes into a volume; [`Self::sync`] makes it durable.
    ///
    /// # Errors
    ///
    /// The disk is full, or fails.
    pub fn write(&self, volume: Volume, first: u64, blocks: u64, content: &Content) -> Result<(), Error> {
        #[cfg(test)]
        drop(self.gate.lock());
        let at = byte(first);
        match content {
            Content::Data(piece) => self.made(volume)?.write_all_at(piece.bytes(), at),
            // What was never written is zero.
            Content::Zeroes => match self.file(volume)? {
                Some(file) => zero(&file, at, byte(blocks)),
                None => Ok(()),
            },
        }
    }

    /// Makes durable what was written into a volume.
    ///
    /// # Errors
    ///
    /// The disk failed: nobody knows what it has, and another flush would not tell (F5).
    pub fn sync(&self, volume: Volume) -> Result<(), Error> {
        self.file(volume)?.map_or(Ok(()), |file| file.sync_data())
    }

    /// Reads from a volume.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn read(&self, volume: Volume, first: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.read_by(volume, first, bytes, ReadWriteFlags::empty())
    }

    /// As [`Self::read`], without waiting for a disk.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`] when a disk must be waited for; else as there.
    pub fn read_at_once(&self, volume: Volume, first: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.read_by(volume, first, bytes, ReadWriteFlags::NOWAIT)
    }

    fn read_by(
        &self,
        volume: Volume,
        first: u64,
        mut bytes: &mut [u8],
        how: ReadWriteFlags,
    ) -> Result<(), Error> {
        let Some(file) = self.file(volume)? else {
            bytes.fill(0);
            return Ok(());
        };
        let mut at = byte(first);
        while !bytes.is_empty() {
            match preadv2(&file, &mut [IoSliceMut::new(bytes)], at, how) {
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
                Err(Errno::OPNOTSUPP) if how.contains(ReadWriteFlags::NOWAIT) => {
                    return Err(ErrorKind::WouldBlock.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Has the system read some blocks ahead: a hint, and no more of it than [`FETCH_MAX`].
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn fetch(&self, volume: Volume, first: u64, blocks: u64) -> Result<(), Error> {
        let bytes = NonZeroU64::new(byte(blocks).min(FETCH_MAX));
        if let (Some(file), Some(_)) = (self.file(volume)?, bytes) {
            // Nothing depends on it.
            let _ = fadvise(&file, byte(first), bytes, Advice::WillNeed);
        }
        Ok(())
    }

    /// Whether there is data at a block, and for how many blocks, of so many, it goes on like that.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn run(&self, volume: Volume, first: u64, blocks: u64) -> Result<(bool, u64), Error> {
        let Some(file) = self.file(volume)? else { return Ok((false, blocks)) };
        let (at, end) = (byte(first), byte(first.saturating_add(blocks)));
        let data = match seek(&file, SeekFrom::Data(at)) {
            Ok(data) => data.min(end),
            Err(Errno::NXIO) => end,
            // A file system that does not know.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok((true, blocks)),
            Err(error) => return Err(error.into()),
        };
        // A block is data when any byte of it is.
        let data = data / BLOCK;
        if first < data {
            return Ok((false, data.saturating_sub(first)));
        }
        let hole = seek(&file, SeekFrom::Hole(at))?.min(end).div_ceil(BLOCK);
        Ok((true, hole.saturating_sub(first).max(1)))
    }

    /// Says durably that what is in it now is of two times, until [`Self::end_fill`].
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn begin_fill(&self) -> Result<(), Error> {
        if self.is_part_filled() {
            return Ok(());
        }
        File::create(self.directory.join(FILLING))?;
        File::open(&self.directory)?.sync_all()
    }

    /// What is in it is of one time again.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn end_fill(&self) -> Result<(), Error> {
        self.remove_durably(&self.directory.join(FILLING))
    }

    /// Whether a fill was begun and has not ended: only another one, or the log of a primary that still has
    /// all since then, makes it whole.
    pub fn is_part_filled(&self) -> bool {
        self.directory.join(FILLING).exists()
    }

    /// The volumes that it has content of.
    pub fn volumes(&self) -> Vec<Volume> {
        let files = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let number = |name: std::ffi::OsString| name.to_str()?.strip_prefix("volume-")?.parse().ok();
        files.filter_map(|file| number(file.file_name())).map(Volume).collect()
    }

    /// Deletes a volume's content, durably.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn remove(&self, volume: Volume) -> Result<(), Error> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&volume);
        self.remove_durably(&self.path(volume))
    }

    fn remove_durably(&self, path: &Path) -> Result<(), Error> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => File::open(&self.directory)?.sync_all(),
        }
    }

    /// A volume's file; `None` when nothing was ever written into it.
    fn file(&self, volume: Volume) -> Result<Option<Arc<File>>, Error> {
        match self.open_file(volume, false) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// A volume's file, made if there is none. Its name is durable before anything is in it.
    fn made(&self, volume: Volume) -> Result<Arc<File>, Error> {
        match self.file(volume)? {
            Some(file) => Ok(file),
            None => {
                let file = self.open_file(volume, true)?;
                File::open(&self.directory)?.sync_all()?;
                Ok(file)
            }
        }
    }

    fn open_file(&self, volume: Volume, make: bool) -> Result<Arc<File>, Error> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&volume) {
            return Ok(Arc::clone(file));
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(make).mode(0o600).open(self.path(volume))?;
        let file = Arc::new(file);
        files.insert(volume, Arc::clone(&file));
        Ok(file)
    }
}

/// Where a block is.
fn byte(block: u64) -> u64 {
    block.saturating_mul(BLOCK)
}

/// Makes a range read as zeroes.
fn zero(file: &File, at: u64, bytes: u64) -> Result<(), Error> {
    // Behind the end there is nothing to do.
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
        let count = usize::try_from(end.saturating_sub(at)).unwrap_or(PIECE).min(PIECE);
        file.write_all_at(zeroes.get(..count).unwrap_or_default(), at)?;
        at = at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::buffers::Pool;

    #[test]
    fn what_was_never_written_is_zero_and_what_was_is_there_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("volumes")).unwrap();
        let volume = Volume(7);
        let mut bytes = vec![1; 3 * BLOCK_LEN];
        store.write(volume, 0, 9, &Content::Zeroes).unwrap();
        store.read(volume, 5, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0) && !store.path(volume).exists());
        let mut buffer = Pool::new(1 << 20).unwrap().take(2).unwrap();
        buffer.bytes_mut().fill(9);
        let piece = buffer.keep().piece();
        store.write(volume, 6, 2, &Content::Data(piece)).unwrap();
        store.write(volume, 7, 100, &Content::Zeroes).unwrap();
        store.sync(volume).unwrap();
        let again = Store::open(&directory.path().join("volumes")).unwrap();
        again.read(volume, 5, &mut bytes).unwrap();
        let said: Vec<_> = bytes.chunks(BLOCK_LEN).map(|block| (block[0], block[BLOCK_LEN - 1])).collect();
        assert_eq!(said, [(0, 0), (9, 9), (0, 0)]);
        assert_eq!(again.run(volume, 0, 20).unwrap(), (false, 6));
        assert!(again.run(volume, 6, 20).unwrap().0);
        again.remove(volume).unwrap();
        again.remove(volume).unwrap();
        assert_eq!(again.run(volume, 0, 20).unwrap(), (false, 20));
        again.read(volume, 6, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
}
