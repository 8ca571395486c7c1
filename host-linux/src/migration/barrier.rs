//! Where guests that move together wait for each other: each goes one step further when it is told to, and
//! stays here if nobody tells it anything any more (X15).
//!
//! ```text
//! Copy ──▶ ready: it runs, and its copy is kept up      all of them are ready
//! Hold ──▶ whole: it stands still, all of it is there   all of them are whole
//! Give ──▶ returned: its lease is given back            all of them are; the other node is told to lead
//! Go   ──▶ it is the other node's
//! ```
//!
//! Whoever tells them decides nothing that could make two of one guest: until `Go` each of them may be called
//! off by itself, and behind it the leases say who runs.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whoever moves guests together tells each of them something more often than this, or is gone.
pub const SILENT: Duration = Duration::from_secs(15);
/// Guests stand still for so long at most, for all of them to be whole: less than the other node waits.
pub const HELD_MAX: Duration = Duration::from_secs(100);

/// How far a guest may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It is copied while it runs.
    Copy,
    /// It stands still, and the rest is copied.
    Hold,
    /// Its lease is given back.
    Give,
    /// It is given away.
    Go,
}

/// What a guest is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    /// By whom it is moved: what it was told at the beginning.
    pub together: String,
    /// How far it may go; `None`: it is to stay here.
    pub step: Option<Step>,
    /// Its part of the bandwidth, in bytes a second; `None`: as many as can.
    pub bandwidth: Option<u64>,
}

/// The barrier, as one guest sees it.
#[derive(Debug)]
pub struct Barrier {
    together: String,
    told: Mutex<Told>,
    changed: Condvar,
    rate: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Told {
    step: Step,
    is_off: bool,
    last: Instant,
}

impl Barrier {
    /// Of a guest that is moved by whoever says `together`.
    #[must_use]
    pub fn new(together: String) -> Self {
        let told = Mutex::new(Told { step: Step::Copy, is_off: false, last: Instant::now() });
        Self { together, told, changed: Condvar::new(), rate: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// Takes in what the guest is told.
    ///
    /// # Errors
    ///
    /// Somebody else moves it.
    pub fn advance(&self, advance: &Advance) -> Result<(), Failure> {
        if advance.together != self.together {
            return Err(Failure::refused("it is being moved by another command").left(""));
        }
        self.rate.store(advance.bandwidth.unwrap_or(u64::MAX), Ordering::Relaxed);
        let mut told = self.lock();
        told.last = Instant::now();
        match advance.step {
            Some(step) => told.step = told.step.max(step),
            // What was given away is not called back.
            None => told.is_off |= told.step < Step::Go,
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Nobody tells it anything any more, and it is not to stay: whether that may be.
    pub fn go(&self) -> bool {
        let mut told = self.lock();
        if !told.is_off {
            told.step = Step::Go;
        }
        !told.is_off
    }

    /// Its operator wants it to stay. Whether it is not too late.
    pub fn call_off(&self) -> bool {
        let mut told = self.lock();
        told.is_off |= told.step < Step::Give;
        self.changed.notify_all();
        told.is_off
    }

    /// How many bytes a second it may send while it runs.
    #[must_use]
    pub fn rate(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.rate)
    }

    /// Waits so long at most until it may take this step: whether it may.
    ///
    /// # Errors
    ///
    /// It is to stay: it was called off, or nobody tells it anything any more.
    pub fn wait(&self, step: Step, most: Duration) -> Result<bool, Failure> {
        let told = self.lock();
        let waits = |told: &mut Told| told.step < step && !told.is_off;
        let (told, _) =
            self.changed.wait_timeout_while(told, most, waits).unwrap_or_else(PoisonError::into_inner);
        if told.is_off {
            return Err(Failure::failed("the move of all guests was called off"));
        }
        if told.step < step && SILENT < told.last.elapsed() {
            let what = format!("whoever moves the guests together said nothing for {} s", SILENT.as_secs());
            return Err(Failure::failed(what).next("say `bulkhead vm migrate --all` again."));
        }
        Ok(step <= told.step)
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advance(step: Option<Step>) -> Advance {
        Advance { together: "x".into(), step, bandwidth: None }
    }

    /// X15: it goes as far as it was told and no further, never back, and is not called off behind `Go`.
    #[test]
    fn a_guest_goes_no_further_than_it_was_told() {
        let barrier = Barrier::new("x".into());
        let may = |step| barrier.wait(step, Duration::ZERO);
        assert_eq!((may(Step::Copy), may(Step::Hold)), (Ok(true), Ok(false)));
        barrier.advance(&advance(Some(Step::Give))).unwrap();
        barrier.advance(&advance(Some(Step::Hold))).unwrap();
        assert_eq!((may(Step::Give), may(Step::Go)), (Ok(true), Ok(false)));
        let other = Advance { together: "y".into(), ..advance(Some(Step::Go)) };
        assert!(barrier.advance(&other).is_err() && may(Step::Go) == Ok(false));
        assert!(!barrier.call_off(), "its lease is given back");
        barrier.advance(&advance(None)).unwrap();
        assert!(may(Step::Go).unwrap_err().what.contains("called off"));

        let barrier = Barrier::new("x".into());
        barrier.advance(&advance(Some(Step::Go))).unwrap();
        barrier.advance(&advance(None)).unwrap();
        assert_eq!((barrier.call_off(), barrier.wait(Step::Go, Duration::ZERO)), (false, Ok(true)));
    }

    /// Whoever is silent for too long is gone; who waits hears at once what it is told.
    #[test]
    fn a_guest_stays_when_nobody_tells_it_anything() {
        let barrier = Arc::new(Barrier::new("x".into()));
        let own = Arc::clone(&barrier);
        let waits = std::thread::spawn(move || own.wait(Step::Hold, SILENT));
        barrier.advance(&Advance { bandwidth: Some(7), ..advance(Some(Step::Hold)) }).unwrap();
        assert_eq!((waits.join().unwrap(), barrier.rate().load(Ordering::Relaxed)), (Ok(true), 7));
        let before = Instant::now().checked_sub(SILENT + Duration::from_secs(1)).unwrap();
        barrier.lock().last = before;
        assert!(barrier.wait(Step::Give, Duration::ZERO).unwrap_err().what.contains("said nothing"));
        assert_eq!(barrier.wait(Step::Hold, Duration::ZERO), Ok(true), "it was told that before");
    }
}
