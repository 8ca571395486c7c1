//! The GPT header: one block that names the entry array and guards it with a checksum.
//!
//! | at | len | field             | values                                         |
//! |---:|----:|-------------------|------------------------------------------------|
//! |  0 |   8 | signature         | "EFI PART"                                     |
//! |  8 |   4 | revision          | 0x00010000                                     |
//! | 12 |   4 | header size       | bytes, 92 to one block                         |
//! | 16 |   4 | header CRC        | CRC-32 of the header with this field zero      |
//! | 20 |   4 | reserved          | zero                                           |
//! | 24 |   8 | my address        | the block this header is in                    |
//! | 32 |   8 | alternate address | the block the other header is in               |
//! | 40 |   8 | first usable      | after the primary entry array                  |
//! | 48 |   8 | last usable       | before the backup entry array                  |
//! | 56 |  16 | disk GUID         | not zero                                       |
//! | 72 |   8 | entry array       | first block of this copy's array               |
//! | 80 |   4 | entry count       | 1 to 128                                       |
//! | 84 |   4 | entry size        | 128 bytes                                      |
//! | 88 |   4 | array CRC         | CRC-32 of count * size bytes                   |

use crate::block::{Extent, Geometry, Lba};
use crate::bytes::{Reader, Writer};
use crate::crc::crc32;
use uguid::Guid;

/// Bytes of a header that carry meaning; the rest of its block is reserved.
pub const HEADER_LEN: usize = 92;
/// Entries a table may have. The specification asks for room for at least this many, and every
/// tool writes exactly this many; a table with more is refused, not read in part.
pub const ENTRIES_MAX: usize = 128;
/// Size of one entry. The specification allows larger ones; no tool writes them.
pub const ENTRY_LEN: usize = 128;
/// Bytes of the largest entry array.
pub const ARRAY_LEN_MAX: usize = ENTRIES_MAX.saturating_mul(ENTRY_LEN);

const SIGNATURE: [u8; 8] = *b"EFI PART";
const REVISION: u32 = 0x0001_0000;

/// Which of the two copies of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// At the start of the disk; the one that is used when both are good (V33).
    Primary,
    /// At the end of the disk.
    Backup,
}

impl core::fmt::Display for Copy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
        })
    }
}

/// Why a header, or the array it names, is not believed. The disk's fault: never a panic (F45).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The disk did not return the blocks.
    #[error("the disk could not be read")]
    Unreadable,
    /// The disk is too small to hold any table.
    #[error("the disk has {blocks} blocks, too few for a partition table")]
    DiskTooSmall {
        /// Blocks of the disk.
        blocks: u64,
    },
    /// There is no header in this block.
    #[error("no GPT signature")]
    Signature,
    /// A revision this code does not know.
    #[error("revision {found:#010x} is not 1.0")]
    Revision {
        /// The revision in the header.
        found: u32,
    },
    /// The header claims a size that it cannot have.
    #[error("header size {found} is not between 92 and one block")]
    HeaderSize {
        /// The size in the header, in bytes.
        found: u32,
    },
    /// The header's checksum does not hold.
    #[error("header checksum is wrong")]
    HeaderChecksum,
    /// A field the specification reserves is not zero.
    #[error("a reserved field is not zero")]
    Reserved,
    /// The header was written for another block: a misdirected write or a stray copy (F4).
    #[error("header says it is in block {found}, but is in block {at}")]
    Misplaced {
        /// The block the header claims.
        found: u64,
        /// The block it was read from.
        at: u64,
    },
    /// The other header's address is this one's, or outside the disk.
    #[error("alternate header address {found} is impossible")]
    Alternate {
        /// The address in the header.
        found: u64,
    },
    /// The usable range is empty, outside the disk, or leaves no room for both headers and arrays.
    #[error("usable blocks {first} to {last} are impossible on this disk")]
    Usable {
        /// First usable block in the header.
        first: u64,
        /// Last usable block in the header.
        last: u64,
    },
    /// The disk has no identity.
    #[error("the disk GUID is zero")]
    DiskGuid,
    /// The number of entries is zero or above [`ENTRIES_MAX`].
    #[error("{found} partition entries, expected 1 to 128")]
    EntryCount {
        /// The count in the header.
        found: u32,
    },
    /// The size of an entry is not [`ENTRY_LEN`].
    #[error("entry size {found}, expected 128")]
    EntrySize {
        /// The size in the header, in bytes.
        found: u32,
    },
    /// The entry array overlaps a header or the usable range, or lies outside the disk.
    #[error("entry array at block {found} is impossible")]
    ArrayAddress {
        /// The address in the header.
        found: u64,
    },
    /// The array's checksum does not hold.
    #[error("entry array checksum is wrong")]
    ArrayChecksum,
    /// An entry is wrong in itself or against the others.
    #[error("entry {index}: {fault}")]
    Entry {
        /// Number of the entry, from 0.
        index: u8,
        /// What is wrong with it.
        fault: super::entries::EntryFault,
    },
}

