//! V5, F2, F5, F14, F15: what was on a device before is never read, whatever is written, trimmed, flushed and
//! cut; and a device has one user.

use super::claimed::Claimed;
use super::device::Device;
use super::loops::{Loop, OLD};
use super::medium::Medium;
use super::written::Written;
use super::{BLOCK, How};
use bulkhead_core::log::batch::Volume;
use bulkhead_core::volume::record::Uuid;
use proptest::prelude::*;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

const VOLUME: Volume = Volume(7);
const UUID: Uuid = Uuid([9; 16]);
/// Some chunks, the last of which is not whole.
const BLOCKS: u64 = 32 * 5 + 9;

fn bytes(blocks: u64) -> usize {
    usize::try_from(blocks * BLOCK).unwrap()
}

fn part(first: u64, blocks: u64) -> Range<usize> {
    usize::try_from(first).unwrap()..usize::try_from(first + blocks).unwrap()
}

/// A file that is taken for a device.
fn device(directory: &Path) -> Device {
    let path = directory.join("device");
    let file = File::options().read(true).write(true).open(&path).unwrap();
    Device::pretended(file, &path, "test")
}

fn opened(directory: &Path) -> Claimed {
    let written = Written::open(&directory.join("map"), VOLUME, UUID).unwrap();
    Claimed::new(Medium::Device(device(directory)), written, BLOCKS)
}

fn new(directory: &Path) -> Claimed {
    std::fs::write(directory.join("device"), vec![OLD; bytes(BLOCKS)]).unwrap();
    Written::create(&directory.join("map"), VOLUME, UUID).unwrap();
    opened(directory)
}

/// The first and the last byte of each block, which are the same.
fn content(claimed: &Claimed) -> Vec<u8> {
    let mut all = vec![1; bytes(BLOCKS)];
    claimed.read(0, &mut all, How::Waiting).unwrap();
    let of = |block: &[u8]| {
        assert!(block.iter().all(|byte| *byte == block[0]), "a block of two times");
        block[0]
    };
    all.chunks(bytes(1)).map(of).collect()
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Write(u64, u64, u8),
    Zero(u64, u64),
    Sync,
    Cut,
}

fn op() -> impl Strategy<Value = Op> {
    let part = || (0..BLOCKS, 1..80_u64).prop_map(|(first, blocks)| (first, blocks.min(BLOCKS - first)));
    prop_oneof![
        4 => (part(), 1..200_u8).prop_map(|((first, blocks), byte)| Op::Write(first, blocks, byte)),
        2 => part().prop_map(|(first, blocks)| Op::Zero(first, blocks)),
        2 => Just(Op::Sync),
        1 => Just(Op::Cut),
    ]
}

