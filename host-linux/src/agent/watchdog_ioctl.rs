//! The one system call of the watchdog that has no safe wrapper.
//!
//! JUSTIFICATION: the timeout of `/dev/watchdog` can be set by ioctl only.
#![allow(unsafe_code, reason = "see JUSTIFICATION above")]

use rustix::ioctl::{Updater, ioctl, opcode};
use std::fs::File;

/// `WDIOC_SETTIMEOUT` of `linux/watchdog.h`: `_IOWR('W', 6, int)`.
const SET_TIMEOUT: rustix::ioctl::Opcode = opcode::read_write::<i32>(b'W', 6);

/// Asks for a timeout in seconds and answers with the one the driver chose.
pub(super) fn set_timeout(device: &File, seconds: i32) -> std::io::Result<i32> {
    let mut value = seconds;
    // SAFETY: the kernel reads and writes exactly one `int` for this opcode, and `value` is one that
    // lives until the call returns. A device that is no watchdog refuses the opcode.
    unsafe { ioctl(device, Updater::<SET_TIMEOUT, i32>::new(&mut value)) }?;
    Ok(value)
}
