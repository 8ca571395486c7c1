//! Fencing through a witness: a node pleads for the power of another to be cut, the witness that holds the
//! relay judges the plea by what it knows itself, switches, reads back, and answers (S1-06, S1-07, V19, V20,
//! V21, F28, F29).
//!
//! - [`words`]: what is said over the networks, and what is put on record.
//! - [`right`]: who may have whom cut, and why a wrongful plea does no harm.
//! - [`desk`]: the witness's part: one order for a node at a time, each one read back and recorded.
//! - [`strip`]: the line to a power strip, for a witness that has one.
//! - [`pleas`]: the other part: a plea is repeated until it is answered for good.

pub mod desk;
pub mod pleas;
pub mod right;
pub mod strip;
pub mod words;
