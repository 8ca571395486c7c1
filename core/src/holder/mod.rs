//! One holder of a mirror group: its log, its superblock and its role, in one machine (I1 to I4, I10; S4-03,
//! S4-07 to S4-15, X12 to X14).
//!
//! ```text
//!   guest, NBD          register's seat        other holders
//!       │ Write              │ Held, Lost            │ Heard, Fed
//!       ▼                    ▼                       ▼
//!  ┌──────────────────── Holder ───────────────────┐
//!  │   primary or secondary (mirror)  ──▶  log  ──▶ keeper  │
//!  └─────────────────────────────────────────────────────────┘
//!       │ Acknowledge        │ Apply          │ Commit, Keep
//!       ▼                    ▼                ▼
//!     guest            backing store     disk of the log
//! ```
//!
//! # Reading order
//!
//! 1. [`words`]: what it is told and what it asks for; what holders say to each other.
//! 2. [`recovery`]: what its log holds after a start.
//! 3. [`machine`]: the holder.
//!
//! # What the streams between holders promise
//!
//! What a holder says to another arrives in order, and once, or their stream breaks. Nothing of a stream that
//! broke arrives later, on the next one or by another network: an offer of before a restart would have a
//! holder cut off what it was fed, and acknowledged, since. A stream is met when both ends have begun anew.
//!
//! # What must be durable before what
//!
//! 1. Nothing is read of a log before its device was flushed ([`recovery`]), and nothing is said of it before
//!    a run of this start is in its superblock.
//! 2. Nothing is cut off, and nobody is followed, while a batch is on its way: the cut and the promise are
//!    one superblock.
//! 3. A holder that took the register leads when its promise and all of its log are durable.
//! 4. What is applied is in the superblock before its batches are overwritten.

pub mod machine;
pub mod recovery;
pub mod words;

mod role;

#[cfg(test)]
mod happens;
#[cfg(test)]
mod site_tests;
#[cfg(test)]
mod testing;
