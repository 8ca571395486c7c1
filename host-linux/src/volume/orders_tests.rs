//! What is refused before the group is asked, and what is said then.

use super::*;
use crate::mirror::view::{Policy, State};
use bulkhead_core::cache::residents;

/// Two holders; node 1 leads, `me` is asked.
pub(crate) fn listing(me: u16) -> Listing {
    let holder = |node| HolderView { node, in_sync: true, connected: true, ..HolderView::default() };
    let place = |node: u16, name: &str| {
        let nbd = SocketAddr::from(([10, 0, 1, u8::try_from(node).unwrap()], 10_809));
        Place { node, name: name.into(), nbd: Some(nbd) }
    };
    let volume = VolumeView {
        number: 3,
        name: "vm1".into(),
        uuid: "07070707-0707-4707-8707-070707070707".into(),
        bytes: 10 << 30,
        wanted: None,
        policy: Policy::Back,
        cached: true,
        at_risk_bytes: None,
        seal: None,
        guest: None,
        backing: "file".into(),
    };
    let view = View {
        mode: if me == 1 { Mode::Leading } else { Mode::Following },
        state: State::Synced,
        epoch: 7,
        leads: me == 1,
        primary: Some(1),
        wanted: Policy::Back,
        policy: Policy::Back,
        holders: vec![holder(1), holder(2)],
        volumes: vec![volume],
        ..View::default()
    };
    let nodes = vec![place(1, "a1"), place(2, "b1")];
    Listing { me, pair: 1, nodes, socket: Some("/run/b/nbd.sock".into()), tls: false, storage: view }
}

/// I5: who runs a guest ends it where another node leads, and waits where none does.
#[test]
fn whether_another_node_leads_is_told_from_that_none_does() {
    let elsewhere = listing(2).no_guests_here();
    assert_eq!(elsewhere.exit, Exit::Refused);
    assert_eq!(elsewhere.what, "a1 leads the volumes of pair 1: their guests run there, not on b1");
    assert!(elsewhere.next.contains("on a1") && elsewhere.next.contains("promote b1"), "{}", elsewhere.next);
    for primary in [None, Some(2)] {
        let mut nowhere = listing(2);
        nowhere.storage.primary = primary;
        let nowhere = nowhere.no_guests_here();
        assert_eq!(nowhere.exit, Exit::Failed, "{}", nowhere.what);
        assert!(nowhere.what.starts_with("nobody leads"), "{}", nowhere.what);
    }
}

fn create(name: &str) -> Request {
    Request::VolumeCreate { name: name.into(), blocks: 5 }
}

#[test]
fn the_primary_takes_orders() {
    let all = listing(1);
    let made = Order::Create { name: "vm2".into(), blocks: 5 };
    assert_eq!(all.order(&create("vm2")), Ok(Some(made)));
    let larger = Request::VolumeResize { name: "vm1".into(), blocks: 9 };
    assert_eq!(all.order(&larger), Ok(Some(Order::Resize { volume: Volume(3), blocks: 9 })));
    let gone = Request::VolumeDelete { name: "vm1".into() };
    assert_eq!(all.order(&gone), Ok(Some(Order::Delete { volume: Volume(3) })));
    let mode = |volume: Option<&str>, mode| {
        all.order(&Request::VolumeMode { volume: volume.map(str::to_owned), mode })
    };
    let back = membership::Policy::Back;
    assert_eq!(mode(None, Some(Policy::Back)), Ok(Some(Order::Want(back))));
    let of = |policy| Ok(Some(Order::WantOf { volume: Volume(3), policy }));
    assert_eq!(mode(Some("vm1"), Some(Policy::Back)), of(Some(back)));
    assert_eq!(mode(Some("vm1"), None), of(None));
    assert_eq!(mode(None, None).unwrap_err().exit, Exit::Usage);
    let cache = |volume: Option<&str>, algorithm| {
        all.order(&Request::VolumeCache { volume: volume.map(str::to_owned), algorithm })
    };
    let lru = Some(residents::Algorithm::Lru);
    assert_eq!(cache(None, Some(Algorithm::Lru)), Ok(Some(Order::Cache(lru))));
    assert_eq!(cache(None, Some(Algorithm::Off)), Ok(Some(Order::Cache(None))));
    let of = |is_cached| Ok(Some(Order::CacheOf { volume: Volume(3), is_cached }));
    assert_eq!((cache(Some("vm1"), Some(Algorithm::Off)), cache(Some("vm1"), None)), (of(false), of(true)));
    assert_eq!(cache(Some("vm1"), Some(Algorithm::Arc)).unwrap_err().exit, Exit::Usage);
    assert_eq!(cache(None, None).unwrap_err().exit, Exit::Usage);
    assert_eq!(all.order(&Request::VolumeList), Ok(None));
    assert_eq!((all.promotion(2), all.promotion(1)), (Ok(Some(NodeId(2))), Ok(None)));
}

