//! F12, V16, X14: a store that is full holds guests up when the log is full, too, and loses nothing; with
//! room it goes on by itself.

use super::site_tests::Known;
use super::testing::{Site, ask, until};
use super::view::State;
use crate::nbd::export::Request;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

const MEBI: u64 = 1 << 20;

fn fill(site: &Site, node: u16, is_full: bool) {
    site.handle(node).0.store.is_full.store(is_full, Ordering::SeqCst);
}

/// Both stores are full, as with two disks of one size.
#[test]
fn guests_wait_for_room_and_nothing_is_lost() {
    let mut site = Site::new(8 * MEBI);
    let mut known = Known::by_chance(41);
    let (leads, other, volume) = site.pair(4_096);
    known.write(&site, leads, volume, 50, 4_000, 8);
    for node in [leads, other] {
        fill(&site, node, true);
    }
    let handle = site.handle(leads);
    // More than the logs have room for. All is asked for at once; what has no room waits.
    let data = |byte: u8| vec![byte; 64 * 4096];
    let asked: Vec<_> = (0..60)
        .map(|turn| {
            let request = Request::Write { offset: turn * 64 * 4096, data: data(7), durable: true };
            ask(&handle, volume, request)
        })
        .collect();
    until(&site, leads, |view| view.full.is_some() && view.log.free_bytes < 2 * MEBI);
    let view = handle.view();
    assert!(view.line(1, |_| "a1".into()).contains("STORE OF THIS NODE IS FULL"), "{view:#?}");
    assert_eq!((view.leads, view.last_error), (true, None), "it is a state, and no failure");
    let last = asked.last().unwrap();
    assert_eq!(last.recv_timeout(Duration::from_millis(300)).unwrap_err(), RecvTimeoutError::Timeout);
    for node in [leads, other] {
        fill(&site, node, false);
    }
    for answer in asked {
        answer.recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
    }
    until(&site, leads, |view| view.full.is_none() && view.state == State::Synced);
    let bytes = super::testing::read(&handle, volume, 0, 3_840).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 7));
}

/// The store of the one that follows is full: it is left behind, guests go on, and with room it comes back.
#[test]
fn a_full_store_that_follows_is_left_behind() {
    let mut site = Site::new(8 * MEBI);
    let mut known = Known::by_chance(43);
    let (leads, other, volume) = site.pair(4_096);
    fill(&site, other, true);
    let begin = Instant::now();
    while site.handle(leads).view().state == State::Synced {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:#?}", site.handle(leads).view());
        known.write(&site, leads, volume, 50, 4_000, 8);
    }
    assert_ne!(known.write(&site, leads, volume, 200, 4_000, 8), 0);
    known.check(&site, leads, volume, 4_000);
    fill(&site, other, false);
    assert_eq!(site.await_synced(), leads);
    site.kill(leads);
    assert_eq!(site.await_leader(|view| view.primary == Some(other)), other);
    known.check(&site, other, volume, 4_000);
}
