//! V5, V14, F4, F7, F10: what is damaged in a store is never read; it is mended with what another holder has.

use super::site_tests::Known;
use super::testing::{Site, read, until};
use super::view::{BlockView, State, View};
use super::words::Order;
use crate::nbd::export::Errno;
use bulkhead_core::log::batch::Volume;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

const MEBI: u64 = 1 << 20;
/// Longer than a log remembers what is in the store.
const FORGETS: Duration = Duration::from_secs(3);
/// A pair with a volume of so many blocks, all of it in both stores; who leads, the volume, and what it has.
fn stored(site: &mut Site, blocks: u64, seed: u64) -> (u16, Volume, Known) {
    let mut known = Known::by_chance(seed);
    let (leads, other, volume) = site.pair(blocks);
    assert_eq!(known.write(site, leads, volume, 300, 2_000, 8), 300);
    for node in [leads, other] {
        until(site, node, |view| 300 < view.log.newest && view.log.applied == view.log.newest);
    }
    (leads, volume, known)
}

/// A byte of every so many blocks rots. Returns how many blocks that were written rotted.
fn rot(site: &Site, node: u16, volume: Volume, known: &Known, every: u64) -> u64 {
    let path = site.directory.path().join(format!("{node}/volumes/volume-{}", volume.0));
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut count = 0;
    for block in known.written().filter(|block| block % every == 0) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, block * 4096 + 77).unwrap();
        file.write_all_at(&[byte[0] ^ 4], block * 4096 + 77).unwrap();
        count += 1;
    }
    assert_ne!(count, 0);
    count
}

/// A guest reads it while both are there: it is what was written, and mended on the way.
#[test]
fn a_guest_reads_what_the_other_holder_has() {
    let mut site = Site::new(16 * MEBI);
    let (leads, volume, mut known) = stored(&mut site, 2_048, 3);
    let count = rot(&site, leads, volume, &known, 5);
    known.check(&site, leads, volume, 2_000);
    let is_mended = |view: &View| view.scrub.mended_blocks == count && view.state == State::Synced;
    assert_eq!(until(&site, leads, is_mended).scrub.damaged_blocks, 0);
    // Nobody else is there any more, and it is all there.
    site.kill(3 - leads);
    known.check(&site, leads, volume, 2_000);
}

/// Nobody reads it. It is found, on either side, and mended with what the other one has.
#[test]
fn what_nobody_reads_is_found() {
    let mut site = Site::new(16 * MEBI);
    let (leads, volume, mut known) = stored(&mut site, 2_048, 4);
    for node in [leads, 3 - leads] {
        let count = rot(&site, node, volume, &known, 7);
        site.handle(node).scrub();
        let is_over = |view: &View| !view.scrub.hurried && view.scrub.mended_blocks == count;
        assert_eq!(until(&site, node, is_over).scrub.damaged_blocks, 0);
    }
    site.kill(leads);
    let other = site.await_leader(|view| view.primary == Some(3 - leads));
    known.check(&site, other, volume, 2_000);
    assert_eq!(site.handle(other).view().scrub.damaged_blocks, 0);
}

/// F15, V5: the list of volumes is gone from a store while its node is down. What the other node has is
/// mended, and known from then on: the node leads with its volumes, and not with none.
#[test]
fn a_list_of_volumes_that_was_lost_is_known_again() {
    let mut site = Site::new(16 * MEBI);
    let (leads, volume, mut known) = stored(&mut site, 2_048, 6);
    let other = 3 - leads;
    // Its log forgets what is in the store, and says nothing of the list at the next start.
    std::thread::sleep(FORGETS);
    site.kill(other);
    let list = site.directory.path().join(format!("{other}/volumes/volume-0"));
    File::options().write(true).open(list).unwrap().set_len(0).unwrap();
    site.start(other);
    until(&site, other, |view| view.state == State::Synced);
    site.handle(other).scrub();
    let is_known = |view: &View| view.volumes.iter().any(|one| one.name == "vm1");
    until(&site, other, |view| !view.scrub.hurried && is_known(view));
    site.kill(leads);
    let next = site.await_leader(|view| view.primary == Some(other));
    known.check(&site, next, volume, 2_000);
}

