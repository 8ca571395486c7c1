//! Which copy is used, and repairs cut at every write (V33, V37, I8).

use super::*;
use crate::gpt::format::repair;
use crate::gpt::reading::State;

/// What a cut may leave of a write, by the size of a block.
fn cuts(block_size: BlockSize) -> [Left; 8] {
    let size = size(block_size);
    [
        Left::Nothing,
        Left::FirstBytes(1),
        Left::FirstBytes(17),
        Left::FirstBytes(size / 2),
        Left::FirstBytes(size),
        Left::LastBytes(size),
        Left::LastBytes(usize::MAX),
        Left::Garbage,
    ]
}

fn name(state: State) -> &'static str {
    match state {
        State::Good => "good",
        State::PrimaryBad(_) => "primary bad",
        State::BackupBad(_) => "backup bad",
        State::Differ => "differ",
        State::BackupNotAtEnd { .. } => "backup not at end",
    }
}

/// Every way a readable table can be wanting.
fn wanting(block_size: BlockSize) -> Vec<(&'static str, &'static str, Disk)> {
    let good = Disk::with(block_size, &table(block_size));
    let mut disks = Vec::new();
    let mut add = |what, state, change: &dyn Fn(&mut Disk)| {
        let mut disk = good.clone();
        change(&mut disk);
        disks.push((what, state, disk));
    };
    add("primary header", "primary bad", &|disk| disk.block(1)[30] ^= 0x80);
    add("primary array", "primary bad", &|disk| disk.block(2)[5] ^= 0x80);
    add("backup header", "backup bad", &|disk| disk.block(BLOCKS - 1)[30] ^= 0x80);
    add("backup array", "backup bad", &|disk| {
        let array = disk.geometry.block_size.blocks_for(128 * 128);
        disk.block(BLOCKS - 1 - array)[5] ^= 0x80;
    });
    add("grown by a little", "backup not at end", &|disk| *disk = disk.clone().grown(3));
    add("grown", "backup not at end", &|disk| *disk = disk.clone().grown(100));
    add("grown, backup array", "backup bad", &|disk| {
        *disk = disk.clone().grown(100);
        let array = disk.geometry.block_size.blocks_for(128 * 128);
        disk.block(BLOCKS - 1 - array)[5] ^= 0x80;
    });
    add("grown, primary array", "primary bad", &|disk| {
        *disk = disk.clone().grown(100);
        disk.block(2)[5] ^= 0x80;
    });
    let other = Table { disk_guid: Guid::from_bytes([7; 16]), ..table(block_size) };
    add("two tables", "differ", &|disk| {
        let plan = create(&other, disk.geometry);
        // The backup is the second and third write.
        disk.carry_out(&plan, &other, 3, Left::Nothing);
    });
    disks
}

#[test]
fn a_new_table_reads_back_from_both_copies() {
    for block_size in SIZES {
        let table = table(block_size);
        let mut disk = Disk::with(block_size, &table);
        let found = disk.read().unwrap();
        assert_eq!((&found.table, found.state), (&table, State::Good));
        assert_eq!(repair(&found, disk.geometry), None);
        disk.block(1).fill(0);
        assert_eq!(disk.read().unwrap().table, table);
        assert_eq!(disk.block(0)[446..454], [0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
        assert_eq!(disk.block(0)[454..462], [1, 0, 0, 0, 159, 0, 0, 0]);
        assert_eq!(disk.block(0)[510..512], [0x55, 0xaa]);
    }
}

#[test]
fn a_repair_makes_both_copies_good_whatever_the_cut_leaves() {
    let mut points = 0_u32;
    for block_size in SIZES {
        for (what, state, disk) in wanting(block_size) {
            let found = disk.read().unwrap();
            assert_eq!(name(found.state), state, "{what}");
            let plan = repair(&found, disk.geometry).unwrap();
            let writes = disk.clone().carry_out(&plan, &found.table, usize::MAX, Left::Nothing);
            for write in 0..writes {
                for left in cuts(block_size) {
                    points += 1;
                    let mut cut = disk.clone();
                    cut.carry_out(&plan, &found.table, write, left);
                    let again = cut.read().unwrap_or_else(|none| panic!("{what}, {write}, {left:?}: {none}"));
                    assert_eq!(again.table, found.table, "{what}, {write}, {left:?}");
                    if let Some(plan) = repair(&again, cut.geometry) {
                        cut.carry_out(&plan, &again.table, usize::MAX, Left::Nothing);
                    }
                    assert_eq!(cut.read().unwrap().state, State::Good, "{what}, {write}, {left:?}");
                }
            }
        }
    }
    assert!(points >= 500, "{points}");
}

/// A new table on a disk that has one: at every cut the disk shows the old one or the new one.
#[test]
fn a_new_table_over_an_old_one_is_one_or_the_other() {
    for block_size in SIZES {
        let (old, new) =
            (table(block_size), Table { disk_guid: Guid::from_bytes([9; 16]), ..table(block_size) });
        let disk = Disk::with(block_size, &old);
        let plan = create(&new, disk.geometry);
        for write in 0..5 {
            for left in cuts(block_size) {
                let mut cut = disk.clone();
                cut.carry_out(&plan, &new, write, left);
                let table = cut.read().unwrap().table;
                assert!(table == old || table == new, "{write}, {left:?}");
            }
        }
    }
}

#[test]
fn a_disk_that_has_shrunk_is_refused() {
    let mut disk = Disk::with(BlockSize::B512, &table(BlockSize::B512));
    disk.geometry.blocks -= 1;
    assert!(disk.read().is_err());
}
