//! Guests' reads and questions: from what is dirty, in memory or in the log, else from the backing store;
//! answered only while the lease holds (I5, I12, V5; F7, F19).
//!
//! What a cache has, this node's own or that of the system, is answered at once, by the thread that asks.
//! Threads of their own wait for disks.

use super::backing::How;
use super::dirty::{Found, Part};
use super::given::Given;
use super::handle::{Shared, Told, length, lock, not_here, said};
use super::mends::heal;
use super::status::status;
use super::store::Damaged;
use crate::nbd::export::{Content, Errno, Failed, Piece, Reply};
use bulkhead_core::cache::index::Place;
use bulkhead_core::id::Epoch;
use bulkhead_core::log::BLOCK_LEN;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::time::Instant;
use std::collections::VecDeque;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

/// Threads that wait for disks: so many reads at the disk at once.
pub(super) const THREADS: usize = 8;
/// How often a read begins anew because the store has meanwhile what the log had.
const AGAIN: usize = 1000;

/// A read of a guest.
#[derive(Debug)]
pub struct Read {
    /// The volume.
    pub volume: Volume,
    /// Its first block.
    pub first: u64,
    /// How many.
    pub blocks: u64,
    /// What about them.
    pub wanted: Wanted,
    /// When it was asked for.
    pub began: Instant,
    /// Who waits for it.
    pub reply: Reply,
}

/// What is wanted of some blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Their content.
    Content,
    /// Which of them are zero, in so many extents at most.
    Status(usize),
    /// That a read of them will not wait for the disk.
    Nearness,
}

/// The threads. They end with their owner.
#[derive(Debug)]
pub struct Readers(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

/// Something that may wait for a disk.
type Job = Box<dyn FnOnce(&Shared) + Send>;

#[derive(Default)]
struct State {
    waiting: VecDeque<(Weak<Shared>, Job)>,
    over: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Readers {
    /// Begins.
    ///
    /// # Errors
    ///
    /// There are no threads.
    pub fn start() -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        for _ in 0..THREADS {
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new().name("volume-read".into()).stack_size(256 << 10);
            thread.spawn(move || run(&queue))?;
        }
        Ok(Self(queue))
    }

    /// Answers a read under this epoch, now or later.
    pub(super) fn begin(&self, shared: &Arc<Shared>, epoch: Epoch, read: Read) {
        let found = match read.wanted {
            Wanted::Content => {
                look(shared, (read.volume, read.first, read.blocks), How::AtOnce).map(Content::Data)
            }
            Wanted::Status(_) | Wanted::Nearness => Err(ErrorKind::WouldBlock.into()),
        };
        match found {
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.ask(
                shared,
                Box::new(move |shared| {
                    let found = find(shared, &read);
                    answer(shared, epoch, read, found);
                }),
            ),
            found => answer(shared, epoch, read, found),
        }
    }

    /// Has another holder answered.
    pub(super) fn give(&self, shared: &Arc<Shared>, given: Given) {
        self.ask(shared, Box::new(move |shared| given.carry_out(shared)));
    }

    fn ask(&self, shared: &Arc<Shared>, job: Job) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push_back((Arc::downgrade(shared), job));
        drop(state);
        self.0.wake.notify_one();
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.over = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        self.0.wake.notify_all();
        // Their replies say that they were given up.
        drop(left);
    }
}

