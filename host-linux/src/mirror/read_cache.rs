//! Memory of this node's own for what is read of the backing store again and again (S4-02; I6, I12).
//!
//! Of every block in it, it has what the store has, at any instant, and it knows nothing else: not what is
//! dirty, nor who leads. So whoever may read a block in the store may read it here, for the same reasons
//! (`reader`), whatever becomes of leads, fills, logs and volumes meanwhile.
//!
//! # Why it has what the store has
//!
//! Everything that changes the store does so within a change, which begins by forgetting what it goes
//! over. What is read of the store is put in at the end of a fill, which began before the store was read.
//!
//! ```text
//! a change       ──────────[ forgets ═══ store is written ═══ ]────────────▶ time
//! a fill        [ looks ═══ store is read ═══ ]                              kept, and forgotten
//! a fill           [ looks ═══ store is read ═══ ]                           void
//! a fill                          [ looks ═══ store is read ═══ ]            void
//! a fill                                            [ looks ═══ store ═══ ]  kept
//! ```
//!
//! A fill that a change of one of its blocks overlaps is void, and keeps nothing: the change says so to the
//! fills that it finds, and a fill that finds a change knows by itself. So nothing is changed between the
//! moment at which what is kept was read and that at which it is there; and what changes it later finds it
//! there. That a volume's file is removed is a change of all of its blocks; who has it still open reads what
//! was in it, in a fill that is void.

use super::handle::lock;
use super::view::CacheView;
use crate::volume::catalogue::{Catalogue, bytes};
use bulkhead_core::cache::index::Key;
use bulkhead_core::cache::lists::{Cell, Entry};
use bulkhead_core::cache::residents::{Algorithm, Residents, entries_for};
use bulkhead_core::log::batch::{BlockIndex, VOLUME_BLOCKS_MAX, Volume};
use bulkhead_core::log::{BLOCK_LEN, Block};
use bulkhead_core::volume::CATALOGUE;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Error;
use std::ops::Range;
use std::sync::{Mutex, OnceLock};

/// Longer reads go past it: whoever copies a volume wants it once, and all others would wait meanwhile.
const READ_MAX: usize = 256 * BLOCK_LEN;

/// Blocks that are forgotten at once, one by one: a millisecond, in which nobody reads.
const PIECE: u64 = 1 << 14;
/// The most that a guest trims at once, 4 GiB. What is longer is a whole volume: all that is here is looked
/// at.
const TRIM_MAX: u64 = 1 << 20;

/// The memory, and who is in it; none, until it takes some.
#[derive(Debug, Default)]
pub struct ReadCache(OnceLock<Mutex<Inner>>);

/// What a cell is in memory.
#[derive(Clone, Debug)]
#[repr(C, align(4096))]
struct Page(Block);

#[derive(Debug)]
struct Inner {
    residents: Residents<Vec<Entry>>,
    /// Invariant: one for each cell.
    memory: Vec<Page>,
    /// Whether anything is to stay here.
    is_on: bool,
    /// Volumes of which nothing is to stay here.
    past: BTreeSet<Volume>,
    /// One for each thread that reads the store now, at most.
    fills: BTreeMap<Ticket, Fill>,
    /// One for each thread that writes it now, at most.
    changes: BTreeMap<Ticket, Span>,
    next: Ticket,
}

/// Tells fills and changes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket(u64);

/// Blocks of a volume that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    volume: Volume,
    first: u64,
    blocks: u64,
}

/// Blocks on their way from the store.
#[derive(Clone, Copy, Debug)]
struct Fill {
    span: Span,
    is_void: bool,
}

/// A fill or a change, until this is dropped.
#[derive(Debug)]
#[must_use = "the store is read, or changed, before this is dropped"]
pub struct Underway<'c> {
    inner: &'c Mutex<Inner>,
    ticket: Ticket,
}

/// How a read begins.
enum Begun {
    /// Nothing of this volume stays here.
    Past,
    /// All of it was here.
    All,
    /// The store must be read for these of its blocks.
    Fill(Ticket, Range<usize>),
}

