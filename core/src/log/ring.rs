//! Where a position of the log lies on the device.

/// A place in the log, in blocks since it was made: it only grows, and so names one batch for ever (F4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// This many blocks further.
    pub const fn after(self, blocks: u64) -> Self {
        Self(self.0.saturating_add(blocks))
    }

    /// How many blocks it is from `earlier` to here; 0 when that is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Blocks in front of the ring: the superblocks.
pub const RING_AT: u64 = 2;

/// Blocks that follow each other on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first one, counted from the start of the log's space.
    pub first: u64,
    /// How many. Never 0.
    pub blocks: u64,
}

/// The blocks of a log, used round and round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ring {
    blocks: u64,
}

impl Ring {
    /// A ring of so many blocks; `None` when that is too few for any log ([`BLOCKS_MIN`]), or more than a
    /// device has.
    pub const fn new(blocks: u64) -> Option<Self> {
        if blocks < BLOCKS_MIN || BLOCKS_MAX < blocks { None } else { Some(Self { blocks }) }
    }

    /// How many blocks it has.
    pub const fn blocks(self) -> u64 {
        self.blocks
    }

    /// How many blocks a log with this ring takes on the device.
    pub const fn space(self) -> u64 {
        self.blocks.saturating_add(RING_AT)
    }

    /// Where `blocks` from `at` on lie: in one piece, or in two around the end of the ring. Never more than
    /// the whole ring.
    pub fn extents(self, at: Position, blocks: u64) -> impl Iterator<Item = Extent> + Clone {
        let start = at.0.checked_rem(self.blocks).unwrap_or(0);
        let blocks = blocks.min(self.blocks);
        let first = blocks.min(self.blocks.saturating_sub(start));
        let pieces = [(start, first), (0, blocks.saturating_sub(first))];
        let place = |(start, blocks): (u64, u64)| Extent { first: start.saturating_add(RING_AT), blocks };
        pieces.into_iter().map(place).filter(|extent| extent.blocks != 0)
    }
}

/// Fewest blocks of a ring: 4 MiB, two batches of the largest size and some.
pub const BLOCKS_MIN: u64 = 1024;
/// Most blocks of a ring: 2^40, 4 PiB.
pub const BLOCKS_MAX: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_batch_lies_in_one_piece_or_around_the_end() {
        let ring = Ring::new(BLOCKS_MIN).unwrap();
        let extents = |at, blocks| ring.extents(Position(at), blocks).collect::<Vec<_>>();
        assert_eq!(extents(0, 3), [Extent { first: 2, blocks: 3 }]);
        assert_eq!(extents(3 * BLOCKS_MIN + 1018, 6), [Extent { first: 1020, blocks: 6 }]);
        let around = [Extent { first: 1025, blocks: 1 }, Extent { first: 2, blocks: 2 }];
        assert_eq!(extents(1023, 3), around);
        assert_eq!(extents(5, 0), []);
        assert_eq!(extents(u64::MAX, u64::MAX).iter().map(|extent| extent.blocks).sum::<u64>(), BLOCKS_MIN);
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(Ring::new(BLOCKS_MIN - 1), None);
        assert_eq!(Ring::new(BLOCKS_MAX + 1), None);
        assert_eq!(Ring::new(BLOCKS_MAX).map(Ring::space), Some((1 << 40) + 2));
    }
}
