//! X13, X07: a holder that was away for longer than the log reaches back gets the blocks that changed, and
//! leads with all of it.

use super::site_tests::Known;
use super::testing::{Site, ask, create, delete, read};
use super::view::{FillView, State};
use crate::nbd::export::{Request, Span};
use bulkhead_core::id::NodeId;
use bulkhead_core::log::batch::Volume;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const MEBI: u64 = 1 << 20;
const GIBI: u64 = 1 << 30;
const SOON: Duration = Duration::from_secs(30);

/// As a guest does: again, if the node lost the group for a moment. A test has no processor of its own.
fn insist(site: &Site, node: u16, volume: Volume, request: impl Fn() -> Request) {
    let begin = Instant::now();
    while ask(&site.handle(node), volume, request()).recv_timeout(SOON).unwrap().is_err() {
        assert!(begin.elapsed() < SOON, "{:#?}", site.handle(node).view());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Blocks of one byte.
fn put(site: &Site, node: u16, volume: Volume, first: u64, blocks: usize, byte: u8) {
    let data = vec![byte; blocks * 4096];
    let request = || Request::Write { offset: first * 4096, data: data.clone(), durable: true };
    insist(site, node, volume, request);
}

fn trim(site: &Site, node: u16, volume: Volume, first: u64, blocks: u32) {
    let span = Span { offset: first * 4096, length: blocks * 4096 };
    insist(site, node, volume, || Request::Trim { span, durable: true });
}

/// The content of a volume's file.
fn stored(site: &Site, node: u16, volume: Volume) -> Vec<u8> {
    let path = format!("{node}/volumes/volume-{}", volume.0);
    std::fs::read(site.directory.path().join(path)).unwrap()
}

/// One block in a thousand changed, and the log does not know of it any more. Little more than those blocks
/// moves: at most their bytes, a digest for each region that is not a hole, and one for each block of a
/// region that changed.
#[test]
fn what_moves_is_in_proportion_to_what_changed() {
    const BLOCKS: u64 = 16_384;
    const CHANGED: u64 = 16;
    let mut site = Site::new(5 * MEBI);
    let (leads, other, volume) = site.pair(64 * GIBI / 4096);
    // 64 MiB of content, in two places of a large and otherwise empty volume.
    let far = 48 * GIBI / 4096;
    for at in (0..BLOCKS / 2).step_by(128) {
        put(&site, leads, volume, at, 128, 7);
        put(&site, leads, volume, far + at, 128, 8);
    }
    assert_eq!(site.await_synced(), leads);
    // What is in its log, and not in its store, moves too. A view is a moment old.
    std::thread::sleep(Duration::from_millis(500));
    let all = site.handle(leads).view().log.newest;
    while site.handle(other).view().log.applied < all {
        std::thread::sleep(Duration::from_millis(10));
    }
    site.kill(other);
    let places: Vec<_> = (0..CHANGED).map(|one| far * (one % 2) + one * 509).collect();
    for round in 0..100 {
        places.iter().for_each(|at| put(&site, leads, volume, *at, 1, 100 + round));
    }
    trim(&site, leads, volume, 4096, 64);
    let before = site.wires.bytes.load(Ordering::SeqCst);
    site.start(other);
    assert_eq!(site.await_synced(), leads);
    let moved = site.wires.bytes.load(Ordering::SeqCst) - before;
    // A digest of 16 bytes for each region of 32 blocks, of both places and of the list of volumes; for each
    // place that changed the digests of 32 blocks; heads, words, and a frame for each hole.
    let digests = (BLOCKS / 32 + 3 * 64) * 16;
    let bound = CHANGED * (4096 + 32 * 16) + digests + 3 * 32 * 16 + 16 * 1024;
    println!("{moved} bytes moved for {} bytes that changed; {bound} at most", CHANGED * 4096);
    assert!(CHANGED * 4096 <= moved && moved <= bound, "{moved} bytes moved, of {bound} at most");
    site.kill(leads);
    assert_eq!(site.await_leader(|_| true), other);
    for at in (0..BLOCKS / 2).step_by(64) {
        for (start, byte) in [(0, 7), (far, 8)] {
            let bytes = read(&site.handle(other), volume, start + at, 64).unwrap();
            for (block, content) in (start + at..).zip(bytes.chunks(4096)) {
                let expected = match (places.contains(&block), (4096..4160).contains(&block)) {
                    (true, _) => 199,
                    (false, true) => 0,
                    (false, false) => byte,
                };
                assert!(content.iter().all(|one| *one == expected), "block {block}, not all {expected}");
            }
        }
    }
}

/// Guests write, and volumes are made and deleted, while a store is filled.
#[test]
fn guests_go_on_while_a_store_is_filled() {
    let mut site = Site::new(5 * MEBI);
    let mut known = Known::by_chance(21);
    let (leads, other, volume) = site.pair(65_536);
    let doomed = create(&site.handle(leads), "doomed", 4096);
    put(&site, leads, doomed, 0, 256, 3);
    let gone = create(&site.handle(leads), "gone", 4096);
    put(&site, leads, gone, 0, 256, 3);
    known.write(&site, leads, volume, 200, 8192, 32);
    assert_eq!(site.await_synced(), leads);
    for round in 0..3 {
        site.kill(other);
        if round == 0 {
            delete(&site.handle(leads), gone);
        }
        known.write(&site, leads, volume, 400, 8192, 32);
        site.start(other);
        let new = create(&site.handle(leads), &format!("new-{round}"), 4096);
        put(&site, leads, new, 9, 1, 50 + round);
        let mut seen = FillView::default();
        for _ in 0..20 {
            known.write(&site, leads, volume, 16, 8192, 4);
            let view = site.handle(leads).view();
            let fill = view.holders.iter().find_map(|one| one.fill.clone());
            seen = fill.unwrap_or(seen);
            if round == 1 && view.volumes.iter().any(|one| one.name == "doomed") {
                delete(&site.handle(leads), doomed);
            }
        }
        let now = site.await_leader(|view| {
            seen = view.holders.iter().find_map(|one| one.fill.clone()).unwrap_or(seen.clone());
            view.state == State::Synced
        });
        assert_eq!(now, leads);
        assert!(seen.compared_bytes <= seen.bytes, "{seen:?}");
        put(&site, leads, new, 10, 1, 60 + round);
    }
    site.kill(leads);
    assert_eq!(site.await_leader(|_| true), other);
    known.check(&site, other, volume, 8192);
    let catalogue = site.handle(other).catalogue();
    for round in 0..3 {
        let new = catalogue.by_name(&format!("new-{round}")).unwrap().volume;
        let bytes = read(&site.handle(other), new, 8, 4).unwrap();
        let said: Vec<_> = bytes.chunks(4096).map(|block| block[0]).collect();
        assert_eq!(said, [0, 50 + round, 60 + round, 0]);
    }
    for deleted in [doomed, gone] {
        assert!(catalogue.get(deleted).is_none());
        let path = format!("{other}/volumes/volume-{}", deleted.0);
        assert!(!site.directory.path().join(path).exists(), "{deleted:?} is left");
    }
}

/// A fill breaks off, and the filled holder starts again: it does not lead with what it has, and is filled
/// anew.
#[test]
fn a_fill_that_breaks_off_is_begun_again() {
    let mut site = Site::new(5 * MEBI);
    let (leads, other, volume) = site.pair(65_536);
    for at in (0..16_384).step_by(128) {
        put(&site, leads, volume, at, 128, 1);
    }
    assert_eq!(site.await_synced(), leads);
    site.kill(other);
    for at in (0..16_384).step_by(128) {
        put(&site, leads, volume, at, 128, 2);
    }
    let (one, two) = (NodeId(1), NodeId(2));
    site.start(other);
    // Its store takes a little, and is looked at while it takes nothing.
    let handle = site.handle(other);
    loop {
        let gate = handle.0.store.gate.lock().unwrap();
        let says = |wanted| stored(&site, other, volume).chunks(4096).any(|block| block[0] == wanted);
        if says(1) && says(2) {
            // What is on its way is not enough for the rest.
            site.wires.link(one, two, false);
            drop(gate);
            break;
        }
        assert!(!says(2), "no fill was seen in the middle");
        drop(gate);
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(handle);
    site.kill(other);
    // The one that was filled is alone now: it waits for the one that has everything.
    site.kill(leads);
    site.start(other);
    std::thread::sleep(Duration::from_secs(2));
    let view = site.handle(other).view();
    assert!(!view.leads && view.waits.is_some() && view.part_filled, "{view:?}");
    site.start(leads);
    assert_eq!(site.await_synced(), leads);
    assert!([leads, other].iter().all(|node| !site.handle(*node).0.store.is_part_filled()));
    site.kill(leads);
    assert_eq!(site.await_leader(|_| true), other);
    let bytes = read(&site.handle(other), volume, 0, 16_384).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 2));
}
