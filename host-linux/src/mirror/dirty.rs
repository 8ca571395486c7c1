//! What every in-sync holder has, and the backing store has not yet (I12; S4-01, X11): in memory as long as
//! there is room, else by its place in the log.
//!
//! The newest of a block is in an extent in memory; if there is none, where the index says that the log has
//! it; else in the store. What is in memory hides what the index says of the same blocks. Whoever puts
//! something over it leaves the older places in the index: each of them goes when its own write is in the
//! store, and older writes are there no later than newer ones.

use super::extents::{Content, Extents, Placed};
use super::window::Entry;
use crate::storage::space::sums;
use bulkhead_core::cache::index::{Index, Key, Place, Slot, slots_for};
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::{BlockIndex, Kind, Sum, VOLUME_BLOCKS_MAX, Volume};
use bulkhead_core::log::ring::{Position, RING_AT, Ring};

/// Blocks that are read from the log in one piece at most.
pub const RUN: usize = 64;

/// Where some blocks are.
#[derive(Clone, Debug)]
pub enum Found {
    /// In memory.
    Memory(Content),
    /// In the log: one place for each block, which follow each other there. [`RUN`] at most.
    Log(Vec<Place>),
    /// In the backing store.
    Store,
}

/// A part of what was looked for.
#[derive(Clone, Debug)]
pub struct Part {
    /// How many blocks. Never 0.
    pub blocks: u64,
    /// Where they are.
    pub found: Found,
}

/// Blocks of a write, counted from its first one, that nothing newer hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub from: u64,
    /// How many. Never 0.
    pub blocks: u64,
}

/// There is no memory for the index of such a log, or none is large enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// All of it.
#[derive(Debug)]
pub struct Dirty {
    extents: Extents,
    logged: Index<Vec<Slot>>,
    /// Of the log; `None`: there is no log, and nothing sinks.
    ring: Option<Ring>,
    /// No write behind this one is in the index.
    sunk: Seq,
    /// Where the last sinking ended.
    cursor: (Volume, u64),
    era: Era,
}

/// Between two times at which all of it became void.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Era(u64);

impl Default for Dirty {
    fn default() -> Self {
        let (extents, logged) = (Extents::default(), Index::new(Vec::new()));
        Self { extents, logged, ring: None, sunk: Seq(0), cursor: (Volume(0), 0), era: Era(0) }
    }
}

impl Dirty {
    /// Nothing yet, over a log: 17.8 bytes of memory for each of its blocks, taken now.
    ///
    /// # Errors
    ///
    /// [`TooLarge`]: more than 16 TiB, or than there is memory for.
    pub fn over(ring: Ring) -> Result<Self, TooLarge> {
        let mut slots = Vec::new();
        let count = slots_for(u32::try_from(ring.blocks()).map_err(|_| TooLarge)?);
        slots.try_reserve_exact(count).map_err(|_| TooLarge)?;
        slots.resize(count, Slot::EMPTY);
        Ok(Self { logged: Index::new(slots), ring: Some(ring), ..Self::default() })
    }

    /// Blocks of data in memory or in the log only. What was written again may count twice.
    pub fn data_blocks(&self) -> u64 {
        self.extents.data_blocks().saturating_add(u64::try_from(self.logged.len()).unwrap_or(u64::MAX))
    }

    /// Extents in memory.
    pub fn extents(&self) -> usize {
        self.extents.len()
    }

    /// Every write in the index is this one or before it.
    pub const fn sunk(&self) -> Seq {
        self.sunk
    }

    /// A write may be read from now on. Data has its piece, and its place in the log.
    pub fn insert(&mut self, entry: &Entry) {
        self.extents.insert(entry.seq, &entry.write, entry.piece.clone(), entry.at);
    }

    /// A write may be read from now on, from the log: its payload begins there. Whether there is room for it.
    pub fn insert_logged(&mut self, entry: &Entry) -> bool {
        let Entry { seq, write, sums, .. } = entry;
        let (Kind::Data, Some(at)) = (write.kind(), entry.at) else {
            self.insert(entry);
            return true;
        };
        self.extents.carve(write.volume(), write.first().0, write.blocks().into());
        self.log_has(*seq, (write.volume(), write.first().0), at, sums.iter().copied())
    }

    /// Frees about so many blocks of memory: what writes up to this one left, which are durable in the log,
    /// is read there from now on.
    pub fn sink(&mut self, upto: Seq, blocks: u64) {
        let mut sunk = Vec::new();
        let from = self.cursor;
        let last = self.extents.sink(from, upto, blocks, &mut |volume, first, extent| {
            sunk.push((volume, first, extent.clone()));
        });
        self.cursor = last.unwrap_or((Volume(0), 0));
        for (volume, first, extent) in sunk {
            if let (Content::Data(piece), Some(at)) = (&extent.content, extent.at) {
                self.log_has(extent.seq, (volume, first), at, sums(piece.bytes()));
            }
        }
    }

    fn log_has(
        &mut self,
        seq: Seq,
        (volume, first): (Volume, u64),
        at: Position,
        sums: impl Iterator<Item = Sum>,
    ) -> bool {
        self.sunk = self.sunk.max(seq);
        (first..).zip(sums).enumerate().all(|(number, (block, sum))| {
            let at = at.after(u64::try_from(number).unwrap_or(u64::MAX));
            let place = self.ring_block(at).map(|block| Place { block, sum });
            let key = Key::new(volume, BlockIndex(block));
            place.zip(key).is_some_and(|(place, key)| self.logged.insert(key, place).is_ok())
        })
    }