/// Each refusal says who can do it, or what is waited for.
#[test]
fn what_this_node_cannot_do_is_refused_with_what_to_do() {
    let secondary = listing(2);
    let mut orphan = listing(2);
    orphan.storage.primary = None;
    orphan.storage.waits = Some("its log failed".into());
    let mut behind = listing(1);
    behind.storage.holders[1].in_sync = false;
    let unknown = Request::VolumeDelete { name: "vm9".into() };
    let cases = [
        (secondary.order(&create("vm2")).unwrap_err(), Exit::Refused, "run it on a1."),
        (secondary.promotion(1).unwrap_err(), Exit::Refused, "run it on a1."),
        (orphan.order(&create("vm2")).unwrap_err(), Exit::Refused, "wait --for primary"),
        (behind.promotion(2).unwrap_err(), Exit::Refused, "wait --for in-sync"),
        (behind.promotion(9).unwrap_err(), Exit::Usage, "volume show"),
        (listing(1).order(&unknown).unwrap_err(), Exit::Usage, "volume list"),
        (listing(1).order(&create("a b")).unwrap_err(), Exit::Usage, "another name"),
    ];
    for (failure, exit, next) in cases {
        assert_eq!((failure.exit, failure.left.as_str()), (exit, "Nothing was changed."), "{failure:?}");
        assert!(failure.next.contains(next), "{failure:?}");
    }
    let why = orphan.order(&create("vm2")).unwrap_err().what;
    assert!(why.contains("its log failed"), "{why}");
}

/// S4-02, S4-12: a node is taken out only if another one has all, or the operator says so.
#[test]
fn the_last_secondary_is_taken_out_only_on_purpose() {
    let all = listing(1);
    let remove = |node, yes| all.order(&Request::VolumeSecondaryRemove { node, yes });
    assert_eq!(remove(2, true), Ok(Some(Order::Dismiss(NodeId(2)))));
    assert_eq!(remove(2, false).unwrap_err().exit, Exit::Refused);
    assert_eq!(remove(1, true).unwrap_err().exit, Exit::Refused);
    assert_eq!(remove(9, true).unwrap_err().exit, Exit::Usage);
    let mut three = listing(1);
    three.storage.holders.push(HolderView {
        node: 3,
        in_sync: true,
        connected: true,
        ..HolderView::default()
    });
    let request = Request::VolumeSecondaryRemove { node: 2, yes: false };
    assert_eq!(three.order(&request), Ok(Some(Order::Dismiss(NodeId(2)))));
    let add = Request::VolumeSecondaryAdd { node: 2 };
    assert_eq!(all.order(&add), Ok(Some(Order::Admit(NodeId(2)))));
    assert_eq!(listing(2).order(&add).unwrap_err().exit, Exit::Refused);
    let limit = |bytes| all.order(&Request::VolumeLimit { bytes });
    assert_eq!(limit(Some(4096)), Ok(Some(Order::Bound(NonZeroU64::new(4096)))));
    assert_eq!(limit(None), Ok(Some(Order::Bound(None))));
    assert_eq!(limit(Some(4095)).unwrap_err().exit, Exit::Usage);
}

/// X14: who lacks writes is made to lead only where nobody else could.
#[test]
fn a_holder_is_recovered_only_where_nobody_who_has_all_is_there() {
    let mut all = listing(2);
    assert!(all.recovery(&[], None, false).unwrap_err().what.contains("a1 leads"));
    all.storage.primary = None;
    assert_eq!(all.recovery(&[], None, false), Ok(()));
    assert!(all.recovery(&[1], None, false).unwrap_err().what.contains("a1 has every acknowledged write"));
    let voters = Some("too few voters".to_owned());
    assert!(all.recovery(&[], voters, false).unwrap_err().next.contains("bring a voter back"));
    all.storage.part_filled = true;
    assert!(all.recovery(&[], None, false).unwrap_err().what.contains("parts of two times"));
    assert_eq!(all.recovery(&[], None, true), Ok(()));
    all.storage.part_filled = false;
    for mode in [Mode::Damaged, Mode::Failed, Mode::Opening] {
        all.storage.mode = mode;
        assert_eq!(all.recovery(&[], None, false).unwrap_err().exit, Exit::Refused);
    }
}

#[test]
fn a_volume_is_found_on_every_node_of_the_pair() {
    let uris: Vec<_> =
        listing(2).uris("vm1").into_iter().map(|(name, uri)| format!("{name} {uri}")).collect();
    let unix = "b1 nbd+unix:///vm1?socket=/run/b/nbd.sock";
    assert_eq!(uris, ["a1 nbd://10.0.1.1/vm1", "b1 nbd://10.0.1.2/vm1", unix]);
}
