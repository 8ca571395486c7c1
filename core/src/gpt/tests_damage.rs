//! Every fault a table can have, made on a good disk (F45, V33).

use super::*;
use crate::crc::crc32;
use crate::gpt::entries::EntryFault;
use crate::gpt::header::{Copy, Fault, Header};
use crate::gpt::reading::State;

/// Changes bytes of the primary header and makes its checksum good again.
fn header(disk: &mut Disk, at: usize, bytes: &[u8]) {
    let block = disk.block(1);
    block[at..at + bytes.len()].copy_from_slice(bytes);
    block[16..20].fill(0);
    let crc = crc32(&[&block[..92]]);
    block[16..20].copy_from_slice(&crc.to_le_bytes());
}

/// Changes bytes of an entry of the primary array, and makes both checksums good again.
fn entry(disk: &mut Disk, index: usize, at: usize, bytes: &[u8]) {
    let start = 2 * size(disk.geometry.block_size);
    let from = start + index * 128 + at;
    disk.bytes[from..from + bytes.len()].copy_from_slice(bytes);
    let crc = crc32(&[&disk.bytes[start..start + 128 * 128]]);
    header(disk, 88, &crc.to_le_bytes());
}

fn primary_fault(disk: &Disk) -> Fault {
    match disk.read().unwrap().state {
        State::PrimaryBad(fault) => fault,
        state @ (State::Good | State::BackupBad(_) | State::Differ | State::BackupNotAtEnd { .. }) => {
            panic!("{state}")
        }
    }
}

