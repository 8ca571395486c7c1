//! S0-06, S4-02: what an operator wants of a group and of its volumes is kept, whoever leads, whatever dies.

use super::testing::{Site, ask, create, order};
use super::view::{Policy, State, View};
use super::words::Order;
use crate::nbd::export::Request;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::mirror::membership;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

const MEBI: u64 = 1 << 20;

/// Writes blocks one after the other. Returns how many were in the store of `node` when they were answered.
fn stored_when_answered(site: &Site, node: u16, volume: Volume, blocks: u64, byte: u8) -> u64 {
    let handle = site.handle(node);
    let path = site.directory.path().join(format!("{node}/volumes/volume-{}", volume.0));
    let is_stored = |block: u64| {
        let data = vec![byte; 4096];
        let answer = ask(&handle, volume, Request::Write { offset: block * 4096, data, durable: true });
        answer.recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
        let mut found = vec![0; 4096];
        let file = std::fs::File::open(&path);
        file.is_ok_and(|file| file.read_exact_at(&mut found, block * 4096).is_ok()) && found == [byte; 4096]
    };
    (0..blocks).map(|block| u64::from(is_stored(block))).sum()
}

fn modes(view: &View) -> Vec<(Option<Policy>, Policy)> {
    view.volumes.iter().map(|volume| (volume.wanted, volume.policy)).collect()
}

#[test]
fn a_volume_in_write_through_is_in_the_store_when_it_is_answered() {
    let mut site = Site::new(8 * MEBI);
    site.start(1);
    site.start(2);
    let leads = site.await_synced();
    let handle = site.handle(leads);
    let (slow, fast) = (create(&handle, "slow", 256), create(&handle, "fast", 256));
    let through = Some(membership::Policy::Through);
    order(&handle, Order::WantOf { volume: slow, policy: through }).unwrap();
    let is_back = |view: &View| view.policy == Policy::Back && view.state == State::Synced;
    assert_eq!(site.await_leader(is_back), leads, "the group is in write-back all the same");
    let expected = [(Some(Policy::Through), Policy::Through), (None, Policy::Back)];
    assert_eq!(site.await_leader(|view| modes(view) == expected), leads);
    assert_eq!(stored_when_answered(&site, leads, slow, 40, 1), 40);
    let stored = stored_when_answered(&site, leads, fast, 40, 2);
    assert!(stored < 40, "a volume in write-back waited for the store each time");

    // The other way round: all wait, and one does not.
    order(&handle, Order::Want(membership::Policy::Through)).unwrap();
    order(&handle, Order::WantOf { volume: slow, policy: None }).unwrap();
    order(&handle, Order::WantOf { volume: fast, policy: Some(membership::Policy::Back) }).unwrap();
    assert_eq!(stored_when_answered(&site, leads, slow, 40, 3), 40);
    let stored = stored_when_answered(&site, leads, fast, 40, 4);
    assert!(stored < 40, "a volume in write-back waited for the store each time");
    // A holder that is late for a moment, on a busy machine, makes it write-through until it is back.
    let expected = [(None, Policy::Through), (Some(Policy::Back), Policy::Back)];
    assert_eq!(site.await_leader(|view| modes(view) == expected), leads);
}

/// Who leads next knows of it from its first write on; so does whoever starts after both were down.
#[test]
fn what_is_wanted_outlives_who_was_asked() {
    let mut site = Site::new(8 * MEBI);
    let (leads, _, volume) = site.pair(256);
    create(&site.handle(leads), "vm2", 256);
    order(&site.handle(leads), Order::Want(membership::Policy::Through)).unwrap();
    let back = Some(membership::Policy::Back);
    order(&site.handle(leads), Order::WantOf { volume: Volume(2), policy: back }).unwrap();
    let wanted = |view: &View| (view.wanted, modes(view)[0].0, modes(view)[1].0);
    let expected = (Policy::Through, None, Some(Policy::Back));
    let keeps = |view: &View| view.state == State::Synced && wanted(view) == expected;

    site.kill(leads);
    let other = 3 - leads;
    assert_eq!(site.await_leader(|view| wanted(view) == expected), other);
    assert_eq!(stored_when_answered(&site, other, volume, 20, 1), 20);
    site.start(leads);
    assert_eq!(site.await_leader(keeps), other);
    assert_eq!(stored_when_answered(&site, other, volume, 20, 2), 20);

    site.kill(1);
    site.kill(2);
    site.start(1);
    site.start(2);
    let leads = site.await_leader(keeps);
    assert_eq!(site.handle(leads).view().policy, Policy::Through);
    assert_eq!(stored_when_answered(&site, leads, volume, 20, 3), 20);
}
