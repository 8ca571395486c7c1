//! The card: blocks of 512 bytes on an SD card over SPI (V13; F1, F2, F5).
//!
//! A write that returned is on the card: the card has taken its checksum, is no longer busy, and says that
//! its status is good. No operation takes longer than [`OPERATION_MAX`], whatever the card does, so that the
//! watchdog stays fed. Numbers of sections are those of the SD Physical Layer Simplified Specification 9.00.

use core::time::Duration;

use bulkhead_core::time::Instant;
use embedded_hal::digital::OutputPin;
use embedded_hal::spi::SpiBus;

/// Bytes of a block.
pub const BLOCK: usize = 512;
/// Longest that a card may take to write a block (4.6.2.2), and more than it may to read one.
pub const OPERATION_MAX: Duration = Duration::from_millis(500);
/// Longest that a card may take to wake up (6.4.1).
const WAKE_MAX: Duration = Duration::from_secs(1);
/// A card that is there answers the first of these, or the second when it was interrupted in a transfer.
const RESETS_MAX: u32 = 4;
/// A card answers a command within 8 bytes (7.5.4); some take more.
const ANSWER_BYTES_MAX: u32 = 16;

/// Commands (7.3.1.3).
const GO_IDLE: u8 = 0;
const SEND_IF_COND: u8 = 8;
const SEND_CSD: u8 = 9;
const SEND_STATUS: u8 = 13;
const SET_BLOCKLEN: u8 = 16;
const READ_BLOCK: u8 = 17;
const WRITE_BLOCK: u8 = 24;
const APPLICATION: u8 = 55;
const READ_OCR: u8 = 58;
const CRC_ON_OFF: u8 = 59;
/// After [`APPLICATION`].
const SEND_OP_COND: u8 = 41;

const IDLE: u8 = 1;
const ILLEGAL: u8 = 1 << 2;
/// 2.7 to 3.6 V, and a pattern to be repeated.
const IF_COND: u32 = 0x1aa;
const HIGH_CAPACITY: u32 = 1 << 30;
const START_BLOCK: u8 = 0xfe;
const ACCEPTED: u8 = 0b0_0101;
const ACCEPTED_MASK: u8 = 0x1f;

/// Why a block was not read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No card answers.
    Missing,
    /// The card did not answer in time, or its wires are bad.
    Silent,
    /// The card refused, or the checksum of what it sent is wrong.
    Refused,
}

/// The block that begins at byte `at` of the card.
pub fn block_at(at: u64) -> u32 {
    // Cards have less than 2^32 blocks; what lies behind them is no block of theirs.
    u32::try_from(at >> 9).unwrap_or(u32::MAX)
}

/// What keeps blocks. The tests cut its power.
pub trait Blocks {
    /// Reads block `at`.
    ///
    /// # Errors
    ///
    /// [`Trouble`]: `bytes` are then without meaning.
    fn read(&mut self, at: u32, bytes: &mut [u8; BLOCK]) -> Result<(), Trouble>;

    /// Writes block `at`, durable when it returns.
    ///
    /// # Errors
    ///
    /// [`Trouble`]: nobody knows what the block holds.
    fn write(&mut self, at: u32, bytes: &[u8; BLOCK]) -> Result<(), Trouble>;
}

/// A card on a bus of its own.
#[derive(Debug)]
pub struct Card<B, P> {
    bus: B,
    select: P,
    clock: fn() -> Instant,
    /// Bytes from one block to the next in the card's own addresses: 512, or 1 in cards above 2 GB.
    stride: u32,
    until: Instant,
}

impl<B: SpiBus, P: OutputPin> Card<B, P> {
    /// The card on `bus`, selected when `select` is low. It need not be there yet.
    pub fn new(bus: B, select: P, clock: fn() -> Instant) -> Self {
        Self { bus, select, clock, stride: 1, until: Instant::ZERO }
    }

    /// The bus, to set its pace: 400 kHz at most before [`Card::wake`], up to 25 MHz after it.
    pub const fn bus(&mut self) -> &mut B {
        &mut self.bus
    }

