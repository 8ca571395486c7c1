//! The parts of the boot application that need no firmware, so that they are tested on any machine.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod options;
pub mod sha256;
#[cfg(target_arch = "x86_64")]
mod sha_ni;
