//! The lines between a witness and its power strip: one request, one answer, 25 printable bytes each (V20).
//!
//! | at | len | field   | values                                                                           |
//! |---:|----:|---------|----------------------------------------------------------------------------------|
//! |  0 |   2 | magic   | "BS"                                                                             |
//! |  2 |   1 | version | "1"                                                                              |
//! |  3 |   1 | kind    | "?" from the witness, "!" from the strip                                         |
//! |  4 |   8 | request | number of the request, repeated in its answer; hexadecimal                       |
//! | 12 |   2 | outlet  | "01" to "FF"                                                                     |
//! | 14 |   1 | act     | "0" cut the power, "1" switch it on, "R" read it                                 |
//! | 15 |   1 | result  | request: "-"; answer: "D" switched, "0" read as off, "1" read as on, "E" failed  |
//! | 16 |   8 | check   | CRC-32C of bytes 0..16, hexadecimal                                              |
//! | 24 |   1 | end     | line feed                                                                        |
//!
//! Hexadecimal digits are upper case. Each value has one spelling, so a changed bit is another value or none,
//! and the checksum finds any change of up to 32 bits in a row.

use core::num::NonZeroU8;

use heapless::Vec;
use thiserror::Error;

use crate::crc::crc32c;
use crate::fence::desk::Act;

/// Bytes of a line, its end included.
pub const LINE_LEN: usize = 25;

const MAGIC: [u8; 2] = *b"BS";
const VERSION: u8 = b'1';
const ASKS: u8 = b'?';
const ANSWERS: u8 = b'!';
const NO_RESULT: u8 = b'-';
const END: u8 = b'\n';
const DIGITS: [u8; 16] = *b"0123456789ABCDEF";

/// Names a request. Not used again while an answer to an earlier use could be on the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestId(pub u32);

/// What the strip is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Repeated in the answer.
    pub id: RequestId,
    /// Which outlet, from 1.
    pub outlet: NonZeroU8,
    /// What with it.
    pub act: Act,
}

/// What the strip did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// It switched.
    Switched,
    /// It measured: no power.
    Off,
    /// It measured: power.
    On,
    /// It could not.
    Failed,
}

/// The answer to a request, which it repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The request.
    pub to: Request,
    /// What came of it.
    pub found: Found,
}

/// Why a line says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Malformed {
    /// Changed on its way, cut short, or no line of this protocol.
    #[error("damaged: its checksum or its fields do not fit")]
    Damaged,
    /// Whole, in a version that this end does not speak.
    #[error("version `{}`, this Bulkhead speaks version 1", char::from(*.0))]
    OtherVersion(u8),
}

impl Request {
    /// As a line.
    pub fn encode(&self) -> [u8; LINE_LEN] {
        line(ASKS, self, NO_RESULT)
    }

    /// The strip's end: reads a line.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: answer nothing.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (ASKS, request, NO_RESULT) = fields(bytes)? else { return Err(Malformed::Damaged) };
        Ok(request)
    }
}

impl Answer {
    /// The strip's end: as a line.
    pub fn encode(&self) -> [u8; LINE_LEN] {
        let found = match self.found {
            Found::Switched => b'D',
            Found::Off => b'0',
            Found::On => b'1',
            Found::Failed => b'E',
        };
        line(ANSWERS, &self.to, found)
    }

    /// Reads a line.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: nothing was answered.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (ANSWERS, to, found) = fields(bytes)? else { return Err(Malformed::Damaged) };
        let found = match found {
            b'D' => Found::Switched,
            b'0' => Found::Off,
            b'1' => Found::On,
            b'E' => Found::Failed,
            0.. => return Err(Malformed::Damaged),
        };
        Ok(Self { to, found })
    }
}

fn line(kind: u8, request: &Request, result: u8) -> [u8; LINE_LEN] {
    let Request { id, outlet, act } = request;
    let act = match act {
        Act::Off => b'0',
        Act::On => b'1',
        Act::Read => b'R',
    };
    let [a, b, c, d, e, f, g, h] = hex(id.0);
    let [.., high, low] = hex(u32::from(outlet.get()));
    let [m, n] = MAGIC;
    let body = [m, n, VERSION, kind, a, b, c, d, e, f, g, h, high, low, act, result];
    let mut bytes = [END; LINE_LEN];
    let all = body.into_iter().chain(hex(crc32c(&body)));
    for (place, byte) in bytes.iter_mut().zip(all) {
        *place = byte;
    }
    bytes
}

/// Kind, request and result of a whole line.
fn fields(bytes: &[u8]) -> Result<(u8, Request, u8), Malformed> {
    let bytes: &[u8; LINE_LEN] = bytes.try_into().map_err(|_| Malformed::Damaged)?;
    let Some((body, check)) = bytes.split_first_chunk::<16>() else { return Err(Malformed::Damaged) };
    let (Some((check, [END])), [m, n, version, kind, rest @ ..]) = (check.split_first_chunk::<8>(), body)
    else {
        return Err(Malformed::Damaged);
    };
    if number(check) != Some(crc32c(body)) || [*m, *n] != MAGIC {
        return Err(Malformed::Damaged);
    }
    if *version != VERSION {
        return Err(Malformed::OtherVersion(*version));
    }
    let [id @ .., high, low, act, result] = rest;
    let act = match act {
        b'0' => Act::Off,
        b'1' => Act::On,
        b'R' => Act::Read,
        0.. => return Err(Malformed::Damaged),
    };
    let outlet = number(&[*high, *low]).and_then(|number| NonZeroU8::new(number.try_into().ok()?));
    let request = number(id).map(RequestId).zip(outlet).map(|(id, outlet)| Request { id, outlet, act });
    request.map(|request| (*kind, request, *result)).ok_or(Malformed::Damaged)
}

fn hex(number: u32) -> [u8; 8] {
    let mut left = number;
    [(); 8].map(|()| {
        left = left.rotate_left(4);
        DIGITS
            .iter()
            .zip(0..)
            .find_map(|(digit, value)| (left & 0xf == value).then_some(*digit))
            .unwrap_or(b'0')
    })
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |number, digit| {
        let value = DIGITS.iter().zip(0..).find_map(|(one, value)| (one == digit).then_some(value))?;
        Some(number << 4 | value)
    })
}

/// Makes lines of bytes. What is too long for a line is damaged, once, and forgotten up to the next end.
#[derive(Clone, Debug, Default)]
pub struct Ear {
    heard: Vec<u8, LINE_LEN>,
    /// The present line is longer than any.
    is_too_long: bool,
}

impl Ear {
    /// Nothing was heard yet.
    pub const fn new() -> Self {
        Self { heard: Vec::new(), is_too_long: false }
    }

    /// The next byte; the line that it ends.
    pub fn hear(&mut self, byte: u8) -> Option<Vec<u8, LINE_LEN>> {
        self.is_too_long |= self.heard.push(byte).is_err();
        if byte != END {
            return None;
        }
        let heard = core::mem::take(&mut self.heard);
        Some(if core::mem::take(&mut self.is_too_long) { Vec::new() } else { heard })
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
