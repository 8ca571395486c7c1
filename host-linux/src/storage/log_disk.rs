//! The write log of one holder on one device: the machines of `bulkhead_core::log`, and their space (P4; I1,
//! I2, V1, V13).
//!
//! [`LogDisk::open`] finds out what is there; [`Opened::begin`] starts a run and appends. It is driven by one
//! thread: append, then [`LogDisk::wait`]. What arrives while a batch is on its way to the disk goes into the
//! next one.

use super::buffers::{Payload, Piece};
use super::engine::Engine;
use super::job::{Durably, Fault};
use super::recovery;
use super::space::{News, ReadId, Space, sums};
use crate::cluster::wake::Wake;
use bulkhead_core::id::Epoch;
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::{Header, Sum, Write};
use bulkhead_core::log::keeper::{self, Change, Keeper};
use bulkhead_core::log::marks::Marks;
use bulkhead_core::log::ring::Position;
use bulkhead_core::log::scan::Outcome;
use bulkhead_core::log::superblock::{Fault as Unusable, Superblock, Tail, Uncut};
use bulkhead_core::log::writer::{self, Log, Refusal};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use thiserror::Error;

/// Why a log was not opened, or a run not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unopened {
    /// There is none that can be used.
    #[error("it holds no log that can be used: {0}")]
    Unusable(Unusable),
    /// The disk, or the engine.
    #[error("{0}")]
    Fault(Fault),
    /// It ends too early: what it lost must come from a peer first.
    #[error("writes that were durable are damaged: they must come from a peer first")]
    Damaged,
    /// The superblock refused.
    #[error("{0}")]
    Uncut(Uncut),
}

impl From<Fault> for Unopened {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A log that was read, and not written to yet.
#[derive(Debug)]
pub struct Opened {
    engine: Engine,
    /// The newest superblock.
    pub superblock: Superblock,
    /// How the log ends.
    pub outcome: Outcome,
    marks: Marks,
}

/// What the owner is told.
#[derive(Debug)]
pub enum Event {
    /// Every write up to this one is durable here.
    Durable(Seq),
    /// A change of the superblock is durable: [`LogDisk::superblock`] has it.
    Kept,
    /// A read is done.
    Read(ReadId, Result<Payload, Unread>),
    /// The log has failed: nothing more of it becomes durable until it is opened again (V13). Told once.
    Failed(Fault),
}

/// Why a read brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unread {
    /// The disk, or the engine.
    #[error("{0}")]
    Fault(Fault),
    /// It is not what was written there (F3, F4, F7): a peer has it.
    #[error("its checksum does not fit")]
    Broken,
    /// Too much is under way, or memory is short: ask again after the next event.
    #[error("too much is under way")]
    Busy,
}

/// An open log.
#[derive(Debug)]
pub struct LogDisk {
    space: Space,
    keeper: Keeper,
    log: Log,
    /// Of each write that is in no batch yet, in order.
    payloads: VecDeque<Option<Payload>>,
    reads: BTreeMap<ReadId, Vec<Sum>>,
    events: Vec<Event>,
    news: Vec<News>,
    has_failed: bool,
}

impl LogDisk {
    /// Reads the log on the engine's device; `found` is told of each batch, in order.
    ///
    /// # Errors
    ///
    /// [`Unopened`]. Nothing was written.
    pub fn open(mut engine: Engine, found: &mut dyn FnMut(&Superblock, &Header)) -> Result<Opened, Unopened> {
        let superblock = recovery::front(&mut engine)?.map_err(Unopened::Unusable)?;
        if engine.device().blocks() < superblock.ring.space() {
            return Err(Unopened::Fault(Fault::Ended));
        }
        let mut marks = Marks::new(superblock.ring);
        let outcome = recovery::scan(&mut engine, &superblock, &mut |header| {
            marks.note(Tail { at: header.at, first: header.first, chain: header.chain });
            found(&superblock, header);
        })?;
        Ok(Opened { engine, superblock, outcome, marks })
    }

    /// Appends the next write, with its payload.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: nothing has changed.
    pub fn append(&mut self, epoch: Epoch, write: Write, payload: Option<Payload>) -> Result<Seq, Refusal> {
        let seq = self.log.next();
        let sums: Vec<_> = payload.iter().flat_map(|payload| sums(payload.bytes())).collect();
        // The batch that has this write may be sent at once.
        self.payloads.push_back(payload);
        match self.step(writer::Event::Append { seq, epoch, write, sums: &sums }) {
            Some(refusal) => {
                self.payloads.pop_back();
                Err(refusal)
            }
            None => Ok(seq),
        }
    }

    /// Every write up to this one is durable on all in-sync holders.
    pub fn commit_point(&mut self, seq: Seq) {
        let _ = self.step(writer::Event::CommitPoint(seq));
    }

    /// Promises, durably, to append nothing older than `epoch` (I1). [`Event::Kept`] answers.
    pub fn promise(&mut self, epoch: Epoch) {
        let _ = self.keep(keeper::Event::Want(Change::Promise(epoch)));
    }

    /// Every write up to this one is in the backing store: the log forgets what it can. [`Event::Kept`]
    /// answers.
    pub fn applied(&mut self, applied: Seq) {
        let durable = self.log.durable();
        let applied = applied.min(durable);
        let trim = self.log.marks().before(applied.next());
        let _ = self.keep(keeper::Event::Want(Change::Settle { durable, applied, trim }));
    }

    /// Reads payload from the ring, and compares it with its checksums.
    pub fn read(&mut self, id: ReadId, at: Position, sums: Vec<Sum>) {
        match self.space.read(id, at, sums.len()) {
            Ok(()) => drop(self.reads.insert(id, sums)),
            Err(_busy) => self.events.push(Event::Read(id, Err(Unread::Busy))),
        }
    }

