//! One stream, as everybody but its reader sees it: who sends never waits for the peer. What does not fit
//! into the socket at once is sent by the stream's own thread, in order; a peer that lets too much wait,
//! or waits too long, is given up (X07, X11, V16).

use super::frame::{Head, Kind, meta};
use super::part::{BATCH, Part, begun, seal, transmit};
use super::seal::Sealer;
use super::tally::{Counts, End};
use super::wire::Wire;
use super::words::{Frame, Stream, Timing};
use bulkhead_core::id::Path;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes sent with one call, except that a frame is begun whole.
const BATCH_BYTES: usize = 512 << 10;
/// Calls that who sends makes at most for one frame, before the stream's own thread goes on.
const SENDS: usize = 4;
/// One stream.
#[derive(Debug)]
pub struct Line {
    /// Which.
    pub stream: Stream,
    /// By which network.
    pub path: Path,
    /// Since when.
    pub since: Instant,
    pub(super) wire: Wire,
    timing: Timing,
    queue_max: usize,
    counts: Arc<Counts>,
    /// Held by who seals frames until they are queued: they are sent in the order of their numbers.
    sealer: Mutex<Sealer>,
    state: Mutex<State>,
    over: AtomicBool,
    /// The stream's own thread has something to do.
    work: Condvar,
}

struct State {
    queue: VecDeque<Part>,
    /// What is sent now, and how much of its first part is gone. Invariant: empty unless `Sending::Stuck`.
    batch: VecDeque<Part>,
    gone: usize,
    /// The cost of all parts.
    queued: usize,
    sending: Sending,
    /// When the socket last took something, or had nothing to take.
    moved: Instant,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// Nobody sends.
    Idle,
    /// Some thread sends.
    Busy,
    /// The socket is full, or who sent has sent enough: the own thread goes on.
    Stuck,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({} bytes wait, {:?}, {:?})", self.queued, self.sending, self.end)
    }
}

impl Line {
    /// A stream over `wire`, whose frames `sealer` seals.
    #[must_use]
    pub fn new(
        stream: Stream,
        path: Path,
        wire: Wire,
        sealer: Sealer,
        counts: Arc<Counts>,
        (timing, queue_max): (Timing, usize),
    ) -> Self {
        let now = Instant::now();
        let state = State {
            queue: VecDeque::new(),
            batch: VecDeque::new(),
            gone: 0,
            queued: 0,
            sending: Sending::Idle,
            moved: now,
            end: None,
        };
        Self {
            stream,
            path,
            since: now,
            wire,
            timing,
            queue_max,
            counts,
            sealer: Mutex::new(sealer),
            state: Mutex::new(state),
            over: AtomicBool::new(false),
            work: Condvar::new(),
        }
    }

    /// Sends frames in order, or keeps them for the stream's own thread. A peer that lets too much wait is
    /// given up.
    pub fn send(&self, frames: impl IntoIterator<Item = Frame>) {
        let mut sealer = lock(&self.sealer);
        for frame in frames {
            if self.is_over() {
                return;
            }
            match meta(&frame) {
                Some((head, meta)) => {
                    let part = seal(&mut sealer, &head, &meta, frame.into_payload());
                    self.queue(part);
                }
                None => return self.end(End::Ours),
            }
        }
        drop(sealer);
        self.pump(lock(&self.state), SENDS);
    }

    /// Sends the first frame of this direction.
    pub fn begin(&self) {
        let mut sealer = lock(&self.sealer);
        let part = begun(&mut sealer);
        self.queue(part);
        drop(sealer);
        self.pump(lock(&self.state), SENDS);
    }

    /// Says that this end is there if it has said nothing lately, and gives up a peer that takes nothing.
    pub fn tick(&self, now: Instant) {
        let state = lock(&self.state);
        let quiet = now.saturating_duration_since(state.moved);
        let (idle, deaf) = (state.sending == Sending::Idle, self.timing.stall <= quiet);
        drop(state);
        if idle && self.timing.alive <= quiet {
            // Who holds it sends.
            let Ok(mut sealer) = self.sealer.try_lock() else { return };
            let part = seal(&mut sealer, &Head::bare(Kind::Alive), &[], None);
            self.queue(part);
            drop(sealer);
            self.pump(lock(&self.state), SENDS);
        } else if !idle && deaf {
            self.end(End::Deaf);
        }
    }

