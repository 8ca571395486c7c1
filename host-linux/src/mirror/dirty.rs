//! What every in-sync holder has, and the backing store has not yet, by where it belongs (I12; S4-01, X11).
//!
//! Extents of volumes that do not overlap: what comes later is carved out of what was there. Its owner puts
//! a write in when it may be read, the applier takes a copy, writes that, and says so; what came meanwhile
//! stays.

use crate::storage::buffers::Piece;
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::{Kind, Volume, Write};
use std::collections::BTreeMap;

/// What is to be in some blocks.
#[derive(Clone, Debug)]
pub enum Content {
    /// These bytes.
    Data(Piece),
    /// Zeroes; after a trim, too.
    Zeroes,
}

/// Blocks of one volume that one write left there.
#[derive(Clone, Debug)]
pub struct Extent {
    /// How many. Never 0.
    pub blocks: u64,
    /// Of the write.
    pub seq: Seq,
    /// What it put there.
    pub content: Content,
}

/// An extent and its place.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The volume.
    pub volume: Volume,
    /// Its first block.
    pub first: u64,
    /// What is there.
    pub extent: Extent,
}

/// A part of what was looked for.
#[derive(Clone, Debug)]
pub struct Part {
    /// How many blocks. Never 0.
    pub blocks: u64,
    /// What is there; `None`: what the backing store says.
    pub content: Option<Content>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Dirty {
    extents: BTreeMap<(Volume, u64), Extent>,
    data: u64,
}

impl Extent {
    fn weight(&self) -> u64 {
        match self.content {
            Content::Data(_) => self.blocks,
            Content::Zeroes => 0,
        }
    }

    /// The blocks from the `from`th on, at most `blocks` of them.
    fn part(&self, from: u64, blocks: u64) -> Self {
        let blocks = blocks.min(self.blocks.saturating_sub(from));
        let content = match &self.content {
            Content::Data(piece) => {
                let count = |blocks: u64| usize::try_from(blocks).unwrap_or(usize::MAX);
                let (_, behind) = piece.split(count(from));
                Content::Data(behind.split(count(blocks)).0)
            }
            Content::Zeroes => Content::Zeroes,
        };
        Self { blocks, seq: self.seq, content }
    }
}

impl Dirty {
    /// Blocks of data: the memory that it holds.
    pub const fn data_blocks(&self) -> u64 {
        self.data
    }

    /// A write may be read from now on. Data has its piece.
    pub fn insert(&mut self, seq: Seq, write: &Write, piece: Option<Piece>) {
        let (volume, first, blocks) = (write.volume(), write.first().0, u64::from(write.blocks()));
        let content = match (write.kind(), piece) {
            (Kind::Data, Some(piece)) => Content::Data(piece),
            (Kind::Zeroes | Kind::Trimmed, _) => Content::Zeroes,
            // Whoever feeds this checked it.
            (Kind::Data, None) => return,
        };
        self.carve(volume, first, blocks);
        self.put(volume, first, Extent { blocks, seq, content });
    }

    /// What is in some blocks, from the first on, without a gap.
    pub fn look(&self, volume: Volume, first: u64, blocks: u64) -> Vec<Part> {
        let end = first.saturating_add(blocks);
        let (mut parts, mut at) = (Vec::new(), first);
        for (place, extent) in self.over(volume, first, end) {
            let start = place.max(at);
            if at < start {
                parts.push(Part { blocks: start.saturating_sub(at), content: None });
            }
            let part = extent.part(start.saturating_sub(place), end.saturating_sub(start));
            at = start.saturating_add(part.blocks);
            parts.push(Part { blocks: part.blocks, content: Some(part.content) });
        }
        if at < end {
            parts.push(Part { blocks: end.saturating_sub(at), content: None });
        }
        parts
    }

    /// A copy of what writes up to this one left, in the order of its places.
    pub fn upto(&self, seq: Seq) -> Vec<Placed> {
        let old = self.extents.iter().filter(|(_, extent)| extent.seq <= seq);
        old.map(|((volume, first), extent)| Placed { volume: *volume, first: *first, extent: extent.clone() })
            .collect()
    }

    /// These are in the backing store. What was put over them meanwhile stays.
    pub fn settle(&mut self, placed: &[Placed]) {
        for Placed { volume, first, extent } in placed {
            let end = first.saturating_add(extent.blocks);
            let same = self.over(*volume, *first, end).filter(|(_, one)| one.seq == extent.seq);
            for at in same.map(|(at, _)| at).collect::<Vec<_>>() {
                self.take(*volume, at);
            }
        }
    }

    /// A volume is there no more.
    pub fn forget(&mut self, volume: Volume) {
        let places = self.extents.range((volume, 0)..=(volume, u64::MAX)).map(|((_, at), _)| *at);
        for at in places.collect::<Vec<_>>() {
            self.take(volume, at);
        }
    }

