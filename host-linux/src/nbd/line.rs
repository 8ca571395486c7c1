//! One connection, as everybody but its reader sees it: what is under way, what waits to be sent, and until
//! when. Whoever finishes a reply sends it, without ever waiting for the client; what does not fit at once is
//! sent by the connection's own thread. A client that takes too long, in anything, is closed (V43, F42).

use super::batch::{BATCH, Part, Slot, send};
use super::limits::{CONNECTION_BYTES, Limits, OWN_BYTES, REQUESTS};
use super::pool::Pool;
use super::pulse::Pulse;
use super::seats::Seat;
use super::socket::Socket;
use super::together::later;
use super::transmission::Frame;
use super::turns::Turn;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Calls that a thread which finished an answer makes at most before the connection's own goes on.
const SENDS: usize = 8;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client left.
    Left,
    /// It sent what is no request, or one too long to skip.
    Nonsense,
    /// A request that it began did not come to its end.
    Unfinished,
    /// It did not take its replies.
    Deaf,
    /// The export did not answer in time.
    Unanswered,
    /// The export or the server went away.
    Withdrawn,
    /// The next connection of its session wants to begin.
    Replaced,
}

/// Whether a request may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Go(Slot),
    /// It may be answered, but not be submitted: the export goes away.
    Farewell(Slot),
    /// The connection is over.
    Over,
}

/// One connection.
#[derive(Debug)]
pub struct Line {
    socket: Socket,
    limits: Limits,
    pool: Arc<Pool>,
    /// Kept until the last answer is in: an export that never answers cannot make room for more clients.
    _seat: Seat,
    /// The turn of its session, kept as long and for the same reason: see [`Turn`].
    turn: OnceLock<Arc<Turn>>,
    /// How often this process had stood still when it began.
    stops: u64,
    state: Mutex<State>,
    /// `state.end` is something. For the pool, whose lock is taken under that of the state.
    over: AtomicBool,
    /// The client closed its side without a word.
    left: AtomicBool,
    /// A request may be admitted.
    room: Condvar,
    /// The connection's own thread has something to do.
    work: Condvar,
}

struct State {
    /// Since when the export has each request.
    places: Vec<Option<Instant>>,
    free: Vec<u16>,
    /// Memory under way, and how much of it is the pool's.
    bytes: u64,
    borrowed: u64,
    queue: VecDeque<Part>,
    /// What is sent now, and how much of its first part is gone. Invariant: empty unless `Sending::Stuck`.
    stuck: VecDeque<Part>,
    gone: usize,
    sending: Sending,
    /// A request is begun: when it must be complete.
    receiving: Option<Instant>,
    /// The reader waits for room.
    waits: bool,
    /// The export goes away: when everything must be over.
    farewell: Option<Instant>,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// Nobody sends.
    Idle,
    /// Some thread sends.
    Busy,
    /// The client takes nothing at the moment: the own thread goes on, until this instant.
    Stuck(Instant),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({} bytes, {} queued, {:?})", self.bytes, self.queue.len(), self.end)
    }
}

impl Line {
    /// A connection over `socket`.
    #[must_use]
    pub fn new(socket: Socket, limits: Limits, pool: Arc<Pool>, seat: Seat) -> Self {
        let state = State {
            places: vec![None; usize::from(REQUESTS)],
            free: (0..REQUESTS).rev().collect(),
            bytes: 0,
            borrowed: 0,
            queue: VecDeque::new(),
            stuck: VecDeque::new(),
            gone: 0,
            sending: Sending::Idle,
            receiving: None,
            waits: false,
            farewell: None,
            end: None,
        };
        Self {
            socket,
            limits,
            pool,
            _seat: seat,
            turn: OnceLock::new(),
            stops: Pulse::of_process().stops(),
            state: Mutex::new(state),
            over: AtomicBool::new(false),
            left: AtomicBool::new(false),
            room: Condvar::new(),
            work: Condvar::new(),
        }
    }

    /// Its socket.
    #[must_use]
    pub const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Keeps its turn until the last answer is in.
    pub fn keep_turn(&self, turn: Arc<Turn>) {
        // There is one turn a connection, given before it begins.
        let _ = self.turn.set(turn);
    }

    /// The client closed its side without saying that it leaves: it does not wait for answers.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// Whether the client waits for answers, as far as is known: also what it asked before it left, and what
    /// nobody has read since, is not waited for.
    #[must_use]
    pub fn listens(&self) -> bool {
        let here = !self.over.load(Ordering::Acquire) && !self.left.load(Ordering::Acquire);
        here && !self.socket.is_closed_there()
    }

    /// Whether this process stood still since the connection began: nobody knows how old a request is that is
    /// read now.
    #[must_use]
    pub fn stood_still(&self) -> bool {
        Pulse::of_process().stops() != self.stops
    }

