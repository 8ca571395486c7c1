//! The clock of the loop: monotonic, running on while the node sleeps (F23), blind to the time of day (V17).

use bulkhead_core::time::Instant;
use rustix::time::{ClockId, clock_gettime};

/// Now, in microseconds since the machine started.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000))
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs_and_never_goes_back() {
        let first = super::now();
        std::thread::sleep(std::time::Duration::from_millis(5));
        let passed = super::now().since(first);
        assert!((5..5000).contains(&passed.as_millis()), "{passed:?}");
    }
}
