//! Block devices over the network: an NBD server, written for clients that are not trusted (S1-24, S1-27 to
//! S1-31, F42, V42, V43). docs/nbd.md says what a client can expect.
//!
//! ```text
//! door       one thread: accepts, shakes hands with all newcomers at once, ends what takes too long
//! reader     one thread a connection: requests in, judged, admitted, submitted to the export
//! line       its other direction: whoever finishes a reply sends it, and never waits for a client;
//!            one thread a connection goes on where a client is slow
//! ```
//!
//! Reading order: [`export`] (what the storage is to us), [`wire`], [`handshake`], [`transmission`] (bytes
//! and decisions, no I/O), [`limits`], [`pool`], [`turns`], [`line`], [`batch`], [`together`], [`pulse`],
//! [`reader`], [`door`], [`server`], [`file`](mod@file); [`client`] is the other side, [`encryption`] what
//! `nbds` adds to both.

pub mod batch;
pub mod client;
pub mod door;
pub mod encryption;
pub mod export;
pub mod file;
pub mod handshake;
pub mod limits;
pub mod line;
pub mod pool;
pub mod pulse;
pub mod reader;
pub mod seats;
pub mod server;
pub mod socket;
pub mod together;
pub mod transmission;
pub mod turns;
pub mod uri;
pub mod wire;
