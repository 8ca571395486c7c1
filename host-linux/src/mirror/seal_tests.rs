//! S3-06: a volume that still has its seal holds what it held when it got it, on whichever holder leads; the
//! first write takes it away, whatever else is asked for at that moment, and whatever fails then.

use super::testing::{Site, ask, create, order, read};
use super::words::Order;
use crate::nbd::export::{Content, Failed, Request, Span};
use bulkhead_core::log::batch::Volume;
use bulkhead_core::volume::record::Seal;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const MEBI: u64 = 1 << 20;
const LONG: Duration = Duration::from_secs(30);

fn seal(byte: u8) -> Seal {
    Seal::new([byte; 16]).unwrap()
}

/// The seal that a node knows of a volume.
fn sealed(site: &Site, node: u16, volume: Volume) -> Option<Seal> {
    let of = |catalogue: crate::volume::catalogue::Catalogue| catalogue.get(volume)?.seal;
    of(site.handle(node).catalogue())
}

fn write(site: &Site, node: u16, volume: Volume, byte: u8) -> Receiver<Result<Content, Failed>> {
    let request = Request::Write { offset: 0, data: vec![byte; 4096], durable: false };
    ask(&site.handle(node), volume, request)
}

#[test]
fn the_first_write_takes_the_seal_away() {
    let mut site = Site::new(8 * MEBI);
    let (leads, _, volume) = site.pair(256);
    let handle = site.handle(leads);
    let other = create(&handle, "other", 256);
    let span = Span { offset: 0, length: 4096 };
    let changes = [
        Request::Write { offset: 4096, data: vec![7; 4096], durable: true },
        Request::WriteZeroes { span, durable: false, allocated: false, fast: false },
        Request::Trim { span, durable: false },
    ];
    for (byte, change) in (1..).zip(changes) {
        order(&handle, Order::Seal { volume, seal: seal(byte) }).unwrap();
        order(&handle, Order::Seal { volume: other, seal: seal(byte + 100) }).unwrap();
        // What changes nothing of it leaves it.
        read(&handle, volume, 0, 8).unwrap();
        ask(&handle, volume, Request::Flush).recv_timeout(LONG).unwrap().unwrap();
        order(&handle, Order::Resize { volume, blocks: 256 + u64::from(byte) }).unwrap();
        assert_eq!(sealed(&site, leads, volume), Some(seal(byte)));
        ask(&handle, volume, change).recv_timeout(LONG).unwrap().unwrap();
        assert_eq!(sealed(&site, leads, volume), None);
        assert_eq!(sealed(&site, leads, other), Some(seal(byte + 100)), "nobody has written there");
    }
}

/// What is in the log and not safe yet counts: a seal is not missed, and not given again by another order.
#[test]
fn a_write_behind_a_seal_breaks_it_whatever_is_under_way() {
    let mut site = Site::new(8 * MEBI);
    let (leads, _, volume) = site.pair(256);
    let handle = site.handle(leads);
    for round in 1..30 {
        let (tell, told) = channel();
        let orders = [
            Order::Seal { volume, seal: seal(round) },
            Order::Resize { volume, blocks: 256 + u64::from(round) },
            Order::CacheOf { volume, is_cached: round % 2 == 0 },
        ];
        for one in orders {
            let tell = tell.clone();
            handle.order(one, move |done| tell.send(done.map(drop)).unwrap());
        }
        // Somewhere between them, and one behind all.
        let between = write(&site, leads, volume, round);
        (0..3).for_each(|_| told.recv_timeout(LONG).unwrap().unwrap());
        between.recv_timeout(LONG).unwrap().unwrap();
        // One that finds the seal, and an order at its heels that must not give it back.
        order(&handle, Order::Seal { volume, seal: seal(round) }).unwrap();
        let behind = write(&site, leads, volume, round);
        order(&handle, Order::WantOf { volume, policy: None }).unwrap();
        behind.recv_timeout(LONG).unwrap().unwrap();
        assert_eq!(sealed(&site, leads, volume), None, "round {round}");
    }
}

/// Whoever leads next finds the seal, or finds it broken as soon as anything of a write is there.
#[test]
fn a_seal_says_the_same_on_whoever_leads_next() {
    let mut site = Site::new(8 * MEBI);
    let (mut leads, mut other, volume) = site.pair(256);
    let mut holds = 0;
    for round in 1..7_u8 {
        order(&site.handle(leads), Order::Seal { volume, seal: seal(round) }).unwrap();
        if round % 2 == 0 {
            site.kill(leads);
            assert_eq!(site.await_leader(|_| true), other);
            assert_eq!(read(&site.handle(other), volume, 0, 1).unwrap()[0], holds);
            assert_eq!(sealed(&site, other, volume), Some(seal(round)), "nobody has written");
            write(&site, other, volume, round).recv_timeout(LONG).unwrap().unwrap();
            holds = round;
            assert_eq!(sealed(&site, other, volume), None);
        } else {
            // It dies in the middle of it.
            let answer = write(&site, leads, volume, round);
            if round % 4 == 1 {
                answer.recv_timeout(LONG).unwrap().unwrap();
            }
            site.kill(leads);
            assert_eq!(site.await_leader(|_| true), other);
            let found = read(&site.handle(other), volume, 0, 1).unwrap()[0];
            assert!(found == holds || found == round, "{found}");
            let expected = (found == holds).then_some(seal(round));
            // Taken away without what was to follow is no lie.
            let is = sealed(&site, other, volume);
            assert!(is == expected || is.is_none(), "round {round}: {is:?}, not {expected:?}");
            holds = found;
        }
        site.start(leads);
        (leads, other) = (other, leads);
        assert_eq!(site.await_synced(), leads);
    }
}
