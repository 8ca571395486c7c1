//! All end-to-end tests in one program: it is linked once, builds what they boot once, and while the last
//! test of one file runs alone, one of the next file has the other processor.

mod bare_guest;
mod boot_damage;
mod boot_fallback;
mod boot_power_cut;
mod boot_update;
mod database;
mod firmware_failures;
#[path = "firmware_fence/main.rs"]
mod firmware_fence;
mod guest;
mod guest_qemu;
mod harness;
mod losses;
mod secure_boot;
mod site;
mod witness;
mod witness_hostile;
mod witness_replay;
mod witness_site;
