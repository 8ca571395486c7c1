//! The bytes of a snapshot: a stream of records, for a file or a connection (I11, V41; docs/formats.md).
//!
//! A header, then records. All integers are little-endian.
//!
//! | at | len | header | value |
//! |---:|----:|--------|-------|
//! | 0 | 8 | magic | "BHGUEST", 0 |
//! | 8 | 4 | version | 1: a guest that is sent; 2: one that is kept in a file; 3: one sent with its disks |
//! | 12 | 4 | crc | CRC-32C of bytes 0..12 |
//!
//! | at | len | record | value |
//! |---:|----:|--------|-------|
//! | 0 | 4 | kind | 1 description, 2 state, 3 memory, 4 end, 5 lineage, 6 disks, 7 a part of one |
//! | 4 | 8 | length | bytes of content, at most what its kind may have |
//! | 12 | 4 | crc | CRC-32C of bytes 0..12 and the content |
//! | 16 | | content | |
//!
//! | kind | content | at most |
//! |------|---------|--------:|
//! | description | the guest's description, as the text of its file; the first record | 64 KiB |
//! | state | of processors and devices, by postcard (`state.rs`); one | 8 MiB |
//! | memory | its first address in the guest, 8 bytes, and what is there; else it is zero | 1 MiB + 8 |
//! | lineage | in version 2 only, and there the second record: what snapshot this is (`lineage.rs`) | 319 |
//! | disks | in version 2 only: the seals of its volumes, by postcard (`disks.rs`); none, or one | 64 KiB |
//! | part | in version 3 only: a part of a disk (`migration/disks/piece.rs`) | 1 MiB + 20 |
//! | end | how many records came before, 8 bytes; CRC-32C of the header and their headers | 12 |
//! | | in version 2 behind that: the digest, BLAKE3 of all bytes before this record | 32 |
//!
//! Version 1 is what guests move in, so that nodes of two releases can hand them on, and what older releases
//! wrote into files. Both are read.

use super::lineage::{self, Digest};
use crate::migration::disks::piece;
use std::io::{ErrorKind, Read, Write};

/// The version of a guest that is sent.
const SENT: u32 = 1;
/// The version of one that is kept.
pub const VERSION: u32 = 2;
/// The version of one that is sent with what is on its disks.
const BROUGHT: u32 = 3;
const MAGIC: [u8; 8] = *b"BHGUEST\0";
const HEADER: usize = 16;
/// The longest piece of memory in one record.
pub const PIECE_MAX: usize = 1 << 20;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What the guest is.
    Description,
    /// Its processors and devices.
    State,
    /// A piece of its memory.
    Memory,
    /// What its disks held.
    Disks,
    /// That was all.
    End,
    /// Which snapshot this is.
    Lineage,
    /// A part of a disk.
    Disk,
}

impl Kind {
    const fn number(self) -> u32 {
        match self {
            Self::Description => 1,
            Self::State => 2,
            Self::Memory => 3,
            Self::End => 4,
            Self::Lineage => 5,
            Self::Disks => 6,
            Self::Disk => 7,
        }
    }

    fn of(number: u32, version: u32) -> Option<Self> {
        let all =
            [Self::Description, Self::State, Self::Memory, Self::End, Self::Lineage, Self::Disks, Self::Disk];
        let is_known = |kind: &Self| match kind {
            Self::Description | Self::State | Self::Memory | Self::End => true,
            Self::Lineage | Self::Disks => version == VERSION,
            Self::Disk => version == BROUGHT,
        };
        all.into_iter().find(|kind| kind.number() == number).filter(is_known)
    }

    /// The longest content of such a record.
    #[must_use]
    pub const fn length_max(self) -> usize {
        match self {
            Self::Description | Self::Disks => 64 << 10,
            Self::State => 8 << 20,
            Self::Memory => PIECE_MAX + 8,
            Self::End => 12 + blake3::OUT_LEN,
            Self::Lineage => lineage::LENGTH_MAX,
            Self::Disk => piece::DATA_MAX + piece::HEAD,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Description => "the description",
            Self::State => "the state of processors and devices",
            Self::Memory => "a piece of memory",
            Self::Disks => "what its disks held",
            Self::End => "the end",
            Self::Lineage => "which snapshot it is",
            Self::Disk => "a part of a disk",
        }
    }
}

