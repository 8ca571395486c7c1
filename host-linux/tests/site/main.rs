//! A whole site as real processes: two nodes and a witness, whose networks the tests can cut. Times are
//! bounds for a busy machine; the figures are the benchmark's.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

#[path = "../common/mod.rs"]
mod common;
mod fencing;
mod files;
mod harness;
mod members;
mod networks;
mod relay;
mod resources;
mod roles;
mod vital;
