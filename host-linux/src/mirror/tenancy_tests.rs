//! One holder has a store at a time, whatever the others do (S4-03, I1, F19, V5).

use super::*;
use crate::mirror::backing::How;
use crate::mirror::extents::Content;
use crate::mirror::store::Store;
use crate::storage::buffers::Pool;
use bulkhead_core::log::batch::Volume;
use std::sync::Arc;

const SITE: SiteId = SiteId([1; 16]);
const GROUP: GroupId = GroupId([2; 16]);

fn tenancy(directory: &Path, me: u16) -> Tenancy {
    Tenancy::open(directory, SITE, GROUP, NodeId(me)).unwrap()
}

#[test]
fn one_has_it_at_a_time_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (tenancy(directory.path(), 1), tenancy(directory.path(), 2));
    assert_eq!((one.look(), one.is_held()), (Ok(None), false));
    assert!(one.mark(Epoch(3)).is_err());
    assert_eq!(one.take(), Ok(None));
    assert!(two.take().unwrap_err().contains("another process"), "nobody has said who");
    one.mark(Epoch(3)).unwrap();
    let seen = two.look().unwrap().unwrap();
    assert_eq!((seen.node, seen.epoch), (NodeId(1), Epoch(3)));
    let why = two.take().unwrap_err();
    assert!(why.contains("still that of node 1, which led under epoch 3"), "{why}");
    // It is had until the last file is closed.
    let held = one.close();
    assert!(!one.is_held() && two.take().is_err());
    drop(held);
    assert_eq!(two.take(), Ok(Some(seen)));
    two.mark(Epoch(4)).unwrap();
    assert_eq!(one.look().unwrap().unwrap().node, NodeId(2));
}

#[test]
fn the_store_of_others_is_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let one = tenancy(directory.path(), 1);
    one.take().unwrap();
    one.mark(Epoch(3)).unwrap();
    drop(one);
    let other = Tenancy::open(directory.path(), SITE, GroupId([3; 16]), NodeId(1)).unwrap();
    assert!(other.take().unwrap_err().contains("another group"));
    assert!(other.look().unwrap_err().contains("another group"));
    for bytes in [&b"shared"[..], &[0; TENURE_LEN], &[0; TENURE_LEN + 1]] {
        std::fs::write(directory.path().join(FILE), bytes).unwrap();
        let one = tenancy(directory.path(), 1);
        assert!(one.take().unwrap_err().contains("cannot be used"));
        assert!(!one.is_held());
    }
}

/// A disk of one machine is of use to the holders there only.
#[test]
fn what_one_machine_has_others_do_not_reach() {
    let directory = tempfile::tempdir().unwrap();
    let one = tenancy(directory.path(), 1);
    let here = Tenure { site: SITE, group: GROUP, node: NodeId(2), epoch: Epoch(1), host: host() };
    assert_eq!(one.is_in_reach(&here), Ok(()));
    let there = Tenure { host: [b'x'; HOST_LEN], ..here };
    assert!(one.is_in_reach(&there).unwrap_err().contains("share it by NFS"));
    let network = Tenancy { is_between_machines: true, ..one };
    assert_eq!(network.is_in_reach(&there), Ok(()));
}

#[test]
fn the_options_of_a_mount_are_found() {
    let options = options(Path::new("/proc")).unwrap();
    assert!(options.split(',').any(|option| option == "rw" || option == "ro"), "{options}");
}

/// I1: whoever has left a store reads and writes nothing there, and whoever takes it finds no file of it
/// open.
#[test]
fn a_store_that_was_left_is_touched_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = |me| {
        let store = Store::open(directory.path()).unwrap();
        Arc::new(store.shared(tenancy(directory.path(), me)))
    };
    let (one, two) = (store(1), store(2));
    let put = |store: &Store| store.write(Volume(1), 0, 8, &Content::Zeroes);
    assert!(put(&one).is_err(), "it does not have it yet");
    for (old, new) in [(&one, &two), (&two, &one), (&one, &two)] {
        assert!(matches!(old.tenancy(Wish::Take), Ok(Some(Said::Took(Ok(_))))) || old.is_ours());
        assert!(matches!(new.tenancy(Wish::Take), Ok(Some(Said::Took(Err(_))))));
        put(old).unwrap();
        old.tenancy(Wish::Leave).unwrap();
        assert!(put(old).is_err());
        assert!(old.unwritten(Volume(1), 0, 8).is_err());
        assert!(matches!(new.tenancy(Wish::Take), Ok(Some(Said::Took(Ok(_))))));
        put(new).unwrap();
    }
}

/// S1-33: a volume that is deleted leaves an empty file, and one that is made with its number has nothing of
/// it.
#[test]
fn a_volume_that_is_removed_leaves_its_name_only() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap().shared(tenancy(directory.path(), 1));
    store.tenancy(Wish::Take).unwrap();
    store.remove(Volume(1)).unwrap();
    let pool = Pool::new(1 << 20).unwrap();
    for byte in 1..=3 {
        let mut buffer = pool.take(1).unwrap();
        buffer.bytes_mut().fill(byte);
        store.write(Volume(1), 3, 1, &Content::Data(buffer.keep().piece())).unwrap();
        let mut bytes = vec![9; 4 * 4096];
        store.read(Volume(1), 0, &mut bytes, How::Waiting).unwrap();
        assert_eq!((bytes[0], bytes[3 * 4096]), (0, byte));
        store.remove(Volume(1)).unwrap();
        assert_eq!(store.unwritten(Volume(1), 0, 8).unwrap(), 8);
        store.read(Volume(1), 0, &mut bytes, How::Waiting).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert_eq!(std::fs::metadata(store.path(Volume(1))).unwrap().len(), 0);
    }
}
