//! A block device that holds the content of a volume, and of nothing else (S1-24, S1-26; F10 to F15, V40).
//!
//! Written through the page cache, which is its read cache, and flushed before anything is called durable.
//! Nobody else uses it meanwhile: the kernel refuses what is mounted or part of something else, and keeps
//! others away.

use super::file::{is_punched, read_ahead, read_some, write_zeroes};
use super::{BLOCK, How, byte};
use crate::failure::Failure;
use crate::storage::lock_bytes;
use rustix::fs::{OFlags, major, minor};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for whoever used it before: an agent that was killed has it until its last write is done.
pub const PATIENCE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);
/// Longest identity that is believed to be one.
const IDENTITY_MAX: usize = 512;

/// Where the kernel says what a device is, below its directory in sysfs: the one that is most certainly its
/// own first.
const IDENTITIES: &[&str] = &[
    "dm/uuid",
    "md/uuid",
    "wwid",
    "device/wwid",
    "device/serial",
    "serial",
    "loop/backing_file",
    "backing_dev_name",
];

/// An open device.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
    identities: Vec<String>,
}

impl Device {
    /// Opens it, and waits so long at most for whoever used it before.
    ///
    /// # Errors
    ///
    /// It is not there, no block device, in use, or refuses.
    pub fn open(path: &Path, patience: Duration) -> Result<Self, Failure> {
        let failure = |error: Error| Failure::io("open", path, &error).next(BACK);
        let found = std::fs::metadata(path).map_err(failure)?;
        if !found.file_type().is_block_device() {
            let what = format!("{} is no block device", path.display());
            let next = "name a device; files are kept in `volumes` of [local.storage], without being named.";
            return Err(Failure::refused(what).next(next));
        }
        let begun = Instant::now();
        let (file, bytes) = loop {
            match try_open(path) {
                Err(error) if is_taken(&error) && begun.elapsed() < patience => std::thread::sleep(POLL),
                Err(error) if is_taken(&error) => return Err(in_use(path)),
                opened => break opened.map_err(failure)?,
            }
        };
        if bytes < BLOCK {
            return Err(Failure::refused(format!("{} has {bytes} bytes", path.display())).next(BACK));
        }
        Ok(Self { file, path: path.into(), identities: identities(found.rdev()) })
    }

    /// Whatever file is open, as if it were a device.
    #[cfg(test)]
    pub fn pretended(file: File, path: &Path, identity: &str) -> Self {
        Self { file, path: path.into(), identities: vec![identity.to_owned()] }
    }

    /// What tells it from every other device, the most certain first; nothing, if the system does not know.
    pub fn identities(&self) -> &[String] {
        &self.identities
    }

    /// How many blocks it has now.
    ///
    /// # Errors
    ///
    /// The device refuses.
    pub fn blocks(&self) -> Result<u64, Error> {
        let mut end = &self.file;
        Ok(end.seek(SeekFrom::End(0))? / BLOCK)
    }

    /// Writes from a block on; [`Self::sync`] makes it durable.
    ///
    /// # Errors
    ///
    /// The device fails, or is full where it is thin.
    pub fn write(&self, first: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all_at(bytes, byte(first)).map_err(|error| self.named("write to", &error))
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    ///
    /// The device failed: nobody knows what it has, and another flush would not tell (F5).
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|error| self.named("flush", &error))
    }

    /// Reads from a block on.
    ///
    /// # Errors
    ///
    /// The device failed, would have to be waited for, or is smaller than it was.
    pub fn read(&self, first: u64, bytes: &mut [u8], how: How) -> Result<(), Error> {
        // Never zeroes in place of what is lost.
        match read_some(&self.file, byte(first), bytes, how)? {
            count if count < bytes.len() => {
                let what = format!("{} ends in front of block {first}", self.path.display());
                Err(Error::new(ErrorKind::UnexpectedEof, what))
            }
            _all => Ok(()),
        }
    }

    /// Has the system read some blocks ahead: a hint.
    pub fn fetch(&self, first: u64, blocks: u64) {
        read_ahead(&self.file, byte(first), byte(blocks));
    }

    /// Makes some blocks zero.
    ///
    /// # Errors
    ///
    /// The device fails.
    pub fn zero(&self, first: u64, blocks: u64) -> Result<(), Error> {
        let (at, end) = (byte(first), byte(first.saturating_add(blocks)));
        let zeroed = match is_punched(&self.file, at, end) {
            Ok(true) => return Ok(()),
            Ok(false) => write_zeroes(&self.file, at, end),
            Err(error) => Err(error),
        };
        zeroed.map_err(|error| self.named("make zeroes on", &error))
    }

    /// Nobody needs what is in some blocks: a device that can gives them up. A hint.
    pub fn discard(&self, first: u64, blocks: u64) {
        let end = byte(first.saturating_add(blocks));
        // Nothing depends on it.
        let _ = is_punched(&self.file, byte(first), end);
    }

    fn named(&self, verb: &str, error: &Error) -> Error {
        Error::new(error.kind(), format!("cannot {verb} {}: {error}", self.path.display()))
    }
}

/// What to do about a device that is not as it was.
const BACK: &str = "if another one was there before, put that one back, and start the agent again.";

fn try_open(path: &Path) -> Result<(File, u64), Error> {
    let flags = i32::try_from((OFlags::EXCL | OFlags::CLOEXEC).bits()).map_err(Error::other)?;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let bytes = (&file).seek(SeekFrom::End(0))?;
    // Other agents in containers of their own may reach it by another device node.
    lock_bytes(&file, 0, bytes.max(1))?;
    Ok((file, bytes))
}

fn is_taken(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::WouldBlock)
}

fn in_use(path: &Path) -> Failure {
    Failure::refused(format!("{} is in use", path.display()))
        .next("stop the other agent, unmount it, or take it out of what uses it; `lsblk` tells.")
}

/// What the kernel says of a device by which it is known again; of a partition, with its number.
fn identities(device: u64) -> Vec<String> {
    let place = PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)));
    let Ok(place) = place.canonicalize() else { return Vec::new() };
    let part = std::fs::read_to_string(place.join("partition")).ok();
    let (whole, part) = match (part, place.parent()) {
        (Some(part), Some(parent)) => (parent, format!(" partition {}", part.trim())),
        (Some(_) | None, _) => (place.as_path(), String::new()),
    };
    let said = |name: &&str| {
        let text = std::fs::read_to_string(whole.join(name)).ok()?;
        let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        (!text.is_empty() && text.len() <= IDENTITY_MAX).then(|| format!("{name} {text}{part}"))
    };
    IDENTITIES.iter().filter_map(said).collect()
}
