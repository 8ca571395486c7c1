//! The gate before a guest's processors: they run only while nothing holds them (I5). It knows for how long
//! that was.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Why a guest is held. Each holds it by itself: it runs when none does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Somebody has paused it.
    Operator,
    /// Nobody says that it runs nowhere else.
    Lease,
    /// Its state is read.
    Capture,
    /// It is slowed down, while it is copied.
    Throttle,
}

impl Hold {
    const fn bit(self) -> u8 {
        match self {
            Self::Operator => 1,
            Self::Lease => 2,
            Self::Capture => 4,
            Self::Throttle => 8,
        }
    }
}

/// A gate. Whoever is inside looks often whether it has closed.
#[derive(Debug, Default)]
pub struct Gate {
    /// Whether those inside are to leave. Invariant: changed with `state` locked.
    is_closed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// A bit for each [`Hold`].
    holds: u8,
    /// Nobody passes any more.
    is_over: bool,
    inside: usize,
    /// For how long it was open, until it closed last.
    ran: Duration,
    /// Since when it is. Invariant: `None` exactly when it is closed.
    open_since: Option<Instant>,
}

impl Default for State {
    fn default() -> Self {
        let open_since = Some(Instant::now());
        Self { holds: 0, is_over: false, inside: 0, ran: Duration::ZERO, open_since }
    }
}

impl State {
    fn ran(&self) -> Duration {
        self.ran.saturating_add(self.open_since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    const fn is_closed(&self) -> bool {
        self.is_over || self.holds != 0
    }
}

/// Somebody who has passed the gate, until this is dropped.
#[derive(Debug)]
pub struct Inside<'a>(&'a Gate);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.inside = state.inside.saturating_sub(1);
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Gate {
    /// Waits until nothing holds the gate, and passes. `None`: it is over.
    pub fn pass(&self) -> Option<Inside<'_>> {
        let is_held = |state: &mut State| state.holds != 0 && !state.is_over;
        let waited = self.changed.wait_while(self.lock(), is_held);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.is_over {
            return None;
        }
        state.inside = state.inside.saturating_add(1);
        Some(Inside(self))
    }

    /// Whether who is inside is to leave.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Closes it for this reason. Who is inside is still.
    pub fn hold(&self, why: Hold) {
        self.change(|state| state.holds |= why.bit());
    }

    /// This is no reason any more.
    pub fn release(&self, why: Hold) {
        self.change(|state| state.holds &= !why.bit());
    }

    /// Whether this holds it.
    pub fn is_held(&self, why: Hold) -> bool {
        self.lock().holds & why.bit() != 0
    }

    /// For how long it was open altogether: time in which nothing of the guest can be done is not its own.
    pub fn ran(&self) -> Duration {
        self.lock().ran()
    }

    /// Closes it for ever.
    pub fn end(&self) {
        self.change(|state| state.is_over = true);
    }

    /// Waits until nobody is inside, so long at most. Whether nobody is.
    pub fn is_left_within(&self, most: Duration) -> bool {
        let is_any = |state: &mut State| state.inside != 0;
        let waited = self.changed.wait_timeout_while(self.lock(), most, is_any);
        waited.unwrap_or_else(PoisonError::into_inner).0.inside == 0
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        match (state.is_closed(), state.open_since) {
            (true, Some(_)) => (state.ran, state.open_since) = (state.ran(), None),
            (false, None) => state.open_since = Some(Instant::now()),
            (true, None) | (false, Some(_)) => {}
        }
        self.is_closed.store(state.is_closed(), Ordering::SeqCst);
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const SOON: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(10);

    /// I5: each reason holds by itself, and whoever waits passes when none is left.
    #[test]
    fn all_reasons_must_go() {
        let gate = Arc::new(Gate::default());
        let inside = gate.pass().unwrap();
        [Hold::Operator, Hold::Lease].into_iter().for_each(|why| gate.hold(why));
        assert!(gate.is_closed() && gate.is_held(Hold::Lease) && !gate.is_held(Hold::Capture));
        assert!(!gate.is_left_within(SOON), "who is inside is still");
        drop(inside);
        assert!(gate.is_left_within(LONG));

        let own = Arc::clone(&gate);
        let passes = std::thread::spawn(move || own.pass().is_some());
        gate.release(Hold::Operator);
        std::thread::sleep(SOON);
        assert!(gate.is_closed() && !passes.is_finished());
        gate.release(Hold::Lease);
        assert!(passes.join().unwrap());
        assert!(!gate.is_closed());
    }

    /// S3-03: time passes for a guest while nothing holds it, and at no other time.
    #[test]
    fn time_while_it_is_held_does_not_count() {
        let gate = Gate::default();
        let begun = Instant::now();
        let mut before = Duration::ZERO;
        for _ in 0..3 {
            std::thread::sleep(SOON);
            gate.hold(Hold::Operator);
            let held_at = gate.ran();
            assert!(before.saturating_add(SOON) <= held_at && held_at <= begun.elapsed() + SOON);
            gate.hold(Hold::Lease);
            std::thread::sleep(SOON);
            gate.release(Hold::Operator);
            std::thread::sleep(SOON);
            assert_eq!(gate.ran(), held_at, "one reason is left");
            gate.release(Hold::Lease);
            gate.release(Hold::Lease);
            before = held_at;
        }
        // Of nine times it was held in six.
        let held = begun.elapsed().saturating_sub(gate.ran());
        assert!(SOON * 6 <= held + Duration::from_millis(1), "{held:?}");
        gate.end();
        let ended_at = gate.ran();
        gate.release(Hold::Lease);
        std::thread::sleep(SOON);
        assert_eq!(gate.ran(), ended_at);
    }

    #[test]
    fn what_is_over_is_passed_by_nobody() {
        let gate = Arc::new(Gate::default());
        gate.hold(Hold::Capture);
        let own = Arc::clone(&gate);
        let waits = std::thread::spawn(move || own.pass().is_none());
        gate.end();
        assert!(waits.join().unwrap());
        gate.release(Hold::Capture);
        assert!(gate.is_closed() && gate.pass().is_none());
    }
}
