//! A small reader of the primary GPT, for tests: no checksums, no backup, both block sizes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Entries read at most; tables have 128.
const ENTRIES_MAX: u32 = 1024;

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Its type, as in the table (mixed-endian).
    pub kind: [u8; 16],
    /// Where it begins, in bytes.
    pub start: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

impl Partition {
    /// Its bytes on the disk.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.start..self.start + self.length
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<Partition>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    for block in [512, 4096] {
        let mut header = [0; 92];
        if file.read_exact_at(&mut header, block).is_ok() && header.starts_with(b"EFI PART") {
            return entries(&file, &header, block)
                .with_context(|| format!("reading the GPT of {}", path.display()));
        }
    }
    bail!("{} has no primary GPT", path.display())
}

fn entries(file: &File, header: &[u8], block: u64) -> Result<Vec<Partition>> {
    let (first, count, size) = (quad(header, 72)?, word(header, 80)?, word(header, 84)?);
    if !(128..=4096).contains(&size) || count > ENTRIES_MAX {
        bail!("it claims {count} entries of {size} bytes");
    }
    let mut partitions = Vec::new();
    for index in 0..count {
        let offset =
            first.checked_mul(block).and_then(|at| at.checked_add(u64::from(index) * u64::from(size)));
        let mut entry = [0; 128];
        file.read_exact_at(&mut entry, offset.context("its entries are past the end of all disks")?)?;
        let kind: [u8; 16] = piece(&entry, 0)?;
        if kind == [0; 16] {
            continue;
        }
        let (begin, end) = (quad(&entry, 32)?, quad(&entry, 40)?);
        let blocks = end.checked_sub(begin).and_then(|blocks| blocks.checked_add(1));
        let bytes =
            |blocks: u64| blocks.checked_mul(block).context("a partition is past the end of all disks");
        let units = entry.get(56..128).unwrap_or_default().chunks_exact(2);
        let units =
            units.map(|unit| unit.iter().rev().fold(0_u16, |unit, byte| (unit << 8) | u16::from(*byte)));
        let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        partitions.push(Partition {
            number: index + 1,
            name: String::from_utf16_lossy(&units),
            kind,
            start: bytes(begin)?,
            length: bytes(blocks.context("a partition ends before it begins")?)?,
        });
    }
    Ok(partitions)
}

fn piece<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let piece = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    piece.copied().context("it is cut short")
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    piece(bytes, at).map(u32::from_le_bytes)
}

fn quad(bytes: &[u8], at: usize) -> Result<u64> {
    piece(bytes, at).map(u64::from_le_bytes)
}
