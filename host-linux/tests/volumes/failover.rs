//! S3-01, S3-04, S3-08, S3-19, S0-07 (I5): guests that are to run do, on whichever node leads their volumes.

use super::migrate::{Site, counter, guests, ok, process, runs_guests, said, state, vm};
use super::plant::Plant;
use super::{bulkhead, roles, within};
use bulkhead::failover::sight::note_beside;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A guest of this name, made and started.
pub fn start(plant: &Plant, node: &str, name: &str, more: &str, directory: &Path) {
    std::fs::write(directory.join("vmlinuz"), counter()).unwrap();
    let file = directory.join(format!("{name}.toml"));
    let described = format!(
        "version = 1\nname = \"{name}\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"vmlinuz\"\n{more}"
    );
    std::fs::write(&file, described).unwrap();
    ok(plant, node, &["create", file.to_str().unwrap()]);
    ok(plant, node, &["start", name]);
}

fn log(plant: &Plant, node: &str, name: &str) -> PathBuf {
    guests(plant, node).join(name).join("console.log")
}

fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

pub fn counts(plant: &Plant, node: &str, name: &str) {
    let log = log(plant, node, name);
    let before = bytes(&log);
    within(&format!("{name} to count on {node}"), || (before + 100 < bytes(&log)).then_some(()));
}

/// What the agent says that happened to guests.
pub fn events(plant: &Plant, node: &str) -> Vec<(String, String)> {
    let mut command = bulkhead(&["events", "--json"]);
    command.env("BULKHEAD_SOCKET", plant.part(node)["socket"].as_str().unwrap());
    let said: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let word = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let all = said["events"].as_array().unwrap().iter();
    all.filter(|event| word(event, "kind").starts_with("guest"))
        .map(|event| (word(event, "kind"), word(event, "guest")))
        .collect()
}

/// The alerts that a node has raised; what its system does not grant here is not of interest.
pub fn alerts(plant: &Plant, node: &str) -> Vec<(String, String)> {
    let mut command = bulkhead(&["alerts", "--json"]);
    command.env("BULKHEAD_SOCKET", plant.part(node)["socket"].as_str().unwrap());
    let answer = command.output().unwrap();
    let said: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let all = said["alerts"].as_array().unwrap();
    assert_eq!(answer.status.code(), Some(i32::from(!all.is_empty())));
    let word = |alert: &Value, key: &str| alert[key].as_str().unwrap().to_owned();
    let all = all.iter().map(|alert| (word(alert, "kind"), word(alert, "subject")));
    all.filter(|(kind, _)| kind != "lacking").collect()
}

/// How often an alert was raised, and how often it was cleared.
fn raised_and_cleared(plant: &Plant, node: &str, alert: &str) -> (usize, usize) {
    let mut command = bulkhead(&["events", "--json"]);
    command.env("BULKHEAD_SOCKET", plant.part(node)["socket"].as_str().unwrap());
    let said: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let all = said["events"].as_array().unwrap();
    let count = |kind: &str| all.iter().filter(|one| one["kind"] == kind && one["alert"] == alert).count();
    (count("alert-raised"), count("alert-cleared"))
}

/// X25: the operator is told of all that followed, and that both sets run in one compartment now (S0-19).
fn is_alerted(plant: &Plant, lost: &str, there: &str, home: &str) -> Vec<String> {
    let expected = [
        ("guests-down", "pair 1".to_owned()),
        ("node-away", lost.to_owned()),
        ("replica-behind", lost.to_owned()),
        ("guests-away", format!("compartment {home}")),
    ];
    let expected = expected.map(|(kind, subject)| (kind.to_owned(), subject));
    within("the alerts to be raised", || (alerts(plant, there) == expected).then_some(()));
    let mut command = bulkhead(&["alerts"]);
    command.env("BULKHEAD_SOCKET", plant.part(there)["socket"].as_str().unwrap());
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(text.contains("both sets now run there") && text.contains("guest test is to run"), "{text}");
    expected.map(|(kind, _)| kind).to_vec()
}