/// These bytes are in the field, and other systems read them (UEFI 2.10, 5.3.2).
#[test]
fn a_header_in_bytes() {
    let mut disk = Disk::with(BlockSize::B512, &table(BlockSize::B512));
    let crc = [0xf0, 0xe8, 0xad, 0x6b];
    let array_crc = [0x2c, 0xcb, 0x5a, 0xd9];
    let mut golden = std::vec::Vec::new();
    golden.extend_from_slice(b"EFI PART\0\0\x01\0\x5c\0\0\0");
    golden.extend_from_slice(&crc);
    golden.extend_from_slice(&[0; 4]);
    for number in [1_u64, 159, 34, 126] {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    golden.extend_from_slice(&[0x0b, 0x0b, 0x0b, 0x0b, 0, 0, 0, 0x40, 0x80, 0, 0, 0, 0, 0, 0, 1]);
    golden.extend_from_slice(&2_u64.to_le_bytes());
    golden.extend_from_slice(&[128, 0, 0, 0, 128, 0, 0, 0]);
    golden.extend_from_slice(&array_crc);
    let geometry = disk.geometry;
    let block = disk.block(1);
    assert_eq!(block[..92], golden);
    assert_eq!(Header::parse(block, Copy::Primary, Lba(1), geometry).unwrap().encode()[..], golden);
}

#[test]
fn every_header_fault_has_its_name() {
    let cases: &[(usize, &[u8], Fault)] = &[
        (0, b"X", Fault::Signature),
        (8, &[1], Fault::Revision { found: 0x0001_0001 }),
        (12, &[91], Fault::HeaderSize { found: 91 }),
        (12, &[1, 2], Fault::HeaderSize { found: 513 }),
        (20, &[1], Fault::Reserved),
        (24, &[2], Fault::Misplaced { found: 2, at: 1 }),
        (32, &[1], Fault::Alternate { found: 1 }),
        (32, &[160], Fault::Alternate { found: 160 }),
        (32, &[0xff; 8], Fault::Alternate { found: u64::MAX }),
        (40, &[127], Fault::Usable { first: 127, last: 126 }),
        (40, &[1], Fault::Usable { first: 1, last: 126 }),
        (40, &[33], Fault::Usable { first: 33, last: 126 }),
        (48, &[127], Fault::Usable { first: 34, last: 127 }),
        (48, &[0xff; 8], Fault::Usable { first: 34, last: u64::MAX }),
        (56, &[0; 16], Fault::DiskGuid),
        (72, &[1], Fault::ArrayAddress { found: 1 }),
        (72, &[3], Fault::ArrayAddress { found: 3 }),
        (72, &[0xff; 8], Fault::ArrayAddress { found: u64::MAX }),
        (80, &[0], Fault::EntryCount { found: 0 }),
        (80, &[129], Fault::EntryCount { found: 129 }),
        (80, &[0xff; 4], Fault::EntryCount { found: u32::MAX }),
        (84, &[0, 1], Fault::EntrySize { found: 256 }),
        (88, &[0], Fault::ArrayChecksum),
    ];
    let good = Disk::with(BlockSize::B512, &table(BlockSize::B512));
    for (at, bytes, fault) in cases {
        let mut disk = good.clone();
        header(&mut disk, *at, bytes);
        assert_eq!(primary_fault(&disk), *fault, "{bytes:?} at {at}");
    }
    let mut disk = good;
    disk.block(1)[60] ^= 1;
    assert_eq!(primary_fault(&disk), Fault::HeaderChecksum);
}

#[test]
fn every_entry_fault_has_its_name() {
    let twice = partition(0, Role::Esp.type_guid(), 34, 1).unique_guid.to_bytes();
    let cases: &[(usize, &[u8], EntryFault)] = &[
        (16, &[0; 16], EntryFault::NoIdentity),
        (16, &twice, EntryFault::SameIdentity { other: 0 }),
        (32, &[40], EntryFault::Backwards { first: 40, last: 39 }),
        (32, &[36], EntryFault::Overlap { other: 0 }),
        (32, &[33], EntryFault::OutOfRange { first: 33, last: 39 }),
        (40, &[127], EntryFault::OutOfRange { first: 37, last: 127 }),
        (40, &[0xff; 8], EntryFault::OutOfRange { first: 37, last: u64::MAX }),
    ];
    for (at, bytes, fault) in cases {
        let mut disk = Disk::with(BlockSize::B512, &table(BlockSize::B512));
        entry(&mut disk, 1, *at, bytes);
        assert_eq!(primary_fault(&disk), Fault::Entry { index: 1, fault: *fault }, "{bytes:?} at {at}");
    }
}

/// A partition may end right before another, and not one block later.
#[test]
fn neighbours_may_touch() {
    let mut disk = Disk::with(BlockSize::B512, &table(BlockSize::B512));
    entry(&mut disk, 0, 40, &[36]);
    assert_eq!(disk.read().unwrap().state, State::Good);
    entry(&mut disk, 0, 40, &[37]);
    let fault = EntryFault::Overlap { other: 0 };
    assert_eq!(primary_fault(&disk), Fault::Entry { index: 1, fault });
}

#[test]
fn a_table_cannot_be_built_wrong() {
    let table = table(BlockSize::B512);
    let esp = Role::Esp.type_guid();
    let add = |partition| table.clone().add(partition);
    assert_eq!(add(partition(6, esp, 100, 1)), Err(EntryFault::OutOfOrder { other: 6 }));
    assert_eq!(add(partition(3, esp, 100, 1)), Err(EntryFault::OutOfOrder { other: 6 }));
    assert_eq!(add(partition(128, esp, 100, 1)), Err(EntryFault::NoRoom { entries: 128 }));
    assert_eq!(add(partition(7, Guid::ZERO, 100, 1)), Err(EntryFault::NoIdentity));
    let nobody = Partition { unique_guid: Guid::ZERO, ..partition(7, esp, 100, 1) };
    assert_eq!(add(nobody), Err(EntryFault::NoIdentity));
    assert_eq!(add(partition(7, esp, 126, 1)), Ok(()));
    assert_eq!(add(partition(7, esp, 126, 2)), Err(EntryFault::OutOfRange { first: 126, last: 127 }));
}

#[test]
fn a_disk_too_small_or_unreadable_has_no_table() {
    for blocks in 0..6 {
        let disk = Geometry { block_size: BlockSize::B512, blocks };
        let reading = Reading::new(disk);
        assert_eq!(reading.wants(), None);
        assert_eq!(reading.finish().unwrap_err().primary, Fault::DiskTooSmall { blocks });
    }
    let mut reading = Reading::new(Geometry { block_size: BlockSize::B512, blocks: BLOCKS });
    while reading.wants().is_some() {
        reading.supply(None);
    }
    let none = reading.finish().unwrap_err();
    assert_eq!((none.primary, none.backup), (Fault::Unreadable, Fault::Unreadable));
}

/// The usable range is checked against what a repair will write, not only against what is there.
#[test]
fn a_repair_never_reaches_into_a_partition() {
    for block_size in SIZES {
        let table = table(block_size);
        let array = block_size.blocks_for(128 * 128);
        let mut disk = Disk::with(block_size, &table);
        let last = BLOCKS - 1 - array;
        header(&mut disk, 48, &last.to_le_bytes());
        disk.block(BLOCKS - 1).fill(0);
        let none = disk.read().unwrap_err();
        assert_eq!(none.primary, Fault::Usable { first: table.usable.first().0, last });
    }
}
