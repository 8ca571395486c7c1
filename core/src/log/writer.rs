//! How writes become batches: whatever arrives while earlier batches are on their way to the disk goes into
//! the next one (group commit), and nothing counts before its flush has returned (V1, V13; I2).
//!
//! A full log, and a disk that is slower than the writes that come, are no states of this machine: a write
//! that finds no room is refused, and offered again by whoever keeps it.

use heapless::Vec;

use super::batch::{Content, Header, Sum, Write};
use super::marks::Marks;
use super::ring::{Position, Ring};
use super::superblock::{Identity, Superblock, Tail};
use super::{Block, End, Seq};
use crate::bug::{Bug, is_planted};
use crate::id::Epoch;

/// What the shell tells the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Append this write. Its payload stays with the shell until it is durable.
    Append {
        /// Its number: the one after the write before it ([`Log::next`]).
        seq: Seq,
        /// Under which its primary made it. Never below that of an earlier write.
        epoch: Epoch,
        /// Which blocks.
        write: Write,
        /// One for each block of payload.
        sums: &'a [Sum],
    },
    /// The batch at this position is durable: written, and its flush has returned.
    Committed(Position),
    /// A write or a flush of a batch failed.
    CommitFailed,
    /// Every write up to this one is durable on all in-sync holders.
    CommitPoint(Seq),
    /// The superblock says durably that batches before this one are not needed: their blocks are free.
    Trimmed(Tail),
}

/// What the machine asks the shell to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Write the header and the payload of its writes behind it, in order, and make both durable; then report
    /// [`Event::Committed`]. [`Ring::extents`] says where.
    Commit {
        /// Where the batch begins.
        at: Position,
        /// Its blocks, the header included.
        blocks: u64,
        /// Its first write, and how many there are.
        writes: (Seq, usize),
        /// The header.
        header: &'a Block,
    },
    /// Every write up to this one is durable here.
    Durable(Seq),
    /// The write was not appended, and nothing has changed.
    Refused(Refusal),
}

/// Why a write was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Earlier batches are on their way to the disk and the next one is full, or there is no room in the
    /// ring. Exit: the next [`Action::Durable`], or a trim.
    Busy,
    /// It does not follow the write before it.
    OutOfOrder {
        /// Which one is expected.
        next: Seq,
    },
    /// It was made under an older epoch than a write before it (I1).
    OldEpoch {
        /// The newest.
        newest: Epoch,
    },
    /// It has another number of checksums than blocks of payload.
    Malformed,
    /// The log has failed.
    Failed,
}

/// The machine's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It appends. Exit: a commit fails.
    Appending,
    /// Nobody knows what the disk holds. Final until the holder starts again: not even a later flush that
    /// succeeds makes a write count (V13).
    Failed,
}

/// Batches on their way to the disk at most. One more than that is as far as a power cut can look back: the
/// scan checks the payload of the last ones only.
pub const FLIGHTS_MAX: usize = 2;

/// The end of a log, to which writes are appended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    mode: Mode,
    identity: Identity,
    ring: Ring,
    run: u64,
    tail: Position,
    marks: Marks,
    end: End,
    durable: Seq,
    /// The next batch, as far as it is known. Its writes come before `end.next`.
    open: Content,
    /// Batches on their way, oldest first.
    flights: Vec<Flight, FLIGHTS_MAX>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flight {
    at: Position,
    last: Seq,
    is_durable: bool,
}

impl Log {
    /// Goes on at `end`, as the scan found it, with the marks of what is before. `superblock` is durable, and
    /// its newest run begins there.
    ///
    /// # Panics
    ///
    /// If the run begins elsewhere: what is appended would be taken for the rest of an earlier run.
    pub fn new(superblock: &Superblock, end: End, mut marks: Marks) -> Self {
        let run = superblock.run;
        assert!(run.at == end.at && run.number != 0, "a run begins where the log ends");
        marks.trim(superblock.tail.at);
        marks.cut(end.next);
        Self {
            mode: Mode::Appending,
            identity: superblock.identity,
            ring: superblock.ring,
            run: run.number,
            tail: superblock.tail.at,
            marks,
            end,
            durable: end.next.before(),
            open: Content::default(),
            flights: Vec::new(),
        }
    }

    /// The current mode.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The write that is expected next.
    pub const fn next(&self) -> Seq {
        self.end.next
    }

    /// Every write up to this one is durable here.
    pub const fn durable(&self) -> Seq {
        self.durable
    }

    /// Where it goes on, once all that was appended is on its way.
    pub const fn end(&self) -> End {
        self.end
    }

    /// Where some of its batches begin.
    pub const fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Blocks that are free: a batch takes one more than its payload.
    pub const fn free(&self) -> u64 {
        self.ring.blocks().saturating_sub(self.end.at.since(self.tail))
    }

