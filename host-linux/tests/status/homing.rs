//! S0-09: guests that run in the other compartment go home when that is well, and only then.

use super::alerts::{view, wanted, well};
use super::seen;
use bulkhead::cluster::status::Status;
use bulkhead::failover::homing::{Homing, homing};
use bulkhead::failover::wanted::Home;
use bulkhead::failure::Exit;
use bulkhead::mirror::view::State;

/// A site whose b1 is the home of one guest that runs on a1.
fn away() -> Status {
    let mut status = well();
    wanted(&mut status, 1).home = Some(Home::B);
    status
}

#[test]
fn guests_go_to_the_node_of_their_home_that_has_all() {
    let found = homing(&away()).unwrap();
    assert_eq!(found, Homing::To { node: "b1".into(), guests: vec!["db".into()] });
    // One that does not run is not moved, and holds nobody back.
    let mut off = away();
    (wanted(&mut off, 3).home, wanted(&mut off, 0).home) = (Some(Home::A), Some(Home::B));
    let Homing::To { guests, .. } = homing(&off).unwrap() else { panic!("they are away") };
    assert_eq!(guests, ["web1", "db"]);
    let mut at_home = well();
    assert_eq!(homing(&at_home), Ok(Homing::AtHome));
    wanted(&mut at_home, 0).home = Some(Home::A);
    assert_eq!(homing(&at_home), Ok(Homing::AtHome));
}

/// A change of a site with a guest away from its home, and why it stays then.
type Case = (fn(&mut Status), &'static str);

#[test]
fn they_stay_while_their_home_is_not_well() {
    let cases: &[Case] = &[
        (|s| s.nodes[1].verdict = "silent".into(), "b1 is not heard"),
        (|s| view(s).holders[1].in_sync = false, "b1 is not in sync"),
        (|s| view(s).holders[1].removed = true, "b1 is not in sync"),
        (|s| view(s).state = State::Resyncing, "not every holder"),
        (|s| view(s).holders.truncate(1), "no node of it keeps"),
        (|s| wanted(s, 0).home = Some(Home::A), "web1 would leave their home if db went"),
        (|s| view(s).leads = false, "a1 does not lead"),
        (|s| *s = seen(("up", "slave"), "up", Some(1), &[1, 2, 3]), "has no volumes"),
    ];
    for (change, why) in cases {
        let mut status = away();
        change(&mut status);
        let failure = homing(&status).unwrap_err();
        assert!(failure.exit == Exit::Refused && failure.what.contains(why), "{why}: {failure:?}");
    }
}