    /// Ends it: nothing more is received or sent. Only the first reason counts.
    pub fn end(&self, why: End) {
        let mut state = lock(&self.state);
        if state.end.is_none() {
            state.end = Some(why);
            self.over.store(true, Ordering::Release);
            state.queue.clear();
            state.batch.clear();
            state.queued = 0;
            self.wire.end();
            self.work.notify_all();
        }
    }

    /// Whether it ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Why it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        lock(&self.state).end
    }

    /// How many bytes wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        lock(&self.state).queued
    }

    /// The stream's own thread: sends what others could not, until the end.
    pub fn go_on(&self) {
        loop {
            let mut state = lock(&self.state);
            while state.sending != Sending::Stuck && state.end.is_none() {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.end.is_some() {
                return;
            }
            drop(state);
            self.wire.wait_for_room(Duration::from_secs(1));
            let mut state = lock(&self.state);
            if state.sending == Sending::Stuck {
                state.sending = Sending::Idle;
                self.pump(state, usize::MAX);
            }
        }
    }

    /// Puts a sealed frame behind the others, and sends what is a lot already.
    fn queue(&self, part: Part) {
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return;
        }
        if state.queue.is_empty() && state.batch.is_empty() && state.sending == Sending::Idle {
            state.moved = Instant::now();
        }
        state.queued = state.queued.saturating_add(part.cost());
        let (queued, is_first) = (state.queued, state.queue.is_empty() && state.batch.is_empty());
        state.queue.push_back(part);
        if self.queue_max < queued && !is_first {
            drop(state);
            self.end(End::Deaf);
        } else if BATCH_BYTES <= queued {
            self.pump(state, SENDS);
        }
    }

    /// Sends until nothing is left or nothing fits, or so often. Does nothing while another thread sends.
    fn pump<'a>(&'a self, mut state: MutexGuard<'a, State>, sends: usize) {
        if state.sending != Sending::Idle {
            return;
        }
        for calls in 0_usize.. {
            if state.batch.is_empty() {
                state.gone = 0;
                self.load(&mut state);
            }
            if state.end.is_some() || state.batch.is_empty() {
                state.sending = Sending::Idle;
                return;
            }
            if sends <= calls {
                return self.hand_over(&mut state);
            }
            state.sending = Sending::Busy;
            let mut batch = std::mem::take(&mut state.batch);
            let gone = state.gone;
            drop(state);
            let sent = transmit(&self.wire, &batch, gone);
            state = lock(&self.state);
            if state.end.is_some() {
                state.sending = Sending::Idle;
                return;
            }
            match sent {
                Ok(Some(count)) => {
                    self.counts.sent(count);
                    state.moved = Instant::now();
                    advance(&mut state, &mut batch, gone.saturating_add(count));
                    state.batch = batch;
                }
                Ok(None) => {
                    state.batch = batch;
                    return self.hand_over(&mut state);
                }
                Err(why) => {
                    state.sending = Sending::Idle;
                    drop(state);
                    return self.end(why);
                }
            }
        }
    }

    /// The next parts to be sent with one call.
    fn load(&self, state: &mut State) {
        let mut bytes = 0_usize;
        while state.batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(part) = state.queue.pop_front() else { break };
            bytes = bytes.saturating_add(part.bytes());
            state.batch.push_back(part);
        }
    }

    fn hand_over(&self, state: &mut State) {
        state.sending = Sending::Stuck;
        self.work.notify_all();
    }
}

/// Takes off the parts that are sent whole.
fn advance(state: &mut State, batch: &mut VecDeque<Part>, mut gone: usize) {
    while let Some(first) = batch.front() {
        let Some(beyond) = gone.checked_sub(first.bytes()) else { break };
        gone = beyond;
        state.queued = state.queued.saturating_sub(first.cost());
        batch.pop_front();
    }
    state.gone = gone;
}

/// A lock whose owner panicked is still a lock: what it guards is sound between any two statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
