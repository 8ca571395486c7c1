//! A disk or a file that holds one, and how it is read: through the cache, and past it.

use crate::failure::Failure;
use bulkhead_core::block::{BlockSize, Geometry};
use bulkhead_core::plan::DiskOffset;
use rustix::fs::{Advice, FlockOperation, OFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What stands behind a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file that holds a disk.
    Image,
    /// A block device.
    Device,
}

/// What a command wants to do with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look at it; others may be writing meanwhile, every structure has its checksum.
    Read,
    /// Change it; no other `bulkhead` command changes it meanwhile.
    Write,
}

/// Longest wait for another `bulkhead` command that holds the disk: confirmations and records
/// take milliseconds; a flash takes longer and is worth telling the operator about.
const LOCK_WAIT: Duration = Duration::from_secs(3);
const LOCK_POLL: Duration = Duration::from_millis(50);

/// An open disk.
#[derive(Debug)]
pub struct Disk {
    /// The path it was opened by.
    pub path: PathBuf,
    /// What stands behind the path.
    pub kind: Kind,
    /// Size of blocks, and how many.
    pub geometry: Geometry,
    file: File,
}

impl Disk {
    /// Opens the disk or disk image at `path`.
    ///
    /// # Errors
    ///
    /// It is not there, is no disk, or another command is changing it.
    pub fn open(path: &Path, access: Access) -> Result<Self, Failure> {
        let file = OpenOptions::new().read(true).write(access == Access::Write).open(path);
        let file = file.map_err(|error| Failure::io("open", path, &error))?;
        Self::from_file(file, path, access, None)
    }

    /// Takes an open file as a disk; `block_size` only where the caller knows it.
    ///
    /// # Errors
    ///
    /// It is no disk, or another command is changing it.
    pub fn from_file(
        file: File,
        path: &Path,
        access: Access,
        block_size: Option<BlockSize>,
    ) -> Result<Self, Failure> {
        let io_failure = |error: io::Error| Failure::io("look at", path, &error);
        let kind = file.metadata().map_err(io_failure)?.file_type();
        let kind = if kind.is_block_device() {
            Kind::Device
        } else if kind.is_file() {
            Kind::Image
        } else {
            let what = format!("{} is neither a disk nor a file that holds one", path.display());
            return Err(Failure::failed(what));
        };
        if access == Access::Write {
            lock(&file, path)?;
        }
        let bytes = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(io_failure)?;
        let found = match (block_size, kind) {
            (Some(size), _) => size,
            (None, Kind::Device) => device_block_size(&file, path)?,
            (None, Kind::Image) => guess_block_size(&file, bytes),
        };
        let geometry = Geometry::from_bytes(found, bytes);
        Ok(Self { path: path.into(), kind, geometry, file })
    }

    /// Bytes in all whole blocks.
    pub fn bytes(&self) -> u64 {
        self.geometry.blocks.saturating_mul(u64::from(self.geometry.block_size.bytes()))
    }

    /// The open file, for what only the operating system can answer.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Fills `buffer` from `at` on.
    ///
    /// # Errors
    ///
    /// The disk ends before, or does not answer.
    pub fn read(&self, at: DiskOffset, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, at.0)
    }

    /// Writes `bytes` at `at`: not durable before [`Self::flush`].
    ///
    /// # Errors
    ///
    /// The disk refused, or ends before.
    pub fn write(&self, at: DiskOffset, bytes: &[u8]) -> io::Result<()> {
        let end = at.0.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.bytes() < end {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the write lies behind the end of the disk",
            ));
        }
        self.file.write_all_at(bytes, at.0)
    }

    /// Makes all writes so far durable. A failure is final: what was written since the last good
    /// flush may be lost even if a later one succeeds (V13), so callers stop.
    ///
    /// # Errors
    ///
    /// The disk did not confirm.
    pub fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// A reader that asks the disk and not the cache, to see what a power cut would leave.
    pub fn uncached(&self) -> Uncached<'_> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
        let direct = OpenOptions::new().read(true).custom_flags(flags).open(path).ok();
        Uncached { disk: self, direct, bounce: Vec::new() }
    }
}

