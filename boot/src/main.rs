//! The UEFI boot application: chooses a boot slot, verifies its image, records the try durably and starts it.
//!
//! All decisions are the core's (`bulkhead_core::boot::choice`); here is what they need of the firmware.
//! Reading order: [`app::run`] is the boot from entry to hand-off; then `disk`, `survey`, `examine`,
//! `record`, `start`; `rescue` is what remains when nothing may be started (X20).
#![cfg_attr(target_os = "uefi", no_main, no_std)]

#[cfg(target_os = "uefi")]
mod app;

#[cfg(not(target_os = "uefi"))]
fn main() {
    println!("This is a UEFI application. Build it with `cargo xtask boot-app`.");
}
