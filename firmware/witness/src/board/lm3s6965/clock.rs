//! The clock: 50 MHz from the 8 MHz crystal, and monotonic microseconds from the watchdog's counter (F22,
//! V11).
//!
//! The watchdog counts 32 bits at 50 MHz, and resets the board before it can come round unnoticed: so a
//! processor that stands still for whatever reason, with interrupts masked or not, either finds the time that
//! has passed when it goes on, or starts anew. No interrupt has to be heard in time.
//!
//! Drift is that of the crystal, 50 ppm on this board, and what a feeding takes from the moment the counter
//! is read to the moment it begins anew: less than 1 us, ten times a second at most, 10 ppm. The site's
//! bound (1 % unless configured) lies far above. That second part only ever slows the clock, and slow is the
//! safe side for a witness: it holds no lease itself, and a lease that it gave, the wait after its own start
//! (V11), a silence and the time a node must be off all end later by a slow clock. What it costs is time to
//! take over.

use core::cell::Cell;

use bulkhead_core::time::Instant;
use critical_section::Mutex;

use super::register::Block;
use super::watchdog;

/// Cycles of a microsecond.
pub const CYCLES_PER_MICRO: u32 = 50;
/// The longest that the witness sleeps.
const SLEEP_MAX_MICROS: u32 = 1_000;

// SAFETY: LM3S6965 data sheet, table 3-1: system control.
const SYSTEM: Block = unsafe { Block::at(0x400f_e000) };
// SAFETY: LM3S6965 data sheet, table 3-1: timer 0.
const TIMER_0: Block = unsafe { Block::at(0x4003_0000) };
const TIMER_CONTROL: usize = 0x00c;
const TIMER_CONFIGURATION: usize = 0x000;
const TIMER_MODE: usize = 0x004;
const TIMER_MASK: usize = 0x018;
const TIMER_CLEAR: usize = 0x024;
const TIMER_LOAD: usize = 0x028;
const TIMER_PERIODIC: u32 = 2;
const TIMER_END: u32 = 1;

const RIS: usize = 0x050;
const RCC: usize = 0x060;
const RCGC0: usize = 0x100;
const RCGC1: usize = 0x104;
const RCGC2: usize = 0x108;
const SRCR2: usize = 0x048;

const RIS_PLL_LOCKED: u32 = 1 << 6;
const RCC_SYSDIV: u32 = 0xf << 23;
/// 200 MHz / 4.
const RCC_SYSDIV_4: u32 = 3 << 23;
const RCC_USE_SYSDIV: u32 = 1 << 22;
const RCC_PLL_DOWN: u32 = 1 << 13;
const RCC_BYPASS: u32 = 1 << 11;
const RCC_XTAL: u32 = 0xf << 6;
const RCC_XTAL_8_MHZ: u32 = 0xe << 6;
const RCC_SOURCE: u32 = 3 << 4;
const RCC_MAIN_DISABLED: u32 = 1;

/// Twenty times the 0.5 ms that the data sheet gives it.
const LOCK_READS_MAX: u32 = 100_000;

/// Cycles from the start to the last feeding of the watchdog.
static FED_AT: Mutex<Cell<u64>> = Mutex::new(Cell::new(0));

/// Sets the clock to 50 MHz and gives it to the peripherals in use.
pub fn start_peripherals() {
    SYSTEM.modify(RCC, RCC_USE_SYSDIV, RCC_BYPASS);
    SYSTEM.modify(RCC, RCC_XTAL | RCC_SOURCE | RCC_PLL_DOWN | RCC_MAIN_DISABLED, RCC_XTAL_8_MHZ);
    SYSTEM.modify(RCC, RCC_SYSDIV, RCC_SYSDIV_4 | RCC_USE_SYSDIV);
    // One that never locks leaves the crystal itself: too slow to serve, and the watchdog then says so.
    if (0..LOCK_READS_MAX).any(|_| SYSTEM.read(RIS) & RIS_PLL_LOCKED != 0) {
        SYSTEM.modify(RCC, RCC_BYPASS, 0);
    }
    // Watchdog; timer 0, UART 0 and 1 and SSI 0; Ethernet MAC and PHY and the GPIO ports A to G.
    SYSTEM.modify(RCGC0, 0, 1 << 3);
    SYSTEM.modify(RCGC1, 0, 1 << 16 | 0b1_0011);
    SYSTEM.modify(RCGC2, 0, 1 << 30 | 1 << 28 | 0x7f);
    // The MAC may hold what it did before a reset by the watchdog.
    SYSTEM.modify(SRCR2, 0, 1 << 30 | 1 << 28);
    SYSTEM.modify(SRCR2, 1 << 30 | 1 << 28, 0);
}

/// Starts the timer that ends every sleep.
pub fn start_alarm() {
    TIMER_0.write(TIMER_CONTROL, 0);
    TIMER_0.write(TIMER_CONFIGURATION, 0);
    TIMER_0.write(TIMER_MODE, TIMER_PERIODIC);
    TIMER_0.write(TIMER_LOAD, SLEEP_MAX_MICROS.saturating_mul(CYCLES_PER_MICRO).saturating_sub(1));
    TIMER_0.write(TIMER_MASK, TIMER_END);
    TIMER_0.write(TIMER_CONTROL, 1);
}

/// The alarm that ends a sleep was heard.
pub fn quiet_alarm() {
    TIMER_0.write(TIMER_CLEAR, TIMER_END);
}

/// Does `feed`, which has the watchdog's counter begin anew, without losing what it has counted.
pub fn across_feeding(feed: impl FnOnce()) {
    critical_section::with(|section| {
        let fed_at = FED_AT.borrow(section);
        let now = fed_at.get().saturating_add(watchdog::cycles_since_fed().into());
        feed();
        fed_at.set(now);
    });
}

/// Microseconds since the start; never goes back, and does not wrap within the life of the board.
pub fn now() -> Instant {
    let cycles = critical_section::with(|section| {
        FED_AT.borrow(section).get().saturating_add(watchdog::cycles_since_fed().into())
    });
    // Never none: it is no zero.
    Instant::from_micros(cycles.checked_div(CYCLES_PER_MICRO.into()).unwrap_or_default())
}
