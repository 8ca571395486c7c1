//! The ports of the machine, and its clock: the only instructions that Rust has no words for.

use core::arch::asm;
use core::arch::x86_64::_rdtsc;

/// The sleep control register of hardware-reduced ACPI, and what switches the machine off there.
const SLEEP: u16 = 0x601;
const OFF: u8 = 0x34;

/// Writes a byte to a port.
pub fn put(port: u16, value: u8) {
    // JUSTIFICATION: the serial line and the power switch of a PC are at ports.
    // SAFETY: no port of this machine changes the program's memory; a device does so behind its ring alone.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
}

/// Reads a byte from a port.
pub fn get(port: u16) -> u8 {
    let value;
    // JUSTIFICATION: as `put`.
    // SAFETY: as `put`.
    unsafe { asm!("in al, dx", out("al") value, in("dx") port, options(nomem, nostack, preserves_flags)) }
    value
}

/// The time-stamp counter.
pub fn clock() -> u64 {
    // JUSTIFICATION: the only clock of a guest that sets up no other.
    // SAFETY: every 64-bit processor has it, and nothing forbids it in the most privileged mode.
    unsafe { _rdtsc() }
}

/// Switches the machine off.
pub fn power_off() -> ! {
    loop {
        put(SLEEP, OFF);
        core::hint::spin_loop();
    }
}
