//! The texts at the start of the infra partition: two copies of each, 64 KiB apart. The first
//! mebibyte of the partition belongs to them; [`Kind::places`] says which is where.
//!
//! A change writes the older copy and flushes: at every cut the other copy is whole. The older
//! copy stays as the one before: when the newer is lost, the node comes up as it was (I9).

use super::record::{Damage, Head, Kind, TEXT_MAX, encode};
use crate::disk::open::Disk;
use crate::disk::state::read_sector;
use crate::failure::Failure;
use bulkhead_core::gpt::layout::Layout;
use bulkhead_core::plan::{DiskOffset, SECTOR};

/// A copy that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Counts the writes.
    pub seq: u64,
    /// The text.
    pub text: String,
}

/// Where the copies are.
fn places(layout: &Layout, kind: Kind) -> [DiskOffset; 2] {
    let first = DiskOffset(layout.infra.extent.first().byte_offset(layout.block_size));
    kind.places().map(|at| first.plus(at))
}

/// Reads both copies.
pub fn read(disk: &Disk, layout: &Layout, kind: Kind) -> [Result<Stored, Damage>; 2] {
    places(layout, kind).map(|at| {
        let head = Head::parse(kind, &read_sector(disk, at).ok_or(Damage::Unreadable)?)?;
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

/// The text, or `None` when the disk never had one.
///
/// # Errors
///
/// There was one, and no copy can be used.
pub fn text(disk: &Disk, layout: &Layout, kind: Kind) -> Result<Option<String>, Failure> {
    let copies = read(disk, layout, kind);
    let never = copies.iter().all(|copy| matches!(copy, Err(Damage::Magic)));
    match newest(copies) {
        Some(stored) => Ok(Some(stored.text)),
        None if never => Ok(None),
        None => Err(Failure::failed(format!("both copies of {kind} are damaged"))),
    }
}

/// Writes `text` as the newest copy, and reads it back from the disk.
///
/// # Errors
///
/// The text is too long, or the disk did not take it; what was there is then as it was.
pub fn write(disk: &Disk, layout: &Layout, kind: Kind, text: &str) -> Result<u64, Failure> {
    if TEXT_MAX < text.len() {
        let what = format!("{kind} has {} bytes, at most {TEXT_MAX} are allowed", text.len());
        return Err(Failure::failed(what));
    }
    let copies = read(disk, layout, kind);
    let seqs = copies.each_ref().map(|copy| copy.as_ref().map_or(0, |stored| stored.seq));
    let [first_place, second_place] = places(layout, kind);
    let [first_seq, second_seq] = seqs;
    let at = if second_seq < first_seq { second_place } else { first_place };
    let seq = first_seq.max(second_seq).saturating_add(1);
    let block = usize::try_from(layout.block_size.bytes()).unwrap_or(SECTOR);
    let mut bytes = encode(kind, seq, text);
    bytes.resize(bytes.len().next_multiple_of(block), 0);
    let mut back = vec![0; bytes.len()];
    let done = disk.write(at, &bytes).and_then(|()| disk.flush());
    done.and_then(|()| disk.uncached().read(at, &mut back)).map_err(|error| {
        Failure::io(&format!("write {kind} to"), &disk.path, &error)
            .left("What was there before this change is still there.")
    })?;
    if back != bytes {
        let what = format!("{} did not keep {kind}", disk.path.display());
        return Err(Failure::failed(what)
            .left("What was there before this change is still there.")
            .next("the disk returns other data than was written: replace it."));
    }
    Ok(seq)
}
