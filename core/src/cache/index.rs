//! Which block of the log holds the newest content of a block of a volume (P4; V5).
//!
//! A hash table in memory that the caller provides: 16 bytes for each block of a full log, and one ninth of
//! room beside it, together 17.8 bytes for each 4,096, under 0.5 % (DESIGN section 8). Open addressing with
//! linear probing; what is removed leaves no mark, so that the table never slows down with age (Knuth, The
//! Art of Computer Programming, volume 3, section 6.4, algorithm R).

use core::ops::Range;

use crate::log::batch::{BlockIndex, Sum, VOLUME_BLOCKS_MAX, Volume};

/// Room for one block. The caller provides them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Volume (12 bits) and block (52 bits); all ones: empty.
    key: u64,
    place: Place,
}

/// Where a block of payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The block of the ring, from 0.
    pub block: u32,
    /// The checksum that its content must have: what is read is compared with it (V5).
    pub sum: Sum,
}

/// A block of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

/// Volumes of one group at most.
pub const VOLUMES_MAX: u16 = (1 << 12) - 1;

const BLOCK_BITS: u32 = 52;
const EMPTY: u64 = u64::MAX;

const _: () = assert!(VOLUME_BLOCKS_MAX == 1 << BLOCK_BITS, "a key has room for every block of a volume");
const _: () = assert!(size_of::<Slot>() == 16, "a slot is as small as the budget of memory wants it");

impl Slot {
    /// Nothing.
    pub const EMPTY: Self = Self { key: EMPTY, place: Place { block: 0, sum: Sum(0) } };
}

impl Key {
    /// `None` for a volume or a block that no group has.
    pub fn new(volume: Volume, block: BlockIndex) -> Option<Self> {
        let is_there = volume.0 < VOLUMES_MAX && block.0 < VOLUME_BLOCKS_MAX;
        is_there.then_some(Self(u64::from(volume.0) << BLOCK_BITS | block.0))
    }

    /// Where the search for it begins in a table of so many: the upper bits of a product, scaled to the table
    /// (Lemire 2016).
    pub(super) fn home(self, table: usize) -> usize {
        let mixed = (self.0 ^ self.0 >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let scaled = u128::from(mixed).saturating_mul(u128::try_from(table).unwrap_or(0)) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }
}

/// Blocks of a volume that follow each other.
#[derive(Clone, Debug)]
pub(super) struct Keys(Range<u64>);

impl Keys {
    /// `blocks` blocks from `first` on, as far as the volume can reach.
    pub(super) fn of(volume: Volume, first: BlockIndex, blocks: u64) -> Self {
        let from = Key::new(volume, first).map_or(EMPTY, |first| first.0);
        let behind = (from | (VOLUME_BLOCKS_MAX - 1)).saturating_add(1);
        Self(from..from.saturating_add(blocks).min(behind))
    }

    /// Whether a block is one of them.
    pub(super) fn has(&self, key: Key) -> bool {
        self.0.contains(&key.0)
    }
}

impl Iterator for Keys {
    type Item = Key;

    fn next(&mut self) -> Option<Key> {
        self.0.next().map(Key)
    }
}

/// The table is as full as it may be. Exit: what is applied and trimmed leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Where the newest content of each block is, in slots of the caller's: a slice, or a vector.
#[derive(Debug)]
pub struct Index<S> {
    /// Invariant: at least one is empty, so that every search ends. None is from the home of a key to its
    /// slot.
    slots: S,
    used: usize,
}

/// How many slots an index needs for `blocks`: one ninth more, so that a search is short, and one.
pub const fn slots_for(blocks: u32) -> usize {
    // Widening on every host that has the memory; `From` is not const.
    let blocks = blocks as usize;
    blocks.saturating_add(blocks / 9).saturating_add(2)
}

impl<S: AsRef<[Slot]> + AsMut<[Slot]>> Index<S> {
    /// An index in these slots, which are all emptied.
    pub fn new(mut slots: S) -> Self {
        slots.as_mut().fill(Slot::EMPTY);
        Self { slots, used: 0 }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.as_mut().fill(Slot::EMPTY);
        self.used = 0;
    }

