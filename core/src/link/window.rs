//! Each frame is delivered at most once, on whatever paths its copies come (V22, F31, F39).

use crate::bytes::Long;

/// How far behind the newest frame a late one may still be.
pub const LATE_MAX: u64 = 63;

/// Which counters of one direction of a session were received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Window {
    /// The highest counter received.
    newest: Long,
    /// Bit n: the counter `newest - n` was received. Invariant: bit 0 is set, unless nothing was received.
    seen: Long,
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
    /// What `counter` would be, if a frame with it is authentic. Known frames are not worth the look at their
    /// tag.
    pub fn look(&self, counter: u64) -> Arrival {
        let (newest, seen) = (self.newest.get(), self.seen.get());
        if seen == 0 || newest < counter {
            return Arrival::First;
        }
        let behind = newest.saturating_sub(counter);
        if LATE_MAX < behind {
            return Arrival::TooLate;
        }
        if seen & (1 << behind) != 0 { Arrival::Repeated } else { Arrival::First }
    }

    /// Notes `counter` of an authentic frame.
    pub fn arrive(&mut self, counter: u64) -> Arrival {
        let arrival = self.look(counter);
        if arrival != Arrival::First {
            return arrival;
        }
        let (newest, seen) = (self.newest.get(), self.seen.get());
        let ahead = u32::try_from(counter.saturating_sub(newest)).unwrap_or(u32::MAX);
        let (newest, seen) = match seen == 0 || newest < counter {
            true => (counter, seen.checked_shl(ahead).unwrap_or(0) | 1),
            false => (newest, seen | 1 << newest.saturating_sub(counter)),
        };
        (self.newest, self.seen) = (newest.into(), seen.into());
        arrival
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
