//! The boot control block: what the disk remembers about its two boot slots (I8, F9, V36).
//!
//! Reading order: [`state`] is what is remembered, [`format`] how it is written in 512 bytes,
//! [`copies`] how two copies of it survive a power cut and a bad sector.

pub mod copies;
pub mod format;
pub mod state;
