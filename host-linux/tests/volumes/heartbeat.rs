//! S3-03, X25: a guest whose heartbeat is lost is an alert on the node that leads, and what its description
//! says follows.

use super::failover::{alerts, events};
use super::kernel::{FOR_EVER, elf, out, say};
use super::migrate::{Site, guests, ok, runs_guests, state};
use super::plant::Plant;
use super::{bulkhead, roles, within};
use serde_json::Value;

#[test]
fn a_guest_that_does_not_beat_is_an_alert() {
    if !runs_guests() {
        return;
    }
    let plant = Site(Plant::start());
    let (here, _) = roles(&plant);
    let directory = tempfile::tempdir().unwrap();
    // A beat, and the next one within 2 s; none comes.
    let code = [say("on"), out(0x443, 14), FOR_EVER.to_vec()].concat();
    std::fs::write(directory.path().join("vmlinuz"), elf(&code, true)).unwrap();
    let describe = |lost: &str| {
        let text = "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"16M\"\nkernel = \"vmlinuz\"\n";
        let file = directory.path().join("web1.toml");
        std::fs::write(&file, format!("{text}[heartbeat]\nlost = \"{lost}\"\n")).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let silent = [("guests-silent".to_owned(), "pair 1".to_owned())];
    let happened = |kind: &str| events(&plant, here).iter().filter(|(is, _)| is == kind).count();

    ok(&plant, here, &["create", &describe("report")]);
    ok(&plant, here, &["start", "web1"]);
    within("the alert to be raised", || (alerts(&plant, here) == silent).then_some(()));
    let mut status = bulkhead(&["status", "--json"]);
    status.env("BULKHEAD_SOCKET", plant.part(here)["socket"].as_str().unwrap());
    let status: Value = serde_json::from_slice(&status.output().unwrap().stdout).unwrap();
    let guest = &status["status"]["guests"][0];
    assert!(guest["silentMs"].as_u64().is_some_and(|time| 1000 < time), "{guest}");
    assert_eq!(
        (happened("guest-silent"), state(&plant, here)),
        (1, "Running".into()),
        "once, and it goes on"
    );
    // It is said again for as long as it is so.
    std::thread::sleep(std::time::Duration::from_secs(11));
    assert_eq!((alerts(&plant, here), happened("guest-silent")), (silent.to_vec(), 1));
    ok(&plant, here, &["stop", "web1", "--now"]);
    within("the alert to be cleared", || alerts(&plant, here).is_empty().then_some(()));
    ok(&plant, here, &["delete", "web1", "--yes"]);

    for (lost, follows) in [("reset", "guest-silent"), ("stop", "guest-begun")] {
        let before = (happened("guest-silent"), happened(follows));
        ok(&plant, here, &["create", &describe(lost)]);
        ok(&plant, here, &["start", "web1"]);
        let now = || (happened("guest-silent"), happened(follows));
        within(lost, || (before.0 < now().0 && before.1 < now().1).then_some(()));
        ok(&plant, here, &["stop", "web1", "--now"]);
        ok(&plant, here, &["delete", "web1", "--yes"]);
    }
    assert!(!guests(&plant, here).join("web1").exists());
}
