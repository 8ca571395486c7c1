//! What `bulkhead status` says in the situations an operator meets: the first line, the outlook, the whole
//! screen as golden files (`UPDATE=1` writes them anew), the line for monitoring systems.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

mod alerts;
mod homing;
mod room;

use bulkhead::cluster::holds::why;
use bulkhead::cluster::outlook::outlook;
use bulkhead::cluster::status::{
    API_VERSION, Controller, Counters, Guest, Health, Lacking, Node, NodeName, Pair, PathState, Profile,
    Site, State, Status, Voter,
};
use bulkhead::cluster::status_text::{one_line, text};
use bulkhead::failover::forecast::{Forecast, Part, forecast, parts};
use bulkhead::failover::wanted::{Policy, Wanted};
use bulkhead::failure::Exit;
use bulkhead::mirror::view::{self as mirror, HolderView, View, VolumeView};

fn name(id: u16) -> NodeName {
    NodeName { id, name: ["", "a1", "b1", "witness"][usize::from(id)].into() }
}

fn path(network: u8, alive: bool) -> PathState {
    PathState {
        network,
        heard_ms: Some(if alive { 40 } else { 12_000 }),
        round_trip_us: Some(380),
        loss_permille: if alive { 0 } else { 1000 },
        alive,
    }
}

fn node(id: u16, verdict: &str, role: &str) -> Node {
    let alive = matches!(verdict, "up" | "slow");
    let side = ["", "a", "b", ""][usize::from(id)];
    Node {
        id,
        name: name(id).name,
        witness: id == 3,
        pair: (id != 3).then_some(1),
        side: (id != 3).then(|| side.into()),
        voter: true,
        verdict: verdict.into(),
        room: None,
        role: role.into(),
        paths: if verdict == "self" { Vec::new() } else { vec![path(1, alive), path(2, alive)] },
        silences: 0,
        health: None,
        configuration: (verdict != "self").then(|| "same".into()),
    }
}

/// A site as a1 sees it: who is heard, who is master, who decides.
fn seen(b1: (&str, &str), witness: &str, master: Option<u16>, voters: &[u16]) -> Status {
    let nodes = vec![node(1, "self", "master"), node(2, b1.0, b1.1), node(3, witness, "witness")];
    let pair = Pair {
        pair: 1,
        master: master.map(name),
        epoch: 4,
        voters: voters.to_vec(),
        uncounted: Vec::new(),
        reduced: voters.len() < 3,
    };
    let outcome = outlook(std::slice::from_ref(&pair), &nodes, "within 1.6 s");
    Status {
        api_version: API_VERSION.into(),
        version: "0.1.0".into(),
        protected: outcome.parts.iter().all(|part| part.survives),
        summary: outcome.summary,
        state: outcome.state,
        site: Site { id: "2f1cb1a0".into(), name: "plant-7".into(), digest: "aa".into() },
        node: name(1),
        role: "master".into(),
        epoch: 4,
        lease_left_ms: Some(812),
        reason: "it holds the register of the pair".into(),
        pairs: vec![pair],
        controller: Controller {
            node: Some(name(1)),
            epoch: 2,
            lease_left_ms: Some(790),
            reason: String::new(),
        },
        voter: Voter { mode: "voting".into(), life: 7, dropped: 0 },
        profile: None,
        resources: Vec::new(),
        storage: None,
        guests: Vec::new(),
        alerts: Vec::new(),
        nodes,
        outlook: outcome.parts,
        takeover_ms: 1600,
        lacks: Vec::new(),
        last_error: None,
        counters: Counters::default(),
        uptime_ms: 1000,
    }
}

fn golden(file: &str, found: &str) {
    let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), found, "UPDATE=1 writes {file}");
}

fn survives(status: &Status, part: &str) -> bool {
    status.outlook.iter().find(|outlook| outlook.part == part).unwrap().survives
}

#[test]
fn all_is_well() {
    let status = seen(("up", "slave"), "up", Some(1), &[1, 2, 3]);
    assert!(status.protected && status.state == State::Ok);
    assert!(status.summary.starts_with("protected: a1 is master of pair 1"));
    assert!(["a1", "b1", "witness", "network 1", "network 2"].iter().all(|part| survives(&status, part)));
    golden("status-protected.txt", &text(&status));
    let (line, code) = one_line(&status);
    assert!(
        line.starts_with("BULKHEAD OK - protected") && line.contains("| nodes_up=3;;;0;3 epoch=4"),
        "{line}"
    );
    assert_eq!((code, line.matches('\n').count()), (0, 1));
}