/// Reads with `O_DIRECT`; where that is not supported, after dropping the cached pages.
#[derive(Debug)]
pub struct Uncached<'a> {
    disk: &'a Disk,
    direct: Option<File>,
    bounce: Vec<u8>,
}

/// Alignment that every disk accepts for direct reads.
const DIRECT_ALIGN: u64 = 4096;
/// Bytes asked for at once.
const DIRECT_CHUNK: usize = 1 << 20;

impl Uncached<'_> {
    /// Fills `buffer` from `at` on.
    ///
    /// # Errors
    ///
    /// The disk ends before, or does not answer.
    pub fn read(&mut self, at: DiskOffset, buffer: &mut [u8]) -> io::Result<()> {
        let mut at = at.0;
        for part in buffer.chunks_mut(DIRECT_CHUNK) {
            if self.direct.is_none() || self.read_direct(at, part).is_err() {
                self.direct = None;
                let _ = rustix::fs::fadvise(&self.disk.file, 0, None, Advice::DontNeed);
                self.disk.read(DiskOffset(at), part)?;
            }
            at = at.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    fn read_direct(&mut self, at: u64, part: &mut [u8]) -> io::Result<()> {
        let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let start = at & !DIRECT_ALIGN.saturating_sub(1);
        let skip = usize::try_from(at.saturating_sub(start)).map_err(|_| short())?;
        let align = usize::try_from(DIRECT_ALIGN).map_err(|_| short())?;
        let len = skip.saturating_add(part.len()).next_multiple_of(align);
        // Twice the alignment more than needed, so that an aligned start always has room.
        self.bounce.resize(DIRECT_CHUNK.saturating_add(align.saturating_mul(3)), 0);
        let offset = self.bounce.as_ptr().align_offset(align);
        let window = self.bounce.get_mut(offset..offset.saturating_add(len)).ok_or_else(short)?;
        let file = self.direct.as_ref().ok_or_else(short)?;
        let mut done = 0_usize;
        while done < skip.saturating_add(part.len()) {
            let from = start.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            let got = file.read_at(window.get_mut(done..).ok_or_else(short)?, from)?;
            if got == 0 {
                return Err(short());
            }
            done = done.saturating_add(got);
        }
        let wanted = window.get(skip..skip.saturating_add(part.len())).ok_or_else(short)?;
        part.copy_from_slice(wanted);
        Ok(())
    }
}

/// One writer at a time: an advisory lock, freed by the kernel when its holder dies (SIGKILL is
/// legal at any moment). The same lock keeps udev from probing a half-written disk.
fn lock(file: &File, path: &Path) -> Result<(), Failure> {
    let until = Instant::now().checked_add(LOCK_WAIT);
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) if Some(Instant::now()) < until => {
                std::thread::sleep(LOCK_POLL)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let what = format!("another command is writing to {}", path.display());
                return Err(Failure::refused(what).next("wait until it has finished, then try again."));
            }
            Err(error) => return Err(Failure::io("lock", path, &error.into())),
        }
    }
}

fn device_block_size(file: &File, path: &Path) -> Result<BlockSize, Failure> {
    let bytes = rustix::fs::ioctl_blksszget(file)
        .map_err(|error| Failure::io("ask for the block size of", path, &error.into()))?;
    BlockSize::from_bytes(bytes).ok_or_else(|| {
        Failure::failed(format!("{} has blocks of {bytes} bytes; 512 and 4096 are supported", path.display()))
    })
}

/// A file does not say what block size its disk has: the place of its partition table does.
fn guess_block_size(file: &File, bytes: u64) -> BlockSize {
    let has_header = |at: Option<u64>| {
        let mut magic = [0; 8];
        at.is_some_and(|at| file.read_exact_at(&mut magic, at).is_ok()) && magic == *b"EFI PART"
    };
    let at_4096 = [Some(4096), (bytes & !4095).checked_sub(4096)];
    let at_512 = [Some(512), (bytes & !511).checked_sub(512)];
    if !at_512.into_iter().any(has_header) && at_4096.into_iter().any(has_header) {
        BlockSize::B4096
    } else {
        BlockSize::B512
    }
}
