//! The first moments of a start: the hardware, the log, and why there is a start at all.

use bulkhead_witness::survivor::{Start, Survivor};

use crate::board::here;
use crate::{fault, log};

/// Starts watchdog, clock, log and interrupts, and says what is remembered of earlier starts.
pub fn wake() -> (here::watchdog::Watchdog, Survivor) {
    let (survivor, start) = fault::wake();
    here::clock::start_peripherals();
    let watchdog = here::watchdog::Watchdog::start();
    here::gpio::give_to_peripherals();
    log::start(here::uart::Uart::log());
    here::clock::start_alarm();
    here::listen();
    let why = match start {
        Start::Power => "the power came",
        Start::Reset => "a reset without a word",
        Start::Panic => "a panic",
        Start::Fault => "a fault",
        Start::Wish => "a wish of its own",
    };
    let (failures, silent) = (survivor.failures, survivor.silent);
    defmt::info!("start after {=str}; {=u16} failures, {=u16} silent resets", why, failures, silent);
    (watchdog, survivor)
}
