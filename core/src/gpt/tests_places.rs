//! Bulkhead's partitions in a table (S1-01).

use super::*;
use crate::gpt::layout::{Layout, LayoutFault, Zone};
use crate::plan::DiskOffset;
use crate::slot::SlotId;

const MIB: u64 = 1 << 20;

/// A table of the roles and sizes in bytes that are given.
fn table_of(block_size: BlockSize, parts: &[(Role, u64)]) -> Table {
    let blocks = 64 * MIB / u64::from(block_size.bytes());
    let mut table = Table::empty(DISK, usable(Geometry { block_size, blocks }).unwrap());
    let mut first = 2048;
    for (index, (role, bytes)) in (0_u8..).zip(parts) {
        let count = block_size.blocks_for(*bytes);
        table.add(partition(index, role.type_guid(), first, count)).unwrap();
        first += count;
    }
    table
}

fn parts() -> Vec<(Role, u64)> {
    Role::ALL.map(|role| (role, role.bytes_min())).to_vec()
}

#[test]
fn every_partition_is_found_by_its_type() {
    for block_size in SIZES {
        let table = table_of(block_size, &parts());
        let layout = Layout::find(&table, block_size).unwrap();
        for (role, partition) in Role::ALL.into_iter().zip(&table.partitions) {
            assert_eq!(layout.partition(role), Some(partition), "{role}");
        }
        assert_eq!(layout.check_zone(Zone::Mz), Ok(()));
        let mut reversed = parts();
        reversed.reverse();
        let table = table_of(block_size, &reversed);
        assert_eq!(Layout::find(&table, block_size).unwrap().admin, Some(table.partitions[0]));
    }
}

#[test]
fn missing_duplicate_and_small_partitions_are_named() {
    for (at, role) in Role::ALL.into_iter().enumerate() {
        let mut missing = parts();
        missing.remove(at);
        let found = Layout::find(&table_of(BlockSize::B512, &missing), BlockSize::B512);
        if role == Role::Admin {
            let layout = found.unwrap();
            assert_eq!(layout.partition(role), None);
            assert_eq!(layout.check_zone(Zone::Dmz), Ok(()));
            assert_eq!(layout.check_zone(Zone::Mz), Err(LayoutFault::Missing { role }));
        } else {
            assert_eq!(found, Err(LayoutFault::Missing { role }));
        }
        let mut twice = parts();
        twice.push((role, MIB));
        let found = Layout::find(&table_of(BlockSize::B512, &twice), BlockSize::B512);
        let first = u8::try_from(at).unwrap();
        assert_eq!(found, Err(LayoutFault::Duplicate { role, first, second: 7 }));
        let mut small = parts();
        small[at].1 -= 512;
        let (found, needed) = (small[at].1, role.bytes_min());
        let layout = Layout::find(&table_of(BlockSize::B512, &small), BlockSize::B512);
        assert_eq!(layout, Err(LayoutFault::TooSmall { role, found, needed }));
    }
}

#[test]
fn places_inside_a_partition() {
    let mut parts = parts();
    parts[2].1 = MIB + 512;
    let layout = Layout::find(&table_of(BlockSize::B512, &parts), BlockSize::B512).unwrap();
    let bcb = layout.bcb.extent.first().0 * 512;
    assert_eq!(layout.bcb_copies(), [DiskOffset(bcb), DiskOffset(bcb + 65_536)]);
    for slot in SlotId::ALL {
        let place = layout.slot(slot);
        let extent = layout.partition(Role::of_slot(slot)).unwrap().extent;
        assert_eq!(place.image, DiskOffset(extent.first().0 * 512));
        assert_eq!(place.capacity, MIB - 4096, "{slot}");
        assert_eq!(place.mark.0, place.image.0 + place.capacity);
        assert!(place.mark.0 + 4096 <= (extent.last().0 + 1) * 512);
    }
}
