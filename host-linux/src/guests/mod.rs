//! The guests of this node: what each of them is, where its process is found, and how that is begun and ended
//! (S2-01, S2-05, S3-06).
//!
//! [`home`]: the directory of a guest; [`process`]: its process; [`client`]: what asks it; [`record`]:
//! where it went; [`together`]: all of them moved at once; [`template`]: what many guests have in common;
//! [`own_volume`]: what a node needs to start one, beside its disks.

pub mod client;
pub mod home;
pub mod own_volume;
pub mod process;
pub mod record;
pub mod template;
pub mod together;
