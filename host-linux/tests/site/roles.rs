//! Two nodes and a witness elect a master, lose it, get it back, stop, freeze, and refuse what they must
//! (S1-18, S1-19, S1-20, S2-03, X04, F14, F16, F19, F36, V2, V13, V24).

use crate::harness::Site;
use std::time::Duration;

#[test]
fn a_master_is_elected_lost_and_replaced_and_the_old_one_follows() {
    let mut site = Site::new();
    site.start_all();
    let well = site.wait("all is well", 1, |status| status["protected"] == true);
    assert_eq!((well["role"].clone(), well["pairs"][0]["master"]["id"].clone()), ("master".into(), 1.into()));
    assert!(well["leaseLeftMs"].as_u64().unwrap() <= 600, "{well}");
    let slave = site.wait("b1 follows", 2, |status| status["role"] == "slave");
    assert!(slave["leaseLeftMs"].is_null() && slave["epoch"].as_u64().unwrap() >= 1, "{slave}");
    assert_eq!(slave["voter"]["mode"], "voting");

    let epoch = well["epoch"].as_u64().unwrap();
    site.kill(1);
    let taken = site.wait("b1 takes over", 2, |status| status["role"] == "master");
    assert!(epoch < taken["epoch"].as_u64().unwrap(), "the epoch rises: {taken}");
    assert!(taken["reason"].as_str().unwrap().contains("the voters gave it the register"), "{taken}");
    let alone = site.wait("b1 may go on alone", 2, |status| status["pairs"][0]["reduced"] == true);
    assert_eq!(alone["pairs"][0]["voters"], serde_json::json!([2]));
    assert!(alone["summary"].as_str().unwrap().contains("because a1 is away"), "{alone}");

    site.start(1);
    let back = site.wait("a1 follows", 1, |status| status["role"] == "slave" && status["protected"] == true);
    assert_eq!(back["pairs"][0]["master"]["id"], 2);
    assert!(site.status(2).unwrap()["role"] == "master", "who is back does not take the role back");
    site.never_two_masters();
}

/// BLACKBOX 6: SIGTERM is a clean stop, and the other one takes over without waiting for the lease.
#[test]
fn a_clean_stop_hands_over_and_all_processes_end_in_time() {
    let mut site = Site::new();
    site.start_all();
    site.wait("all is well", 1, |status| status["protected"] == true);
    let took = site.stop(1);
    assert!(took < Duration::from_secs(5), "{took:?}");
    site.wait("b1 takes over", 2, |status| status["role"] == "master");
    assert!(!site.socket(1).exists(), "a stopped agent leaves no socket");
    assert!(site.log(1).contains("stopping: asked to stop"), "{}", site.log(1));
    site.never_two_masters();
}

/// F19: a master that sleeps longer than its lease wakes up as nobody.
#[test]
fn a_master_that_freezes_wakes_up_and_follows() {
    let mut site = Site::new();
    site.start_all();
    site.wait("all is well", 1, |status| status["protected"] == true);
    site.freeze(1);
    site.wait("b1 takes over", 2, |status| status["role"] == "master");
    site.thaw(1);
    site.wait("a1 follows", 1, |status| status["role"] == "slave");
    let events = site.events(1);
    let lost = events.iter().any(|event| event["kind"] == "role" && event["reason"] == "lease-expired");
    let stood = events.iter().any(|event| event["kind"] == "stalled");
    assert!(lost && stood, "{events:?}");
    site.never_two_masters();
}

/// X04, F26: the witness dies, then the slave: the master goes on. Then it is alone, and says so.
#[test]
fn the_witness_is_lost_and_then_the_peer_and_the_master_goes_on() {
    let mut site = Site::new();
    site.start_all();
    site.wait("all is well", 1, |status| status["protected"] == true);
    site.kill(3);
    site.wait("a1 may go on alone", 1, |status| status["pairs"][0]["voters"] == serde_json::json!([1]));
    site.kill(2);
    std::thread::sleep(Duration::from_secs(2));
    let alone = site.status(1).unwrap();
    assert_eq!((alone["role"].clone(), alone["protected"].clone()), ("master".into(), false.into()));
    assert_eq!(site.one_line(1).0, 1, "WARNING");
    site.start(2);
    site.start(3);
    site.wait("all is well again", 1, |status| status["protected"] == true);
    site.never_two_masters();
}

