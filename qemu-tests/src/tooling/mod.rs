//! What `cargo xtask` does before anything can run: find what is missing, install it, build what tests boot.
//!
//! Reading order: `workspace` (where things are), `progress`, `command` and `failures` (how work is shown
//! and run, and what failed), `packages` and `toolchain` (what is needed), `setup` (make it so), then the
//! builders: `programs` (our two programs), `kernel` (Debian's), `modules` and `initramfs` (what the kernel
//! gets), `guest_image` and `bare_guest` (guests of the tests), `node_image` (all of it), and `signed` (what
//! a boot partition takes).

pub mod bare_guest;
pub mod command;
pub mod elf;
pub mod failures;
pub mod firmware;
pub mod guest_image;
pub mod initramfs;
pub mod kernel;
pub mod modules;
pub mod node_image;
pub mod packages;
pub mod programs;
pub mod progress;
pub mod sections;
pub mod setup;
pub mod signed;
pub mod toolchain;
pub mod workspace;
