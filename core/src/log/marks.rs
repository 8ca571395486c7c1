//! Where some batches of a log begin: to trim it, and to find a write in it, without looking through all of
//! it.

use heapless::Vec;

use super::Seq;
use super::ring::{Position, Ring};
use super::superblock::Tail;

/// Marks of one log at most.
const MARKS_MAX: usize = 34;
/// The ring is trimmed by about this part at a time.
const PART: u64 = 32;

/// Beginnings of batches, about one for each thirty-second part of the ring.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Marks {
    /// Invariant: positions and writes strictly rise.
    places: Vec<Tail, MARKS_MAX>,
    /// Blocks between two of them at least.
    apart: u64,
}

impl Marks {
    /// None yet.
    pub const fn new(ring: Ring) -> Self {
        Self { places: Vec::new(), apart: ring.blocks() / PART }
    }

    /// A batch begins here, behind all that were noted before.
    pub fn note(&mut self, batch: Tail) {
        let is_far = self.places.last().is_none_or(|last| self.apart <= batch.at.since(last.at));
        if is_far {
            // More would be more than the ring has room for.
            let _ = self.places.push(batch);
        }
    }

    /// This write and all after it are cut off.
    pub fn cut(&mut self, from: Seq) {
        self.places.retain(|one| one.first < from);
    }

    /// The batches before this position are not in the log any more.
    pub fn trim(&mut self, at: Position) {
        self.places.retain(|one| at <= one.at);
    }

    /// The last one that begins with this write or an earlier one.
    pub fn before(&self, write: Seq) -> Option<Tail> {
        self.places.iter().rev().find(|one| one.first <= write).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::BLOCKS_MIN;
    use super::*;

    fn batch(at: u64, first: u64) -> Tail {
        Tail { at: Position(at), first: Seq(first), chain: 0 }
    }

    #[test]
    fn a_full_ring_has_room_for_its_marks() {
        let mut marks = Marks::new(Ring::new(BLOCKS_MIN).unwrap());
        for at in 0..BLOCKS_MIN {
            marks.note(batch(5_000 + at, 1 + at));
        }
        assert_eq!(marks.places.len(), 32);
        assert_eq!(marks.before(Seq(32)), Some(batch(5_000, 1)));
        assert_eq!(marks.before(Seq(33)), Some(batch(5_032, 33)));
        assert_eq!(marks.before(Seq(9_999)), Some(batch(5_992, 993)));
    }

    #[test]
    fn what_is_trimmed_or_cut_off_is_no_place_to_look() {
        let mut marks = Marks::new(Ring::new(BLOCKS_MIN).unwrap());
        (0..4).for_each(|n| marks.note(batch(32 * n, 1 + 10 * n)));
        marks.trim(Position(32));
        assert_eq!(marks.before(Seq(10)), None);
        marks.cut(Seq(21));
        assert_eq!(marks.before(Seq(99)), Some(batch(32, 11)));
        marks.note(batch(200, 21));
        assert_eq!(marks.before(Seq(99)), Some(batch(200, 21)));
    }
}