fn run(queue: &Queue) {
    loop {
        let mut state = queue.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (shared, job) = loop {
            if state.over {
                return;
            }
            match state.waiting.pop_front() {
                Some(one) => break one,
                None => state = queue.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        if let Some(shared) = shared.upgrade() {
            job(&shared);
        }
    }
}

/// Answers what may wait for a disk.
fn find(shared: &Shared, read: &Read) -> Result<Content, Error> {
    let Read { volume, first, blocks, wanted, .. } = *read;
    match wanted {
        Wanted::Content => look_healed(shared, (volume, first, blocks)).map(Content::Data),
        Wanted::Status(max) => {
            status((&shared.dirty, &shared.store), volume, (first, blocks), max).map(Content::Extents)
        }
        Wanted::Nearness => {
            shared.store.fetch(volume, first, blocks)?;
            Ok(Content::Done)
        }
    }
}

/// Blocks of a volume.
type Blocks = (Volume, u64, u64);

/// As [`look_again`]; what is damaged in the store is what another holder has there.
fn look_healed(shared: &Shared, blocks: Blocks) -> Result<Vec<Piece>, Error> {
    loop {
        let found = look_again(shared, blocks);
        match found.as_ref().err().and_then(Damaged::of) {
            Some(damaged) => heal(shared, damaged)?,
            None => return found,
        }
    }
}

/// As [`look`], waiting, as often as the log is trimmed under it.
fn look_again(shared: &Shared, blocks: Blocks) -> Result<Vec<Piece>, Error> {
    for _ in 0..AGAIN {
        match look(shared, blocks, How::Waiting) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            found => return found,
        }
    }
    Err(Error::other("what is there changes faster than it can be read"))
}

/// What this holder knows to be in some blocks, whoever leads.
pub(super) fn content(shared: &Shared, volume: Volume, first: u64, blocks: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for piece in look_again(shared, (volume, first, blocks))? {
        match piece {
            Piece::Bytes(content) => bytes.extend_from_slice((*content).as_ref()),
            Piece::Zeroes(count) => {
                bytes.resize(bytes.len().saturating_add(usize::try_from(count).unwrap_or(0)), 0);
            }
        }
    }
    Ok(bytes)
}

/// What a volume has there. A block leaves what is dirty only after the store has it durably, so that looking
/// there first misses nothing.
fn look(shared: &Shared, (volume, first, blocks): Blocks, how: How) -> Result<Vec<Piece>, Error> {
    let parts = lock(&shared.dirty).look(volume, first, blocks);
    let mut at = first;
    let mut pieces = Vec::with_capacity(parts.len());
    for Part { blocks, found } in parts {
        pieces.push(match found {
            Found::Memory(content) => said(content, blocks),
            Found::Log(_) if how == How::AtOnce => return Err(ErrorKind::WouldBlock.into()),
            Found::Log(places) => Piece::Bytes(Box::new(from_log(shared, volume, at, &places)?)),
            Found::Store => {
                let mut bytes = vec![0; usize::try_from(length(blocks)).unwrap_or(BLOCK_LEN)];
                let store = |first, bytes: &mut [u8]| shared.store.read(volume, first, bytes, how);
                shared.store.cache.read((volume, at), &mut bytes, store)?;
                Piece::Bytes(Box::new(bytes))
            }
        });
        at = at.saturating_add(blocks);
    }
    Ok(pieces)
}

/// Blocks that the log has; [`ErrorKind::WouldBlock`]: it has them no more.
fn from_log(shared: &Shared, volume: Volume, first: u64, places: &[Place]) -> Result<Vec<u8>, Error> {
    let log = lock(&shared.log).clone().ok_or(ErrorKind::NotFound)?;
    let read = log.read_places(places)?;
    // What is still there was there when it was read, and not yet overwritten by what came later.
    let is_still = lock(&shared.dirty).is_still(volume, first, places);
    match read {
        _ if !is_still => Err(ErrorKind::WouldBlock.into()),
        Some(payload) => Ok(payload.bytes().to_vec()),
        None => {
            // The other holder has it.
            let why = format!("block {first} of volume {} is damaged in the log", volume.0);
            shared.tell(Told::Damaged(why));
            Err(ErrorKind::InvalidData.into())
        }
    }
}

/// Answers, if this node led from the beginning of it to the end: then no other one took a write meanwhile.
fn answer(shared: &Shared, epoch: Epoch, read: Read, found: Result<Content, Error>) {
    let Read { wanted, began, reply, .. } = read;
    if shared.reigns().is_none_or(|reign| reign.epoch != Some(epoch)) {
        return not_here(reply);
    }
    if found.as_ref().is_err_and(is_of_log) {
        return not_here(reply);
    }
    let is_read = wanted == Wanted::Content && found.is_ok();
    reply.finish(found.map_err(|error| {
        let place = shared.store.directory().display();
        let what = match Damaged::of(&error) {
            Some(damaged) => format!("{place}: {damaged}, and no other holder in sync can say what it was"),
            None => format!("cannot read {place}: {error}"),
        };
        Failed::new(Errno::Io, what)
    }));
    if is_read {
        shared.reads.note(began);
    }
}

/// Whether it is the log that has something else there than what was written: the other holder leads then.
fn is_of_log(error: &Error) -> bool {
    error.kind() == ErrorKind::InvalidData && Damaged::of(error).is_none()
}
