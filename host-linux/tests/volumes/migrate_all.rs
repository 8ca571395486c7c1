//! X15, S0-11, S0-09: all guests of a node move together, and none does if one cannot, whoever dies when.

use super::common::{Answer, bulkhead};
use super::migrate::{Site, counter_with, counts_on, guests, ok, process_of, runs_guests, said_by, vm};
use super::plant::Plant;
use super::{roles, within};
use bulkhead::guests::client::ask_with;
use hyper::Method;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// Three guests: the last one has more to copy than the others.
const ALL: [(&str, u8); 3] = [("web1", 1), ("web2", 1), ("web3", 12)];
const LONG: Duration = Duration::from_secs(300);

/// A plant whose three guests run on the node that leads.
fn begin(more: &str) -> (Site, &'static str, &'static str) {
    let plant = Site(Plant::start());
    let (primary, secondary) = roles(&plant);
    let directory = tempfile::tempdir().unwrap();
    for (name, mib) in ALL {
        plant.ok(primary, &["create", name, "--size", "16MiB"]);
        std::fs::write(directory.path().join("kernel"), counter_with(mib)).unwrap();
        let file = directory.path().join(format!("{name}.toml"));
        let described = format!(
            "version = 1\nname = \"{name}\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"kernel\"\n\
             [[disk]]\nvolume = \"{name}\"\n{more}"
        );
        std::fs::write(&file, described).unwrap();
        ok(&plant, primary, &["create", file.to_str().unwrap()]);
        ok(&plant, primary, &["start", name]);
    }
    for (name, _) in ALL {
        within("it counts", || (100 < said_by(&plant, primary, name).len()).then_some(()));
    }
    (plant, primary, secondary)
}

fn end(plant: &Plant, node: &str) {
    for (name, _) in ALL {
        ok(plant, node, &["stop", name, "--now"]);
    }
}

fn state_of(plant: &Plant, node: &str, name: &str) -> String {
    let list = ok(plant, node, &["list"]);
    let found = list["guests"].as_array().unwrap().iter().find(|guest| guest["name"] == name).cloned();
    found.map_or("Off".into(), |guest| guest["state"].as_str().unwrap_or_default().into())
}

/// How far the move of a guest is; empty: it does not move.
fn phase(plant: &Plant, node: &str, name: &str) -> String {
    let socket = guests(plant, node).join(name).join("api.sock");
    let info = ask_with(&socket, Method::GET, "vm.info", &Value::Null, LONG).unwrap_or_default();
    info["migration"]["phase"].as_str().unwrap_or_default().into()
}

/// Begins to move all; the command.
fn begin_to_move(plant: &Plant, from: &str, to: &str, words: &[&str]) -> Child {
    let mut command = bulkhead(&["vm", "migrate", "--all", "--json", "--to", to, "--guests"]);
    command.arg(guests(plant, from)).args(words);
    command.env("BULKHEAD_SOCKET", plant.part(from)["socket"].as_str().unwrap());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// All but these go on here, and nothing of any of them runs or has run there.
fn stay(plant: &Plant, here: &str, there: &str, but: &str) {
    for (name, _) in ALL {
        within("nothing of it there", || (state_of(plant, there, name) == "Off").then_some(()));
        assert_eq!(said_by(plant, there, name).len(), 0, "{name} has run there");
        if name == but {
            continue;
        }
        within("it is not moved any more", || phase(plant, here, name).is_empty().then_some(()));
        let before = said_by(plant, here, name).len();
        within("it goes on", || (before + 100 < said_by(plant, here, name).len()).then_some(()));
        assert_eq!(state_of(plant, here, name), "Running", "{name}");
        counts_on(&said_by(plant, here, name));
    }
}

/// All run there, where they were here.
fn are_there(plant: &Plant, here: &str, there: &str, before: &[Vec<u8>]) {
    for ((name, _), before) in ALL.into_iter().zip(before) {
        within("it counts there", || (100 < said_by(plant, there, name).len()).then_some(()));
        counts_on(&[&**before, &said_by(plant, here, name), &said_by(plant, there, name)].concat());
        assert_eq!(state_of(plant, there, name), "Running", "{name}");
        assert_eq!(state_of(plant, here, name), "Off", "{name}");
    }
    assert_eq!(plant.ok(there, &["list"])["group"]["storage"]["leads"], true);
}

/// They go over, and come back, and say nothing twice; where one of them may not go alone, the words say how.
#[test]
fn all_guests_move_there_and_back() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there) = begin("");
    let alone = vm(&plant, here, &["migrate", "web1", "--to", there]);
    assert_eq!((alone.code, alone.err.contains("web2, web3")), (3, true), "{}", alone.err);
    assert!(alone.err.contains("--all"), "{}", alone.err);
    let none = vm(&plant, there, &["migrate", "--all", "--to", here]);
    assert_eq!((none.code, none.err.contains("no guest runs by the lease")), (3, true), "{}", none.err);
    let none = vm(&plant, here, &["migrate", "--all", "--to", here]);
    assert_eq!((none.code, none.err.contains("is this node")), (2, true), "{}", none.err);

    let mut before = vec![Vec::new(); ALL.len()];
    for (from, to, more) in [(here, there, &[][..]), (there, here, &["--quick"]), (here, there, &[])] {
        for (name, _) in ALL {
            let _ = std::fs::remove_file(guests(&plant, to).join(name).join("console.log"));
        }
        let words = [&["migrate", "--all", "--to", to][..], more].concat();
        let moved = ok(&plant, from, &words);
        println!("{from} to {to}: {moved}");
        let names: Vec<_> = moved["guests"].as_array().unwrap().iter().map(|guest| &guest["name"]).collect();
        assert_eq!(names, ["web1", "web2", "web3"]);
        are_there(&plant, from, to, &before);
        for (before, (name, _)) in before.iter_mut().zip(ALL) {
            before.extend(said_by(&plant, from, name));
        }
    }
    end(&plant, there);
}

