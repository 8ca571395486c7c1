//! The space of one log on its device: its superblocks and its ring, and what the machines of the core ask to
//! be done there (V1, V5, V13).
//!
//! It decides nothing. A composer of machines drives it: [`Space::commit`] is what
//! `log::writer::Action::Commit` asks for, [`Space::keep`] what `log::keeper::Action::Write` asks for, and
//! [`News`] are the events that answer them.
//!
//! A batch is one write, or two around the end of the ring, each durable by itself before it is reported: see
//! [`crate::storage::engine`] for what that means. The header and the payload may reach the medium in any
//! order, and half of them: the checksums tell, and nobody was told before.

use super::buffers::{Buffer, Payload, Piece};
use super::engine::Engine;
use super::job::{Done, Durably, Fault, Ticket};
use super::raw::BLOCK;
use crate::cluster::wake::Wake;
use bulkhead_core::log::Block;
use bulkhead_core::log::batch::Sum;
use bulkhead_core::log::ring::{Position, Ring};
use bulkhead_core::log::writer::FLIGHTS_MAX;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a composer's reader calls its read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What happened.
#[derive(Debug)]
pub enum News {
    /// The batch that begins here is durable.
    Committed(Position),
    /// A batch is not, and nobody knows what is in its place: the log has failed (V13).
    CommitFailed(Fault),
    /// The superblock is durable.
    Kept,
    /// It is not, and nobody knows which one is there: the log has failed (V13).
    KeepFailed(Fault),
    /// What was asked for was read; whether it is what was written, its checksums tell.
    Read(ReadId, Result<Payload, Fault>),
}

/// CRC-32C by the processor's instruction; the same as `bulkhead_core::crc::crc32c`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}

/// The checksums of blocks of payload.
pub fn sums(bytes: &[u8]) -> impl ExactSizeIterator<Item = Sum> + '_ {
    bytes.chunks(BLOCK).map(|block| Sum(crc32c(block)))
}

/// What cannot be begun now. Exit: some [`News`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// The space of one log.
#[derive(Debug)]
pub struct Space {
    engine: Engine,
    ring: Ring,
    durably: Durably,
    /// Memory for headers and superblocks, set apart: a full pool stops no commit.
    spare: Vec<Buffer>,
    jobs: BTreeMap<Ticket, Job>,
    next: u64,
    /// Headers under way, and how many of their writes are: by position.
    commits: BTreeMap<Position, Commit>,
    done: Vec<Done>,
    has_failed: bool,
}

#[derive(Debug)]
enum Job {
    Commit(Position),
    Keep(Payload),
    Read(Read),
}

#[derive(Debug)]
struct Read {
    id: ReadId,
    /// What of it is read already.
    parts: Vec<Payload>,
    /// The device's blocks of the rest.
    rest: Option<(u64, usize)>,
}

#[derive(Debug)]
struct Commit {
    header: Payload,
    writes: usize,
}

/// Headers of the batches that a log has under way, and a superblock.
pub const SPARE_BLOCKS: usize = FLIGHTS_MAX + 1;

/// How long a wait for a ring that has failed takes at most.
const FAILED_TURN: Duration = Duration::from_millis(100);

/// Jobs that reads leave to batches, each around the end of the ring, and a superblock.
const RESERVED: usize = FLIGHTS_MAX * 2 + 1;

impl Space {
    /// The space of a log with this ring, on the engine's device.
    ///
    /// # Errors
    ///
    /// The device is too small, or the pool has not [`SPARE_BLOCKS`] to set apart.
    pub fn new(engine: Engine, ring: Ring, durably: Durably) -> Result<Self, Fault> {
        if engine.device().blocks() < ring.space() {
            return Err(Fault::Ended);
        }
        let spare: Vec<_> = (0..SPARE_BLOCKS).map_while(|_| engine.pool().take(1)).collect();
        if spare.len() != SPARE_BLOCKS {
            return Err(Fault::Busy);
        }
        let (jobs, commits, done) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Ok(Self { engine, ring, durably, spare, jobs, next: 0, commits, done, has_failed: false })
    }

