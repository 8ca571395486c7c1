//! What the operator wants, and what the site can do.

use core::time::Duration;

use crate::time::Drift;

/// What timers must satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// From the death of a master to the next one acting, at the longest.
    pub recovery_time: Duration,
    /// How far any clock may be off.
    pub drift: Drift,
    /// Longest round trip between two nodes of the site.
    pub round_trip: Duration,
    /// Heartbeats lost on one network, at the most, in thousandths; up to 300.
    pub loss_permille: u32,
    /// Longest time until a voter's write is durable.
    pub persist: Duration,
    /// Longest time an agent waits for a processor.
    pub pause: Duration,
    /// Longest time a fencing device takes; `None`: there is none.
    pub fence: Option<Duration>,
}

impl Demand {
    /// A switched network on the site, disks and processors that are shared with guests.
    pub const LAN: Self = Self {
        recovery_time: Duration::from_millis(1_000),
        drift: Drift::DEFAULT,
        round_trip: Duration::from_millis(5),
        loss_permille: 20,
        persist: Duration::from_millis(20),
        pause: Duration::from_millis(50),
        fence: Some(Duration::from_secs(30)),
    };

    /// One rack, good clocks, disks and processors of its own: what [`super::timers::Timers::TIGHT`] is for.
    pub const RACK: Self = Self {
        recovery_time: Duration::from_millis(200),
        drift: match Drift::from_ppm(1_000) {
            Some(drift) => drift,
            None => Drift::DEFAULT,
        },
        round_trip: Duration::from_millis(1),
        persist: Duration::from_millis(5),
        pause: Duration::from_millis(10),
        ..Self::LAN
    };

    /// Compartments a city apart, on links and disks that are shared: what [`super::timers::Timers::WIDE`] is
    /// for.
    pub const METRO: Self = Self {
        recovery_time: Duration::from_secs(10),
        round_trip: Duration::from_millis(20),
        loss_permille: 100,
        persist: Duration::from_millis(100),
        pause: Duration::from_millis(200),
        ..Self::LAN
    };

    /// One phase of a round at a register, at its slowest: there and back, a durable write, and a wait for a
    /// processor.
    pub fn phase(&self) -> Duration {
        self.round_trip.saturating_add(self.persist).saturating_add(self.pause)
    }

    /// How many heartbeats in a row must be missing on both networks so that chance alone makes it happen
    /// less than once in 10^9 heartbeats (a year at ten a second is 3 x 10^8).
    pub fn losses(&self) -> u32 {
        // Both networks lose it: the square, in millionths. What is left of one, in 10^-18.
        let loss = u128::from(self.loss_permille.min(999));
        let both = loss.saturating_mul(loss);
        let (mut chance, mut count) = (1_000_000_000_000_000_000_u128, 0_u32);
        while count < 2 || 1_000_000_000 < chance {
            chance = chance.saturating_mul(both).div_ceil(1_000_000);
            count = count.saturating_add(1);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_loss_needs_more_patience() {
        for (loss_permille, losses) in [(0, 2), (1, 2), (20, 3), (100, 5), (200, 7), (300, 9)] {
            assert_eq!(Demand { loss_permille, ..Demand::LAN }.losses(), losses, "{loss_permille}");
        }
    }
}
