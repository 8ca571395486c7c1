//! Makes a log on a device, and finds out what one holds after a stop or a power cut (V5, V12; F1 to F4, F7,
//! F16).
//!
//! The scan of the core asks for one header after the other. Here the device is read ahead in large pieces,
//! several at a time, so that a log of many small batches is read about as fast as the device reads.

use super::buffers::Buffer;
use super::engine::Engine;
use super::job::{Done, Durably, Fault, Ticket};
use super::raw::BLOCK;
use super::space::sums;
use bulkhead_core::holder::recovery::{self as holder, Recovered, Recovery};
use bulkhead_core::log::Block;
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::{Header, Sum};
use bulkhead_core::log::ring::{Extent, Position, RING_AT, Ring};
use bulkhead_core::log::scan::{Action, Event, Outcome, Payload, Scan};
use bulkhead_core::log::superblock::{self, Identity, Superblock, copy_of};
use std::collections::VecDeque;
use std::time::Duration;

/// Blocks that are read at once: 512 KiB.
const CHUNK: u64 = 128;
/// Pieces that are read ahead.
const AHEAD: usize = 8;
/// Blocks that are written at once while a log is made.
const FILL: usize = 256;
/// Pieces that are under way then.
const FILLS: usize = 4;
/// What a new ring is full of: no zeroes, so that nothing below takes them for a hole.
const UNUSED: u8 = 0x55;
/// Blocks of memory that making or reading a log takes at most.
pub const MEMORY_BLOCKS: usize = 1024;

const _: () = assert!(FILL * FILLS <= MEMORY_BLOCKS, "enough to fill");
/// How long one answer of the engine is waited for, again and again.
const TURN: Duration = Duration::from_secs(1);

/// Makes a log that holds nothing. Its whole ring is written, so that no later write needs room, or a change
/// of the file's own structures, to be durable. `progress` is told how many of its blocks are written.
///
/// Until this returns there is no log: a cut leaves none, and what was there before is gone.
///
/// # Errors
///
/// The device is too small, has no room, or fails.
pub fn format(
    engine: &mut Engine,
    identity: Identity,
    ring: Ring,
    first: Seq,
    progress: &mut dyn FnMut(u64),
) -> Result<Superblock, Fault> {
    if engine.device().blocks() < ring.space() {
        return Err(Fault::Ended);
    }
    let superblock = Superblock::new(identity, ring, first);
    let mut blank = engine.pool().take(usize::try_from(RING_AT).unwrap_or(0)).ok_or(Fault::Busy)?;
    blank.bytes_mut().fill(0);
    write(engine, 0, blank)?;
    fill(engine, ring, progress)?;
    engine.flush(Ticket(0));
    one(engine)?;
    let mut block = engine.pool().take(1).ok_or(Fault::Busy)?;
    block.bytes_mut().copy_from_slice(&superblock.encode());
    write(engine, copy_of(superblock.seq), block)?;
    Ok(superblock)
}

fn fill(engine: &mut Engine, ring: Ring, progress: &mut dyn FnMut(u64)) -> Result<(), Fault> {
    let mut unused = engine.pool().take(FILL).ok_or(Fault::Busy)?;
    unused.bytes_mut().fill(UNUSED);
    let unused = unused.keep().piece();
    let (mut next, mut written, mut done) = (RING_AT, 0_u64, Vec::new());
    while written < ring.blocks() {
        while next < ring.space() && engine.under_way() < FILLS {
            let left = usize::try_from(ring.space().saturating_sub(next)).unwrap_or(usize::MAX);
            let (piece, _) = unused.split(left);
            let blocks = u64::try_from(piece.blocks()).unwrap_or(u64::MAX);
            // The ticket says how many blocks it is.
            engine.write(Ticket(blocks), next, vec![piece], Durably::No);
            next = next.saturating_add(blocks);
        }
        wait(engine, &mut done)?;
        for one in done.drain(..) {
            if let Done::Wrote(Ticket(blocks), result) = one {
                result?;
                written = written.saturating_add(blocks);
            }
        }
        progress(written);
    }
    Ok(())
}

fn write(engine: &mut Engine, at: u64, memory: Buffer) -> Result<(), Fault> {
    engine.write(Ticket(0), at, vec![memory.keep().piece()], Durably::default());
    one(engine).map(|_| ())
}

/// The answer to the only job under way.
fn one(engine: &mut Engine) -> Result<Option<Buffer>, Fault> {
    let mut done = Vec::new();
    while done.is_empty() {
        wait(engine, &mut done)?;
    }
    match done.pop() {
        Some(Done::Read(_, memory, result)) => result.map(|()| Some(memory)),
        Some(Done::Wrote(_, result) | Done::Flushed(_, result)) => result.map(|()| None),
        None => Err(Fault::Engine),
    }
}

