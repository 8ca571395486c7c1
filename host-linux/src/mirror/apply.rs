//! Which writes may be read, and which are on their way to the backing store (I10, I12).

use super::tape::Tape;
use bulkhead_core::log::Seq;
use bulkhead_core::time::Instant;
use std::time::Duration;

/// So long a write may lie before a round of the applier begins for it: many small ones become one.
const LAG: Duration = Duration::from_millis(200);

/// How far it is.
#[derive(Debug)]
pub struct Apply {
    /// Every write up to this one may be read.
    target: Seq,
    /// Every write up to this one can be.
    visible: Seq,
    /// Reads those that are not in memory.
    pub tape: Tape,
    is_running: bool,
    /// When a write came that is not asked for yet.
    since: Option<Instant>,
    /// A primary fills the store: nothing of the log goes there.
    is_stopped: bool,
    /// What the log had at the start. Guests cannot read before it was looked at; the store can wait, and
    /// would have the disk read all of it a second time meanwhile.
    found: Seq,
}

impl Apply {
    /// The store has every write up to this one.
    pub fn new(applied: Seq) -> Self {
        let tape = Tape::default();
        let (target, visible, found) = (applied, applied, applied);
        Self { target, visible, tape, is_running: false, since: None, is_stopped: false, found }
    }

    /// As [`Self::new`], of a log that has every write up to `found`.
    pub fn found(applied: Seq, found: Seq) -> Self {
        Self { found, ..Self::new(applied) }
    }

    /// Whether what the log had at the start is still to be looked at, as far as it may be read.
    fn is_reading(&self) -> bool {
        self.visible < self.target.min(self.found)
    }

    /// The store has every write up to this one, and what was said besides does not count.
    pub fn restart(&mut self, applied: Seq, target: Seq) {
        let is_running = self.is_running;
        *self = Self { is_running, target: target.max(applied), ..Self::new(applied) };
    }

    /// Every write up to this one may be read.
    pub fn target(&mut self, seq: Seq) {
        self.target = self.target.max(seq);
    }

    /// Nothing of the log is to be written to the store until the next [`Self::restart`].
    pub const fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Every write up to this one was made readable.
    pub const fn visible(&self) -> Seq {
        self.visible
    }

    /// The next write to be made readable.
    pub fn next(&self) -> Option<Seq> {
        (self.visible < self.target && !self.is_stopped).then(|| self.visible.next())
    }

    /// It is.
    pub fn shown(&mut self, now: Instant) {
        self.visible = self.visible.next();
        self.since = self.since.or(Some(now));
    }

    /// Whether all that may be read can be, and this write with it.
    pub fn shows_all(&self, from: Seq) -> bool {
        from <= self.visible && self.visible == self.target
    }

    /// What another round is to bring into the store, if one is worth it. `is_full`: memory has no room for
    /// more of what may be read, until the store has some of it.
    pub fn round(&mut self, now: Instant, applied: Seq, is_urgent: bool, is_full: bool) -> Option<Seq> {
        let is_due = is_urgent || self.since.is_some_and(|since| since.after(LAG) <= now);
        let is_due = is_due && (is_full || !self.is_reading());
        if self.is_running || self.is_stopped || self.visible <= applied || !is_due {
            return None;
        }
        self.is_running = true;
        self.since = None;
        Some(self.visible)
    }

    /// A round is over: the store has every write up to this one.
    pub fn ended(&mut self, now: Instant, applied: Seq) {
        self.is_running = false;
        if applied < self.visible {
            self.since = self.since.or(Some(now));
        }
    }

    /// When another round is due.
    pub fn due_at(&self) -> Option<Instant> {
        let waits = self.is_running || self.is_stopped || self.is_reading();
        self.since.filter(|_| !waits).map(|since| since.after(LAG))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At a start guests wait until the log was looked at; the store does not keep the disk from that.
    #[test]
    fn what_the_log_had_is_looked_at_before_the_store_gets_it() {
        let now = Instant::from_micros(1);
        let mut apply = Apply::found(Seq(3), Seq(6));
        apply.target(Seq(9));
        for seen in 4..=5 {
            apply.shown(now);
            assert_eq!((apply.visible(), apply.round(now, Seq(3), true, false)), (Seq(seen), None));
            assert_eq!(apply.due_at(), None, "nobody is woken for nothing");
        }
        assert_eq!(apply.round(now, Seq(3), true, true), Some(Seq(5)), "memory has no room for more");
        apply.ended(now, Seq(5));
        apply.shown(now);
        assert_eq!(apply.due_at(), Some(now.after(LAG)));
        assert_eq!(apply.round(now, Seq(5), true, false), Some(Seq(6)));
        apply.ended(now, Seq(6));
        // What no holder in sync is known to have is not waited for.
        let mut apply = Apply::found(Seq(3), Seq(6));
        apply.target(Seq(4));
        apply.shown(now);
        assert_eq!(apply.round(now, Seq(3), true, false), Some(Seq(4)));
    }
}
