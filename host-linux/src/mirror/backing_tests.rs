//! S1-24, S1-26, V5, V40, F14, F15: volumes on block devices, from the configuration to what a guest reads.

use super::backing::How;
use super::backing::loops::{Loop, OLD};
use super::extents::Content;
use super::site_tests::Known;
use super::store::Store;
use super::testing::{Site, create, delete, order, read};
use super::words::Order;
use crate::failure::Failure;
use crate::site_config::BackedBy;
use crate::storage::buffers::Pool;
use bulkhead_core::id::NodeId;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::volume::CATALOGUE;
use bulkhead_core::volume::name::Name;
use bulkhead_core::volume::record::{Record, State, Uuid};
use std::collections::BTreeMap;
use std::path::Path;

const MEBI: u64 = 1 << 20;

fn entries(named: &[(&str, &Loop)]) -> BTreeMap<String, BackedBy> {
    let entry = |(name, its): &(&str, &Loop)| ((*name).into(), BackedBy::Device(its.device.clone()));
    named.iter().map(entry).collect()
}

fn open(directory: &Path, named: &[(&str, &Loop)]) -> Result<Store, Failure> {
    Store::open(&directory.join("volumes"))?.backed_by(entries(named))
}

fn record(number: u16, name: &str, uuid: u8, state: State) -> Record {
    let name = Name::new(name).unwrap();
    let (volume, change) = (Volume(number), u64::from(uuid));
    let uuid = Uuid([uuid; 16]);
    Record {
        volume,
        state,
        name,
        uuid,
        blocks: 256,
        change,
        policy: None,
        is_cached: false,
        seal: None,
        guest: None,
    }
}

/// As the applier writes the catalogue.
fn learn(store: &Store, record: &Record) -> Result<(), std::io::Error> {
    write(store, CATALOGUE, record.volume.0.into(), &record.encode())
}

fn write(store: &Store, volume: Volume, block: u64, bytes: &[u8]) -> Result<(), std::io::Error> {
    let mut buffer = Pool::new(1 << 20).unwrap().take(1).unwrap();
    buffer.bytes_mut().copy_from_slice(bytes);
    store.write(volume, block, 1, &Content::Data(buffer.keep().piece()))
}

fn byte_at(store: &Store, volume: Volume, block: u64) -> u8 {
    let mut bytes = [1; 4096];
    store.read(volume, block, &mut bytes, How::Waiting).unwrap();
    bytes[4095]
}

fn refusal(opened: Result<Store, Failure>) -> String {
    opened.map(|_| ()).unwrap_err().text()
}

#[test]
fn a_new_volume_takes_its_device_and_an_old_one_finds_it_again() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let Some(disk) = Loop::new(home, "disk", 1 << 20) else { return };
    let store = open(home, &[("vm1", &disk)]).unwrap();
    let (volume, present) = (Volume(1), record(1, "vm1", 1, State::Present));
    learn(&store, &present).unwrap();
    assert_eq!(byte_at(&store, volume, 9), 0, "what somebody else left there is not shown");
    write(&store, volume, 9, &[5; 4096]).unwrap();
    [CATALOGUE, volume].into_iter().for_each(|volume| store.sync(volume).unwrap());
    assert!(!store.path(volume).exists());
    drop(store);

    let store = open(home, &[("vm1", &disk)]).unwrap();
    assert_eq!((byte_at(&store, volume, 9), byte_at(&store, volume, 8)), (5, 0));
    assert_eq!(store.claims().note(), None);
    drop(store);
    disk.resize(2 << 20);
    let note = open(home, &[("vm1", &disk)]).unwrap().claims().note().unwrap();
    assert!(note.contains("has 2097152 bytes, and had 1048576"), "{note}");
    assert_eq!(open(home, &[("vm1", &disk)]).unwrap().claims().note(), None, "said once");

    // F14, F15, V40: gone from the file, another device, too small.
    let told = refusal(open(home, &[]));
    assert!(told.contains("vm1 has its content on /dev/loop") && told.contains("write `vm1 = "), "{told}");
    let Some(other) = Loop::new(home, "other", 1 << 20) else { return };
    let told = refusal(open(home, &[("vm1", &other)]));
    assert!(told.contains("has its content elsewhere than on") && told.contains("/disk"), "{told}");
    disk.resize(1 << 19);
    let told = refusal(open(home, &[("vm1", &disk)]));
    assert!(told.contains("has 524288 bytes, and vm1 needs 1048576"), "{told}");
    // Not without what says that it is the volume's.
    disk.resize(1 << 20);
    for file in std::fs::read_dir(home.join("volumes")).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("backing-") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    let told = refusal(open(home, &[("vm1", &disk)]));
    assert!(told.contains("vm1 was there before [local.storage.backing] named"), "{told}");
}

