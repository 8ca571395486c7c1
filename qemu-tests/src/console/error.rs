//! Why a wait for a console line failed, with the last lines that were printed.

use std::time::Duration;

/// Why a wait ended without its line.
#[derive(Debug)]
pub struct WaitError {
    pub(super) console: String,
    pub(super) wanted: String,
    pub(super) cause: WaitCause,
    pub(super) waited: Duration,
    /// The last lines, ready to be shown.
    pub(super) tail: String,
}

/// What ended the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCause {
    /// The time was up.
    TimedOut,
    /// The machine is off: nothing more can come.
    Closed,
    /// A line came that must not come.
    Unwanted,
}

impl WaitError {
    /// What ended the wait.
    pub fn cause(&self) -> WaitCause {
        self.cause
    }
}

impl std::fmt::Display for WaitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (console, wanted, waited) = (&self.console, &self.wanted, self.waited.as_secs_f64());
        match self.cause {
            WaitCause::TimedOut => write!(f, "{console} did not print {wanted} within {waited:.1} s")?,
            WaitCause::Closed => {
                write!(f, "{console} went off after {waited:.1} s without printing {wanted}")?
            }
            WaitCause::Unwanted => {
                write!(f, "{console} printed {wanted} after {waited:.1} s, which it must not")?
            }
        }
        write!(f, ".\n  Its last lines:\n{}", self.tail)
    }
}

impl std::error::Error for WaitError {}