pub fn wanted(plant: &Plant, node: &str, name: &str) -> Value {
    plant.ok(node, &["list"])["group"]["storage"]["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|volume| volume["name"] == format!("{name}.guest"))
        .unwrap()["guest"]
        .clone()
}

fn begin() -> (Site, &'static str, &'static str, tempfile::TempDir) {
    let plant = Site(Plant::start());
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    (plant, primary, secondary, tempfile::tempdir().unwrap())
}

/// What is forecast for the loss of a node: who leads, who begins, who is down.
pub fn forecast(plant: &Plant, asked: &str, lost: &str) -> (Value, Vec<String>, Vec<String>) {
    let mut command = bulkhead(&["plan", "--lose", "node", lost, "--json"]);
    command.env("BULKHEAD_SOCKET", plant.part(asked)["socket"].as_str().unwrap());
    let answer = command.output().unwrap();
    let said: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let plan = &said["plan"][0];
    let names = |key: &str| {
        let all = plan[key].as_array().unwrap().iter();
        all.map(|one| one["guest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    (plan["leads"].clone(), names("begins"), names("down"))
}

/// The node is lost: what was to run runs on the other one, the most important first, and nothing else; and
/// so it was forecast (X09).
#[test]
fn guests_go_on_where_their_volumes_are_led() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there, directory) = begin();
    let (home, other) = if here.contains('a') { ("a", "b") } else { ("b", "a") };
    let more = format!("[[disk]]\nvolume = \"vm1\"\n[failover]\nhome = \"{home}\"\n");
    start(&plant, here, "web1", &more, directory.path());
    let more = format!("[failover]\npriority = 200\nhome = \"{other}\"\n");
    start(&plant, here, "db", &more, directory.path());
    start(&plant, here, "test", "[failover]\npolicy = \"stay\"\n", directory.path());
    start(&plant, here, "old", "", directory.path());
    ok(&plant, here, &["stop", "old", "--now"]);
    drop(directory);
    let expected = json!({ "running": true, "policy": "restart", "priority": 200, "home": other });
    assert_eq!(wanted(&plant, there, "db"), expected, "it is known there before anything happens");
    assert_eq!(wanted(&plant, there, "old")["running"], false);

    let (leads, begins, down) = forecast(&plant, here, here);
    assert_eq!((leads, begins.join(" "), down.join(" ")), (json!([there]), "db web1".into(), "test".into()));

    plant.fault(&["kill", here]);
    let lost = Instant::now();
    for name in ["db", "web1"] {
        counts(&plant, there, name);
    }
    println!("two guests run {} ms after their node was lost", lost.elapsed().as_millis());
    let begun: Vec<_> = events(&plant, there);
    let begun: Vec<_> =
        begun.iter().filter(|(kind, _)| kind == "guest-begun").map(|(_, name)| &**name).collect();
    let mut sorted = begun.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, begins, "the other two are not to be begun");
    for name in ["test", "old"] {
        assert_eq!(ok(&plant, there, &["show", name])["state"], "Off", "{name}");
    }
    let mut command = bulkhead(&["status", "--json"]);
    command.env("BULKHEAD_SOCKET", plant.part(there)["socket"].as_str().unwrap());
    let said: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let states = said["status"]["guests"].as_array().unwrap().iter();
    let states: Vec<_> = states.map(|guest| (guest["name"].clone(), guest["state"].clone())).collect();
    let expected = [("web1", "running"), ("db", "running"), ("test", "left"), ("old", "off")];
    assert_eq!(states, expected.map(|(name, state)| (json!(name), json!(state))));
    let raised = is_alerted(&plant, here, there, home);
    for name in ["db", "web1", "test"] {
        ok(&plant, there, &["stop", name, "--now"]);
    }

    // The node is back, and leads again: what was stopped meanwhile stays off.
    plant.fault(&["start", here]);
    within("it to be in sync", || {
        let state = plant.ok(there, &["list"])["group"]["storage"]["state"].clone();
        (state == "synced").then_some(())
    });
    within("all alerts to be over", || alerts(&plant, there).is_empty().then_some(()));
    for kind in &raised {
        assert_eq!(raised_and_cleared(&plant, there, kind), (1, 1), "{kind}");
    }
    plant.ok(there, &["promote", here]);
    within("it to lead", || plant.ok(here, &["list"])["group"]["storage"]["leads"].as_bool()?.then_some(()));
    std::thread::sleep(Duration::from_secs(1));
    for name in ["db", "web1"] {
        assert_eq!(ok(&plant, here, &["show", name])["state"], "Off", "{name}");
    }
}

/// X09: a loss for real is as it was forecast, and what comes back is in sync again.
#[test]
fn a_drill_is_as_forecast() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there, directory) = begin();
    start(&plant, here, "web1", "[[disk]]\nvolume = \"vm1\"\n", directory.path());
    start(&plant, here, "test", "[failover]\npolicy = \"stay\"\n", directory.path());
    let drill = |node: &str, more: &[&str]| {
        let fault = |what: &str| {
            let socket = Path::new(plant.part(here)["socket"].as_str().unwrap());
            let directory = socket.parent().unwrap().display();
            format!("{} playground fault --dir {directory} {what} {here}", env!("CARGO_BIN_EXE_bulkhead"))
        };
        let (by, back) = (fault("kill"), fault("start"));
        let mut command =
            bulkhead(&["drill", "--lose", "node", here, "--by", &by, "--back", &back, "--json"]);
        command.args(more).env("BULKHEAD_SOCKET", plant.part(node)["socket"].as_str().unwrap());
        let answer = command.output().unwrap();
        (answer.status.code(), serde_json::from_slice::<Value>(&answer.stdout).unwrap())
    };
    // Not by accident, and not from where nobody would see it.
    for (node, more, why) in
        [(there, &[][..], "a1 is lost now"), (here, &["--yes"], "does not see what follows")]
    {
        let (code, said) = drill(node, more);
        let what = said["error"]["what"].as_str().unwrap();
        assert!(code == Some(3) && what.contains(&why.replace("a1", here)), "{said}");
    }
    counts(&plant, here, "web1");
    let (code, said) = drill(there, &["--yes"]);
    assert_eq!((code, &said["drill"]["differences"]), (Some(0), &json!([])), "{said}");
    let seen = &said["drill"]["seen"];
    assert_eq!((&seen["leads"], &seen["begun"]), (&json!(there), &json!(["web1"])), "{said}");
    assert_eq!(seen["down"], json!(["test"]), "{said}");
    counts(&plant, there, "web1");
    let state = plant.ok(there, &["list"])["group"]["storage"]["state"].clone();
    assert_eq!(state, "synced");
    ok(&plant, there, &["stop", "web1", "--now"]);
}

