//! Is a peer alive? Slow is not dead (X07, V28), a flapping link is not a returning peer (F40, L-4), and who
//! has slept must listen before it judges (F19).

use core::time::Duration;

use crate::bug::{Bug, is_planted};
use crate::time::{Instant, Stamp};

/// What is thought of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nothing was heard of it yet.
    Unknown,
    /// It is heard in time.
    Up,
    /// It is heard, but late. It costs nothing yet.
    Slow,
    /// Nothing was heard of it on any path for longer than [`Limits::silence`].
    Silent,
}

impl Verdict {
    /// Whether it can be counted on: heard of, not silent.
    pub const fn is_alive(self) -> bool {
        match self {
            Self::Up | Self::Slow => true,
            Self::Unknown | Self::Silent => false,
        }
    }
}

/// When a peer is what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Not heard for longer than this, or a longer round trip: slow.
    pub slow: Duration,
    /// Not heard for longer than this: silent. Longer than `slow`.
    pub silence: Duration,
    /// A silent peer is up again when it was heard without a gap for this long.
    pub stable: Duration,
}

/// The judgement of one peer. When it was heard last is kept where it is heard, and handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    verdict: Verdict,
    /// Since when it is heard again without a gap, while it is still taken for silent.
    returning: Option<Stamp>,
}

impl Default for Suspicion {
    fn default() -> Self {
        Self { verdict: Verdict::Unknown, returning: None }
    }
}

impl Suspicion {
    /// What is thought of the peer.
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Something authenticated was heard on any path, for the first time since `before`.
    pub fn hear(&mut self, now: Instant, before: Option<Instant>, limits: &Limits) {
        let gap = before.map(|heard| now.since(heard));
        let has_gap = self.returning.is_none() || gap.is_none_or(|gap| limits.slow < gap);
        if self.verdict == Verdict::Silent && has_gap && !is_planted(Bug::SilentForEver) {
            self.returning = Some(now.into());
        }
    }

    /// The peer proved that it started anew: its silence is explained and over.
    pub const fn restart(&mut self) {
        self.returning = None;
        // Not `Up`: the next judgement says so, and tells everybody.
        self.verdict = Verdict::Unknown;
    }

    /// Judges. `listening` is since when this node has been able to hear: its start, or its last sleep.
    pub fn judge(
        &mut self,
        now: Instant,
        listening: Instant,
        heard: Option<Instant>,
        round_trip: Option<Duration>,
        limits: &Limits,
    ) -> Verdict {
        let Some(heard) = heard else { return self.verdict };
        let quiet = now.since(heard.max(listening));
        let is_late = limits.slow < quiet || round_trip.is_some_and(|round_trip| limits.slow < round_trip);
        let next = match (self.verdict, is_late) {
            (Verdict::Unknown | Verdict::Up | Verdict::Slow, _) if limits.silence < quiet => {
                self.returning = None;
                Verdict::Silent
            }
            // Gone again before it was stable.
            (Verdict::Silent, _) if limits.slow < quiet => {
                self.returning = None;
                Verdict::Silent
            }
            (Verdict::Silent, late) => match self.returning.map(Stamp::instant) {
                Some(since) if limits.stable <= now.since(since) && late => Verdict::Slow,
                Some(since) if limits.stable <= now.since(since) => Verdict::Up,
                Some(_) | None => Verdict::Silent,
            },
            (Verdict::Unknown | Verdict::Up | Verdict::Slow, true) => Verdict::Slow,
            (Verdict::Unknown | Verdict::Up | Verdict::Slow, false) => Verdict::Up,
        };
        self.verdict = next;
        next
    }

