//! A holder of a mirror group at work: the shell of `bulkhead_core::holder` (P4; I1, I2, I10, I12; S4-03,
//! S4-07 to S4-15).
//!
//! # Reading order
//!
//! 1. [`words`]: what the agent's loop and the operator say to a group, and what it asks of them.
//! 2. [`view`]: what it tells about itself.
//! 3. [`window`]: the writes of the log that are in memory; [`tape`]: those that are not.
//! 4. [`dirty`]: what is to go to the backing store; [`store`]: that store; [`applier`]: who writes it.

pub mod applier;
pub mod dirty;
pub mod store;
pub mod tape;
pub mod view;
pub mod window;
pub mod words;
