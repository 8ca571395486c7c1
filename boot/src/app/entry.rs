//! Where the firmware enters, and what happens if we break: never silence, never a hang.
#![allow(unsafe_code, reason = "the entry point is exported by name")]

use super::console::println;
use core::time::Duration;
use uefi::prelude::*;
use uefi::runtime::ResetType;

#[entry]
fn main() -> Status {
    super::run();
    Status::ABORTED
}

/// A defect of ours. Says where, leaves time to read it, and resets: the next boot starts over
/// from what is recorded, and a candidate that provokes it uses up its tries.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("bulkhead-boot: defect: {info}\r\nReset in 10 s.");
    boot::stall(Duration::from_secs(10));
    uefi::runtime::reset(ResetType::COLD, Status::ABORTED, None)
}
