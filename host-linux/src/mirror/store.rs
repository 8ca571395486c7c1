//! The backing store of a holder: the content of each volume, below one directory (S4-03; V1, V13, F10 to
//! F13).

use super::backing::{Backing, How};
use super::extents::Content;
use super::handle::lock;
use crate::failure::Failure;
use bulkhead_core::log::batch::Volume;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Is there while a primary fills this store: between its first block and its last one, the store has parts
/// of two times.
const FILLING: &str = "filling";

/// The volumes of a group.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    opened: Mutex<BTreeMap<Volume, Arc<Backing>>>,
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
            opened: Mutex::default(),
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
        match content {
            Content::Data(piece) => self.made(volume)?.write(first, piece.bytes()),
            // What was never written is zero.
            Content::Zeroes => self.kept(volume)?.map_or(Ok(()), |content| content.zero(first, blocks)),
        }
    }

    /// Makes durable what was written into a volume.
    ///
    /// # Errors
    ///
    /// The disk failed: nobody knows what it has, and another flush would not tell (F5).
    pub fn sync(&self, volume: Volume) -> Result<(), Error> {
        self.kept(volume)?.map_or(Ok(()), |content| content.sync())
    }

    /// Reads from a volume.
    ///
    /// # Errors
    ///
    /// The disk failed, or would have to be waited for.
    pub fn read(&self, volume: Volume, first: u64, bytes: &mut [u8], how: How) -> Result<(), Error> {
        match self.kept(volume)? {
            Some(content) => content.read(first, bytes, how),
            None => {
                bytes.fill(0);
                Ok(())
            }
        }
    }

    /// Has the system read some blocks ahead: a hint.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn fetch(&self, volume: Volume, first: u64, blocks: u64) -> Result<(), Error> {
        if let Some(content) = self.kept(volume)? {
            content.fetch(first, blocks);
        }
        Ok(())
    }

    /// Whether there is data at a block, and for how many blocks, of so many, it goes on like that.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn run(&self, volume: Volume, first: u64, blocks: u64) -> Result<(bool, u64), Error> {
        self.kept(volume)?.map_or(Ok((false, blocks)), |content| content.run(first, blocks))
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
        lock(&self.opened).remove(&volume);
        self.remove_durably(&self.path(volume))
    }

    fn remove_durably(&self, path: &Path) -> Result<(), Error> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => File::open(&self.directory)?.sync_all(),
        }
    }

    /// A volume's content; `None` when nothing was ever written into it.
    fn kept(&self, volume: Volume) -> Result<Option<Arc<Backing>>, Error> {
        match self.opened(volume, false) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// A volume's content, made if there is none. Its name is durable before anything is in it.
    fn made(&self, volume: Volume) -> Result<Arc<Backing>, Error> {
        match self.kept(volume)? {
            Some(content) => Ok(content),
            None => {
                let content = self.opened(volume, true)?;
                File::open(&self.directory)?.sync_all()?;
                Ok(content)
            }
        }
    }

    fn opened(&self, volume: Volume, make: bool) -> Result<Arc<Backing>, Error> {
        let mut opened = lock(&self.opened);
        if let Some(content) = opened.get(&volume) {
            return Ok(Arc::clone(content));
        }
        let content = Arc::new(Backing::open(&self.path(volume), make)?);
        opened.insert(volume, Arc::clone(&content));
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::buffers::Pool;
    use bulkhead_core::log::BLOCK_LEN;

    #[test]
    fn what_was_never_written_is_zero_and_what_was_is_there_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("volumes")).unwrap();
        let volume = Volume(7);
        let mut bytes = vec![1; 3 * BLOCK_LEN];
        store.write(volume, 0, 9, &Content::Zeroes).unwrap();
        store.read(volume, 5, &mut bytes, How::Waiting).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0) && !store.path(volume).exists());
        let mut buffer = Pool::new(1 << 20).unwrap().take(2).unwrap();
        buffer.bytes_mut().fill(9);
        let piece = buffer.keep().piece();
        store.write(volume, 6, 2, &Content::Data(piece)).unwrap();
        store.write(volume, 7, 100, &Content::Zeroes).unwrap();
        store.sync(volume).unwrap();
        let again = Store::open(&directory.path().join("volumes")).unwrap();
        again.read(volume, 5, &mut bytes, How::Waiting).unwrap();
        let said: Vec<_> = bytes.chunks(BLOCK_LEN).map(|block| (block[0], block[BLOCK_LEN - 1])).collect();
        assert_eq!(said, [(0, 0), (9, 9), (0, 0)]);
        assert_eq!(again.run(volume, 0, 20).unwrap(), (false, 6));
        assert!(again.run(volume, 6, 20).unwrap().0);
        again.remove(volume).unwrap();
        again.remove(volume).unwrap();
        assert_eq!(again.run(volume, 0, 20).unwrap(), (false, 20));
        again.read(volume, 6, &mut bytes, How::Waiting).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
}
