//! Puts an image into the slot that is not running.
//!
//! Order: the image is read whole and believed before the disk is touched; the slot becomes empty;
//! the payload, then the header are written, and must be the bytes that were believed; they are
//! read back from the disk, past the cache, and believed again; the slot becomes a candidate. A cut
//! anywhere leaves the other slot as it was (I8, V31).

use super::verify::{ImageFile, Unbelieved, verify};
use crate::disk::open::Disk;
use crate::disk::state::{NodeDisk, read_copies};
use crate::disk::write::{Supplies, carry_out, describe};
use crate::failure::Failure;
use crate::output::Voice;
use bulkhead_core::bcb::copies::Copies;
use bulkhead_core::bcb::state::Bcb;
use bulkhead_core::boot::operations::{Running, flash_begins, flash_ends, flash_writes, inactive};
use bulkhead_core::container::header::PAYLOAD_START;
use bulkhead_core::container::image::Digest;
use bulkhead_core::container::trust::{Trust, Verified};
use bulkhead_core::gpt::layout::{Layout, SlotPlace};
use bulkhead_core::plan::DiskOffset;
use bulkhead_core::slot::SlotId;
use sha2::{Digest as _, Sha256};
use std::io;

/// A flash that was checked and may begin.
#[derive(Debug)]
pub struct Flash {
    /// The slot that is written.
    pub slot: SlotId,
    /// The image, believed.
    pub verified: Verified,
    layout: Layout,
    place: SlotPlace,
    copies: Copies,
    begun: Bcb,
}

impl Flash {
    /// Checks everything that can be checked without writing.
    ///
    /// # Errors
    ///
    /// The image is not good, does not fit, is too old, or the slot must not be overwritten.
    pub fn check(
        disk: &Disk,
        node: &NodeDisk,
        running: Option<Running>,
        slot: Option<SlotId>,
        image: &ImageFile,
        trust: &Trust,
        voice: Voice,
    ) -> Result<Self, Failure> {
        node.may_write(disk)?;
        let bcb = node.stored(disk)?.bcb;
        let slot = slot.unwrap_or_else(|| inactive(&bcb, running));
        let place = node.layout.slot(slot);
        let begun = flash_begins(&bcb, running, slot, image.header.image);
        let begun = begun.map_err(|why| refused(&why.to_string(), slot))?;
        let bar = voice.bar("verifying", image.header.payload_len);
        let mut read = |at: u64, buffer: &mut [u8]| image.read(at, buffer);
        let verified = verify(&mut read, trust, place.capacity, bcb.floor, &mut |count| bar.inc(count));
        bar.finish_and_clear();
        let verified = verified.map_err(|why| match why {
            Unbelieved::Image(fault) => refused(&format!("{}: {fault}", image.path.display()), slot),
            Unbelieved::Io(error) => Failure::io("read", &image.path, &error),
        })?;
        Ok(Self { slot, verified, layout: node.layout, place, copies: node.copies, begun })
    }

    /// The steps, for `--dry-run`.
    pub fn steps(&self) -> Vec<String> {
        let places = self.layout.bcb_copies();
        let mut steps = describe(&self.copies.write(places, &self.begun));
        steps.extend(describe(&flash_writes(self.place, self.verified.header().container_len())));
        steps.push("read the image back and verify it".into());
        let ended = flash_ends(&self.begun, self.slot, self.verified.image());
        steps.extend(describe(&self.copies.write(places, &ended)));
        steps
    }

