//! Between a message and a datagram: who may speak, what is fresh, which path works, who is silent.
//!
//! Reading order: [`key`], [`frame`], [`window`], [`hello`] (the handshake), [`path`] (round trips),
//! [`tally`] (loss and spread), [`suspicion`] (slow is not dead), `peer`, `agenda` (when to look at
//! whom), [`links`] (all peers together), [`ring`] (whom to watch).

mod agenda;
pub mod frame;
pub mod hello;
pub mod key;
pub mod links;
pub mod path;
mod peer;
pub mod ring;
pub mod suspicion;
pub mod tally;
pub mod window;
mod words;
