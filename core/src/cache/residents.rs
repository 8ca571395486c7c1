//! Which blocks of the backing store stay in memory, by an algorithm that an operator chooses (S4-02).
//!
//! A read asks with [`Residents::look_up`] where a block is; of one that is nowhere it fetches the content,
//! and [`Residents::admit`] says in which [`Cell`] it is to lie, and which other block had to leave that one.
//! The caller has the content, and knows until when it counts: what is written over it must
//! [`Residents::forget`].
//!
//! Every operation takes the same few steps however many blocks there are; but the hand of the clock, which
//! goes by one block for each time that one was marked, and what forgets a range or everything.
//!
//! Memory: two entries of 32 bytes for each block in memory, one part in 64 of what it has. The second one is
//! for a ghost, the name of a block that had to leave: ARC learns from those, and the others have none, but
//! the algorithm can be another one at any time.

use super::index::{Key, Keys};
use super::lists::{At, Cell, Entry, Holds, List, Lists, Part};
use crate::log::batch::{BlockIndex, Volume};

/// Who leaves when there is no room for another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Whoever was not read for the longest time.
    Lru,
    /// As [`Self::Lru`], nearly: the oldest one that was not read since the hand went by it the last time
    /// (Corbató 1968). A read moves nothing; so what was read most recently is not told apart.
    Clock,
    /// What was read once and what was read again are kept apart, and how much room each has follows from
    /// what was missed (Megiddo and Modha, FAST 2003): who reads everything once drives out what was read
    /// once, and not what is read again and again.
    #[default]
    Arc,
}

/// Where the content of another block is to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// There; what was in it is void.
    pub cell: Cell,
    /// The block that was there, and is not in memory any more.
    pub evicted: Option<Key>,
}

/// How well it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reads of a block that was in memory.
    pub hits: u64,
    /// Reads of one that was not.
    pub misses: u64,
    /// Blocks that are in memory now.
    pub resident: u32,
}

/// Which blocks are in memory, in entries of the caller's: a slice, or a vector.
#[derive(Debug)]
pub struct Residents<E> {
    /// Invariants: every cell is a block's or vacant. Blocks and ghosts that were read once are no more than
    /// there are cells; all of them no more than twice as many.
    pub(super) lists: Lists<E>,
    pub(super) algorithm: Algorithm,
    /// Blocks that it has room for.
    pub(super) cells: u32,
    /// Of ARC: about so many of the blocks in memory are to be such as were read once.
    pub(super) target: u32,
    hits: u64,
    misses: u64,
}

/// How many entries are needed to have so many blocks in memory.
pub const fn entries_for(cells: u32) -> usize {
    // Widening on every host that has the memory; `From` is not const.
    (cells as usize).saturating_mul(2)
}

impl<E: AsRef<[Entry]> + AsMut<[Entry]>> Residents<E> {
    /// Nothing in memory, in these entries, which are all emptied: half as many cells as there are entries.
    pub fn new(entries: E, algorithm: Algorithm) -> Self {
        let cells = u32::try_from(entries.as_ref().len() / 2).unwrap_or(u32::MAX / 2);
        Self { lists: Lists::new(entries, cells), algorithm, cells, target: 0, hits: 0, misses: 0 }
    }

    /// Where a block is, for whoever does not read it.
    pub fn peek(&self, key: Key) -> Option<Cell> {
        self.block(key).map(|(_, cell)| cell)
    }

    /// A block is read: where it is.
    pub fn look_up(&mut self, key: Key) -> Option<Cell> {
        let Some((at, cell)) = self.block(key) else {
            self.misses = self.misses.saturating_add(1);
            return None;
        };
        self.hits = self.hits.saturating_add(1);
        let newest = |part| Holds::Block { key, cell, part, is_marked: false };
        match self.algorithm {
            Algorithm::Lru => self.lists.put(at, newest(Part::Recent)),
            Algorithm::Clock => self.lists.mark(at, true),
            Algorithm::Arc => self.lists.put(at, newest(Part::Frequent)),
        }
        Some(cell)
    }

    /// A block that was looked up, and was nowhere, was fetched: where it is to lie. `None`: there is no room
    /// at all. One that is in memory by now, for somebody else fetched it, stays where it is.
    pub fn admit(&mut self, key: Key) -> Option<Admitted> {
        if let Some(cell) = self.peek(key) {
            return Some(Admitted { cell, evicted: None });
        }
        let (part, evicted) = match self.algorithm {
            Algorithm::Lru => (Part::Recent, self.evict_oldest()),
            Algorithm::Clock => (Part::Recent, self.evict_unmarked()),
            Algorithm::Arc => self.make_room(key),
        };
        let at = self.lists.oldest(List::Vacant)?;
        let Holds::Vacancy(cell) = self.lists.holds(at) else { return None };
        self.lists.put(at, Holds::Block { key, cell, part, is_marked: false });
        Some(Admitted { cell, evicted })
    }