    /// Waits until a request with so many bytes may begin.
    pub fn admit(&self, bytes: u64) -> Admission {
        let mut state = self.lock();
        loop {
            if state.end.is_some() {
                return Admission::Over;
            }
            if !state.free.is_empty() && state.bytes.saturating_add(bytes) <= CONNECTION_BYTES {
                break;
            }
            state.waits = true;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let lend = |state: &State| {
            let beyond = state.bytes.saturating_add(bytes).saturating_sub(OWN_BYTES);
            beyond.saturating_sub(state.borrowed)
        };
        // Only the reader admits: what others do meanwhile makes the need smaller.
        let need = lend(&state);
        if need != 0 {
            drop(state);
            if !self.pool.take(need, || !self.over.load(Ordering::Acquire)) {
                return Admission::Over;
            }
            state = self.lock();
            state.borrowed = state.borrowed.saturating_add(need);
        }
        let Some(place) = state.free.pop() else { return Admission::Over };
        if let Some(since) = state.places.get_mut(usize::from(place)) {
            *since = Some(Instant::now());
        }
        state.bytes = state.bytes.saturating_add(bytes);
        let slot = Slot { place, bytes };
        match (state.end, state.farewell) {
            (Some(_), _) => {
                self.release(&mut state, slot);
                Admission::Over
            }
            (None, Some(_)) => Admission::Farewell(slot),
            (None, None) => Admission::Go(slot),
        }
    }

    /// The reader waits for the rest of a request with so many bytes.
    pub fn receiving(&self, bytes: u64) {
        self.lock().receiving = Instant::now().checked_add(self.limits.patience(bytes));
    }

    /// The rest is there; from now on it is for the export to answer in time.
    pub fn received(&self, slot: Option<Slot>) {
        let mut state = self.lock();
        state.receiving = None;
        if let Some(since) = slot.and_then(|slot| state.places.get_mut(usize::from(slot.place))) {
            *since = Some(Instant::now());
        }
    }

    /// Sends an answer. The slot is free again when the last frame is sent.
    pub fn answer(self: &Arc<Self>, slot: Slot, frames: Vec<Frame>) {
        let mut state = self.lock();
        if state.end.is_some() {
            self.release(&mut state, slot);
            return;
        }
        if let Some(since) = state.places.get_mut(usize::from(slot.place)) {
            *since = None;
        }
        let last = frames.len().saturating_sub(1);
        for (index, frame) in frames.into_iter().enumerate() {
            state.queue.push_back(Part { frame, slot: (index == last).then_some(slot) });
        }
        if state.sending == Sending::Idle && !later(self) {
            state.sending = Sending::Busy;
            self.pump(state, SENDS);
        }
    }

    /// A request that did not come to its end needs no answer.
    pub fn give_up(&self, slot: Slot) {
        self.release(&mut self.lock(), slot);
    }

    /// Sends what was only queued.
    pub fn flush(&self) {
        let mut state = self.lock();
        if state.sending == Sending::Idle && !state.queue.is_empty() && state.end.is_none() {
            state.sending = Sending::Busy;
            self.pump(state, SENDS);
        }
    }

    /// Everything that was admitted is answered, or the connection over. Called by the reader when no more
    /// requests come.
    pub fn drain(&self) {
        let mut state = self.lock();
        while state.end.is_none() && state.free.len() != usize::from(REQUESTS) {
            state.waits = true;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the connection: nothing more is read or sent, and what is under way is answered to nobody.
    pub fn end(&self, why: End) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(why);
            self.over.store(true, Ordering::Release);
            // What others are sending at this moment they drop themselves.
            let parts: Vec<_> = state.queue.drain(..).collect();
            let stuck: Vec<_> = state.stuck.drain(..).collect();
            for slot in parts.iter().chain(&stuck).filter_map(|part| part.slot) {
                self.release(&mut state, slot);
            }
            self.socket.end();
            self.room.notify_all();
            self.work.notify_all();
        }
    }

    /// The export goes away: nothing new is submitted, and in `limits.farewell` all is over.
    pub fn withdraw(&self) {
        let mut state = self.lock();
        if state.farewell.is_none() {
            state.farewell = Instant::now().checked_add(self.limits.farewell);
        }
        let idle = state.free.len() == usize::from(REQUESTS);
        drop(state);
        if idle {
            self.end(End::Withdrawn);
        }
    }

    /// Why it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        self.lock().end
    }

