//! Memory that all connections share: given in the order in which it is asked for, so that a large request is
//! not passed by small ones for ever. Each connection has a share of its own beside it (V43).

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a waiting connection looks whether it still lives.
const LOOK: Duration = Duration::from_millis(100);

/// The shared memory, counted.
#[derive(Debug)]
pub struct Pool {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: u64,
    next: u64,
    /// Who waits, first come first.
    waiting: VecDeque<u64>,
}

impl Pool {
    /// So many bytes.
    #[must_use]
    pub const fn new(free: u64) -> Self {
        Self { state: Mutex::new(State { free, next: 0, waiting: VecDeque::new() }), changed: Condvar::new() }
    }

    /// Takes `bytes` when their turn comes. `false`: `alive` said no before.
    pub fn take(&self, bytes: u64, alive: impl Fn() -> bool) -> bool {
        let mut state = self.lock();
        if state.waiting.is_empty()
            && let Some(left) = state.free.checked_sub(bytes)
        {
            state.free = left;
            return true;
        }
        let ticket = state.next;
        state.next = state.next.wrapping_add(1);
        state.waiting.push_back(ticket);
        loop {
            let left = state.free.checked_sub(bytes);
            let mine = state.waiting.front() == Some(&ticket);
            let alive = alive();
            if !alive || (mine && left.is_some()) {
                state.waiting.retain(|waiting| *waiting != ticket);
                if let Some(left) = left.filter(|_| alive) {
                    state.free = left;
                }
                self.changed.notify_all();
                return alive;
            }
            let woken = self.changed.wait_timeout(state, LOOK);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives `bytes` back.
    pub fn give(&self, bytes: u64) {
        let mut state = self.lock();
        state.free = state.free.saturating_add(bytes);
        if !state.waiting.is_empty() {
            self.changed.notify_all();
        }
    }

    /// What is free.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.lock().free
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_large_wish_is_not_passed_by_small_ones_and_the_dead_make_room() {
        let pool = Arc::new(Pool::new(100));
        assert!(pool.take(60, || true));
        let alive = Arc::new(AtomicBool::new(true));
        let large = {
            let (pool, alive) = (Arc::clone(&pool), Arc::clone(&alive));
            std::thread::spawn(move || pool.take(80, || alive.load(Ordering::SeqCst)))
        };
        while pool.lock().waiting.is_empty() {
            std::thread::yield_now();
        }
        let small = {
            let pool = Arc::clone(&pool);
            std::thread::spawn(move || pool.take(10, || true))
        };
        while pool.lock().waiting.len() < 2 {
            std::thread::yield_now();
        }
        assert_eq!(pool.free(), 40, "the small one stands behind the large one");
        alive.store(false, Ordering::SeqCst);
        assert!(!large.join().unwrap());
        assert!(small.join().unwrap());
        assert_eq!(pool.free(), 30);
        pool.give(70);
        assert_eq!(pool.free(), 100);
    }
}