    /// All of it is void.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The extents that reach into `first..end`, in order.
    fn over(&self, volume: Volume, first: u64, end: u64) -> impl Iterator<Item = (u64, &Extent)> {
        let before = self.extents.range((volume, 0)..(volume, first)).next_back();
        let reaches = before.filter(move |((_, at), extent)| first < at.saturating_add(extent.blocks));
        let inside = self.extents.range((volume, first)..(volume, end.max(first)));
        reaches.into_iter().chain(inside).map(|((_, at), extent)| (*at, extent))
    }

    /// Leaves nothing in these blocks.
    fn carve(&mut self, volume: Volume, first: u64, blocks: u64) {
        let end = first.saturating_add(blocks);
        for at in self.over(volume, first, end).map(|(at, _)| at).collect::<Vec<_>>() {
            let Some(old) = self.take(volume, at) else { continue };
            if at < first {
                self.put(volume, at, old.part(0, first.saturating_sub(at)));
            }
            let behind = end.saturating_sub(at);
            if behind < old.blocks {
                self.put(volume, end, old.part(behind, u64::MAX));
            }
        }
    }

    fn put(&mut self, volume: Volume, at: u64, extent: Extent) {
        self.data = self.data.saturating_add(extent.weight());
        self.extents.insert((volume, at), extent);
    }

    fn take(&mut self, volume: Volume, at: u64) -> Option<Extent> {
        let extent = self.extents.remove(&(volume, at))?;
        self.data = self.data.saturating_sub(extent.weight());
        Some(extent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::buffers::Pool;
    use bulkhead_core::log::batch::BlockIndex;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Op {
        Write { first: u64, blocks: u32, kind: u8 },
        Take,
        Settle,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let write = (0..40_u64, 1..12_u32, 0..3_u8).prop_map(|(first, blocks, kind)| Op::Write {
            first,
            blocks,
            kind,
        });
        prop::collection::vec(prop_oneof![8 => write, 1 => Just(Op::Take), 1 => Just(Op::Settle)], 1..120)
    }

    /// What one block says: the number of its write, and which block of it.
    fn stamp(seq: u64, block: u64) -> u64 {
        seq * 1000 + block
    }

    fn read(content: &Content, block: usize) -> u64 {
        match content {
            Content::Data(piece) => {
                let at = block * 4096;
                u64::from_le_bytes(piece.bytes()[at..at + 8].try_into().unwrap())
            }
            Content::Zeroes => 0,
        }
    }

    proptest! {
        /// Against a model block by block: reads show the newest write, the store gets all of it, and what
        /// came while it was written stays.
        #[test]
        fn the_newest_is_read_and_all_of_it_reaches_the_store(ops in ops()) {
            let pool = Pool::new(8 << 20).unwrap();
            let volume = Volume(3);
            let (mut dirty, mut model, mut store) = (Dirty::default(), BTreeMap::new(), BTreeMap::new());
            let (mut seq, mut taken) = (0_u64, None);
            for op in ops {
                match op {
                    Op::Write { first, blocks, kind } => {
                        seq += 1;
                        let kind = [Kind::Data, Kind::Zeroes, Kind::Trimmed][usize::from(kind)];
                        let write = Write::new(volume, BlockIndex(first), blocks, kind).unwrap();
                        let piece = (kind == Kind::Data).then(|| {
                            let mut buffer = pool.take(blocks.try_into().unwrap()).unwrap();
                            for (block, bytes) in (0..).zip(buffer.bytes_mut().chunks_mut(4096)) {
                                bytes[..8].copy_from_slice(&stamp(seq, block).to_le_bytes());
                            }
                            buffer.keep().piece()
                        });
                        dirty.insert(Seq(seq), &write, piece);
                        for block in 0..u64::from(blocks) {
                            let said = if kind == Kind::Data { stamp(seq, block) } else { 0 };
                            model.insert(first + block, said);
                        }
                    }
                    Op::Take => taken = Some(dirty.upto(Seq(seq))),
                    Op::Settle => if let Some(taken) = taken.take() {
                        for Placed { first, extent, .. } in &taken {
                            for block in 0..extent.blocks {
                                let said = read(&extent.content, usize::try_from(block).unwrap());
                                store.insert(first + block, said);
                            }
                        }
                        dirty.settle(&taken);
                    },
                }
                let (mut at, mut data) = (0, 0);
                for part in dirty.look(volume, 0, 60) {
                    for block in 0..part.blocks {
                        let stored = store.get(&(at + block)).copied().unwrap_or(0);
                        let number = usize::try_from(block).unwrap();
                        let read = part.content.as_ref().map_or(stored, |one| read(one, number));
                        prop_assert_eq!(read, model.get(&(at + block)).copied().unwrap_or(0));
                    }
                    data += if matches!(part.content, Some(Content::Data(_))) { part.blocks } else { 0 };
                    at += part.blocks;
                }
                prop_assert_eq!((at, data), (60, dirty.data_blocks()));
                prop_assert!(dirty.look(Volume(2), 0, 60).iter().all(|part| part.content.is_none()));
            }
            let taken = dirty.upto(Seq(seq));
            dirty.settle(&taken);
            prop_assert_eq!(dirty.upto(Seq(u64::MAX)).len(), 0);
        }
    }
}