    /// Why a write with so many checksums would not be appended now; `None` when it would be.
    pub fn refuses(&self, seq: Seq, epoch: Epoch, write: &Write, sums: usize) -> Option<Refusal> {
        let End { next, epoch: newest, .. } = self.end;
        // A header names one epoch.
        let joins = self.open.is_empty() || (epoch == newest && self.open.has_room(sums));
        let (open, more) = (self.open.blocks(), u64::try_from(sums).unwrap_or(u64::MAX));
        let header = if joins { 0 } else { 1 };
        // What is taken in finds room in the ring, whatever becomes of the backing store.
        let fits = open.saturating_add(header).saturating_add(more) <= self.free();
        match self.mode {
            Mode::Failed => Some(Refusal::Failed),
            Mode::Appending if seq != next => Some(Refusal::OutOfOrder { next }),
            Mode::Appending if epoch < newest => Some(Refusal::OldEpoch { newest }),
            Mode::Appending if sums != write.payload() => Some(Refusal::Malformed),
            Mode::Appending if !fits || (!joins && !self.can_close()) => Some(Refusal::Busy),
            Mode::Appending => None,
        }
    }

    /// Takes one event, and hands what is to be done to `out`, in order.
    pub fn step(&mut self, event: Event<'_>, out: &mut dyn FnMut(Action<'_>)) {
        match (self.mode, event) {
            (_, Event::Append { seq, epoch, write, sums }) => {
                match self.refuses(seq, epoch, &write, sums.len()) {
                    None => self.append(epoch, write, sums, out),
                    Some(refusal) => out(Action::Refused(refusal)),
                }
            }
            (Mode::Appending, Event::Committed(at)) => {
                self.committed(at, out);
                self.close(out);
            }
            (Mode::Appending, Event::CommitFailed) => {
                self.mode = Mode::Failed;
                self.flights.clear();
            }
            (Mode::Appending, Event::CommitPoint(seq)) => {
                // What is not durable here is not durable on all of them.
                self.end.commit = self.end.commit.max(seq.min(self.durable));
            }
            (Mode::Appending, Event::Trimmed(tail)) => {
                self.tail = self.tail.max(tail.at);
                self.marks.trim(self.tail);
            }
            (
                Mode::Failed,
                Event::Committed(_) | Event::CommitFailed | Event::CommitPoint(_) | Event::Trimmed(_),
            ) => {}
        }
        self.check();
    }

    fn append(&mut self, epoch: Epoch, write: Write, sums: &[Sum], out: &mut dyn FnMut(Action<'_>)) {
        let is_other = !self.open.is_empty() && epoch != self.end.epoch;
        if is_other || !self.open.has_room(sums.len()) {
            self.close(out);
        }
        // Room was asked for before.
        let _ = self.open.push(write, sums.iter().copied());
        self.end.next = self.end.next.next();
        self.end.epoch = epoch;
        self.close(out);
    }

    /// Whether there is an open batch, and it may go. There is room for it.
    fn can_close(&self) -> bool {
        !self.open.is_empty() && !self.flights.is_full()
    }

    /// Sends the open batch on its way, when there is one and it may go.
    fn close(&mut self, out: &mut dyn FnMut(Action<'_>)) {
        if !self.can_close() {
            return;
        }
        let blocks = self.open.blocks();
        let content = core::mem::take(&mut self.open);
        let count = content.writes().len();
        let End { at, next, chain, epoch, commit } = self.end;
        let first = Seq(next.0.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX)));
        let Identity { group, life, .. } = self.identity;
        let (run, durable) = (self.run, self.durable);
        let header = Header { group, life, chain, at, run, epoch, first, durable, commit, content };
        let bytes = header.encode();
        // What a later header names as the one before it.
        let [.., a, b, c, d] = bytes;
        self.end.chain = u32::from_le_bytes([a, b, c, d]);
        self.end.at = header.end();
        self.marks.note(Tail { at, first, chain });
        // Room was asked for above.
        let _ = self.flights.push(Flight { at, last: header.last(), is_durable: false });
        out(Action::Commit { at, blocks, writes: (first, count), header: &bytes });
        if is_planted(Bug::WrittenIsDurable) {
            self.durable = self.end.next.before();
            out(Action::Durable(self.durable));
        }
    }

    fn committed(&mut self, at: Position, out: &mut dyn FnMut(Action<'_>)) {
        for flight in self.flights.iter_mut().filter(|flight| flight.at == at) {
            flight.is_durable = true;
        }
        let before = self.durable;
        while let Some(flight) = self.flights.first() {
            // A later batch is of no use without those before it.
            if !flight.is_durable && !is_planted(Bug::LaterFlushCounts) {
                break;
            }
            self.durable = flight.last;
            self.flights.remove(0);
        }
        if before < self.durable {
            out(Action::Durable(self.durable));
        }
    }

    /// Cheap facts that hold between any two events.
    fn check(&self) {
        assert!(self.durable < self.end.next, "more is durable than was appended");
        assert!(self.end.at.since(self.tail) <= self.ring.blocks(), "a batch overwrote one that is needed");
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