#[test]
fn the_other_compartment_is_lost_and_the_master_may_go_on_alone() {
    let mut status = seen(("silent", "unknown"), "up", Some(1), &[1]);
    status.nodes[1].silences = 1;
    status.last_error = Some("b1 was not fenced: its fencing device did not answer within 20 s".into());
    status.lacks.push(Lacking { what: "memory".into(), why: "not locked in memory".into() });
    let profile = "a majority of the site answers, and its management system runs";
    status.profile = Some(Profile { row: 1, start: "infrastructure".into(), reason: profile.into() });
    assert!(!survives(&status, "a1") && survives(&status, "witness"));
    golden("status-alone.txt", &text(&status));
    assert_eq!(one_line(&status).1, 1);
}

/// X04: with the witness away and nothing agreed yet, the loss of either node stops the pair.
#[test]
fn the_witness_is_lost_and_nothing_is_agreed_yet() {
    let status = seen(("up", "slave"), "silent", Some(1), &[1, 2, 3]);
    assert!(!survives(&status, "a1") && !survives(&status, "b1"));
    assert_eq!(status.state, State::Warning);
    golden("status-witness-away.txt", &text(&status));
}

#[test]
fn nobody_is_master() {
    let status = seen(("silent", "unknown"), "silent", None, &[1, 2, 3]);
    assert_eq!(status.state, State::Critical);
    assert!(status.summary.contains("this node hears too few of its 3 voters"), "{}", status.summary);
    assert_eq!(one_line(&status).1, 2);
    golden("status-no-master.txt", &text(&status));
}

#[test]
fn a_network_that_is_cut_already_makes_the_other_one_fatal() {
    let mut status = seen(("up", "slave"), "up", Some(1), &[1, 2, 3]);
    for node in &mut status.nodes[1..] {
        node.paths[1] = path(2, false);
    }
    let outcome = outlook(&status.pairs, &status.nodes, "within 1.6 s");
    let network_1 = outcome.parts.iter().find(|part| part.part == "network 1").unwrap();
    assert!(!network_1.survives && network_1.then.contains("b1 is cut off"), "{network_1:?}");
    assert!(outcome.summary.contains("network 1 must not fail now"), "{}", outcome.summary);
}

#[test]
fn the_json_reads_back_and_names_its_version() {
    let status = seen(("up", "slave"), "up", Some(1), &[1, 2, 3]);
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["apiVersion"], "bulkhead.status/1");
    assert_eq!((json["role"].clone(), json["leaseLeftMs"].clone()), ("master".into(), 812.into()));
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
}

/// S4-08: a mirror group that is not in sync is the first thing that is said, whoever may take over.
#[test]
fn volumes_in_one_place_are_not_protected() {
    let mut status = seen(("up", "slave"), "up", Some(1), &[1, 2, 3]);
    let view = View {
        state: mirror::State::Degraded,
        epoch: 9,
        primary: Some(1),
        dirty_bytes: 12 << 20,
        volumes: vec![VolumeView { number: 1, name: "vm1".into(), ..VolumeView::default() }],
        ..View::default()
    };
    let line = view.line(1, |node| name(node).name);
    let outcome = outlook(&status.pairs, &status.nodes, "within 1.6 s");
    let well = outcome.clone().beside(mirror::State::Synced, &line);
    assert_eq!(well, outcome);
    assert_eq!(outcome.clone().beside(mirror::State::Waiting, &line).state, State::Critical);
    let outcome = outcome.beside(view.state, &line);
    (status.state, status.summary, status.outlook) = (outcome.state, outcome.summary, outcome.parts);
    status.storage = Some(view);
    assert_eq!((status.state, one_line(&status).1), (State::Warning, 1));
    golden("status-volumes.txt", &text(&status));
}

