//! Time since the application was entered, from the processor's time stamp counter.
#![allow(unsafe_code, reason = "reading the counter is an intrinsic")]

use core::arch::x86_64::_rdtsc;
use core::time::Duration;
use uefi::boot;

/// The counter, calibrated against the firmware's delay of one millisecond, as systemd-boot does.
/// Good to a few per cent; it is reported, nothing is decided by it.
pub(super) struct Clock {
    entered: u64,
    ticks_per_micro: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        let entered = ticks();
        let before = ticks();
        boot::stall(Duration::from_millis(1));
        let ticks_per_micro = ticks().saturating_sub(before).checked_div(1_000).unwrap_or(1).max(1);
        Self { entered, ticks_per_micro }
    }

    /// Microseconds since we were entered.
    pub(super) fn micros(&self) -> u64 {
        self.in_micros(ticks().saturating_sub(self.entered))
    }

    /// Microseconds since the counter started, now: what the Boot Loader Interface wants.
    pub(super) fn since_power_on(&self) -> u64 {
        self.in_micros(ticks())
    }

    /// The same, of the moment we were entered.
    pub(super) fn entered_since_power_on(&self) -> u64 {
        self.in_micros(self.entered)
    }

    fn in_micros(&self, ticks: u64) -> u64 {
        ticks.checked_div(self.ticks_per_micro).unwrap_or(0)
    }
}

fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the counter, and UEFI does not forbid reading it.
    unsafe { _rdtsc() }
}
