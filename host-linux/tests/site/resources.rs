//! Infrastructure resources of real agents: in the order of the boot profile, the management system on one
//! node only, and what happens when they fail (S1-05, S1-06, S1-07, S1-15, V27).

use crate::harness::Site;
use bulkhead::site_config::{Duty, Resource, Runner, RunsOn, SiteConfig, WatchdogDevice};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

/// Keeps its state in a file for each node, and writes down what was done.
const AGENT: &str = r#"#!/bin/sh
state="$OCF_RESKEY_directory/$OCF_RESOURCE_INSTANCE.$TEST_NODE"
now() { echo $(($(date +%s%N) / 1000000)); }
note() { echo "$1 $OCF_RESOURCE_INSTANCE $TEST_NODE $(now)" >>"$OCF_RESKEY_directory/done"; }
case $1 in
start) [ ! -e "$OCF_RESKEY_directory/broken" ] || { echo "it is broken"; exit 1; }; note start; : >"$state" ;;
stop) [ ! -e "$OCF_RESKEY_directory/stuck" ] || exit 1; [ ! -e "$state" ] || note stop; rm -f "$state" ;;
monitor) [ -e "$state" ] || exit 7 ;;
*) exit 3 ;;
esac
"#;

fn site() -> Site {
    site_with(|_, _| ())
}

fn site_with(change: impl Fn(&mut SiteConfig, &Path)) -> Site {
    Site::with(|config, directory| {
        change(config, directory);
        let agent = directory.join("agent");
        std::fs::write(&agent, AGENT).unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = BTreeMap::from([("directory".to_owned(), directory.display().to_string())]);
        let resource = |name: &str, on, order| Resource {
            name: name.into(),
            runner: Runner::Ocf { agent: agent.display().to_string(), options: options.clone() },
            on,
            order,
            start_timeout: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(2),
            interval: Duration::from_secs(1),
        };
        config.resources = vec![
            resource("dhcp", RunsOn::Infrastructure, 20),
            resource("dns", RunsOn::Infrastructure, 10),
            resource("panel", RunsOn::Management, 30),
        ];
        for member in &mut config.members {
            member.external.clear();
            assert!(matches!(member.duty, Duty::Witness { .. } | Duty::Compartment { priority: 1.., .. }));
        }
    })
}

/// What was done so far: verb, resource, node, when in ms.
fn done(site: &Site) -> Vec<(String, String, u16, u64)> {
    let text = std::fs::read_to_string(site.path("done")).unwrap_or_default();
    let line = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        (words[0].into(), words[1].into(), words[2].parse().unwrap(), words[3].parse().unwrap())
    };
    text.lines().map(line).collect()
}

fn when(site: &Site, verb: &str, resource: &str, node: u16) -> Option<u64> {
    let done = done(site);
    let found =
        done.iter().rev().find(|one| (one.0.as_str(), one.1.as_str(), one.2) == (verb, resource, node));
    found.map(|one| one.3)
}

fn state(status: &serde_json::Value, name: &str) -> String {
    let all = status["resources"].as_array().unwrap();
    all.iter().find(|one| one["name"] == name).unwrap()["state"].as_str().unwrap().to_owned()
}

fn started() -> Site {
    let mut site = site();
    site.start_all();
    site.wait("a1 manages", 1, |status| state(status, "panel") == "running");
    site.wait("b1 runs the rest", 2, |status| state(status, "dhcp") == "running");
    site
}

