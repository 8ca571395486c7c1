//! Images and what is made of them.
//!
//! Reading order: [`keys`] sign, [`pe`] looks into EFI binaries, [`build`] makes a container,
//! [`verify`] believes one, [`boot_app`] puts the trusted keys into the boot application,
//! [`node_disk`] makes a complete disk, [`flash`] updates one, [`repair`] mends one.

pub mod boot_app;
pub mod build;
pub mod flash;
pub mod keys;
pub mod node_disk;
pub mod pe;
pub mod repair;
pub mod verify;
