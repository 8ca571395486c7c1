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
//! 5. [`file`]: all of that in a file that is whole or is not there; [`lineage`]: which snapshot that is, and
//!    [`tracked`]: how one has only what was written since another one; [`chain`]: both found again.
//! 6. [`task`]: taken while the guest's process answers; [`restoring`]: read while it does.

pub mod chain;
pub mod chips;
pub mod contents;
pub mod copied;
pub mod disks;
pub mod file;
pub mod format;
pub mod identity;
pub mod lineage;
pub mod processor;
pub mod restoring;
pub mod state;
pub mod still;
pub mod task;
pub mod tracked;
pub mod written;

/// How far a guest is written, or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the guest's memory that are done; or of the files that it is read from.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

/// Who hears how far it is, and may end it by an error.
pub type Watch<'a> = dyn FnMut(Progress) -> std::io::Result<()> + 'a;

#[cfg(test)]
mod tests;