/// F15, V5, V7: the list is lost on both: whoever leads serves nothing, and makes no volume in the place of
/// one that it does not know any more.
#[test]
fn a_list_of_volumes_that_both_lost_is_not_an_empty_one() {
    let mut site = Site::new(16 * MEBI);
    stored(&mut site, 2_048, 7);
    std::thread::sleep(FORGETS);
    for node in [1, 2] {
        site.kill(node);
    }
    for node in [1, 2] {
        let list = site.directory.path().join(format!("{node}/volumes/volume-0"));
        File::options().write(true).open(list).unwrap().set_len(0).unwrap();
    }
    for node in [1, 2] {
        site.start(node);
    }
    let leads = site.await_leader(|view| view.primary.is_some());
    let view = until(&site, leads, |view| view.scrub.damaged_blocks != 0);
    assert!(view.last_error.unwrap().contains("the list of volumes"));
    let (asked, answer) = std::sync::mpsc::channel();
    let create = Order::Create { name: "new".into(), blocks: 1 };
    site.handle(leads).order(create, move |done| drop(asked.send(done)));
    let made = answer.recv_timeout(Duration::from_secs(2));
    assert!(!matches!(made, Ok(Ok(_))), "{made:?}");
}

/// F14, F15: what is gone as a whole is said, and nothing is taken for never written.
#[test]
fn files_that_are_gone_are_named() {
    type Lose = fn(&std::path::Path);
    let cases: [(Lose, &str); 3] = [
        (|store| std::fs::remove_file(store.join("volume-1")).unwrap(), "volume-1 is gone"),
        (|store| std::fs::remove_file(store.join("volume-0")).unwrap(), "volume-0 is gone"),
        (
            |store| {
                let files = std::fs::read_dir(store).unwrap();
                files.for_each(|file| std::fs::remove_file(file.unwrap().path()).unwrap());
            },
            "is empty, and its log says",
        ),
    ];
    let mut site = Site::new(16 * MEBI);
    let (leads, volume, mut known) = stored(&mut site, 2_048, 8);
    // A log that has all of it still makes an empty store whole.
    std::thread::sleep(FORGETS);
    let other = 3 - leads;
    let store = site.directory.path().join(format!("{other}/volumes"));
    let kept = site.directory.path().join("kept");
    for (lose, what) in cases {
        site.kill(other);
        let copy = |from: &std::path::Path, to: &std::path::Path| {
            let _ = std::fs::remove_dir_all(to);
            std::fs::create_dir(to).unwrap();
            for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        };
        copy(&store, &kept);
        lose(&store);
        site.start(other);
        let view = until(&site, other, |view| view.state == State::Failed);
        let why = view.last_error.unwrap();
        assert!(why.contains(what), "{what}: {why}");
        // As it was, it is of use again.
        site.kill(other);
        copy(&kept, &store);
        site.start(other);
        until(&site, other, |view| view.state == State::Synced);
    }
    known.check(&site, leads, volume, 2_000);
}

/// Both copies of a block are damaged: an error, never anything else, until a guest writes it again. What
/// only one of them has is mended as soon as the other is there.
#[test]
fn what_nobody_has_is_an_error_until_it_is_written_again() {
    let mut site = Site::new(16 * MEBI);
    let (leads, volume, mut known) = stored(&mut site, 2_048, 5);
    let first = known.written().next().unwrap();
    for node in [leads, 3 - leads] {
        let path = site.directory.path().join(format!("{node}/volumes/volume-{}", volume.0));
        File::options().write(true).open(path).unwrap().write_all_at(&[1, 2, 3], first * 4096).unwrap();
    }
    assert_eq!(read(&site.handle(leads), volume, first, 1), Err(Errno::Io));
    let view = until(&site, leads, |view| view.scrub.damaged_blocks == 1);
    assert_eq!(view.scrub.damaged, [BlockView { volume: volume.0, block: first }]);
    assert!(view.line(1, |_| "a1".into()).contains("DAMAGED"));
    known.put(&site, leads, volume, first);
    known.check(&site, leads, volume, 2_000);
    until(&site, leads, |view| view.scrub.damaged_blocks == 0);
    until(&site, 3 - leads, |view| view.dirty_bytes == 0);
    // The other one has it again; this one has not.
    until(&site, leads, |view| view.dirty_bytes == 0);
    rot(&site, leads, volume, &known, 11);
    known.check(&site, leads, volume, 2_000);
}

/// A holder that is alone looks for damage, and what it cannot mend waits for the other one.
#[test]
fn what_one_finds_alone_is_mended_when_the_other_is_back() {
    let mut site = Site::new(16 * MEBI);
    let (leads, volume, mut known) = stored(&mut site, 2_048, 6);
    site.kill(3 - leads);
    known.put(&site, leads, volume, 0);
    site.await_leader(|view| view.state == State::Degraded && view.dirty_bytes == 0);
    let count = rot(&site, leads, volume, &known, 50);
    site.handle(leads).scrub();
    until(&site, leads, |view| !view.scrub.hurried && view.scrub.damaged_blocks == count);
    site.start(3 - leads);
    until(&site, leads, |view| view.scrub.damaged_blocks == 0 && view.scrub.mended_blocks == count);
    known.check(&site, leads, volume, 2_000);
}