#[test]
fn the_profile_starts_them_in_order_and_the_management_system_once() {
    let mut site = started();
    let a = site.status(1).unwrap();
    assert_eq!(a["profile"]["row"], 2, "{:#}", a["profile"]);
    assert!(a["profile"]["reason"].as_str().unwrap().contains("1 of 1 other nodes contacted"), "{a:#}");
    let b = site.wait("b1 waits for it", 2, |status| status["profile"]["row"] == 1);
    assert_eq!(state(&b, "panel"), "stopped");
    for node in [1, 2] {
        assert!(when(&site, "start", "dns", node) <= when(&site, "start", "dhcp", node), "{:?}", done(&site));
    }
    let lacks = a["lacks"].as_array().unwrap();
    assert!(lacks.iter().any(|lack| lack["why"].as_str().unwrap().contains("[watchdog]")), "{lacks:?}");

    // Without a fence nobody knows when a1's panel ends: b1 waits for as long as a stop may take.
    site.kill(1);
    let b = site.wait("b1 manages", 2, |status| state(status, "panel") == "running");
    assert_eq!(b["profile"]["row"], 4, "{:#}", b["profile"]);
    let events = site.events(2);
    let won = events.iter().rev().find(|event| event["office"] == "controller" && event["role"] == "master");
    let won = won.unwrap()["atMs"].as_u64().unwrap();
    let waited = when(&site, "start", "panel", 2).unwrap() - won;
    assert!(2_000 <= waited, "the management system started {waited} ms after the role was won");

    // a1 comes back, finds what it left, and stops what is not its own any more.
    site.start(1);
    site.wait("a1 has stopped it", 1, |status| state(status, "panel") == "stopped");
    assert!(when(&site, "stop", "panel", 1).is_some() && when(&site, "stop", "dns", 1).is_none());
    assert_eq!(state(&site.status(2).unwrap(), "panel"), "running");
}

/// Stopped before its role is given back; infrastructure serves on while the agent is away.
#[test]
fn a_clean_stop_stops_the_management_system_first_and_leaves_the_rest() {
    let mut site = started();
    assert!(site.stop(1) < Duration::from_secs(5));
    let stopped = when(&site, "stop", "panel", 1).expect("the panel was stopped");
    site.wait("b1 manages", 2, |status| state(status, "panel") == "running");
    assert!(stopped <= when(&site, "start", "panel", 2).unwrap());
    assert!(when(&site, "stop", "dns", 1).is_none(), "{:?}", done(&site));
}

/// F19 for services: who was frozen stops what it held as soon as it wakes; at no time did both start it.
#[test]
fn a_frozen_node_stops_the_management_system_when_it_wakes() {
    let site = started();
    site.freeze(1);
    site.wait("b1 is controller", 2, |status| status["controller"]["node"]["id"] == 2);
    site.thaw(1);
    site.wait("a1 has stopped it", 1, |status| state(status, "panel") == "stopped");
    site.wait("b1 manages", 2, |status| state(status, "panel") == "running");
    let (stop, start) = (when(&site, "stop", "panel", 1), when(&site, "start", "panel", 2));
    assert!(stop.unwrap() < start.unwrap(), "both ran it at once: {:?}", done(&site));
}

#[test]
fn what_fails_is_tried_again_given_up_and_cleaned_up() {
    let mut site = site();
    std::fs::write(site.path("broken"), "").unwrap();
    site.start_all();
    let status = site.wait("dns is given up", 1, |status| state(status, "dns") == "given-up");
    let dns = &status["resources"][1];
    assert_eq!((dns["failures"].clone(), dns["name"].clone()), (3.into(), "dns".into()));
    assert!(dns["why"].as_str().unwrap().contains("exit code 1 (failed): it is broken"), "{dns}");
    let (code, text) = site.run(1, &["resource", "list"]);
    assert!(code == 1 && text.contains("! dns") && text.contains("it is broken"), "{text}");

    std::fs::remove_file(site.path("broken")).unwrap();
    assert_eq!(site.run(1, &["resource", "cleanup", "nothing"]).0, 2);
    assert_eq!(site.run(1, &["resource", "cleanup", "dns"]).0, 0);
    site.wait("dns runs", 1, |status| state(status, "dns") == "running");
    site.wait("and the next", 1, |status| state(status, "dhcp") == "running");
    // It dies: the monitor finds out, and it is started again.
    std::fs::remove_file(site.path("dns.1")).unwrap();
    site.wait("its death is seen", 1, |status| state(status, "dns") != "running");
    let again = site.wait("it runs again", 1, |status| state(status, "dns") == "running");
    assert_eq!(again["resources"][1]["failures"], 1, "{again:#}");
}

