//! Nodes that come and go while the agents run: `bulkhead config apply` (S2-07, S2-08, F54).

use crate::harness::Site;
use serde_json::Value;

/// The events of `node` about the node `about`.
fn membership(site: &Site, node: usize, about: u64) -> Vec<String> {
    let of = |event: &Value| event["kind"] == "membership" && event["node"] == about;
    let events = site.events(node).into_iter().filter(of);
    events.map(|event| event["what"].as_str().unwrap().to_owned()).collect()
}

fn apply(site: &Site, node: usize) -> (i32, String) {
    site.run(node, &["config", "apply"])
}

/// A node is added to a running site and taken out again; the master stays, and no agent is restarted.
#[test]
fn a_node_is_added_and_removed_while_the_site_runs() {
    let mut site = Site::new();
    site.start_at_once();
    let status = site.wait("all is well", 1, |status| status["protected"] == true);
    let (master, slave) = if status["role"] == "master" { (1, 2) } else { (2, 1) };
    let (won, pid) = (site.times_master(master), site.pid(master));
    assert_eq!(apply(&site, 1), (0, "nothing changed\n".into()));
    site.add_a2();
    for node in [1, 2] {
        assert_eq!(apply(&site, node), (0, "a2 is a node of the site from now on\n".into()));
    }
    site.hang_up(3);
    site.wait("the witness took its file", 3, |status| status["nodes"].as_array().unwrap().len() == 4);
    site.start(4);
    let is_up = |status: &Value| {
        let a2 = &status["nodes"][3];
        a2["name"] == "a2" && a2["verdict"] == "up" && a2["configuration"] == "same" && a2["role"] == "slave"
    };
    site.wait("a2 takes part", 1, is_up);
    site.wait("a2 takes part", 2, is_up);
    site.wait("a2 knows the others", 4, |status| {
        let nodes = status["nodes"].as_array().unwrap();
        nodes[..3].iter().all(|node| node["verdict"] == "up" && node["configuration"] == "same")
    });
    // It takes the role when both others give it up, and is not taken out while it has it.
    site.run(slave, &["node", "leave", &slave.to_string()]);
    site.run(master, &["node", "leave", &master.to_string()]);
    site.wait("a2 is master", 4, |status| status["role"] == "master" && status["leaseLeftMs"] != Value::Null);
    site.wait("it is heard of", slave, |status| status["nodes"][3]["role"] == "master");
    for node in 1..=3 {
        site.rewrite(node, |config| config.members.truncate(3));
    }
    let (code, text) = apply(&site, slave);
    assert!(code == 3 && text.contains("a2 has a role"), "{text}");
    assert_eq!(site.status(slave).unwrap()["nodes"].as_array().unwrap().len(), 4, "nothing was changed");
    // X21: the last one that can be master is held, until somebody says that it is meant.
    let (code, text) = site.run(4, &["node", "leave", "4"]);
    assert!(code == 3 && text.contains("held: pair 1 stops"), "{text}");
    let word = text.split("--override ").nth(1).unwrap()[..8].to_owned();
    assert_eq!(site.status(4).unwrap()["role"], "master");
    let (code, text) = site.run(4, &["node", "leave", "4", "--override", &word]);
    assert_eq!(code, 0, "{text}");
    site.run(master, &["node", "join", &master.to_string()]);
    site.run(slave, &["node", "join", &slave.to_string()]);
    site.wait("one of the others is master", slave, |status| {
        status["nodes"].as_array().unwrap()[..2].iter().any(|node| node["role"] == "master")
            || status["role"] == "master"
    });
    site.stop(4);
    for node in 1..=3 {
        assert_eq!(apply(&site, node), (0, "a2 is not a node of the site any more\n".into()), "node {node}");
    }
    let is_well =
        |status: &Value| status["protected"] == true && status["nodes"].as_array().unwrap().len() == 3;
    site.wait("all is well without it", 1, is_well);
    for node in [1, 2] {
        assert_eq!(membership(&site, node, 4), ["added", "removed"]);
    }
    assert!(won <= site.times_master(master) && site.pid(master) == pid);
    site.never_two_masters();
}

/// What cannot be taken is named, and nothing of the file is: neither is what is wrong with it.
#[test]
fn what_a_running_agent_cannot_take_is_named() {
    let mut site = Site::new();
    site.start_all();
    site.wait("all is well", 1, |status| status["protected"] == true);
    let digest = |site: &Site| site.status(1).unwrap()["site"]["digest"].clone();
    let before = digest(&site);
    site.add_a2();
    site.rewrite(1, |config| {
        config.members[3].voter = true;
        config.members[0].voter = false;
        config.timers.drift_ppm = Some(500);
    });
    let (code, text) = apply(&site, 1);
    assert_eq!(code, 3, "{text}");
    for part in ["[timers]", "`nbd` or `guests` of a1", "restart the agents", "Nothing was changed"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(digest(&site), before);
    // By a signal, there is nobody to tell but the log.
    site.hang_up(1);
    let told = |site: &Site| site.events(1).iter().filter(|event| event["kind"] == "not-applied").count();
    site.wait("it is told", 1, |_| told(&site) == 2);
    std::fs::write(site.path("1.toml"), "[site]\nname = 7\n").unwrap();
    let socket = site.socket(1);
    let socket = socket.to_str().unwrap();
    let ask = |words: &[&str]| crate::common::bulkhead(words).args(["--socket", socket]).output().unwrap();
    let out = ask(&["config", "apply"]);
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("1.toml") && text.contains("Nothing was changed"), "{text}");
    assert!(ask(&["status", "--one-line"]).status.success(), "and all goes on as before");
}
