//! S0-12, S0-19, S0-20, X25: what is wrong with a site, by its status: each thing once, and nothing else.

use super::{seen, with_guests};
use bulkhead::alerts::conditions::{Words, conditions};
use bulkhead::alerts::raised::Alerts;
use bulkhead::cluster::events::Log;
use bulkhead::cluster::status::{Guest, Health, Lacking, Room, Status};
use bulkhead::failover::wanted::{Apart, Home, Needs, Wanted};
use bulkhead::mirror::view::{Policy, State, View};
use bulkhead_core::alert::kind::{Gravity, Kind};
use bulkhead_core::time::Instant;
use std::num::NonZeroU32;

/// All is well on a1, which leads the volumes and runs these guests.
pub fn well() -> Status {
    let mut status = with_guests(true, "up", &[1, 2, 3]);
    let view = view(&mut status);
    (view.leads, view.state, view.wanted) = (true, State::Synced, Policy::Back);
    let guest = |(name, state): (&str, &str)| Guest {
        name: name.into(),
        state: state.into(),
        priority: 100,
        failures: 0,
        why: String::new(),
        silent_ms: None,
    };
    let runs = [("web1", "running"), ("db", "running"), ("test", "running"), ("old", "off")];
    status.guests = runs.map(guest).to_vec();
    status
}

pub fn view(status: &mut Status) -> &mut View {
    status.storage.as_mut().unwrap()
}

/// What is wanted of the guest that is the `at`th volume.
pub fn wanted(status: &mut Status, at: usize) -> &mut Wanted {
    view(status).volumes[at].guest.as_mut().unwrap()
}

fn found(status: &Status) -> Vec<(&'static str, Words)> {
    conditions(status).into_iter().map(|(condition, words)| (condition.kind.name(), words)).collect()
}

/// A guest's needs: so many GiB and a processor.
pub fn takes(gib: u64) -> Option<Needs> {
    Some(Needs::of(gib << 30, 1))
}

fn apart(name: &str) -> Option<Apart> {
    Some(Apart::try_from(name.to_owned()).unwrap())
}

#[test]
fn nothing_is_wrong_with_a_site_that_is_well() {
    assert_eq!(found(&well()), []);
    let mut at_home = well();
    wanted(&mut at_home, 0).home = Some(Home::A);
    wanted(&mut at_home, 1).apart = apart("dcs");
    // Not to run, and so with nobody.
    wanted(&mut at_home, 3).apart = apart("dcs");
    wanted(&mut at_home, 3).home = Some(Home::B);
    view(&mut at_home).volumes[5].wanted = Some(Policy::Through);
    assert_eq!(found(&at_home), []);
}

/// The voters would have a1 lead, which missed writes: nobody else is there (F18).
fn stale(status: &mut Status) {
    let view = view(status);
    (view.leads, view.state, view.primary) = (false, State::Stale, None);
    view.waits = Some("it missed writes".into());
}

/// One that was taken out hears of nobody who leads, and is not asked about that.
#[test]
fn who_was_taken_out_does_not_say_that_nobody_leads() {
    let mut status = well();
    stale(&mut status);
    view(&mut status).holders[0].removed = true;
    assert_eq!(found(&status), []);
}

/// A change of a site that is well, what is told of it, with whom, and words of the sentence.
type Case = (fn(&mut Status), &'static str, &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    (|s| view(s).state = State::Waiting, "nobody-leads", "pair 1", &["guests wait or are down"]),
    (stale, "nobody-leads", "pair 1", &["guests wait or are down: it missed writes"]),
    (|s| view(s).scrub.damaged_blocks = 3, "damaged", "a1", &["3 blocks", "store of a1"]),
    (|s| s.guests[1].state = "waiting".into(), "guests-down", "pair 1", &["guest db is to run and does not"]),
    (
        |s| (s.guests[1].state, s.guests[1].why) = ("down".into(), "there is no room for it".into()),
        "guests-down",
        "pair 1",
        &["guest db is to run and does not: there is no room for it"],
    ),
    (
        |s| s.guests[..3].iter_mut().for_each(|guest| guest.state = "down".into()),
        "guests-down",
        "pair 1",
        &["3 guests", "web1, db, test"],
    ),
    (
        |s| s.guests[1].silent_ms = Some(3000),
        "guests-silent",
        "pair 1",
        &["the heartbeat of 1 guest is lost: db"],
    ),
    (|s| s.nodes[1].verdict = "silent".into(), "node-away", "b1", &["the node b1 is not heard"]),
    (|s| s.nodes[2].verdict = "unknown".into(), "node-away", "witness", &["the witness"]),
    (
        |s| s.nodes[2].health = Some(Health { votes: false, ..super::WELL }),
        "no-vote",
        "witness",
        &["does not vote"],
    ),
    (
        |s| view(s).holders[1].in_sync = false,
        "replica-behind",
        "b1",
        &["pair 1 on b1 is behind", "only one left"],
    ),
    (
        |s| (view(s).holders[1].in_sync, view(s).holders[1].removed) = (false, true),
        "replica-behind",
        "b1",
        &["taken out"],
    ),
    (|s| view(s).full = Some("no room".into()), "store-full", "a1", &["full: no room"]),
    (|s| s.nodes[1].paths[1].alive = false, "network-away", "b1, network 2", &["not heard on network 2"]),
    (
        |s| wanted(s, 0).home = Some(Home::B),
        "guests-away",
        "compartment b",
        &["guest web1 of compartment b runs in compartment a, on a1"],
    ),
    (
        |s| {
            (wanted(s, 0).home, wanted(s, 1).home) = (Some(Home::B), Some(Home::B));
            wanted(s, 2).home = Some(Home::A);
        },
        "guests-away",
        "compartment b",
        &["2 guests", "web1, db; with 1 of compartment a: both sets now run there"],
    ),
    (
        |s| (wanted(s, 0).apart, wanted(s, 2).apart) = (apart("dcs"), apart("dcs")),
        "together",
        "dcs",
        &["web1, test are to be apart, and all run on a1"],
    ),
    (
        |s| {
            s.nodes[1].room = Some(Room { memory_mib: NonZeroU32::new(4096), processors: None });
            (wanted(s, 0).needs, wanted(s, 1).needs) = (takes(3), takes(2));
        },
        "crowded",
        "b1",
        &["if a1 is lost, web1 would be down", "b1 has no room for it, and lacks 1 GiB of memory"],
    ),
    (
        |s| (view(s).wanted, view(s).volumes[5].wanted) = (Policy::Through, Some(Policy::Back)),
        "cached",
        "pair 1",
        &["pair 1 is resilient, and of its 6 volumes one is cached: web1"],
    ),
    (|s| s.nodes[1].configuration = Some("differs".into()), "files-differ", "b1", &["site file of b1"]),
    (
        |s| s.lacks.push(Lacking { what: "memory".into(), why: "not locked".into() }),
        "lacking",
        "memory",
        &["not locked"],
    ),
];

