//! The bytes of a table of contents: one block, in two copies of which the newer one counts (V41, I11).
//!
//! Blocks 0 and 1 of an own volume each have a table, written in turns. All integers are little-endian, and
//! what is not named is zero.
//!
//! | at | len | table | value |
//! |---:|----:|-------|-------|
//! | 0 | 8 | magic | "BHOWNVOL" |
//! | 8 | 4 | version | 2 if it has a part of kind 5; else 1 |
//! | 12 | 4 | entries | how many there are, 31 at most |
//! | 16 | 8 | generation | one more than in the table before; not 0 |
//! | 32 | 128 each | entry | |
//! | 4092 | 4 | crc | CRC-32C of bytes 0..4092; in each version at this place |
//!
//! | at | len | entry | value |
//! |---:|----:|-------|-------|
//! | 0 | 4 | kind | 1 description, 2 kernel, 3 initrd, 4 snapshot; 5 where it moves (`moving.rs`) |
//! | 4 | 4 | name length | of a snapshot 1 to 64; else 0 |
//! | 8 | 8 | first | its first block, of 4096 bytes |
//! | 16 | 8 | length | its bytes; the rest of its last block is zero |
//! | 24 | 8 | time | seconds since 1970, when it was written |
//! | 32 | 32 | digest | BLAKE3 of its bytes |
//! | 64 | 64 | name | |

use super::table::{BLOCK, ENTRIES_MAX, Entry, Nonsense, Table, What};
use bulkhead_core::volume::name::Name;

/// The newest version that this program writes and reads.
pub const VERSION: u32 = 2;
/// The version of a table without anything that a release before does not know.
const PLAIN: u32 = 1;
const MAGIC: [u8; 8] = *b"BHOWNVOL";
const HEADER: usize = 32;
const ENTRY: usize = 128;
const CRC_AT: usize = BLOCK - 4;

const _: () = assert!(HEADER + ENTRIES_MAX * ENTRY <= CRC_AT, "a table is one block");

/// Why there is no table in a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// Nothing was ever written there.
    #[error("nothing was written there")]
    Empty,
    /// It is something else's.
    #[error("it is no table of a guest's own volume")]
    NotOurs,
    /// It was not written like this.
    #[error("its checksum is wrong")]
    Damaged,
    /// Of another version of this program.
    #[error("its format is version {0}; this program knows version {VERSION}")]
    Version(u32),
    /// Fields that no program of ours writes.
    #[error("its {0} makes no sense")]
    Field(&'static str),
    /// Parts that cannot be.
    #[error("{0}")]
    Nonsense(#[from] Nonsense),
}

/// The block of a table.
#[must_use]
pub fn encode(table: &Table) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK);
    block.extend(MAGIC);
    let version = if table.find(&What::Move).is_some() { VERSION } else { PLAIN };
    block.extend(version.to_le_bytes());
    block.extend(u32::try_from(table.entries().len()).unwrap_or(u32::MAX).to_le_bytes());
    block.extend(table.generation.to_le_bytes());
    block.resize(HEADER, 0);
    for Entry { what, first, length, digest, at } in table.entries() {
        let end = block.len().saturating_add(ENTRY);
        let (kind, name) = match what {
            What::Description => (1_u32, ""),
            What::Kernel => (2, ""),
            What::Initrd => (3, ""),
            What::Snapshot(name) => (4, name.as_str()),
            What::Move => (5, ""),
        };
        block.extend(kind.to_le_bytes());
        block.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
        for number in [first, length, at] {
            block.extend(number.to_le_bytes());
        }
        block.extend(digest);
        block.extend(name.as_bytes());
        block.resize(end, 0);
    }
    block.resize(CRC_AT, 0);
    let crc = crc32c::crc32c(&block);
    block.extend(crc.to_le_bytes());
    block
}

