//! An NBD client, for backing stores that are given as URIs (S1-29): another cluster, or a SAN behind
//! `qemu-nbd`. The connection itself is an [`Export`](super::export::Export), so that whoever stores things
//! does not care whether a file or a server is behind it. Requests are pipelined; when the connection ends,
//! everything under way is answered with an error, and connecting anew is the caller's decision.

pub mod assembly;
pub mod connection;
pub mod negotiate;

#[cfg(test)]
mod tests;
