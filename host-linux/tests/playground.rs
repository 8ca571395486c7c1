//! The playground as a newcomer and a test meet it: one command starts a cluster, faults act on it, and
//! nothing is left behind (BLACKBOX 7).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod common;

use common::{Answer, bulkhead};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(30);

fn answer(args: &[&str]) -> Answer {
    bulkhead(args).output().unwrap().into()
}

fn fault(dir: &Path, what: &[&str]) -> Answer {
    let dir = dir.to_str().unwrap();
    answer(&[&["playground", "fault"], what, &["--dir", dir]].concat())
}

/// What a part answers when it is asked for its status; null when it does not.
fn status(part: &Value) -> Value {
    let answer = answer(&["status", "--json", "--socket", part["socket"].as_str().unwrap()]);
    let told: Value = serde_json::from_str(&answer.out).unwrap_or_default();
    told["status"].clone()
}

/// The role that a part says it has; empty when it does not answer.
fn role(part: &Value) -> String {
    status(part)["role"].as_str().unwrap_or_default().to_owned()
}

fn wait(what: &str, seen: impl Fn() -> bool) {
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < LONG, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_alive(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// A playground that does not outlive its test, and whose parts do not outlive it.
struct Playground(Child);

impl Playground {
    /// Starts one below `dir`; also answers with what it tells.
    fn start(dir: &Path) -> (Self, Value) {
        Self::start_with(dir, &[])
    }

    fn start_with(dir: &Path, more: &[&str]) -> (Self, Value) {
        let mut command = bulkhead(&["playground", "run", "--json", "--dir", dir.to_str().unwrap()]);
        command.args(more);
        let mut started = Self(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(started.0.stdout.take().unwrap()).lines();
        let told = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        (started, told)
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn interrupt(playground: &Child) {
    let pid = rustix::process::Pid::from_child(playground);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

/// Waits until one of the two is master and the other its slave.
fn master_and_slave<'a>(a1: &'a Value, b1: &'a Value) -> (&'a Value, &'a Value) {
    wait("a slave beside the master", || {
        let mut roles = [role(a1), role(b1)];
        roles.sort();
        roles == ["master", "slave"]
    });
    if role(a1) == "master" { (a1, b1) } else { (b1, a1) }
}

/// Waits until any part may fail. A master whose peer died goes on alone (X04), and until all vote again
/// nobody may take over from it: a slave that is back is not yet one that can.
fn any_part_may_fail(parts: [&Value; 2]) {
    let begun = Instant::now();
    loop {
        let seen = parts.map(status);
        if seen.iter().all(|status| status["protected"] == true) {
            return;
        }
        let why = seen.map(|status| status["summary"].clone());
        assert!(begun.elapsed() < LONG, "any part may fail: not within {LONG:?}: {why:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_playground_is_started_hurt_and_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let (mut playground, told) = Playground::start(directory.path());
    let parts = told["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 3);
    let [a1, b1] = [&parts[0], &parts[1]];
    let (master, slave) = master_and_slave(a1, b1);
    let name = master["name"].as_str().unwrap();
    any_part_may_fail([a1, b1]);

    // S1-19: killed; the other takes over; it comes back as slave.
    assert_eq!(fault(dir, &["kill", name]).code, 0);
    wait("the takeover", || role(slave) == "master");
    assert_eq!(fault(dir, &["start", name]).code, 0);
    wait("the old master as slave", || role(master) == "slave");
    any_part_may_fail([a1, b1]);

    // One that was ended from elsewhere is started again like any other.
    let pid = i32::try_from(slave["pid"].as_u64().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait("the second takeover", || role(master) == "master");
    assert_eq!(fault(dir, &["start", slave["name"].as_str().unwrap()]).code, 0);
    wait("the other as slave", || role(slave) == "slave");

    let wrong = fault(dir, &["kill", "a9"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("there is no part `a9`; there are a1, b1, witness"), "{}", wrong.err);
    assert_eq!(fault(dir, &["cut", "a1"]).code, 2);

    // Nothing is left behind.
    interrupt(&playground.0);
    assert!(playground.0.wait().unwrap().success());
    for part in parts {
        let is_other = [name, slave["name"].as_str().unwrap()].contains(&part["name"].as_str().unwrap());
        assert!(!is_alive(part["pid"].as_u64().unwrap()) || is_other, "{part} still runs");
    }
    let gone = fault(dir, &["heal"]);
    assert_eq!(gone.code, 1);
    assert!(gone.err.contains("no playground answers"), "{}", gone.err);
}

/// F19: a playground that shows its parts asks them, and one that stands still holds nobody's command up.
#[test]
fn a_part_that_stands_still_can_be_woken() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let mut command = bulkhead(&["playground", "run", "--dir", dir.to_str().unwrap()]);
    let _playground = Playground(command.stdout(Stdio::null()).spawn().unwrap());
    wait("the playground", || fault(dir, &["heal"]).code == 0);
    for _ in 0..2 {
        for what in ["pause", "resume"] {
            let done = fault(dir, &[what, "a1"]);
            assert_eq!(done.code, 0, "{what}: {}", done.err);
        }
    }
}

/// What a part thinks of another one.
fn verdict(part: &Value, of: &str) -> String {
    let nodes = status(part)["nodes"].as_array().cloned().unwrap_or_default();
    let node = nodes.iter().find(|node| node["name"] == of);
    node.map(|node| node["verdict"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

/// X07: the master answers late. It is shown as slow, not as dead; it stays master; and it is up again once
/// the time is over.
#[test]
fn a_slow_master_is_slow_and_stays_master() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let (mut playground, told) = Playground::start(directory.path());
    let [a1, b1] = [&told["parts"][0], &told["parts"][1]];
    let (master, slave) = master_and_slave(a1, b1);
    let name = master["name"].as_str().unwrap();
    wait("a master that is up", || verdict(slave, name) == "up");

    assert_eq!(fault(dir, &["slow", name, "--for", "6s"]).code, 0);
    // First the gap is noticed at which the delay begins, then, once it is measured, the delay itself.
    let is_slow = || verdict(slave, name) == "slow";
    wait("a slow master", || (0..10).all(|_| is_slow()));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(verdict(slave, name), "slow");
        assert_eq!((role(master).as_str(), role(slave).as_str()), ("master", "slave"));
    }
    wait("the end of it", || verdict(slave, name) == "up");
    assert_eq!(role(master), "master");
    let events = answer(&["events", "--json", "--socket", slave["socket"].as_str().unwrap()]).out;
    assert!(!events.contains("silent"), "{events}");

    for wrong in [&["slow", name, "--delay", "0s"][..], &["slow", name, "--delay", "1h"], &["slow"]] {
        assert_eq!(fault(dir, wrong).code, 2, "{wrong:?}");
    }
    interrupt(&playground.0);
    assert!(playground.0.wait().unwrap().success());
}

/// The parts end with the playground even when it is killed.
#[test]
fn a_killed_playground_takes_its_parts_along() {
    let directory = tempfile::tempdir().unwrap();
    let (mut playground, told) = Playground::start(directory.path());
    playground.0.kill().unwrap();
    playground.0.wait().unwrap();
    for part in told["parts"].as_array().unwrap() {
        wait("the end of a part", || !is_alive(part["pid"].as_u64().unwrap()));
    }
}

/// Without the relay between them they are one site all the same, and what only it can do is refused.
#[test]
fn parts_that_reach_each_other_directly_cannot_be_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let (_playground, told) = Playground::start_with(dir, &["--direct"]);
    let [a1, b1] = [0, 1].map(|place| &told["parts"][place]);
    let (master, slave) = master_and_slave(a1, b1);
    any_part_may_fail([a1, b1]);
    for wrong in [&["cut", "a1", "b1"][..], &["slow", "a1"]] {
        let wrong = fault(dir, wrong);
        assert_eq!(wrong.code, 2);
        assert!(wrong.err.contains("without its relay (--direct)"), "{}", wrong.err);
        assert!(wrong.err.contains("start it without `--direct`"), "{}", wrong.err);
    }
    assert_eq!(fault(dir, &["kill", master["name"].as_str().unwrap()]).code, 0);
    wait("the takeover", || role(slave) == "master");
}

/// P1: the witness is no process of the playground. Its file says where it finds the others; once it runs,
/// any part may fail, and it can be cut off, but not killed from here.
#[test]
fn a_witness_that_runs_elsewhere_votes() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let sockets = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    let at = sockets.map(|socket| socket.local_addr().unwrap().to_string()).join(",");
    let (mut playground, told) = Playground::start_with(dir, &["--witness", &at]);
    let [a1, b1, witness] = [0, 1, 2].map(|place| &told["parts"][place]);
    assert_eq!((&witness["here"], &witness["pid"]), (&Value::Bool(false), &Value::Null));
    master_and_slave(a1, b1);
    assert_eq!(verdict(a1, "witness"), "unknown");

    let file = witness["config"].as_str().unwrap();
    let mut elsewhere = Playground(bulkhead(&["witness", "--config", file]).spawn().unwrap());
    let sees = |verdict_wanted: &str| {
        wait(verdict_wanted, || [a1, b1].iter().all(|part| verdict(part, "witness") == verdict_wanted));
    };
    sees("up");
    for part in ["a1", "b1"] {
        assert_eq!(fault(dir, &["cut", part, "witness"]).code, 0);
    }
    sees("silent");
    assert_eq!(fault(dir, &["heal"]).code, 0);
    sees("up");
    let wrong = fault(dir, &["kill", "witness"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("witness runs elsewhere"), "{}", wrong.err);
    assert!(wrong.err.contains("`fault cut witness a1` takes it off"), "{}", wrong.err);
    let half = answer(&["playground", "run", "--witness", "127.0.0.1:1"]);
    assert_eq!(half.code, 2, "{}", half.err);

    interrupt(&elsewhere.0);
    assert!(elsewhere.0.wait().unwrap().success());
    interrupt(&playground.0);
    assert!(playground.0.wait().unwrap().success());
}
