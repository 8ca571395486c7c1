//! What a node disk says: its table, its partitions, its boot control block, its marks.

use super::open::Disk;
use crate::failure::Failure;
use bulkhead_core::bcb::copies::Copies;
use bulkhead_core::bcb::format::Stored;
use bulkhead_core::container::mark::Mark;
use bulkhead_core::gpt::layout::Layout;
use bulkhead_core::gpt::reading::{Found, NoTable, Reading};
use bulkhead_core::plan::{DiskOffset, SECTOR};
use bulkhead_core::slot::{PerSlot, SlotId};

/// Reads the partition table of `disk`.
///
/// # Errors
///
/// Neither copy is good.
pub fn read_table(disk: &Disk) -> Result<Found, NoTable> {
    let mut reading = Reading::new(disk.geometry);
    while let Some(extent) = reading.wants() {
        let at = DiskOffset(extent.first().byte_offset(disk.geometry.block_size));
        let len = usize::try_from(extent.bytes(disk.geometry.block_size)).unwrap_or(0);
        let mut bytes = vec![0; len];
        let answered = disk.read(at, &mut bytes).is_ok();
        reading.supply(answered.then_some(bytes.as_slice()));
    }
    reading.finish()
}

/// Everything a disk says about booting, read once.
#[derive(Clone, Debug)]
pub struct NodeDisk {
    /// The partition table, and the state of its two copies.
    pub table: Found,
    /// Where Bulkhead's partitions are.
    pub layout: Layout,
    /// The boot control block.
    pub copies: Copies,
    /// The confirmation marks.
    pub marks: PerSlot<Option<Mark>>,
}

impl NodeDisk {
    /// Reads `disk`.
    ///
    /// # Errors
    ///
    /// It has no partition table, or not that of a node.
    pub fn read(disk: &Disk) -> Result<Self, Failure> {
        let path = disk.path.display();
        let make = "if this is the disk you mean, make it one with `bulkhead image disk --out`.";
        let table = read_table(disk)
            .map_err(|fault| Failure::failed(format!("{path} is not a Bulkhead disk: {fault}")).next(make))?;
        let layout = Layout::find(&table.table, disk.geometry.block_size)
            .map_err(|fault| Failure::failed(format!("{path} is not a Bulkhead disk: {fault}")).next(make))?;
        let copies = read_copies(disk, &layout);
        let mark = |slot| read_sector(disk, layout.slot(slot).mark).and_then(|sector| Mark::parse(&sector));
        let marks = PerSlot { a: mark(SlotId::A), b: mark(SlotId::B) };
        Ok(Self { table, layout, copies: copies.resume_after(&marks), marks })
    }

    /// Whether the boot control block may be written at all.
    ///
    /// # Errors
    ///
    /// A copy has a newer format: it says something that this program cannot read (V41).
    pub fn may_write(&self, disk: &Disk) -> Result<(), Failure> {
        if !self.copies.newer_format() {
            return Ok(());
        }
        let path = disk.path.display();
        Err(Failure::refused(format!("the boot control block of {path} was written by a newer Bulkhead"))
            .left("Nothing was written.")
            .next("use that version of `bulkhead` on this disk."))
    }

    /// The boot control block that counts.
    ///
    /// # Errors
    ///
    /// Both copies are lost.
    pub fn stored(&self, disk: &Disk) -> Result<Stored, Failure> {
        self.copies.newest().ok_or_else(|| {
            let [first, second] = self.copies.each().map(|copy| match copy {
                Ok(_) => String::new(),
                Err(damage) => damage.to_string(),
            });
            let path = disk.path.display();
            Failure::failed(format!(
                "both copies of the boot control block of {path} are lost (first: {first}; second: {second})"
            ))
            .next(
                "`bulkhead image repair` rebuilds it from the confirmation marks; the next boot does so too.",
            )
        })
    }
}

/// Reads both copies of the boot control block.
pub fn read_copies(disk: &Disk, layout: &Layout) -> Copies {
    let [first, second] = layout.bcb_copies().map(|at| read_sector(disk, at));
    Copies::parse([first.as_ref(), second.as_ref()])
}

/// The first [`SECTOR`] bytes at `at`; `None` when the disk does not return them.
pub fn read_sector(disk: &Disk, at: DiskOffset) -> Option<[u8; SECTOR]> {
    let mut sector = [0; SECTOR];
    disk.read(at, &mut sector).ok().map(|()| sector)
}
