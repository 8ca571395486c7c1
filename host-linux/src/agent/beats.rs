//! Signs of progress that one thread leaves for another: the health checks for the cluster's loop, which then
//! feeds the watchdog for both (V29).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Beats of one thread. Clones are the same beats.
#[derive(Clone, Debug)]
pub struct Beats {
    origin: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Default for Beats {
    fn default() -> Self {
        Self { origin: Instant::now(), last_ms: Arc::default() }
    }
}

impl Beats {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Progress was made.
    pub fn beat(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// For how long none was made.
    pub fn silent_for(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_grows_until_the_next_beat() {
        let beats = Beats::default();
        let theirs = beats.clone();
        std::thread::sleep(Duration::from_millis(30));
        assert!(Duration::from_millis(30) <= beats.silent_for());
        theirs.beat();
        assert!(beats.silent_for() < Duration::from_millis(30));
    }
}