    /// Flashes.
    ///
    /// # Errors
    ///
    /// What failed. The slot is empty then, or as it was; the other slot is as it was.
    pub fn carry_out(
        &self,
        disk: &Disk,
        image: &ImageFile,
        trust: &Trust,
        voice: Voice,
    ) -> Result<Bcb, Failure> {
        let slot = self.slot;
        let other = slot.other();
        let torn = |what: String| {
            Failure::failed(what)
                .left(format!("Slot {slot} is empty or as it was; slot {other} is untouched."))
                .next("`bulkhead boot status` shows the slots; flash again when the cause is gone.")
        };
        let places = self.layout.bcb_copies();
        let begun = self.copies.write(places, &self.begun);
        carry_out(disk, &begun, Supplies::default()).map_err(|stopped| torn(stopped.to_string()))?;
        self.write_image(disk, image, voice)
            .map_err(|error| torn(format!("writing the image failed: {error}")))?;
        self.read_back(disk, trust, voice).map_err(|why| {
            torn(format!("slot {slot} of {} does not return what was written: {why}", disk.path.display()))
        })?;
        let ended = flash_ends(&self.begun, slot, self.verified.image());
        // The copies have changed since they were checked: their order decides which is written first.
        let copies = read_copies(disk, &self.layout);
        carry_out(disk, &copies.write(places, &ended), Supplies::default())
            .map_err(|stopped| torn(stopped.to_string()))?;
        Ok(ended)
    }

    /// Writes the bytes that were believed, or fails before the header, without which the payload
    /// is nothing.
    fn write_image(&self, disk: &Disk, image: &ImageFile, voice: Voice) -> io::Result<()> {
        let header = self.verified.header();
        let changed = || io::Error::other("the image file changed while it was flashed");
        let mut hasher = Sha256::new();
        let bar = voice.bar("writing", header.payload_len);
        let mut block = header.encode().to_vec();
        block.resize(usize::try_from(PAYLOAD_START).unwrap_or(4096), 0);
        let mut hashed = 0_u64;
        let mut bytes = |at: u64, buffer: &mut [u8]| {
            if at < PAYLOAD_START {
                // The header last: of the payload every byte has passed through the hash by now.
                let whole = hashed == header.payload_len;
                if !whole || Digest(hasher.clone().finalize().into()) != header.image.digest {
                    return Err(changed());
                }
                let from = usize::try_from(at).unwrap_or(usize::MAX);
                let part = block.get(from..from.saturating_add(buffer.len())).ok_or_else(changed)?;
                buffer.copy_from_slice(part);
                return Ok(());
            }
            image.read(at, buffer)?;
            hasher.update(&*buffer);
            let count = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
            hashed = hashed.saturating_add(count);
            bar.inc(count);
            Ok(())
        };
        let plan = flash_writes(self.place, header.container_len());
        let supplies = Supplies { image: Some(&mut bytes), entries: None };
        let written = carry_out(disk, &plan, supplies).map_err(|stopped| stopped.error);
        bar.finish_and_clear();
        written
    }

    fn read_back(&self, disk: &Disk, trust: &Trust, voice: Voice) -> Result<(), Unbelieved> {
        let bar = voice.bar("reading", self.verified.header().payload_len);
        let found = verify_slot(disk, self.place, trust, self.begun.floor, &mut |count| bar.inc(count));
        bar.finish_and_clear();
        if found?.image() == self.verified.image() {
            Ok(())
        } else {
            Err(Unbelieved::Image(bulkhead_core::container::trust::ImageFault::NotAsRecorded))
        }
    }
}

/// Believes the image in a slot, reading past the cache.
///
/// # Errors
///
/// Why not.
pub fn verify_slot(
    disk: &Disk,
    place: SlotPlace,
    trust: &Trust,
    floor: bulkhead_core::container::image::SecurityVersion,
    tick: &mut dyn FnMut(u64),
) -> Result<Verified, Unbelieved> {
    let mut reader = disk.uncached();
    let mut read = |at: u64, buffer: &mut [u8]| {
        let at: DiskOffset = place.image.plus(at);
        reader.read(at, buffer)
    };
    verify(&mut read, trust, place.capacity, floor, tick)
}

fn refused(why: &str, slot: SlotId) -> Failure {
    Failure::refused(format!("slot {slot} is not flashed: {why}"))
        .next("`bulkhead boot status` shows both slots and the floor.")
}
