//! Harness for QEMU nodes and the machinery behind `cargo xtask`, as a library that tests can use.
//!
//! Read `tooling` for set-up and builders.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "host tooling: an overflow is a panic in debug, never a wrong image"
)]

pub mod tooling;
