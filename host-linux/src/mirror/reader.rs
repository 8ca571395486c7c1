//! Guests' reads: from what is dirty, else from the backing store; answered only while the lease holds (I5,
//! I12, V5; F19).
//!
//! What the page cache has is answered at once, by the thread that asks. Threads of their own wait for disks.

use super::dirty::Part;
use super::handle::{Shared, length, lock, not_here, said};
use super::store::Store;
use crate::nbd::export::{Content, Errno, Failed, Piece, Reply};
use bulkhead_core::id::Epoch;
use bulkhead_core::log::BLOCK_LEN;
use bulkhead_core::log::batch::Volume;
use std::collections::VecDeque;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

/// Threads that wait for disks: so many reads at the disk at once.
const THREADS: usize = 8;

/// A read of a guest.
#[derive(Debug)]
pub struct Read {
    /// The volume.
    pub volume: Volume,
    /// Its first block.
    pub first: u64,
    /// How many.
    pub blocks: u64,
    /// Who waits for it.
    pub reply: Reply,
}

/// The threads. They end with their owner.
#[derive(Debug)]
pub struct Readers(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Weak<Shared>, Epoch, Read)>,
    over: bool,
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
        match look(shared, &read, Store::read_at_once) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.waiting.push_back((Arc::downgrade(shared), epoch, read));
                drop(state);
                self.0.wake.notify_one();
            }
            found => answer(shared, epoch, read.reply, found),
        }
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
        let (shared, epoch, read) = loop {
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
            let found = look(&shared, &read, Store::read);
            answer(&shared, epoch, read.reply, found);
        }
    }
}

type By = fn(&Store, Volume, u64, &mut [u8]) -> Result<(), Error>;

/// What a volume has there. A block leaves what is dirty only after the store has it durably, so that looking
/// there first misses nothing.
fn look(shared: &Shared, read: &Read, by: By) -> Result<Vec<Piece>, Error> {
    let parts = lock(&shared.dirty).look(read.volume, read.first, read.blocks);
    let mut at = read.first;
    let mut pieces = Vec::with_capacity(parts.len());
    for Part { blocks, content } in parts {
        pieces.push(match content {
            Some(content) => said(content, blocks),
            None => {
                let mut bytes = vec![0; usize::try_from(length(blocks)).unwrap_or(BLOCK_LEN)];
                by(&shared.store, read.volume, at, &mut bytes)?;
                Piece::Bytes(Box::new(bytes))
            }
        });
        at = at.saturating_add(blocks);
    }
    Ok(pieces)
}

/// Answers, if this node led from the beginning of it to the end: then no other one took a write meanwhile.
fn answer(shared: &Shared, epoch: Epoch, reply: Reply, found: Result<Vec<Piece>, Error>) {
    if shared.reigns().is_none_or(|reign| reign.epoch != Some(epoch)) {
        return not_here(reply);
    }
    reply.finish(found.map(Content::Data).map_err(|error| {
        Failed::new(Errno::Io, format!("cannot read {}: {error}", shared.store.directory().display()))
    }));
}