    /// What reads and writes it.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its ring.
    pub const fn ring(&self) -> Ring {
        self.ring
    }

    /// Wakes [`Self::wait`] from any thread.
    pub fn waker(&self) -> Wake {
        self.engine.waker()
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.engine.under_way() == 0
    }

    /// Writes a batch, durably: its header, and `payload` behind it.
    ///
    /// # Errors
    ///
    /// [`Busy`]: the machine has more under way than it may.
    pub fn commit(&mut self, at: Position, header: &Block, payload: Vec<Piece>) -> Result<(), Busy> {
        if self.engine.room() < 2 {
            return Err(Busy);
        }
        let header = self.block(header).ok_or(Busy)?;
        let mut rest = vec![header.piece()];
        rest.extend(payload);
        let blocks: usize = rest.iter().map(Piece::blocks).sum();
        let mut writes = 0_usize;
        for extent in self.ring.extents(at, u64::try_from(blocks).unwrap_or(u64::MAX)) {
            let (pieces, behind) = cut(rest, usize::try_from(extent.blocks).unwrap_or(usize::MAX));
            rest = behind;
            let ticket = self.ticket(Job::Commit(at));
            self.engine.write(ticket, extent.first, pieces, self.durably);
            writes = writes.saturating_add(1);
        }
        self.commits.insert(at, Commit { header, writes });
        Ok(())
    }

    /// Writes a superblock over this copy, durably.
    ///
    /// # Errors
    ///
    /// [`Busy`]: another one is under way.
    pub fn keep(&mut self, copy: u64, superblock: &Block) -> Result<(), Busy> {
        if self.engine.room() == 0 {
            return Err(Busy);
        }
        let payload = self.block(superblock).ok_or(Busy)?;
        let pieces = vec![payload.piece()];
        let ticket = self.ticket(Job::Keep(payload));
        self.engine.write(ticket, copy, pieces, self.durably);
        Ok(())
    }

    /// Reads so many blocks from `at` on into memory from the pool.
    ///
    /// # Errors
    ///
    /// [`Busy`]: too much is under way.
    pub fn read(&mut self, id: ReadId, at: Position, blocks: usize) -> Result<(), Busy> {
        if self.engine.room() <= RESERVED {
            return Err(Busy);
        }
        let count = u64::try_from(blocks).unwrap_or(u64::MAX);
        let mut extents = self.ring.extents(at, count);
        let place = |(first, blocks): (u64, u64)| (first, usize::try_from(blocks).unwrap_or(usize::MAX));
        let first = extents.next().map(|extent| place((extent.first, extent.blocks))).ok_or(Busy)?;
        let rest = extents.next().map(|extent| place((extent.first, extent.blocks)));
        let memory = self.engine.pool().take(first.1).ok_or(Busy)?;
        let ticket = self.ticket(Job::Read(Read { id, parts: Vec::new(), rest }));
        self.engine.read(ticket, first.0, memory);
        Ok(())
    }

    /// Sends what was asked for now, and not with the next [`Self::wait`].
    pub fn send(&mut self) {
        if self.engine.send().is_err() {
            self.has_failed = true;
        }
    }

    /// Waits for news, or for somebody to wake it, so long at most. Returns whether it may have been woken.
    pub fn wait(&mut self, most: Duration, news: &mut Vec<News>) -> bool {
        let mut done = std::mem::take(&mut self.done);
        let waited = if self.has_failed {
            // Nobody learns anything more from it; its owner is not to run in circles.
            std::thread::sleep(most.min(FAILED_TURN));
            Ok(true)
        } else {
            self.engine.wait(most, &mut done)
        };
        for one in done.drain(..) {
            self.look_at(one, news);
        }
        self.done = done;
        waited.unwrap_or_else(|_| {
            self.has_failed = true;
            news.push(News::CommitFailed(Fault::Engine));
            news.push(News::KeepFailed(Fault::Engine));
            true
        })
    }

