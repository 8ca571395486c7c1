//! S3-06: a snapshot in a guest's own volume that somebody does not want any more while it is taken. On this
//! machine's own KVM; where it has none, the test says so and passes.

use super::super::testing::{Blocks, Deed, Disk};
use super::*;
use crate::vmm::description::Description;
use crate::vmm::machine::Origin;
use crate::vmm::said::runs_guests;
use crate::vmm::testing::elf;
use std::cell::Cell;
use std::io::Error;

/// How many bytes were written to it.
fn written_to(disk: &Disk) -> usize {
    let length = |deed: &Deed| if let Deed::Write(_, bytes) = deed { bytes.len() } else { 0 };
    disk.deeds.borrow().iter().map(length).sum()
}

/// What is in the snapshot; `None`: there is none.
fn held(disk: &Disk, last: &Name) -> Option<Vec<u8>> {
    let (contents, mut bytes) = (Contents::open(disk).ok()?, Vec::new());
    contents.read(&What::Snapshot(last.clone()))?.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

#[test]
fn a_snapshot_that_is_cancelled_leaves_the_one_of_before() {
    if !runs_guests() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // It jumps to itself, for ever.
    std::fs::write(directory.path().join("kernel"), elf(&[0xeb, 0xfe], true)).unwrap();
    let text = "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"4M\"\nkernel = \"kernel\"\n";
    let described = Description::parse(text, directory.path()).unwrap();
    let origin = Origin::find(described, Console::default(), None).unwrap();
    let machine = Machine::start(origin, &[], |_| ()).unwrap();
    let (disk, last) = (Disk::new(4096, Blocks::new()), Name::new(LAST).unwrap());
    // What was written when it was asked last.
    let there = Cell::new(0);
    // Who watches says no at this call. How often it was asked, and what came of that.
    let take = |contents: Contents<&Disk>, no_at: u64| {
        let (still, plan) = (machine.stand_still().unwrap(), Plan::all(&machine).unwrap());
        let mut calls = 0;
        let mut watch = |_| {
            calls += 1;
            there.set(written_to(&disk));
            if calls == no_at { Err(Error::other("it was cancelled")) } else { Ok(()) }
        };
        let written = write(&still, &plan, &[], contents, &last, &mut watch).map(|digest| digest.is_some());
        (calls, written)
    };
    let (calls, written) = take(Contents::open_new(&disk).unwrap(), 0);
    assert_eq!(written, Ok(true));
    let first = held(&disk, &last).unwrap();
    assert!(first.len() <= there.get(), "it is asked when all is written, too");
    // At its beginning, and when all of it is written and it is not named yet.
    for no_at in [1, calls] {
        let (asked, written) = take(Contents::open(&disk).unwrap(), no_at);
        assert_eq!(asked, no_at);
        assert!(written.unwrap_err().what.ends_with("it was cancelled"));
        assert_eq!(held(&disk, &last).unwrap(), first);
    }
    assert_eq!(take(Contents::open(&disk).unwrap(), 0), (calls, Ok(true)));
    assert_ne!(held(&disk, &last).unwrap(), first, "it is another one");
}
