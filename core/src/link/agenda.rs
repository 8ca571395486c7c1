//! When to look at which peer: a witness has a hundred of them, and looking at each after each datagram cost
//! it four times what the datagram's tag did (X03).
//!
//! [`Agenda`] knows a moment before which nobody has anything to say or to be judged for. It is never too
//! late; it may be too early, for what is heard puts many a deadline off: then one round over all peers finds
//! the next one. Between two rounds only the peer is judged of whom something came.

use crate::time::{Instant, earliest};

/// When to look at which peer, by their places.
#[derive(Clone, Debug, Default)]
pub(super) struct Agenda {
    /// Nobody is due before.
    due: Option<Instant>,
    /// The next deadline of those whom the round under way has passed.
    passed: Option<Instant>,
    /// Whose turn it is in the round under way.
    turn: usize,
    /// Of whom something came since it was judged.
    touched: Option<usize>,
}

/// Whom to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// Everybody.
    All,
    /// One of them.
    One(usize),
    /// Nobody.
    Nobody,
}

impl Agenda {
    /// Begins anew, with a look at everybody: somebody came, went, or has other times.
    pub(super) fn renew(&mut self) {
        *self = Self { due: Some(Instant::ZERO), ..Self::default() };
    }

    /// When somebody is due, perhaps.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whom to judge now.
    pub(super) fn judged(&mut self, now: Instant) -> Judged {
        let touched = self.touched.take();
        match self.due.is_some_and(|due| due <= now) {
            true => Judged::All,
            false => touched.map_or(Judged::Nobody, Judged::One),
        }
    }

    /// Something came of a peer, whose deadline is this now.
    pub(super) fn touch(&mut self, place: usize, deadline: Option<Instant>) {
        self.expect(deadline);
        if self.touched.replace(place).is_some_and(|other| other != place) {
            // Two are to be judged: a round does it.
            self.due = Some(Instant::ZERO);
        }
    }

    /// A peer has this deadline now.
    pub(super) fn expect(&mut self, deadline: Option<Instant>) {
        self.due = earliest([self.due, deadline]);
        self.passed = earliest([self.passed, deadline]);
    }

    /// Whose turn it is to say what is due; `None`: nobody is due.
    pub(super) fn turn(&self, now: Instant) -> Option<usize> {
        self.due.filter(|due| *due <= now).map(|_| self.turn)
    }

    /// Who had the turn has nothing more to say before its deadline.
    pub(super) fn pass(&mut self, deadline: Option<Instant>) {
        self.passed = earliest([self.passed, deadline]);
        self.turn = self.turn.saturating_add(1);
    }

    /// All had their turn.
    pub(super) fn end(&mut self) {
        (self.due, self.passed, self.turn) = (self.passed, None, 0);
    }
}
