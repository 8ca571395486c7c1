//! The storage engine: reads and writes disks for the write log, and says truthfully what is durable (P4; V1,
//! V13, V16; F5, F10 to F15).
//!
//! The machines of the log are in `bulkhead_core::log`; what they ask of a disk is done here.
//!
//! # Reading order
//!
//! 1. [`device`]: a file, a partition or a block device that nobody else uses meanwhile.
//! 2. [`buffers`]: bounded memory for what goes to it and comes from it.
//! 3. [`job`]: what it is asked, and what may come of that.
//! 4. [`engine`]: does it, by `io_uring` or by threads; says when a write is durable.
//! 5. [`recovery`]: makes a log, and finds out what one holds.
//! 6. [`space`]: what the machines of the log ask of its device.
//! 7. [`log_disk`]: those machines and their space, together.
//! 8. `raw`: the few things in it that the compiler cannot check.

pub mod buffers;
pub mod device;
pub mod engine;
pub mod job;
pub mod log_disk;
mod raw;
pub mod recovery;
pub mod space;
mod threads;

pub(crate) use raw::lock as lock_bytes;
