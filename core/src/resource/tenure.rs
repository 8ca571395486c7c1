//! When this node may run the management system: not before whoever had its role last has certainly stopped
//! it (S1-06, S2-03, V20, V24).
//!
//! The role is a register, and its lease says who may *decide*. A service that was started under it outlives
//! the lease by the time it takes to stop it. So who wins the role waits for that time, the grace, unless
//!
//! - nobody ever held the role, or
//! - this node held it last itself: then only what was left of its own wait counts, or
//! - who held it last was fenced: then nothing of *that one* runs, and the one before it began to stop when
//!   the fenced one was first seen in the role.
//!
//! ```text
#![doc = include_str!("tenure.edges.txt")]
//! ```

use core::time::Duration;

use crate::id::{Epoch, NodeId};
use crate::time::Instant;

/// What the shell tells the machine. Repeating it is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another node said that it acts in the role. A record that names it would not do: it may not be chosen.
    Seen {
        /// Which.
        holder: NodeId,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// A fencing device confirmed that `node` was off at some time after `asked`.
    Fenced {
        /// Which.
        node: NodeId,
        /// When the device was asked.
        asked: Instant,
    },
    /// This node may act under `epoch` at this instant.
    Held {
        /// The newest epoch.
        epoch: Epoch,
    },
    /// This node may not act.
    Lost,
    /// Whether the boot profile has the management system on the node that has its role.
    Profile {
        /// Whether it does.
        manages: bool,
    },
    /// [`Tenure::deadline`] has passed.
    Timeout,
}

/// The machine's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The role is not held. Exit: it is.
    Away,
    /// It is held, and what others started may still run. Exit: the time is over; the role is lost.
    Waiting {
        /// From when on nothing of the others runs.
        until: Instant,
    },
    /// It is held and nothing of the others runs, but the boot profile starts none here. Exit: another
    /// profile; the role is lost.
    Entitled,
    /// The management system belongs here, whatever profile comes next. Exit: the role is lost.
    Managing,
}

/// Who was seen in the role last, other than this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    holder: NodeId,
    /// The newest epoch it was seen under.
    epoch: Epoch,
    /// When it was seen under that one first.
    changed: Instant,
    /// When it was seen first; nobody else held the role since.
    since: Instant,
    /// It was fenced under that epoch.
    fenced: bool,
}

/// This node's right to run the management system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    mode: Mode,
    grace: Duration,
    manages: bool,
    seen: Option<Seen>,
    /// The epoch under which the role was won last.
    won: Option<Epoch>,
    /// The newest epoch under which it was held.
    held: Option<Epoch>,
    /// From when on nothing of the others runs, as of the last time it was won.
    quiet: Instant,
}

impl Tenure {
    /// A node that knows nothing yet. `grace`: within it, by this node's clock, who loses the role has
    /// stopped what belongs to it, or was reset.
    pub const fn new(grace: Duration) -> Self {
        let (mode, quiet) = (Mode::Away, Instant::ZERO);
        Self { mode, grace, manages: false, seen: None, won: None, held: None, quiet }
    }

    /// The current mode.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the management system is wanted here.
    pub const fn manages(&self) -> bool {
        matches!(self.mode, Mode::Managing)
    }

    /// When [`Event::Timeout`] is due.
    pub const fn deadline(&self) -> Option<Instant> {
        match self.mode {
            Mode::Waiting { until } => Some(until),
            Mode::Away | Mode::Entitled | Mode::Managing => None,
        }
    }