/// S2-08: a node that left is up, votes, and cannot take over.
#[test]
fn a_node_that_takes_no_part_is_named() {
    let status = seen(("up", "stopped"), "up", Some(1), &[1, 2, 3]);
    assert!(
        status.summary.ends_with("but a1 must not fail now, because b1 takes no part"),
        "{}",
        status.summary
    );
}

/// F25: a voter that was not seen when the record was written does not help a successor.
#[test]
fn a_voter_that_does_not_count_yet_is_named() {
    let mut status = seen(("up", "slave"), "up", Some(1), &[1, 2, 3]);
    status.pairs[0].uncounted = vec![3];
    let outcome = outlook(&status.pairs, &status.nodes, "within 1.6 s");
    let a1 = outcome.parts.iter().find(|part| part.part == "a1").unwrap();
    assert!(!a1.survives && a1.then.contains("too few voters are left"), "{a1:?}");
    assert!(outcome.summary.ends_with("because witness's vote does not count yet"), "{}", outcome.summary);
}

/// The status when the witness said that it is so.
fn with_witness(health: Health) -> Status {
    let mut status = seen(("up", "slave"), "up", Some(1), &[1, 2, 3]);
    status.nodes[2].health = Some(health);
    let outcome = outlook(&status.pairs, &status.nodes, "within 1.6 s");
    (status.state, status.summary, status.outlook) = (outcome.state, outcome.summary, outcome.parts);
    status
}

const WELL: Health = Health {
    votes: true,
    starts: 4,
    failures: 0,
    silent_resets: 0,
    failing: false,
    votes_written: 17,
    uptime_ms: 8_000_000,
    heard_ms: 900,
};

/// F13: failures of long ago are a number; one of late is a warning, though any one part may fail.
#[test]
fn a_witness_that_fails_again_and_again_is_a_warning() {
    let status = with_witness(Health { failures: 1, silent_resets: 2, ..WELL });
    assert_eq!(status.state, State::Ok);
    assert!(text(&status).contains("  witness: votes; start 4, up 2 h, 1 failure, 2 silent resets\n"));
    let status = with_witness(Health { failures: 2, failing: true, ..WELL });
    assert_eq!((status.state, one_line(&status).1), (State::Warning, 1));
    assert!(status.summary.ends_with("and any one part may fail; witness fails"), "{}", status.summary);
    golden("status-witness-fails.txt", &text(&status));
}

/// F25: a witness whose card failed is up and cannot help: what would happen is what happens without it.
#[test]
fn a_witness_that_does_not_vote_protects_nobody() {
    let status = with_witness(Health { votes: false, ..WELL });
    assert!(!survives(&status, "a1") && !survives(&status, "b1") && survives(&status, "witness"));
    assert!(status.summary.ends_with("because witness does not vote"), "{}", status.summary);
    golden("status-witness-mute.txt", &text(&status));
}

/// A site with guests, whose volumes a1 leads.
fn with_guests(b1_in_sync: bool, witness: &str, voters: &[u16]) -> Status {
    let mut status = seen(("up", "slave"), witness, Some(1), voters);
    let guest = |(number, name, running, policy, priority): (u16, &str, bool, Policy, u8)| VolumeView {
        number,
        name: name.into(),
        guest: Some(Wanted { running, policy, priority, home: None, apart: None, needs: None }),
        ..VolumeView::default()
    };
    let guests = [
        (1, "web1.guest", true, Policy::Resume, 100),
        (2, "db.guest", true, Policy::Restart, 200),
        (3, "test.guest", true, Policy::Stay, 255),
        (4, "old.guest", false, Policy::Restart, 255),
        (6, "web0.guest", true, Policy::Restart, 100),
    ];
    let disk = VolumeView { number: 5, name: "web1".into(), ..VolumeView::default() };
    let holder = |node, in_sync| HolderView { node, in_sync, connected: true, ..HolderView::default() };
    status.storage = Some(View {
        primary: Some(1),
        holders: vec![holder(1, true), holder(2, b1_in_sync)],
        at_risk_bytes: Some(if b1_in_sync { 0 } else { 4096 }),
        volumes: guests.map(guest).into_iter().chain([disk]).collect(),
        ..View::default()
    });
    status
}

fn lose(status: &Status, kind: &str, name: &str) -> Forecast {
    forecast(status, &Part::named(kind, name).unwrap()).unwrap()
}