/// A header that passed every check that needs no more than the header and the disk's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which copy this is.
    pub copy: Copy,
    /// The block the header is in.
    pub at: Lba,
    /// The block the other header is in.
    pub alternate: Lba,
    /// Blocks that partitions may use.
    pub usable: Extent,
    /// Identity of the disk.
    pub disk_guid: Guid,
    /// First block of the entry array.
    pub array: Lba,
    /// Number of entries, 1 to [`ENTRIES_MAX`].
    pub entry_count: u32,
    /// CRC-32 of the entry array.
    pub array_crc: u32,
}

impl Header {
    /// Reads the header in `block`, which was read from `at`.
    ///
    /// # Errors
    ///
    /// The first field that is wrong, in the order of the table above.
    pub fn parse(block: &[u8], copy: Copy, at: Lba, disk: Geometry) -> Result<Self, Fault> {
        let fields = Fields::read(block).ok_or(Fault::Signature)?;
        fields.check_integrity(block, disk)?;
        fields.check_meaning(copy, at, disk)
    }

    /// Bytes of the entry array.
    pub fn array_len(&self) -> usize {
        array_len(self.entry_count)
    }

    /// The blocks the entry array is in.
    pub fn array_extent(&self, disk: Geometry) -> Extent {
        array_extent(self.array, self.entry_count, disk).unwrap_or(self.usable)
    }

    /// The header as bytes, ready for its block; the rest of the block is zero.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let unsummed = self.layout(0);
        self.layout(crc32(&[&unsummed]))
    }

    fn layout(&self, crc: u32) -> [u8; HEADER_LEN] {
        let mut out = Writer::<HEADER_LEN>::default();
        out.put(&SIGNATURE);
        out.u32(REVISION);
        out.u32(92);
        out.u32(crc);
        out.reserved(4);
        out.u64(self.at.0);
        out.u64(self.alternate.0);
        out.u64(self.usable.first().0);
        out.u64(self.usable.last().0);
        out.put(&self.disk_guid.to_bytes());
        out.u64(self.array.0);
        out.u32(self.entry_count);
        out.u32(128);
        out.u32(self.array_crc);
        out.finish()
    }
}

/// Bytes of an array of `count` entries, at most [`ARRAY_LEN_MAX`].
pub(super) fn array_len(count: u32) -> usize {
    usize::try_from(count).map_or(ARRAY_LEN_MAX, |count| count.saturating_mul(ENTRY_LEN)).min(ARRAY_LEN_MAX)
}

/// The blocks of an array of `count` entries at `array`; `None` when it runs off all addresses.
pub(super) fn array_extent(array: Lba, count: u32, disk: Geometry) -> Option<Extent> {
    let bytes = u64::from(count).saturating_mul(128);
    Extent::with_len(array, disk.block_size.blocks_for(bytes))
}

/// The fields as they stand on the disk, before any of them is believed.
struct Fields {
    signature: [u8; 8],
    revision: u32,
    header_size: u32,
    header_crc: u32,
    reserved: bool,
    at: u64,
    alternate: u64,
    first_usable: u64,
    last_usable: u64,
    disk_guid: Guid,
    array: u64,
    entry_count: u32,
    entry_size: u32,
    array_crc: u32,
}

