//! Monotonic time, always given by the shell, and the bound on how far two clocks drift apart.
//!
//! Nothing here knows what time of day it is: a jump of the wall clock changes no decision (V17).

use core::time::Duration;

/// A point on the node's own monotonic clock, which runs on while the node sleeps (F23).
///
/// Unit: microseconds since an origin that the shell picks once per start. Two nodes' instants cannot be
/// compared. `u64` microseconds last 584,000 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    micros: u64,
}

impl Instant {
    /// The shell's origin.
    pub const ZERO: Self = Self { micros: 0 };

    /// Builds an instant from microseconds since the shell's origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self { micros }
    }

    /// Builds an instant from milliseconds since the shell's origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_micros(millis.saturating_mul(1_000))
    }

    /// Microseconds since the shell's origin.
    pub const fn as_micros(self) -> u64 {
        self.micros
    }

    /// The instant `wait` later; saturates at the end of time, so a deadline never wraps.
    pub const fn after(self, wait: Duration) -> Self {
        Self::from_micros(self.micros.saturating_add(micros(wait)))
    }

    /// How long ago `earlier` was; zero when it is not in the past.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.micros.saturating_sub(earlier.micros))
    }
}

/// An instant as a record keeps it of which there are many: seven bytes without alignment, enough for 2,283
/// years after the origin. Later ones are kept as that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The most significant byte first: so they compare as the instants do.
    bytes: [u8; 7],
}

impl Stamp {
    /// When it was.
    pub const fn instant(self) -> Instant {
        let [a, b, c, d, e, f, g] = self.bytes;
        Instant::from_micros(u64::from_be_bytes([0, a, b, c, d, e, f, g]))
    }
}

impl From<Instant> for Stamp {
    fn from(instant: Instant) -> Self {
        let [high, bytes @ ..] = instant.as_micros().to_be_bytes();
        Self { bytes: if high == 0 { bytes } else { [u8::MAX; 7] } }
    }
}

/// `duration` in whole microseconds, rounded down; saturates.
pub const fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(duration.subsec_micros() as u64)
}

/// How much any clock of the site may run fast or slow, in parts per million of true time (F22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Drift(u32);

impl Drift {
    /// One per cent: far beyond any working quartz, and what FAULTS F22 asks for.
    pub const DEFAULT: Self = Self(10_000);
    /// A clock that is a tenth wrong is broken, not drifting.
    pub const MAX: Self = Self(100_000);

    /// A bound in parts per million, up to [`Self::MAX`].
    pub const fn from_ppm(ppm: u32) -> Option<Self> {
        if ppm > Self::MAX.0 { None } else { Some(Self(ppm)) }
    }

    /// Parts per million.
    pub const fn as_ppm(self) -> u32 {
        self.0
    }

    /// How long to count on one's own clock so that no more than `promised` passes in true time, however
    /// fast or slow this clock runs. What the holder of a lease counts (V3).
    pub const fn at_most(self, promised: Duration) -> Duration {
        let micros = micros(promised);
        Duration::from_micros(micros.saturating_sub(self.part_rounded_up(micros)))
    }

    /// How long to count on one's own clock so that at least `promised` passes in true time. What the voter
    /// that granted a lease counts (V11).
    pub const fn at_least(self, promised: Duration) -> Duration {
        let micros = micros(promised);
        Duration::from_micros(micros.saturating_add(self.part_rounded_up(micros)))
    }

    /// The longest true time that passes while a clock within this bound counts `counted`: how late whoever
    /// waits by its own clock may be (X06).
    pub const fn at_longest(self, counted: Duration) -> Duration {
        let slowest = 1_000_000_u64.saturating_sub(self.0 as u64);
        Duration::from_micros(micros(counted).saturating_mul(1_000_000).div_ceil(slowest))
    }

    const fn part_rounded_up(self, micros: u64) -> u64 {
        (micros.saturating_mul(self.0 as u64)).div_ceil(1_000_000)
    }
}

/// When a machine must be called again at the latest; an earlier, later or repeated call is harmless.
pub fn earliest(deadlines: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    let sooner = |first: Option<Instant>, one: Option<Instant>| match (first, one) {
        (Some(first), Some(one)) => Some(first.min(one)),
        (first, one) => first.or(one),
    };
    deadlines.into_iter().fold(None, sooner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The holder's clock at its slowest and the voter's at its fastest still leave no overlap (V3).
    #[test]
    fn a_holder_stops_before_any_voter_moves_on() {
        for ppm in [0, 1, 100, 10_000, 100_000] {
            let drift = Drift::from_ppm(ppm).unwrap();
            for millis in [1, 7, 100, 2_000, 600_000] {
                let promised = Duration::from_millis(millis);
                let (holder, voter) = (u128::from(micros(drift.at_most(promised))), drift.at_least(promised));
                let (slow, fast) = (u128::from(1_000_000 - ppm), u128::from(1_000_000 + ppm));
                // True time = own time / rate. Compared crosswise, without rounding.
                assert!(holder * fast <= u128::from(micros(voter)) * slow, "{ppm} ppm, {millis} ms");
            }
        }
    }

    #[test]
    fn a_deadline_never_wraps() {
        let end = Instant::from_micros(u64::MAX);
        assert_eq!(end.after(Duration::MAX), end);
        assert_eq!(Instant::ZERO.since(end), Duration::ZERO);
        assert_eq!(Drift::MAX.at_least(Duration::MAX), Duration::from_micros(u64::MAX));
        assert_eq!(Drift::from_ppm(100_001), None);
    }

    #[test]
    fn a_stamp_is_its_instant() {
        let last = (1 << 56) - 1;
        for (micros, kept) in
            [(0, 0), (1, 1), (0x0102_0304_0506, 0x0102_0304_0506), (last, last), (last + 1, last)]
        {
            assert_eq!(Stamp::from(Instant::from_micros(micros)).instant(), Instant::from_micros(kept));
        }
        assert!(Stamp::from(Instant::from_micros(255)) < Stamp::from(Instant::from_micros(256)));
    }

    /// X06: a clock that loses a tenth needs ten ninths of the time, never less by rounding.
    #[test]
    fn a_slow_clock_is_late() {
        assert_eq!(Drift::MAX.at_longest(Duration::from_micros(900)), Duration::from_micros(1_000));
        assert_eq!(Drift::MAX.at_longest(Duration::from_micros(901)), Duration::from_micros(1_002));
        let exact = Drift::from_ppm(0).unwrap();
        assert_eq!(exact.at_longest(Duration::from_millis(7)), Duration::from_millis(7));
    }
}
