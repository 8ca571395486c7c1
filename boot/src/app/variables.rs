//! EFI variables: the Boot Loader Interface for systemd's tools, and the security floor the firmware keeps.
//!
//! Boot Loader Interface: systemd.io/BOOT_LOADER_INTERFACE. `LoaderBootCountPath` is left out on
//! purpose: systemd would rename files on the ESP beside our boot control block.

use super::alloc::{format, vec::Vec};
use super::clock::Clock;
use super::console::say;
use super::survey::Survey;
use bulkhead_boot::options::load_options;
use bulkhead_core::bcb::state::SlotState;
use bulkhead_core::boot::choice::Start;
use bulkhead_core::container::image::SecurityVersion;
use uefi::runtime::{self, VariableAttributes, VariableVendor};
use uefi::{CStr16, Status, cstr16, guid};

const LOADER: VariableVendor = VariableVendor(guid!("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"));
const BULKHEAD: VariableVendor = VariableVendor(guid!("6d9c1b52-3f0e-4c57-9a41-b5e1c0defa1e"));
const FLOOR: &CStr16 = cstr16!("BulkheadSecurityFloor");
/// Lost at power off, readable by the system.
const VOLATILE: VariableAttributes =
    VariableAttributes::BOOTSERVICE_ACCESS.union(VariableAttributes::RUNTIME_ACCESS);
/// Kept, and out of reach once the system runs: no root can lower it (F49).
const SEALED: VariableAttributes =
    VariableAttributes::BOOTSERVICE_ACCESS.union(VariableAttributes::NON_VOLATILE);

/// Says who we are and when we were entered.
pub(super) fn announce(clock: &Clock) {
    text(cstr16!("LoaderInfo"), concat!("bulkhead-boot ", env!("CARGO_PKG_VERSION")));
    text(cstr16!("LoaderTimeInitUSec"), &format!("{}", clock.entered_since_power_on()));
    let revision = uefi::system::firmware_revision();
    let (major, minor) = (revision >> 16, revision & 0xffff);
    text(cstr16!("LoaderFirmwareInfo"), &format!("{} {major}.{minor:02}", uefi::system::firmware_vendor()));
    let version = uefi::system::uefi_revision();
    text(cstr16!("LoaderFirmwareType"), &format!("UEFI {}.{:02}", version.major(), version.minor()));
    // None of the optional features: entries are slots, chosen by the boot control block.
    let features = runtime::set_variable(cstr16!("LoaderFeatures"), &LOADER, VOLATILE, &0_u64.to_le_bytes());
    drop(features);
}

/// Says what is started, from where, and when.
pub(super) fn handing_off(survey: &Survey, start: &Start, clock: &Clock) {
    let slot = start.slot;
    // The words of the command line once more: a unified kernel image does not pass ours on.
    let mut words = Vec::new();
    load_options("", slot, start.record.boot, |unit| words.extend(unit.to_le_bytes()));
    let _ = runtime::set_variable(cstr16!("BulkheadRunning"), &BULKHEAD, VOLATILE, &words);
    text(cstr16!("LoaderDevicePartUUID"), &format!("{}", survey.layout.esp.unique_guid));
    text(cstr16!("LoaderEntrySelected"), &format!("bulkhead-{slot}"));
    text(cstr16!("LoaderTimeExecUSec"), &format!("{}", clock.since_power_on()));
}

/// Nothing depends on these: a firmware that cannot keep them costs `bootctl status` its lines.
fn text(name: &CStr16, value: &str) {
    let bytes: Vec<u8> = value.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let _ = runtime::set_variable(name, &LOADER, VOLATILE, &bytes);
}

/// The floor the firmware keeps; 0 when it keeps none.
pub(super) fn floor() -> SecurityVersion {
    let mut room = [0; 4];
    match runtime::get_variable(FLOOR, &BULKHEAD, &mut room) {
        // One with other attributes was not written by us: a running system could have made it.
        Ok((bytes, attributes)) if attributes == SEALED => bytes
            .first_chunk()
            .map_or(SecurityVersion(0), |bytes| SecurityVersion(u32::from_le_bytes(*bytes))),
        Ok(_) => SecurityVersion(0),
        Err(error) => {
            if error.status() != Status::NOT_FOUND {
                say!("the firmware's security floor could not be read: {}", error.status());
            }
            SecurityVersion(0)
        }
    }
}

/// Raises the firmware's floor to the disk's, once a confirmed image at or above it is started:
/// only what has proved itself moves a floor that cannot be lowered again.
pub(super) fn raise_floor(start: &Start) {
    let disk = start.record.floor;
    let proved = matches!(start.record.slots.get(start.slot), SlotState::Confirmed { .. });
    if !proved || start.image.security < disk || disk <= floor() {
        return;
    }
    if let Err(error) = runtime::set_variable(FLOOR, &BULKHEAD, SEALED, &disk.0.to_le_bytes()) {
        say!("the firmware does not keep the security floor: {}", error.status());
    }
}