impl Fields {
    fn read(block: &[u8]) -> Option<Self> {
        let mut from = Reader::new(block);
        Some(Self {
            signature: from.array()?,
            revision: from.u32()?,
            header_size: from.u32()?,
            header_crc: from.u32()?,
            reserved: from.reserved::<4>()?,
            at: from.u64()?,
            alternate: from.u64()?,
            first_usable: from.u64()?,
            last_usable: from.u64()?,
            disk_guid: Guid::from_bytes(from.array()?),
            array: from.u64()?,
            entry_count: from.u32()?,
            entry_size: from.u32()?,
            array_crc: from.u32()?,
        })
    }

    /// Is this a whole header of the version we know?
    fn check_integrity(&self, block: &[u8], disk: Geometry) -> Result<(), Fault> {
        if self.signature != SIGNATURE {
            return Err(Fault::Signature);
        }
        if self.revision != REVISION {
            return Err(Fault::Revision { found: self.revision });
        }
        let bad_size = Fault::HeaderSize { found: self.header_size };
        if self.header_size < 92 || disk.block_size.bytes() < self.header_size {
            return Err(bad_size);
        }
        let size = usize::try_from(self.header_size).map_err(|_| bad_size)?;
        let head = block.get(..16).ok_or(bad_size)?;
        let tail = block.get(20..size).ok_or(bad_size)?;
        if crc32(&[head, &[0; 4], tail]) != self.header_crc {
            return Err(Fault::HeaderChecksum);
        }
        Ok(())
    }

    /// Do the fields describe something that can be on this disk?
    fn check_meaning(&self, copy: Copy, at: Lba, disk: Geometry) -> Result<Header, Fault> {
        if !self.reserved {
            return Err(Fault::Reserved);
        }
        if self.at != at.0 {
            return Err(Fault::Misplaced { found: self.at, at: at.0 });
        }
        let alternate = Lba(self.alternate);
        let apart = match copy {
            Copy::Primary => at < alternate && alternate <= disk.last(),
            Copy::Backup => alternate == Lba(1) && alternate < at,
        };
        if !apart {
            return Err(Fault::Alternate { found: self.alternate });
        }
        let (low, high) = match copy {
            Copy::Primary => (at, alternate),
            Copy::Backup => (alternate, at),
        };
        let usable = Extent::new(Lba(self.first_usable), Lba(self.last_usable))
            .filter(|usable| low < usable.first() && usable.last() < high)
            .ok_or(Fault::Usable { first: self.first_usable, last: self.last_usable })?;
        if self.disk_guid.is_zero() {
            return Err(Fault::DiskGuid);
        }
        if self.entry_count == 0 || !usize::try_from(self.entry_count).is_ok_and(|count| count <= ENTRIES_MAX)
        {
            return Err(Fault::EntryCount { found: self.entry_count });
        }
        if self.entry_size != 128 {
            return Err(Fault::EntrySize { found: self.entry_size });
        }
        let between = match copy {
            Copy::Primary => Extent::new(at.plus(1), usable.first().before()),
            Copy::Backup => Extent::new(usable.last().plus(1), at.before()),
        };
        let array = array_extent(Lba(self.array), self.entry_count, disk);
        // The other copy's array has the same length and lies between the usable blocks and the
        // other header. Without room for it there, a repair would write it over a partition.
        let blocks = array.map_or(0, Extent::blocks);
        if usable.first() < low.plus(1).plus(blocks) || high < usable.last().plus(1).plus(blocks) {
            return Err(Fault::Usable { first: self.first_usable, last: self.last_usable });
        }
        array
            .filter(|array| between.is_some_and(|between| between.contains(*array)))
            .ok_or(Fault::ArrayAddress { found: self.array })?;
        Ok(Header {
            copy,
            at,
            alternate,
            usable,
            disk_guid: self.disk_guid,
            array: Lba(self.array),
            entry_count: self.entry_count,
            array_crc: self.array_crc,
        })
    }
}
