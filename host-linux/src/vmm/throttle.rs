//! Slows a guest down: it is held for a part of its time. Its operator may want that, and its move, which is
//! not to be outrun; who wants more of it has his way (S1-52, X15).

use super::gate::Hold;
use super::machine::Machine;
use std::io::Result;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A moment: short, so that it still answers; long beside what a hold costs.
const MOMENT: Duration = Duration::from_millis(40);
/// It is held no longer than this at once, and what it ran too long by is forgotten beyond that.
const HELD_MAX: Duration = Duration::from_secs(1);
const OWED_MAX: Duration = Duration::from_secs(10);
/// The most, in hundredths of its time: the rest is what it answers in.
const MOST: u8 = 99;
const STACK: usize = 64 << 10;

/// Who slows it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its operator, by its share of the time.
    Share,
    /// Its move, while it writes as fast as it is copied.
    Move,
}

/// For how long it is to be held for what it ran.
#[derive(Debug, Default)]
struct Account {
    owed: Duration,
}

impl Account {
    /// It ran so long, and is to be held for so many hundredths of the time: for so long now.
    fn ran(&mut self, ran: Duration, hundredths: u8) -> Duration {
        let hundredths = u32::from(hundredths.min(MOST));
        let rest = 100_u32.saturating_sub(hundredths);
        let owed = ran.saturating_mul(hundredths).checked_div(rest).unwrap_or_default();
        self.owed = self.owed.saturating_add(owed).min(OWED_MAX);
        self.owed.min(HELD_MAX)
    }

    /// It was held so long.
    fn held(&mut self, held: Duration) {
        self.owed = self.owed.saturating_sub(held);
    }
}

#[derive(Debug, Default)]
struct State {
    share: u8,
    of_move: u8,
    is_over: bool,
}

impl State {
    /// What counts of it: the stronger one.
    fn hundredths(&self) -> u8 {
        self.share.max(self.of_move).min(MOST)
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits so long, or until it is over or another part of the time counts.
    fn wait(&self, hundredths: u8, most: Duration) {
        let is_same = |state: &mut State| !state.is_over && state.hundredths() == hundredths;
        drop(self.changed.wait_timeout_while(self.lock(), most, is_same));
    }
}

/// What slows a guest down. Dropped, it runs as fast as it can.
#[derive(Debug)]
pub struct Throttle {
    machine: Arc<Machine>,
    shared: Arc<Shared>,
    /// `None`: nobody has slowed it down yet.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Slows it down for one who wants that, until this is dropped.
#[derive(Debug)]
pub struct Claimed<'a>(&'a Throttle, Claim);

impl Claimed<'_> {
    /// It is held for so many hundredths of its time from now on.
    ///
    /// # Errors
    ///
    /// The system has no thread.
    pub fn hold(&self, hundredths: u8) -> Result<()> {
        self.0.hold(self.1, hundredths)
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        // Less of it needs no thread.
        let _ = self.0.hold(self.1, 0);
    }
}

impl Throttle {
    /// Does not slow it down yet.
    #[must_use]
    pub fn new(machine: &Arc<Machine>) -> Self {
        Self { machine: Arc::clone(machine), shared: Arc::default(), thread: Mutex::default() }
    }

    /// Slows it down for this one, as that one says.
    #[must_use]
    pub const fn claim(&self, claim: Claim) -> Claimed<'_> {
        Claimed(self, claim)
    }

    /// It is held for so many hundredths of its time from now on, as far as this one is asked.
    ///
    /// # Errors
    ///
    /// The system has no thread.
    pub fn hold(&self, claim: Claim, hundredths: u8) -> Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() && hundredths != 0 {
            let (machine, shared) = (Arc::clone(&self.machine), Arc::clone(&self.shared));
            let work = move || run(&machine, &shared);
            *thread =
                Some(std::thread::Builder::new().name("throttle".into()).stack_size(STACK).spawn(work)?);
        }
        let mut state = self.shared.lock();
        match claim {
            Claim::Share => state.share = hundredths,
            Claim::Move => state.of_move = hundredths,
        }
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = thread.take().map(JoinHandle::join);
    }
}

fn run(machine: &Machine, shared: &Shared) {
    let mut account = Account::default();
    loop {
        let state = shared.lock();
        let hundredths = state.hundredths();
        if state.is_over {
            return;
        }
        drop(state);
        if hundredths == 0 {
            // What it owes is of a time that is over.
            account = Account::default();
            shared.wait(0, Duration::MAX);
            continue;
        }
        let before = machine.ran();
        let rest = u32::from(100_u8.saturating_sub(hundredths));
        shared.wait(hundredths, MOMENT.saturating_mul(rest).checked_div(100).unwrap_or(MOMENT));
        // By the gate's time: who is held for another reason owes nothing, and who was forgotten owes more.
        let pays = account.ran(machine.ran().saturating_sub(before), hundredths);
        if !pays.is_zero() {
            machine.hold(Hold::Throttle);
            let since = Instant::now();
            shared.wait(hundredths, pays);
            account.held(since.elapsed());
            machine.release(Hold::Throttle);
        }
    }
}

/// How fast a guest is to run, over its resets.
#[derive(Debug)]
pub struct Pace {
    /// Hundredths of its time.
    share: u8,
    throttle: Option<Arc<Throttle>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { share: 100, throttle: None }
    }
}

impl Pace {
    /// The least that a guest can have: with less it does not answer any more.
    pub const LEAST: u8 = 5;

    /// A machine of its begins.
    ///
    /// # Errors
    ///
    /// The system has no thread.
    pub fn begin(&mut self, machine: &Arc<Machine>) -> Result<()> {
        self.throttle = Some(Arc::new(Throttle::new(machine)));
        self.set(self.share)
    }

    /// It has ended, or is about to.
    pub fn end(&mut self) {
        self.throttle = None;
    }

    /// What slows it down; `None`: none of its machines is there.
    #[must_use]
    pub fn throttle(&self) -> Option<Arc<Throttle>> {
        self.throttle.clone()
    }

    /// How many hundredths of its time it has.
    #[must_use]
    pub const fn share(&self) -> u8 {
        self.share
    }

    /// It has so many from now on.
    ///
    /// # Errors
    ///
    /// The system has no thread: it has what it had.
    pub fn set(&mut self, share: u8) -> Result<()> {
        let share = share.clamp(Self::LEAST, 100);
        if let Some(throttle) = &self.throttle {
            throttle.hold(Claim::Share, 100_u8.saturating_sub(share))?;
        }
        self.share = share;
        Ok(())
    }
}

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod tests;