    /// Takes one event.
    pub fn step(&mut self, now: Instant, event: Event) {
        match (self.mode, event) {
            (_, Event::Seen { holder, epoch }) => self.see(now, holder, epoch),
            (mode, Event::Fenced { node, asked }) => {
                self.fence(node, asked);
                if let Mode::Waiting { .. } = mode {
                    self.wait();
                }
            }
            (Mode::Away, Event::Held { epoch }) => {
                self.quiet = self.quiet_from(now, epoch);
                (self.won, self.held) = (Some(epoch), Some(epoch));
                self.enter(Mode::Waiting { until: self.quiet });
            }
            (Mode::Waiting { .. } | Mode::Entitled | Mode::Managing, Event::Held { epoch }) => {
                self.held = self.held.max(Some(epoch));
            }
            (Mode::Waiting { .. } | Mode::Entitled | Mode::Managing, Event::Lost) => self.enter(Mode::Away),
            (_, Event::Profile { manages }) => self.manages = manages,
            // Repeated news, and time that passes.
            (Mode::Away, Event::Lost) | (_, Event::Timeout) => {}
        }
        self.go_on(now);
    }

    /// What follows from the time and the profile.
    fn go_on(&mut self, now: Instant) {
        if let Mode::Waiting { until } = self.mode
            && until <= now
        {
            self.enter(Mode::Entitled);
        }
        if self.mode == Mode::Entitled && self.manages {
            self.enter(Mode::Managing);
        }
    }

    fn see(&mut self, now: Instant, holder: NodeId, epoch: Epoch) {
        let newest = self.seen.map(|seen| seen.epoch).max(self.held);
        if newest.is_some_and(|newest| epoch <= newest) {
            return;
        }
        let since = self.seen.filter(|seen| seen.holder == holder && follows(seen.epoch, epoch));
        let since = since.map_or(now, |seen| seen.since);
        self.seen = Some(Seen { holder, epoch, changed: now, since, fenced: false });
    }

    /// Only a question that was asked after it was seen under its epoch says anything about it.
    fn fence(&mut self, node: NodeId, asked: Instant) {
        if let Some(seen) = &mut self.seen
            && seen.holder == node
            && seen.changed <= asked
        {
            seen.fenced = true;
        }
    }

    /// From when on nothing of the others runs, when the role is won at `now` under `epoch`.
    fn quiet_from(&self, now: Instant, epoch: Epoch) -> Instant {
        let was_mine = self.held.is_some_and(|held| held == epoch || follows(held, epoch));
        if epoch <= Epoch(1) {
            now
        } else if was_mine {
            self.quiet
        } else {
            self.after_fence(epoch).unwrap_or_else(|| now.after(self.grace))
        }
    }

    /// The same, when the holder just before `epoch` is known and was fenced.
    fn after_fence(&self, epoch: Epoch) -> Option<Instant> {
        let last = self.seen.filter(|seen| seen.fenced && follows(seen.epoch, epoch))?;
        Some(last.since.after(self.grace))
    }

    /// A fence that was confirmed only after the role was won shortens the wait.
    fn wait(&mut self) {
        if let Some(quiet) = self.won.and_then(|won| self.after_fence(won)) {
            self.quiet = self.quiet.min(quiet);
            self.mode = Mode::Waiting { until: self.quiet };
        }
    }

    /// The only place where the mode changes from one variant to another.
    fn enter(&mut self, next: Mode) {
        let edge = (self.mode.name(), next.name());
        assert!(EDGES.contains(&edge), "no such edge: {} -> {}", edge.0, edge.1);
        self.mode = next;
    }
}

impl Mode {
    /// The name used in [`EDGES`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Waiting { .. } => "waiting",
            Self::Entitled => "entitled",
            Self::Managing => "managing",
        }
    }
}

/// Every change raises the epoch by one: nobody had the role between these two.
fn follows(old: Epoch, new: Epoch) -> bool {
    old.0.checked_add(1) == Some(new.0)
}

/// Every allowed change of mode.
pub const EDGES: &[(&str, &str)] = &[
    ("away", "waiting"),
    ("waiting", "away"),
    ("waiting", "entitled"),
    ("entitled", "away"),
    ("entitled", "managing"),
    ("managing", "away"),
];

#[cfg(test)]
#[path = "tenure_tests.rs"]
mod tests;