#[test]
fn each_thing_that_is_wrong_is_one_alert() {
    for (change, kind, subject, parts) in CASES {
        let mut status = well();
        change(&mut status);
        let found = found(&status);
        let [(name, words)] = found.as_slice() else { panic!("{kind}: {found:?}") };
        assert_eq!((name, words.subject.as_str()), (kind, *subject));
        let all = parts.iter().all(|part| words.what.contains(part));
        assert!(all && !words.next.is_empty(), "{kind}: {words:?}");
    }
}

/// A node that follows says nothing of what the one knows that leads; one without volumes, nothing of them.
#[test]
fn who_does_not_lead_leaves_it_to_who_does() {
    let mut follows = well();
    view(&mut follows).leads = false;
    (view(&mut follows).holders[1].in_sync, follows.guests) = (false, Vec::new());
    wanted(&mut follows, 0).home = Some(Home::B);
    assert_eq!(found(&follows), []);
    assert_eq!(found(&seen(("up", "slave"), "up", Some(1), &[1, 2, 3])), []);
}

/// The guide has each kind, with its bounds.
#[test]
fn the_guide_has_all_of_them() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/alerts.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    for kind in Kind::ALL {
        let name = match kind.gravity() {
            Gravity::Critical => format!("**{}**", kind.name()),
            Gravity::Warning => kind.name().to_owned(),
        };
        let (raised, cleared) = (kind.raised_after().as_secs(), kind.cleared_after().as_secs());
        let row = guide.lines().find(|line| line.starts_with(&format!("| {name} |")));
        assert!(row.unwrap().ends_with(&format!("| {raised} | {cleared} |")), "{name}: {row:?}");
    }
}

/// X25: all at once are all told, in the order of their gravity, and when they are over, so is each.
#[test]
fn alerts_are_told_when_they_begin_and_when_they_end() {
    let (mut alerts, mut log) = (Alerts::default(), Log::new());
    let mut bad = well();
    // The last case of each kind stays.
    CASES.iter().for_each(|(change, ..)| change(&mut bad));
    let look = |alerts: &mut Alerts, second: u64, status: &Status, log: &mut Log| {
        alerts.look(Instant::from_millis(second * 1000), status, log);
    };
    for second in 0..=20 {
        look(&mut alerts, second, &bad, &mut log);
    }
    let shown = alerts.show(Instant::from_millis(20_000));
    let mut gravities: Vec<_> = shown.iter().map(|alert| alert.gravity.as_str()).collect();
    gravities.dedup();
    assert_eq!(gravities, ["critical", "warning"]);
    let full = shown.iter().find(|alert| alert.kind == "store-full").unwrap();
    assert_eq!((full.for_ms, full.subject.as_str()), (20_000, "a1"));
    for second in 21..=30 {
        look(&mut alerts, second, &well(), &mut log);
    }
    assert_eq!(alerts.show(Instant::from_millis(30_000)), []);
    log.pass_on();
    let told = log.reader().after(0, usize::MAX, std::time::Duration::ZERO);
    let of_kind = |kind: &str| told.iter().filter(|event| event.kind == kind).count();
    assert_eq!((of_kind("alert-raised"), of_kind("alert-cleared")), (shown.len(), shown.len()));
    let first = told.iter().find(|event| event.fields["alert"] == "store-full").unwrap();
    assert_eq!(
        first.text,
        "alert, store-full: the store of a1 is full: no room; the log has room for 0 bytes"
    );
}
