//! The serial lines: UART 0 for the log, 115,200 baud, and UART 1 to the power strip, 9,600 baud. 8 bits, no
//! parity.
//!
//! What comes from the strip is taken off the queue of the line every millisecond, by the interrupt that ends
//! sleeps: 16 bytes of it take 16 ms.

use core::cell::RefCell;
use core::convert::Infallible;

use critical_section::Mutex;
use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use heapless::Deque;

use super::register::Block;

// SAFETY: LM3S6965 data sheet, table 3-1: UART 0.
const UART_0: Block = unsafe { Block::at(0x4000_c000) };
// SAFETY: LM3S6965 data sheet, table 3-1: UART 1.
const UART_1: Block = unsafe { Block::at(0x4000_d000) };
const DATA: usize = 0x000;
const FLAGS: usize = 0x018;
const BAUD_WHOLE: usize = 0x024;
const BAUD_FRACTION: usize = 0x028;
const LINE: usize = 0x02c;
const CONTROL: usize = 0x030;

const FLAG_BUSY: u32 = 1 << 3;
const FLAG_RECEIVE_EMPTY: u32 = 1 << 4;
const FLAG_TRANSMIT_FULL: u32 = 1 << 5;
/// Framing, parity, break or overrun: beside the byte that suffered it.
const DATA_ERRORS: u32 = 0xf << 8;
const LINE_FIFO: u32 = 1 << 4;
const LINE_EIGHT_BITS: u32 = 3 << 5;
const CONTROL_ALL: u32 = 1 << 9 | 1 << 8 | 1;
/// 50 MHz / (16 × 115,200) = 27 + 8 / 64.
const LOG_RATE: (u32, u32) = (27, 8);
/// 50 MHz / (16 × 9,600) = 325 + 33 / 64.
const STRIP_RATE: (u32, u32) = (325, 33);
/// The longest that a full queue of 16 bytes takes is 1.4 ms; a read of the flags takes longer than 100 ns.
const READS_MAX: u32 = 20_000;
/// Bytes that the queue of a line holds.
const QUEUE_LEN: usize = 16;

/// Bytes from the strip that wait for the loop: five lines, more than it answers while a block is written.
const HEARD_MAX: usize = 128;

static HEARD: Mutex<RefCell<Deque<u8, HEARD_MAX>>> = Mutex::new(RefCell::new(Deque::new()));

/// A serial line.
#[derive(Debug)]
pub struct Uart(Block);

impl Uart {
    /// The line of the log.
    pub fn log() -> Self {
        Self::start(UART_0, LOG_RATE)
    }

    fn start(registers: Block, (whole, fraction): (u32, u32)) -> Self {
        registers.write(CONTROL, 0);
        registers.write(BAUD_WHOLE, whole);
        registers.write(BAUD_FRACTION, fraction);
        registers.write(LINE, LINE_EIGHT_BITS | LINE_FIFO);
        registers.write(CONTROL, CONTROL_ALL);
        Self(registers)
    }

    fn has(&self, flag: u32) -> bool {
        self.0.read(FLAGS) & flag != 0
    }

    /// Sends `byte` if there is room for it now.
    pub fn offer(&mut self, byte: u8) -> bool {
        let is_ready = !self.has(FLAG_TRANSMIT_FULL);
        if is_ready {
            self.0.write(DATA, u32::from(byte));
        }
        is_ready
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl Write for Uart {
    /// Waits for room for the first byte, but not for ever: then it is sent into a line that takes nothing.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let Some(first) = bytes.first() else { return Ok(0) };
        let _ = (0..READS_MAX).any(|_| !self.has(FLAG_TRANSMIT_FULL));
        self.0.write(DATA, u32::from(*first));
        let more = bytes.iter().skip(1).take_while(|byte| self.offer(**byte)).count();
        Ok(more.saturating_add(1))
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        let _ = (0..READS_MAX).any(|_| !self.has(FLAG_BUSY));
        Ok(())
    }
}

/// The line to the power strip. Neither direction ever waits.
#[derive(Debug)]
pub struct StripLine(Uart);

impl StripLine {
    /// Starts it.
    pub fn start() -> Self {
        Self(Uart::start(UART_1, STRIP_RATE))
    }
}

/// Takes what came from the strip. What finds no room is lost, and its line is damaged for whoever reads it.
pub fn hear_strip() {
    critical_section::with(|section| {
        let mut heard = HEARD.borrow_ref_mut(section);
        for _ in 0..QUEUE_LEN {
            if UART_1.read(FLAGS) & FLAG_RECEIVE_EMPTY != 0 {
                return;
            }
            let data = UART_1.read(DATA);
            let [byte, ..] = data.to_le_bytes();
            // A byte with an error is another one: the checksum of its line says so.
            let _ = heard.push_back(if data & DATA_ERRORS == 0 { byte } else { 0 });
        }
    });
}

impl ErrorType for StripLine {
    type Error = Infallible;
}

impl ReadReady for StripLine {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(critical_section::with(|section| !HEARD.borrow_ref_mut(section).is_empty()))
    }
}

impl Read for StripLine {
    /// What waits; nothing when nothing does.
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        critical_section::with(|section| {
            let mut heard = HEARD.borrow_ref_mut(section);
            let places = bytes.iter_mut();
            Ok(places.map_while(|place| heard.pop_front().map(|byte| *place = byte)).count())
        })
    }
}

impl WriteReady for StripLine {
    fn write_ready(&mut self) -> Result<bool, Infallible> {
        Ok(!self.0.has(FLAG_TRANSMIT_FULL))
    }
}

impl Write for StripLine {
    /// What the line takes now; nothing when it takes nothing.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(bytes.iter().take_while(|byte| self.0.offer(**byte)).count())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        self.0.flush()
    }
}
