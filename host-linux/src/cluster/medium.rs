//! Where votes are kept: a file in the state directory, or a part of a partition. Plain reads, writes and
//! `fdatasync`, so that a fault-injecting file system can sit below it (BLACKBOX 1).

use crate::failure::Failure;
use rustix::fs::{FlockOperation, fdatasync, flock, fsync};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What a store needs of its medium. The tests cut its power.
pub trait Medium {
    /// Fills `buffer` from byte `at`.
    ///
    /// # Errors
    ///
    /// The medium did not return all of it.
    fn read(&self, at: u64, buffer: &mut [u8]) -> std::io::Result<()>;

    /// Writes at byte `at`; not durable before the next [`Self::flush`].
    ///
    /// # Errors
    ///
    /// The medium did not take all of it.
    fn write(&mut self, at: u64, bytes: &[u8]) -> std::io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    ///
    /// Nobody knows what is durable.
    fn flush(&mut self) -> std::io::Result<()>;
}

/// The first mebibyte of the `infra` partition belongs to the node configuration.
const DEVICE_AT: u64 = 1 << 20;
/// The file in the state directory.
const FILE: &str = "votes";

/// A file, or a part of a partition, that this process alone uses.
#[derive(Debug)]
pub struct Place {
    file: File,
    path: PathBuf,
    at: u64,
}

/// What was found where votes are to be kept.
#[derive(Debug)]
pub enum Found {
    /// A place that can have been used before.
    Used(Place),
    /// A place that was made now: `space` zeros.
    New(Place),
}

impl Place {
    /// The medium's name in messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file in `state`, or makes one of `space` bytes.
    ///
    /// # Errors
    ///
    /// It cannot be opened or made, another process uses it, or it has another length (F15).
    pub fn in_directory(state: &Path, space: u64) -> Result<Found, Failure> {
        std::fs::create_dir_all(state).map_err(|error| Failure::io("create", state, &error))?;
        let path = state.join(FILE);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => {
                let place = Self { file, path, at: 0 };
                place.lock()?;
                place.check_length(space)?;
                Ok(Found::Used(place))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Self::make(&path, state, space).map(Found::New)
            }
            Err(error) => Err(Failure::io("open", &path, &error)),
        }
    }

    /// Opens a partition, or a file that stands for one.
    ///
    /// # Errors
    ///
    /// It cannot be opened, another process uses it, or it is too small.
    pub fn on_device(path: &Path, space: u64) -> Result<Found, Failure> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| Failure::io("open", path, &error))?;
        let place = Self { file, path: path.into(), at: DEVICE_AT };
        place.lock()?;
        let needed = DEVICE_AT.saturating_add(space);
        let length = place.length()?;
        if length < needed {
            let what = format!("{} has {length} bytes, the votes need {needed}", path.display());
            return Err(
                Failure::failed(what).next("name the infra partition of the node, or leave `device` out.")
            );
        }
        Ok(Found::Used(place))
    }

    /// Written in full before it gets its name: a cut leaves no file, or a whole one.
    fn make(path: &Path, state: &Path, space: u64) -> Result<Self, Failure> {
        let partial = path.with_extension("partial");
        let made = || {
            let mut options = OpenOptions::new();
            let file =
                options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            let zeros = vec![0; usize::try_from(space).map_err(std::io::Error::other)?];
            file.write_all_at(&zeros, 0)?;
            fsync(&file)?;
            std::fs::rename(&partial, path)?;
            fsync(File::open(state)?)?;
            Ok(file)
        };
        let file = made().map_err(|error: std::io::Error| Failure::io("make", path, &error))?;
        let place = Self { file, path: path.into(), at: 0 };
        place.lock()?;
        Ok(place)
    }

    fn lock(&self) -> Result<(), Failure> {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Failure::refused(format!("another agent uses {}", self.path.display()))
                .next("stop it first; two agents would vote against each other.")
        })
    }

    fn length(&self) -> Result<u64, Failure> {
        let io = |error: std::io::Error| Failure::io("read the size of", &self.path, &error);
        let found = self.file.metadata().map_err(io)?;
        if found.file_type().is_block_device() {
            return std::io::Seek::seek(&mut &self.file, std::io::SeekFrom::End(0)).map_err(io);
        }
        Ok(found.len())
    }

    fn check_length(&self, space: u64) -> Result<(), Failure> {
        let length = self.length()?;
        if length == space {
            return Ok(());
        }
        let how = if length < space { "truncated" } else { "grown" };
        let what = format!("{} was {how}: it has {length} bytes, not {space}", self.path.display());
        let next = "find out who changed it. If its votes are lost, move it away: the node comes back as a \
                    new voter.";
        Err(Failure::refused(what).left("This node does not vote.").next(next))
    }
}

impl Medium for Place {
    fn read(&self, at: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(buffer, self.at.saturating_add(at))
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(bytes, self.at.saturating_add(at))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(fdatasync(&self.file)?)
    }
}
