//! The mirror of a group's log: who holds every acknowledged write, and who may go on with it (I1 to I4, I10,
//! I12; S4-03, S4-07 to S4-15, X12).
//!
//! ```text
//!  guest        primary                       secondary
//!    │ write ────▶ │ append ──▶ own log           │
//!    │             │ ───────────── Feed ─────────▶│ append ──▶ own log
//!    │             │ ◀── durable                  │ ◀── durable
//!    │             │ ◀──────────── Have ───────── │
//!    │ ◀────── ack │  durable on all in-sync holders, and the lease holds
//! ```
//!
//! # Reading order
//!
//! 1. [`membership`]: the in-sync set, as the group's register keeps it; who may lead.
//! 2. [`history`]: how far two logs are the same.
//! 3. [`secondary`]: a holder that follows.
//! 4. [`primary`]: the holder that acknowledges.
//!
//! # Why no acknowledged write is lost
//!
//! 1. One primary start has one epoch, that of the record by which it took the register, and gives each
//!    write a number. So two logs that have a write of one epoch and one number are the same up to it
//!    ([`history`]), as in Raft (Ongaro 2014, section 3.5).
//! 2. A write is acknowledged when it is durable on every member of the in-sync set, and of the set that it
//!    is being changed to: whatever becomes of the change, whoever may lead next has it (I2).
//! 3. Only a member of the newest set leads (I3). It takes the register with itself alone in the set: from
//!    then on its log is the group's.
//! 4. A holder promises an epoch durably before it follows it, and refuses older ones (I1). What it has
//!    beyond the common part it cuts off: nobody was told of it.

pub mod history;
pub mod membership;
pub mod primary;
pub mod secondary;

#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod happens;
#[cfg(test)]
mod testing;