    /// How many blocks it knows.
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether it knows none.
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Where the newest content of a block is.
    pub fn get(&self, key: Key) -> Option<Place> {
        let slot = self.slots.as_ref().get(self.find(key).ok()?)?;
        Some(slot.place)
    }

    /// Says where the newest content of a block is now, and returns where it was.
    ///
    /// # Errors
    ///
    /// [`Full`]: nothing has changed.
    pub fn insert(&mut self, key: Key, place: Place) -> Result<Option<Place>, Full> {
        match self.find(key) {
            Ok(at) => {
                let slot = self.slots.as_mut().get_mut(at).ok_or(Full)?;
                Ok(Some(core::mem::replace(&mut slot.place, place)))
            }
            Err(at) => {
                // One stays empty.
                if self.slots.as_ref().len() <= self.used.saturating_add(1) {
                    return Err(Full);
                }
                *self.slots.as_mut().get_mut(at).ok_or(Full)? = Slot { key: key.0, place };
                self.used = self.used.saturating_add(1);
                Ok(None)
            }
        }
    }

    /// Forgets a block, if its content is still that at this block of the ring. Returns whether it was.
    pub fn remove(&mut self, key: Key, block: u32) -> bool {
        let found = self.find(key).ok();
        let slots = self.slots.as_ref();
        let at = found.filter(|at| slots.get(*at).is_some_and(|slot| slot.place.block == block));
        at.map(|at| self.remove_at(at)).is_some()
    }

    /// Forgets `blocks` blocks of a volume from `first` on.
    pub fn remove_range(&mut self, volume: Volume, first: BlockIndex, blocks: u64) {
        let keys = Keys::of(volume, first, blocks);
        let is_few = usize::try_from(blocks).is_ok_and(|blocks| blocks < self.slots.as_ref().len());
        if is_few {
            for key in keys {
                if let Ok(at) = self.find(key) {
                    self.remove_at(at);
                }
            }
            return;
        }
        for at in 0..self.slots.as_ref().len() {
            // What moves into the place of the one removed is looked at, too.
            while self.slots.as_ref().get(at).is_some_and(|slot| keys.has(Key(slot.key))) {
                self.remove_at(at);
            }
        }
    }

    /// The slot of a key, or the empty one where it belongs.
    fn find(&self, key: Key) -> Result<usize, usize> {
        let mut at = self.home(key.0);
        loop {
            match self.slots.as_ref().get(at).map_or(EMPTY, |slot| slot.key) {
                found if found == key.0 => return Ok(at),
                EMPTY => return Err(at),
                _other => at = self.behind(at),
            }
        }
    }

    /// Empties a slot, and closes the gap that it would leave in a search.
    fn remove_at(&mut self, at: usize) {
        let (mut gap, mut next) = (at, self.behind(at));
        loop {
            let slot = self.slots.as_ref().get(next).copied().unwrap_or(Slot::EMPTY);
            if slot.key == EMPTY {
                break;
            }
            // It may move back as far as its home.
            let home = self.home(slot.key);
            if self.distance(home, next) >= self.distance(gap, next) {
                self.put(gap, slot);
                gap = next;
            }
            next = self.behind(next);
        }
        self.put(gap, Slot::EMPTY);
        self.used = self.used.saturating_sub(1);
    }

    fn put(&mut self, at: usize, slot: Slot) {
        if let Some(place) = self.slots.as_mut().get_mut(at) {
            *place = slot;
        }
    }

    /// Where the search for a key begins.
    fn home(&self, key: u64) -> usize {
        Key(key).home(self.slots.as_ref().len())
    }

    fn behind(&self, at: usize) -> usize {
        let next = at.saturating_add(1);
        if next < self.slots.as_ref().len() { next } else { 0 }
    }

