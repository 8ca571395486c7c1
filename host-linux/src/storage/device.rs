//! A file, a partition or a whole block device, in blocks of 4096 bytes, which nobody else uses meanwhile
//! (BLACKBOX 1; F14, F15).

use super::raw::{BLOCK, lock};
use crate::failure::Failure;
use rustix::fs::{Advice, OFlags, fadvise, fdatasync};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait for whoever used it before: an agent that was killed has it until its last write is done.
const LOCK_WAIT: Duration = Duration::from_secs(3);
const LOCK_POLL: Duration = Duration::from_millis(20);
const BLOCK_LEN: u64 = 4096;

const _: () = assert!(BLOCK_LEN == BLOCK as u64, "one size of block");

/// Which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its first byte; a multiple of 4096.
    pub at: u64,
    /// How many blocks it has; `None`: all that follow.
    pub blocks: Option<u64>,
}

impl Part {
    /// All of it.
    pub const ALL: Self = Self { at: 0, blocks: None };
}

/// An open device, or a part of one. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Device {
    file: Arc<File>,
    path: PathBuf,
    at: u64,
    blocks: u64,
    lack: Option<String>,
}

impl Device {
    /// Opens what is at `path`, past the page cache where that is possible. What was written there before,
    /// by whomever, is durable when this returns: what is read from it counts, and a cache that no power
    /// cut survives would not do.
    ///
    /// # Errors
    ///
    /// It is not there, is too small, is in use, or its disk refuses.
    pub fn open(path: &Path, part: Part) -> Result<Self, Failure> {
        let failure = |error: Error| Failure::io("open", path, &error);
        let kind = std::fs::metadata(path).map_err(failure)?.file_type();
        // The kernel refuses a device that is mounted or part of something else, and keeps others away.
        let exclusive = if kind.is_block_device() { OFlags::EXCL } else { OFlags::empty() };
        if !kind.is_block_device() && !kind.is_file() {
            return Err(Failure::failed(format!("{} is neither a file nor a block device", path.display())));
        }
        let begin = Instant::now();
        let (file, is_direct) = loop {
            match open(path, exclusive) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy && begin.elapsed() < LOCK_WAIT => {
                    std::thread::sleep(LOCK_POLL);
                }
                Err(error) if error.kind() == ErrorKind::ResourceBusy => return Err(in_use(path)),
                Err(error) => return Err(failure(error)),
                Ok(opened) => break opened,
            }
        };
        let blocks = blocks_of(&file, path, part)?;
        let bytes = blocks.saturating_mul(BLOCK_LEN);
        while let Err(error) = lock(&file, part.at, bytes) {
            if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::PermissionDenied) {
                return Err(Failure::io("lock", path, &error));
            }
            if LOCK_WAIT <= begin.elapsed() {
                return Err(in_use(path));
            }
            std::thread::sleep(LOCK_POLL);
        }
        fdatasync(&file).map_err(|error| Failure::io("flush", path, &error.into()))?;
        let lack =
            if is_direct { is_refused(&file, part.at) } else { Some("the file system refuses it".into()) };
        let lack = lack.map(|why| {
            format!("{} is used through the page cache ({why}): it costs memory and time", path.display())
        });
        let file = match (&lack, is_direct) {
            (Some(_), true) => buffered(&file).map_err(failure)?,
            (Some(_), false) | (None, _) => file,
        };
        if lack.is_some() {
            // What a flush before ours has failed to write is in the cache as if it had not (F5).
            let _ = fadvise(&file, part.at, None, Advice::DontNeed);
        }
        Ok(Self { file: Arc::new(file), path: path.into(), at: part.at, blocks, lack })
    }

    /// Makes a file of so many blocks, which must not be there yet; [`Self::fill`] gives it its content, and
    /// its room on the disk.
    ///
    /// # Errors
    ///
    /// There is something, or the file system refuses.
    pub fn create(path: &Path, blocks: u64) -> Result<Self, Failure> {
        let failure = |error: Error| Failure::io("make", path, &error);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path).map_err(failure)?;
        let made = file.set_len(blocks.saturating_mul(BLOCK_LEN)).and_then(|()| file.sync_all());
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        made.and_then(|()| File::open(parent)?.sync_all()).map_err(|error| {
            let _ = std::fs::remove_file(path);
            failure(error)
        })?;
        drop(file);
        Self::open(path, Part::ALL)
    }

    /// Its name in messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many blocks it has.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether it is used past the page cache.
    pub const fn is_direct(&self) -> bool {
        self.lack.is_none()
    }

    /// Why it is not used past the page cache.
    pub fn lack(&self) -> Option<&str> {
        self.lack.as_deref()
    }

    /// Reads blocks from this one on, and waits for the disk. The memory lies as a disk wants it: it comes
    /// from a [`super::buffers::Pool`].
    ///
    /// # Errors
    ///
    /// The disk failed, or has no such blocks.
    pub fn read(&self, block: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let at = self.byte_of(block, bytes.len() / BLOCK).ok_or(ErrorKind::InvalidInput)?;
        self.file.read_exact_at(bytes, at)
    }

    pub(super) const fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The byte of the file where a block is, when so many from it on are in this part.
    pub(super) fn byte_of(&self, block: u64, blocks: usize) -> Option<u64> {
        let end = block.checked_add(u64::try_from(blocks).ok()?)?;
        (end <= self.blocks).then_some(())?;
        self.at.checked_add(block.checked_mul(BLOCK_LEN)?)
    }
}