/// S1-06 for a site that is up: whoever comes back, however preferred, does not stop what runs.
#[test]
fn the_management_system_goes_on_where_it_runs_when_a_preferred_node_comes_back() {
    let mut site = started();
    site.kill(1);
    site.wait("b1 manages", 2, |status| state(status, "panel") == "running");
    site.start(1);
    site.wait("a1 has stopped it", 1, |status| state(status, "panel") == "stopped");
    site.wait("all is well", 1, |status| status["protected"] == true);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(when(&site, "stop", "panel", 2), None, "{:?}", done(&site));
    assert_eq!(state(&site.status(2).unwrap(), "panel"), "running");
}

/// F19: frozen for so long that the other one has started it. Only a watchdog can keep these two apart, and
/// this site has none: `status` said so before. What is left to promise: it ends as soon as the node wakes.
#[test]
fn a_node_frozen_beyond_the_grace_stops_it_when_it_wakes() {
    let site = started();
    site.freeze(1);
    site.wait("b1 manages", 2, |status| state(status, "panel") == "running");
    site.thaw(1);
    site.wait("a1 has stopped it", 1, |status| state(status, "panel") == "stopped");
    assert!(when(&site, "stop", "panel", 1) > when(&site, "start", "panel", 2), "{:?}", done(&site));
    assert_eq!(when(&site, "stop", "panel", 2), None, "{:?}", done(&site));
}

/// V20, V29: who cannot stop the management system is to be reset before another node starts it; also when it
/// is asked to stop itself. A file stands for the watchdog.
#[test]
fn a_node_that_cannot_stop_it_starves_its_watchdog() {
    let mut site = site_with(|config, directory| {
        let timeout = Duration::from_secs(5);
        config.watchdog = Some(WatchdogDevice { device: directory.join("watchdog"), timeout });
    });
    std::fs::write(site.path("watchdog"), "").unwrap();
    for node in [2, 3] {
        let text = std::fs::read_to_string(site.path(&format!("{node}.toml"))).unwrap();
        let other = format!("watchdog{node}\"");
        std::fs::write(site.path(&format!("{node}.toml")), text.replace("watchdog\"", &other)).unwrap();
        std::fs::write(site.path(&format!("watchdog{node}")), "").unwrap();
    }
    let food = |site: &Site| std::fs::read(site.path("watchdog")).unwrap();
    site.start_all();
    site.wait("a1 manages", 1, |status| state(status, "panel") == "running");
    std::fs::write(site.path("stuck"), "").unwrap();
    assert_eq!(site.run(1, &["controller", "move", "2"]).0, 0);
    let stuck = site.wait("a1 cannot stop it", 1, |status| state(status, "panel") == "stuck");
    assert!(stuck["resources"][2]["why"].as_str().unwrap().contains("exit code 1"), "{stuck:#}");
    // The longest stop, two seconds, and some rounds.
    std::thread::sleep(Duration::from_millis(2_500));
    let starving = food(&site).len();
    assert!(0 < starving, "it was never fed");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(food(&site).len(), starving, "a node that cannot stop it must starve its watchdog");
    assert_eq!(when(&site, "start", "panel", 2), None, "b1 waits for the watchdog of a1: {:?}", done(&site));
    site.stop(1);
    assert!(!food(&site).contains(&b'V'), "its end must leave it armed");
}

/// S2-03: the operator moves the role, and the management system moves with it.
#[test]
fn the_management_system_follows_the_role_when_the_operator_moves_it() {
    let site = started();
    assert_eq!(site.run(1, &["controller", "move", "2"]).0, 0);
    site.wait("b1 manages", 2, |status| state(status, "panel") == "running");
    let (stop, start) = (when(&site, "stop", "panel", 1), when(&site, "start", "panel", 2));
    assert!(stop.unwrap() < start.unwrap(), "both ran it at once: {:?}", done(&site));
}