/// F13: a witness that dies and is started anew votes again, and its nodes warn of it; a clean stop is none.
#[test]
fn a_witness_that_failed_is_a_warning_on_its_nodes() {
    let mut site = Site::new();
    site.start_all();
    let health = |status: &serde_json::Value| status["nodes"][2]["health"].clone();
    let first = site.wait("the witness says how it is", 1, |status| health(status)["starts"] == 1);
    assert_eq!((&health(&first)["votes"], &health(&first)["failing"]), (&true.into(), &false.into()));
    assert_eq!(first["nodes"][1]["health"], serde_json::Value::Null);
    site.stop(3);
    site.start(3);
    site.wait("it was stopped well", 1, |status| health(status)["starts"] == 2);
    site.kill(3);
    site.start(3);
    let failed = site.wait("it failed", 1, |status| health(status)["starts"] == 3);
    assert_eq!((&health(&failed)["silentResets"], &health(&failed)["failing"]), (&1.into(), &true.into()));
    let warning = site.wait("a warning", 1, |status| status["protected"] == true);
    assert_eq!(warning["state"], "warning");
    let (code, line) = site.one_line(1);
    assert!(code == 1 && line.contains("fails"), "{line}");
    assert!(site.events(1).iter().any(|event| event["kind"] == "witness" && event["silentResets"] == 1));
    let own = site.status(3).unwrap();
    assert_eq!((&own["nodes"][2]["health"]["starts"], &own["nodes"][0]["health"]), (&3.into(), &().into()));
}

/// F36, V18: a node that hears nobody is not master, and says why.
#[test]
fn a_node_alone_from_the_start_waits() {
    let mut site = Site::new();
    site.start(2);
    std::thread::sleep(Duration::from_secs(3));
    let alone = site.status(2).unwrap();
    assert_eq!(alone["pairs"][0]["master"], serde_json::Value::Null);
    assert_eq!((site.one_line(2).0, alone["state"].clone()), (2, "critical".into()));
    let summary = alone["summary"].as_str().unwrap();
    assert!(summary.contains("hears too few of its 3 voters"), "{summary}");
    site.start(3);
    site.wait("with the witness it is master", 2, |status| status["role"] == "master");
}

/// S2-03, S2-08.
#[test]
fn the_operator_moves_the_controller_and_takes_a_node_out() {
    let mut site = Site::new();
    site.start_all();
    site.wait("all is well", 1, |status| status["protected"] == true);
    site.wait("a1 is controller", 1, |status| status["controller"]["node"]["id"] == 1);
    let (code, text) = site.run(2, &["controller", "move", "2"]);
    assert!(code == 3 && text.contains("run it on a1"), "{text}");
    assert_eq!(site.run(1, &["controller", "move", "3"]).0, 2, "a witness cannot be controller");
    assert_eq!(site.run(1, &["controller", "move", "2"]).0, 0);
    site.wait("b1 is controller", 1, |status| status["controller"]["node"]["id"] == 2);

    let (code, text) = site.run(2, &["node", "leave", "1"]);
    assert!(code == 3 && text.contains("run it on a1"), "{text}");
    assert_eq!(site.run(1, &["node", "leave", "1"]).0, 0);
    site.wait("b1 is master", 2, |status| status["role"] == "master");
    // A lone master has the missing instance started (S1-20), but not one that the operator stopped.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(site.status(1).unwrap()["role"], "stopped");
    assert!(site.status(2).unwrap()["summary"].as_str().unwrap().contains("a1 takes no part"));
    site.stop(1);
    site.start(1);
    site.wait("a1 still takes no part", 1, |status| status["role"] == "stopped");
    assert_eq!(site.run(1, &["node", "join", "1"]).0, 0);
    site.wait("a1 follows", 1, |status| status["role"] == "slave");
    assert!(site.run(1, &["node", "fences"]).1.contains("nobody was fenced"));
}

/// F14, F15, F54, V40: what belongs to somebody else is refused, by name, before a word is said.
#[test]
fn what_is_not_this_nodes_is_refused() {
    let mut site = Site::new();
    site.start(1);
    site.wait("it runs", 1, |status| status["role"] != "");
    let (code, text) = site.agent(1);
    assert!(code == 3 && text.contains("another agent uses"), "{text}");
    site.stop(1);
    let (code, text) = site.witness(1);
    assert!(code == 2 && text.contains("a1 is no witness"), "{text}");

    std::fs::create_dir(site.state(2)).unwrap();
    std::fs::copy(site.state(1).join("votes"), site.state(2).join("votes")).unwrap();
    let (code, text) = site.agent(2);
    assert!(code == 3 && text.contains("holds the votes of node 1 of site"), "{text}");
    let votes = std::fs::OpenOptions::new().write(true).open(site.state(1).join("votes")).unwrap();
    votes.set_len(4096).unwrap();
    let (code, text) = site.agent(1);
    assert!(code == 3 && text.contains("was truncated"), "{text}");
}

/// V22: nodes with another key are nobody.
#[test]
fn a_node_with_another_key_is_not_heard() {
    let mut site = Site::new();
    site.start(1);
    site.start(3);
    site.wait("a1 is master with the witness", 1, |status| status["role"] == "master");
    site.change_key();
    site.start(2);
    std::thread::sleep(Duration::from_secs(2));
    let status = site.status(1).unwrap();
    assert_eq!(status["nodes"][1]["verdict"], "unknown");
    assert!(status["counters"]["notAuthentic"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(site.status(2).unwrap()["pairs"][0]["master"], serde_json::Value::Null);
}
