//! A console over memory (virtio 1.3, 5.3): one port, without a size. What the guest says goes where its
//! serial console goes; what is typed comes here instead. A letter costs no exit of its own (F43, V44).

use super::Device;
use super::ring::{Broken, Put, Ring};
use super::worker::{Next, Worker};
use crate::vmm::console::{Console, KEPT_MAX};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd as _, OwnedFd};
use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Its number.
const KIND: u32 = 3;
/// What the guest is typed into, and what it says.
const QUEUES: [u16; 2] = [64, 64];
/// Columns, rows, ports, a letter in an emergency (5.3.4): nothing of that is offered.
const CONFIG: [u8; 12] = [0; 12];
/// Of what is said at once, no more is read: more is not kept, either.
const SAID_MAX: u64 = KEPT_MAX as u64;
/// What is read at once.
const PIECE: u64 = 4096;
/// Letters that wait for the guest.
const TYPED_MAX: usize = 256;
/// Letters that a guest is given at once.
const TYPED_AT_ONCE: usize = 64;

/// What is typed, until the guest takes it. Clones are the same.
#[derive(Clone, Debug)]
pub struct Typed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<VecDeque<u8>>,
    changed: OwnedFd,
}

impl Typed {
    /// Nothing yet.
    ///
    /// # Errors
    ///
    /// The system has no file descriptor for it.
    pub fn new() -> std::io::Result<Self> {
        let changed = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(Shared { waiting: Mutex::default(), changed })))
    }

    /// Somebody types. For how many letters there is room.
    #[must_use]
    pub fn input(&self, bytes: &[u8]) -> usize {
        let mut waiting = self.lock();
        let count = TYPED_MAX.saturating_sub(waiting.len()).min(bytes.len());
        waiting.extend(bytes.iter().take(count));
        drop(waiting);
        // A full counter is a word that was not heard yet.
        let _ = rustix::io::write(&self.0.changed, &1_u64.to_ne_bytes());
        count
    }

    fn first(&self, most: usize) -> Vec<u8> {
        self.lock().iter().take(most).copied().collect()
    }

    fn taken(&self, count: usize) {
        let mut waiting = self.lock();
        let count = count.min(waiting.len());
        waiting.drain(..count);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A console of a guest.
#[derive(Debug)]
pub struct Terminal {
    typed: Typed,
    out: Console,
    /// Once a driver is ready.
    rings: Vec<Arc<Ring>>,
    worker: Option<Worker>,
}

impl Terminal {
    /// One that says what it says to `out`, and is typed `typed`.
    #[must_use]
    pub const fn new(typed: Typed, out: Console) -> Self {
        Self { typed, out, rings: Vec::new(), worker: None }
    }
}

impl Device for Terminal {
    fn kind(&self) -> u32 {
        KIND
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> &[u16] {
        &QUEUES
    }

    fn config(&self) -> &[u8] {
        &CONFIG
    }

    fn begin(&mut self, rings: Vec<Arc<Ring>>, _: u64) -> std::io::Result<()> {
        self.rings = rings;
        self.resume()
    }

    fn end(&mut self) {
        (self.rings, self.worker) = (Vec::new(), None);
    }

    fn pause(&mut self) {
        self.worker = None;
    }

    fn resume(&mut self) -> std::io::Result<()> {
        let [receive, send] = self.rings.as_slice() else { return Ok(()) };
        let (receive, send) = (Arc::clone(receive), Arc::clone(send));
        let (typed, mut out) = (self.typed.clone(), self.out.clone());
        let look = move || {
            let looked = say(&send, &mut out).and_then(|()| give(&receive, &typed));
            looked.map_or(Next::End, |()| Next::Wait)
        };
        let changed = Some(self.typed.0.changed.as_fd());
        let worker = Worker::start_with("vmm-terminal", self.rings.clone(), changed, look);
        self.worker = Some(worker?);
        Ok(())
    }
}

/// Passes on what the guest says.
fn say(ring: &Ring, out: &mut Console) -> Result<(), Broken> {
    for chain in ring.take()? {
        let (given, _) = chain.lengths();
        let (most, mut at) = (given.min(SAID_MAX), 0_u64);
        while at < most {
            let count = most.saturating_sub(at).min(PIECE);
            let Some(bytes) = ring.read(&chain, at, usize::try_from(count).unwrap_or(0)) else { break };
            // Nobody may read it: a guest goes on without its console.
            let _ = out.write_all(&bytes);
            at = at.saturating_add(count);
        }
        ring.done(&chain, 0);
    }
    Ok(())
}

/// Gives the guest what is typed, as far as it asks for it.
fn give(ring: &Ring, typed: &Typed) -> Result<(), Broken> {
    // A driver that has room for a letter at a time gets a letter at a time.
    let mut most = TYPED_AT_ONCE;
    loop {
        let mut bytes = typed.first(most);
        if bytes.is_empty() {
            return Ok(());
        }
        match ring.put(&mut bytes, usize::MAX, |_, _| ())? {
            Put::Done => typed.taken(bytes.len()),
            Put::Later | Put::Never if 1 < bytes.len() => most = 1,
            Put::Later => return Ok(()),
            // What it asks has no room for a letter.
            Put::Never => return Err(Broken),
        }
    }
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
