//! When a guest that is copied while it runs is to stand still for its rest, and when it is to be slowed
//! down, because it writes as fast as it is copied. Owns no clock.

use std::time::Duration;

/// A guest that writes so little meanwhile is not copied again while it runs.
const LITTLE: u64 = 256 << 10;
/// Rounds in which a guest may write as it likes.
const FREE: u32 = 2;
/// The first slowing down, in hundredths of the time that it does not run, and each one more.
const FIRST: u8 = 20;
const MORE: u8 = 15;
const MOST: u8 = 95;
/// Then it stands still, however much is left.
const ROUNDS_MAX: u32 = 40;

/// What is to be done after a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another one, with the guest held for so many hundredths of the time.
    Round {
        /// 0 to 95.
        held: u8,
    },
    /// It is to stand still, and the rest is to be copied.
    Rest,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug)]
pub struct Convergence {
    downtime: Duration,
    rounds: u32,
    left: u64,
    held: u8,
}

impl Convergence {
    /// Of a guest that may stand still for so long.
    #[must_use]
    pub const fn new(downtime: Duration) -> Self {
        Self { downtime, rounds: 0, left: u64::MAX, held: 0 }
    }

    /// A round has ended: `sent` bytes took so long, and `left` were written meanwhile.
    pub fn after(&mut self, sent: u64, took: Duration, left: u64) -> Next {
        let before = std::mem::replace(&mut self.left, left);
        self.rounds = self.rounds.saturating_add(1);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        // Half of the time is for all that is not memory.
        let room = u64::try_from(self.downtime.as_micros() / 2).unwrap_or(u64::MAX);
        let fits = u128::from(left).saturating_mul(u128::from(micros))
            <= u128::from(sent).saturating_mul(u128::from(room));
        if left <= LITTLE || fits || ROUNDS_MAX <= self.rounds {
            return Next::Rest;
        }
        // Less than a third was gained.
        let is_slow = (before / 3).saturating_mul(2) < left;
        if FREE < self.rounds && is_slow {
            self.held = if self.held == 0 { FIRST } else { self.held.saturating_add(MORE).min(MOST) };
        }
        Next::Round { held: self.held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Copies a guest of 1000 MiB at 100 MiB/s that writes so many MiB a second, each page once; how many
    /// rounds, and how it was held at the end.
    fn copy(writes: u64, downtime: u64) -> (u32, u8) {
        let mut convergence = Convergence::new(Duration::from_millis(downtime));
        let (mut left, mut held, mut rounds) = (1000 * MIB, 0_u8, 0);
        loop {
            rounds += 1;
            let took = Duration::from_micros(left * 1_000_000 / (100 * MIB));
            let sent = left;
            let may_run = u64::from(100 - held);
            let micros = u64::try_from(took.as_micros()).unwrap();
            left = (writes * MIB * may_run / 100 * micros / 1_000_000).min(1000 * MIB);
            match convergence.after(sent, took, left) {
                Next::Round { held: next } => held = next,
                Next::Rest => return (rounds, held),
            }
        }
    }

    #[test]
    fn a_copy_comes_to_its_end() {
        let cases = [
            // It writes nothing: one round.
            (0, 300, (1, 0)),
            // Each round is a tenth of the one before: 100 MiB, 10 MiB.
            (10, 300, (2, 0)),
            // A half: 500, 250, 125, 62.5, 31, 15.6, 7.8.
            (50, 200, (7, 0)),
            // As fast as it is copied, or faster: it is slowed down.
            (100, 300, (14, 35)),
            (400, 300, (11, 95)),
            // One that may not stand still at all does so for little.
            (100, 0, (23, 35)),
        ];
        for (writes, downtime, expected) in cases {
            assert_eq!(copy(writes, downtime), expected, "{writes} MiB/s, {downtime} ms");
        }
        // One that cannot be slowed down enough stands still at last.
        assert_eq!(copy(1_000_000, 300), (ROUNDS_MAX, MOST));
    }
}
