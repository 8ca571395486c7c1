//! A node's clock: it runs at its own rate, within the bound on drift, from its own origin (F22).

use bulkhead_core::time::Instant;

/// One clock. Goes on while its node sleeps or is off (F23).
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Parts per million that it runs fast; negative: slow.
    pub rate: i64,
    /// What it shows at true time 0, microseconds.
    pub origin: u64,
}

impl Clock {
    /// What it shows at the true time `micros`.
    pub const fn at(&self, micros: u64) -> Instant {
        let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
        let gained = whole.cast_signed() * self.rate + part.cast_signed() * self.rate / 1_000_000;
        Instant::from_micros(self.origin + micros.saturating_add_signed(gained))
    }

    /// The first true time at which it shows at least `instant`, not before `now`.
    pub fn when(&self, instant: Instant, now: u64) -> u64 {
        let own = instant.as_micros().saturating_sub(self.at(now).as_micros()).cast_signed();
        if own == 0 {
            return now;
        }
        // Rounded up, and one more for the rounding in `at`.
        now + (own * 1_000_000 / (1_000_000 + self.rate)).cast_unsigned() + 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_never_early_and_hardly_late() {
        for rate in [-10_000, -1, 0, 7, 10_000] {
            let clock = Clock { rate, origin: 123_456 };
            for now in [0, 1, 999_999, 5_000_001, 60_000_000] {
                for wait in [1, 75_000, 600_000, 30_000_000] {
                    let due = Instant::from_micros(clock.at(now).as_micros() + wait);
                    let when = clock.when(due, now);
                    assert!(due <= clock.at(when), "early: {rate} {now} {wait}");
                    assert!(clock.at(when).as_micros() < due.as_micros() + 5, "late: {rate} {now} {wait}");
                }
            }
        }
    }
}
