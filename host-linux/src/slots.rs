//! Changes of the boot control block: each is carried out by the core's plan, then read back from
//! the disk itself and compared, because a disk that lies must not pass for a good one (X19).

use crate::disk::open::Disk;
use crate::disk::state::{NodeDisk, read_sector};
use crate::disk::write::{Supplies, carry_out};
use crate::failure::Failure;
use bulkhead_core::bcb::copies::Copies;
use bulkhead_core::bcb::format::Stored;
use bulkhead_core::bcb::state::Bcb;
use bulkhead_core::boot::operations::{Running, confirm as confirmed, mark_writes};
use bulkhead_core::container::image::ImageId;
use bulkhead_core::container::mark::Mark;
use bulkhead_core::gpt::layout::Layout;
use bulkhead_core::plan::SECTOR;

const LEFT: &str =
    "The boot control block is as it was, or as it was to become: `bulkhead boot status` shows which.";

/// Makes `next` the boot control block.
///
/// # Errors
///
/// The disk did not take it, or does not return it.
pub fn write(disk: &Disk, node: &NodeDisk, next: &Bcb) -> Result<Stored, Failure> {
    node.may_write(disk)?;
    let path = disk.path.display();
    let plan = node.copies.write(node.layout.bcb_copies(), next);
    carry_out(disk, &plan, Supplies::default())
        .map_err(|stopped| Failure::failed(format!("{path}: {stopped}")).left(LEFT))?;
    let [first, second] = *uncached_copies(disk, &node.layout).each();
    match (first, second) {
        (Ok(first), Ok(second)) if first.bcb == *next && second.bcb == *next => {
            Ok(if first.seq < second.seq { second } else { first })
        }
        (Ok(_) | Err(_), Ok(_) | Err(_)) => {
            let what = format!("{path} does not return the boot control block that was written");
            Err(Failure::failed(what).left(LEFT).next("the disk is failing: replace it."))
        }
    }
}

/// Reads both copies of the boot control block past the cache.
pub fn uncached_copies(disk: &Disk, layout: &Layout) -> Copies {
    let mut reader = disk.uncached();
    let [first, second] = layout.bcb_copies().map(|at| {
        let mut sector = [0; SECTOR];
        reader.read(at, &mut sector).ok().map(|()| sector)
    });
    Copies::parse([first.as_ref(), second.as_ref()])
}

/// The outcome of a confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// What was confirmed.
    pub image: ImageId,
    /// Whether it had been confirmed before: nothing was written then.
    pub before: bool,
}

/// What a confirmation would write; `None` when the slot is confirmed already.
///
/// # Errors
///
/// The running boot must not confirm the slot (V38).
pub fn confirm_would(bcb: &Bcb, running: Running) -> Result<Option<Bcb>, Failure> {
    let next = confirmed(bcb, running).map_err(|why| {
        Failure::refused(why.to_string()).next("`bulkhead boot status` shows what the disk recorded.")
    })?;
    Ok((next != *bcb).then_some(next))
}

/// Confirms the running slot as good and marks its image.
///
/// # Errors
///
/// The running boot must not confirm the slot, or the disk did not take it.
pub fn confirm(disk: &Disk, node: &NodeDisk, running: Running) -> Result<Confirmed, Failure> {
    let mut stored = node.stored(disk)?;
    let next = confirm_would(&stored.bcb, running)?;
    if let Some(next) = &next {
        stored = write(disk, node, next)?;
    }
    let image = stored.bcb.slots.get(running.slot).image().copied();
    let image = image.ok_or_else(|| Failure::failed(format!("slot {} holds no image", running.slot)))?;
    let place = node.layout.slot(running.slot);
    let mark = || read_sector(disk, place.mark).and_then(|sector| Mark::parse(&sector));
    if mark().is_none_or(|mark| mark.image != image) {
        let plan = mark_writes(&stored.bcb, stored.seq, running.slot, place);
        carry_out(disk, &plan, Supplies::default()).map_err(|stopped| {
            let slot = running.slot;
            Failure::failed(format!("the confirmation mark of slot {slot} was not written: {stopped}"))
                .left("The slot is confirmed; if both copies of the block are lost, that is forgotten.")
                .next("`bulkhead image repair` writes the mark.")
        })?;
    }
    Ok(Confirmed { image, before: next.is_none() })
}
