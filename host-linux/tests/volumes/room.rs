//! S3-14 to S3-18, S1-40, X16: guests take what their node has for them: none is started without room, here
//! or after a loss, and none begins without it; who waits begins when there is room.

use super::failover::{alerts, counts, events, forecast, start, wanted};
use super::migrate::{Site, counter, ok, runs_guests, vm};
use super::plant::Plant;
use super::{bulkhead, roles, within};
use bulkhead::cluster::client::Client;
use bulkhead::cluster::request::Request;
use bulkhead::failover::wanted::{Failover, Wanted};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::Path;

/// A guest of the pair, as the node says that leads: its state, and why.
fn seen(plant: &Plant, node: &str, name: &str) -> (String, String) {
    let mut command = bulkhead(&["status", "--json"]);
    command.env("BULKHEAD_SOCKET", plant.part(node)["socket"].as_str().unwrap());
    let said: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let guests = said["status"]["guests"].as_array().unwrap();
    let word = |guest: &Value, key: &str| guest[key].as_str().unwrap().to_owned();
    let guest = guests.iter().find(|guest| guest["name"] == name);
    guest.map_or_else(Default::default, |guest| (word(guest, "state"), word(guest, "why")))
}

/// One that was started before anybody counted is counted as it runs.
fn is_counted_as_it_runs(plant: &Plant) {
    let counted = json!({ "memoryMib": 64, "processors": 1 });
    assert_eq!(wanted(plant, "a1", "low")["needs"], counted);
    let socket = Path::new(plant.part("a1")["socket"].as_str().unwrap());
    let failover = Failover { priority: 11, ..Failover::default() };
    let wants = Request::GuestWanted { name: "low.guest".into(), wanted: Wanted::of(true, failover, None) };
    Client::connect(socket).unwrap().ask(&wants).unwrap();
    within("it to be counted again", || {
        let known = wanted(plant, "b1", "low");
        (known["priority"] == 11 && known["needs"] == counted).then_some(())
    });
}

#[test]
fn the_most_important_guests_get_the_room_that_is_left() {
    if !runs_guests() {
        return;
    }
    // Guests have 64 MiB: three on a1, and one on b1.
    let plant = Site(Plant::of(&["--volumes", "--room", "200MiB,100MiB"]));
    if roles(&plant).0 != "a1" {
        plant.ok("b1", &["promote", "a1"]);
        within("a1 to lead", || {
            plant.ok("a1", &["list"])["group"]["storage"]["leads"].as_bool()?.then_some(())
        });
    }
    let directory = tempfile::tempdir().unwrap();
    start(&plant, "a1", "low", "[failover]\npriority = 10\n", directory.path());
    is_counted_as_it_runs(&plant);
    std::fs::write(directory.path().join("vmlinuz"), counter()).unwrap();
    for (name, priority) in [("high", 200), ("none", 5)] {
        let file = directory.path().join(format!("{name}.toml"));
        let described = format!(
            "version = 1\nname = \"{name}\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"vmlinuz\"\n\
             [failover]\npriority = {priority}\n"
        );
        std::fs::write(&file, described).unwrap();
        ok(&plant, "a1", &["create", file.to_str().unwrap()]);
    }

    // There is room for it here, and then not for both after the loss of this node.
    let refused = vm(&plant, "a1", &["start", "high"]);
    let why = "if a1 is lost, low would be down, for b1 lacks 28 MiB of memory";
    assert!(refused.code == 3 && refused.err.contains(why), "{}", refused.err);
    assert!(refused.err.contains("stop low, which matters less"), "{}", refused.err);
    assert_eq!(ok(&plant, "a1", &["show", "high"])["state"], "Off");
    ok(&plant, "a1", &["start", "high", "--beyond-room"]);
    counts(&plant, "a1", "high");
    within("that to be an alert", || {
        alerts(&plant, "a1").contains(&("crowded".into(), "b1".into())).then_some(())
    });
    let (_, begins, down) = forecast(&plant, "a1", "a1");
    assert_eq!((begins, down), (vec!["high".to_owned()], vec!["low".to_owned()]));
    // A third one has room here. They do not go where not all of them have.
    ok(&plant, "a1", &["start", "none", "--beyond-room"]);
    let refused = vm(&plant, "a1", &["migrate", "--all", "--to", "b1"]);
    assert!(refused.code == 3 && refused.err.contains("b1 has no room for low"), "{}", refused.err);
    ok(&plant, "a1", &["stop", "none", "--now"]);

    plant.fault(&["kill", "a1"]);
    counts(&plant, "b1", "high");
    within("the other one to wait for room", || {
        let (state, why) = seen(&plant, "b1", "low");
        (state == "down" && why.contains("lacks 28 MiB of memory")).then_some(())
    });
    assert!(events(&plant, "b1").contains(&("guest-waits".into(), "low".into())));
    within("that to be an alert, too", || {
        alerts(&plant, "b1").contains(&("guests-down".into(), "pair 1".into())).then_some(())
    });
    // S3-14: there is room again.
    ok(&plant, "b1", &["stop", "high", "--now"]);
    counts(&plant, "b1", "low");
    ok(&plant, "b1", &["stop", "low", "--now"]);
}

