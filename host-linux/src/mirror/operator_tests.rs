//! S4-02, S4-12, X11, X14: who is taken out, how much is at risk, and what an operator can do when all who
//! have everything are lost.

use super::testing::{Site, ask, order, read};
use super::view::{State, View};
use super::words::Order;
use crate::nbd::export::{Content, Failed, Request};
use bulkhead_core::id::NodeId;
use bulkhead_core::log::batch::Volume;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::Receiver;
use std::time::Duration;

const MEBI: u64 = 1 << 20;
const LONG: Duration = Duration::from_secs(30);

type Answer = Receiver<Result<Content, Failed>>;

fn begin(site: &Site, node: u16, volume: Volume, block: u64, byte: u8) -> Answer {
    let request = Request::Write { offset: block * 4096, data: vec![byte; 4096], durable: true };
    ask(&site.handle(node), volume, request)
}

fn write(site: &Site, node: u16, volume: Volume, blocks: std::ops::Range<u64>, byte: u8) {
    for block in blocks {
        begin(site, node, volume, block, byte).recv_timeout(LONG).unwrap().unwrap();
    }
}

fn bytes(site: &Site, node: u16, volume: Volume, blocks: u32) -> Vec<u8> {
    read(&site.handle(node), volume, 0, blocks).unwrap().chunks(4096).map(|block| block[0]).collect()
}