/// V1, F15: what a volume has more is made zero once, and never again what was written there since.
#[test]
fn a_volume_that_grew_keeps_what_it_has_more() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    // Its last chunk is not whole.
    let Some(disk) = Loop::new(home, "disk", 257 * 4096) else { return };
    let store = open(home, &[("vm1", &disk)]).unwrap();
    let (volume, present) = (Volume(1), record(1, "vm1", 1, State::Present));
    learn(&store, &Record { blocks: 257, ..present.clone() }).unwrap();
    write(&store, volume, 256, &[5; 4096]).unwrap();
    disk.resize(300 * 4096);
    learn(&store, &Record { blocks: 300, ..present }).unwrap();
    assert_eq!((byte_at(&store, volume, 256), byte_at(&store, volume, 257)), (5, 0));
    write(&store, volume, 257, &[6; 4096]).unwrap();
    [CATALOGUE, volume].into_iter().for_each(|volume| store.sync(volume).unwrap());
    drop(store);
    let store = open(home, &[("vm1", &disk)]).unwrap();
    assert_eq!((byte_at(&store, volume, 256), byte_at(&store, volume, 257)), (5, 6));
    assert_eq!(store.claims().note(), None);
}

#[test]
fn a_volume_that_is_in_a_file_is_not_begun_anew_on_a_device() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let Some(disk) = Loop::new(home, "disk", 1 << 20) else { return };
    let store = open(home, &[]).unwrap();
    learn(&store, &record(1, "vm1", 1, State::Present)).unwrap();
    write(&store, Volume(1), 9, &[5; 4096]).unwrap();
    drop(store);
    let told = refusal(open(home, &[("vm1", &disk)]));
    assert!(told.contains("take vm1 out of [local.storage.backing]"), "{told}");
    assert_eq!(byte_at(&open(home, &[]).unwrap(), Volume(1), 9), 5, "nothing was changed");
}

/// A device goes from a volume that is deleted to the next one of its name, at every instant at which the
/// power may fail in between; and a log that is repeated from long before does not take it back.
#[test]
fn a_device_goes_from_one_volume_to_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let Some(disk) = Loop::new(home, "disk", 1 << 20) else { return };
    let named = [("vm1", &disk)];
    let store = open(home, &named).unwrap();
    learn(&store, &record(1, "vm1", 1, State::Present)).unwrap();
    write(&store, Volume(1), 9, &[5; 4096]).unwrap();
    store.sync(Volume(1)).unwrap();
    // The applier is told of the deletion before the catalogue says so.
    store.remove(Volume(1)).unwrap();
    assert_eq!(byte_at(&store, Volume(1), 9), 0);
    drop(store);
    let store = open(home, &named).unwrap();
    assert_eq!(byte_at(&store, Volume(1), 9), 0, "its content is void, and its device its own");
    learn(&store, &record(1, "vm1", 2, State::Deleted)).unwrap();
    assert!(store.claims().get(Volume(1)).is_none());
    drop(store);
    let store = open(home, &named).unwrap();
    learn(&store, &record(2, "vm1", 3, State::Present)).unwrap();
    assert_eq!(byte_at(&store, Volume(2), 9), 0);
    write(&store, Volume(2), 9, &[6; 4096]).unwrap();
    store.sync(Volume(2)).unwrap();
    drop(store);

    let store = open(home, &named).unwrap();
    store.remove(Volume(1)).unwrap();
    learn(&store, &record(1, "vm1", 1, State::Present)).unwrap();
    write(&store, Volume(1), 9, &[7; 4096]).unwrap();
    assert_eq!((byte_at(&store, Volume(2), 9), byte_at(&store, Volume(1), 9)), (6, 7));
    drop(store);
    // In the middle of it, too.
    let store = open(home, &named).unwrap();
    store.remove(Volume(1)).unwrap();
    learn(&store, &record(1, "vm1", 2, State::Deleted)).unwrap();
    learn(&store, &record(2, "vm1", 3, State::Present)).unwrap();
    assert_eq!((byte_at(&store, Volume(2), 9), byte_at(&store, Volume(1), 9)), (6, 0));
    // A number that another volume has at once, as in a fill.
    learn(&store, &record(2, "vm1", 4, State::Present)).unwrap();
    assert_eq!(byte_at(&store, Volume(2), 9), 0);
}

