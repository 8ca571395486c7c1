//! What `cargo xtask` does before anything can run: find what is missing, install it, build what tests boot.
//!
//! Reading order: `workspace` (where things are), `progress` and `command` (how work is shown and run),
//! `packages` and `toolchain` (what is needed), `setup` (make it so), then the builders.

pub mod command;
pub mod packages;
pub mod progress;
pub mod setup;
pub mod toolchain;
pub mod workspace;
