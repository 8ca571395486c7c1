//! The watchdog: always on. A loop that does not come round within two periods is reset (V29).

use bulkhead_witness::hardware::Watchdog as _;

use super::clock::CYCLES_PER_MICRO;
use super::register::Block;

// SAFETY: LM3S6965 data sheet, table 3-1: watchdog timer 0.
const WATCHDOG: Block = unsafe { Block::at(0x4000_0000) };
const LOAD: usize = 0x000;
const CONTROL: usize = 0x008;
const CLEAR: usize = 0x00c;
const LOCK: usize = 0xc00;
const UNLOCK: u32 = 0x1acc_e551;
/// The first end of a period is remembered, the second one in a row resets. It cannot be switched off again.
const INTERRUPT_AND_RESET: u32 = 0b11;

/// A period. Longer than the longest that a card may take for one block, with all its repetitions.
const PERIOD_MICROS: u32 = 1_500_000;

/// The watchdog, running.
#[derive(Debug)]
pub struct Watchdog(());

impl Watchdog {
    /// Starts it. Nothing stops it before the next reset.
    pub fn start() -> Self {
        WATCHDOG.write(LOCK, UNLOCK);
        WATCHDOG.write(LOAD, PERIOD_MICROS.saturating_mul(CYCLES_PER_MICRO));
        WATCHDOG.write(CONTROL, INTERRUPT_AND_RESET);
        WATCHDOG.write(LOCK, 0);
        let mut watchdog = Self(());
        watchdog.feed();
        watchdog
    }
}

impl bulkhead_witness::hardware::Watchdog for Watchdog {
    fn feed(&mut self) {
        WATCHDOG.write(LOCK, UNLOCK);
        // Any value: forgets a period that has ended, and begins a new one.
        WATCHDOG.write(CLEAR, 1);
        WATCHDOG.write(LOCK, 0);
    }
}
