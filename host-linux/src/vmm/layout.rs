//! What is where in a guest's physical memory. Changing a line breaks images of stored guests.

use std::ops::Range;

/// Descriptors of segments, for a start in long mode.
pub const GDT: u64 = 0x500;
/// What a kernel is told that starts by the PVH protocol.
pub const START_INFO: u64 = 0x6000;
/// Its modules: one initrd.
pub const MODULES: u64 = 0x6100;
/// Its map of memory.
pub const MEMORY_MAP: u64 = 0x6200;
/// What a kernel is told that starts by Linux's own protocol.
pub const ZERO_PAGE: u64 = 0x7000;
/// The top of the stack of who starts in long mode.
pub const STACK: u64 = 0x8ff0;
/// Page tables of who starts in long mode: the first GiB, as it is. Three pages.
pub const PAGE_TABLES: u64 = 0x9000;
/// The command line, with its terminating zero.
pub const COMMAND_LINE: Range<u64> = 0x2_0000..0x2_1000;
/// Memory below is for all; from here on is what PCs keep for firmware.
pub const LOW_END: u64 = 0x9_fc00;
/// The root pointer of ACPI: both protocols, and whoever looks for it as on a PC, find it here.
pub const ACPI: Range<u64> = 0xe_0000..0xf_0000;
/// Where a PC's firmware begins. Who jumps there wants to begin anew: Linux does on hardware-reduced ACPI
/// without EFI, in 16-bit mode.
pub const FIRMWARE: u64 = 0xf_fff0;
/// What stands there: the keyboard controller is told to reset, and the processor waits for it.
pub const FIRMWARE_CODE: [u8; 7] = [0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd];
/// Where kernels go.
pub const KERNEL: u64 = 0x10_0000;
/// No memory, but devices.
pub const DEVICES: Range<u64> = 0xd000_0000..0x1_0000_0000;
/// Registers of one virtio device.
pub const VIRTIO_LEN: u64 = 0x1000;
/// Three pages that KVM wants for itself on Intel's processors (`KVM_SET_TSS_ADDR`).
pub const TSS: usize = 0xfffb_d000;
/// A page that KVM wants for itself on Intel's processors (`KVM_SET_IDENTITY_MAP_ADDR`).
pub const IDENTITY_MAP: u64 = 0xfffb_c000;
/// The interrupt controllers, where PCs have them.
pub const IO_APIC: u32 = 0xfec0_0000;
/// As above.
pub const LOCAL_APIC: u32 = 0xfee0_0000;

/// The ports of the serial console, and its interrupt.
pub const SERIAL: Range<u16> = 0x3f8..0x400;
/// Of the serial console.
pub const SERIAL_IRQ: u32 = 4;
/// The keyboard controller's port, by which old kernels reset.
pub const KEYBOARD: u16 = 0x64;
/// The interrupt of the power button.
pub const POWER_IRQ: u32 = 3;
/// A write of [`RESET`] here resets.
pub const RESET_PORT: u16 = 0x600;
/// Resets.
pub const RESET: u8 = 1;
/// The sleep control register of hardware-reduced ACPI.
pub const SLEEP_CONTROL: u16 = 0x601;
/// The sleep status register of hardware-reduced ACPI.
pub const SLEEP_STATUS: u16 = 0x602;

/// The ports of the watchdog of a board of old, the IB700. A write here ends it.
pub const NO_BEAT: u16 = 0x441;
/// A write here is a beat, and says when the next one comes.
pub const BEAT: u16 = 0x443;

/// The first interrupt of a virtio device, and how many there are.
pub const VIRTIO_IRQ: u32 = 5;
/// Virtio devices that a guest can have: an I/O APIC has 24 lines.
pub const VIRTIO_MAX: u32 = 19;

/// The registers of a virtio device, by its number.
#[must_use]
pub fn virtio(number: u32) -> u64 {
    DEVICES.start.saturating_add(VIRTIO_LEN.saturating_mul(u64::from(number)))
}

/// The interrupt of a virtio device, by its number.
#[must_use]
pub const fn virtio_irq(number: u32) -> u32 {
    VIRTIO_IRQ.saturating_add(number)
}

const _: () = assert!(VIRTIO_IRQ + VIRTIO_MAX == 24, "an I/O APIC has 24 lines");
const _: () = assert!(POWER_IRQ < SERIAL_IRQ && SERIAL_IRQ < VIRTIO_IRQ);
const _: () = assert!(MEMORY_MAP < ZERO_PAGE && ZERO_PAGE + 0x1000 < STACK && STACK < PAGE_TABLES);
const _: () = assert!(ACPI.end <= FIRMWARE && FIRMWARE < KERNEL && LOW_END < ACPI.start);
const _: () = assert!(PAGE_TABLES + 0x3000 <= COMMAND_LINE.start && COMMAND_LINE.end < LOW_END);