    /// Waits until something happens, or somebody wakes it, so long at most. Returns whether it may have
    /// been woken.
    pub fn wait(&mut self, most: Duration, events: &mut Vec<Event>) -> bool {
        let most = if self.events.is_empty() { most } else { Duration::ZERO };
        let mut news = std::mem::take(&mut self.news);
        let is_woken = self.space.wait(most, &mut news);
        for one in news.drain(..) {
            match one {
                News::Committed(at) => drop(self.step(writer::Event::Committed(at))),
                News::CommitFailed(fault) | News::KeepFailed(fault) => self.fail(fault),
                News::Kept => drop(self.keep(keeper::Event::Written)),
                News::Read(id, result) => self.have_read(id, result),
            }
        }
        self.news = news;
        self.space.send();
        events.append(&mut self.events);
        is_woken
    }

    /// Wakes [`Self::wait`] from any thread.
    pub fn waker(&self) -> Wake {
        self.space.waker()
    }

    /// What reads and writes it.
    pub const fn engine(&self) -> &Engine {
        self.space.engine()
    }

    /// The machine that appends.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// The newest superblock that is durable.
    pub const fn superblock(&self) -> &Superblock {
        self.keeper.kept()
    }

    fn have_read(&mut self, id: ReadId, result: Result<Payload, Fault>) {
        let Some(expected) = self.reads.remove(&id) else { return };
        let checked = match result {
            Ok(payload) if sums(payload.bytes()).eq(expected) => Ok(payload),
            Ok(_) => Err(Unread::Broken),
            Err(fault) => Err(Unread::Fault(fault)),
        };
        self.events.push(Event::Read(id, checked));
    }

    /// Lets the log take one event, and does what it asks for.
    fn step(&mut self, event: writer::Event<'_>) -> Option<Refusal> {
        let Self { space, log, payloads, events, .. } = self;
        let (mut refused, mut fault) = (None, None);
        log.step(event, &mut |action| match action {
            writer::Action::Commit { at, writes: (_, count), header, .. } => {
                let pieces = payloads.drain(..count.min(payloads.len())).flatten();
                let pieces: Vec<Piece> = pieces.map(|payload| payload.piece()).collect();
                if space.commit(at, header, pieces).is_err() {
                    fault = Some(Fault::Busy);
                }
            }
            writer::Action::Durable(seq) => events.push(Event::Durable(seq)),
            writer::Action::Refused(refusal) => refused = Some(refusal),
        });
        if let Some(fault) = fault {
            self.fail(fault);
        }
        refused
    }

    /// Lets the keeper take one event, and does what it asks for.
    fn keep(&mut self, event: keeper::Event) -> Option<Uncut> {
        let (mut uncut, mut tail, mut fault) = (None, None, None);
        let Self { space, keeper, events, .. } = self;
        keeper.step(event, &mut |action| match action {
            keeper::Action::Write { at, block } => {
                if space.keep(at, block).is_err() {
                    fault = Some(Fault::Busy);
                }
            }
            keeper::Action::Kept(kept) => {
                tail = Some(kept.tail);
                events.push(Event::Kept);
            }
            keeper::Action::Refused(why) => uncut = Some(why),
        });
        if let Some(tail) = tail {
            let _ = self.step(writer::Event::Trimmed(tail));
        }
        if let Some(fault) = fault {
            self.fail(fault);
        }
        uncut
    }

    /// A log whose disk failed is finished, its superblock included.
    fn fail(&mut self, fault: Fault) {
        if self.has_failed {
            return;
        }
        self.has_failed = true;
        self.events.push(Event::Failed(fault));
        let _ = self.step(writer::Event::CommitFailed);
        let _ = self.keep(keeper::Event::WriteFailed);
        self.payloads.clear();
    }
}

impl Opened {
    /// Begins a run where the log ends. What is in it was durable; nothing is cut off.
    ///
    /// # Errors
    ///
    /// [`Unopened`].
    pub fn begin(self, durably: Durably) -> Result<LogDisk, Unopened> {
        let Outcome::Whole(end) = self.outcome else { return Err(Unopened::Damaged) };
        let mut space = Space::new(self.engine, self.superblock.ring, durably)?;
        let mut keeper = Keeper::new(self.superblock);
        let mut wanted = Ok(());
        let begin = Change::Begin { end, from: end.next, promise: keeper.kept().promised };
        keeper.step(keeper::Event::Want(begin), &mut |action| match action {
            keeper::Action::Write { at, block } => {
                wanted = space.keep(at, block).map_err(|_busy| Unopened::Fault(Fault::Busy));
            }
            keeper::Action::Refused(why) => wanted = Err(Unopened::Uncut(why)),
            keeper::Action::Kept(_) => {}
        });
        wanted?;
        let mut news = Vec::new();
        while news.is_empty() {
            space.wait(Duration::from_secs(1), &mut news);
        }
        for one in news {
            match one {
                News::KeepFailed(fault) | News::CommitFailed(fault) => return Err(fault.into()),
                News::Kept => keeper.step(keeper::Event::Written, &mut |_kept| {}),
                News::Committed(_) | News::Read(..) => {}
            }
        }
        let log = Log::new(keeper.kept(), end, self.marks);
        let (payloads, reads) = (VecDeque::new(), BTreeMap::new());
        let (events, news) = (Vec::new(), Vec::new());
        Ok(LogDisk { space, keeper, log, payloads, reads, events, news, has_failed: false })
    }
}
