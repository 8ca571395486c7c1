//! Which alerts there are: each raised once and cleared once, within its bounds (X25).
//!
//! ```text
//!            holds              for raised_after               does not hold
//!  (nothing) ─────▶ Held ──────────────────────▶ Raised ──────────────────────▶ Going
//!      ▲             │ does not hold               ▲          holds again         │
//!      ├─────────────┘                             └──────────────────────────────┤
//!      └──────────────────────────────── for cleared_after ───────────────────────┘
//! ```

use core::time::Duration;

use heapless::Vec;

use super::kind::Kind;
use crate::time::{Instant, earliest};

/// Something that is wrong: its kind, and with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition {
    /// What.
    pub kind: Kind,
    /// With whom: the number of a node, a pair or whatever else the shell tells apart.
    pub subject: u32,
}

/// What became of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is an alert.
    Raised(Condition),
    /// It is none any more.
    Cleared(Condition),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// It holds since, and is no alert yet. Left by the shell's next look: see above.
    Held { since: Instant },
    /// It is an alert since.
    Raised { since: Instant },
    /// It is an alert since, and does not hold any more.
    Going { since: Instant, gone: Instant },
}

/// The alerts that this node has raised. `ALERTS` conditions at most; of more than those, the least grave are
/// not known.
#[derive(Clone, Debug, Default)]
pub struct Board<const ALERTS: usize> {
    /// In the order of their conditions.
    all: Vec<(Condition, Mode), ALERTS>,
}

impl<const ALERTS: usize> Board<ALERTS> {
    /// Nothing is wrong.
    pub const fn new() -> Self {
        Self { all: Vec::new() }
    }

    /// These conditions hold at `now`, each named once and in order, and no other does. `tell` hears what
    /// that changes.
    pub fn look(
        &mut self,
        now: Instant,
        holds: impl Iterator<Item = Condition>,
        tell: &mut impl FnMut(Change),
    ) {
        let before = core::mem::take(&mut self.all);
        let mut before = before.iter().copied().peekable();
        for condition in holds {
            while let Some((other, mode)) = before.next_if(|(other, _)| *other < condition) {
                self.missing(now, other, mode, tell);
            }
            let known = before.next_if(|(other, _)| *other == condition).map(|(_, mode)| mode);
            self.holding(now, condition, known, tell);
        }
        for (other, mode) in before {
            self.missing(now, other, mode, tell);
        }
    }

    /// The alerts, the gravest first, and since when each is one.
    pub fn raised(&self) -> impl Iterator<Item = (Condition, Instant)> {
        self.all.iter().filter_map(|(condition, mode)| match mode {
            Mode::Held { .. } => None,
            Mode::Raised { since } | Mode::Going { since, .. } => Some((*condition, *since)),
        })
    }

    /// When something changes at the latest if what holds stays as it is; `None`: nothing does.
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.all.iter().map(|(condition, mode)| match mode {
            Mode::Held { since } => Some(since.after(condition.kind.raised_after())),
            Mode::Going { gone, .. } => Some(gone.after(condition.kind.cleared_after())),
            Mode::Raised { .. } => None,
        }))
    }

    fn holding(
        &mut self,
        now: Instant,
        condition: Condition,
        known: Option<Mode>,
        tell: &mut impl FnMut(Change),
    ) {
        let mode = match known {
            Some(Mode::Raised { since } | Mode::Going { since, .. }) => Mode::Raised { since },
            Some(Mode::Held { since }) => Self::perhaps(now, condition, since),
            None => Self::perhaps(now, condition, now),
        };
        let was_raised = matches!(known, Some(Mode::Raised { .. } | Mode::Going { .. }));
        // One that has no place is none: who is told of it would never hear of its end.
        let has_place = self.all.push((condition, mode)).is_ok();
        let is_raised = has_place && matches!(mode, Mode::Raised { .. });
        match (was_raised, is_raised) {
            (false, true) => tell(Change::Raised(condition)),
            (true, false) => tell(Change::Cleared(condition)),
            (true, true) | (false, false) => {}
        }
    }

    /// It holds since then: is it an alert?
    fn perhaps(now: Instant, condition: Condition, since: Instant) -> Mode {
        match condition.kind.raised_after() <= now.since(since) {
            true => Mode::Raised { since: now },
            false => Mode::Held { since },
        }
    }

    fn missing(&mut self, now: Instant, condition: Condition, mode: Mode, tell: &mut impl FnMut(Change)) {
        let (since, gone) = match mode {
            Mode::Held { .. } => return,
            Mode::Raised { since } => (since, now),
            Mode::Going { since, gone } => (since, gone),
        };
        let is_over = condition.kind.cleared_after() <= now.since(gone);
        if is_over || self.all.push((condition, Mode::Going { since, gone })).is_err() {
            tell(Change::Cleared(condition));
        }
    }
}

/// The longest time from a condition's beginning, or end, to the word about it, for a shell that looks every
/// `look`.
pub const fn bound(kind: Kind, look: Duration) -> Duration {
    let (raised, cleared) = (kind.raised_after(), kind.cleared_after());
    let longest = if raised.as_micros() < cleared.as_micros() { cleared } else { raised };
    // Once to see it, once to see that its time is over.
    longest.saturating_add(look).saturating_add(look)
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