/// S0-09: guests that failed over go home as they run, once their home is well, and not before.
#[test]
fn guests_go_home_when_their_home_is_well() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there, directory) = begin();
    let home = if here.contains('a') { "a" } else { "b" };
    let more = format!("[[disk]]\nvolume = \"vm1\"\n[failover]\nhome = \"{home}\"\n");
    start(&plant, here, "web1", &more, directory.path());
    start(&plant, here, "db", "", directory.path());
    let at_home = vm(&plant, here, &["home"]);
    assert!(at_home.code == 0 && at_home.out.contains("\"guests\":[]"), "{}{}", at_home.out, at_home.err);
    plant.fault(&["kill", here]);
    ["web1", "db"].iter().for_each(|name| counts(&plant, there, name));
    let too_soon = vm(&plant, there, &["home"]);
    assert!(too_soon.code == 3 && too_soon.err.contains("is not well"), "{}", too_soon.err);
    plant.fault(&["start", here]);
    let went = vm(&plant, there, &["home", "--after", "2s"]);
    assert_eq!(went.code, 0, "{}{}", went.out, went.err);
    ["web1", "db"].iter().for_each(|name| counts(&plant, here, name));
    for name in ["web1", "db"] {
        assert_eq!(ok(&plant, there, &["show", name])["state"], "Off", "{name}");
        ok(&plant, here, &["stop", name, "--now"]);
    }
}

