//! Reads an image into memory and believes it, or not.

use super::clock::Clock;
use super::console::say;
use super::memory::Pages;
use super::survey::Survey;
use bulkhead_boot::sha256::sha256;
use bulkhead_core::container::header::PAYLOAD_START;
use bulkhead_core::container::image::{Digest, SecurityVersion};
use bulkhead_core::container::trust::{ImageFault, Trust, Verified};
use bulkhead_core::slot::SlotId;

/// A verified image in memory.
pub(super) struct Loaded {
    /// The proof.
    pub(super) verified: Verified,
    pages: Pages,
}

impl Loaded {
    /// The payload: the very bytes that were hashed.
    pub(super) fn payload(&self) -> &[u8] {
        let len = usize::try_from(self.verified.header().payload_len).unwrap_or_default();
        self.pages.bytes().get(..len).unwrap_or_default()
    }
}

/// Reads the image in `slot` and verifies it: header, signature, floor, then the payload.
pub(super) fn image(
    survey: &mut Survey,
    slot: SlotId,
    trust: &Trust,
    floor: SecurityVersion,
    clock: &Clock,
) -> Result<Loaded, ImageFault> {
    let place = survey.layout.slot(slot);
    let started = clock.micros();
    let header = survey.sector(place.image).ok_or(ImageFault::Unreadable)?;
    let signed = trust.believe(&header, place.capacity, floor)?;
    let signature_checked = clock.micros();
    let len = signed.header().payload_len;
    let mut pages = Pages::new(len).ok_or(ImageFault::NoMemory)?;
    let first = survey.disk.block_at(place.image.plus(PAYLOAD_START).0);
    let block = u64::from(survey.layout.block_size.bytes());
    let whole = survey.layout.block_size.blocks_for(len).saturating_mul(block);
    let whole = usize::try_from(whole).map_err(|_| ImageFault::NoMemory)?;
    let into = pages.bytes_mut().get_mut(..whole).ok_or(ImageFault::NoMemory)?;
    survey.disk.read(first, into).map_err(|_| ImageFault::Unreadable)?;
    let read = clock.micros();
    let payload = pages.bytes().get(..usize::try_from(len).unwrap_or_default()).unwrap_or_default();
    let computed = Digest(sha256(payload));
    let command_line = signed.header().command_line.of(payload);
    let verified = signed.verify(computed, command_line)?;
    let (reading, checking) = (
        read.saturating_sub(signature_checked),
        clock.micros().saturating_sub(read).saturating_add(signature_checked.saturating_sub(started)),
    );
    say!(
        "slot {slot} read {} KiB in {} ms ({} MB/s), verified in {} ms ({} MB/s)",
        len.div_ceil(1024),
        millis(reading),
        rate(len, reading),
        millis(checking),
        rate(len, checking),
    );
    Ok(Loaded { verified, pages })
}

const fn millis(micros: u64) -> u64 {
    micros.div_ceil(1000)
}

/// Bytes a microsecond are megabytes a second.
fn rate(bytes: u64, micros: u64) -> u64 {
    bytes.checked_div(micros).unwrap_or(bytes)
}
