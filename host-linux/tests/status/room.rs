//! S3-14 to S3-18, X16: what nodes have for guests, who would be down for want of it, and who is not started.

use super::alerts::{takes, view, wanted, well};
use super::{down, lose};
use bulkhead::cluster::status::{Room, Status};
use bulkhead::failover::room::{admit, all_fit, is_counted};
use bulkhead::failover::wanted::{Failover, Policy, Wanted};
use bulkhead::failure::Exit;
use std::num::{NonZeroU16, NonZeroU32};

/// Web1, db and test run on a1 and take 1, 2 and 3 GiB; web0 waits, and takes 4. They matter 100, 200, 255
/// and 100; test stays where it is.
fn counted(a1_gib: u32, b1_gib: u32) -> Status {
    let mut status = well();
    for (at, gib) in [(0, 1), (1, 2), (2, 3), (4, 4)] {
        wanted(&mut status, at).needs = takes(gib);
    }
    for (node, gib) in [(0, a1_gib), (1, b1_gib)] {
        let memory_mib = NonZeroU32::new(gib << 10);
        status.nodes[node].room = Some(Room { memory_mib, processors: NonZeroU16::new(6) });
    }
    status
}

fn one(priority: u8, gib: u64) -> Wanted {
    Wanted::of(true, Failover { priority, ..Failover::default() }, takes(gib))
}

/// S3-08, S1-40: by importance; who does not fit is passed over, and smaller ones behind it are not.
#[test]
fn who_has_no_room_after_a_loss_is_forecast() {
    let cases: [(u32, &[&str], &[&str]); 5] = [
        (7, &["db", "web1", "web0"], &["test"]),
        (6, &["db", "web1"], &["test", "web0"]),
        (3, &["db", "web1"], &["test", "web0"]),
        (2, &["db"], &["test", "web1", "web0"]),
        (1, &["web1"], &["test", "db", "web0"]),
    ];
    for (gib, expected, left) in cases {
        let then = lose(&counted(64, gib), "node", "a1");
        let begins: Vec<_> = then.begins.iter().map(|begins| begins.guest.as_str()).collect();
        assert_eq!((begins.as_slice(), down(&then).as_slice()), (expected, left), "{gib} GiB");
    }
    let then = lose(&counted(64, 6), "node", "a1");
    let why = &then.down.iter().find(|down| down.guest == "web0").unwrap().why;
    assert_eq!(why, "there is no room for it on b1, which lacks 1 GiB of memory");
    // Who waits for room goes on to wait when somebody else is lost.
    let then = lose(&counted(6, 64), "witness", "witness");
    assert_eq!((then.goes_on.len(), down(&then)), (3, vec!["web0"]));
}

#[test]
fn a_guest_that_fits_everywhere_is_admitted() {
    assert_eq!(admit(&well(), "new", one(100, 1 << 20), false), Ok(()), "nobody counts");
    assert!(!is_counted(&well()) && is_counted(&counted(1, 1)));
    assert_eq!(admit(&counted(12, 9), "new", one(100, 2), false), Ok(()));
    // One that is started again is not counted twice.
    assert_eq!(admit(&counted(10, 7), "web1", one(100, 1), false), Ok(()));
    // One that stays where it is takes nobody's room elsewhere.
    let stays = Wanted { policy: Policy::Stay, ..one(100, 2) };
    assert_eq!(admit(&counted(12, 1), "new", stays, false), Ok(()));
    // Who was down before is no reason.
    assert_eq!(admit(&counted(64, 2), "new", Wanted { policy: Policy::Stay, ..one(1, 1) }, false), Ok(()));
}

/// X16: where what is missing, and what would help, each of which does.
#[test]
fn a_guest_that_does_not_fit_is_refused_with_what_helps() {
    // Nodes' rooms, the guest's priority and needs, parts of what is said and of what would help.
    type Case = (u32, u32, u8, u64, &'static str, &'static [&'static str]);
    let cases: [Case; 5] = [
        (12, 64, 90, 4, "a1 lacks 2 GiB of memory", &["give it 2 GiB of memory"]),
        (9, 64, 150, 4, "a1 lacks 1 GiB of memory", &["give it 3 GiB", "stop web1, web0, which matter less"]),
        (
            64,
            9,
            90,
            3,
            "if a1 is lost, it would be down, for b1 lacks 1 GiB of memory",
            &["give it 2 GiB", "--beyond"],
        ),
        (
            64,
            9,
            150,
            3,
            "if a1 is lost, web0 would be down, for b1 lacks 1 GiB",
            &["stop web0", "--beyond-room"],
        ),
        (64, 3, 255, 3, "if a1 is lost, db would be down", &["stop db, web1, web0, which matter less"]),
    ];
    for (a1, b1, priority, gib, why, remedies) in cases {
        let status = counted(a1, b1);
        let failure = admit(&status, "new", one(priority, gib), false).unwrap_err();
        assert!(failure.exit == Exit::Refused && failure.what.contains(why), "{why}: {failure:?}");
        for remedy in remedies {
            assert!(failure.next.contains(remedy), "{remedy}: {failure:?}");
        }
        assert!(failure.next.contains("`room` of that node"));
        let is_beyond = failure.next.contains("--beyond-room");
        assert_eq!(admit(&status, "new", one(priority, gib), true).is_ok(), is_beyond, "{why}");
    }
    // A guest of the least importance is told to stop nobody.
    let failure = admit(&counted(10, 64), "new", one(0, 1), false).unwrap_err();
    assert!(!failure.next.contains("stop ") && !failure.next.contains("give it"), "{failure:?}");
    let mut few = counted(64, 64);
    few.nodes[1].room = Some(Room { memory_mib: None, processors: NonZeroU16::new(3) });
    let failure = admit(&few, "new", one(90, 1), false).unwrap_err();
    assert!(failure.what.contains("b1 lacks 1 processor"), "{failure:?}");
}

/// S0-11: guests do not all go where not all of them have room.
#[test]
fn all_go_where_all_have_room() {
    assert_eq!(all_fit(&counted(64, 6), "b1"), Ok(()), "web0 does not run, and does not go");
    let failure = all_fit(&counted(64, 5), "b1").unwrap_err();
    assert!(failure.what.starts_with("b1 has no room for web1: it lacks 1 GiB"), "{failure:?}");
    assert_eq!(all_fit(&counted(64, 2), "c1"), Ok(()), "nothing is known of that");
    let mut follows = counted(64, 2);
    view(&mut follows).leads = false;
    follows.guests.clear();
    assert_eq!(all_fit(&follows, "b1"), Ok(()), "nothing runs here");
}