    /// Wakes the card up (7.2.1). Returns how many blocks it has.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    pub fn wake(&mut self) -> Result<u32, Trouble> {
        self.until = (self.clock)().after(WAKE_MAX);
        self.deselect()?;
        // 74 clocks without a selection at least (6.4.1).
        for _ in 0..10 {
            self.exchange(0xff)?;
        }
        self.selected(|card| {
            card.reset()?;
            card.expect(CRC_ON_OFF, 1, IDLE)?;
            let is_second = match card.command(SEND_IF_COND, IF_COND)? {
                IDLE => card.long()? & 0xfff == IF_COND,
                answer => answer & ILLEGAL == 0,
            };
            card.start(if is_second { HIGH_CAPACITY } else { 0 })?;
            // QEMU 7.2 says here that the card is idle. What matters is that it is no error.
            if card.command(READ_OCR, 0)? & !IDLE != 0 {
                return Err(Trouble::Refused);
            }
            let is_high = is_second && card.long()? & HIGH_CAPACITY != 0;
            card.stride = if is_high { 1 } else { 512 };
            if !is_high {
                card.expect(SET_BLOCKLEN, 512, 0)?;
            }
            card.expect(SEND_CSD, 0, 0)?;
            let mut csd = [0; 16];
            card.data(&mut csd)?;
            capacity(&csd).ok_or(Trouble::Refused)
        })
    }

    fn reset(&mut self) -> Result<(), Trouble> {
        for _ in 0..RESETS_MAX {
            match self.command(GO_IDLE, 0) {
                Ok(IDLE) => return Ok(()),
                // It may have been in the middle of a block.
                Ok(_) | Err(Trouble::Missing) => {
                    for _ in 0..BLOCK {
                        self.exchange(0xff)?;
                    }
                }
                Err(trouble @ (Trouble::Silent | Trouble::Refused)) => return Err(trouble),
            }
        }
        Err(Trouble::Missing)
    }

    fn start(&mut self, argument: u32) -> Result<(), Trouble> {
        loop {
            self.command(APPLICATION, 0)?;
            match self.command(SEND_OP_COND, argument)? {
                0 => return Ok(()),
                IDLE => self.in_time()?,
                _ => return Err(Trouble::Refused),
            }
        }
    }

    fn begin(&mut self) {
        self.until = (self.clock)().after(OPERATION_MAX);
    }

    /// Does `what` with the card selected, and lets go of it in any case.
    fn selected<T>(&mut self, what: impl FnOnce(&mut Self) -> Result<T, Trouble>) -> Result<T, Trouble> {
        self.select.set_low().map_err(|_| Trouble::Silent)?;
        let done = what(self);
        self.deselect()?;
        done
    }

    fn deselect(&mut self) -> Result<(), Trouble> {
        self.select.set_high().map_err(|_| Trouble::Silent)?;
        // The card lets go of its line with the next clock.
        self.exchange(0xff).map(drop)
    }

    fn expect(&mut self, command: u8, argument: u32, answer: u8) -> Result<(), Trouble> {
        match self.command(command, argument)? == answer {
            true => Ok(()),
            false => Err(Trouble::Refused),
        }
    }

    /// Sends a command and returns the first byte of its answer.
    fn command(&mut self, command: u8, argument: u32) -> Result<u8, Trouble> {
        if command != GO_IDLE {
            self.ready()?;
        }
        let [a, b, c, d] = argument.to_be_bytes();
        let bytes = [0x40 | command, a, b, c, d];
        for byte in bytes {
            self.exchange(byte)?;
        }
        self.exchange(crc7(&bytes) << 1 | 1)?;
        for _ in 0..ANSWER_BYTES_MAX {
            let answer = self.exchange(0xff)?;
            if answer & 0x80 == 0 {
                return Ok(answer);
            }
        }
        Err(Trouble::Missing)
    }

    /// Waits until the card is no longer busy.
    fn ready(&mut self) -> Result<(), Trouble> {
        while self.exchange(0xff)? != 0xff {
            self.in_time()?;
        }
        Ok(())
    }

    fn in_time(&self) -> Result<(), Trouble> {
        if (self.clock)() <= self.until { Ok(()) } else { Err(Trouble::Silent) }
    }

    fn long(&mut self) -> Result<u32, Trouble> {
        let mut bytes = [0xff; 4];
        self.bus.transfer_in_place(&mut bytes).map_err(|_| Trouble::Silent)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn data(&mut self, bytes: &mut [u8]) -> Result<(), Trouble> {
        let token = loop {
            match self.exchange(0xff)? {
                0xff => self.in_time()?,
                token => break token,
            }
        };
        if token != START_BLOCK {
            return Err(Trouble::Refused);
        }
        bytes.fill(0xff);
        self.bus.transfer_in_place(bytes).map_err(|_| Trouble::Silent)?;
        let check = u16::from_be_bytes([self.exchange(0xff)?, self.exchange(0xff)?]);
        if check == crc16(bytes) { Ok(()) } else { Err(Trouble::Refused) }
    }

    fn exchange(&mut self, byte: u8) -> Result<u8, Trouble> {
        let mut bytes = [byte];
        self.bus.transfer_in_place(&mut bytes).map_err(|_| Trouble::Silent)?;
        let [answer] = bytes;
        Ok(answer)
    }

    fn address(&self, at: u32) -> Result<u32, Trouble> {
        at.checked_mul(self.stride).ok_or(Trouble::Refused)
    }
}

