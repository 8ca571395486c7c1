//! The NBD server in front of a real file: the clients people use, over a Unix socket and TCP, and clients
//! that mean harm while a good one works (F42, V42, V43, I11). Times are bounds for a busy machine.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod bench;
#[path = "../common/certificates.rs"]
mod certificates;
mod client;
mod clients;
mod crowd;
mod farewell;
mod harness;
mod hostile;
mod kernel;
mod protocol;
mod qemu;
mod raw;
mod sessions;
mod tls;
mod tls_hostile;
