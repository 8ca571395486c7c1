//! A disk for tests, with a cache that a power cut tears, and chance.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::{BLOCK_LEN, Block};

const SECTOR: usize = 512;

pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Blocks, and what was written to them and not flushed, in order.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) kept: BTreeMap<u64, Block>,
    pub(crate) cached: Vec<(u64, Block)>,
}

impl Disk {
    pub(crate) fn read(&self, at: u64) -> Block {
        let newest = self.cached.iter().rev().find(|(block, _)| *block == at).map(|(_, bytes)| *bytes);
        newest.or_else(|| self.kept.get(&at).copied()).unwrap_or([0; BLOCK_LEN])
    }

    /// As FUA does: these blocks and no others.
    pub(crate) fn flush(&mut self, blocks: &[u64]) {
        for (at, bytes) in core::mem::take(&mut self.cached) {
            match blocks.contains(&at) {
                true => drop(self.kept.insert(at, bytes)),
                false => self.cached.push((at, bytes)),
            }
        }
    }

    /// As a flush does.
    pub(crate) fn flush_all(&mut self) {
        self.kept.extend(core::mem::take(&mut self.cached));
    }

    /// Of each sector that was not flushed, one of its contents stays: the old one, or any of those on the
    /// way.
    pub(crate) fn power_cut(&mut self, chance: &mut Chance) {
        for (at, bytes) in core::mem::take(&mut self.cached) {
            let mut block = self.kept.get(&at).copied().unwrap_or([0; BLOCK_LEN]);
            for (old, new) in block.chunks_mut(SECTOR).zip(bytes.chunks(SECTOR)) {
                if chance.below(2) == 0 {
                    old.copy_from_slice(new);
                }
            }
            self.kept.insert(at, block);
        }
    }
}
