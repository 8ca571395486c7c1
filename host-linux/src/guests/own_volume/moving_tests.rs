//! What is noted of a move in an own volume is there after any cut, or what was there before; it keeps a
//! guest from being begun that may run elsewhere.

use super::super::super::home::Homes;
use super::super::keeping::{self, Before};
use super::super::testing::{Blocks, Disk};
use super::*;
use crate::failure::Exit;
use crate::vmm::description::Description;

const WEB: &str = "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"kernel\"\n";

fn described(more: &str) -> Description {
    Description::parse(&format!("{WEB}{more}"), Path::new("")).unwrap()
}

fn take(disk: &Disk, more: &str, lengths: (u64, Option<u64>), bytes: &[u8]) -> Result<(), Failure> {
    let contents = Contents::open_new(disk).unwrap();
    let mut from = bytes;
    let moving = Moving { at: 7, ..Moving::now(Way::From, "a1") };
    keeping::take(contents, &described(more), lengths, &mut from, &moving).map(drop)
}

/// S0-11: what comes is the guest, and says from where it came; what breaks off, or is not what it says,
/// leaves what was there.
#[test]
fn a_guest_comes_into_a_volume() {
    let disk = Disk::new(1000, Blocks::new());
    let both = [&[1; 5000][..], &[2; 70]].concat();
    take(&disk, "initrd = \"initrd\"\n", (5000, Some(70)), &both).unwrap();
    let contents = Contents::open(&disk).unwrap();
    assert_eq!(
        Moving::load("web1", &contents).unwrap(),
        Some(Moving { at: 7, ..Moving::now(Way::From, "a1") })
    );
    let directory = tempfile::tempdir().unwrap();
    let homes = Homes::at(directory.path());
    let home = keeping::bring(&contents, &homes, "web1", Before::Copy, &|_| ()).unwrap();
    assert_eq!(std::fs::read(home.kernel()).unwrap(), vec![1; 5000]);
    assert_eq!(std::fs::read(home.initrd()).unwrap(), vec![2; 70]);

    for (more, lengths, bytes) in [
        ("", (5000, None), &both[..4999]),
        ("initrd = \"initrd\"\n", (5000, Some(71)), &both[..]),
        ("initrd = \"initrd\"\n", (5000, None), &both[..]),
        ("", (5000, Some(70)), &both[..]),
        ("", (u64::MAX, None), &both[..]),
    ] {
        let why = take(&disk, more, lengths, bytes).unwrap_err();
        assert!(why.what.contains("web1"), "{lengths:?}: {why:?}");
        assert_eq!(Contents::open(&disk).unwrap().table(), contents.table(), "{lengths:?}");
    }
    take(&disk, "", (5000, None), &both).unwrap();
    let contents = Contents::open(&disk).unwrap();
    assert!(contents.table().find(&What::Initrd).is_none(), "nothing of the other attempt");
}

#[test]
fn what_makes_no_sense_is_told() {
    for text in [&b"{}"[..], b"", br#"{"version":2,"way":"to","node":"c1","at":1}"#, b"\xff"] {
        let disk = Disk::new(100, Blocks::new());
        let mut change = Contents::open_new(&disk).unwrap().change();
        change.put(What::Move, 1, text.len() as u64, &mut &text[..]).unwrap();
        let contents = change.commit().unwrap();
        let why = Moving::load("web1", &contents).unwrap_err();
        assert!(why.what.contains("where guest web1 moves cannot be read"), "{why:?}");
    }
}

/// These bytes are in the field. If this test fails, add a version; do not edit them.
#[test]
fn version_1_never_changes() {
    let disk = Disk::new(100, Blocks::new());
    let moving = Moving { at: 7, ..Moving::now(Way::To, "c1") };
    let mut change = Contents::open_new(&disk).unwrap().change();
    moving.put(&mut change).unwrap();
    let contents = change.commit().unwrap();
    let mut text = String::new();
    contents.read(&What::Move).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, r#"{"version":1,"way":"to","node":"c1","at":7}"#);
    assert_eq!(Moving::load("web1", &contents).unwrap(), Some(moving));
}

/// I5: who may run elsewhere is not begun; who was given to this node is.
#[test]
fn a_guest_that_may_run_elsewhere_is_not_begun() {
    let moving = |way| Moving { at: 7, ..Moving::now(way, "c1") };
    let record = |way, node, at| Record { at, ..Record::now(way, node, true) };
    let (to, from) = (moving(Way::To), moving(Way::From));
    let given = record(Way::From, "c1", 7);
    let others = [record(Way::From, "d1", 7), record(Way::To, "c1", 7), record(Way::From, "c1", 6)];
    assert!(from.may_begin("web1", Some(&given)).is_ok());
    for why in [
        to.may_begin("web1", None),
        to.may_begin("web1", Some(&given)),
        from.may_begin("web1", None),
        from.may_begin("web1", Some(&others[0])),
        from.may_begin("web1", Some(&others[1])),
        from.may_begin("web1", Some(&others[2])),
    ] {
        let why = why.unwrap_err();
        assert_eq!(
            (why.exit, why.what.contains("c1"), why.next.contains("--here")),
            (Exit::Refused, true, true)
        );
    }
}
