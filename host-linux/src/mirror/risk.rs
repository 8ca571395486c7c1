//! Bytes at risk: acknowledged, and in one place only, so that the loss of this node for good would lose them
//! (X11). Never fewer than that, whatever happens.
//!
//! With a second holder in sync nothing is at risk: every acknowledged write is in two logs. Without one,
//! each write that is acknowledged counts, a block that is written twice at most as often as its volume has
//! room. Who starts while it is alone does not know what the others lack, and counts all volumes in full.

use bulkhead_core::log::batch::{Kind, Volume, Write};
use std::collections::BTreeMap;

/// Bytes of a block.
const BLOCK: u64 = 4096;

/// What is at risk.
#[derive(Debug)]
pub struct Risk {
    /// Invariant: no more than the volume had when it was counted.
    volumes: BTreeMap<Volume, u64>,
    /// Of all volumes.
    total: u64,
    /// It is not known what the others lack: all of it counts.
    is_unknown: bool,
}

impl Risk {
    /// Of a holder that starts.
    pub const fn new() -> Self {
        Self { volumes: BTreeMap::new(), total: 0, is_unknown: true }
    }

    /// Another holder has all that was acknowledged.
    pub fn clear(&mut self) {
        *self = Self { is_unknown: false, ..Self::new() };
    }

    /// Nothing is known of what the others have.
    pub const fn forget(&mut self) {
        self.is_unknown = true;
    }

    /// Counts a write of a volume of this size that is about to be acknowledged; `false`: there would be more
    /// at risk than `max`, and it was not counted.
    pub fn add(&mut self, write: &Write, size: u64, max: Option<u64>) -> bool {
        let bytes = match write.kind() {
            Kind::Data | Kind::Zeroes => u64::from(write.blocks()).saturating_mul(BLOCK),
            // What was given up cannot be lost.
            Kind::Trimmed => 0,
        };
        let before = self.volumes.get(&write.volume()).copied().unwrap_or(0);
        let after = before.saturating_add(bytes).min(size.max(before));
        let total = self.total.saturating_add(after.saturating_sub(before));
        if max.is_some_and(|max| max < total || (self.is_unknown && bytes != 0)) {
            return false;
        }
        self.volumes.insert(write.volume(), after);
        self.total = total;
        true
    }

    /// A volume is gone, and so is what was at risk of it.
    pub fn remove(&mut self, volume: Volume) {
        self.total = self.total.saturating_sub(self.volumes.remove(&volume).unwrap_or(0));
    }

    /// What is at risk of a volume of this size.
    pub fn of(&self, volume: Volume, size: u64) -> u64 {
        if self.is_unknown { size } else { self.volumes.get(&volume).copied().unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_core::log::batch::BlockIndex;

    fn write(volume: u16, blocks: u32, kind: Kind) -> Write {
        Write::new(Volume(volume), BlockIndex(0), blocks, kind).unwrap()
    }

    #[test]
    fn what_is_acknowledged_alone_counts_up_to_the_bound() {
        let (one, two) = (Volume(1), Volume(2));
        let mut risk = Risk::new();
        assert_eq!(risk.of(one, 9 * BLOCK), 9 * BLOCK, "nobody knows");
        assert!(!risk.add(&write(1, 1, Kind::Data), 9 * BLOCK, Some(1 << 30)), "it may be more");
        risk.clear();
        assert_eq!(risk.of(one, 9 * BLOCK), 0);
        let max = Some(10 * BLOCK);
        assert!(risk.add(&write(1, 4, Kind::Data), 6 * BLOCK, max));
        assert!(risk.add(&write(1, 4, Kind::Zeroes), 6 * BLOCK, max), "a volume has no more than its size");
        assert!(risk.add(&write(2, 9, Kind::Trimmed), 9 * BLOCK, max));
        assert_eq!((risk.of(one, 6 * BLOCK), risk.of(two, 9 * BLOCK)), (6 * BLOCK, 0));
        assert!(!risk.add(&write(2, 5, Kind::Data), 9 * BLOCK, max));
        assert_eq!(risk.of(two, 9 * BLOCK), 0, "it was not counted");
        assert!(risk.add(&write(2, 5, Kind::Data), 9 * BLOCK, None));
        risk.remove(one);
        assert!(risk.add(&write(2, 4, Kind::Data), 9 * BLOCK, max));
        risk.forget();
        assert_eq!(risk.of(two, 9 * BLOCK), 9 * BLOCK);
    }
}
