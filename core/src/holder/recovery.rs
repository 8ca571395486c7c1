//! What a holder's log holds after a start: the scan, and what it adds up to (V12, F3, F7).
//!
//! The shell locks the device and flushes it before it reads anything. What an agent that was killed wrote
//! and did not flush can be read, and is not durable; counted on, or beside a superblock that is written over
//! the last durable one, it would be lost with the next power cut.

use crate::log::batch::Header;
use crate::log::marks::Marks;
use crate::log::ring::Ring;
use crate::log::scan::{self, Outcome, Scan};
use crate::log::superblock::{Superblock, Tail};
use crate::log::{End, Seq};
use crate::mirror::history::History;

/// A log that was read to its end.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub(super) superblock: Superblock,
    pub(super) outcome: Outcome,
    pub(super) history: History,
    pub(super) marks: Marks,
}

impl Recovered {
    /// How the log ends.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Its ring.
    pub const fn ring(&self) -> Ring {
        self.superblock.ring
    }
}

/// Reads one log.
#[derive(Clone, Debug)]
pub struct Recovery {
    scan: Scan,
    superblock: Superblock,
    history: History,
    marks: Marks,
}

/// What the machine asks the shell to do.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "no heap to box into; actions are handed out one by one")]
pub enum Action<'a> {
    /// As the scan asks; [`scan::Action::Ended`] never comes.
    Scan(scan::Action<'a>),
    /// There is no more.
    Ended(Recovered),
}

impl Recovery {
    /// Reads the log with this superblock, the newest of a device that was flushed.
    pub fn new(superblock: Superblock) -> Self {
        Self {
            scan: Scan::new(superblock.clone()),
            history: History::new(superblock.tail.first),
            marks: Marks::new(superblock.ring),
            superblock,
        }
    }

    /// Takes one event, and hands what is to be done to `out`, in order.
    pub fn step(&mut self, event: scan::Event<'_>, out: &mut dyn FnMut(Action<'_>)) {
        let Self { scan, superblock, history, marks } = self;
        let mut ended = None;
        scan.step(event, &mut |action| {
            match &action {
                scan::Action::Found(header) => found(header, superblock, history, marks),
                scan::Action::Ended(outcome) => ended = Some(*outcome),
                scan::Action::Read(_) | scan::Action::Check(_) => {}
            }
            if ended.is_none() {
                out(Action::Scan(action));
            }
        });
        if let Some(outcome) = ended {
            let (Outcome::Whole(end) | Outcome::Damaged(end)) = outcome;
            history.cut(end.next);
            // What is void may be of a newer epoch than what counts.
            let end = End { epoch: history.epoch().unwrap_or_default(), ..end };
            let outcome = match outcome {
                Outcome::Whole(_) => Outcome::Whole(end),
                Outcome::Damaged(_) => Outcome::Damaged(end),
            };
            let (superblock, history, marks) = (superblock.clone(), history.clone(), marks.clone());
            out(Action::Ended(Recovered { superblock, outcome, history, marks }));
        }
    }
}

/// Counts the writes of a batch that are not void.
fn found(header: &Header, superblock: &Superblock, history: &mut History, marks: &mut Marks) {
    let last = match superblock.void_from(header.at) {
        Some(from) => header.last().min(from.before()),
        None => header.last(),
    };
    let count = last.next().0.saturating_sub(header.first.0);
    history.append(header.epoch, count);
    // A later batch has the numbers of those that are void.
    marks.cut(header.first);
    if header.first <= last {
        marks.note(Tail { at: header.at, first: header.first, chain: header.chain });
    }
}

/// Whether nothing was ever appended.
pub(super) fn is_unused(history: &History, superblock: &Superblock) -> bool {
    history.next() == Seq(1) && superblock.promised == crate::id::Epoch(0)
}
