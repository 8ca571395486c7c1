//! What is counted for the operator: loss, the spread of round trips, restarts, silences (S3-02).
//!
//! Nothing is decided by it. A witness on a microcontroller keeps none.

use core::time::Duration;

use super::hello::Versions;
use super::path::Shown;
use crate::id::Path;

/// The sums of one path to one peer.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Of the last 64 heartbeats, which came. Bit 0 is the newest.
    came: u64,
    /// How many of those 64 were due since this path was first heard.
    due: u32,
    /// The shortest and the longest round trip of the samples being gathered, and of those before.
    spreads: [Option<(u32, u32)>; 2],
    /// How many are being gathered.
    gathered: u32,
    /// Heartbeats received.
    received: u32,
}

/// What an operator is shown of one peer, and nothing else hangs on.
#[derive(Clone, Debug, Default)]
pub struct Account {
    paths: [Tally; 2],
    /// How often a new start of it took the place of an old one.
    pub restarts: u32,
    /// How often it became silent: a link that flaps shows here.
    pub silences: u32,
    /// What it speaks, when it is nothing that this node speaks.
    pub refused: Option<Versions>,
}

impl Account {
    /// A session with it begins; `is_another` with another start than the one before.
    pub fn begin(&mut self, is_another: bool) {
        self.restarts = self.restarts.saturating_add(u32::from(is_another));
        (self.paths, self.refused) = Default::default();
    }

    /// The sums of one path to it.
    pub fn path(&mut self, path: Path) -> &mut Tally {
        let [one, two] = &mut self.paths;
        path.pick(one, two)
    }
}

/// How many round trips are gathered before the oldest ones are forgotten.
const GATHERED_MAX: u32 = 32;

impl Tally {
    /// The shortest and the longest of the last 32 to 64.
    pub fn round_trips(&self) -> Option<(Duration, Duration)> {
        let (least, most) = self.spreads.iter().copied().flatten().reduce(wider)?;
        Some((Duration::from_micros(least.into()), Duration::from_micros(most.into())))
    }

    /// How many heartbeats were received.
    pub const fn received(&self) -> u32 {
        self.received
    }

    /// Of the last 64 heartbeats due, how many did not come, in thousandths.
    pub fn loss_permille(&self) -> u32 {
        let lost = self.due.saturating_sub(self.came.count_ones());
        lost.saturating_mul(1_000).checked_div(self.due).unwrap_or(0)
    }

    /// A heartbeat came, and showed this.
    pub fn take(&mut self, shown: Shown) {
        self.received = self.received.saturating_add(1);
        if let Some(ahead) = shown.ahead {
            self.came = self.came.checked_shl(ahead).unwrap_or(0) | 1;
            self.due = self.due.saturating_add(ahead).min(64);
        }
        if let Some(short) = shown.round_trip {
            let [current, before] = self.spreads;
            self.spreads = match self.gathered < GATHERED_MAX {
                true => [current.into_iter().chain([(short, short)]).reduce(wider), before],
                false => [Some((short, short)), current],
            };
            self.gathered = self.gathered.checked_rem(GATHERED_MAX).unwrap_or(0).saturating_add(1);
        }
    }
}

fn wider(a: (u32, u32), b: (u32, u32)) -> (u32, u32) {
    (a.0.min(b.0), a.1.max(b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::path::{Heartbeat, PathState};
    use crate::time::Instant;

    #[test]
    fn what_does_not_come_in_time_is_lost() {
        let (mut path, mut tally) = (PathState::default(), Tally::default());
        let mut take = |seq| {
            let beat = Heartbeat { seq, sent: 1, echo: 0, held: 0 };
            tally.take(path.take(Instant::ZERO, Instant::ZERO, &beat));
            tally.loss_permille()
        };
        let losses = [1, 2, 4, 3, 4, 5].map(&mut take);
        assert_eq!(losses.last(), Some(&200), "one of five");
        assert_eq!(take(1_000), 984, "63 of 64");
    }
}
