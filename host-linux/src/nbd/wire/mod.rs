//! NBD in bytes: what a client sends becomes a type or an error, once; what it is sent is made here. No input
//! panics, and nothing here reads, waits or allocates more than it was given (F42, V42).
//!
//! The format is the one of the protocol's own document, `doc/proto.md` of NetworkBlockDevice/nbd:
//! big-endian, no padding. All numbers are in [`number`].

pub mod context;
pub mod number;
pub mod option;
pub mod option_reply;
pub mod reply;
pub mod request;
pub mod server;
pub mod take;

#[cfg(test)]
mod tests;