fn wait(engine: &mut Engine, done: &mut Vec<Done>) -> Result<(), Fault> {
    engine.wait(TURN, done).map(|_| ()).map_err(|_| Fault::Engine)
}

fn read(engine: &mut Engine, extent: Extent) -> Result<Buffer, Fault> {
    let memory =
        engine.pool().take(usize::try_from(extent.blocks).unwrap_or(usize::MAX)).ok_or(Fault::Busy)?;
    engine.read(Ticket(0), extent.first, memory);
    one(engine)?.ok_or(Fault::Engine)
}

/// Reads the superblocks: the newest state of a log, or why there is none that can be used.
///
/// # Errors
///
/// The device fails on both. One that cannot be read counts as damaged.
pub fn front(engine: &mut Engine) -> Result<Result<Superblock, superblock::Fault>, Fault> {
    let mut faults = Vec::new();
    let copies = [0, 1].map(|first| match read(engine, Extent { first, blocks: 1 }) {
        Ok(memory) => block(&memory, 0).map_or(Err(superblock::Fault::Damaged), Superblock::parse),
        Err(fault) => {
            faults.push(fault);
            Err(superblock::Fault::Damaged)
        }
    });
    match (faults.as_slice(), superblock::newest(copies)) {
        ([_, fault, ..], Err(_)) => Err(*fault),
        (_, newest) => Ok(newest),
    }
}

/// Reads the log of this superblock, and hands each batch that is in it to `found`, in order. Changes
/// nothing. What it finds is durable: the device was flushed when it was opened.
///
/// # Errors
///
/// The engine itself failed, or has too little memory. What the disk cannot read is an [`Outcome`].
pub fn scan(
    engine: &mut Engine,
    superblock: &Superblock,
    found: &mut dyn FnMut(&Header),
) -> Result<Outcome, Fault> {
    let mut scan = Scan::new(superblock.clone());
    follow(engine, superblock, &mut |event| ask(&mut scan, event, found))
}

/// Reads the log of this superblock for its holder. Changes nothing, as [`scan`].
///
/// # Errors
///
/// As for [`scan`].
pub fn recover(engine: &mut Engine, superblock: &Superblock) -> Result<Recovered, Fault> {
    let mut recovery = Recovery::new(superblock.clone());
    follow(engine, superblock, &mut |event| {
        let mut question = None;
        recovery.step(event, &mut |action| match action {
            holder::Action::Scan(Action::Read(at)) => question = Some(Question::Read(at)),
            holder::Action::Scan(Action::Check(header)) => question = Some(Question::check(header)),
            // Its machine has counted it; it never says the other.
            holder::Action::Scan(Action::Found(_) | Action::Ended(_)) => {}
            holder::Action::Ended(recovered) => question = Some(Question::Ended(recovered)),
        });
        sole(question)
    })
}

