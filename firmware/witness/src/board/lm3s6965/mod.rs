//! The Stellaris LM3S6965 evaluation board, and QEMU's `lm3s6965evb`.
//!
//! | what            | where                                   |
//! |-----------------|-----------------------------------------|
//! | log             | UART 0 (PA0, PA1), 115,200 baud, defmt  |
//! | card            | SSI 0 (PA2, PA4, PA5), select PD0       |
//! | relays 1 to 6   | PB0 to PB5, sense lines PE0 to PE5      |
//! | power strip     | UART 1 (PD2, PD3), 9,600 baud           |
//! | network         | the Ethernet MAC and PHY on the chip    |

pub mod clock;
pub mod ethernet;
pub mod gpio;
mod register;
pub mod ssi;
pub mod uart;
pub mod watchdog;

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::{NVIC, SCB};
use cortex_m_rt::exception;

/// Numbers of the interrupts in use (LM3S6965 data sheet, table 2-9).
#[derive(Clone, Copy, Debug)]
enum Interrupt {
    Timer0,
    Ethernet,
}

// SAFETY: the numbers are those of the data sheet and below the 240 that the core can have.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        match self {
            Self::Timer0 => 19,
            Self::Ethernet => 42,
        }
    }
}

/// Ends every sleep from now on.
pub fn listen() {
    for interrupt in [Interrupt::Timer0, Interrupt::Ethernet] {
        // SAFETY: no section of ours relies on this interrupt being masked: critical sections mask all.
        unsafe { NVIC::unmask(interrupt) };
    }
}

/// Until something happens: a millisecond at most.
pub fn sleep() {
    cortex_m::asm::wfi();
}

/// Starts anew, at once.
pub fn reset() -> ! {
    SCB::sys_reset()
}

/// Every other interrupt.
// SAFETY: it touches registers of peripherals and the log, both made for it.
#[exception]
unsafe fn DefaultHandler(number: i16) {
    match number {
        19 => {
            clock::quiet_alarm();
            crate::log::pump();
            uart::hear_strip();
        }
        42 => ethernet::heard(),
        // Nothing else was unmasked.
        other => panic!("interrupt {} was never asked for", other),
    }
}
