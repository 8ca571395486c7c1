//! Comparing two stores by digests: in which blocks they differ (X13).
//!
//! Nothing is remembered for it, so nothing can be wrong after a crash, however long a holder was away. A
//! hole is compared as the zeroes that it reads as, without being read.

use super::backing::How;
use super::store::Store;
use crate::replication::words::{Blocks, Digest, REGION};
use bulkhead_core::log::BLOCK_LEN;
use bulkhead_core::log::batch::BlockIndex;
use std::io::Error;
use std::ops::Range;
use std::sync::LazyLock;

/// Bytes of a region.
pub const REGION_LEN: usize = 131_072;

const _: () = assert!(REGION_LEN / BLOCK_LEN == 32 && REGION == 32, "one size of region");

static HOLE: LazyLock<Digest> = LazyLock::new(|| digest(&[0; REGION_LEN]));

/// A run of blocks of a region that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which, counted from the region's first.
    pub blocks: Range<usize>,
    /// All of it is zero.
    pub is_zero: bool,
}

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    let mut digest = Digest::default();
    let whole = blake3::hash(bytes);
    digest.0.iter_mut().zip(whole.as_bytes()).for_each(|(to, from)| *to = *from);
    digest
}

/// The regions of some blocks, the first of which begins one; the last may be shorter.
pub fn regions(blocks: Blocks) -> impl Iterator<Item = Blocks> {
    let Blocks { volume, first, count } = blocks;
    let places = (0..count).step_by(usize::try_from(REGION).unwrap_or(usize::MAX));
    places.map(move |at| {
        let first = BlockIndex(first.0.saturating_add(u64::from(at)));
        Blocks { volume, first, count: count.saturating_sub(at).min(REGION) }
    })
}

/// Content of one region.
#[derive(Debug)]
pub struct Region {
    bytes: Vec<u8>,
}

impl Default for Region {
    fn default() -> Self {
        Self { bytes: vec![0; REGION_LEN] }
    }
}

impl Region {
    /// Reads a region of a store, and says what its digest is.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn load(&mut self, store: &Store, blocks: Blocks) -> Result<Digest, Error> {
        let count = u64::from(blocks.count.min(REGION));
        self.bytes.resize(usize::try_from(count).unwrap_or(0).saturating_mul(BLOCK_LEN), 0);
        let (is_data, run) = store.run(blocks.volume, blocks.first.0, count)?;
        if is_data || run < count {
            store.read(blocks.volume, blocks.first.0, &mut self.bytes, How::Waiting)?;
            return Ok(digest(&self.bytes));
        }
        self.bytes.fill(0);
        Ok(if self.bytes.len() == REGION_LEN { *HOLE } else { digest(&self.bytes) })
    }

    /// What was read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of each block.
    pub fn digests(&self) -> Vec<Digest> {
        self.bytes.chunks(BLOCK_LEN).map(digest).collect()
    }

    /// The blocks that are others than these.
    pub fn runs(&self, others: &[Digest]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for ((at, block), other) in (0_usize..).zip(self.bytes.chunks(BLOCK_LEN)).zip(others) {
            if digest(block) == *other {
                continue;
            }
            let is_zero = block.iter().all(|byte| *byte == 0);
            let end = at.saturating_add(1);
            match runs.last_mut().filter(|run| run.blocks.end == at && run.is_zero == is_zero) {
                Some(run) => run.blocks.end = end,
                None => runs.push(Run { blocks: at..end, is_zero }),
            }
        }
        runs
    }
}

/// The regions of these blocks that are others in this store, with the digests of their blocks here.
pub fn differing(store: &Store, blocks: Blocks, theirs: &[Digest]) -> Vec<(Blocks, Vec<Digest>)> {
    let mut region = Region::default();
    let mut differing = Vec::new();
    for (part, theirs) in regions(blocks).zip(theirs) {
        match region.load(store, part) {
            Ok(ours) if ours == *theirs => {}
            Ok(_) => differing.push((part, region.digests())),
            // What cannot be read is written anew, all of it: no digest is this one.
            Err(_) => {
                let count = usize::try_from(part.count).unwrap_or(0);
                differing.push((part, vec![Digest::default(); count]));
            }
        }
    }
    differing
}

#[cfg(test)]
mod tests {
    use super::super::extents::Content;
    use super::*;
    use crate::storage::buffers::Pool;
    use bulkhead_core::log::batch::Volume;

    const VOLUME: Volume = Volume(3);

    fn blocks(first: u64, count: u32) -> Blocks {
        Blocks { volume: VOLUME, first: BlockIndex(first), count }
    }

    fn fill(store: &Store, first: u64, bytes: &[u8]) {
        let mut buffer = Pool::new(1 << 20).unwrap().take(bytes.len()).unwrap();
        for (block, byte) in buffer.bytes_mut().chunks_mut(BLOCK_LEN).zip(bytes) {
            block.fill(*byte);
        }
        let count = u64::try_from(bytes.len()).unwrap();
        store.write(VOLUME, first, count, &Content::Data(buffer.keep().piece())).unwrap();
    }

    /// What is compared, asked for and put together is the other store, and nothing else moves.
    #[test]
    fn exactly_the_blocks_that_differ_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let store = |name: &str| Store::open(&directory.path().join(name)).unwrap();
        let (one, two) = (store("one"), store("two"));
        // In block order: the same, another one, zero here, zero there, an empty region, a short last region.
        fill(&one, 0, &[1, 2, 0, 4]);
        fill(&two, 0, &[1, 9, 3]);
        fill(&one, 70, &[5]);
        fill(&two, 70, &[5]);
        fill(&two, 97, &[0, 0, 0]);
        let all = blocks(0, 100);
        let mut region = Region::default();
        let digests: Vec<_> = regions(all).map(|part| region.load(&one, part).unwrap()).collect();
        assert_eq!(digests.len(), 4);
        assert_eq!(digests[1], *HOLE);
        let differing = differing(&two, all, &digests);
        assert_eq!(differing.len(), 1, "zeroes that were written are no others than a hole");
        let (part, theirs) = &differing[0];
        assert_eq!(*part, blocks(0, 32));
        region.load(&one, *part).unwrap();
        let runs = region.runs(theirs);
        let run = |blocks, is_zero| Run { blocks, is_zero };
        assert_eq!(runs, [run(1..2, false), run(2..3, true), run(3..4, false)]);
    }

    #[test]
    fn the_digest_is_half_of_blake3() {
        let empty = "af1349b9f5f9a1a6a0404dea36dcc949";
        let said: String = digest(b"").0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(said, empty);
    }
}
