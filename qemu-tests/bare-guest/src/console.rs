//! The serial line of a PC: lines out, keys in.

use core::fmt::{Arguments, Write};

use super::ports;

const DATA: u16 = 0x3f8;
const STATUS: u16 = 0x3fd;
/// A byte has come.
const HAS_BYTE: u8 = 1;
/// There is room for a byte.
const HAS_ROOM: u8 = 1 << 5;

struct Line;

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            while ports::get(STATUS) & HAS_ROOM == 0 {
                core::hint::spin_loop();
            }
            ports::put(DATA, byte);
        }
        Ok(())
    }
}

/// Says a line.
pub fn say(what: Arguments<'_>) {
    // The line takes everything.
    let _ = writeln!(Line, "bare: {what}");
}

/// What was typed, if anything was.
pub fn typed() -> Option<u8> {
    (ports::get(STATUS) & HAS_BYTE != 0).then(|| ports::get(DATA))
}