    /// When to judge next, if nothing is heard before.
    pub fn deadline(&self, listening: Instant, heard: Option<Instant>, limits: &Limits) -> Option<Instant> {
        let heard = heard?;
        // One microsecond later the limit is passed.
        let past = |limit: Duration| heard.max(listening).after(limit).after(Duration::from_micros(1));
        match self.verdict {
            Verdict::Unknown => Some(heard),
            Verdict::Up => Some(past(limits.slow)),
            Verdict::Slow => Some(past(limits.silence)),
            Verdict::Silent => self.returning.map(|since| since.instant().after(limits.stable)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const LIMITS: Limits = Limits {
        slow: Duration::from_millis(100),
        silence: Duration::from_millis(300),
        stable: Duration::from_millis(200),
    };

    /// A peer, with when it was heard last.
    #[derive(Debug, Default)]
    struct Peer {
        suspicion: Suspicion,
        heard: Option<Instant>,
    }

    impl Peer {
        fn hear(&mut self, now: Instant, limits: &Limits) {
            self.suspicion.hear(now, self.heard.replace(now), limits);
        }

        fn restart(&mut self, now: Instant) {
            self.heard = Some(now);
            self.suspicion.restart();
        }

        fn judge(
            &mut self,
            now: Instant,
            listening: Instant,
            trip: Option<Duration>,
            limits: &Limits,
        ) -> Verdict {
            self.suspicion.judge(now, listening, self.heard, trip, limits)
        }

        fn deadline(&self, listening: Instant, limits: &Limits) -> Option<Instant> {
            self.suspicion.deadline(listening, self.heard, limits)
        }
    }

    /// Hears at `heard` (milliseconds), judges at each of `at`.
    fn verdicts(heard: &[u64], at: &[u64], listening: u64) -> Vec<Verdict> {
        let mut suspicion = Peer::default();
        let mut times: Vec<_> =
            heard.iter().map(|ms| (*ms, true)).chain(at.iter().map(|ms| (*ms, false))).collect();
        times.sort_unstable_by_key(|(ms, hears)| (*ms, !hears));
        let mut verdicts = Vec::new();
        for (ms, hears) in times {
            let now = Instant::from_millis(ms);
            match hears {
                true => {
                    suspicion.hear(now, &LIMITS);
                    suspicion.judge(now, Instant::from_millis(listening.min(ms)), None, &LIMITS);
                }
                false => verdicts.push(suspicion.judge(
                    now,
                    Instant::from_millis(listening.min(ms)),
                    None,
                    &LIMITS,
                )),
            }
        }
        verdicts
    }

    #[test]
    fn slow_is_not_dead() {
        use Verdict::{Silent, Slow, Unknown, Up};
        assert_eq!(verdicts(&[], &[1_000], 0), [Unknown], "nobody is suspected before it was heard");
        assert_eq!(verdicts(&[0], &[0, 100, 101, 300, 301], 0), [Up, Up, Slow, Slow, Silent]);
        assert_eq!(
            verdicts(&[0, 250, 500], &[240, 251, 490, 501], 0),
            [Slow, Up, Slow, Up],
            "late is not lost"
        );
    }

    /// F40, L-4: a link that comes and goes does not bring the peer back.
    #[test]
    fn a_flapping_link_is_silent_until_it_is_stable() {
        use Verdict::{Silent, Up};
        let flapping = [0, 400, 450, 800, 850, 1_200];
        assert_eq!(verdicts(&flapping, &[399, 500, 851, 1_000, 1_201], 0), [Silent; 5]);
        let steady: Vec<_> = [0].into_iter().chain((400..=700).step_by(50)).collect();
        assert_eq!(verdicts(&steady, &[399, 590, 600], 0), [Silent, Silent, Up]);
    }

    /// F19: after a sleep of its own, a node hears out one silence before it suspects anybody.
    #[test]
    fn who_slept_listens_first() {
        use Verdict::{Silent, Slow, Up};
        assert_eq!(verdicts(&[0], &[30_000, 30_101, 30_301], 30_000), [Up, Slow, Silent]);
    }

    proptest::proptest! {
        /// Whatever is heard and whenever it is judged: the next deadline is ahead, or the shell would spin;
        /// and nobody becomes silent by being heard.
        #[test]
        fn a_deadline_is_always_ahead(steps in proptest::collection::vec((0_u64..400, 0..4_u8), 1..200)) {
            let (mut suspicion, mut now, mut listening) = (Peer::default(), 0, 0);
            for (wait, what) in steps {
                // As the shell does: never later than the deadline.
                let deadline = suspicion.deadline(Instant::from_micros(listening), &LIMITS);
                now = deadline.map_or(now + wait * 1_000, |at| at.as_micros().min(now + wait * 1_000));
                let at = Instant::from_micros(now);
                match what {
                    0 | 1 => suspicion.hear(at, &LIMITS),
                    2 if wait == 7 => listening = now,
                    2 if wait == 9 => suspicion.restart(at),
                    _ => {}
                }
                let trip = (wait % 2 == 0).then_some(Duration::from_millis(wait));
                let before = suspicion.suspicion.verdict();
                let after = suspicion.judge(at, Instant::from_micros(listening), trip, &LIMITS);
                let deadline = suspicion.deadline(Instant::from_micros(listening), &LIMITS);
                proptest::prop_assert!(deadline.is_none_or(|next| at < next), "{:?}", suspicion);
                if what < 2 && before != Verdict::Silent {
                    proptest::prop_assert!(after.is_alive());
                }
            }
        }
    }

    /// X07: who was silent and is heard again, but late, is slow: not silent for ever.
    #[test]
    fn who_returns_late_is_slow() {
        let mut suspicion = Peer::default();
        let mut judge = |ms, hears| {
            if hears {
                suspicion.hear(Instant::from_millis(ms), &LIMITS);
            }
            let trip = Some(Duration::from_millis(150));
            suspicion.judge(Instant::from_millis(ms), Instant::ZERO, trip, &LIMITS)
        };
        assert_eq!([judge(0, true), judge(301, false)], [Verdict::Slow, Verdict::Silent]);
        let verdicts: Vec<_> = (0..5).map(|n| judge(400 + n * 50, true)).collect();
        assert_eq!(verdicts[..4], [Verdict::Silent; 4]);
        assert_eq!(verdicts[4], Verdict::Slow);
    }

    #[test]
    fn a_long_round_trip_is_slow() {
        let mut suspicion = Peer::default();
        suspicion.hear(Instant::ZERO, &LIMITS);
        let trip = Some(Duration::from_millis(150));
        assert_eq!(suspicion.judge(Instant::ZERO, Instant::ZERO, trip, &LIMITS), Verdict::Slow);
    }
}
