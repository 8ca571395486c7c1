//! Memory for what goes to disks and comes from them: aligned, bounded, and handed on without a copy (V16,
//! F24).
//!
//! A [`Buffer`] is filled by one owner. Kept, it becomes a [`Payload`], which any number of owners read: the
//! log until it is durable, the link until a peer has it, the index of the read cache. The last one frees it.

use super::raw::{Arena, BLOCK, Span};
use std::ops::Range;
use std::sync::Arc;

/// The memory of one engine. Clones share it.
#[derive(Clone, Debug)]
pub struct Pool {
    arena: Arc<Arena>,
}

/// The largest pool: the kernel registers no larger piece of memory at once.
pub const POOL_MAX: usize = 1 << 30;

impl Pool {
    /// A pool of so many bytes, rounded down to blocks, all taken from the system now. It never grows.
    /// `None` when that is no block, more than [`POOL_MAX`], or more than the system has.
    pub fn new(bytes: usize) -> Option<Self> {
        let blocks = bytes.checked_div(BLOCK)?;
        (bytes <= POOL_MAX).then(|| Arena::new(blocks)).flatten().map(|arena| Self { arena })
    }

    /// Memory for so many blocks, in one piece; what was in it before is still in it. `None` when it has not
    /// so much: wait until something is freed.
    pub fn take(&self, blocks: usize) -> Option<Buffer> {
        self.arena.take(blocks).map(Buffer::from)
    }

    /// How many blocks are free, though not all in one piece.
    pub fn free(&self) -> usize {
        self.arena.free()
    }

    pub(super) const fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }
}

/// Memory that one owner fills.
#[derive(Debug)]
pub struct Buffer(Span);

impl Buffer {
    /// How many blocks.
    pub const fn blocks(&self) -> usize {
        self.0.blocks()
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// To be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }

    /// From now on nobody changes it.
    pub fn keep(self) -> Payload {
        Payload(Arc::new(self.0))
    }

    pub(super) fn into_span(self) -> Span {
        self.0
    }
}

impl From<Span> for Buffer {
    fn from(span: Span) -> Self {
        Self(span)
    }
}

/// Memory that nobody changes.
#[derive(Clone, Debug)]
pub struct Payload(Arc<Span>);

impl Payload {
    /// How many blocks.
    pub fn blocks(&self) -> usize {
        self.0.blocks()
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// All of it.
    pub fn piece(&self) -> Piece {
        Piece { payload: self.clone(), blocks: 0..self.blocks() }
    }

    /// To be filled anew, when nobody else has it.
    pub fn reuse(self) -> Option<Buffer> {
        Arc::try_unwrap(self.0).ok().map(Buffer)
    }
}

/// Blocks of a payload that follow each other.
#[derive(Clone, Debug)]
pub struct Piece {
    payload: Payload,
    blocks: Range<usize>,
}

impl Piece {
    /// What is in them.
    pub fn bytes(&self) -> &[u8] {
        let bytes = self.blocks.start.saturating_mul(BLOCK)..self.blocks.end.saturating_mul(BLOCK);
        self.payload.bytes().get(bytes).unwrap_or_default()
    }

    /// How many blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The first `blocks` of them, and the rest.
    pub fn split(&self, blocks: usize) -> (Self, Self) {
        let middle = self.blocks.start.saturating_add(blocks).min(self.blocks.end);
        let part = |blocks| Self { payload: self.payload.clone(), blocks };
        (part(self.blocks.start..middle), part(middle..self.blocks.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V16: the bound is hard, memory comes back with the last owner, and no two owners share a block.
    #[test]
    fn a_pool_refuses_and_gets_back_what_is_dropped() {
        let pool = Pool::new(64 * BLOCK + 100).unwrap();
        assert_eq!(pool.free(), 64);
        assert!(pool.take(0).is_none() && pool.take(65).is_none());
        let mut buffers: Vec<_> = [1, 3, 16, 2, 30, 1].map(|blocks| pool.take(blocks).unwrap()).into();
        assert_eq!(pool.free(), 11);
        assert!(pool.take(16).is_none());
        for (fill, buffer) in (1..).zip(&mut buffers) {
            assert_eq!(buffer.bytes().as_ptr().align_offset(BLOCK), 0);
            buffer.bytes_mut().fill(fill);
        }
        for (fill, buffer) in (1..).zip(&buffers) {
            assert!(buffer.bytes().iter().all(|byte| *byte == fill), "{fill} was overwritten");
        }
        let kept = buffers.swap_remove(2).keep();
        let (head, tail) = kept.piece().split(5);
        assert_eq!((head.blocks(), tail.blocks(), head.bytes().len()), (5, 11, 5 * BLOCK));
        drop(kept);
        assert_eq!(pool.free(), 11, "a piece keeps all of it");
        drop((head, tail));
        assert_eq!(pool.free(), 27);
        buffers.clear();
        assert_eq!(pool.free(), 64);
        assert!(pool.take(64).is_some(), "in one piece again");
    }

    /// V16: whatever comes and goes, what is free is counted, and as much as follows each other is given.
    #[test]
    fn what_is_free_can_be_taken() {
        let pool = Pool::new(64 * BLOCK).unwrap();
        let mut held: Vec<Buffer> = Vec::new();
        let mut chance = 7_usize;
        for round in 0..5_000 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = chance >> 40;
            if pick & 1 == 0 && !held.is_empty() {
                held.swap_remove(pick % held.len());
            } else {
                held.extend(pool.take(1 + pick % 3));
                held.extend(pick.is_multiple_of(7).then(|| pool.take(16 + pick % 9)).flatten());
            }
            let taken: usize = held.iter().map(|buffer| buffer.bytes().len() / BLOCK).sum();
            assert_eq!(pool.free(), 64 - taken, "round {round}");
            assert_eq!(pool.take(1).is_some(), taken < 64, "round {round}");
        }
        let mut places: Vec<_> = held.iter().map(|buffer| buffer.bytes().as_ptr_range()).collect();
        places.sort_by_key(|place| place.start);
        assert!(places.windows(2).all(|two| two[0].end <= two[1].start), "two have the same block");
        held.clear();
        assert!(pool.take(64).is_some());
    }

    #[test]
    fn memory_that_is_shared_is_not_filled_anew() {
        let pool = Pool::new(BLOCK).unwrap();
        let payload = pool.take(1).unwrap().keep();
        let other = payload.clone();
        assert!(payload.reuse().is_none());
        assert!(other.reuse().is_some());
    }
}
