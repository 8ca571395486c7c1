//! What was acknowledged is there: real agents and a witness, guests that write all the time over all paths,
//! and nodes that die, stand still and lose each other at random moments (S1-27 to S1-29, S3-07, S4-03,
//! S4-11, S4-12, I1, V6; BLACKBOX 2). `BULKHEAD_ROUNDS` says how many faults (the usual five are one of each
//! kind), `BULKHEAD_SEED` repeats a run as far as a machine can.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/plant.rs"]
mod common_plant;
mod guest;
mod history;
mod plant;
mod rounds;