/// Why there is no guest in these bytes.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Nothing of ours.
    #[error("it is no snapshot of a guest")]
    NotOurs,
    /// Of another version of this program.
    #[error("its format is version {0}; this program knows versions {SENT} to {BROUGHT}")]
    Version(u32),
    /// The end is missing.
    #[error("it breaks off in the middle: who wrote it did not finish")]
    Short,
    /// These bytes were never written like this.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Records that no program of ours writes.
    #[error("it makes no sense: {0}")]
    Nonsense(String),
    /// The system.
    #[error("it cannot be read: {0}")]
    Io(std::io::Error),
}

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Self {
        match error.kind() == ErrorKind::UnexpectedEof {
            true => Self::Short,
            false => Self::Io(error),
        }
    }
}

/// The checksum of one thing behind another.
fn crc(before: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(before, bytes)
}

fn header(kind: Kind, length: usize) -> [u8; 12] {
    let mut header = [0; 12];
    let (number, rest) = header.split_at_mut(4);
    number.copy_from_slice(&kind.number().to_le_bytes());
    rest.copy_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
    header
}

/// Who writes records.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    records: u64,
    crc: u32,
    /// Of all bytes so far; `None`: it is sent.
    hasher: Option<Box<blake3::Hasher>>,
}

impl<W: Write> Writer<W> {
    /// Begins one that is sent.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn begin(out: W) -> std::io::Result<Self> {
        Self::of_version(out, SENT, None)
    }

    /// Begins one that is sent with what is on its disks.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn bring(out: W) -> std::io::Result<Self> {
        Self::of_version(out, BROUGHT, None)
    }

    /// Begins one that is kept.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn keep(out: W) -> std::io::Result<Self> {
        Self::of_version(out, VERSION, Some(Box::default()))
    }

    fn of_version(out: W, version: u32, hasher: Option<Box<blake3::Hasher>>) -> std::io::Result<Self> {
        let mut writer = Self { out, records: 0, crc: 0, hasher };
        let mut header = [0; 12];
        let (magic, number) = header.split_at_mut(8);
        magic.copy_from_slice(&MAGIC);
        number.copy_from_slice(&version.to_le_bytes());
        writer.put_header(&header, crc(0, &header))?;
        Ok(writer)
    }

    /// A record of these parts, together no longer than its kind may be.
    ///
    /// # Errors
    ///
    /// Those of the output, and what is too long.
    pub fn put(&mut self, kind: Kind, parts: &[&[u8]]) -> std::io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if kind.length_max() < length {
            let what = format!("{} has {length} bytes, and may have {}", kind.name(), kind.length_max());
            return Err(std::io::Error::other(what));
        }
        let header = header(kind, length);
        self.put_header(&header, parts.iter().fold(crc(0, &header), |before, part| crc(before, part)))?;
        self.records = self.records.saturating_add(1);
        parts.iter().try_for_each(|part| self.put_bytes(part))
    }

    /// Where they go.
    pub const fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// That was all. Its digest, if it is kept.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn end(mut self) -> std::io::Result<Option<Digest>> {
        let (records, all) = (self.records.to_le_bytes(), self.crc.to_le_bytes());
        let digest = self.hasher.take().map(|hasher| Digest(*hasher.finalize().as_bytes()));
        self.put(Kind::End, &[&records, &all, digest.as_ref().map_or(&[], |digest| &digest.0)])?;
        self.out.flush()?;
        Ok(digest)
    }

    fn put_header(&mut self, header: &[u8; 12], check: u32) -> std::io::Result<()> {
        let check = check.to_le_bytes();
        self.crc = crc(crc(self.crc, header), &check);
        self.put_bytes(header)?;
        self.put_bytes(&check)
    }

    fn put_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.out.write_all(bytes)
    }
}