/// There is no such memory; or it was taken before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl ReadCache {
    /// Takes so much memory, in whole blocks, and one part in 64 of it besides; once, before anybody reads
    /// or writes the store. That takes a while: the system makes all of it ready now.
    ///
    /// # Errors
    ///
    /// [`TooLarge`].
    pub fn take(&self, bytes: u64) -> Result<(), TooLarge> {
        let cells = u32::try_from(bytes / 4096).map_err(|_| TooLarge)?;
        let pages = usize::try_from(cells).map_err(|_| TooLarge)?;
        if pages == 0 {
            return Ok(());
        }
        let memory = taken(pages, Page([0; BLOCK_LEN]))?;
        let residents = Residents::new(taken(entries_for(cells), Entry::EMPTY)?, Algorithm::default());
        let inner = Inner {
            residents,
            memory,
            is_on: true,
            past: BTreeSet::new(),
            fills: BTreeMap::new(),
            changes: BTreeMap::new(),
            next: Ticket(0),
        };
        self.0.set(Mutex::new(inner)).map_err(|_| TooLarge)
    }

    /// Reads some blocks: what is not here by `store`, which gets the first block and room for what it is to
    /// read.
    ///
    /// # Errors
    ///
    /// Those of `store`.
    pub fn read(
        &self,
        (volume, first): (Volume, u64),
        bytes: &mut [u8],
        store: impl FnOnce(u64, &mut [u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(inner) = self.0.get().filter(|_| bytes.len() <= READ_MAX) else {
            return store(first, bytes);
        };
        let blocks = u64::try_from(bytes.len() / BLOCK_LEN).unwrap_or(u64::MAX);
        let begun = lock(inner).begin(Span { volume, first, blocks }, bytes);
        let (ticket, missing) = match begun {
            Begun::Past => return store(first, bytes),
            Begun::All => return Ok(()),
            Begun::Fill(ticket, missing) => (ticket, missing),
        };
        let underway = Underway { inner, ticket };
        let from = first.saturating_add(u64::try_from(missing.start).unwrap_or(u64::MAX));
        let part = missing.start.saturating_mul(BLOCK_LEN)..missing.end.saturating_mul(BLOCK_LEN);
        store(from, bytes.get_mut(part).unwrap_or_default())?;
        lock(underway.inner).keep(ticket, bytes);
        Ok(())
    }

    /// Some blocks of the store are to be changed, while the answer is held.
    pub fn change(&self, volume: Volume, first: u64, blocks: u64) -> Option<Underway<'_>> {
        let inner = self.0.get()?;
        let span = Span { volume, first, blocks };
        let underway = Underway { inner, ticket: lock(inner).change(span) };
        // What is still there meanwhile is still in the store, and nothing comes there any more.
        let step = if blocks <= TRIM_MAX { PIECE } else { blocks };
        let mut at = first;
        while at < span.end() {
            let count = step.min(span.end().saturating_sub(at));
            lock(inner).residents.forget_range(volume, BlockIndex(at), count);
            at = at.saturating_add(count);
        }
        Some(underway)
    }

    /// As [`Self::change`], of all blocks of a volume.
    pub fn change_all(&self, volume: Volume) -> Option<Underway<'_>> {
        self.change(volume, 0, VOLUME_BLOCKS_MAX)
    }

    /// Does what the catalogue wants from now on.
    pub fn follow(&self, catalogue: &Catalogue) {
        let Some(inner) = self.0.get() else { return };
        let past = catalogue.list().filter(|record| !record.is_cached).map(|record| record.volume);
        lock(inner).follow(catalogue.group().cache, past.collect());
    }

    /// How it is; the algorithm is the catalogue's.
    pub fn view(&self) -> CacheView {
        let Some(inner) = self.0.get() else { return CacheView::default() };
        let inner = lock(inner);
        let tally = inner.residents.tally();
        CacheView {
            bytes: bytes(u64::try_from(inner.memory.len()).unwrap_or(u64::MAX)),
            used_bytes: bytes(tally.resident.into()),
            hits: tally.hits,
            misses: tally.misses,
            ..CacheView::default()
        }
    }
}