/// Opens it past the page cache, or says that this was refused.
fn open(path: &Path, exclusive: OFlags) -> Result<(File, bool), Error> {
    let with = |flags: OFlags| {
        let flags = i32::try_from((flags | exclusive | OFlags::CLOEXEC).bits()).map_err(Error::other)?;
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
    };
    match with(OFlags::DIRECT) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok((with(OFlags::empty())?, false)),
        opened => Ok((opened?, true)),
    }
}

/// Why blocks of 4096 bytes cannot be read past the cache: some file systems say so only when asked.
fn is_refused(file: &File, at: u64) -> Option<String> {
    let probe = super::buffers::Pool::new(BLOCK).and_then(|pool| pool.take(1));
    let Some(mut block) = probe else { return Some("there is no memory".into()) };
    match file.read_at(block.bytes_mut(), at) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            Some("its blocks are larger than 4096 bytes, or its file system refuses".into())
        }
        Ok(_) | Err(_) => None,
    }
}

/// The same open file, and so the same lock, through the cache.
fn buffered(file: &File) -> Result<File, Error> {
    let same = file.try_clone()?;
    let flags = rustix::fs::fcntl_getfl(&same)?;
    rustix::fs::fcntl_setfl(&same, flags.difference(OFlags::DIRECT))?;
    Ok(same)
}

fn blocks_of(file: &File, path: &Path, part: Part) -> Result<u64, Failure> {
    let mut end = file;
    let bytes = end.seek(SeekFrom::End(0)).map_err(|error| Failure::io("look at", path, &error))?;
    if part.at.checked_rem(BLOCK_LEN) != Some(0) {
        let what =
            format!("byte {} of {} is not where a block of 4096 bytes begins", part.at, path.display());
        return Err(Failure::refused(what));
    }
    let there = bytes.saturating_sub(part.at).checked_div(BLOCK_LEN).unwrap_or(0);
    let blocks = part.blocks.unwrap_or(there);
    if blocks == 0 || there < blocks {
        let needed = part.at.saturating_add(blocks.max(1).saturating_mul(BLOCK_LEN));
        let what = format!("{} has {bytes} bytes, {needed} are needed", path.display());
        return Err(Failure::refused(what).next("if it was larger before, put that one back."));
    }
    Ok(blocks)
}

fn in_use(path: &Path) -> Failure {
    Failure::refused(format!("{} is in use", path.display()))
        .next("stop the other agent, or unmount it; `fuser -v` tells who it is.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F14: two agents never share one; parts of one partition do not stand in each other's way.
    #[test]
    fn a_part_has_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let device = Device::create(&path, 64).unwrap();
        assert_eq!(device.blocks(), 64);
        let refused = Device::open(&path, Part { at: 4096, blocks: Some(1) }).unwrap_err();
        assert!(refused.what.ends_with("is in use"), "{refused:?}");
        drop(device);
        let first = Device::open(&path, Part { at: 0, blocks: Some(32) }).unwrap();
        let second = Device::open(&path, Part { at: 32 * 4096, blocks: None }).unwrap();
        assert_eq!((second.blocks(), second.byte_of(31, 1)), (32, Some(63 * 4096)));
        assert_eq!((second.byte_of(31, 2), second.byte_of(u64::MAX, 1)), (None, None));
        drop((first, second));
        let missing = Device::create(&path, 64).unwrap_err();
        assert!(missing.what.contains("exists"), "{missing:?}");
    }

    /// F15: a file that was made smaller is not opened as what it was.
    #[test]
    fn what_is_too_small_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::write(&path, vec![0; 8191]).unwrap();
        let refused = Device::open(&path, Part { at: 0, blocks: Some(2) }).unwrap_err();
        assert!(refused.what.contains("8191 bytes, 8192 are needed"), "{refused:?}");
        assert!(Device::open(&path, Part { at: 100, blocks: None }).is_err());
        assert!(Device::open(dir.path(), Part::ALL).is_err());
        assert_eq!(Device::open(&path, Part::ALL).unwrap().blocks(), 1);
    }
}
