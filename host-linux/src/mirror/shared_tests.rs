//! S4-03, I1, I2, F19, V5: both holders reach one store. Only the one that leads writes there, never late,
//! and the other one goes on there with every acknowledged write.

use super::site_tests::Known;
use super::testing::{Site, create, delete, until};
use super::view::State;
use std::time::Duration;

const MEBI: u64 = 1 << 20;

fn site(log_bytes: u64) -> Site {
    let mut site = Site::new(log_bytes);
    site.shared = Some("store");
    site
}

fn has_store(site: &Site, node: u16) -> bool {
    site.handle(node).0.store.is_ours()
}

#[test]
fn the_other_holder_goes_on_with_the_store_and_the_log() {
    let mut site = site(8 * MEBI);
    let mut known = Known::by_chance(3);
    let (mut leads, _, volume) = site.pair(4096);
    for round in 0..6 {
        let other = 3 - leads;
        assert_eq!(known.write(&site, leads, volume, 300, 512, 8), 300);
        assert!(has_store(&site, leads) && !has_store(&site, other), "round {round}");
        site.kill(leads);
        assert_eq!(site.await_leader(|_| true), other);
        known.check(&site, other, volume, 512);
        assert_eq!(known.write(&site, other, volume, 100, 512, 8), 100);
        site.start(leads);
        assert_eq!(site.await_synced(), other, "round {round}");
        leads = other;
    }
    let stores = std::fs::read_dir(site.directory.path()).unwrap();
    let names: Vec<_> = stores.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.contains(&"store".to_owned()));
    for node in ["1", "2"] {
        assert!(!site.directory.path().join(node).join("volumes").exists(), "{node} has a store of its own");
    }
}

/// F16: both die, also with more in their logs than memory has room for.
#[test]
fn both_die_and_the_store_and_a_log_have_everything() {
    let mut site = site(64 * MEBI);
    let mut known = Known::by_chance(5);
    let (_, _, volume) = site.pair(16_384);
    for round in 0..3 {
        let leads = site.await_synced();
        let handle = site.handle(leads);
        let gate = handle.0.store.gate.lock().unwrap();
        assert_eq!(known.write(&site, leads, volume, 1_500, 12_000, 8), 1_500);
        drop(gate);
        drop(handle);
        site.kill(1);
        site.kill(2);
        site.start(1 + round % 2);
        site.start(2 - round % 2);
        let leads = site.await_leader(|_| true);
        known.check(&site, leads, volume, 12_000);
        assert_eq!(known.write(&site, leads, volume, 100, 12_000, 8), 100);
    }
}

/// F19: whoever led stands still in the middle of a write into the store, and loses the register. Nobody
/// leads until that write is over: it would come over newer ones.
#[test]
fn nothing_of_an_old_primary_comes_late() {
    let mut site = site(8 * MEBI);
    let mut known = Known::by_chance(7);
    let (leads, other, volume) = site.pair(4096);
    for round in 0..3 {
        let (leads, other) = if round % 2 == 0 { (leads, other) } else { (other, leads) };
        let handle = site.handle(leads);
        let gate = handle.0.store.gate.lock().unwrap();
        assert_eq!(known.write(&site, leads, volume, 60, 64, 1), 60);
        // Its applier has begun by now, and stands still.
        std::thread::sleep(Duration::from_millis(500));
        site.give_up(leads);
        until(&site, other, |view| view.waits.as_ref().is_some_and(|why| why.contains("is locked")));
        assert!(has_store(&site, leads) && !has_store(&site, other));
        std::thread::sleep(Duration::from_millis(500));
        assert!(!site.handle(other).view().leads);
        drop(gate);
        assert_eq!(site.await_leader(|view| view.primary == Some(other)), other);
        assert!(!has_store(&site, leads));
        known.check(&site, other, volume, 64);
        assert_eq!(site.await_synced(), other);
    }
}

