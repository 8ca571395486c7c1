//! Pins: relays that cut the power of nodes, and the lines of the other peripherals.

use core::convert::Infallible;

use bulkhead_witness::relays::{Relay, Relays};
use embedded_hal::digital::{ErrorType, InputPin, OutputPin};

use super::register::Block;

// SAFETY: LM3S6965 data sheet, table 3-1: GPIO port A.
const PORT_A: Block = unsafe { Block::at(0x4000_4000) };
// SAFETY: LM3S6965 data sheet, table 3-1: GPIO port B.
const PORT_B: Block = unsafe { Block::at(0x4000_5000) };
// SAFETY: LM3S6965 data sheet, table 3-1: GPIO port D.
const PORT_D: Block = unsafe { Block::at(0x4000_7000) };
// SAFETY: LM3S6965 data sheet, table 3-1: GPIO port E.
const PORT_E: Block = unsafe { Block::at(0x4002_4000) };
// SAFETY: LM3S6965 data sheet, table 3-1: GPIO port F.
const PORT_F: Block = unsafe { Block::at(0x4002_5000) };
const DIRECTION: usize = 0x400;
const ALTERNATE: usize = 0x420;
const PULL_UP: usize = 0x510;
const DIGITAL: usize = 0x51c;

/// One output.
#[derive(Debug)]
pub struct Output {
    port: Block,
    bit: u8,
}

impl Output {
    fn new(port: Block, number: u8, is_high: bool) -> Self {
        let mut output = Self { port, bit: 1 << (number & 7) };
        output.set(is_high);
        let bit = u32::from(output.bit);
        port.modify(ALTERNATE, bit, 0);
        port.modify(DIRECTION, 0, bit);
        port.modify(DIGITAL, 0, bit);
        // A pin that was an input did not take the first one.
        output.set(is_high);
        output
    }

    /// Address bits 9 to 2 choose the pins that a write changes: no read before it, so nothing to protect.
    fn place(&self) -> usize {
        usize::from(self.bit) << 2
    }

    fn set(&mut self, is_high: bool) {
        self.port.write(self.place(), if is_high { u32::from(self.bit) } else { 0 });
    }
}

/// Relays 1 to 6, on port B, with sense lines on port E. Pins 6 and 7 of port B are left alone: the
/// debugger needs one of them.
pub fn relays() -> Relays<Output, Input, 6> {
    Relays::new([0, 1, 2, 3, 4, 5].map(|number| {
        let cut = Output::new(PORT_B, number, false);
        Relay { cut, sense: Input::new(PORT_E, number) }
    }))
}

/// Selects the card: port D, pin 0, low when it is selected.
pub fn card_select() -> Output {
    Output::new(PORT_D, 0, true)
}

/// Gives the pins of UART 0 and 1, of SSI 0, and of the two lights of the Ethernet socket to them.
pub fn give_to_peripherals() {
    for (port, pins) in [(PORT_A, 0b0011_0111), (PORT_D, 0b0000_1100), (PORT_F, 0b0000_1100)] {
        port.modify(ALTERNATE, 0, pins);
        port.modify(DIGITAL, 0, pins);
    }
}

impl ErrorType for Output {
    type Error = Infallible;
}

impl OutputPin for Output {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.set(false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.set(true);
        Ok(())
    }
}

/// One input, pulled up: a wire that is broken is high.
#[derive(Debug)]
pub struct Input {
    port: Block,
    bit: u8,
}

impl Input {
    fn new(port: Block, number: u8) -> Self {
        let input = Self { port, bit: 1 << (number & 7) };
        let bit = u32::from(input.bit);
        port.modify(ALTERNATE, bit, 0);
        port.modify(DIRECTION, bit, 0);
        port.modify(PULL_UP, 0, bit);
        port.modify(DIGITAL, 0, bit);
        input
    }
}

impl ErrorType for Input {
    type Error = Infallible;
}

impl InputPin for Input {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(self.port.read(usize::from(self.bit) << 2) != 0)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        self.is_high().map(|is_high| !is_high)
    }
}
