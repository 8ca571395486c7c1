//! The pages of a guest that were written while it was copied, as records: what is zero by now is said, too,
//! for the copy may have what was there before (X15).

use super::super::memory::Memory;
use super::format::{Kind, PIECE_MAX, Writer};
use super::{Progress, Watch};
use std::io::{Error, Result, Write};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

const PAGE: u64 = 4096;
/// Pages of one record at most.
const RUN_MAX: u64 = PIECE_MAX as u64 / PAGE;

/// Pages: a bit each, for each part of a guest's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written(pub Vec<Vec<u64>>);

impl Written {
    /// The first one of the guest: to copy it once more changes nothing.
    #[must_use]
    pub fn one() -> Self {
        Self(vec![vec![1]])
    }

    /// How many bytes they have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let pages: u64 = self.0.iter().flatten().map(|word| u64::from(word.count_ones())).sum();
        pages.saturating_mul(PAGE)
    }

    /// These, too.
    pub fn add(&mut self, other: &Self) {
        let words = |written: &mut [u64], other: &[u64]| {
            written.iter_mut().zip(other).for_each(|(word, other)| *word |= other);
        };
        self.0.iter_mut().zip(&other.0).for_each(|(part, other)| words(part, other));
    }

    /// Writes them as they are now.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn write<W: Write>(
        &self,
        memory: &Memory,
        out: &mut Writer<W>,
        progress: &mut Watch<'_>,
    ) -> Result<()> {
        let (total, mut done) = (self.bytes(), 0_u64);
        let mut piece = vec![0; PIECE_MAX];
        for (region, pages) in memory.iter().zip(&self.0) {
            for (first, count) in runs(pages) {
                let at = first.saturating_mul(PAGE);
                // The last page of a part is whole, as its memory is.
                let length = count.saturating_mul(PAGE).min(region.len().saturating_sub(at));
                let piece = usize::try_from(length).ok().and_then(|length| piece.get_mut(..length));
                let piece = piece.unwrap_or_default();
                let address = region.start_addr().0.saturating_add(at);
                memory.read_slice(piece, GuestAddress(address)).map_err(Error::other)?;
                out.put(Kind::Memory, &[&address.to_le_bytes(), piece])?;
                done = done.saturating_add(length);
                progress(Progress { done, total })?;
            }
        }
        Ok(())
    }
}

/// Pages beside each other, [`RUN_MAX`] at most: the first, and how many.
fn runs(pages: &[u64]) -> impl Iterator<Item = (u64, u64)> {
    let is_set = |page: u64| {
        let word = usize::try_from(page / 64).ok().and_then(|word| pages.get(word));
        word.is_some_and(|word| word >> (page % 64) & 1 != 0)
    };
    let end = u64::try_from(pages.len()).unwrap_or(u64::MAX).saturating_mul(64);
    let mut at = 0_u64;
    std::iter::from_fn(move || {
        let first = (at..end).find(|page| is_set(*page))?;
        let most = first.saturating_add(RUN_MAX).min(end);
        let behind = (first..most).find(|page| !is_set(*page)).unwrap_or(most);
        at = behind;
        Some((first, behind.saturating_sub(first)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::memory;
    use super::super::contents;
    use super::super::format::Reader;
    use super::*;

    fn pages(set: &[u64], words: usize) -> Vec<u64> {
        let mut pages = vec![0_u64; words];
        set.iter().for_each(|page| pages[usize::try_from(page / 64).unwrap()] |= 1 << (page % 64));
        pages
    }

    #[test]
    fn runs_are_of_pages_beside_each_other() {
        let found = |set: &[u64], words| runs(&pages(set, words)).collect::<Vec<_>>();
        assert_eq!(found(&[], 3), []);
        assert_eq!(found(&[0, 1, 63, 64, 65, 127], 2), [(0, 2), (63, 3), (127, 1)]);
        let all: Vec<u64> = (0..640).collect();
        assert_eq!(found(&all, 10), [(0, 256), (256, 256), (512, 128)]);
    }

    /// What was written is in the copy, on both sides of the hole for devices; also what is zero by now.
    #[test]
    fn what_was_written_is_written_again() {
        let length = 4 << 30;
        let (memory, copy) = (memory::new(length).unwrap(), memory::new(length).unwrap());
        let low = memory.iter().next().unwrap().len();
        let places = [5 * PAGE, 6 * PAGE, low - PAGE, 4 << 30];
        for at in places {
            memory.write_slice(b"new", GuestAddress(at)).unwrap();
        }
        copy.write_slice(b"old", GuestAddress(9 * PAGE)).unwrap();
        let words = |part: &crate::vmm::memory::MemoryPart| usize::try_from(part.len() / PAGE / 64).unwrap();
        let words: Vec<_> = memory.iter().map(words).collect();
        let written = Written(vec![pages(&[5, 6, 9, low / PAGE - 1], words[0]), pages(&[0], words[1])]);
        let mut both = Written(vec![pages(&[5], words[0]), pages(&[0], words[1])]);
        both.add(&written);
        assert_eq!((both, written.bytes()), (written.clone(), 5 * PAGE));
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(&mut bytes).unwrap();
        let mut seen = Vec::new();
        written
            .write(&memory, &mut writer, &mut |progress| {
                seen.push(progress.done);
                Ok(())
            })
            .unwrap();
        writer.end().unwrap();
        assert_eq!(seen, [2 * PAGE, 3 * PAGE, 4 * PAGE, 5 * PAGE]);
        let mut reader = Reader::begin(&bytes[..]).unwrap();
        while let Some((_, content)) = reader.record().unwrap() {
            contents::put(&copy, content).unwrap();
        }
        let there = |at| copy.read_obj::<[u8; 3]>(GuestAddress(at)).unwrap();
        assert!(places.iter().all(|at| there(*at) == *b"new"));
        assert_eq!(there(9 * PAGE), [0; 3]);
    }
}
