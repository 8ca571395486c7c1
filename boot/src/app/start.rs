//! Starts a verified image: command line, initrd, watchdogs, hand-off.
#![allow(unsafe_code, reason = "load options are passed as a raw pointer")]

use super::clock::Clock;
use super::console::{println, say};
use super::disk::open;
use super::examine::Loaded;
use super::initrd::Initrd;
use super::survey::Survey;
use super::{alloc, variables, watchdog};
use alloc::vec::Vec;
use bulkhead_boot::options::load_options;
use bulkhead_core::boot::choice::Start;
use uefi::boot::{self, LoadImageSource};
use uefi::proto::device_path::{DevicePath, LoadedImageDevicePath};
use uefi::proto::loaded_image::LoadedImage;
use uefi::{Handle, Status};

/// Starts `loaded`. Comes back only when that failed.
pub(super) fn image(survey: &Survey, loaded: &Loaded, start: &Start, clock: &Clock) {
    let slot = start.slot;
    let reason = start.explanation.reason.token();
    if let Err(status) = hand_off(survey, loaded, start, clock, reason) {
        say!("slot {slot} did not start: {}", explain(status));
    } else {
        say!("slot {slot} came back instead of running");
    }
    watchdog::disarm();
}

fn hand_off(
    survey: &Survey,
    loaded: &Loaded,
    start: &Start,
    clock: &Clock,
    reason: &str,
) -> Result<(), Status> {
    let (payload, header) = (loaded.payload(), loaded.verified.header());
    let own_path = open::<LoadedImageDevicePath>(boot::image_handle());
    let file_path: Option<&DevicePath> = own_path.as_ref().map(|path| &***path);
    let source = LoadImageSource::FromBuffer { buffer: header.efi.of(payload), file_path };
    let image = boot::load_image(boot::image_handle(), source).map_err(|error| error.status())?;
    let options = options(loaded, start);
    if let Some(options) = &options {
        set_options(image, options)?;
    }
    let initrd = Initrd::offer(header.initrd.of(payload))?;
    say!("watchdog: {}", watchdog::arm());
    say!("handoff after {} ms", clock.micros().div_ceil(1000));
    println!("BOOT slot={} version={} reason={reason}", start.slot, start.image.version);
    variables::handing_off(survey, start, clock);
    let result = boot::start_image(image).map_err(|error| error.status());
    drop(initrd);
    // It has ended, or was never begun; an image that cannot be unloaded only costs memory.
    let _ = boot::unload_image(image);
    result
}

/// The load options; none for a unified kernel image: without Secure Boot its stub would take them
/// in place of the command line inside it. It learns its slot from the variable `BulkheadRunning`.
fn options(loaded: &Loaded, start: &Start) -> Option<Vec<u16>> {
    let header = loaded.verified.header();
    let own = header.command_line.of(loaded.payload());
    if own.is_empty() && header.initrd.of(loaded.payload()).is_empty() {
        return None;
    }
    let mut units = Vec::new();
    // Verified to be UTF-8 when the image was believed.
    let own = core::str::from_utf8(own).unwrap_or_default();
    load_options(own, start.slot, start.record.boot, |unit| units.push(unit));
    Some(units)
}

fn set_options(image: Handle, options: &[u16]) -> Result<(), Status> {
    let mut loaded = open::<LoadedImage>(image).ok_or(Status::UNSUPPORTED)?;
    let bytes = u32::try_from(size_of_val(options)).map_err(|_| Status::BAD_BUFFER_SIZE)?;
    // SAFETY: `options` lives in the caller until the image has ended.
    unsafe { loaded.set_load_options(options.as_ptr().cast(), bytes) };
    Ok(())
}

fn explain(status: Status) -> impl core::fmt::Display {
    struct Why(Status);
    impl core::fmt::Display for Why {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            if matches!(self.0, Status::SECURITY_VIOLATION | Status::ACCESS_DENIED) {
                f.write_str("Secure Boot does not trust its EFI binary (see docs/secure-boot.md)")
            } else {
                write!(f, "{}", self.0)
            }
        }
    }
    Why(status)
}