    fn look_at(&mut self, done: Done, news: &mut Vec<News>) {
        let (ticket, memory, result) = match done {
            Done::Wrote(ticket, result) | Done::Flushed(ticket, result) => (ticket, None, result),
            Done::Read(ticket, memory, result) => (ticket, Some(memory), result),
        };
        match self.jobs.remove(&ticket) {
            Some(Job::Commit(at)) => self.committed(at, result, news),
            Some(Job::Keep(payload)) => {
                self.spare.extend(payload.reuse());
                news.push(result.map_or_else(News::KeepFailed, |()| News::Kept));
            }
            Some(Job::Read(read)) => self.have_read(read, memory, result, news),
            None => {}
        }
    }

    fn committed(&mut self, at: Position, result: Result<(), Fault>, news: &mut Vec<News>) {
        if let Err(fault) = result {
            news.push(News::CommitFailed(fault));
        }
        let Some(commit) = self.commits.get_mut(&at) else { return };
        commit.writes = commit.writes.saturating_sub(1);
        if result.is_ok() && commit.writes != 0 {
            return;
        }
        if let Some(Commit { header, .. }) = self.commits.remove(&at) {
            // A header whose other write is still under way is not used again: that log has failed.
            self.spare.extend(header.reuse());
        }
        if result.is_ok() {
            news.push(News::Committed(at));
        }
    }

    fn have_read(
        &mut self,
        mut read: Read,
        memory: Option<Buffer>,
        result: Result<(), Fault>,
        news: &mut Vec<News>,
    ) {
        let Some(memory) = memory else { return };
        if let Err(fault) = result {
            news.push(News::Read(read.id, Err(fault)));
            return;
        }
        read.parts.push(memory.keep());
        if let Some((first, blocks)) = read.rest.take() {
            let Some(memory) = self.engine.pool().take(blocks) else {
                news.push(News::Read(read.id, Err(Fault::Busy)));
                return;
            };
            let ticket = self.ticket(Job::Read(read));
            self.engine.read(ticket, first, memory);
            self.send();
            return;
        }
        let id = read.id;
        let whole = join(self.engine.pool(), read.parts).ok_or(Fault::Busy);
        news.push(News::Read(id, whole));
    }

    fn ticket(&mut self, job: Job) -> Ticket {
        self.next = self.next.wrapping_add(1);
        let ticket = Ticket(self.next);
        self.jobs.insert(ticket, job);
        ticket
    }

    fn block(&mut self, block: &Block) -> Option<Payload> {
        let mut buffer = self.spare.pop()?;
        buffer.bytes_mut().copy_from_slice(block);
        Some(buffer.keep())
    }
}

/// The first `blocks` of pieces, and the rest.
fn cut(pieces: Vec<Piece>, blocks: usize) -> (Vec<Piece>, Vec<Piece>) {
    let (mut head, mut tail, mut left) = (Vec::new(), Vec::new(), blocks);
    for piece in pieces {
        let (one, other) = piece.split(left);
        left = left.saturating_sub(one.blocks());
        head.extend((one.blocks() != 0).then_some(one));
        tail.extend((other.blocks() != 0).then_some(other));
    }
    (head, tail)
}

/// What lies around the end of the ring, in one piece: the only copy that is made here.
fn join(pool: &super::buffers::Pool, mut parts: Vec<Payload>) -> Option<Payload> {
    if parts.len() <= 1 {
        return parts.pop();
    }
    let mut whole = pool.take(parts.iter().map(Payload::blocks).sum())?;
    let mut rest = whole.bytes_mut();
    for part in &parts {
        let (here, behind) = rest.split_at_mut_checked(part.bytes().len())?;
        here.copy_from_slice(part.bytes());
        rest = behind;
    }
    Some(whole.keep())
}
