//! Writes a partition table: a new one, or the copy that is bad.
//!
//! Of each copy the array is written and flushed before its header, so that a header that names
//! an array is never on the disk before the array it names. The backup is finished before the
//! primary is begun: at every cut at least one copy is whole, the old one or the new one.

use super::entries::Table;
use super::header::{ARRAY_LEN_MAX, Copy, HEADER_LEN, Header};
use super::reading::{Found, State};
use crate::block::{BlockSize, Extent, Geometry, Lba};
use crate::bytes::Writer;
use crate::plan::{Data, DiskOffset, Plan, SECTOR};

/// Where this code puts the primary entry array: right behind its header.
const PRIMARY_ARRAY: Lba = Lba(2);

/// The blocks partitions may use on `disk`: behind the primary array, before the backup array.
/// `None` when the disk is too small for any.
pub fn usable(disk: Geometry) -> Option<Extent> {
    let array = array_blocks(disk.block_size, 128);
    let last = disk.last().0.checked_sub(array)?.checked_sub(1)?;
    Extent::new(Lba(2).plus(array), Lba(last))
}

/// The plan that writes `table` to a disk that has none: protective MBR, backup, primary. The
/// shell writes [`Table::encode`] where the plan says [`Data::Entries`].
pub fn create(table: &Table, disk: Geometry) -> Plan {
    let mut plan = Plan::new();
    plan.write(DiskOffset(0), Data::Sector(protective_mbr(disk)));
    plan.append(rewrite(Copy::Backup, table, disk));
    plan.append(rewrite(Copy::Primary, table, disk));
    plan
}

/// The plan that makes both copies good again; `None` when they are. The bad copy is written
/// first: until it is durable, the one in use is not touched.
///
/// On a disk that has grown, only the primary header tells where the backup is, and a new backup
/// at the end may lie over the old one. There the primary array is made good under the header
/// that stands, then the new backup is made, and only then the primary header is touched.
pub fn repair(found: &Found, disk: Geometry) -> Option<Plan> {
    let mut plan = Plan::new();
    let order = match found.state {
        State::Good => return None,
        State::PrimaryBad(_) if found.backup_at != disk.last() => {
            plan.write(DiskOffset(PRIMARY_ARRAY.byte_offset(disk.block_size)), Data::Entries);
            plan.flush();
            [Copy::Backup, Copy::Primary]
        }
        State::PrimaryBad(_) => [Copy::Primary, Copy::Backup],
        State::BackupBad(_) | State::Differ | State::BackupNotAtEnd { .. } => [Copy::Backup, Copy::Primary],
    };
    for copy in order {
        plan.append(rewrite(copy, &found.table, disk));
    }
    Some(plan)
}

fn rewrite(copy: Copy, table: &Table, disk: Geometry) -> Plan {
    let mut entries = [0; ARRAY_LEN_MAX];
    let array_crc = table.encode(&mut entries);
    let array_of_backup = Lba(disk.last().0.saturating_sub(array_blocks(disk.block_size, table.entry_count)));
    let (at, alternate, array) = match copy {
        Copy::Primary => (Lba(1), disk.last(), PRIMARY_ARRAY),
        Copy::Backup => (disk.last(), Lba(1), array_of_backup),
    };
    let Table { disk_guid, usable, entry_count, .. } = *table;
    let header = Header { copy, at, alternate, usable, disk_guid, array, entry_count, array_crc };
    let mut plan = Plan::new();
    plan.write(DiskOffset(array.byte_offset(disk.block_size)), Data::Entries);
    plan.flush();
    plan.write(DiskOffset(at.byte_offset(disk.block_size)), Data::Sector(sector(header.encode())));
    plan.flush();
    plan
}

fn array_blocks(block_size: BlockSize, entry_count: u32) -> u64 {
    block_size.blocks_for(u64::from(entry_count).saturating_mul(128))
}

fn sector(header: [u8; HEADER_LEN]) -> [u8; SECTOR] {
    let mut out = Writer::<SECTOR>::default();
    out.put(&header);
    out.finish()
}

/// One partition of type 0xEE over the whole disk (UEFI 2.10, 5.2.3), so that tools that do not
/// know the GPT see a full disk and not an empty one.
fn protective_mbr(disk: Geometry) -> [u8; SECTOR] {
    let size = u32::try_from(disk.last().0).unwrap_or(u32::MAX);
    let mut out = Writer::<SECTOR>::default();
    out.reserved(446);
    out.put(&[0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
    out.u32(1);
    out.u32(size);
    out.reserved(48);
    out.put(&[0x55, 0xaa]);
    out.finish()
}
