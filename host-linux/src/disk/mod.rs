//! Disks and disk images: opened safely, read as what they are, changed only by plans.
//!
//! Reading order: [`open`] a disk, [`state`] reads what is on it, [`write`] carries out plans,
//! [`busy`] asks whether somebody else uses it, [`esp`] looks into the EFI System Partition.

pub mod busy;
pub mod esp;
pub mod open;
pub mod state;
pub mod write;
