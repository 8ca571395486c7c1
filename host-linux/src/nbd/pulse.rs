//! Whether this process stood still: what it reads afterwards may have been asked long ago, of a client that
//! has asked elsewhere since (V8, F19).
//!
//! A client that gives a node up closes its connection, but that word comes behind what it asked, and on a
//! network that was cut, or to a machine that was stopped, a while behind it. So a server that stood still
//! for nearly as long as clients wait does not carry out what it finds then: it ends those connections.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Standing still for longer counts. Shorter than any client waits before it asks elsewhere (docs/nbd.md).
pub const STOOD: Duration = Duration::from_secs(5);
/// From one beat to the next.
const BEAT: Duration = Duration::from_millis(250);

static PROCESS: LazyLock<Pulse> = LazyLock::new(|| {
    let beat = || loop {
        PROCESS.beat(Instant::now());
        std::thread::sleep(BEAT);
    };
    let thread = std::thread::Builder::new().name("pulse".into()).stack_size(64 << 10).spawn(beat);
    Pulse::new(Instant::now(), thread.is_ok())
});

/// Beats as long as the process runs.
#[derive(Debug)]
pub struct Pulse {
    begun: Instant,
    /// Milliseconds since then, of the last beat.
    last: AtomicU64,
    stops: AtomicU64,
    /// Without a thread that beats, nothing is known.
    is_beating: AtomicBool,
}

impl Pulse {
    /// That of this process.
    pub fn of_process() -> &'static Self {
        &PROCESS
    }

    const fn new(begun: Instant, is_beating: bool) -> Self {
        let (last, stops) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { begun, last, stops, is_beating: AtomicBool::new(is_beating) }
    }

    /// How often it stood still until now; also if nobody but the caller has woken yet.
    #[must_use]
    pub fn stops(&self) -> u64 {
        self.stops_at(Instant::now())
    }

    fn stops_at(&self, now: Instant) -> u64 {
        if !self.is_beating.load(Ordering::SeqCst) {
            return 0;
        }
        let stands = self.is_late(now);
        self.stops.load(Ordering::SeqCst).saturating_add(u64::from(stands))
    }

    fn beat(&self, now: Instant) {
        // Counted before it beats again: nobody sees one without the other as less.
        if self.is_late(now) {
            self.stops.fetch_add(1, Ordering::SeqCst);
        }
        self.last.store(self.millis(now), Ordering::SeqCst);
    }

    fn is_late(&self, now: Instant) -> bool {
        let since = self.millis(now).saturating_sub(self.last.load(Ordering::SeqCst));
        STOOD < Duration::from_millis(since)
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_counts_once_whoever_wakes_first() {
        let begun = Instant::now();
        let at = |millis| begun.checked_add(Duration::from_millis(millis)).unwrap();
        let pulse = Pulse::new(begun, true);
        pulse.beat(at(250));
        assert_eq!((pulse.stops_at(at(250)), pulse.stops_at(at(5_250))), (0, 0));
        assert_eq!(pulse.stops_at(at(5_251)), 1, "a reader wakes first");
        pulse.beat(at(5_300));
        assert_eq!(pulse.stops_at(at(5_301)), 1, "and then the pulse");
        pulse.beat(at(5_550));
        assert_eq!(pulse.stops_at(at(5_600)), 1);
        assert_eq!(Pulse::new(begun, false).stops_at(at(60_000)), 0, "nobody beats");
    }
}
