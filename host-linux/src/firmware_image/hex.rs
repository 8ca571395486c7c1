//! Intel HEX: lines of `:` count address kind data sum, in hex digits. What every programmer takes.

use super::Program;
use std::fmt::Write as _;

/// Bytes of a line.
const LINE: usize = 16;
const DATA: u8 = 0;
const END: u8 = 1;
/// The upper half of the addresses that follow.
const UPPER: u8 = 4;
/// Where the program starts.
const START: u8 = 5;

/// The program as Intel HEX.
pub fn hex(program: &Program) -> String {
    let (mut out, mut upper) = (String::new(), 0_u16);
    for part in &program.parts {
        let mut at = part.at;
        let mut rest = part.bytes.as_slice();
        while !rest.is_empty() {
            let [a, b, c, d] = at.to_be_bytes();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            if high != upper {
                upper = high;
                record(&mut out, 0, UPPER, &high.to_be_bytes());
            }
            // A line must not run over the end of its 64 KiB.
            let room = usize::from(u16::MAX.saturating_sub(low)).saturating_add(1);
            let count = LINE.min(room).min(rest.len());
            let (line, behind) = rest.split_at(count);
            record(&mut out, low, DATA, line);
            at = at.wrapping_add(u32::try_from(count).unwrap_or(0));
            rest = behind;
        }
    }
    record(&mut out, 0, START, &program.entry.to_be_bytes());
    record(&mut out, 0, END, &[]);
    out
}

fn record(out: &mut String, address: u16, kind: u8, data: &[u8]) {
    let count = u8::try_from(data.len()).unwrap_or(u8::MAX);
    let [high, low] = address.to_be_bytes();
    let head = [count, high, low, kind];
    let sum = head.iter().chain(data).fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    out.push(':');
    for byte in head.iter().chain(data).chain([&sum.wrapping_neg()]) {
        // Writing into a string does not fail.
        let _ = write!(out, "{byte:02X}");
    }
    out.push_str("\r\n");
}