/// Answers the questions of whoever reads this log, until there is no more.
fn follow<T>(
    engine: &mut Engine,
    superblock: &Superblock,
    step: &mut dyn FnMut(Event<'_>) -> Question<T>,
) -> Result<T, Fault> {
    let ring = superblock.ring;
    let limit = superblock.tail.at.after(ring.blocks());
    let mut ahead = Ahead { ring, limit, chunks: VecDeque::new(), next: superblock.tail.at, serial: 1 };
    let mut question = step(Event::Begin);
    loop {
        question = match question {
            Question::Ended(end) => {
                ahead.settle(engine)?;
                return Ok(end);
            }
            Question::Read(at) => {
                let block = ahead.block(engine, at)?;
                step(Event::Block(block))
            }
            Question::Check(at, sums) => {
                ahead.settle(engine)?;
                let payload = check(engine, ring, at, &sums)?;
                step(Event::Payload(payload))
            }
        };
    }
}

enum Question<T> {
    Read(Position),
    Check(Position, Vec<Sum>),
    Ended(T),
}

impl<T> Question<T> {
    fn check(header: &Header) -> Self {
        Self::Check(header.at.after(1), header.content.sums().to_vec())
    }
}

fn ask(scan: &mut Scan, event: Event<'_>, found: &mut dyn FnMut(&Header)) -> Question<Outcome> {
    let mut question = None;
    scan.step(event, &mut |action| match action {
        Action::Read(at) => question = Some(Question::Read(at)),
        Action::Check(header) => question = Some(Question::check(header)),
        Action::Found(header) => found(header),
        Action::Ended(outcome) => question = Some(Question::Ended(outcome)),
    });
    sole(question)
}

fn sole<T>(question: Option<Question<T>>) -> Question<T> {
    #[expect(clippy::expect_used, reason = "`Scan::step` promises it; a scan that asks nothing is our fault")]
    question.expect("a step of a scan ends with one question")
}

/// Compares payload with its checksums.
fn check(engine: &mut Engine, ring: Ring, at: Position, expected: &[Sum]) -> Result<Payload, Fault> {
    let mut rest = expected;
    for extent in ring.extents(at, u64::try_from(expected.len()).unwrap_or(u64::MAX)) {
        let memory = match read(engine, extent) {
            Ok(memory) => memory,
            Err(Fault::Device(_) | Fault::Ended) => return Ok(Payload::Unreadable),
            Err(fault) => return Err(fault),
        };
        let (here, behind) = rest.split_at_checked(memory.blocks()).unwrap_or((rest, &[]));
        if !sums(memory.bytes()).eq(here.iter().copied()) {
            return Ok(Payload::Broken);
        }
        rest = behind;
    }
    Ok(Payload::Whole)
}

/// Reads a log ahead of whoever follows its headers.
struct Ahead {
    ring: Ring,
    /// Behind it begins the log again.
    limit: Position,
    /// Read or asked for, in order, without a gap.
    chunks: VecDeque<Chunk>,
    /// What is asked for next.
    next: Position,
    serial: u64,
}

struct Chunk {
    serial: u64,
    at: Position,
    blocks: u64,
    state: State,
}

enum State {
    Asked,
    There(Buffer),
    Unreadable,
}

impl Ahead {
    /// The block at a position; `None` when the disk cannot read it.
    fn block(&mut self, engine: &mut Engine, at: Position) -> Result<Option<&Block>, Fault> {
        while self.chunks.front().is_some_and(|chunk| chunk.at.after(chunk.blocks) <= at) {
            // One that is still under way is answered later, to nobody.
            let _ = self.chunks.pop_front();
        }
        if self.chunks.front().is_none_or(|chunk| at < chunk.at) {
            self.chunks.clear();
            self.next = at;
        }
        self.ask(engine);
        // Without one, what was asked for elsewhere has the memory still.
        while self.chunks.front().is_none_or(|chunk| matches!(chunk.state, State::Asked)) {
            if engine.under_way() == 0 {
                return Err(Fault::Busy);
            }
            self.wait(engine)?;
            self.ask(engine);
        }
        let is_unreadable = self.chunks.front().is_some_and(|chunk| matches!(chunk.state, State::Unreadable));
        if is_unreadable {
            // Perhaps only one block of it is, and not this one.
            self.settle(engine)?;
            self.chunks.clear();
            let Some(extent) = self.ring.extents(at, 1).next() else { return Ok(None) };
            self.next = at.after(1);
            let state = read(engine, extent).map_or(State::Unreadable, State::There);
            self.chunks.push_back(Chunk { serial: 0, at, blocks: 1, state });
        }
        Ok(self.chunks.front().and_then(|chunk| match &chunk.state {
            State::There(memory) => block(memory, usize::try_from(at.since(chunk.at)).ok()?),
            State::Asked | State::Unreadable => None,
        }))
    }

    fn ask(&mut self, engine: &mut Engine) {
        while self.chunks.len() < AHEAD && self.next < self.limit && engine.under_way() < 2 * AHEAD {
            let blocks = CHUNK.min(self.limit.since(self.next));
            let Some(extent) = self.ring.extents(self.next, blocks).next() else { return };
            let Some(memory) = engine.pool().take(usize::try_from(extent.blocks).unwrap_or(0)) else {
                return;
            };
            engine.read(Ticket(self.serial), extent.first, memory);
            let chunk =
                Chunk { serial: self.serial, at: self.next, blocks: extent.blocks, state: State::Asked };
            self.chunks.push_back(chunk);
            self.serial = self.serial.saturating_add(1);
            self.next = self.next.after(extent.blocks);
        }
    }

    fn wait(&mut self, engine: &mut Engine) -> Result<(), Fault> {
        let mut done = Vec::new();
        wait(engine, &mut done)?;
        for one in done {
            let Done::Read(Ticket(serial), memory, result) = one else { continue };
            if result == Err(Fault::Engine) || result == Err(Fault::Busy) {
                result?;
            }
            if let Some(chunk) = self.chunks.iter_mut().find(|chunk| chunk.serial == serial) {
                chunk.state = if result.is_ok() { State::There(memory) } else { State::Unreadable };
            }
        }
        Ok(())
    }

    /// Until nothing is under way.
    fn settle(&mut self, engine: &mut Engine) -> Result<(), Fault> {
        while engine.under_way() != 0 {
            self.wait(engine)?;
        }
        Ok(())
    }
}

fn block(memory: &Buffer, number: usize) -> Option<&Block> {
    memory.bytes().chunks_exact(BLOCK).nth(number)?.try_into().ok()
}