/// The table in this block, of a volume of so many.
///
/// # Errors
///
/// There is none: why.
pub fn parse(block: &[u8; BLOCK], blocks: u64) -> Result<Table, Unsound> {
    if block.iter().all(|byte| *byte == 0) {
        return Err(Unsound::Empty);
    }
    let mut fields = Fields(block);
    if fields.bytes::<8>() != MAGIC {
        return Err(Unsound::NotOurs);
    }
    let (content, crc) = block.split_at(CRC_AT);
    if crc.first_chunk().map(|crc| u32::from_le_bytes(*crc)) != Some(crc32c::crc32c(content)) {
        return Err(Unsound::Damaged);
    }
    let version = fields.u32();
    if ![PLAIN, VERSION].contains(&version) {
        return Err(Unsound::Version(version));
    }
    let count = fields.u32();
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if ENTRIES_MAX < count {
        return Err(Nonsense::Entries(count).into());
    }
    let generation = fields.u64();
    if generation == 0 {
        return Err(Unsound::Field("generation"));
    }
    let reserved = fields.u64();
    let entries = (0..count).map(|_| entry(&mut fields, version)).collect::<Result<Vec<_>, _>>()?;
    let rest = fields.0.len().checked_sub(4).and_then(|rest| fields.0.get(..rest)).unwrap_or_default();
    // What has one form is read in one.
    if (version == VERSION) != entries.iter().any(|entry| entry.what == What::Move) {
        return Err(Unsound::Field("version"));
    }
    if reserved != 0 || rest.iter().any(|byte| *byte != 0) {
        return Err(Unsound::Field("reserved part"));
    }
    Ok(Table::new(generation, entries, blocks)?)
}

fn entry(fields: &mut Fields<'_>, version: u32) -> Result<Entry, Unsound> {
    let (kind, length) = (fields.u32(), usize::try_from(fields.u32()).unwrap_or(usize::MAX));
    let (first, bytes, at) = (fields.u64(), fields.u64(), fields.u64());
    let (digest, name) = (fields.bytes::<32>(), fields.bytes::<64>());
    let nonsense = || Unsound::Field("name of a part");
    let (name, rest) = name.split_at_checked(length).ok_or_else(nonsense)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(nonsense());
    }
    let what = match (kind, name) {
        (1, []) => What::Description,
        (2, []) => What::Kernel,
        (3, []) => What::Initrd,
        (4, name) => {
            let name = str::from_utf8(name).ok().and_then(|name| Name::new(name).ok());
            What::Snapshot(name.ok_or_else(nonsense)?)
        }
        (5, []) if version == VERSION => What::Move,
        (1..=3, _) => return Err(nonsense()),
        (0 | 5.., _) => return Err(Unsound::Field("kind of a part")),
    };
    Ok(Entry { what, first, length: bytes, digest, at })
}

/// Which of two copies counts, and its table.
///
/// # Errors
///
/// None does: why, of the one that says most.
pub fn newer(first: Result<Table, Unsound>, second: Result<Table, Unsound>) -> Result<(u64, Table), Unsound> {
    match (first, second) {
        (Ok(first), Ok(second)) if first.generation < second.generation => Ok((1, second)),
        (Ok(first), Ok(second)) if first.generation == second.generation && first != second => {
            Err(Unsound::Field("generation, which is in both copies,"))
        }
        (Ok(first), Ok(_)) => Ok((0, first)),
        // A cut leaves none of these: whoever passed them over would show what was there before.
        (Err(why @ (Unsound::Version(_) | Unsound::Field(_) | Unsound::Nonsense(_))), _)
        | (_, Err(why @ (Unsound::Version(_) | Unsound::Field(_) | Unsound::Nonsense(_)))) => Err(why),
        (Ok(table), Err(_)) => Ok((0, table)),
        (Err(_), Ok(table)) => Ok((1, table)),
        (Err(Unsound::NotOurs), _) | (_, Err(Unsound::NotOurs)) => Err(Unsound::NotOurs),
        // The first table is written twice, one after the other: one copy alone was never finished.
        (Err(Unsound::Empty), Err(_)) | (Err(_), Err(Unsound::Empty)) => Err(Unsound::Empty),
        (Err(Unsound::Damaged), Err(Unsound::Damaged)) => Err(Unsound::Damaged),
    }
}

/// What is not read yet. What is not there is zero: lengths are looked at before.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (bytes, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
