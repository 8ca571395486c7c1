//! The writes of the log that are in memory: its last ones, without a gap (S4-07, X11).

use super::acks::Safe;
use crate::storage::buffers::Piece;
use bulkhead_core::id::Epoch;
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::{Sum, Write};
use bulkhead_core::log::ring::Position;
use std::collections::VecDeque;

/// How a write of a guest ended: all in-sync holders have it, or nobody knows whether they ever will.
pub type Done = Box<dyn FnOnce(Result<(), Unknown>) + Send>;

/// Whether a write will be there is not known: this holder lost the group while it was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// A write of the log.
pub struct Entry {
    /// Its number.
    pub seq: Seq,
    /// Under which it was made.
    pub made: Epoch,
    /// Which blocks.
    pub write: Write,
    /// One for each block of payload.
    pub sums: Vec<Sum>,
    /// Its payload, if it has one.
    pub piece: Option<Piece>,
    /// Where this holder's log has the payload, once its batch is made.
    pub at: Option<Position>,
    /// Who waits for it.
    pub done: Option<Done>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("seq", &self.seq).field("write", &self.write).finish_non_exhaustive()
    }
}

/// The last writes of a log.
#[derive(Debug, Default)]
pub struct Window {
    /// Invariant: their numbers follow each other.
    entries: VecDeque<Entry>,
    /// Nobody waits for this write or an earlier one.
    told: Seq,
}

impl Window {
    /// Its first write; `None` when it has none.
    pub fn first(&self) -> Option<Seq> {
        self.entries.front().map(|entry| entry.seq)
    }

    /// A write, if it is in memory.
    pub fn get(&self, seq: Seq) -> Option<&Entry> {
        self.entries.get(self.place_of(seq)?)
    }

    /// The payloads of these writes begin here, one behind the other. Returns them, in order.
    pub fn place(&mut self, first: Seq, last: Seq, mut at: Position) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for number in first.0..=last.0 {
            let place = self.place_of(Seq(number));
            let Some(entry) = place.and_then(|place| self.entries.get_mut(place)) else { continue };
            if let Some(piece) = &entry.piece {
                entry.at = Some(at);
                at = at.after(u64::try_from(piece.blocks()).unwrap_or(u64::MAX));
                pieces.push(piece.clone());
            }
        }
        pieces
    }

    /// Takes in the write after the last one. Those before a gap are forgotten: the log has them.
    pub fn push(&mut self, entry: Entry) {
        if self.entries.back().is_some_and(|last| last.seq.next() != entry.seq) {
            self.entries.clear();
        }
        self.entries.push_back(entry);
    }

    /// The writes up to this one that were not called safe before, in order, each with who waits for it.
    pub fn safe(&mut self, upto: Seq) -> Vec<Safe> {
        let from = self.place_of(self.told.next()).unwrap_or(0);
        let waiting = self.entries.iter_mut().skip(from).take_while(|entry| entry.seq <= upto);
        let of = |entry: &mut Entry| Safe { seq: entry.seq, write: entry.write, done: entry.done.take() };
        let safe = waiting.map(of).collect();
        let last = self.entries.back().map(|entry| entry.seq).unwrap_or_default();
        self.told = self.told.max(upto.min(last));
        safe
    }

    /// This write and all after it are void. Returns who waits for them.
    pub fn cut(&mut self, from: Seq) -> Vec<Done> {
        let keep = self.entries.partition_point(|entry| entry.seq < from);
        self.told = self.told.min(from.before());
        self.entries.drain(keep..).filter_map(|entry| entry.done).collect()
    }

    /// Forgets the writes before this one, up to the first that somebody waits for.
    pub fn forget(&mut self, before: Seq) {
        while self.entries.front().is_some_and(|entry| entry.seq < before && entry.done.is_none()) {
            self.entries.pop_front();
        }
    }

    fn place_of(&self, seq: Seq) -> Option<usize> {
        let first = self.first()?;
        usize::try_from(seq.0.checked_sub(first.0)?).ok()
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A write that nobody waits for.
    pub fn entry(seq: u64, write: Write, piece: Option<Piece>) -> Entry {
        Entry { seq: Seq(seq), made: Epoch(1), write, sums: Vec::new(), piece, at: None, done: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_core::log::batch::{BlockIndex, Kind, Volume};
    use std::sync::{Arc, Mutex};

    #[test]
    fn writes_are_found_finished_cut_and_forgotten_in_order() {
        let ends = Arc::new(Mutex::new(Vec::new()));
        let entry = |seq| {
            let ends = Arc::clone(&ends);
            let done: Done = Box::new(move |end| ends.lock().unwrap().push((seq, end)));
            let write = Write::new(Volume(1), BlockIndex(seq), 1, Kind::Zeroes).unwrap();
            Entry { done: Some(done), ..testing::entry(seq, write, None) }
        };
        let mut window = Window::default();
        assert_eq!(window.first(), None);
        (5..10).for_each(|seq| window.push(entry(seq)));
        window.safe(Seq(6)).into_iter().filter_map(|safe| safe.done).for_each(|done| done(Ok(())));
        window.forget(Seq(9));
        assert_eq!(window.first(), Some(Seq(7)), "somebody waits for it");
        assert!(window.get(Seq(6)).is_none() && window.get(Seq(10)).is_none());
        assert_eq!(window.get(Seq(9)).unwrap().seq, Seq(9));
        window.cut(Seq(8)).into_iter().for_each(|done| done(Err(Unknown)));
        assert!(window.get(Seq(8)).is_none());
        assert_eq!(*ends.lock().unwrap(), [(5, Ok(())), (6, Ok(())), (8, Err(Unknown)), (9, Err(Unknown))]);
        window.push(entry(20));
        assert_eq!(window.first(), Some(Seq(20)), "a gap");
    }
}
