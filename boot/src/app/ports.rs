//! Processor I/O ports and one memory register: what the chipset's watchdog needs.
#![allow(unsafe_code, reason = "port and register access are instructions, not memory")]

use core::arch::asm;

/// Reads four bytes of the PCI configuration of bus 0 (PCI 3.0, section 3.2.2.3.2). No device: all ones.
pub(super) fn pci(device: u8, function: u8, register: u8) -> u32 {
    let address =
        0x8000_0000 | u32::from(device) << 11 | u32::from(function) << 8 | u32::from(register & 0xfc);
    // SAFETY: the configuration ports exist on every PC; UEFI applications run alone, so nobody
    // else is between the two accesses.
    unsafe {
        asm!("out dx, eax", in("dx") 0xcf8_u16, in("eax") address, options(nomem, nostack));
        let value;
        asm!("in eax, dx", in("dx") 0xcfc_u16, out("eax") value, options(nomem, nostack));
        value
    }
}

/// Reads a 16-bit I/O port.
pub(super) fn read(port: u16) -> u16 {
    let value;
    // SAFETY: called with ports of the watchdog only; reading them has no effect on memory.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack)) };
    value
}

/// Writes a 16-bit I/O port.
pub(super) fn write(port: u16, value: u16) {
    // SAFETY: called with ports of the watchdog only; writing them does not touch memory.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack)) };
}

/// Clears `bits` of the 32-bit chipset register at `address`; whether they then read as zero.
pub(super) fn clear(address: usize, bits: u32) -> bool {
    let register = core::ptr::with_exposed_provenance_mut::<u32>(address);
    // SAFETY: called with the address of a chipset register that the chipset itself named and
    // that UEFI maps one to one.
    unsafe {
        register.write_volatile(register.read_volatile() & !bits);
        register.read_volatile() & bits == 0
    }
}
