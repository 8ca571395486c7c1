//! The partition entries, and the table they make.
//!
//! | at | len | field       | values                                   |
//! |---:|----:|-------------|------------------------------------------|
//! |  0 |  16 | type GUID   | zero: the entry is not used              |
//! | 16 |  16 | unique GUID | not zero, different in every used entry  |
//! | 32 |   8 | first block | inside the usable range                  |
//! | 40 |   8 | last block  | inclusive, not before the first          |
//! | 48 |   8 | attributes  | kept as they are                         |
//! | 56 |  72 | name        | UTF-16LE, zero-padded                    |

use super::header::{ARRAY_LEN_MAX, ENTRIES_MAX, ENTRY_LEN, Fault, Header};
use crate::block::{Extent, Lba};
use crate::bytes::{Reader, Writer};
use crate::crc::crc32;
use uguid::Guid;

/// UTF-16 units in a partition's name.
pub const NAME_UNITS: usize = 36;

/// What is wrong with one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// The last block lies before the first.
    #[error("ends at block {last}, before it starts at block {first}")]
    Backwards {
        /// First block in the entry.
        first: u64,
        /// Last block in the entry.
        last: u64,
    },
    /// The partition reaches outside the usable blocks.
    #[error("blocks {first} to {last} are outside the usable range")]
    OutOfRange {
        /// First block in the entry.
        first: u64,
        /// Last block in the entry.
        last: u64,
    },
    /// The partition has no identity.
    #[error("a GUID is zero")]
    NoIdentity,
    /// Two partitions have one identity.
    #[error("has the same unique GUID as entry {other}")]
    SameIdentity {
        /// The earlier entry.
        other: u8,
    },
    /// The entry array has no such entry.
    #[error("does not fit in an array of {entries} entries")]
    NoRoom {
        /// Entries in the array.
        entries: u32,
    },
    /// The entry is used already, or one behind it is: entries are added in their order.
    #[error("comes after entry {other} was added")]
    OutOfOrder {
        /// The last entry of the table.
        other: u8,
    },
    /// Two partitions share blocks.
    #[error("overlaps entry {other}")]
    Overlap {
        /// The earlier entry.
        other: u8,
    },
}

/// A partition's name as it stands on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name([u16; NAME_UNITS]);

impl Name {
    /// The name `text`, cut after [`NAME_UNITS`] UTF-16 units.
    pub fn new(text: &str) -> Self {
        let mut units = [0; NAME_UNITS];
        for (unit, source) in units.iter_mut().zip(text.encode_utf16()) {
            *unit = source;
        }
        Self(units)
    }

    fn from_bytes(bytes: [u8; 72]) -> Self {
        let mut units = [0; NAME_UNITS];
        for (unit, pair) in units.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *unit = u16::from_le_bytes(*pair);
        }
        Self(units)
    }
}

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        use core::fmt::Write;
        let units = self.0.iter().copied().take_while(|unit| *unit != 0);
        for character in char::decode_utf16(units) {
            f.write_char(character.unwrap_or(char::REPLACEMENT_CHARACTER))?;
        }
        Ok(())
    }
}

/// One partition, validated against its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Number of the entry, from 0; Linux counts from 1.
    pub index: u8,
    /// What the partition is for.
    pub type_guid: Guid,
    /// Which partition it is.
    pub unique_guid: Guid,
    /// Where it is.
    pub extent: Extent,
    /// Attribute bits, kept as found.
    pub attributes: u64,
    /// Its label. For people: nothing is decided by it.
    pub name: Name,
}

impl Partition {
    fn parse(index: u8, bytes: &[u8; ENTRY_LEN], usable: Extent) -> Result<Option<Self>, EntryFault> {
        let truncated = EntryFault::OutOfRange { first: 0, last: 0 };
        Self::fields(index, bytes, usable).ok_or(truncated)?
    }

    /// `None` only when `bytes` were too short, which their type excludes.
    fn fields(
        index: u8,
        bytes: &[u8; ENTRY_LEN],
        usable: Extent,
    ) -> Option<Result<Option<Self>, EntryFault>> {
        let mut from = Reader::new(bytes);
        let type_guid = Guid::from_bytes(from.array()?);
        let unique_guid = Guid::from_bytes(from.array()?);
        let (first, last) = (from.u64()?, from.u64()?);
        let attributes = from.u64()?;
        let name = Name::from_bytes(from.array()?);
        if type_guid.is_zero() {
            return Some(Ok(None));
        }
        let Some(extent) = Extent::new(Lba(first), Lba(last)) else {
            return Some(Err(EntryFault::Backwards { first, last }));
        };
        if !usable.contains(extent) {
            return Some(Err(EntryFault::OutOfRange { first, last }));
        }
        if unique_guid.is_zero() {
            return Some(Err(EntryFault::NoIdentity));
        }
        Some(Ok(Some(Self { index, type_guid, unique_guid, extent, attributes, name })))
    }

    fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut out = Writer::<ENTRY_LEN>::default();
        out.put(&self.type_guid.to_bytes());
        out.put(&self.unique_guid.to_bytes());
        out.u64(self.extent.first().0);
        out.u64(self.extent.last().0);
        out.u64(self.attributes);
        for unit in self.name.0 {
            out.u16(unit);
        }
        out.finish()
    }
}

/// The used entries of one copy of the table. Invariants: no two overlap, no two have the same
/// unique GUID, all lie in the header's usable range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Identity of the disk.
    pub disk_guid: Guid,
    /// Blocks that partitions may use.
    pub usable: Extent,
    /// Entries in the array, used or not: 1 to [`ENTRIES_MAX`].
    pub entry_count: u32,
    /// The partitions, in the order of their entries.
    pub partitions: heapless::Vec<Partition, ENTRIES_MAX>,
}

impl Table {
    /// Reads the entry array `bytes` that `header` names.
    ///
    /// # Errors
    ///
    /// The array's checksum, else the first entry that is wrong.
    pub fn parse(header: &Header, bytes: &[u8]) -> Result<Self, Fault> {
        let array = bytes.get(..header.array_len()).ok_or(Fault::Unreadable)?;
        if crc32(&[array]) != header.array_crc {
            return Err(Fault::ArrayChecksum);
        }
        let mut table =
            Self { entry_count: header.entry_count, ..Self::empty(header.disk_guid, header.usable) };
        for (index, entry) in (0_u8..).zip(array.as_chunks::<ENTRY_LEN>().0) {
            let partition = Partition::parse(index, entry, header.usable);
            if let Some(partition) = partition.map_err(|fault| Fault::Entry { index, fault })? {
                table.add(partition).map_err(|fault| Fault::Entry { index, fault })?;
            }
        }
        Ok(table)
    }

    /// A table without partitions and with room for [`ENTRIES_MAX`].
    pub const fn empty(disk_guid: Guid, usable: Extent) -> Self {
        Self { disk_guid, usable, entry_count: 128, partitions: heapless::Vec::new() }
    }

    /// Adds a partition.
    ///
    /// # Errors
    ///
    /// [`EntryFault`] when it breaks an invariant of the table; the table is then unchanged.
    pub fn add(&mut self, partition: Partition) -> Result<(), EntryFault> {
        if !self.usable.contains(partition.extent) {
            let (first, last) = (partition.extent.first().0, partition.extent.last().0);
            return Err(EntryFault::OutOfRange { first, last });
        }
        if partition.unique_guid.is_zero() || partition.type_guid.is_zero() {
            return Err(EntryFault::NoIdentity);
        }
        if let Some(last) = self.partitions.last()
            && partition.index <= last.index
        {
            return Err(EntryFault::OutOfOrder { other: last.index });
        }
        for earlier in &self.partitions {
            if earlier.unique_guid == partition.unique_guid {
                return Err(EntryFault::SameIdentity { other: earlier.index });
            }
            if earlier.extent.overlaps(partition.extent) {
                return Err(EntryFault::Overlap { other: earlier.index });
            }
        }
        if self.entry_count <= u32::from(partition.index) {
            return Err(EntryFault::NoRoom { entries: self.entry_count });
        }
        self.partitions.push(partition).map_err(|_| EntryFault::NoRoom { entries: self.entry_count })
    }

    /// Bytes of the entry array.
    pub fn array_len(&self) -> usize {
        super::header::array_len(self.entry_count)
    }

    /// Writes the entry array into the first [`Self::array_len`] bytes of `out`, zeros behind it,
    /// and returns its CRC-32.
    pub fn encode(&self, out: &mut [u8; ARRAY_LEN_MAX]) -> u32 {
        out.fill(0);
        let (entries, _) = out.as_chunks_mut::<ENTRY_LEN>();
        for partition in &self.partitions {
            if let Some(entry) = entries.get_mut(usize::from(partition.index)) {
                *entry = partition.encode();
            }
        }
        crc32(&[out.get(..self.array_len()).unwrap_or(out)])
    }
}