/// Its process dies: it is begun again where it was. It switches itself off: it stays off. An operator stops
/// it: so it does.
#[test]
fn a_guest_whose_process_dies_is_begun_again() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there, directory) = begin();
    start(&plant, here, "web1", "[[disk]]\nvolume = \"vm1\"\n", directory.path());
    counts(&plant, here, "web1");
    // On a busy machine it may lose its lease besides, and is begun again for that.
    let count = |kind: &str| events(&plant, here).iter().filter(|(event, _)| event == kind).count();
    for _ in 0..2 {
        let before = (count("guest-gone"), count("guest-begun"));
        kill_process(process(&plant, here), Signal::KILL).unwrap();
        within("it to be begun again", || {
            (before.0 < count("guest-gone") && before.1 < count("guest-begun")).then_some(())
        });
        counts(&plant, here, "web1");
    }

    // As if it had switched itself off: nothing begins it, here or there.
    let pid = process(&plant, here);
    let note = note_beside(&guests(&plant, here).join("web1/guest.toml"));
    std::fs::write(note, "off").unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    within("it is not wanted any more", || (wanted(&plant, there, "web1")["running"] == false).then_some(()));
    assert_eq!(state(&plant, here), "Off");
    assert!(events(&plant, here).iter().any(|(kind, _)| kind == "guest-off"));

    // Paused and started by hand, and stopped.
    ok(&plant, here, &["start", "web1"]);
    counts(&plant, here, "web1");
    // One that was to end as it is captured, and was not captured, goes on, and is to.
    let cases = [(&["--track"][..], 2, "build on no others"), (&["/none/x"], 1, "/none/x.new")];
    for (more, code, why) in cases {
        let none = vm(&plant, here, &[&["snapshot", "web1", "--stop"], more].concat());
        assert_eq!((none.code, none.err.contains(why)), (code, true), "{}", none.err);
        assert_eq!(wanted(&plant, here, "web1")["running"], true);
        counts(&plant, here, "web1");
    }
    ok(&plant, here, &["stop", "web1", "--now"]);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((state(&plant, here), said(&plant, there).len()), ("Off".into(), 0));
}

/// One with `resume` goes on from its last snapshot where its disks are as they were then, and begins anew
/// where they are not.
#[test]
fn a_guest_goes_on_from_its_snapshot_if_that_is_true() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there, directory) = begin();
    let more = "[[disk]]\nvolume = \"vm1\"\n[failover]\npolicy = \"resume\"\n";
    start(&plant, here, "web1", more, directory.path());
    counts(&plant, here, "web1");
    ok(&plant, here, &["snapshot", "web1"]);
    let at = said(&plant, here).len();
    counts(&plant, here, "web1");
    plant.fault(&["kill", here]);
    counts(&plant, there, "web1");
    // Behind the signs that it had said by its snapshot, and not from the first one on.
    let (first, last) = (said(&plant, there)[0], said(&plant, here)[at - 1]);
    assert!(first != b'0' || last == b'o', "it began anew: {first} behind {last}");
    let text = plant.part(there)["log"].as_str().map(|log| std::fs::read_to_string(log).unwrap());
    assert!(text.is_none_or(|text| text.contains("goes on from its last snapshot")), "it began anew");
    ok(&plant, there, &["stop", "web1", "--now"]);
}