#[test]
fn a_device_that_does_not_fit_is_refused_when_a_volume_is_made_or_grows() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = Loop::new(directory.path(), "disk", 1 << 20) else { return };
    let mut site = Site::new(8 * MEBI);
    site.backing.insert(NodeId(1), entries(&[("vm1", &disk)]));
    site.start(1);
    let leads = site.await_leader(|_| true);
    let handle = site.handle(leads);
    let ask = |name: &str, blocks| order(&handle, Order::Create { name: name.into(), blocks });
    let refused = ask("vm1", 257).unwrap_err().text();
    assert!(refused.contains("has 1048576 bytes, and vm1 needs 1052672"), "{refused}");
    assert!(refused.contains("Nothing was changed."), "{refused}");
    let volume = ask("vm1", 256).unwrap();
    let larger = Order::Resize { volume, blocks: 512 };
    let refused = order(&handle, larger.clone()).unwrap_err().text();
    assert!(refused.contains("make it larger"), "{refused}");
    disk.resize(2 << 20);
    order(&handle, larger).unwrap();
    let shown = handle.view().volumes;
    assert!(shown[0].backing.starts_with("/dev/loop"), "{shown:?}");
    assert!(read(&handle, volume, 511, 1).unwrap().iter().all(|byte| *byte == 0));
    // Deleted and made again at once, it gets its device again, as new.
    delete(&handle, volume);
    let again = ask("vm1", 512).unwrap();
    assert!(read(&handle, again, 0, 512).unwrap().iter().all(|byte| *byte == 0));
    let directory = site.directory.path().join("1/volumes");
    let claims = || {
        let names = std::fs::read_dir(&directory).unwrap().flatten().map(|file| file.file_name());
        names.filter(|name| name.to_string_lossy().starts_with("backing-")).count()
    };
    let begun = std::time::Instant::now();
    while site.handle(leads).view().log.applied != site.handle(leads).view().log.newest || claims() != 1 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{} claims", claims());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// V1, X13: one holder has a device and the other one files, the device that of somebody else before; what is
/// acknowledged survives whoever dies, and a holder that missed everything is filled.
#[test]
fn a_holder_with_a_device_and_one_with_files_are_one_group() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = Loop::new(directory.path(), "disk", 16 << 20) else { return };
    let mut site = Site::new(8 * MEBI);
    site.backing.insert(NodeId(1), entries(&[("vm1", &disk)]));
    let mut known = Known::by_chance(11);
    let (mut leads, _, volume) = site.pair(4096);
    for _ in 0..3 {
        known.write(&site, leads, volume, 200, 4096 - 8, 4);
        site.kill(leads);
        let now = site.await_leader(|_| true);
        known.check(&site, now, volume, 4096);
        known.write(&site, now, volume, 100, 256, 4);
        site.start(leads);
        leads = site.await_synced();
        known.check(&site, leads, volume, 4096);
    }
    assert!(site.handle(1).view().volumes[0].backing.starts_with("/dev/loop"));

    // Node 1 loses its log, and gets another volume meanwhile: its device is given to that.
    site.kill(1);
    site.await_leader(|view| view.primary == Some(2));
    delete(&site.handle(2), volume);
    let again = create(&site.handle(2), "vm1", 4096);
    let mut known = Known::by_chance(12);
    known.write(&site, 2, again, 300, 4096 - 8, 4);
    std::fs::remove_file(site.directory.path().join("1/log")).unwrap();
    site.start(1);
    site.await_synced();
    site.kill(2);
    site.await_leader(|view| view.primary == Some(1));
    known.check(&site, 1, again, 4096);
    assert!(!site.directory.path().join(format!("1/volumes/volume-{}", again.0)).exists());
    let on_disk = std::fs::read(&disk.file).unwrap();
    assert!(on_disk.contains(&OLD), "it was not wiped");
}

/// X13: how a volume that was in a file comes to a device, as docs/volumes.md says it.
#[test]
fn a_copy_comes_to_a_device_by_being_filled_anew() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = Loop::new(directory.path(), "disk", 16 << 20) else { return };
    let mut site = Site::new(8 * MEBI);
    let mut known = Known::by_chance(13);
    let (leads, _, volume) = site.pair(4096);
    known.write(&site, leads, volume, 300, 4096 - 8, 4);
    site.kill(1);
    site.await_leader(|view| view.primary == Some(2));
    // What the other one misses takes it out of the set.
    known.write(&site, 2, volume, 20, 4096 - 8, 4);
    let home = site.directory.path().join("1");
    std::fs::remove_dir_all(home.join("volumes")).unwrap();
    std::fs::remove_file(home.join("log")).unwrap();
    site.backing.insert(NodeId(1), entries(&[("vm1", &disk)]));
    site.start(1);
    site.await_synced();
    assert!(site.handle(1).view().volumes[0].backing.starts_with("/dev/loop"));
    site.kill(2);
    site.await_leader(|view| view.primary == Some(1));
    known.check(&site, 1, volume, 4096);
    assert!(!home.join("volumes/volume-1").exists());
}
