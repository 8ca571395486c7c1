//! Words of memory that a device writes, too, and of its registers. Nothing else of the program is there.

use core::ops::Range;
use core::ptr::{read_volatile, with_exposed_provenance_mut, write_volatile};

/// What the program and its disk share: the ring, and one request.
pub const SHARED: Range<u32> = 0x20_0000..0x21_0000;
/// Registers of devices.
pub const DEVICES: Range<u32> = 0xd000_0000..0xd001_0000;
/// Bytes of a word.
pub const WORD: u32 = 4;

fn place(at: u32) -> *mut u32 {
    assert!(
        at.is_multiple_of(WORD) && (SHARED.contains(&at) || DEVICES.contains(&at)),
        "no word is at {at:#x}"
    );
    with_exposed_provenance_mut(at as usize)
}

/// Writes a word.
pub fn put(at: u32, value: u32) {
    // JUSTIFICATION: virtio over memory has its rings and registers at places that are numbers.
    // SAFETY: `place` gives words of these two ranges only, which are mapped; no object of Rust's is there.
    unsafe { write_volatile(place(at), value) }
}

/// Reads a word.
pub fn get(at: u32) -> u32 {
    // JUSTIFICATION: as `put`.
    // SAFETY: as `put`; every pattern of bits is a number.
    unsafe { read_volatile(place(at)) }
}