    /// Ends it if something takes too long.
    pub fn check(&self, now: Instant) {
        let state = self.lock();
        let late = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let oldest = state.places.iter().flatten().min().copied();
        let unanswered = oldest.and_then(|since| since.checked_add(self.limits.answer));
        let busy = state.free.len() != usize::from(REQUESTS);
        let deaf = matches!(state.sending, Sending::Stuck(until) if until <= now);
        let rules = [
            (deaf, End::Deaf),
            (late(state.receiving), End::Unfinished),
            (state.farewell.is_some() && (!busy || late(state.farewell)), End::Withdrawn),
            // While a payload arrives, the request it belongs to is not the export's to answer.
            (late(unanswered) && state.receiving.is_none(), End::Unanswered),
        ];
        drop(state);
        if let Some((_, why)) = rules.into_iter().find(|(broken, _)| *broken) {
            self.end(why);
        }
    }

    /// The connection's own thread: sends what others could not, until the end.
    pub fn go_on(&self) {
        loop {
            let mut state = self.lock();
            while !matches!(state.sending, Sending::Stuck(_)) && state.end.is_none() {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.end.is_some() {
                return;
            }
            drop(state);
            self.socket.wait_for_room(Duration::from_secs(1));
            let state = self.lock();
            if matches!(state.sending, Sending::Stuck(_)) && state.end.is_none() {
                self.pump(state, usize::MAX);
            }
        }
    }

    /// Sends until nothing is left or nothing fits, or so often: whoever finished one answer is not kept for
    /// those of all others. The caller is the one who sends.
    fn pump<'a>(&'a self, mut state: MutexGuard<'a, State>, sends: usize) {
        for calls in 0_usize.. {
            let begun = !state.stuck.is_empty();
            if !begun {
                let count = state.queue.len().min(BATCH);
                state.stuck = state.queue.drain(..count).collect();
                state.gone = 0;
            }
            if state.end.is_some() || state.stuck.is_empty() {
                state.sending = Sending::Idle;
                return;
            }
            let until = match state.sending {
                Sending::Stuck(until) if begun => Some(until),
                Sending::Stuck(_) | Sending::Idle | Sending::Busy => None,
            };
            if sends <= calls {
                return self.hand_over(&mut state, until);
            }
            state.sending = Sending::Busy;
            let mut parts = std::mem::take(&mut state.stuck);
            let gone = state.gone;
            drop(state);
            let sent = send(&self.socket, &parts, gone);
            state = self.lock();
            match sent {
                Ok(Some(count)) => {
                    let (parts, gone) = (&mut parts, gone.saturating_add(count));
                    state.gone = self.advance(&mut state, parts, gone);
                }
                Ok(None) => {
                    self.keep(&mut state, parts);
                    return self.hand_over(&mut state, until);
                }
                Err(_) => {
                    self.keep(&mut state, parts);
                    state.sending = Sending::Idle;
                    drop(state);
                    self.end(End::Left);
                    return;
                }
            }
            self.keep(&mut state, parts);
            // A batch under way keeps its deadline, however little by little the client takes it.
            if let Some(until) = until.filter(|_| !state.stuck.is_empty()) {
                state.sending = Sending::Stuck(until);
            }
        }
    }

    /// What is begun is for the connection's own thread now: until then, or as long as its size allows.
    fn hand_over(&self, state: &mut State, until: Option<Instant>) {
        let bytes = state.stuck.iter().map(Part::len).fold(0, usize::saturating_add);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let until = until.or_else(|| Instant::now().checked_add(self.limits.patience(bytes)));
        state.sending = match until.filter(|_| state.end.is_none()) {
            Some(until) => Sending::Stuck(until),
            None => Sending::Idle,
        };
        self.work.notify_all();
    }

    /// Puts back what is not sent, unless the connection ended meanwhile.
    fn keep(&self, state: &mut State, parts: VecDeque<Part>) {
        if state.end.is_none() {
            state.stuck = parts;
            return;
        }
        for slot in parts.iter().filter_map(|part| part.slot) {
            self.release(state, slot);
        }
    }

    /// Takes off the parts that are sent whole; answers how much of the next one is.
    fn advance(&self, state: &mut State, parts: &mut VecDeque<Part>, mut gone: usize) -> usize {
        while let Some(first) = parts.front() {
            let Some(beyond) = gone.checked_sub(first.len()) else { break };
            gone = beyond;
            if let Some(slot) = parts.pop_front().and_then(|part| part.slot) {
                self.release(state, slot);
            }
        }
        gone
    }

    fn release(&self, state: &mut State, slot: Slot) {
        if let Some(since) = state.places.get_mut(usize::from(slot.place)) {
            *since = None;
        }
        state.free.push(slot.place);
        state.bytes = state.bytes.saturating_sub(slot.bytes);
        let keep = state.bytes.saturating_sub(OWN_BYTES);
        let back = state.borrowed.saturating_sub(keep);
        if back != 0 {
            state.borrowed = keep;
            self.pool.give(back);
        }
        if std::mem::take(&mut state.waits) {
            self.room.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Every answer holds the line: none is under way any more.
        let borrowed = self.lock().borrowed;
        self.pool.give(borrowed);
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