impl Inner {
    /// A read begins. What is here of it is copied; if that is not all, what comes may be kept.
    fn begin(&mut self, span: Span, to: &mut [u8]) -> Begun {
        if !self.keeps(span.volume) {
            return Begun::Past;
        }
        let mut missing: Option<Range<usize>> = None;
        for (number, (block, to)) in (span.first..).zip(to.chunks_exact_mut(BLOCK_LEN)).enumerate() {
            let cell = span.key(block).and_then(|key| self.residents.peek(key));
            match cell.and_then(|cell| self.page(cell)) {
                Some(page) => to.copy_from_slice(&page.0),
                None => {
                    let start = missing.map_or(number, |missing| missing.start);
                    missing = Some(start..number.saturating_add(1));
                }
            }
        }
        let Some(missing) = missing else {
            for key in span.keys() {
                self.residents.look_up(key);
            }
            return Begun::All;
        };
        let is_void = self.changes.values().any(|change| change.meets(&span));
        let ticket = self.ticket();
        self.fills.insert(ticket, Fill { span, is_void });
        Begun::Fill(ticket, missing)
    }

    /// A read ends, with this.
    fn keep(&mut self, ticket: Ticket, content: &[u8]) {
        let Some(Fill { span, is_void }) = self.fills.get(&ticket).copied() else { return };
        let is_kept = !is_void && self.keeps(span.volume);
        for (key, content) in span.keys().zip(content.chunks_exact(BLOCK_LEN)) {
            if self.residents.look_up(key).is_none()
                && is_kept
                && let Some(admitted) = self.residents.admit(key)
                && let Some(page) = self.page_mut(admitted.cell)
            {
                page.0.copy_from_slice(content);
            }
        }
    }

    /// A change begins: from now on nothing of these blocks is kept.
    fn change(&mut self, span: Span) -> Ticket {
        for fill in self.fills.values_mut() {
            fill.is_void |= fill.span.meets(&span);
        }
        let ticket = self.ticket();
        self.changes.insert(ticket, span);
        ticket
    }

    fn follow(&mut self, algorithm: Option<Algorithm>, past: BTreeSet<Volume>) {
        match algorithm {
            Some(algorithm) => self.residents.switch(algorithm),
            None if self.is_on => self.residents.clear(),
            None => {}
        }
        self.is_on = algorithm.is_some();
        for volume in past.difference(&self.past) {
            self.residents.forget_range(*volume, BlockIndex(0), VOLUME_BLOCKS_MAX);
        }
        self.past = past;
    }

    /// Whether what is read of a volume stays here.
    fn keeps(&self, volume: Volume) -> bool {
        self.is_on && volume != CATALOGUE && !self.past.contains(&volume)
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = self.next;
        self.next = Ticket(ticket.0.wrapping_add(1));
        ticket
    }

    fn page(&self, cell: Cell) -> Option<&Page> {
        self.memory.get(usize::try_from(cell.0).ok()?)
    }

    fn page_mut(&mut self, cell: Cell) -> Option<&mut Page> {
        self.memory.get_mut(usize::try_from(cell.0).ok()?)
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let mut inner = lock(self.inner);
        inner.fills.remove(&self.ticket);
        inner.changes.remove(&self.ticket);
    }
}

impl Span {
    fn key(&self, block: u64) -> Option<Key> {
        Key::new(self.volume, BlockIndex(block))
    }

    fn keys(self) -> impl Iterator<Item = Key> {
        (self.first..self.end()).map_while(move |block| self.key(block))
    }

    fn meets(&self, other: &Self) -> bool {
        self.volume == other.volume && self.first < other.end() && other.first < self.end()
    }

    const fn end(&self) -> u64 {
        self.first.saturating_add(self.blocks)
    }
}

/// So many of these, in memory that is there now.
fn taken<T: Clone>(count: usize, one: T) -> Result<Vec<T>, TooLarge> {
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| TooLarge)?;
    all.resize(count, one);
    Ok(all)
}

#[cfg(test)]
#[path = "read_cache_tests.rs"]
mod tests;
