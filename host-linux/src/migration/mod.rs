//! A guest moves to another node while it runs: its memory over a connection of its own, its disks by the
//! lead of the mirror group, which the other node takes (X15, S0-11, S3-06; claims in docs/guests.md).
//!
//! ```text
//! bulkhead vm migrate ─▶ the guest's process ── TCP ──▶ the other node's agent
//!                          departure                      reception ─ passing ─▶ a new process: arrival
//! ```
//!
//! # Reading order
//!
//! 1. [`words`]: what is said, and from when on the guest is where.
//! 2. [`hello`], [`opening`]: how a connection begins, and is encrypted; [`socket`], [`channel`]: its frames;
//!    [`calling`]: how a guest's process has one, and [`relay`]: by its agent.
//! 3. [`departure`]: where the guest leaves; [`convergence`]: when it is to stand still, and how much it is
//!    slowed down before; [`barrier`]: how guests wait for each other that leave [`together`];
//!    [`broken`], [`moved`]: what ends a copy, and how it went.
//! 4. [`disks`]: what is on its disks, where that goes with it; [`own`]: its own volume, before it;
//!    [`wanting`]: which pair wants it, when.
//! 5. [`reception`]: where it is let in; [`passing`]: to the process that [`arrival`] is of.

pub mod arrival;
pub mod barrier;
pub mod broken;
pub mod calling;
pub mod channel;
pub mod convergence;
pub mod departure;
pub mod disks;
pub mod hello;
pub mod moved;
pub mod opening;
pub mod own;
pub mod passing;
pub mod reception;
pub mod relay;
pub mod saying;
pub mod socket;
pub mod together;
pub mod wanting;
pub mod words;
