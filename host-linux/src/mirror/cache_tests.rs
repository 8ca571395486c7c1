//! S4-02; I5, I6, I12: guests of a pair whose nodes keep in memory what is read: nobody reads less than was
//! acknowledged, whatever the appliers, the operator and the nodes do meanwhile.

use super::site_tests::await_applied;
use super::testing::{Site, ask, create, order, read};
use super::view::{Algorithm, State, View};
use super::words::Order;
use crate::nbd::export::{Errno, Request, Span};
use bulkhead_core::cache::residents;
use bulkhead_core::log::batch::Volume;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const MEBI: u64 = 1 << 20;
const LONG: Duration = Duration::from_secs(30);

fn write(site: &Site, node: u16, volume: Volume, block: u64, number: u64) -> bool {
    let mut data = vec![0; 4096];
    data[..8].copy_from_slice(&number.to_le_bytes());
    let write = Request::Write { offset: block * 4096, data, durable: true };
    ask(&site.handle(node), volume, write).recv_timeout(LONG).unwrap().is_ok()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

/// More blocks than there is room for are written and read at once, by way of the log, the applier and the
/// store.
#[test]
fn guests_read_what_was_acknowledged_whatever_stays_in_memory() {
    const BLOCKS: u64 = 24;
    let mut site = Site::new(8 * MEBI);
    let (leads, _, volume) = site.pair(256);
    let newest: Vec<_> = (0..BLOCKS).map(|_| AtomicU64::new(0)).collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (handle, newest, is_over) = (site.handle(leads), &newest, &is_over);
            scope.spawn(move || {
                for round in reader.. {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let block = round * 5 % BLOCKS;
                    let known = newest[usize::try_from(block).unwrap()].load(Ordering::SeqCst);
                    let found = number(&read(&handle, volume, block, 1).unwrap());
                    assert!(known <= found, "block {block}: {found} after {known}");
                }
            });
        }
        let words = [Some(residents::Algorithm::Lru), None, Some(residents::Algorithm::Clock)];
        for round in 1..=600 {
            let block = round * 7 % BLOCKS;
            assert!(write(&site, leads, volume, block, round));
            newest[usize::try_from(block).unwrap()].store(round, Ordering::SeqCst);
            if round % 100 == 0 {
                let word = words[usize::try_from(round / 100).unwrap() % words.len()];
                order(&site.handle(leads), Order::Cache(word)).unwrap();
                await_applied(&site.handle(leads));
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
    order(&site.handle(leads), Order::Cache(Some(residents::Algorithm::Arc))).unwrap();
    await_applied(&site.handle(leads));
    let before = site.handle(leads).view().cache;
    for block in [0, 1, 2, 0, 1, 2] {
        let expected = newest[usize::try_from(block).unwrap()].load(Ordering::SeqCst);
        assert_eq!(number(&read(&site.handle(leads), volume, block, 1).unwrap()), expected);
    }
    let after = site.handle(leads).view();
    assert!(before.hits + 3 <= after.cache.hits && after.cache.used_bytes != 0, "{:?}", after.cache);
    assert_eq!((after.cache.bytes, after.cache.algorithm), (16 << 12, Algorithm::Arc));
    assert!(after.reads.p50_us.is_some() && after.reads.p50_us <= after.reads.p99_us);
}

/// What the old primary has in memory is older than what another one wrote: it reads it no more, and neither
/// when it leads again.
#[test]
fn who_leads_again_reads_what_another_one_wrote() {
    let mut site = Site::new(8 * MEBI);
    let (leads, follows, volume) = site.pair(256);
    for block in 0..8 {
        assert!(write(&site, leads, volume, block, 1));
    }
    await_applied(&site.handle(leads));
    let all = |node| -> Result<Vec<u64>, Errno> {
        Ok(read(&site.handle(node), volume, 0, 8)?.chunks(4096).map(number).collect())
    };
    assert_eq!((all(leads), all(leads)), (Ok(vec![1; 8]), Ok(vec![1; 8])));
    assert!(0 < site.handle(leads).view().cache.hits);

    site.give_up(leads);
    assert_eq!(site.await_leader(|view| view.state == State::Synced), follows, "the other one leads");
    assert!(all(leads).is_err(), "only who leads answers");
    for block in 0..8 {
        assert!(write(&site, follows, volume, block, 2));
    }
    await_applied(&site.handle(follows));
    await_applied(&site.handle(leads));
    site.give_up(follows);
    assert_eq!(site.await_leader(|view| view.state == State::Synced), leads);
    assert_eq!((all(leads), all(leads)), (Ok(vec![2; 8]), Ok(vec![2; 8])));
}

/// A volume that goes past the cache does so, and what is wanted outlives who was asked.
#[test]
fn what_is_wanted_of_the_cache_is_kept() {
    let mut site = Site::new(8 * MEBI);
    let (leads, follows, volume) = site.pair(256);
    let other = create(&site.handle(leads), "vm2", 256);
    order(&site.handle(leads), Order::Cache(Some(residents::Algorithm::Clock))).unwrap();
    order(&site.handle(leads), Order::CacheOf { volume: other, is_cached: false }).unwrap();
    let wanted = |view: &View| {
        let cached: Vec<_> = view.volumes.iter().map(|volume| volume.cached).collect();
        (view.cache.algorithm, cached)
    };
    let expected = (Algorithm::Clock, vec![true, false]);
    site.kill(leads);
    assert_eq!(site.await_leader(|view| wanted(view) == expected), follows);
    let handle = site.handle(follows);
    for volume in [volume, other] {
        for _ in 0..2 {
            read(&handle, volume, 0, 4).unwrap();
        }
    }
    let cache = handle.view().cache;
    assert_eq!((cache.hits, cache.misses, cache.used_bytes), (4, 4, 4 * 4096));

    // Switched off, nothing stays; on again, it begins anew.
    order(&handle, Order::Cache(None)).unwrap();
    assert_eq!(handle.view().cache.used_bytes, 0);
    let span = Span { offset: 0, length: 4096 };
    assert!(ask(&handle, volume, Request::Read { span }).recv_timeout(LONG).unwrap().is_ok());
    assert_eq!((handle.view().cache.used_bytes, handle.view().cache.algorithm), (0, Algorithm::Off));
    order(&handle, Order::CacheOf { volume: other, is_cached: true }).unwrap();
    order(&handle, Order::Cache(Some(residents::Algorithm::Arc))).unwrap();
    read(&handle, other, 0, 4).unwrap();
    assert_eq!(handle.view().cache.used_bytes, 4 * 4096);
}
