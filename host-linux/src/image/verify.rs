//! Believes an image: every byte is read once, hashed, and compared with what a trusted key signed.

use crate::failure::Failure;
use bulkhead_core::container::header::{Header, PAYLOAD_START};
use bulkhead_core::container::image::{Digest, SecurityVersion};
use bulkhead_core::container::trust::{ImageFault, Trust, Verified};
use bulkhead_core::plan::SECTOR;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Fills a buffer with the bytes of a container from an offset on.
pub type Read<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>;

const CHUNK: usize = 1 << 20;

/// Why an image is not believed.
#[derive(Debug)]
pub enum Unbelieved {
    /// The image is not good.
    Image(ImageFault),
    /// What holds it did not answer.
    Io(io::Error),
}

impl std::fmt::Display for Unbelieved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image(fault) => write!(f, "{fault}"),
            Self::Io(error) => write!(f, "it could not be read: {error}"),
        }
    }
}

impl Unbelieved {
    /// As the slot choice sees it.
    pub const fn fault(&self) -> ImageFault {
        match self {
            Self::Image(fault) => *fault,
            Self::Io(_) => ImageFault::Unreadable,
        }
    }
}

/// Reads the container once and believes it, or says why not. `tick` is told how many bytes of the
/// payload were hashed.
///
/// # Errors
///
/// [`Unbelieved`], with the first check that failed.
pub fn verify(
    read: Read<'_>,
    trust: &Trust,
    capacity: u64,
    floor: SecurityVersion,
    tick: &mut dyn FnMut(u64),
) -> Result<Verified, Unbelieved> {
    let mut sector = [0; SECTOR];
    read(0, &mut sector).map_err(Unbelieved::Io)?;
    let signed = trust.believe(&sector, capacity, floor).map_err(Unbelieved::Image)?;
    let (digest, command_line) = hash(read, signed.header(), tick).map_err(Unbelieved::Io)?;
    signed.verify(digest, &command_line).map_err(Unbelieved::Image)
}

/// SHA-256 of the payload, and the command line out of the very bytes that were hashed.
fn hash(read: Read<'_>, header: &Header, tick: &mut dyn FnMut(u64)) -> io::Result<(Digest, Vec<u8>)> {
    let mut hasher = Sha256::new();
    let mut line = Vec::new();
    let line_end = header.command_line.offset.saturating_add(header.command_line.len);
    let mut buffer = vec![0; CHUNK];
    let mut done = 0_u64;
    while done < header.payload_len {
        let left = usize::try_from(header.payload_len.saturating_sub(done)).unwrap_or(CHUNK);
        let chunk = buffer.get_mut(..left.min(CHUNK)).unwrap_or_default();
        read(PAYLOAD_START.saturating_add(done), chunk)?;
        hasher.update(&*chunk);
        let from = header.command_line.offset.saturating_sub(done);
        let to = line_end.saturating_sub(done);
        let clip = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(chunk.len());
        line.extend_from_slice(chunk.get(clip(from)..clip(to)).unwrap_or_default());
        let count = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        done = done.saturating_add(count);
        tick(count);
    }
    Ok((Digest(hasher.finalize().into()), line))
}

/// An image container in a file.
#[derive(Debug)]
pub struct ImageFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its header, parsed but not believed.
    pub header: Header,
    file: File,
}

impl ImageFile {
    /// Opens the container at `path`.
    ///
    /// # Errors
    ///
    /// It is not there, is no container, or is cut short.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let io_failure = |error: io::Error| Failure::io("read", path, &error);
        let file = File::open(path).map_err(|error| Failure::io("open", path, &error))?;
        let not_one = |why: &dyn std::fmt::Display| {
            Failure::failed(format!("{} is not an image: {why}", path.display()))
                .next("make an image with `bulkhead image build`.")
        };
        let mut sector = [0; SECTOR];
        match file.read_exact_at(&mut sector, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(not_one(&"it is shorter than a header"));
            }
            Err(error) => return Err(io_failure(error)),
        }
        let header = Header::parse(&sector).map_err(|fault| not_one(&fault))?;
        let len = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(io_failure)?;
        let needed = header.container_len();
        if len < needed {
            return Err(not_one(&format!("it is cut short, {len} of {needed} bytes are there")));
        }
        Ok(Self { path: path.into(), header, file })
    }

    /// Fills `buffer` from `at` on.
    ///
    /// # Errors
    ///
    /// The file does not answer, or has become shorter.
    pub fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }
}
