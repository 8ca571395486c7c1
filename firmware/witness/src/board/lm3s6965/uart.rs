//! The serial line of the log: UART 0. 115,200 baud, 8 bits, no parity.

use core::convert::Infallible;

use embedded_io::{ErrorType, Write};

use super::register::Block;

// SAFETY: LM3S6965 data sheet, table 3-1: UART 0.
const UART_0: Block = unsafe { Block::at(0x4000_c000) };
const DATA: usize = 0x000;
const FLAGS: usize = 0x018;
const BAUD_WHOLE: usize = 0x024;
const BAUD_FRACTION: usize = 0x028;
const LINE: usize = 0x02c;
const CONTROL: usize = 0x030;

const FLAG_BUSY: u32 = 1 << 3;
const FLAG_TRANSMIT_FULL: u32 = 1 << 5;
const LINE_FIFO: u32 = 1 << 4;
const LINE_EIGHT_BITS: u32 = 3 << 5;
const CONTROL_ALL: u32 = 1 << 9 | 1 << 8 | 1;
/// 50 MHz / (16 × 115,200) = 27 + 8 / 64.
const WHOLE: u32 = 27;
const FRACTION: u32 = 8;
/// The longest that a full queue of 16 bytes takes is 1.4 ms; a read of the flags takes longer than 100 ns.
const READS_MAX: u32 = 20_000;

/// A serial line.
#[derive(Debug)]
pub struct Uart(Block);

impl Uart {
    /// The line of the log.
    pub fn log() -> Self {
        Self::start(UART_0)
    }

    fn start(registers: Block) -> Self {
        registers.write(CONTROL, 0);
        registers.write(BAUD_WHOLE, WHOLE);
        registers.write(BAUD_FRACTION, FRACTION);
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