    /// A block is another one now, or not there any more. Returns whether it was in memory.
    pub fn forget(&mut self, key: Key) -> bool {
        let is_block = self.block(key).is_some();
        if let Some(at) = self.lists.find(key) {
            self.forget_at(at);
        }
        is_block
    }

    /// Forgets `blocks` blocks of a volume from `first` on: one by one when they are few, else by a look at
    /// all that is known.
    pub fn forget_range(&mut self, volume: Volume, first: BlockIndex, blocks: u64) {
        let keys = Keys::of(volume, first, blocks);
        if blocks < u64::from(self.cells) {
            for key in keys {
                self.forget(key);
            }
            return;
        }
        for at in self.lists.all() {
            if self.lists.holds(at).key().is_some_and(|key| keys.has(key)) {
                self.forget_at(at);
            }
        }
    }

    /// Forgets everything but how well it went.
    pub fn clear(&mut self) {
        for at in self.lists.all() {
            self.forget_at(at);
        }
        self.target = 0;
    }

    /// Goes on by another algorithm. What is in memory stays there, those that were read more than once as
    /// the newest; what ARC knows besides, and which blocks are marked, is forgotten.
    pub fn switch(&mut self, algorithm: Algorithm) {
        if self.algorithm == algorithm {
            return;
        }
        self.algorithm = algorithm;
        self.target = 0;
        while let Some(at) = self.lists.oldest(List::Blocks(Part::Frequent)) {
            let Holds::Block { key, cell, .. } = self.lists.holds(at) else { return };
            self.lists.put(at, Holds::Block { key, cell, part: Part::Recent, is_marked: false });
        }
        for at in self.lists.all() {
            match self.lists.holds(at) {
                Holds::Block { .. } => self.lists.mark(at, false),
                Holds::Ghost { .. } => self.lists.put(at, Holds::Nothing),
                Holds::Nothing | Holds::Vacancy(_) => {}
            }
        }
    }

    /// By which algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How well it went.
    pub fn tally(&self) -> Tally {
        let resident = self.cells.saturating_sub(self.lists.count(List::Vacant));
        Tally { hits: self.hits, misses: self.misses, resident }
    }

    /// The entry and the cell of a block in memory.
    fn block(&self, key: Key) -> Option<(At, Cell)> {
        let at = self.lists.find(key)?;
        match self.lists.holds(at) {
            Holds::Block { cell, .. } => Some((at, cell)),
            Holds::Nothing | Holds::Vacancy(_) | Holds::Ghost { .. } => None,
        }
    }

    fn forget_at(&mut self, at: At) {
        match self.lists.holds(at) {
            Holds::Block { cell, .. } => self.lists.put(at, Holds::Vacancy(cell)),
            Holds::Ghost { .. } => self.lists.put(at, Holds::Nothing),
            Holds::Nothing | Holds::Vacancy(_) => {}
        }
    }

    /// Makes room for another block, where there is none.
    fn evict_oldest(&mut self) -> Option<Key> {
        if self.lists.oldest(List::Vacant).is_some() {
            return None;
        }
        self.evict(self.lists.oldest(List::Blocks(Part::Recent))?)
    }

    /// As [`Self::evict_oldest`]. The hand is at the oldest end of the list: what it goes by becomes the
    /// newest one, and has lost its mark.
    fn evict_unmarked(&mut self) -> Option<Key> {
        if self.lists.oldest(List::Vacant).is_some() {
            return None;
        }
        // Once around at most: then the first one has lost its mark, too.
        for _ in 0..self.cells {
            let at = self.lists.oldest(List::Blocks(Part::Recent))?;
            match self.lists.holds(at) {
                Holds::Block { key, cell, part, is_marked: true } => {
                    self.lists.put(at, Holds::Block { key, cell, part, is_marked: false });
                }
                Holds::Block { .. } | Holds::Nothing | Holds::Vacancy(_) | Holds::Ghost { .. } => break,
            }
        }
        self.evict_oldest()
    }

    /// A block leaves, and nothing is known of it any more.
    pub(super) fn evict(&mut self, at: At) -> Option<Key> {
        let key = self.lists.holds(at).key();
        self.forget_at(at);
        key
    }
}

#[cfg(test)]
#[path = "residents_tests.rs"]
mod tests;