/// Who reads records. What it costs is bounded by the longest of them.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    records: u64,
    crc: u32,
    version: u32,
    content: Vec<u8>,
    hasher: Option<Box<blake3::Hasher>>,
    digest: Option<Digest>,
}

impl<R: Read> Reader<R> {
    /// Begins.
    ///
    /// # Errors
    ///
    /// There is no snapshot, or one of another version.
    pub fn begin(from: R) -> Result<Self, Unreadable> {
        let content = Vec::new();
        let mut reader = Self { from, records: 0, crc: 0, version: 0, content, hasher: None, digest: None };
        let (bytes, check) = reader.header()?;
        let (magic, version) = bytes.split_at(8);
        reader.version = version.first_chunk().map_or(0, |version| u32::from_le_bytes(*version));
        reader.hasher = reader.is_kept().then(Box::default);
        reader.hash(&bytes, check);
        match (magic == MAGIC, crc(0, &bytes) == check) {
            (false, _) => Err(Unreadable::NotOurs),
            (true, false) => Err(Unreadable::Damaged("its header".into())),
            (true, true) if ![SENT, VERSION, BROUGHT].contains(&reader.version) => {
                Err(Unreadable::Version(reader.version))
            }
            (true, true) => Ok(reader),
        }
    }

    /// Whether it is one that is kept: it says which it is.
    pub const fn is_kept(&self) -> bool {
        self.version == VERSION
    }

    /// Its digest, once its end was found whole; `None`: it is one that is sent.
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The next record, as it was written. `None`: that was all, and all of it is whole.
    ///
    /// # Errors
    ///
    /// It is not as it was written.
    pub fn record(&mut self) -> Result<Option<(Kind, &[u8])>, Unreadable> {
        let before = (self.records, self.crc);
        let (header, check) = self.header()?;
        let number = header.first_chunk().map_or(0, |number| u32::from_le_bytes(*number));
        let length = header.last_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        let which = || format!("record {}", before.0);
        let Some(kind) = Kind::of(number, self.version) else {
            return Err(Unreadable::Damaged(format!("{} is of no kind that there is", which())));
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= kind.length_max());
        let Some(length) = length else {
            return Err(Unreadable::Damaged(format!("{}, {}, is too long", which(), kind.name())));
        };
        self.content.resize(length, 0);
        self.from.read_exact(&mut self.content)?;
        if crc(crc(0, &header), &self.content) != check {
            return Err(Unreadable::Damaged(format!("{}, {}", which(), kind.name())));
        }
        self.records = self.records.saturating_add(1);
        if kind != Kind::End {
            self.hash(&header, check);
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&self.content);
            }
            return Ok(Some((kind, &self.content)));
        }
        let (records, all) = before;
        let digest = self.hasher.take().map(|hasher| Digest(*hasher.finalize().as_bytes()));
        let said = digest.as_ref().map_or(&[][..], |digest| &digest.0);
        match self.content == [&records.to_le_bytes()[..], &all.to_le_bytes(), said].concat() {
            true => {
                self.digest = digest;
                Ok(None)
            }
            false => Err(Unreadable::Damaged("records are missing in it, or are not its own".into())),
        }
    }

    /// What is behind its end.
    pub fn into_rest(self) -> R {
        self.from
    }

    fn hash(&mut self, header: &[u8; 12], check: u32) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(header).update(&check.to_le_bytes());
        }
    }

    /// The next 12 bytes, and the checksum that stands behind them.
    fn header(&mut self) -> Result<([u8; 12], u32), Unreadable> {
        let mut bytes = [0; HEADER];
        self.from.read_exact(&mut bytes)?;
        self.crc = crc(self.crc, &bytes);
        let header = bytes.first_chunk().copied().unwrap_or_default();
        Ok((header, bytes.last_chunk().map_or(0, |check| u32::from_le_bytes(*check))))
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
