//! A guest's state in bytes: memory, processors, interrupt controllers, clock and devices, so that it goes on
//! elsewhere, or later, where it was (S3-06, S0-11; I11, V41).
//!
//! # Reading order
//!
//! 1. [`format`]: the records, and what of them is believed.
//! 2. [`still`]: a guest that stands still, and is written; [`copied`]: one that was read, and goes on.
//! 3. [`state`]: all but its memory; [`processor`] and [`identity`], [`chips`]: parts of it. [`contents`]:
//!    its memory; [`written`]: what of that was written meanwhile.
//! 4. [`disks`]: what its disks held then.
//! 5. [`file`]: all of that in a file that is whole or is not there.

pub mod chips;
pub mod contents;
pub mod copied;
pub mod disks;
pub mod file;
pub mod format;
pub mod identity;
pub mod processor;
pub mod state;
pub mod still;
pub mod written;

/// How far a capture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the guest's memory that are done.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

#[cfg(test)]
mod tests;
