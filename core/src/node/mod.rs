//! A node: all machines of the cluster together, and the only place where one's action becomes another's
//! event.
//!
//! The Linux agent, the witness firmware and the simulator run this same machine (X23). It is fed datagrams,
//! completed writes, fencing answers, commands and the time; it says what to send, to write, to start, to
//! fence.
//!
//! - [`settings`]: what a node must know at its start.
//! - [`words`]: events, actions, notes for the operator.
//! - [`message`]: what nodes say to each other.
//! - [`machine`]: the composer.
//! - [`membership`]: members that come and go while it runs.
//! - [`roster`]: what nodes were told of their site, compared (F54).
//! - [`health`]: how a witness is, for the operator.
//! - `speech`: what a node says without being asked.
//! - [`post`]: one role that this node can take: a seat at a register and the rule that asks for it.
//! - `power`: fencing through a witness, on both ends.
//! - [`storage`]: the office that keeps data in its register.
//! - [`start`]: how a node starts.

pub mod health;
pub mod machine;
pub mod membership;
pub mod message;
pub mod post;
mod power;
pub mod roster;
pub mod settings;
mod speech;
pub mod start;
pub mod storage;
pub mod words;

#[cfg(test)]
mod pairs_tests;
#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod witness_tests;