impl<B: SpiBus, P: OutputPin> Blocks for Card<B, P> {
    fn read(&mut self, at: u32, bytes: &mut [u8; BLOCK]) -> Result<(), Trouble> {
        self.begin();
        let address = self.address(at)?;
        self.selected(|card| {
            card.expect(READ_BLOCK, address, 0)?;
            card.data(bytes)
        })
    }

    fn write(&mut self, at: u32, bytes: &[u8; BLOCK]) -> Result<(), Trouble> {
        self.begin();
        let address = self.address(at)?;
        self.selected(|card| {
            card.expect(WRITE_BLOCK, address, 0)?;
            card.exchange(0xff)?;
            card.exchange(START_BLOCK)?;
            card.bus.write(bytes).map_err(|_| Trouble::Silent)?;
            card.bus.write(&crc16(bytes).to_be_bytes()).map_err(|_| Trouble::Silent)?;
            card.bus.flush().map_err(|_| Trouble::Silent)?;
            if card.exchange(0xff)? & ACCEPTED_MASK != ACCEPTED {
                return Err(Trouble::Refused);
            }
            // Busy until the block is written; its status says how that went, in two bytes.
            card.expect(SEND_STATUS, 0, 0)?;
            if card.exchange(0xff)? == 0 { Ok(()) } else { Err(Trouble::Refused) }
        })
    }
}

/// Blocks of 512 bytes, from the card's own description (5.3). `None` when that is damaged or of a later
/// time.
fn capacity(csd: &[u8; 16]) -> Option<u32> {
    let [structure, _, _, _, _, length, six, seven, eight, nine, ten, .., check] = *csd;
    if crc7(csd.split_last()?.1) << 1 | 1 != check {
        return None;
    }
    let wide = |bytes: [u8; 3]| {
        let [a, b, c] = bytes;
        u32::from_be_bytes([0, a, b, c])
    };
    match structure >> 6 {
        0 => {
            let size = wide([six, seven, eight]) >> 6 & 0xfff;
            let multiplier = u32::from(nine & 3) << 1 | u32::from(ten >> 7);
            let length = u32::from(length & 0xf);
            let shift = multiplier.checked_add(2)?.checked_add(length)?.checked_sub(9)?;
            size.checked_add(1)?.checked_shl(shift)
        }
        1 => (wide([seven, eight, nine]) & 0x3f_ffff).checked_add(1)?.checked_mul(1024),
        _ => None,
    }
}

/// The checksum of commands (4.5).
fn crc7(bytes: &[u8]) -> u8 {
    let step = |crc: u8, byte: &u8| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 0x12 })
    };
    bytes.iter().fold(0, step) >> 1
}

/// The checksum of data (4.5), byte by byte without a table.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        let mut crc = crc.swap_bytes() ^ u16::from(*byte);
        crc ^= (crc & 0xff) >> 4;
        crc ^= crc << 12;
        crc ^ (crc & 0xff) << 5
    })
}

#[cfg(test)]
#[path = "card_tests.rs"]
mod tests;