    /// Where some blocks are, from the first on, without a gap.
    pub fn look(&self, volume: Volume, first: u64, blocks: u64) -> Vec<Part> {
        let (mut parts, mut at) = (Vec::new(), first);
        for part in self.extents.look(volume, first, blocks) {
            match part.there {
                Some((_, content)) => {
                    parts.push(Part { blocks: part.blocks, found: Found::Memory(content) });
                }
                None if self.logged.is_empty() => {
                    parts.push(Part { blocks: part.blocks, found: Found::Store });
                }
                None => self.look_below(volume, at, part.blocks, &mut parts),
            }
            at = at.saturating_add(part.blocks);
        }
        parts
    }

    /// As [`Self::look`], of blocks that are not in memory.
    fn look_below(&self, volume: Volume, first: u64, blocks: u64, parts: &mut Vec<Part>) {
        let mut is_begun = false;
        for block in first..first.saturating_add(blocks) {
            let place = self.place(volume, block);
            let last = parts.last_mut().filter(|_| is_begun);
            is_begun = true;
            match (place, last.map(|part| (&mut part.blocks, &mut part.found))) {
                (Some(place), Some((blocks, Found::Log(places)))) if follows(places, place) => {
                    places.push(place);
                    *blocks = blocks.saturating_add(1);
                }
                (None, Some((blocks, Found::Store))) => *blocks = blocks.saturating_add(1),
                (Some(place), _) => parts.push(Part { blocks: 1, found: Found::Log(vec![place]) }),
                (None, _) => parts.push(Part { blocks: 1, found: Found::Store }),
            }
        }
    }

    /// Whether some blocks are still where they were in the log: then what was read there was they.
    pub fn is_still(&self, volume: Volume, first: u64, places: &[Place]) -> bool {
        (first..).zip(places).all(|(block, place)| self.place(volume, block) == Some(*place))
    }

    /// Which blocks of a write nothing newer hides. Of one that came from the log, with its place there.
    pub fn current(&self, entry: &Entry) -> Vec<Run> {
        let (volume, first) = (entry.write.volume(), entry.write.first().0);
        let (mut runs, mut from) = (Vec::new(), 0_u64);
        for part in self.extents.look(volume, first, entry.write.blocks().into()) {
            match part.there {
                Some((seq, _)) if seq == entry.seq => add(&mut runs, from, part.blocks),
                Some(_) => {}
                None => {
                    for number in from..from.saturating_add(part.blocks) {
                        let own = entry.at.and_then(|at| self.ring_block(at.after(number)));
                        let found = self.place(volume, first.saturating_add(number));
                        if found.is_some_and(|found| Some(found.block) == own) {
                            add(&mut runs, number, 1);
                        }
                    }
                }
            }
            from = from.saturating_add(part.blocks);
        }
        runs
    }

    /// A copy of what writes up to this one left in memory, in the order of its places.
    pub fn upto(&self, seq: Seq) -> Vec<Placed> {
        self.extents.upto(seq)
    }

    /// These are in the backing store. What was put over them meanwhile stays.
    pub fn settle(&mut self, placed: &[Placed]) {
        for Placed { volume, first, extent } in placed {
            self.is_stored(extent.seq, *volume, (*first, extent.blocks), extent.at);
        }
    }

    /// A write that came from the log is in the backing store.
    pub fn settle_logged(&mut self, entry: &Entry) {
        let blocks = (entry.write.first().0, u64::from(entry.write.blocks()));
        self.is_stored(entry.seq, entry.write.volume(), blocks, entry.at);
    }

    fn is_stored(&mut self, seq: Seq, volume: Volume, (first, blocks): (u64, u64), at: Option<Position>) {
        self.extents.settle(seq, volume, first, blocks);
        let Some(at) = at.filter(|_| !self.logged.is_empty()) else { return };
        for number in 0..blocks {
            let key = Key::new(volume, BlockIndex(first.saturating_add(number)));
            if let Some((key, block)) = key.zip(self.ring_block(at.after(number))) {
                self.logged.remove(key, block);
            }
        }
    }

    /// A volume is there no more.
    pub fn forget(&mut self, volume: Volume) {
        self.extents.forget(volume);
        self.logged.remove_range(volume, BlockIndex(0), VOLUME_BLOCKS_MAX);
    }

    /// All of it is void.
    pub fn clear(&mut self) {
        self.extents.clear();
        self.logged.clear();
        self.sunk = Seq(0);
        self.era = Era(self.era.0.wrapping_add(1));
    }

    /// What was asked in another one finds nothing, which does not mean that the store has it.
    pub const fn era(&self) -> Era {
        self.era
    }

    fn place(&self, volume: Volume, block: u64) -> Option<Place> {
        self.logged.get(Key::new(volume, BlockIndex(block))?)
    }

    /// The block of the ring at a position.
    fn ring_block(&self, at: Position) -> Option<u32> {
        let block = self.ring?.extents(at, 1).next()?.first;
        u32::try_from(block.saturating_sub(RING_AT)).ok()
    }
}

/// Whether a place is right behind others, with which it can be read.
fn follows(places: &[Place], place: Place) -> bool {
    let next = places.last().and_then(|last| last.block.checked_add(1));
    places.len() < RUN && next == Some(place.block)
}

fn add(runs: &mut Vec<Run>, from: u64, blocks: u64) {
    match runs.last_mut() {
        Some(last) if last.from.saturating_add(last.blocks) == from => {
            last.blocks = last.blocks.saturating_add(blocks);
        }
        Some(_) | None => runs.push(Run { from, blocks }),
    }
}

#[cfg(test)]
#[path = "dirty_tests.rs"]
mod tests;
