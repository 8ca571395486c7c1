//! What a store reads is what was written there, or nothing (V5, V14; F4, F7).

use super::*;
use crate::storage::buffers::Pool;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const VOLUME: Volume = Volume(7);

fn open(directory: &Path) -> Store {
    Store::open(&directory.join("volumes")).unwrap()
}

/// Writes blocks that are full of these bytes.
fn write(store: &Store, first: u64, bytes: &[u8]) {
    let mut buffer = Pool::new(1 << 20).unwrap().take(bytes.len()).unwrap();
    for (block, byte) in buffer.bytes_mut().chunks_mut(BLOCK_LEN).zip(bytes) {
        block.fill(*byte);
    }
    let blocks = u64::try_from(bytes.len()).unwrap();
    store.write(VOLUME, first, blocks, &Content::Data(buffer.keep().piece())).unwrap();
}

/// The first and the last byte of each block; or which is damaged.
type Blocks = Result<Vec<(u8, u8)>, u64>;

fn read(store: &Store, first: u64, blocks: usize) -> Blocks {
    let mut bytes = vec![1; blocks * BLOCK_LEN];
    let read = store.read(VOLUME, first, &mut bytes, How::Waiting);
    let at_once = store.read(VOLUME, first, &mut vec![0; blocks * BLOCK_LEN], How::AtOnce);
    match read {
        Ok(()) => {
            at_once.unwrap();
            Ok(bytes.chunks(BLOCK_LEN).map(|block| (block[0], block[BLOCK_LEN - 1])).collect())
        }
        Err(error) => {
            assert_eq!(at_once.unwrap_err().kind(), ErrorKind::WouldBlock, "who may wait says what it is");
            Err(Damaged::of(&error).unwrap().block)
        }
    }
}

/// What the disk makes of a file behind everybody's back.
fn change(path: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn what_was_never_written_is_zero_and_what_was_is_there_until_it_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.write(VOLUME, 0, 9, &Content::Zeroes).unwrap();
    assert_eq!(read(&store, 5, 3), Ok(vec![(0, 0); 3]));
    assert!(!store.path(VOLUME).exists());
    write(&store, 6, &[9, 9]);
    store.write(VOLUME, 7, 100, &Content::Zeroes).unwrap();
    store.sync(VOLUME).unwrap();
    let again = open(directory.path());
    assert_eq!(read(&again, 5, 3), Ok(vec![(0, 0), (9, 9), (0, 0)]));
    assert_eq!(again.run(VOLUME, 0, 20).unwrap(), (false, 6));
    assert!(again.run(VOLUME, 6, 20).unwrap().0);
    assert_eq!(again.volumes(), [VOLUME]);
    again.remove(VOLUME).unwrap();
    again.remove(VOLUME).unwrap();
    assert_eq!(again.run(VOLUME, 0, 20).unwrap(), (false, 20));
    assert_eq!(read(&again, 6, 1), Ok(vec![(0, 0)]));
    // Another volume under the same number has other checksums, though power went when the last was removed.
    std::fs::write(again.sums_path(VOLUME), [7; 9000]).unwrap();
    write(&again, 6, &[5]);
    assert_eq!(read(&open(directory.path()), 5, 3), Ok(vec![(0, 0), (5, 5), (0, 0)]));
}

/// What happens to the first five blocks, and what is read of them.
type Case = (&'static str, fn(&Store), Blocks);

/// F4, F7, V5: each way in which a disk has something else there than what was written.
#[test]
fn what_is_not_what_was_written_is_damaged_until_it_is_mended_or_written_again() {
    let block = |number: u64| number * 4096;
    let cases: [Case; 6] = [
        ("nothing", |_| {}, Ok(vec![(1, 1), (2, 2), (3, 3), (0, 0), (0, 0)])),
        ("a bit rots", |store| change(&store.path(VOLUME), 2 * 4096 + 77, &[3 ^ 16]), Err(2)),
        ("a write is lost", |store| change(&store.path(VOLUME), 4096, &[0; 4096]), Err(1)),
        ("a write goes elsewhere", |store| change(&store.path(VOLUME), 3 * 4096, &[3; 4096]), Err(3)),
        ("a checksum rots", |store| change(&store.sums_path(VOLUME), 4096 + 4, &[1, 2, 3, 4]), Err(1)),
        ("a checksum is lost", |store| change(&store.sums_path(VOLUME), 4096 + 4, &[0; 4]), Err(1)),
    ];
    for (what, harm, expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        write(&store, 0, &[1, 2, 3]);
        // The file goes on behind them, as one of another size of block does.
        change(&store.path(VOLUME), block(5), &[0; 1]);
        store.sync(VOLUME).unwrap();
        harm(&store);
        assert_eq!(read(&store, 0, 5), expected, "{what}");
        let Err(damaged) = expected else { continue };
        assert_eq!(read(&open(directory.path()), 0, 5), Err(damaged), "{what}: nor after a start");
        let content = [if damaged == 3 { 0 } else { u8::try_from(damaged).unwrap() + 1 }; BLOCK_LEN];
        store.mend(Damaged { volume: VOLUME, block: damaged }, &content).unwrap();
        assert_eq!(read(&store, 0, 5), Ok(vec![(1, 1), (2, 2), (3, 3), (0, 0), (0, 0)]), "{what}: mended");
        harm(&store);
        write(&store, damaged, &[9]);
        assert_eq!(read(&store, damaged, 1), Ok(vec![(9, 9)]), "{what}: written again");
        store.mend(Damaged { volume: VOLUME, block: damaged }, &content).unwrap();
        assert_eq!(read(&store, damaged, 1), Ok(vec![(9, 9)]), "{what}: what is good is not mended");
    }
}

/// V41: a store that was written before there were checksums is read as it is, and gets them.
#[test]
fn a_store_of_before_gets_its_checksums() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    write(&store, 0, &[1, 2]);
    store.sync(VOLUME).unwrap();
    std::fs::remove_file(store.sums_path(VOLUME)).unwrap();
    let store = open(directory.path());
    change(&store.path(VOLUME), 100, &[8]);
    assert!(!store.is_checked(VOLUME).unwrap());
    assert_eq!(read(&store, 0, 2), Ok(vec![(1, 1), (2, 2)]), "nothing tells what it was");
    write(&store, 1, &[3]);
    change(&store.path(VOLUME), 4096, &[4]);
    assert_eq!(read(&store, 0, 2), Err(1), "what is written from now on is told from damage");
    write(&store, 1, &[3]);
    store.adopt(VOLUME, 0, &mut vec![0; 2 * BLOCK_LEN]).unwrap();
    store.set_checked(VOLUME).unwrap();
    let store = open(directory.path());
    assert!(store.is_checked(VOLUME).unwrap());
    change(&store.path(VOLUME), 100, &[1]);
    assert_eq!(read(&store, 0, 2), Err(0));
}

/// V41, F8: nobody guesses what a file means that is none of these checksums.
#[test]
fn a_file_of_other_checksums_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    write(&store, 0, &[1]);
    change(&store.sums_path(VOLUME), 8, &[9]);
    let error = open(directory.path()).read(VOLUME, 0, &mut [0; BLOCK_LEN], How::Waiting).unwrap_err();
    assert!(error.to_string().contains("delete the file"), "{error}");
}
