//! Where guests wrote while another holder's store is filled (X07, X13).
//!
//! In memory only, and of one fill: who fills anew compares everything anew. Its size is bounded: what is
//! written all over a volume makes all of it count as written.

use crate::replication::words::REGION;
use bulkhead_core::log::batch::{Volume, Write};
use std::collections::{BTreeMap, BTreeSet};

/// Regions of one mark.
const REGIONS: u64 = 64;
/// Blocks of a region.
const PER_REGION: u64 = 32;
/// Blocks of one mark: 8 MiB.
const CHUNK: u64 = 64 * PER_REGION;
/// Marks at most, of all volumes: some MiB of memory.
const MARKS_MAX: usize = 65_536;
/// Marks of one write at most.
const SPAN_MAX: u64 = 1024;

const _: () = assert!(REGION == 32, "one size of region");

/// Blocks from the first to the one before the second.
pub type Part = (Volume, u64, u64);

/// What was written.
#[derive(Debug, Default)]
pub struct Touched {
    /// A bit for each region.
    marks: BTreeMap<(Volume, u64), u64>,
    /// All of these.
    whole: BTreeSet<Volume>,
}

impl Touched {
    /// A write.
    pub fn write(&mut self, write: &Write) {
        let (volume, first) = (write.volume(), write.first().0);
        if self.whole.contains(&volume) {
            return;
        }
        let last = first.saturating_add(u64::from(write.blocks())).saturating_sub(1);
        let (from, to) = (first / CHUNK, last / CHUNK);
        if SPAN_MAX <= to.saturating_sub(from) || MARKS_MAX <= self.marks.len() {
            return self.all_of(volume);
        }
        for chunk in from..=to {
            let start = chunk.saturating_mul(CHUNK);
            let low = first.max(start).saturating_sub(start) / PER_REGION;
            let high = last.saturating_sub(start).min(CHUNK - 1) / PER_REGION;
            let bits = (low..=high).filter_map(|bit| 1_u64.checked_shl(u32::try_from(bit).ok()?));
            *self.marks.entry((volume, chunk)).or_default() |= bits.fold(0, |all, bit| all | bit);
        }
    }

    /// A volume is another one than before, or was written all over.
    pub fn all_of(&mut self, volume: Volume) {
        self.marks.retain(|(one, _), _| *one != volume);
        self.whole.insert(volume);
    }

    /// About how many blocks were written; more than there are when a volume was written all over.
    pub fn blocks(&self) -> u64 {
        if !self.whole.is_empty() {
            return u64::MAX;
        }
        let regions = self.marks.values().map(|bits| u64::from(bits.count_ones()));
        regions.fold(0, u64::saturating_add).saturating_mul(PER_REGION)
    }

    /// The parts of these volumes that were written, each with its blocks.
    pub fn parts(&self, volumes: &[(Volume, u64)]) -> Vec<Part> {
        let Self { marks, whole } = self;
        let mut parts: Vec<Part> = Vec::new();
        for (volume, blocks) in volumes {
            if whole.contains(volume) {
                parts.push((*volume, 0, *blocks));
            }
            for ((_, chunk), bits) in marks.range((*volume, 0)..=(*volume, u64::MAX)) {
                for bit in
                    (0..REGIONS).filter(|bit| bits.wrapping_shr(u32::try_from(*bit).unwrap_or(0)) & 1 == 1)
                {
                    let first = chunk.saturating_mul(CHUNK).saturating_add(bit.saturating_mul(PER_REGION));
                    let end = first.saturating_add(PER_REGION).min(*blocks);
                    match parts.last_mut().filter(|(one, _, last)| (*one, *last) == (*volume, first)) {
                        Some((_, _, last)) => *last = end,
                        None if first < end => parts.push((*volume, first, end)),
                        None => {}
                    }
                }
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_core::log::batch::{BlockIndex, Kind};
    use proptest::prelude::*;

    const VOLUME: Volume = Volume(2);

    fn write(first: u64, blocks: u32) -> Write {
        Write::new(VOLUME, BlockIndex(first), blocks, Kind::Zeroes).unwrap()
    }

    proptest! {
        /// Every block that was written is in a part, parts are in order, and none is larger than it must be.
        #[test]
        fn what_was_written_is_in_the_parts(
            writes in prop::collection::vec((0..20_000_u64, 1..5_000_u32), 0..20)
        ) {
            let mut touched = Touched::default();
            let region = u64::from(REGION);
            let mut expected = BTreeSet::new();
            for (first, blocks) in writes {
                touched.write(&write(first, blocks));
                let last = (first + u64::from(blocks) - 1).min(21_999);
                expected.extend(first / region..=last / region);
            }
            let parts = touched.parts(&[(Volume(1), 9), (VOLUME, 22_000)]);
            let mut found = BTreeSet::new();
            for (volume, first, end) in parts {
                prop_assert!(volume == VOLUME && first < end && end <= 22_000 && first % region == 0);
                for at in first / region..end.div_ceil(region) {
                    prop_assert!(found.insert(at), "twice");
                }
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn writes_all_over_a_volume_make_all_of_it_touched() {
        let mut touched = Touched::default();
        (0..200_000).for_each(|at| touched.write(&write(at * CHUNK, 1)));
        assert!(touched.marks.len() <= MARKS_MAX);
        assert_eq!(touched.parts(&[(VOLUME, 1 << 40)]), [(VOLUME, 0, 1 << 40)]);
        let mut touched = Touched::default();
        touched.write(&write(0, u32::MAX));
        assert_eq!(touched.parts(&[(VOLUME, 10)]), [(VOLUME, 0, 10)]);
    }
}
