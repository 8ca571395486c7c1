//! A volume's route on both nodes of a pair: real servers, clients and connections between the nodes, a file
//! as the storage, and a test that says who leads (S1-27 to S1-29, S1-31, F42, I1, I11; BLACKBOX 2). Times
//! are bounds for a busy machine.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod bounds;
mod failover;
mod order;
mod pair;