/// S4-04: the placeholder's process of a node, and how many MiB it has, all of them locked.
fn placeholder(plant: &Plant, node: &str) -> Option<(Pid, u64)> {
    let agent = plant.part(node)["pid"].as_u64()?;
    let line = |pid: u32, key: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut pids = processes.filter_map(|name| name.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.ends_with(b"\0placeholder\0") && line(*pid, "PPid:") == Some(agent)
    };
    let pid = pids.find(holds)?;
    // What is mapped and not there counts as locked, too.
    let has = line(pid, "VmRSS:")?.min(line(pid, "VmLck:")?);
    Some((Pid::from_raw(i32::try_from(pid).ok()?)?, has >> 10))
}

/// Has a node take this for that in its site's file.
fn apply(plant: &Plant, node: &str, was: &str, is: &str) {
    let file = plant.part(node)["config"].as_str().unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(was), "{text}");
    std::fs::write(file, text.replace(was, is)).unwrap();
    let mut command =
        bulkhead(&["config", "apply", "--socket", plant.part(node)["socket"].as_str().unwrap()]);
    let answer = command.output().unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
}

/// S4-04: the node that does not lead keeps the memory of the guests that would come, for nobody else and
/// locked; it is theirs when they do.
#[test]
fn memory_is_kept_for_guests_that_may_come() {
    if !runs_guests() {
        return;
    }
    let plant = Site(Plant::of(&["--volumes", "--room", "200MiB", "--placeholder"]));
    let (here, there) = roles(&plant);
    let directory = tempfile::tempdir().unwrap();
    let kept = |node: &str| {
        // An agent that was begun just now answers nobody yet.
        let said: Value = serde_json::from_str(&plant.volume(node, &["list"]).out).unwrap_or_default();
        let said = &said["group"]["storage"]["placeholder"];
        Some((said["guestsBytes"].as_u64()? >> 20, said["guestsHeldBytes"].as_u64()? >> 20))
    };
    start(&plant, here, "web1", "", directory.path());
    start(&plant, here, "test", "[failover]\npolicy = \"stay\"\n", directory.path());
    within("memory to be kept", || (kept(there) == Some((64, 64))).then_some(()));
    assert_eq!(kept(here), Some((0, 0)), "they are here");
    let (_, has) = placeholder(&plant, there).unwrap();
    assert!((64..90).contains(&has), "{has} MiB");
    // An operator says otherwise while the agents run.
    let room = |mib: u32, more: &str| format!("room = {{ memory = \"{mib}MiB\"{more} }}");
    let keeps = ", placeholder = true";
    for (was, is, expected) in [
        (room(200, keeps), room(32, keeps), Some((0, 0))),
        (room(32, keeps), room(200, ""), None),
        (room(200, ""), room(200, keeps), Some((64, 64))),
    ] {
        for node in [here, there] {
            apply(&plant, node, &was, &is);
        }
        within(&is, || (kept(there) == expected).then_some(()));
    }
    let (process, _) = placeholder(&plant, there).unwrap();
    // Somebody ends it: it is there again.
    kill_process(process, Signal::KILL).unwrap();
    within("another one", || {
        let (other, has) = placeholder(&plant, there)?;
        (other != process && 64 <= has && kept(there) == Some((64, 64))).then_some(())
    });

    plant.fault(&["kill", here]);
    counts(&plant, there, "web1");
    within("the memory to be the guest's", || {
        let (_, has) = placeholder(&plant, there)?;
        (kept(there) == Some((0, 0)) && has < 64).then_some(())
    });
    plant.fault(&["start", here]);
    within("memory to be kept where it was", || (kept(here) == Some((64, 64))).then_some(()));
    ok(&plant, there, &["stop", "web1", "--now"]);
    within("nothing to be kept for whom nobody wants", || (kept(here) == Some((0, 0))).then_some(()));
}
