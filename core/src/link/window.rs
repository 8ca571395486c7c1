//! Each frame is delivered at most once, on whatever paths its copies come (V22, F31, F39).

/// How far behind the newest frame a late one may still be.
pub const LATE_MAX: u64 = 127;

/// Which counters of one direction of a session were received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Window {
    /// The highest counter received.
    newest: u64,
    /// Bit n of (low, high): the counter `newest - n` was received. Invariant: bit 0 is set, unless nothing
    /// was received. Two halves, because a `u128` would be aligned to 16 bytes in every peer's record.
    seen: [u64; 2],
}

/// What a counter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first copy.
    First,
    /// Another copy: the frame came on the other path, the network repeated it, or somebody replays it.
    Repeated,
    /// So late that nobody knows whether it was received.
    TooLate,
}

impl Window {
    /// Notes `counter` of an authenticated frame.
    pub fn arrive(&mut self, counter: u64) -> Arrival {
        let mut seen = self.seen();
        if seen == 0 || self.newest < counter {
            let shift = u32::try_from(counter.saturating_sub(self.newest)).unwrap_or(u32::MAX);
            seen = seen.checked_shl(shift).unwrap_or(0) | 1;
            self.newest = counter;
            self.set(seen);
            return Arrival::First;
        }
        let behind = self.newest.saturating_sub(counter);
        if LATE_MAX < behind {
            return Arrival::TooLate;
        }
        let bit = 1_u128 << behind;
        if seen & bit != 0 {
            return Arrival::Repeated;
        }
        self.set(seen | bit);
        Arrival::First
    }

    fn seen(&self) -> u128 {
        let [low, high] = self.seen;
        u128::from(high) << 64 | u128::from(low)
    }

    fn set(&mut self, seen: u128) {
        let [a, b, c, d, e, f, g, h, high @ ..] = seen.to_le_bytes();
        self.seen = [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes(high)];
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a model that remembers everything.
        #[test]
        fn no_frame_is_delivered_twice(counters in prop::collection::vec(0_u64..600, 1..400)) {
            let (mut window, mut delivered) = (Window::default(), BTreeSet::new());
            for counter in counters {
                let newest = delivered.last().copied().unwrap_or(0);
                let expected = if delivered.contains(&counter) && counter + LATE_MAX >= newest {
                    Arrival::Repeated
                } else if counter + LATE_MAX < newest {
                    Arrival::TooLate
                } else {
                    Arrival::First
                };
                prop_assert_eq!(window.arrive(counter), expected);
                if expected == Arrival::First {
                    prop_assert!(delivered.insert(counter));
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        let mut window = Window::default();
        assert_eq!(window.arrive(0), Arrival::First);
        assert_eq!(window.arrive(0), Arrival::Repeated);
        assert_eq!(window.arrive(u64::MAX), Arrival::First);
        assert_eq!(window.arrive(0), Arrival::TooLate);
        assert_eq!(window.arrive(u64::MAX - LATE_MAX), Arrival::First);
    }
}
