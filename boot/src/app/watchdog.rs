//! Watchdogs: whatever hangs after the hand-off, the node resets and the next boot counts a try (V30).
//!
//! The firmware's timer ends when the kernel takes over, so the chipset's is armed as well where it
//! is one we know: the TCO timer of Intel's ICH9 (datasheet 316972, sections 13.9 and 10.1.45), which
//! the kernel's `iTCO_wdt` then takes over. On other machines a kernel that hangs before its own
//! watchdog driver runs needs a person.

use super::ports;
use uefi::boot;

/// Seconds an image has until something feeds a watchdog: firmware hand-off, kernel, first service.
const SECONDS: u16 = 120;
/// LPC bridge of the ICH9, as QEMU's q35 has it.
const ICH9_LPC: u32 = 0x2918_8086;
/// Our code in the firmware's log when its timer expires; codes below 0x10000 are the firmware's.
const CODE: u64 = 0x1_b007;

/// Arms what there is, and says what.
pub(super) fn arm() -> &'static str {
    let firmware = boot::set_watchdog_timer(usize::from(SECONDS), CODE, None).is_ok();
    match (Tco::find().is_some_and(|tco| tco.arm()), firmware) {
        (true, true) => "chipset and firmware, 120 s",
        (true, false) => "chipset, 120 s",
        (false, true) => "firmware only, 120 s until the kernel starts",
        (false, false) => "none",
    }
}

/// Stops both: a person may be reading.
pub(super) fn disarm() {
    // A firmware that cannot stop its timer resets: the next boot finds everything recorded.
    let _ = boot::set_watchdog_timer(0, CODE, None);
    if let Some(tco) = Tco::find() {
        tco.halt();
    }
}

/// The TCO timer. It resets the machine at its second expiry.
struct Tco {
    /// First of its I/O ports.
    base: u16,
    /// Address of the chipset's general control and status register.
    control: usize,
}

const RELOAD: u16 = 0x00;
const STATUS_1: u16 = 0x04;
const STATUS_2: u16 = 0x06;
const CONTROL_1: u16 = 0x08;
const TIMER: u16 = 0x12;
/// In `CONTROL_1`: the timer stands still.
const HALT: u16 = 1 << 11;
/// In the general control and status register: an expiry does not reset.
const NO_REBOOT: u32 = 1 << 5;

impl Tco {
    fn find() -> Option<Self> {
        let lpc = |register| ports::pci(31, 0, register);
        if lpc(0x00) != ICH9_LPC {
            return None;
        }
        let (power, root) = (lpc(0x40), lpc(0xf0));
        if power & 0xff80 == 0 || root & 1 == 0 {
            return None;
        }
        let base = u16::try_from(power & 0xff80).ok()?.checked_add(0x60)?;
        let control = usize::try_from(root & 0xffff_c000).ok()?.checked_add(0x3410)?;
        Some(Self { base, control })
    }

    fn port(&self, register: u16) -> u16 {
        self.base.saturating_add(register)
    }

    /// Starts it. `false` where the board forbids it to reset.
    fn arm(&self) -> bool {
        if !ports::clear(self.control, NO_REBOOT) {
            return false;
        }
        self.halt();
        // Ticks of 0.6 s, and half the time for each of the two expiries.
        let ticks = SECONDS.saturating_mul(5).checked_div(6).unwrap_or(SECONDS);
        ports::write(self.port(TIMER), ticks);
        ports::write(self.port(STATUS_1), 1 << 3);
        ports::write(self.port(STATUS_2), 1 << 1);
        ports::write(self.port(RELOAD), 1);
        let control = self.port(CONTROL_1);
        ports::write(control, ports::read(control) & !HALT);
        ports::read(control) & HALT == 0
    }

    fn halt(&self) {
        let control = self.port(CONTROL_1);
        ports::write(control, ports::read(control) | HALT);
    }
}
