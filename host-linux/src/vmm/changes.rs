//! Which blocks of a guest's disk were written since somebody began to look: a bit for each 64 KiB, so that a
//! copy of a disk that is written meanwhile has what is there at last (X15).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a block.
pub const GRAIN: u64 = 64 << 10;
/// Bytes of what is copied at once.
const RUN_MAX: u64 = 1 << 20;

/// Blocks of a disk: a bit each. 2 MiB for each TiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    size: u64,
    bits: Vec<u64>,
}

impl Blocks {
    /// None of a disk of so many bytes.
    #[must_use]
    pub fn none(size: u64) -> Self {
        let words = usize::try_from(size.div_ceil(GRAIN).div_ceil(64)).unwrap_or(usize::MAX);
        Self { size, bits: vec![0; words] }
    }

    /// Those that these bytes are in, too.
    pub fn add(&mut self, offset: u64, length: u64) {
        let end = offset.saturating_add(length).min(self.size);
        for block in offset / GRAIN..end.div_ceil(GRAIN) {
            let word = usize::try_from(block / 64).ok().and_then(|word| self.bits.get_mut(word));
            let _ = word.map(|word| *word |= 1 << (block % 64));
        }
    }

    /// These, too.
    pub fn join(&mut self, other: &Self) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(word, other)| *word |= other);
    }

    /// How many bytes they have; the last one of a disk counts as a whole one.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let blocks: u64 = self.bits.iter().map(|word| u64::from(word.count_ones())).sum();
        blocks.saturating_mul(GRAIN)
    }

    /// Their bytes, in pieces of 1 MiB at most: the first, and how many.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        let is_set = |block: u64| {
            let word = usize::try_from(block / 64).ok().and_then(|word| self.bits.get(word));
            word.is_some_and(|word| word >> (block % 64) & 1 != 0)
        };
        let (end, mut at) = (self.size.div_ceil(GRAIN), 0_u64);
        std::iter::from_fn(move || {
            let first = (at..end).find(|block| is_set(*block))?;
            let most = first.saturating_add(RUN_MAX / GRAIN).min(end);
            at = (first..most).find(|block| !is_set(*block)).unwrap_or(most);
            let (from, to) = (first.saturating_mul(GRAIN), at.saturating_mul(GRAIN).min(self.size));
            Some((from, to.saturating_sub(from)))
        })
    }
}

/// What is written to a disk, for whoever looks; nothing is kept while nobody does.
#[derive(Debug, Default)]
pub struct Changes(Mutex<Option<Blocks>>);

impl Changes {
    fn lock(&self) -> MutexGuard<'_, Option<Blocks>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These bytes were written, or may have been. Said when a server has answered, and before the guest
    /// hears of it: who reads them after that has what is there, and who has read them before is told.
    pub fn mark(&self, offset: u64, length: u64) {
        let _ = self.lock().as_mut().map(|blocks| blocks.add(offset, length));
    }
}

/// Somebody looks at what is written to a disk of so many bytes, until this is dropped.
#[derive(Debug)]
pub struct Looking {
    changes: Arc<Changes>,
    size: u64,
}

impl Looking {
    /// Begins.
    #[must_use]
    pub fn begin(changes: &Arc<Changes>, size: u64) -> Self {
        *changes.lock() = Some(Blocks::none(size));
        Self { changes: Arc::clone(changes), size }
    }

    /// What was written since this was asked last.
    #[must_use]
    pub fn take(&self) -> Blocks {
        self.changes.lock().replace(Blocks::none(self.size)).unwrap_or_default()
    }

    /// How many bytes that would be.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.changes.lock().as_ref().map_or(0, Blocks::bytes)
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        *self.changes.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_kept_while_somebody_looks() {
        let changes = Arc::new(Changes::default());
        changes.mark(0, 512);
        let looking = Looking::begin(&changes, 10 * GRAIN + 512);
        assert_eq!(looking.take().runs().next(), None, "written before");
        changes.mark(GRAIN - 1, 2);
        changes.mark(10 * GRAIN, 512);
        assert_eq!(looking.bytes(), 3 * GRAIN);
        let taken = looking.take();
        assert_eq!(taken.runs().collect::<Vec<_>>(), [(0, 2 * GRAIN), (10 * GRAIN, 512)]);
        assert_eq!((looking.bytes(), looking.take().bytes()), (0, 0), "it is told once");
        drop(looking);
        changes.mark(0, 512);
        assert_eq!(Looking::begin(&changes, GRAIN).bytes(), 0);
    }

    /// I11: what a guest asks for is within its disk, and if it were not it would cost nothing.
    #[test]
    fn blocks_are_those_of_the_disk() {
        let mut blocks = Blocks::none(100 * GRAIN);
        blocks.add(99 * GRAIN + 1, u64::MAX);
        blocks.add(u64::MAX, 1);
        blocks.add(5 * GRAIN, 0);
        assert_eq!(blocks.runs().collect::<Vec<_>>(), [(99 * GRAIN, GRAIN)]);
        let mut all = Blocks::none(100 * GRAIN);
        all.add(0, 100 * GRAIN);
        all.join(&blocks);
        let runs: Vec<_> = all.runs().collect();
        assert!(runs.len() == 7 && runs.iter().all(|(_, length)| *length <= RUN_MAX), "{runs:?}");
        assert_eq!(runs.iter().map(|(_, length)| length).sum::<u64>(), 100 * GRAIN);
        assert_eq!(Blocks::none(0).runs().next(), None);
    }
}