proptest! {
    /// Against a model block by block. A cut leaves the map of the last sync, and all that was written to the
    /// device since: whatever was not touched since is as it was, and the rest never shows what was there
    /// before. Then the log is repeated.
    #[test]
    fn nothing_old_is_ever_read(ops in prop::collection::vec(op(), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        let (directory, map) = (directory.path(), directory.path().join("map"));
        let mut claimed = new(directory);
        let mut model = vec![0; usize::try_from(BLOCKS).unwrap()];
        let (mut synced, mut kept, mut since) = (model.clone(), std::fs::read(&map).unwrap(), Vec::new());
        for op in ops {
            match op {
                Op::Write(first, blocks, byte) => {
                    claimed.write(first, &vec![byte; bytes(blocks)]).unwrap();
                    model[part(first, blocks)].fill(byte);
                    since.push(op);
                }
                Op::Zero(first, blocks) => {
                    claimed.zero(first, blocks).unwrap();
                    model[part(first, blocks)].fill(0);
                    since.push(op);
                }
                Op::Sync => {
                    claimed.sync().unwrap();
                    (synced, kept) = (model.clone(), std::fs::read(&map).unwrap());
                    since.clear();
                }
                Op::Cut => {
                    drop(claimed);
                    std::fs::write(&map, &kept).unwrap();
                    claimed = opened(directory);
                    let found = content(&claimed);
                    prop_assert!(!found.contains(&OLD), "{found:?}");
                    let touched = |block: u64| since.iter().any(|op| match op {
                        Op::Write(first, blocks, _) | Op::Zero(first, blocks) => {
                            (*first..first + blocks).contains(&block)
                        }
                        Op::Sync | Op::Cut => false,
                    });
                    for (block, found) in (0..).zip(&found) {
                        let is_as_it_was = *found == synced[usize::try_from(block).unwrap()];
                        prop_assert!(is_as_it_was || touched(block), "block {block} is {found}");
                    }
                    for op in &since {
                        match *op {
                            Op::Write(first, blocks, byte) => {
                                claimed.write(first, &vec![byte; bytes(blocks)]).unwrap();
                            }
                            Op::Zero(first, blocks) => claimed.zero(first, blocks).unwrap(),
                            Op::Sync | Op::Cut => {}
                        }
                    }
                }
            }
            prop_assert_eq!(&content(&claimed), &model);
        }
        // What is called a hole is zero, and there is no end.
        let mut at = 0;
        while at < BLOCKS {
            let (is_data, run) = claimed.run(at, BLOCKS - at);
            prop_assert!(run != 0);
            prop_assert!(is_data || model[part(at, run)].iter().all(|byte| *byte == 0));
            at += run;
        }
    }
}

#[test]
fn what_was_never_written_is_a_hole_and_what_is_void_is_zero() {
    let directory = tempfile::tempdir().unwrap();
    let claimed = new(directory.path());
    assert_eq!(claimed.run(0, BLOCKS), (false, BLOCKS));
    claimed.write(40, &vec![3; bytes(1)]).unwrap();
    assert_eq!(claimed.run(0, BLOCKS), (false, 32));
    assert_eq!(claimed.run(33, BLOCKS - 33), (true, 31));
    claimed.write(BLOCKS - 1, &vec![4; bytes(1)]).unwrap();
    claimed.sync().unwrap();
    claimed.clear().unwrap();
    drop(claimed);
    assert!(content(&opened(directory.path())).iter().all(|byte| *byte == 0));
}

/// F15: what a device has more than before was never made zero.
#[test]
fn what_a_device_has_more_is_zero() {
    let directory = tempfile::tempdir().unwrap();
    let claimed = new(directory.path());
    claimed.write(BLOCKS - 1, &vec![4; bytes(1)]).unwrap();
    claimed.sync().unwrap();
    let file = File::options().write(true).open(directory.path().join("device")).unwrap();
    file.write_all_at(&vec![OLD; bytes(100)], BLOCK * BLOCKS).unwrap();
    claimed.grow(BLOCKS + 100).unwrap();
    let mut found = vec![1; bytes(101)];
    claimed.read(BLOCKS - 1, &mut found, How::Waiting).unwrap();
    assert!(found[..bytes(1)].iter().all(|byte| *byte == 4));
    assert!(found[bytes(1)..].iter().all(|byte| *byte == 0));
}

/// F8: a map that cannot be read is damage, and never an empty one.
#[test]
fn a_map_that_rots_is_mended_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let map = directory.path().join("map");
    let claimed = new(directory.path());
    claimed.write(5, &vec![3; bytes(1)]).unwrap();
    claimed.sync().unwrap();
    drop(claimed);
    let whole = std::fs::read(&map).unwrap();
    for copy in 0..2 {
        let mut rotten = whole.clone();
        rotten[copy * 4096 + 41] ^= 1;
        std::fs::write(&map, &rotten).unwrap();
        assert_eq!(content(&opened(directory.path()))[5], 3);
        let mended = std::fs::read(&map).unwrap();
        assert_eq!(mended[..4096], mended[4096..], "both copies are whole again");
    }
    let mut rotten = whole;
    rotten[100] ^= 1;
    rotten[4096 + 100] ^= 1;
    std::fs::write(&map, &rotten).unwrap();
    let refused = Written::open(&map, VOLUME, UUID).unwrap_err();
    assert!(refused.to_string().contains("page 0"), "{refused}");
    assert!(Written::open(&map, Volume(8), UUID).is_err(), "it is another volume's");
}

/// F5, F12: a device that is full. It is named, and nothing is called the volume's that it did not take.
#[test]
fn a_device_that_does_not_take_a_write_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let full = File::options().read(true).write(true).open("/dev/full").unwrap();
    let device = Device::pretended(full, Path::new("/dev/full"), "test");
    let written = Written::create(&directory.path().join("map"), VOLUME, UUID).unwrap();
    let claimed = Claimed::new(Medium::Device(device), written, BLOCKS);
    let failed = claimed.write(32, &vec![1; bytes(32)]).unwrap_err();
    assert!(failed.to_string().contains("cannot write to /dev/full"), "{failed}");
    assert_eq!(claimed.run(0, BLOCKS), (false, BLOCKS));
}

#[test]
fn a_device_has_one_user_an_identity_and_its_size() {
    let directory = tempfile::tempdir().unwrap();
    let Some(its) = Loop::new(directory.path(), "disk", 1 << 20) else { return };
    let device = Device::open(&its.device, Duration::ZERO).unwrap();
    assert_eq!(device.blocks().unwrap(), 256);
    let identity = format!("loop/backing_file {}", its.file.display());
    assert!(device.identities().contains(&identity), "{:?}", device.identities());
    let refused = Device::open(&its.device, Duration::ZERO).unwrap_err();
    assert!(refused.what.ends_with("is in use") && refused.next.contains("lsblk"), "{refused:?}");
    let mut block = vec![1; bytes(1)];
    device.read(255, &mut block, How::Waiting).unwrap();
    assert!(block.iter().all(|byte| *byte == OLD));
    device.write(254, &vec![7; bytes(2)]).unwrap();
    device.zero(255, 1).unwrap();
    device.sync().unwrap();
    device.read(255, &mut block, How::Waiting).unwrap();
    assert!(block.iter().all(|byte| *byte == 0));
    // It became smaller: what is lost is no zeroes.
    its.resize(1 << 19);
    assert_eq!(device.blocks().unwrap(), 128);
    let lost = device.read(255, &mut block, How::Waiting).unwrap_err();
    assert!(lost.to_string().contains("ends in front of block 255"), "{lost}");
    drop(device);
    assert!(Device::open(&its.file, Duration::ZERO).unwrap_err().what.ends_with("is no block device"));
    assert!(Device::open(&directory.path().join("gone"), Duration::ZERO).is_err());
}
