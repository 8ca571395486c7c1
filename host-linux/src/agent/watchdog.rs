//! The hardware watchdog: resets the machine unless it is fed.

use super::watchdog_ioctl::set_timeout;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// Seconds without food after which the machine resets: far above the longest pause of the loop,
/// short enough that a hung candidate costs seconds.
const TIMEOUT_S: i32 = 30;

/// An armed watchdog. Dropping it leaves it armed: an agent that dies is not healthy.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    seconds: i32,
}

impl Watchdog {
    /// Opens and thereby arms the watchdog.
    ///
    /// # Errors
    ///
    /// There is none, or somebody else feeds it.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Self::with_seconds(path, TIMEOUT_S)
    }

    /// Opens and thereby arms the watchdog, to reset after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_for(path: &Path, timeout: Duration) -> std::io::Result<Self> {
        Self::with_seconds(path, i32::try_from(timeout.as_secs()).unwrap_or(TIMEOUT_S))
    }

    fn with_seconds(path: &Path, seconds: i32) -> std::io::Result<Self> {
        let device = OpenOptions::new().write(true).open(path)?;
        // A driver with a fixed timeout keeps its own.
        let seconds = set_timeout(&device, seconds).unwrap_or(0);
        Ok(Self { device, seconds })
    }

    /// The timeout the driver accepted; 0 when it has one of its own.
    pub const fn seconds(&self) -> i32 {
        self.seconds
    }

    /// Feeds it. If that fails the machine resets, which is what a watchdog is for.
    pub fn feed(&mut self) {
        let _ = self.device.write_all(b"\0");
    }

    /// Disarms it, where the driver allows that: after a clean stop nothing feeds it.
    pub fn disarm(mut self) {
        let _ = self.device.write_all(b"V");
    }
}
