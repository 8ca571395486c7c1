//! A guest's memory as records: what it never touched costs nothing, and what is zero is left out (S3-06).

use super::super::memory::Memory;
use super::format::{Kind, PIECE_MAX, Unreadable, Writer};
use super::{Progress, Watch};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Error, Result, Write};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

const PAGE: usize = 4096;
const ZEROES: [u8; PAGE] = [0; PAGE];

/// Writes all of it. The guest stands still.
///
/// # Errors
///
/// Those of the output.
pub fn write<W: Write>(memory: &Memory, out: &mut Writer<W>, progress: &mut Watch<'_>) -> Result<()> {
    let total = memory.iter().map(GuestMemoryRegion::len).sum();
    let mut before = 0_u64;
    let mut piece = vec![0; PIECE_MAX];
    for region in memory.iter() {
        let (start, length) = (region.start_addr().0, region.len());
        let file = region.file_offset().ok_or_else(|| Error::other("memory without a file"))?;
        let mut at = 0;
        while let Some((data, end)) = data(file.file(), file.start(), at, length)? {
            at = data;
            while at < end {
                let count = usize::try_from(end.saturating_sub(at)).unwrap_or(PIECE_MAX).min(PIECE_MAX);
                let piece = piece.get_mut(..count).unwrap_or_default();
                let address = start.saturating_add(at);
                memory.read_slice(piece, GuestAddress(address)).map_err(Error::other)?;
                for (skip, run) in runs(piece) {
                    let address = address.saturating_add(u64::try_from(skip).unwrap_or(u64::MAX));
                    out.put(Kind::Memory, &[&address.to_le_bytes(), run])?;
                }
                at = at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                progress(Progress { done: before.saturating_add(at), total })?;
            }
        }
        before = before.saturating_add(length);
        progress(Progress { done: before, total })?;
    }
    Ok(())
}

/// Puts what a record has where it was.
///
/// # Errors
///
/// There is no memory.
pub fn put(memory: &Memory, content: &[u8]) -> std::result::Result<(), Unreadable> {
    let nonsense = || Unreadable::Nonsense("it has memory that its guest has not".into());
    let (at, bytes) = content.split_first_chunk::<8>().ok_or_else(nonsense)?;
    memory.write_slice(bytes, GuestAddress(u64::from_le_bytes(*at))).map_err(|_| nonsense())
}

/// The next part of a file's range from `at` on in which there may be anything: its first byte, and the first
/// one behind it. Places are within the range.
fn data(file: &File, start: u64, at: u64, length: u64) -> Result<Option<(u64, u64)>> {
    let from = match seek(file, SeekFrom::Data(start.saturating_add(at))) {
        Ok(from) => from.saturating_sub(start),
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if length <= from {
        return Ok(None);
    }
    let to = seek(file, SeekFrom::Hole(start.saturating_add(from)))?.saturating_sub(start);
    Ok(Some((from, to.min(length))))
}

/// The runs of pages that are not zero, and where they begin.
fn runs(piece: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let is_zero = |page: &[u8]| ZEROES.starts_with(page);
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = piece.get(at..)?;
        let skip: usize = rest.chunks(PAGE).take_while(|page| is_zero(page)).map(<[u8]>::len).sum();
        let run = rest.get(skip..)?;
        let length: usize = run.chunks(PAGE).take_while(|page| !is_zero(page)).map(<[u8]>::len).sum();
        let begin = at.saturating_add(skip);
        at = begin.saturating_add(length);
        run.get(..length).filter(|run| !run.is_empty()).map(|run| (begin, run))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::memory;
    use super::super::format::Reader;
    use super::*;

    /// What is written is there again, on both sides of the hole for devices, and zeroes cost nothing.
    #[test]
    fn memory_is_written_and_read() {
        let length = 4 << 30;
        let memory = memory::new(length).unwrap();
        let places = [0_u64, 4096 + 5, (5 << 20) - 1, (5 << 20) + 4096, (3 << 30) + 7, (4 << 30) + 9];
        for at in places {
            memory.write_slice(b"content", GuestAddress(at)).unwrap();
        }
        // Touched, and zero.
        memory.write_slice(&[0; 64 << 10], GuestAddress(8 << 20)).unwrap();
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(&mut bytes).unwrap();
        let mut seen = Vec::new();
        write(&memory, &mut writer, &mut |progress| {
            seen.push(progress);
            Ok(())
        })
        .unwrap();
        writer.end().unwrap();
        assert!(bytes.len() < 7 * 4096 + 1000, "{}", bytes.len());
        assert_eq!(seen.last(), Some(&Progress { done: length, total: length }));
        assert!(seen.is_sorted_by_key(|progress| progress.done));

        let copy = memory::new(length).unwrap();
        let mut reader = Reader::begin(&bytes[..]).unwrap();
        while let Some((kind, content)) = reader.record().unwrap() {
            assert_eq!(kind, Kind::Memory);
            put(&copy, content).unwrap();
        }
        for at in places {
            let mut read = [0; 7];
            copy.read_slice(&mut read, GuestAddress(at)).unwrap();
            assert_eq!(&read, b"content", "{at:#x}");
        }
    }

    #[test]
    fn a_run_is_of_pages_that_are_not_zero() {
        let mut piece = vec![0; 7 * PAGE - 10];
        assert_eq!(runs(&piece).count(), 0);
        for at in [PAGE, 3 * PAGE - 1, 7 * PAGE - 11] {
            piece[at] = 1;
        }
        let found: Vec<_> = runs(&piece).map(|(at, run)| (at, run.len())).collect();
        assert_eq!(found, [(PAGE, 2 * PAGE), (6 * PAGE, PAGE - 10)]);
        assert_eq!(runs(&[]).count(), 0);
    }

    /// I11: what lies nowhere is not put anywhere.
    #[test]
    fn memory_that_there_is_not_is_refused() {
        let memory = memory::new(4 << 20).unwrap();
        let content = |at: u64| [&at.to_le_bytes()[..], &[1; 16]].concat();
        put(&memory, &content((4 << 20) - 16)).unwrap();
        for wrong in [content((4 << 20) - 15), content(u64::MAX), content(0xd000_0000), vec![1; 7], vec![]] {
            assert!(put(&memory, &wrong).is_err(), "{wrong:?}");
        }
    }
}
