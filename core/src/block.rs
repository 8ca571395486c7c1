//! Blocks of a disk: sizes, addresses, ranges. An address is not a byte offset.

/// Size of a logical block, the unit in which the disk is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSize {
    /// 512 bytes.
    B512,
    /// 4,096 bytes ("4Kn" disks, many NVMe namespaces).
    B4096,
}

impl BlockSize {
    /// The size of `bytes` bytes, or `None`: no other size is supported.
    pub const fn from_bytes(bytes: u32) -> Option<Self> {
        if bytes == 512 {
            Some(Self::B512)
        } else if bytes == 4096 {
            Some(Self::B4096)
        } else {
            None
        }
    }

    /// Bytes in one block.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }

    /// Blocks that hold `bytes` bytes, the last one perhaps only in part.
    pub const fn blocks_for(self, bytes: u64) -> u64 {
        match self {
            Self::B512 => bytes.div_ceil(512),
            Self::B4096 => bytes.div_ceil(4096),
        }
    }
}

/// Address of a logical block, counted from the first block of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lba(pub u64);

impl Lba {
    /// The block `count` blocks further on; saturates, and a saturated address is on no disk.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// The block before; of block 0, block 0.
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Where the block starts, in bytes from the start of the disk.
    pub fn byte_offset(self, size: BlockSize) -> u64 {
        self.0.saturating_mul(u64::from(size.bytes()))
    }
}

/// The disk as its driver describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size of a logical block.
    pub block_size: BlockSize,
    /// Number of logical blocks; the last has address `blocks - 1`.
    pub blocks: u64,
}

impl Geometry {
    /// The geometry of a disk or image file of `bytes` bytes; a partial block at the end is not used.
    pub const fn from_bytes(block_size: BlockSize, bytes: u64) -> Self {
        let blocks = match block_size {
            BlockSize::B512 => bytes >> 9,
            BlockSize::B4096 => bytes >> 12,
        };
        Self { block_size, blocks }
    }

    /// Address of the last block; of an empty disk, block 0.
    pub const fn last(self) -> Lba {
        Lba(self.blocks.saturating_sub(1))
    }
}

/// A run of blocks, both ends included. Invariant: `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    first: Lba,
    last: Lba,
}

impl Extent {
    /// The blocks from `first` to `last`, both included; `None` when `last` lies before `first`.
    pub fn new(first: Lba, last: Lba) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// `count` blocks from `first` on; `None` when there are none or the end is beyond all addresses.
    pub fn with_len(first: Lba, count: u64) -> Option<Self> {
        let last = first.0.checked_add(count.checked_sub(1)?)?;
        Self::new(first, Lba(last))
    }

    /// The first block.
    pub const fn first(self) -> Lba {
        self.first
    }

    /// The last block, which belongs to the extent.
    pub const fn last(self) -> Lba {
        self.last
    }

    /// Number of blocks, at least one; saturates for the extent of all addresses.
    pub const fn blocks(self) -> u64 {
        self.last.0.saturating_sub(self.first.0).saturating_add(1)
    }

    /// Size in bytes; saturates.
    pub fn bytes(self, size: BlockSize) -> u64 {
        self.blocks().saturating_mul(u64::from(size.bytes()))
    }

    /// Whether the two have a block in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether every block of `inner` belongs to `self`.
    pub fn contains(self, inner: Self) -> bool {
        self.first <= inner.first && inner.last <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_include_both_ends() {
        let extent = |first, last| Extent::new(Lba(first), Lba(last)).unwrap();
        assert_eq!(extent(4, 4).blocks(), 1);
        assert_eq!(Extent::new(Lba(5), Lba(4)), None);
        assert_eq!(Extent::with_len(Lba(5), 0), None);
        assert_eq!(Extent::with_len(Lba(u64::MAX), 2), None);
        assert_eq!(Extent::with_len(Lba(5), 3), Some(extent(5, 7)));
        assert!(extent(4, 6).overlaps(extent(6, 9)));
        assert!(!extent(4, 6).overlaps(extent(7, 9)));
        assert!(extent(4, 9).contains(extent(4, 9)));
        assert!(!extent(4, 9).contains(extent(4, 10)));
        assert_eq!(extent(0, u64::MAX).bytes(BlockSize::B4096), u64::MAX);
    }

    #[test]
    fn a_partial_block_at_the_end_is_not_used() {
        let geometry = Geometry::from_bytes(BlockSize::B4096, 3 * 4096 + 4095);
        assert_eq!((geometry.blocks, geometry.last()), (3, Lba(2)));
        assert_eq!(Geometry::from_bytes(BlockSize::B512, 0).last(), Lba(0));
    }
}
