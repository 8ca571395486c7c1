//! What a log holds after a power cut: reads it from its tail to its end, and tells a torn tail from damage
//! (V5, V12; F1 to F4, F7).
//!
//! The shell reads what it is asked for and answers; the machine hands out each batch that is whole, in
//! order, once it is known to be. It changes nothing: the same log gives the same answer, as often as it is
//! asked.

use heapless::Deque;

use super::batch::{BATCH_MAX, Header};
use super::ring::Position;
use super::superblock::Superblock;
use super::writer::FLIGHTS_MAX;
use super::{Block, End, Seq};
use crate::bug::{Bug, is_planted};
use crate::id::Epoch;

/// What the shell tells the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Begin. The answer to a repeated one is the question that is open.
    Begin,
    /// The block that [`Action::Read`] asked for; `None` when the disk cannot read it (F10).
    Block(Option<&'a Block>),
    /// How the payload is that [`Action::Check`] asked for.
    Payload(Payload),
}

/// What the shell found behind a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Every block has the checksum that the header names.
    Whole,
    /// One has not.
    Broken,
    /// The disk cannot read one.
    Unreadable,
}

/// What the machine asks the shell to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Read the block at this position, and report [`Event::Block`].
    Read(Position),
    /// Read the payload of the batch with this header, compare it with the header's checksums, and report
    /// [`Event::Payload`].
    Check(&'a Header),
    /// This batch is in the log. Its writes count, but for those that [`Superblock::is_void`] names.
    Found(&'a Header),
    /// There is no more. Nothing is asked after this.
    Ended(Outcome),
}

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was durable is there.
    Whole(End),
    /// The write after these was durable, or nobody can tell, because the disk cannot read it. What was found
    /// before counts; the rest comes from a peer, or is lost (V6). It is never skipped.
    Damaged(End),
}

/// The machine's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It follows headers. Exit: one that is not the next.
    Following,
    /// It checks the payload of the batches that no header calls durable. Exit: the last of them, or one that
    /// is not whole.
    Checking,
    /// It looks behind the end for a proof that something is lost. Exit: a proof, or the last block in which
    /// one can be.
    Searching {
        /// The block that is looked at.
        at: Position,
    },
    /// It has said how the log ends. Final.
    Ended,
}

/// Batches that no header calls durable at most: those on their way when the power went.
const UNPROVEN_MAX: usize = FLIGHTS_MAX;

/// Blocks behind the end in which a batch that was sent after the missing ones must begin: the missing ones
/// were on their way together, or are damaged, one beside the other.
const SEARCH: u64 = BATCH_MAX * 2 * (FLIGHTS_MAX as u64 + 1);

/// Reads one log.
#[derive(Clone, Debug)]
pub struct Scan {
    superblock: Superblock,
    mode: Mode,
    /// Where the next header is expected, and what it must say.
    end: End,
    /// The run of the newest batch that was followed.
    run: u64,
    /// Followed, and not handed out yet. Invariant: each follows the one before it, up to `end`.
    unproven: Deque<Unproven, UNPROVEN_MAX>,
    /// Every write up to this one was durable, as the headers say that were followed.
    durable: Seq,
    /// Whether the disk could not read what ends the log.
    is_unreadable: bool,
    /// Whether what ends the log is of a run that the superblock does not know.
    is_outrun: bool,
}

#[derive(Clone, Debug)]
struct Unproven {
    header: Header,
    /// The end of the log, if it is none of it.
    before: End,
}

impl Scan {
    /// A scan of the log with this superblock, the newest one that is durable.
    pub fn new(superblock: Superblock) -> Self {
        let tail = superblock.tail;
        let end = End {
            at: tail.at,
            next: tail.first,
            chain: tail.chain,
            epoch: Epoch(0),
            commit: superblock.applied,
        };
        let (durable, unproven) = (Seq(0), Deque::new());
        Self {
            superblock,
            mode: Mode::Following,
            end,
            run: 0,
            unproven,
            durable,
            is_unreadable: false,
            is_outrun: false,
        }
    }

