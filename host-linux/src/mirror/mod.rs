//! A holder of a mirror group at work: the shell of `bulkhead_core::holder` (P4; I1, I2, I10, I12; S4-03,
//! S4-07 to S4-15).
//!
//! # Reading order
//!
//! 1. [`words`]: what the agent's loop and the operator say to a group, and what it asks of them.
//! 2. [`view`]: what it tells about itself.

pub mod view;
pub mod words;