    /// From `from` forward to `to`, around the end.
    fn distance(&self, from: usize, to: usize) -> usize {
        match to.checked_sub(from) {
            Some(distance) => distance,
            None => to.saturating_add(self.slots.as_ref().len()).saturating_sub(from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn key(block: u64) -> Key {
        Key::new(Volume(1), BlockIndex(block)).unwrap()
    }

    fn place(block: u32) -> Place {
        Place { block, sum: Sum(!block) }
    }

    #[test]
    fn its_memory_is_within_the_budget() {
        for blocks in [262_144, 1 << 25, u32::MAX] {
            let memory = u64::try_from(slots_for(blocks) * size_of::<Slot>()).unwrap();
            assert!(memory * 1_000 < u64::from(blocks) * 4_096 * 5, "{memory} bytes for {blocks} blocks");
        }
    }

    #[test]
    fn keys_are_of_volumes_that_can_be() {
        let new = |volume, block| Key::new(Volume(volume), BlockIndex(block)).is_some();
        assert!(new(VOLUMES_MAX - 1, VOLUME_BLOCKS_MAX - 1));
        assert!(!new(VOLUMES_MAX, 0) && !new(0, VOLUME_BLOCKS_MAX));
        assert_ne!(Key::new(Volume(VOLUMES_MAX - 1), BlockIndex(VOLUME_BLOCKS_MAX - 1)).unwrap().0, EMPTY);
    }

    #[test]
    fn a_full_table_refuses_and_still_finds() {
        let mut slots = vec![Slot::EMPTY; slots_for(9)];
        let mut index = Index::new(&mut slots);
        for block in 0..11 {
            assert_eq!(index.insert(key(block.into()), place(block)), Ok(None));
        }
        assert_eq!(index.insert(key(99), place(99)), Err(Full));
        assert_eq!(index.insert(key(3), place(33)), Ok(Some(place(3))), "what is there is replaced");
        assert_eq!((index.get(key(3)), index.get(key(99)), index.len()), (Some(place(33)), None, 11));
        index.remove_range(Volume(1), BlockIndex(1), u64::from(u32::MAX));
        assert_eq!((index.get(key(0)), index.len()), (Some(place(0)), 1));
        index.clear();
        assert!(index.get(key(0)).is_none() && index.is_empty());
        let mut none = [];
        let index = Index::new(&mut none);
        assert!(index.get(key(0)).is_none() && index.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u16, u64),
        Remove(u16, u64, bool),
        Range(u16, u64, u64),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let one = (0..2_u16, 0..60_u64);
        prop::collection::vec(
            prop_oneof![
                6 => one.clone().prop_map(|(volume, block)| Op::Insert(volume, block)),
                3 => (one.clone(), any::<bool>()).prop_map(|((v, b), newer)| Op::Remove(v, b, newer)),
                1 => (one, 1..300_u64).prop_map(|((v, b), blocks)| Op::Range(v, b, blocks)),
            ],
            1..300,
        )
    }

    proptest! {
        /// Against a model, in a table that is nearly full most of the time.
        #[test]
        fn it_knows_what_a_map_knows(ops in ops()) {
            let mut slots = vec![Slot::EMPTY; 50];
            let (mut index, mut model) = (Index::new(&mut slots), BTreeMap::new());
            for (op, number) in ops.into_iter().zip(0..) {
                match op {
                    Op::Insert(volume, block) => {
                        let key = Key::new(Volume(volume), BlockIndex(block)).unwrap();
                        let is_full = model.len() == 49 && !model.contains_key(&key);
                        let old = index.insert(key, place(number));
                        prop_assert_eq!(old.is_err(), is_full);
                        if let Ok(old) = old {
                            prop_assert_eq!(old, model.insert(key, place(number)));
                        }
                    }
                    Op::Remove(volume, block, is_newer) => {
                        let key = Key::new(Volume(volume), BlockIndex(block)).unwrap();
                        let known = model.get(&key).copied();
                        let asked = known.filter(|_| !is_newer).unwrap_or(place(u32::MAX));
                        prop_assert_eq!(index.remove(key, asked.block), known == Some(asked));
                        if known == Some(asked) {
                            model.remove(&key);
                        }
                    }
                    Op::Range(volume, block, blocks) => {
                        index.remove_range(Volume(volume), BlockIndex(block), blocks);
                        let of = |block| Key::new(Volume(volume), BlockIndex(block)).unwrap();
                        let range = of(block)..of(block + blocks);
                        model.retain(|key, _| !range.contains(key));
                    }
                }
                prop_assert_eq!(index.len(), model.len());
                for volume in 0..2 {
                    for block in 0..60 {
                        let key = Key::new(Volume(volume), BlockIndex(block)).unwrap();
                        prop_assert_eq!(index.get(key), model.get(&key).copied());
                    }
                }
            }
        }
    }
}