/// Whatever dies before the other node was told to lead, and whenever: all that live go on here.
#[test]
fn all_stay_if_one_cannot_go() {
    if !runs_guests() {
        return;
    }
    // One that dies is begun again by nobody else, which would hide what became of it.
    let (plant, here, there) = begin("[failover]\npolicy = \"stay\"\n");
    let slow = ["--bandwidth", "1MiB"];
    let begin_slowly = || {
        let command = begin_to_move(&plant, here, there, &slow);
        within("the first to wait for the last", || {
            let waits = ["web1", "web2"].iter().all(|name| phase(&plant, here, name) == "ready");
            (waits && phase(&plant, here, "web3") == "copying").then_some(())
        });
        command
    };
    let fails = |command: Child, why: &str| {
        let answer: Answer = command.wait_with_output().unwrap().into();
        assert_eq!((answer.code, answer.err.contains(why)), (1, true), "{}", answer.err);
        answer.err
    };

    // Cancelled; another command in between changes nothing.
    let command = begin_slowly();
    let second = vm(&plant, here, &["migrate", "--all", "--to", there]);
    assert_eq!((second.code, second.err.contains("already")), (3, true), "{}", second.err);
    assert_eq!(phase(&plant, here, "web1"), "ready");
    ok(&plant, here, &["migrate", "--all", "--cancel"]);
    assert!(fails(command, "cancelled").contains("go on on this node: web1, web2, web3"));
    stay(&plant, here, there, "");

    // A guest's process is killed as it waits.
    let command = begin_slowly();
    kill_process(process_of(&plant, here, "web2"), Signal::KILL).unwrap();
    assert!(fails(command, "guest web2").contains("go on on this node: web1, web3"));
    stay(&plant, here, there, "web2");
    assert_eq!(state_of(&plant, here, "web2"), "Off");
    let _ = std::fs::remove_file(guests(&plant, here).join("web2/console.log"));
    ok(&plant, here, &["start", "web2"]);

    // Its other end is.
    let command = begin_slowly();
    kill_process(process_of(&plant, there, "web1"), Signal::KILL).unwrap();
    assert!(fails(command, "guest web1").contains("go on on this node: web1, web2, web3"));
    stay(&plant, here, there, "");

    // The command is killed.
    let mut command = begin_slowly();
    command.kill().unwrap();
    command.wait().unwrap();
    stay(&plant, here, there, "");

    // The other node's agent is: it cannot lead.
    let command = begin_slowly();
    plant.fault(&["kill", there]);
    let answer: Answer = command.wait_with_output().unwrap().into();
    assert_ne!(answer.code, 0);
    assert!(answer.err.contains("go on on this node: web1, web2, web3"), "{}", answer.err);
    plant.fault(&["start", there]);
    stay(&plant, here, there, "");
    end(&plant, here);
}

/// A move whose command is this test: how far each guest may go, it says itself.
struct Steps<'a> {
    plant: &'a Plant,
    here: &'static str,
    moves: Vec<JoinHandle<bool>>,
}

impl<'a> Steps<'a> {
    fn begin(plant: &'a Plant, here: &'static str, there: &str) -> Self {
        let body = json!({ "node": there, "together": "test" });
        let begin = |(name, _): (&str, u8)| {
            let (socket, body) = (guests(plant, here).join(name).join("api.sock"), body.clone());
            let ask = move || ask_with(&socket, Method::PUT, "vm.send-migration", &body, LONG).is_ok();
            std::thread::spawn(ask)
        };
        Self { plant, here, moves: ALL.into_iter().map(begin).collect() }
    }

    fn say(&self, name: &str, step: &str) -> Result<Value, String> {
        let socket = guests(self.plant, self.here).join(name).join("api.sock");
        let body = json!({ "together": "test", "step": step, "bandwidth": null });
        let said = ask_with(&socket, Method::PUT, "vm.advance-migration", &body, LONG);
        said.map_err(|why| format!("{why:?}"))
    }

    /// Tells all of them until all are there.
    fn all(&self, step: &str, phase: &str) {
        within(phase, || {
            let said = ALL.map(|(name, _)| self.say(name, step));
            said.iter().all(|said| said.as_ref().is_ok_and(|view| view["phase"] == phase)).then_some(())
        });
    }

    fn end(self) -> Vec<bool> {
        self.moves.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

/// Whoever moves them dies at each step that it takes, and between one guest and the next: nothing runs
/// twice, and nothing is lost. Once the lead has gone over, all go over by themselves.
#[test]
fn whoever_moves_them_may_die_at_any_step() {
    if !runs_guests() {
        return;
    }
    let (plant, here, there) = begin("");
    let steps = [("copy", "ready"), ("hold", "whole"), ("give", "returned")];
    for (at, (step, _)) in steps.iter().enumerate() {
        let begun = Steps::begin(&plant, here, there);
        for (step, phase) in steps.get(..at).unwrap() {
            begun.all(step, phase);
        }
        // One was told this step, and the others were not.
        within("one to be told", || begun.say("web1", step).ok());
        assert_eq!(begun.end(), [false; 3], "{step}");
        stay(&plant, here, there, "");
    }

    let begun = Steps::begin(&plant, here, there);
    for (step, phase) in steps {
        begun.all(step, phase);
    }
    plant.ok(here, &["promote", there]);
    begun.end();
    are_there(&plant, here, there, &vec![Vec::new(); ALL.len()]);
    end(&plant, there);
}
