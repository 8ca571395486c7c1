//! The leased register: the one coordination primitive of the site (DESIGN section 2a).
//!
//! A small [`record::Record`] kept by an odd number of voters, changed only by compare-and-swap at a
//! majority in the manner of CASPaxos (Rystsov 2018, arXiv:1802.07000), with leases granted by the voters.
//!
//! - [`acceptor`]: the voter. Durable before any answer; refuses to move a record away from a lease holder.
//! - [`proposer`]: one round of read, decide, write.
//! - [`seat`]: obtains and keeps a register for this node; the only thing the machines above talk to, so that
//!   another engine can keep the same registers (S2-04).
//! - [`era`]: what an operator decided for voters that are lost is above all that they can have said.
//!
//! # Why no two nodes can hold one register (I1, I5, V3)
//!
//! 1. A voter that granted a lease to a holder accepts no record that names another holder before that lease
//!    has ended on its own clock, counted for at least what was promised ([`crate::time::Drift`]).
//! 2. A holder counts its lease from the moment it *sent* the request, for at most what was promised.
//! 3. A lease counts when a majority granted it, a record counts when a majority accepted it, and two
//!    majorities share a voter. At that voter either the grant came first: the record was accepted after the
//!    lease ended in true time. Or the record came first: the voter no longer grants to the old holder.
//! 4. A voter that restarted knows from its durable record who alone could hold a lease of it, and acts as if
//!    it had granted the longest one at that moment. So a grant needs no disk write (V11).

pub mod acceptor;
pub mod ballot;
pub mod era;
pub mod kept;
pub mod lease;
pub mod message;
pub mod proposer;
pub mod record;
pub mod seat;
pub mod store;
pub mod voters;

#[cfg(test)]
mod testing;