fn down(forecast: &Forecast) -> Vec<&str> {
    forecast.down.iter().map(|down| down.guest.as_str()).collect()
}

/// X09: the node that leads is lost: who begins where, in which order, and who does not.
#[test]
fn the_loss_of_the_node_that_leads_is_forecast() {
    let status = with_guests(true, "up", &[1, 2, 3]);
    for (kind, name) in [("node", "a1"), ("compartment", "a")] {
        let then = lose(&status, kind, name);
        assert_eq!((then.nodes.as_slice(), then.leads.as_slice()), (&["a1".into()][..], &["b1".into()][..]));
        assert_eq!((then.moves, then.within_ms, then.only_there_bytes), (true, 1600, 0));
        let begins: Vec<_> = then.begins.iter().map(|one| (one.guest.as_str(), one.policy)).collect();
        let expected = [("db", Policy::Restart), ("web1", Policy::Resume), ("web0", Policy::Restart)];
        assert_eq!(begins, expected);
        assert_eq!((down(&then), then.goes_on.len()), (vec!["test"], 0));
    }
    for (kind, name) in [("node", "b1"), ("witness", "witness")] {
        let then = lose(&status, kind, name);
        assert_eq!((then.leads.as_slice(), then.moves), (&["a1".to_owned()][..], false), "{name}");
        assert_eq!((then.begins.len(), down(&then).len(), then.within_ms), (0, 0, 0), "{name}");
        assert_eq!(then.goes_on, ["test", "db", "web1", "web0"], "{name}");
    }
    // A node that follows knows of itself whether the voters count it.
    let mut follows = with_guests(false, "up", &[1, 2, 3]);
    follows.node = name(2);
    assert_eq!(lose(&follows, "node", "a1").leads.len(), 0);
    follows.storage.as_mut().unwrap().state = mirror::State::Synced;
    assert_eq!(lose(&follows, "node", "a1").leads, ["b1"]);
    let names: Vec<String> = parts(&status).iter().map(Part::to_string).collect();
    assert_eq!(names, ["a1", "b1", "witness"], "a compartment of one node is that node");
}

/// X09, I3, X04: where nobody may lead afterwards, that is said, with why, and what only the lost one has.
#[test]
fn a_loss_that_stops_all_is_forecast() {
    let behind = lose(&with_guests(false, "up", &[1, 2, 3]), "node", "a1");
    assert!(behind.because.as_ref().unwrap().contains("a1 must come back"), "{behind:?}");
    assert_eq!((behind.only_there_bytes, behind.leads.len(), behind.moves), (4096, 0, false));
    assert_eq!(down(&behind), ["test", "db", "web1", "web0"]);
    // The witness is away, and nothing is agreed yet.
    let status = with_guests(true, "silent", &[1, 2, 3]);
    for (lost, why) in [("a1", "too few voters"), ("b1", "a1 stops: too few voters")] {
        let then = lose(&status, "node", lost);
        assert!(then.because.as_ref().unwrap().contains(why), "{then:?}");
        assert_eq!((down(&then).len(), then.only_there_bytes), (4, 0));
    }
    // It has agreed on going on alone.
    let then = lose(&with_guests(true, "silent", &[1]), "node", "b1");
    assert_eq!((then.because, then.goes_on.len()), (None, 4));
}

/// X09, X04: who leads the volumes is decided by the voters on that. The witness is away, the master a1 and
/// b1, which leads the volumes, have each agreed on going on alone.
#[test]
fn the_voters_on_the_volumes_decide_about_them() {
    let mut status = with_guests(true, "silent", &[1]);
    let view = status.storage.take().unwrap();
    status.storage = Some(View { primary: Some(2), voters: vec![2], ..view });
    let then = lose(&status, "node", "a1");
    assert_eq!((then.because.as_ref(), then.leads.as_slice()), (None, &["b1".to_owned()][..]), "{then:?}");
    assert_eq!((then.goes_on.len(), down(&then).len()), (4, 0));
    let then = lose(&status, "node", "b1");
    assert!(then.because.as_ref().unwrap().contains("too few voters"), "{then:?}");
    assert_eq!((then.leads.len(), down(&then).len()), (0, 4));
    // A vote that does not count yet decides nothing.
    let view = status.storage.take().unwrap();
    status.storage = Some(View { voters: vec![1, 2, 3], uncounted: vec![1], ..view });
    assert!(lose(&status, "witness", "witness").because.is_some());
}

