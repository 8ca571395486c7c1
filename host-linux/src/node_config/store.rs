//! Two copies of the node configuration at the start of the infra partition, at 0 and 64 KiB.
//! The first mebibyte of the partition belongs to them.
//!
//! A change writes the older copy and flushes: at every cut the other copy is whole. The older
//! copy stays as the one before: when the newer is lost, the node comes up as it was (I9).

use super::record::{Damage, Head, TEXT_MAX, encode};
use crate::disk::open::Disk;
use crate::disk::state::read_sector;
use crate::failure::Failure;
use bulkhead_core::gpt::layout::Layout;
use bulkhead_core::plan::{DiskOffset, SECTOR};

const STRIDE: u64 = 64 << 10;

/// A copy that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Counts the writes.
    pub seq: u64,
    /// The text.
    pub text: String,
}

/// Where the copies are.
pub fn places(layout: &Layout) -> [DiskOffset; 2] {
    let first = DiskOffset(layout.infra.extent.first().byte_offset(layout.block_size));
    [first, first.plus(STRIDE)]
}

/// Reads both copies.
pub fn read(disk: &Disk, layout: &Layout) -> [Result<Stored, Damage>; 2] {
    places(layout).map(|at| {
        let head = Head::parse(&read_sector(disk, at).ok_or(Damage::Unreadable)?)?;
        let mut text = vec![0; head.len];
        let text_at = at.plus(u64::try_from(SECTOR).unwrap_or(512));
        disk.read(text_at, &mut text).map_err(|_| Damage::Unreadable)?;
        Ok(Stored { seq: head.seq, text: head.text(&text)? })
    })
}

/// The copy that counts: the good one with the higher sequence number.
pub fn newest(copies: [Result<Stored, Damage>; 2]) -> Option<Stored> {
    copies.into_iter().flatten().max_by_key(|stored| stored.seq)
}

/// Writes `text` as the newest copy, and reads it back from the disk.
///
/// # Errors
///
/// The text is too long, or the disk did not take it; the configuration is then as it was.
pub fn write(disk: &Disk, layout: &Layout, text: &str) -> Result<u64, Failure> {
    if TEXT_MAX < text.len() {
        let what = format!("the node configuration has {} bytes, at most {TEXT_MAX} are allowed", text.len());
        return Err(Failure::failed(what));
    }
    let copies = read(disk, layout);
    let seqs = copies.each_ref().map(|copy| copy.as_ref().map_or(0, |stored| stored.seq));
    let [first_place, second_place] = places(layout);
    let [first_seq, second_seq] = seqs;
    let at = if second_seq < first_seq { second_place } else { first_place };
    let seq = first_seq.max(second_seq).saturating_add(1);
    let block = usize::try_from(layout.block_size.bytes()).unwrap_or(SECTOR);
    let mut bytes = encode(seq, text);
    bytes.resize(bytes.len().next_multiple_of(block), 0);
    let mut back = vec![0; bytes.len()];
    let done = disk.write(at, &bytes).and_then(|()| disk.flush());
    done.and_then(|()| disk.uncached().read(at, &mut back)).map_err(|error| {
        Failure::io("write the node configuration to", &disk.path, &error)
            .left("The configuration before this change is still there.")
    })?;
    if back != bytes {
        let what = format!("{} did not keep the node configuration", disk.path.display());
        return Err(Failure::failed(what)
            .left("The configuration before this change is still there.")
            .next("the disk returns other data than was written: replace it."));
    }
    Ok(seq)
}