/// The store is full, and whoever led goes: it does not keep the store until there is room.
#[test]
fn a_full_store_is_left() {
    let mut site = site(8 * MEBI);
    let mut known = Known::by_chance(9);
    let (leads, other, volume) = site.pair(4096);
    let handle = site.handle(leads);
    handle.0.store.is_full.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(known.write(&site, leads, volume, 100, 512, 4), 100);
    until(&site, leads, |view| view.full.is_some());
    site.give_up(leads);
    assert_eq!(site.await_leader(|view| view.primary == Some(other)), other);
    known.check(&site, other, volume, 512);
    until(&site, leads, |view| view.full.is_none());
    // With room, it leads again, and applies.
    handle.0.store.is_full.store(false, std::sync::atomic::Ordering::SeqCst);
    site.await_synced();
    site.give_up(other);
    assert_eq!(site.await_leader(|view| view.primary == Some(leads)), leads);
    known.check(&site, leads, volume, 512);
    assert_eq!(known.write(&site, leads, volume, 400, 512, 8), 400);
    until(&site, leads, |view| view.dirty_bytes == 0);
}

/// A holder that was away for longer than the log reaches back needs nothing but the rest of the log.
#[test]
fn who_was_away_for_long_gets_the_log_and_no_fill() {
    let mut site = site(5 * MEBI);
    let mut known = Known::by_chance(11);
    let (leads, other, volume) = site.pair(4096);
    known.write(&site, leads, volume, 50, 1024, 8);
    site.kill(other);
    let second = create(&site.handle(leads), "vm2", 64);
    assert_eq!(known.write(&site, leads, volume, 600, 1024, 32), 600);
    delete(&site.handle(leads), second);
    until(&site, leads, |view| view.dirty_bytes == 0);
    site.start(other);
    // A moment before it came the view may say so, too.
    until(&site, other, |view| view.primary == Some(leads) && view.state == State::Synced);
    assert_eq!(site.await_synced(), leads);
    let names: Vec<_> = site.handle(other).catalogue().list().map(|one| one.name.to_string()).collect();
    assert_eq!(names, ["vm1"], "it knows the volumes, whom clients may ask");
    let third = create(&site.handle(leads), "vm3", 64);
    until(&site, other, |view| view.volumes.iter().any(|volume| volume.name == "vm3"));
    site.kill(leads);
    assert_eq!(site.await_leader(|_| true), other);
    known.check(&site, other, volume, 1024);
    delete(&site.handle(other), third);
}

/// What a holder looks for in its log at a start is in the store, and trimmed, before it has found it.
#[test]
fn who_starts_under_load_knows_the_volumes() {
    let mut site = site(5 * MEBI);
    let mut known = Known::by_chance(17);
    let (leads, other, volume) = site.pair(4096);
    for round in 0..6 {
        known.write(&site, leads, volume, 60, 1024, 32);
        site.kill(other);
        let name = format!("new-{round}");
        let new = create(&site.handle(leads), &name, 64);
        site.start(other);
        known.write(&site, leads, volume, 200, 1024, 32);
        assert_eq!(site.await_synced(), leads);
        until(&site, other, |view| view.volumes.iter().any(|volume| volume.name == name));
        delete(&site.handle(leads), new);
        until(&site, other, |view| view.volumes.len() == 1);
        assert_ne!(site.handle(other).view().state, State::Failed);
    }
    site.kill(leads);
    assert_eq!(site.await_leader(|_| true), other);
    known.check(&site, other, volume, 1024);
}

/// V5: a file system that is not mounted leaves an empty directory: nobody follows, or leads, with that.
#[test]
fn another_directory_is_not_the_store() {
    let mut site = site(8 * MEBI);
    let mut known = Known::by_chance(13);
    site.start(1);
    site.await_leader(|_| true);
    let volume = create(&site.handle(1), "vm1", 4096);
    known.write(&site, 1, volume, 100, 512, 4);
    site.shared = Some("elsewhere");
    site.start(2);
    until(&site, 2, |view| view.last_error.as_ref().is_some_and(|why| why.contains("is not the store")));
    assert_eq!(site.handle(1).view().state, State::Resyncing, "it is there, and not in sync");
    site.kill(2);
    site.shared = Some("store");
    site.start(2);
    site.await_synced();
    // Now it is in sync, and its directory another one at its next start; and so is that of the first.
    until(&site, 1, |view| view.dirty_bytes == 0 && view.log.applied == view.log.newest);
    until(&site, 2, |view| view.log.applied == view.log.newest);
    std::thread::sleep(Duration::from_secs(2));
    site.kill(1);
    site.kill(2);
    site.shared = Some("elsewhere");
    site.start(1);
    until(&site, 1, |view| view.waits.as_ref().is_some_and(|why| why.contains("is not the store")));
    site.kill(1);
    site.shared = Some("store");
    site.start(1);
    assert_eq!(site.await_leader(|_| true), 1);
    known.check(&site, 1, volume, 512);
}
