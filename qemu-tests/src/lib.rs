//! Harness for QEMU nodes: disks, firmware, consoles, networks and power cuts, as a library that
//! tests can use. Start at [`node`], or at [`machine`] for computers that are not Bulkhead nodes;
//! [`tooling`] is the machinery behind `cargo xtask`.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "host tooling: an overflow is a panic in debug, never a wrong image"
)]

pub mod artefacts;
pub mod console;
pub mod database;
pub mod disk;
pub mod lab;
pub mod limit;
pub mod losses;
pub mod machine;
pub mod mutants;
pub mod node;
pub mod process;
pub mod shell;
pub mod site;
pub mod switch;
pub mod tooling;
pub mod witness;
