//! One guest on the node that leads: looked at, begun, watched, begun again.
//!
//! Nothing is given up for good: a guest that fails again and again is tried at longer and longer intervals,
//! so that one that failed for want of something runs again when that is there (S3-14).

use core::time::Duration;

use crate::bug::{Bug, is_planted};
use crate::placement::amounts::Shortage;
use crate::time::Instant;
use crate::volume::guest::{Failover, Guest};

/// What is known of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nothing yet. Exit: it is looked whether it runs.
    Unseen,
    /// It is not to run. Exit: it is wanted.
    Off,
    /// It waits for its turn, or for room. Exit: nothing more important waits, few are being begun, and there
    /// is room.
    Down,
    /// It is being begun. Exit: whoever begins it says how that ended.
    Starting,
    /// It runs. Exit: it is seen that it does not; it is not wanted.
    Running,
    /// It failed, and is tried again. Exit: the time has come; it is not wanted; it is seen to run.
    Waiting,
    /// It does not run, and is to, and nothing is done about it: it has ended itself, or an operator is to
    /// start it. Exit: it is not wanted; it is seen to run.
    Left,
}

impl Mode {
    /// The operator's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Off => "off",
            Self::Down => "down",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Left => "left",
        }
    }
}

/// How a guest is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// With its kernel.
    Anew,
    /// From its last snapshot, if its disks hold what they held then; else anew.
    Again,
}

/// What is seen of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    /// Its process is there.
    Runs,
    /// There is none; it did not end by its own will, or nobody knows.
    Gone,
    /// There is none: it has switched itself off, or somebody has.
    Ended,
}

/// The first wait after a failure that follows another one; it doubles with each.
pub const RETRY: Duration = Duration::from_secs(1);
/// The longest wait.
pub const RETRY_MAX: Duration = Duration::from_secs(64);
/// Who has run for so long has not failed in a row.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// One guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    mode: Mode,
    wanted: Guest,
    /// Failures in a row.
    failures: u8,
    /// Since when it runs; until when it waits.
    at: Instant,
    /// It was seen to be there: what it takes is taken, whatever is wanted of it.
    is_there: bool,
    /// What is missing on this node for it.
    lacks: Option<Shortage>,
}

impl Life {
    /// A guest of which nothing is known yet.
    pub const fn new(wanted: Guest) -> Self {
        Self { mode: Mode::Unseen, wanted, failures: 0, at: Instant::ZERO, is_there: false, lacks: None }
    }

    /// What is known of it.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// What is wanted of it.
    pub const fn wanted(&self) -> Guest {
        self.wanted
    }

    /// How often it failed in a row.
    pub const fn failures(&self) -> u8 {
        self.failures
    }

    /// This is wanted of it now.
    pub fn want(&mut self, wanted: Guest) {
        let before = core::mem::replace(&mut self.wanted, wanted);
        match (before.is_wanted, wanted.is_wanted) {
            // What is under way comes to its end first.
            (_, false) if self.mode != Mode::Starting => self.mode = Mode::Off,
            // It may run already: who wants it starts it, as a rule.
            (false, true) if self.mode != Mode::Starting => self.begin_anew(),
            (true, true) if self.mode == Mode::Left && before.failover != wanted.failover => {
                self.begin_anew();
            }
            (_, false) | (false, true) | (true, true) => {}
        }
    }

    /// Nothing is known of it any more, but that it may be there: then it has its room until it is not.
    const fn begin_anew(&mut self) {
        *self = Self { is_there: self.is_there, ..Self::new(self.wanted) };
    }

    /// Whether it is to be looked at, and not only now and then.
    pub const fn is_unseen(&self) -> bool {
        matches!(self.mode, Mode::Unseen)
    }

    /// What is missing on this node for it to begin; `None`: it has what it takes, or asks for nothing.
    pub const fn lacks(&self) -> Option<Shortage> {
        self.lacks
    }

    /// Whether it has its room on this node.
    pub(super) const fn has_room(&self) -> bool {
        self.is_there || matches!(self.mode, Mode::Starting | Mode::Running)
    }

    /// Whether it is to be begun here once there is room, and its time has come.
    pub(super) const fn wants_room(&self) -> bool {
        !self.has_room() && matches!(self.mode, Mode::Down | Mode::Waiting)
    }

    /// This is missing for it now.
    pub(super) const fn lack(&mut self, lacks: Option<Shortage>) {
        self.lacks = lacks;
    }

    /// It was looked at.
    pub fn see(&mut self, now: Instant, sight: Sight) {
        self.is_there = sight == Sight::Runs;
        match (self.mode, sight) {
            // Who begins it knows better, and says so.
            (Mode::Starting, _) => {}
            (_, _) if !self.wanted.is_wanted => self.mode = Mode::Off,
            (Mode::Running, Sight::Runs) => {
                if FORGIVEN_AFTER <= now.since(self.at) {
                    self.failures = 0;
                }
            }
            (_, Sight::Runs) => {
                self.mode = Mode::Running;
                self.at = now;
            }
            (Mode::Running, Sight::Gone) => self.fail(now),
            // It ran until its node was lost, or its process was.
            (Mode::Unseen, Sight::Gone | Sight::Ended) => self.fall(),
            (Mode::Running, Sight::Ended) => self.mode = Mode::Left,
            (Mode::Off | Mode::Down | Mode::Waiting | Mode::Left, Sight::Gone | Sight::Ended) => {}
        }
    }

    /// It is begun: how.
    pub const fn begin(&mut self) -> How {
        self.mode = Mode::Starting;
        match (self.wanted.failover, self.failures) {
            // What failed from its snapshot may not fail from its kernel.
            (Failover::Resume, 0 | 1) => How::Again,
            (Failover::Resume | Failover::Restart | Failover::Stay, _) => How::Anew,
        }
    }

    /// Whether it could be begun.
    pub fn begun(&mut self, now: Instant, is_done: bool) {
        if self.mode != Mode::Starting {
            return;
        }
        self.is_there = is_done;
        match (self.wanted.is_wanted, is_done) {
            (false, _) => self.mode = Mode::Off,
            (true, true) => {
                self.mode = Mode::Running;
                self.at = now;
            }
            (true, false) => self.fail(now),
        }
    }

    /// When it is to be looked at again without an event.
    pub fn deadline(&self) -> Option<Instant> {
        (self.mode == Mode::Waiting).then_some(self.at)
    }

    /// The time has come, perhaps.
    pub fn pass(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) && !is_planted(Bug::FailedForgotten) {
            self.mode = Mode::Down;
        }
    }

    fn fail(&mut self, now: Instant) {
        if self.wanted.failover == Failover::Stay {
            self.mode = Mode::Left;
            return;
        }
        // The first one costs no wait: a guest is down.
        let doubled = u32::from(self.failures).checked_sub(1).map(|times| 1_u32.checked_shl(times));
        let wait = doubled.map_or(Duration::ZERO, |times| RETRY.saturating_mul(times.unwrap_or(u32::MAX)));
        self.failures = self.failures.saturating_add(1);
        self.mode = Mode::Waiting;
        self.at = now.after(wait.min(RETRY_MAX));
    }

    const fn fall(&mut self) {
        self.mode = match self.wanted.failover {
            Failover::Stay => Mode::Left,
            Failover::Restart | Failover::Resume => Mode::Down,
        };
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
