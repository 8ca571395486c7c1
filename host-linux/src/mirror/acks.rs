//! Which writes guests are told are safe, of those that the machine calls so: none that would put more at
//! risk than is let (X11), and none of a volume in write-through before its backing store has it, whatever
//! the group does (S0-06).

use super::window::Done;
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::Write;
use bulkhead_core::volume::CATALOGUE;
use std::collections::VecDeque;

/// A write that is durable on all holders in sync.
pub struct Safe {
    /// Its number.
    pub seq: Seq,
    /// Which blocks.
    pub write: Write,
    /// Who waits for it.
    pub done: Option<Done>,
}

/// Those that guests are not told of yet.
#[derive(Default)]
pub struct Acks {
    /// Until less is at risk.
    held: VecDeque<Safe>,
    /// Until the backing store has them. Invariant: their numbers rise.
    unstored: VecDeque<(Seq, Done)>,
}

impl Acks {
    /// These became safe, in their order. Returns who waits for nothing else: what an operator asks for is
    /// not held up by what guests ask for.
    pub fn safe(&mut self, all: Vec<Safe>) -> Vec<Done> {
        let (orders, writes): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|safe| safe.write.volume() == CATALOGUE);
        self.held.extend(writes);
        orders.into_iter().filter_map(|safe| safe.done).collect()
    }

    /// Lets go who may be told, in the order of their writes: `takes` says whether a write may be in as few
    /// places as it is, and counts it; `is_through`, whether it is of a volume that waits for the backing
    /// store, which has every write up to `applied`. Returns who need not wait any more.
    pub fn release(
        &mut self,
        applied: Seq,
        mut takes: impl FnMut(&Write) -> bool,
        is_through: impl Fn(&Write) -> bool,
    ) -> Vec<Done> {
        let mut told = Vec::new();
        while self.held.front().is_some_and(|safe| takes(&safe.write)) {
            let Some(Safe { seq, write, done: Some(done) }) = self.held.pop_front() else { continue };
            match applied < seq && is_through(&write) {
                true => self.unstored.push_back((seq, done)),
                false => told.push(done),
            }
        }
        told
    }

    /// The backing store has every write up to this one. Returns who waited for that.
    pub fn applied(&mut self, upto: Seq) -> Vec<Done> {
        let count = self.unstored.partition_point(|(seq, _)| *seq <= upto);
        self.unstored.drain(..count).map(|(_, done)| done).collect()
    }

    /// Nobody here will be told that it is done. Returns all who wait.
    pub fn forsake(&mut self) -> Vec<Done> {
        let held = self.held.drain(..).filter_map(|safe| safe.done);
        held.chain(self.unstored.drain(..).map(|(_, done)| done)).collect()
    }

    /// Whether somebody waits for the backing store.
    pub fn waits_for_store(&self) -> bool {
        !self.unstored.is_empty()
    }

    /// Writes that wait until less is at risk.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::Unknown;
    use super::*;
    use bulkhead_core::log::batch::{BlockIndex, Kind, Volume};
    use std::sync::{Arc, Mutex};

    type Ends = Arc<Mutex<Vec<(u64, Result<(), Unknown>)>>>;

    fn safe(ends: &Ends, seq: u64, volume: u16) -> Safe {
        let ends = Arc::clone(ends);
        let done: Done = Box::new(move |end| ends.lock().unwrap().push((seq, end)));
        let write = Write::new(Volume(volume), BlockIndex(seq), 1, Kind::Zeroes).unwrap();
        Safe { seq: Seq(seq), write, done: Some(done) }
    }

    fn tell(all: Vec<Done>, end: Result<(), Unknown>) {
        all.into_iter().for_each(|done| done(end));
    }

    /// S0-06: one volume waits for the store, the other does not, and neither waits for the other.
    #[test]
    fn a_volume_in_write_through_waits_for_the_store() {
        let ends = Ends::default();
        let told = || std::mem::take(&mut *ends.lock().unwrap());
        let mut acks = Acks::default();
        let all = [(1, 7), (2, 7), (3, 8), (4, 7), (5, 7)].map(|(seq, of)| safe(&ends, seq, of));
        assert!(acks.safe(all.into()).is_empty());
        let is_through = |write: &Write| write.volume() == Volume(7);
        tell(acks.release(Seq(1), |_| true, is_through), Ok(()));
        assert_eq!(told(), [(1, Ok(())), (3, Ok(()))], "write 1 is in the store already");
        assert!(acks.waits_for_store());
        tell(acks.applied(Seq(4)), Ok(()));
        assert_eq!(told(), [(2, Ok(())), (4, Ok(()))]);
        tell(acks.forsake(), Err(Unknown));
        assert_eq!(told(), [(5, Err(Unknown))]);
        assert!(!acks.waits_for_store());
    }

    /// X11: what would be too much at risk waits, and what came after it waits behind it.
    #[test]
    fn nothing_is_told_beyond_the_bound() {
        let ends = Ends::default();
        let told = || std::mem::take(&mut *ends.lock().unwrap());
        let mut acks = Acks::default();
        assert!(acks.safe((1..=4).map(|seq| safe(&ends, seq, 7)).collect()).is_empty());
        let mut room = 2;
        let mut takes = |_: &Write| {
            let is_room = 0 < room;
            room -= i32::from(is_room);
            is_room
        };
        tell(acks.release(Seq(9), &mut takes, |_| true), Ok(()));
        tell(acks.release(Seq(9), &mut takes, |_| true), Ok(()));
        assert_eq!((told(), acks.held()), (vec![(1, Ok(())), (2, Ok(()))], 2));
        tell(acks.safe(vec![safe(&ends, 5, 0)]), Ok(()));
        assert_eq!(told(), [(5, Ok(()))], "an order may be what ends the wait");
        tell(acks.release(Seq(9), |_| true, |_| true), Ok(()));
        assert_eq!((told(), acks.held()), (vec![(3, Ok(())), (4, Ok(()))], 0));
    }
}