    /// The current mode.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Takes one event, and hands what is to be done to `out`, in order. It ends with one question, or with
    /// [`Action::Ended`].
    pub fn step(&mut self, event: Event<'_>, out: &mut dyn FnMut(Action<'_>)) {
        match (self.mode, event) {
            (Mode::Following, Event::Block(block)) => {
                let found = block.and_then(Header::parse);
                self.is_outrun = found.as_ref().is_some_and(|(header, _)| self.outruns(header));
                let next = found.filter(|(header, _)| self.follows(header));
                self.is_unreadable = block.is_none();
                match next {
                    Some((header, chain)) => self.follow(header, chain, out),
                    None => self.mode = Mode::Checking,
                }
            }
            (Mode::Checking, Event::Payload(Payload::Whole)) => self.hand_out(out),
            (Mode::Checking, Event::Payload(Payload::Broken)) if is_planted(Bug::TornCounts) => {
                self.hand_out(out);
            }
            (Mode::Checking, Event::Payload(payload)) => {
                // The log ends before this batch, and what follows it is nothing without it.
                if let Some(one) = self.unproven.pop_front() {
                    self.end = one.before;
                }
                self.unproven.clear();
                self.is_unreadable = payload == Payload::Unreadable;
            }
            (Mode::Searching { at }, Event::Block(block)) => {
                match block.and_then(Header::parse).filter(|(header, _)| self.proves(header, at)) {
                    Some(_) => return self.finish(true, out),
                    None => self.mode = Mode::Searching { at: at.after(1) },
                }
            }
            (Mode::Ended, Event::Begin | Event::Block(_) | Event::Payload(_)) => return,
            // Answers to no question that was asked.
            (Mode::Following | Mode::Searching { .. }, Event::Begin | Event::Payload(_))
            | (Mode::Checking, Event::Begin | Event::Block(_)) => {}
        }
        self.ask(out);
    }

    /// Asks for what the mode waits for, or goes on to the next mode.
    fn ask(&mut self, out: &mut dyn FnMut(Action<'_>)) {
        match (self.mode, self.unproven.front()) {
            (Mode::Following, _) if self.superblock.ring.blocks() <= self.end.at.since(self.tail()) => {
                // The ring is full: there is no next header.
                self.mode = Mode::Checking;
                self.ask(out);
            }
            (Mode::Following, _) => out(Action::Read(self.end.at)),
            (Mode::Checking, Some(one)) => out(Action::Check(&one.header)),
            (Mode::Checking, None) if self.is_lost() || self.is_outrun => self.finish(true, out),
            (Mode::Checking, None) => {
                self.mode = Mode::Searching { at: self.end.at.after(1) };
                self.ask(out);
            }
            (Mode::Searching { at }, _) if at < self.search_end() => out(Action::Read(at)),
            (Mode::Searching { .. }, _) => self.finish(false, out),
            (Mode::Ended, _) => {}
        }
    }

    /// Whether `header` is the next of this log.
    fn follows(&self, header: &Header) -> bool {
        let End { at, chain, next, .. } = self.end;
        let is_next = (header.at, header.chain, header.first) == (at, chain, next);
        let newest = self.superblock.run;
        let runs = match newest.at <= at {
            true => header.run == newest.number,
            false => self.run <= header.run && header.run < newest.number,
        };
        let in_ring = header.end().since(self.tail()) <= self.superblock.ring.blocks();
        // No writer is so far ahead of what is durable.
        let is_known = |one: &Unproven| self.is_proven(one, header.durable);
        let in_reach = !self.unproven.is_full() || self.unproven.front().is_some_and(is_known);
        is_next && runs && in_ring && in_reach && header.is_of(&self.superblock.identity)
    }

    /// Whether the payload of `one` needs no check: it was durable before a later header was made, or an
    /// earlier start has checked it.
    fn is_proven(&self, one: &Unproven, durable: Seq) -> bool {
        let last = one.header.last();
        last <= durable || last <= self.known_durable() || one.header.end() <= self.superblock.run.at
    }

    fn follow(&mut self, header: Header, chain: u32, out: &mut dyn FnMut(Action<'_>)) {
        self.durable = self.durable.max(header.durable);
        while self.unproven.front().is_some_and(|one| self.is_proven(one, header.durable)) {
            self.hand_out(out);
        }
        self.run = header.run;
        let before = self.end;
        self.end = End {
            at: header.end(),
            next: header.last().next(),
            chain,
            epoch: before.epoch.max(header.epoch),
            commit: before.commit.max(header.commit),
        };
        // `follows` asked for room.
        let _ = self.unproven.push_back(Unproven { header, before });
        self.cut(|cut_at, end_at| cut_at == end_at);
    }

    /// Takes back the writes that were cut off here: the next one has the number of the first of them.
    fn cut(&mut self, is_here: impl Fn(Position, Position) -> bool) {
        let here = self.superblock.cuts.iter().filter(|cut| is_here(cut.at, self.end.at));
        if let Some(from) = here.map(|cut| cut.from).min() {
            self.end.next = self.end.next.min(from);
            self.end.commit = self.end.commit.min(from.before());
            self.durable = self.durable.min(from.before());
        }
    }

    fn hand_out(&mut self, out: &mut dyn FnMut(Action<'_>)) {
        if let Some(one) = self.unproven.pop_front() {
            out(Action::Found(&one.header));
        }
    }

    /// Every write up to this one was durable. The superblock says it of what counts, whatever was cut off
    /// before; a header, only up to the next cut.
    fn known_durable(&self) -> Seq {
        self.durable.max(self.superblock.durable).max(self.superblock.applied)
    }

    /// Whether what is missing was durable, or may have been.
    fn is_lost(&self) -> bool {
        self.is_unreadable || self.end.next <= self.known_durable() || self.end.at < self.superblock.run.at
    }

    /// Whether `header` is of a newer run than the superblock's. That run was durable there before anything
    /// was appended under it, so this is not the newest superblock: its copy is lost, and with it who knows
    /// what (F8).
    fn outruns(&self, header: &Header) -> bool {
        let is_here = header.at == self.end.at && header.is_of(&self.superblock.identity);
        is_here && self.superblock.run.number < header.run
    }

    /// Whether a header found at `at` proves that the write at the end was durable.
    fn proves(&self, header: &Header, at: Position) -> bool {
        header.at == at
            && header.run == self.superblock.run.number
            && self.end.next <= header.durable
            && header.is_of(&self.superblock.identity)
    }

    fn search_end(&self) -> Position {
        let ring_end = self.tail().after(self.superblock.ring.blocks());
        self.end.at.after(SEARCH).min(ring_end)
    }

    const fn tail(&self) -> Position {
        self.superblock.tail.at
    }

    fn finish(&mut self, is_lost: bool, out: &mut dyn FnMut(Action<'_>)) {
        self.mode = Mode::Ended;
        let is_lost = is_lost && !is_planted(Bug::DamageIsTorn);
        if is_lost {
            // What was cut off further on is void here, too.
            self.cut(|cut_at, end_at| end_at < cut_at);
        }
        out(Action::Ended(if is_lost { Outcome::Damaged(self.end) } else { Outcome::Whole(self.end) }));
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
