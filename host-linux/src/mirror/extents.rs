//! Writes by where they belong: extents of volumes that do not overlap (I12; S4-01). What comes later is
//! carved out of what was there.

use crate::storage::buffers::Piece;
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::{Kind, Volume, Write};
use bulkhead_core::log::ring::Position;
use std::collections::BTreeMap;
use std::ops::Bound;

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
    /// Where the log has the first block of it; data only.
    pub at: Option<Position>,
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
    /// What is there, and by which write.
    pub there: Option<(Seq, Content)>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Extents {
    places: BTreeMap<(Volume, u64), Extent>,
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
        Self { blocks, seq: self.seq, content, at: self.at.map(|at| at.after(from)) }
    }
}

impl Extents {
    /// Blocks of data: the memory that they hold.
    pub const fn data_blocks(&self) -> u64 {
        self.data
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Puts a write in. Data has its piece, and maybe a place in the log.
    pub fn insert(&mut self, seq: Seq, write: &Write, piece: Option<Piece>, at: Option<Position>) {
        let (volume, first, blocks) = (write.volume(), write.first().0, u64::from(write.blocks()));
        let content = match (write.kind(), piece) {
            (Kind::Data, Some(piece)) => Content::Data(piece),
            (Kind::Zeroes | Kind::Trimmed, _) => Content::Zeroes,
            // Whoever feeds this checked it.
            (Kind::Data, None) => return,
        };
        self.carve(volume, first, blocks);
        self.put(volume, first, Extent { blocks, seq, content, at });
    }

    /// What is in some blocks, from the first on, without a gap.
    pub fn look(&self, volume: Volume, first: u64, blocks: u64) -> Vec<Part> {
        let end = first.saturating_add(blocks);
        let (mut parts, mut at) = (Vec::new(), first);
        for (place, extent) in self.over(volume, first, end) {
            let start = place.max(at);
            if at < start {
                parts.push(Part { blocks: start.saturating_sub(at), there: None });
            }
            let part = extent.part(start.saturating_sub(place), end.saturating_sub(start));
            at = start.saturating_add(part.blocks);
            parts.push(Part { blocks: part.blocks, there: Some((part.seq, part.content)) });
        }
        if at < end {
            parts.push(Part { blocks: end.saturating_sub(at), there: None });
        }
        parts
    }

    /// A copy of what writes up to this one left, in the order of its places.
    pub fn upto(&self, seq: Seq) -> Vec<Placed> {
        let old = self.places.iter().filter(|(_, extent)| extent.seq <= seq);
        old.map(|((volume, first), extent)| Placed { volume: *volume, first: *first, extent: extent.clone() })
            .collect()
    }

    /// Takes out what this write left in these blocks: those of a write, or of a part of one.
    pub fn settle(&mut self, seq: Seq, volume: Volume, first: u64, blocks: u64) {
        let same = self.over(volume, first, first.saturating_add(blocks)).filter(|(_, one)| one.seq == seq);
        for at in same.map(|(at, _)| at).collect::<Vec<_>>() {
            self.take(volume, at);
        }
    }

    /// Takes out about so many blocks of data that the log has, by writes up to this one, behind `from`.
    /// Returns the place of the last one; `None`: there was none any more.
    pub fn sink(
        &mut self,
        from: (Volume, u64),
        upto: Seq,
        blocks: u64,
        each: &mut dyn FnMut(Volume, u64, &Extent),
    ) -> Option<(Volume, u64)> {
        let behind = self.places.range((Bound::Excluded(from), Bound::Unbounded));
        let (mut taken, mut last) = (0_u64, None);
        let found = behind.filter(|(_, one)| one.at.is_some() && one.weight() != 0 && one.seq <= upto);
        let found = found.take_while(|(_, one)| {
            let goes_on = taken < blocks;
            taken = taken.saturating_add(one.blocks);
            goes_on
        });
        for (volume, first) in found.map(|(place, _)| *place).collect::<Vec<_>>() {
            if let Some(extent) = self.take(volume, first) {
                each(volume, first, &extent);
            }
            last = Some((volume, first));
        }
        last
    }

    /// Leaves nothing in these blocks.
    pub fn carve(&mut self, volume: Volume, first: u64, blocks: u64) {
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

    /// A volume is there no more.
    pub fn forget(&mut self, volume: Volume) {
        let places = self.places.range((volume, 0)..=(volume, u64::MAX)).map(|((_, at), _)| *at);
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
        let before = self.places.range((volume, 0)..(volume, first)).next_back();
        let reaches = before.filter(move |((_, at), extent)| first < at.saturating_add(extent.blocks));
        let inside = self.places.range((volume, first)..(volume, end.max(first)));
        reaches.into_iter().chain(inside).map(|((_, at), extent)| (*at, extent))
    }

    fn put(&mut self, volume: Volume, at: u64, extent: Extent) {
        self.data = self.data.saturating_add(extent.weight());
        self.places.insert((volume, at), extent);
    }

    fn take(&mut self, volume: Volume, at: u64) -> Option<Extent> {
        let extent = self.places.remove(&(volume, at))?;
        self.data = self.data.saturating_sub(extent.weight());
        Some(extent)
    }
}