/// A view of a node that has it.
fn await_view(site: &Site, node: u16, is: impl Fn(&View) -> bool) -> View {
    for _ in 0..3_000 {
        let view = site.handle(node).view();
        if is(&view) {
            return view;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not as awaited: {:#?}", site.handle(node).view());
}

/// S4-12: guests go on without waiting for it, whoever leads keeps it out, and it has all when it is back.
#[test]
fn who_is_taken_out_stays_out_until_it_is_taken_in() {
    let mut site = Site::new(8 * MEBI);
    let (leads, other, volume) = site.pair(256);
    write(&site, leads, volume, 0..8, 1);
    order(&site.handle(leads), Order::Dismiss(NodeId(other))).unwrap();
    let is_out = |view: &View| {
        let of = view.holders.iter().find(|holder| holder.node == other);
        view.state == State::Degraded && of.is_some_and(|holder| holder.removed && !holder.in_sync)
    };
    assert_eq!(site.await_leader(is_out), leads);
    let out = await_view(&site, other, |view| view.state == State::Stale);
    assert!(out.holders[0].removed, "{out:?}");
    write(&site, leads, volume, 4..12, 2);

    // The stream breaks and is met again, and the one that leads is started anew.
    site.wires.link(NodeId(1), NodeId(2), false);
    site.wires.link(NodeId(1), NodeId(2), true);
    site.kill(leads);
    site.start(leads);
    assert_eq!(site.await_leader(is_out), leads);
    write(&site, leads, volume, 8..16, 3);
    std::thread::sleep(Duration::from_secs(1));
    assert!(is_out(&site.handle(leads).view()), "{:?}", site.handle(leads).view());

    order(&site.handle(leads), Order::Admit(NodeId(other))).unwrap();
    assert_eq!(site.await_synced(), leads);
    site.kill(leads);
    assert_eq!(site.await_leader(|_| true), other);
    let expected = [[1; 4].as_slice(), &[2; 4], &[3; 8]].concat();
    assert_eq!(bytes(&site, other, volume, 16), expected);
}

/// X11: no more is acknowledged in one place only than is let; guests wait, and lose nothing.
#[test]
fn guests_wait_where_more_would_be_at_risk_than_is_let() {
    let mut site = Site::new(8 * MEBI);
    let (leads, _, volume) = site.pair(256);
    write(&site, leads, volume, 0..40, 1);
    let handle = site.handle(leads);
    let bound = |blocks: u64| order(&handle, Order::Bound(NonZeroU64::new(blocks * 4096))).unwrap();
    bound(16);
    assert_eq!(handle.view().at_risk_bytes, Some(0), "all of it is in two places");
    site.kill(3 - leads);
    let mut answers: Vec<_> = (0..40).map(|block| begin(&site, leads, volume, block, 2)).collect();
    let answered = |answers: &mut Vec<Answer>| {
        let before = answers.len();
        answers.retain(|answer| answer.try_recv().map(Result::unwrap).is_err());
        before - answers.len()
    };
    let view = await_view(&site, leads, |view| view.held_writes == 24);
    assert_eq!((view.at_risk_bytes, view.at_risk_max), (Some(16 * 4096), Some(16 * 4096)));
    assert_eq!(answered(&mut answers), 16);
    // What an operator asks for does not wait with them.
    bound(20);
    let view = await_view(&site, leads, |view| view.held_writes == 20);
    assert_eq!((view.at_risk_bytes, answered(&mut answers)), (Some(20 * 4096), 4));

    site.start(3 - leads);
    answers.drain(..).for_each(|answer| drop(answer.recv_timeout(LONG).unwrap().unwrap()));
    assert_eq!(site.await_synced(), leads);
    assert_eq!((handle.view().at_risk_bytes, handle.view().held_writes), (Some(0), 0));
    site.kill(leads);
    site.await_leader(|_| true);
    assert_eq!(bytes(&site, 3 - leads, volume, 40), [2; 40]);
}

/// X11, X14: the only holder that has everything is lost for good, at any time. The other one does not lead
/// by itself; when an operator says so it does, and what is lost is no more than was shown.
#[test]
fn no_more_is_lost_than_was_shown_when_the_only_one_with_all_is_lost() {
    for (round, more) in [(1, 1), (2, 9), (3, 30)] {
        let mut site = Site::new(8 * MEBI);
        let (leads, other, volume) = site.pair(64);
        write(&site, leads, volume, 0..64, 1);
        site.kill(other);
        write(&site, leads, volume, 20..20 + more, 2);
        let shown = site.handle(leads).view().at_risk_bytes.unwrap();
        site.kill(leads);
        site.start(other);
        let stale = await_view(&site, other, |view| view.waits.is_some());
        assert!(stale.state == State::Stale && stale.primary.is_none(), "{stale:?}");
        site.handle(other).recover();
        assert_eq!(site.await_leader(|_| true), other);
        let found = bytes(&site, other, volume, 64);
        let expected = |block: u64| if (20..20 + more).contains(&block) { 2 } else { 1 };
        let lost = (0..64).zip(&found).filter(|(block, byte)| **byte != expected(*block)).count();
        assert_eq!((u64::try_from(lost).unwrap(), shown), (more, more * 4096), "round {round}");
        assert_eq!(site.handle(other).view().at_risk_bytes, Some(64 * 4096), "nobody knows what others lack");
        write(&site, other, volume, 0..10, 3);
    }
}

/// F51: who comes back with more than the one that was recovered does not lose it by itself. An operator
/// gives its log up; then it is filled.
#[test]
fn who_has_more_than_the_recovered_one_keeps_it_until_it_is_given_up() {
    let mut site = Site::new(8 * MEBI);
    let (leads, other, volume) = site.pair(64);
    write(&site, leads, volume, 0..64, 1);
    site.kill(other);
    write(&site, leads, volume, 20..30, 2);
    site.kill(leads);
    site.start(other);
    await_view(&site, other, |view| view.waits.is_some());
    site.handle(other).recover();
    assert_eq!(site.await_leader(|_| true), other);
    write(&site, other, volume, 0..10, 3);

    site.start(leads);
    let says = |view: &View| view.waits.as_ref().is_some_and(|why| why.contains("given up"));
    let view = await_view(&site, leads, says);
    assert_eq!(view.state, State::Stale, "{view:?}");
    assert_eq!(site.await_leader(|_| true), other);
    site.kill(leads);
    let log = site.directory.path().join(format!("{leads}/log"));
    let log = std::fs::OpenOptions::new().write(true).open(log).unwrap();
    log.write_all_at(&[0; 8192], 0).unwrap();
    site.start(leads);
    assert_eq!(site.await_synced(), other);
    site.kill(other);
    assert_eq!(site.await_leader(|_| true), leads);
    let expected = [[3; 10].as_slice(), &[1; 54]].concat();
    assert_eq!(bytes(&site, leads, volume, 64), expected);
}
