//! The watchdog: always on. A loop that does not come round within two periods is reset (V29). Its counter is
//! the clock, too (`clock`).

use super::clock::{self, CYCLES_PER_MICRO};
use super::register::Block;

// SAFETY: LM3S6965 data sheet, table 3-1: watchdog timer 0.
const WATCHDOG: Block = unsafe { Block::at(0x4000_0000) };
const LOAD: usize = 0x000;
const VALUE: usize = 0x004;
const CONTROL: usize = 0x008;
const CLEAR: usize = 0x00c;
const RAW_STATUS: usize = 0x010;
const LOCK: usize = 0xc00;
const UNLOCK: u32 = 0x1acc_e551;
/// The first end of a period is remembered, the second one in a row resets. It cannot be switched off again.
const INTERRUPT_AND_RESET: u32 = 0b11;
const STATUS_ENDED: u32 = 1;

/// A period. Longer than the longest that a card may take for one block, with all its repetitions.
const PERIOD_CYCLES: u32 = 1_500_000 * CYCLES_PER_MICRO;
/// It is fed when that much has passed, so that a feeding's own time does not count as drift.
const FEED_CYCLES: u32 = 100_000 * CYCLES_PER_MICRO;
/// The status and the counter are read until they belong together: at once, or at the end of a period once
/// more. An emulator whose process stood still finds the end of a period only when its main loop comes to it,
/// and until then the counter stands at its end: that long, at most.
const READS_MAX: u32 = 1_000_000;
/// Where the counter stands at its end: at 0, or at 1 for an emulator that rounds up.
const END: u32 = 1;

/// The watchdog, running.
#[derive(Debug)]
pub struct Watchdog(());

impl Watchdog {
    /// Starts it, and with it the clock. Nothing stops it before the next reset.
    pub fn start() -> Self {
        WATCHDOG.write(LOCK, UNLOCK);
        WATCHDOG.write(LOAD, PERIOD_CYCLES);
        WATCHDOG.write(CLEAR, 1);
        WATCHDOG.write(CONTROL, INTERRUPT_AND_RESET);
        WATCHDOG.write(LOCK, 0);
        Self(())
    }
}

impl bulkhead_witness::hardware::Watchdog for Watchdog {
    fn feed(&mut self) {
        if cycles_since_fed() < FEED_CYCLES {
            return;
        }
        WATCHDOG.write(LOCK, UNLOCK);
        // Any value: forgets a period that has ended, and begins a new one.
        clock::across_feeding(|| WATCHDOG.write(CLEAR, 1));
        WATCHDOG.write(LOCK, 0);
    }
}

/// Cycles since it was fed, or started: at most two periods, or the board is reset.
pub fn cycles_since_fed() -> u32 {
    let mut cycles = 0;
    for _ in 0..READS_MAX {
        let before = WATCHDOG.read(RAW_STATUS) & STATUS_ENDED;
        let left = WATCHDOG.read(VALUE);
        cycles = before.saturating_mul(PERIOD_CYCLES).saturating_add(PERIOD_CYCLES.saturating_sub(left));
        // At its end it says no more than that a period has ended: what passed since is not in it yet, and
        // feeding it now would lose that.
        if left > END && WATCHDOG.read(RAW_STATUS) & STATUS_ENDED == before {
            break;
        }
    }
    cycles
}