/// S3-14: guests that are to run and do not are on the screen, with why.
#[test]
fn guests_that_are_down_are_shown() {
    let mut status = with_guests(true, "up", &[1, 2, 3]);
    let guest = |(name, state, failures, why): (&str, &str, u8, &str)| Guest {
        name: name.into(),
        state: state.into(),
        priority: 100,
        failures,
        why: why.into(),
        silent_ms: None,
    };
    let all = [
        ("db", "running", 0, ""),
        ("web1", "waiting", 3, "guest web1 did not begin: no bridge br0"),
        ("test", "left", 0, ""),
        ("old", "off", 0, ""),
    ];
    status.guests = all.map(guest).to_vec();
    let shown = text(&status);
    let expected = "\nguests: 1 of 3 that are to run do, here\n\
                    ! web1  waiting, failed 3 times in a row: guest web1 did not begin: no bridge br0\n\
                    ! test  left\n";
    assert!(shown.contains(expected), "{shown}");
}

/// X21: what would be the end of something is held, in every state of a site; what would not, and what has
/// ended already, is not.
#[test]
fn what_would_take_the_last_of_something_is_held() {
    let held = |status: &Status, node: &str| why(status, node);
    let well = with_guests(true, "up", &[1, 2, 3]);
    assert_eq!(["a1", "b1", "witness"].map(|node| held(&well, node)), [None, None, None]);
    let mut all = 0;
    for (b1, witness, voters) in [
        ("up", "up", &[1, 2, 3][..]),
        ("up", "silent", &[1, 2, 3]),
        ("up", "silent", &[1, 2]),
        ("silent", "up", &[1, 3]),
        ("silent", "up", &[1]),
        ("silent", "silent", &[1]),
        ("silent", "silent", &[1, 2, 3]),
    ] {
        for (in_sync, master) in [(true, Some(1)), (false, Some(1)), (true, None), (false, None)] {
            let role = if b1 == "up" { "slave" } else { "unknown" };
            let mut status = seen((b1, role), witness, master, voters);
            let holders = with_guests(in_sync, witness, voters).storage.unwrap();
            status.storage = Some(View { primary: master, ..holders });
            for node in ["a1", "b1", "witness"] {
                let goes_on = |status: &Status| {
                    let then = lose(status, "node", node);
                    let outlook = status.outlook.iter().find(|part| part.part == node);
                    then.because.is_none() && outlook.is_none_or(|part| part.survives)
                };
                let expected = master.is_some() && !goes_on(&status);
                let why = held(&status, node);
                assert_eq!(why.is_some(), expected, "{node} of {b1} {witness} {voters:?} {in_sync}: {why:?}");
                all += usize::from(expected);
            }
        }
    }
    assert!(10 < all, "hardly any state was one in which something ends: {all}");
    // Guests that run here could move instead; another node's are not known here.
    let busy = alerts::well();
    let why_not = held(&busy, "a1").unwrap();
    assert!(why_not.starts_with("web1, db, test would begin anew on b1; `bulkhead vm migrate"), "{why_not}");
    assert_eq!(held(&busy, "b1"), None);
    // The last copy, though a master would be left.
    let behind = with_guests(false, "up", &[1, 2, 3]);
    assert!(survives(&behind, "a1") && held(&behind, "a1").unwrap().contains("every acknowledged write"));
}

#[test]
fn a_part_that_there_is_not_is_refused() {
    let status = with_guests(true, "up", &[1, 2, 3]);
    for (kind, name) in [("node", "c1"), ("compartment", "c")] {
        let why = forecast(&status, &Part::named(kind, name).unwrap()).unwrap_err();
        assert!(why.exit == Exit::Usage && why.next.contains("a1, b1, witness"), "{why:?}");
    }
    assert_eq!(Part::named("rack", "1").unwrap_err().exit, Exit::Usage);
    let none = seen(("up", "slave"), "up", Some(1), &[1, 2, 3]);
    assert!(forecast(&none, &Part::Node("a1".into())).unwrap_err().what.contains("has no volumes"));
}
