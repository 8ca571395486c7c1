//! Guests as an operator meets them: made, begun, held, attached to, ended and forgotten by commands (S2-01,
//! S2-05, S3-06). On the machine's own KVM; where it has none, the tests say so and pass.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../../src/vmm/testing.rs"]
mod kernel;

use bulkhead::vmm::console::Console;
use bulkhead::vmm::description::Description;
use bulkhead::vmm::machine::{Machine, Origin, kvm};
use bulkhead::vmm::snapshot::file;
use bulkhead::vmm::snapshot::tracked::Extent;
use common::{Answer, bulkhead};
use kernel::{FOR_EVER, elf, out, say};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(60);

/// Whether this machine runs guests; says why not.
fn runs_guests() -> bool {
    kvm().inspect_err(|why| println!("skipped: {}", why.what)).is_ok()
}

/// Code that says again what is typed, until that is `q`: then it goes on behind this.
fn echo() -> Vec<u8> {
    // again: mov dx, 0x3fd; in al, dx; test al, 1; jz again
    let wait = [0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 1, 0x74, 0xf7];
    // mov dx, 0x3f8; in al, dx; out dx, al; cmp al, 'q'; jne again
    let tell = [0x66, 0xba, 0xf8, 0x03, 0xec, 0xee, 0x3c, b'q', 0x75, 0xed];
    [&wait[..], &tell].concat()
}

/// A node with a guest that says what is typed, and is off when that is `q`.
struct Node(TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        let code = [say("on"), echo(), out(0x601, 0x34), FOR_EVER.to_vec()].concat();
        std::fs::write(node.0.path().join("kernel"), elf(&code, true)).unwrap();
        let described =
            "version = 1\nname = \"web1\"\nprocessors = 2\nmemory = \"16M\"\nkernel = \"kernel\"\n";
        std::fs::write(node.file(), described).unwrap();
        node
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("web1.toml")
    }

    fn guests(&self) -> PathBuf {
        self.0.path().join("guests")
    }

    fn vm(&self, words: &[&str]) -> Answer {
        let mut command = bulkhead(&["vm"]);
        command.args(words).arg("--json").arg("--guests").arg(self.guests());
        command.output().unwrap().into()
    }

    /// What a command answers that does what it was told.
    fn ok(&self, words: &[&str]) -> Value {
        let answer = self.vm(words);
        assert_eq!(answer.code, 0, "{words:?}: {}", answer.err);
        serde_json::from_str(&answer.out).unwrap()
    }

    /// Why a command does not.
    fn fails(&self, code: i32, words: &[&str]) -> String {
        let answer = self.vm(words);
        assert_eq!(answer.code, code, "{words:?}: {}", answer.err);
        answer.err
    }

    fn is(&self, state: &str) {
        let list = self.ok(&["list"]);
        assert_eq!(list["guests"][0]["state"], state, "{list}");
        assert_eq!(self.ok(&["show", "web1"])["state"], state);
    }

    fn console(&self) -> UnixStream {
        let stream = UnixStream::connect(self.guests().join("web1/console.sock")).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.guests().exists() {
            self.vm(&["stop", "web1", "--now"]);
        }
    }
}

fn hears(mut console: &UnixStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    console.read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
}

#[test]
fn a_guest_is_made_begun_held_attached_to_ended_and_forgotten() {
    if !runs_guests() {
        return;
    }
    let node = Node::new();
    node.ok(&["create", node.file().to_str().unwrap()]);
    node.is("Off");
    node.ok(&["start", "web1", "--alone"]);
    for share in ["5", "100"] {
        node.ok(&["share", "web1", share]);
        assert_eq!(node.ok(&["show", "web1"])["share"].to_string(), share);
    }
    node.fails(2, &["share", "web1", "4"]);
    node.is("Running");
    assert!(node.fails(3, &["start", "web1", "--alone"]).contains("runs already"));
    assert!(node.fails(3, &["delete", "web1", "--yes"]).contains("runs already"));

    let (mut one, other) = (node.console(), node.console());
    hears(&one, "on");
    one.write_all(b"ab").unwrap();
    hears(&one, "ab");
    hears(&other, "onab");

    node.ok(&["pause", "web1"]);
    node.ok(&["pause", "web1"]);
    node.is("Paused");
    one.write_all(b"c").unwrap();
    one.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(one.read(&mut [0]).is_err(), "a guest that is held says nothing");
    one.set_read_timeout(Some(LONG)).unwrap();
    node.ok(&["resume", "web1"]);
    hears(&one, "c");
    node.is("Running");

    // It does not heed its power button.
    let why = node.fails(1, &["stop", "web1", "--timeout", "100ms"]);
    assert!(why.contains("still runs") && why.contains("--now"), "{why}");
    node.ok(&["stop", "web1", "--now"]);
    node.ok(&["stop", "web1", "--now"]);
    node.ok(&["stop", "web1"]);
    node.is("Off");
    assert!(node.fails(3, &["pause", "web1"]).contains("does not run"));
    assert!(node.ok(&["log", "web1"])["log"].as_str().unwrap().contains("onabc"));
    assert!(node.fails(3, &["delete", "web1"]).contains("would be deleted"));
    node.ok(&["delete", "web1", "--yes"]);
    assert!(node.fails(1, &["show", "web1"]).contains("no guest called web1"));
    assert_eq!(std::fs::read_dir(node.guests()).unwrap().count(), 0);
}

/// It begins held, goes on when told, and is off when it wants to be; then it can be begun again.
#[test]
fn a_guest_ends_by_itself_and_begins_again() {
    if !runs_guests() {
        return;
    }
    let node = Node::new();
    node.ok(&["create", node.file().to_str().unwrap()]);
    for _ in 0..3 {
        node.ok(&["start", "web1", "--alone", "--paused"]);
        node.is("Paused");
        let mut console = node.console();
        console.write_all(b"q").unwrap();
        node.ok(&["resume", "web1"]);
        hears(&console, "onq");
        let mut rest = Vec::new();
        console.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
        node.ok(&["stop", "web1"]);
        node.is("Off");
    }
}

/// S3-06, S0-11: a guest is written and ends; it goes on where it was, in another process and by another
/// name of this machine's, again and again.
#[test]
fn a_guest_goes_on_where_it_was_written() {
    if !runs_guests() {
        return;
    }
    let node = Node::new();
    let file = node.0.path().join("web1.snapshot");
    let file = file.to_str().unwrap();
    assert!(node.fails(1, &["restore", "web1", file, "--alone"]).contains("web1.snapshot"));
    node.ok(&["create", node.file().to_str().unwrap()]);
    node.ok(&["start", "web1", "--alone"]);
    hears(&node.console(), "on");
    // It goes on, and what was in the file is replaced.
    node.ok(&["snapshot", "web1", file]);
    node.is("Running");
    assert!(node.fails(3, &["restore", "web1", file, "--alone"]).contains("runs already"));
    assert!(node.fails(1, &["snapshot", "web1", "/proc/none/x"]).contains("/proc/none"));
    node.is("Running");
    for round in 0..3 {
        let written = node.ok(&["snapshot", "web1", file, "--stop"]);
        assert!(0 < written["bytes"].as_u64().unwrap(), "{written}");
        node.is("Off");
        if round == 1 {
            node.ok(&["delete", "web1", "--yes"]);
        }
        std::fs::remove_file(node.0.path().join("kernel")).unwrap_or_default();
        node.ok(&["restore", "web1", file, "--paused", "--alone"]);
        node.is("Paused");
        node.ok(&["resume", "web1"]);
        let mut console = node.console();
        console.write_all(b"ab").unwrap();
        hears(&console, "ab");
    }
    let mut console = node.console();
    console.write_all(b"q").unwrap();
    let mut rest = Vec::new();
    console.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"q"), "{rest:?}");
    node.ok(&["stop", "web1"]);
    std::fs::write(file, b"no snapshot").unwrap();
    assert!(node.fails(1, &["restore", "web1", file, "--alone"]).contains("web1.snapshot"));
    assert!(node.fails(1, &["restore", "web2", file, "--alone"]).contains("web1.snapshot"));
}

/// S3-06: a snapshot of what was written since another one needs that, and is found out where it is not.
#[test]
fn a_guest_goes_on_from_snapshots_that_build_on_each_other() {
    if !runs_guests() {
        return;
    }
    let node = Node::new();
    let path = |name: &str| node.0.path().join(name).to_str().unwrap().to_owned();
    node.ok(&["create", node.file().to_str().unwrap()]);
    node.ok(&["start", "web1", "--alone"]);
    hears(&node.console(), "on");
    assert!(node.fails(3, &["snapshot", "web1", &path("1"), "--since", &path("0")]).contains("not kept"));
    node.fails(2, &["snapshot", "web1", &path("1"), "--since", &path("0"), "--track"]);
    node.ok(&["snapshot", "web1", &path("0"), "--track"]);
    node.ok(&["snapshot", "web1", &path("1"), "--since", &path("0")]);
    node.ok(&["snapshot", "web1", &path("2"), "--since", &path("1"), "--stop"]);
    node.is("Off");
    std::fs::rename(path("0"), path("moved")).unwrap();
    let why = node.fails(3, &["restore", "web1", &path("2"), "--alone"]);
    assert!(why.contains("which is not at") && why.contains("--base FILE"), "{why}");
    node.is("Off");
    node.ok(&["restore", "web1", &path("2"), "--base", &path("moved"), "--alone"]);
    let mut console = node.console();
    console.write_all(b"ab").unwrap();
    hears(&console, "ab");
    // Another process: what it writes was kept by nobody.
    assert!(node.fails(3, &["snapshot", "web1", &path("3"), "--since", &path("2")]).contains("not kept"));
}

/// S3-06: Ctrl-C leaves nothing behind, and the guest goes on.
#[test]
fn a_snapshot_that_nobody_wants_any_more_is_not_there() {
    if !runs_guests() {
        return;
    }
    let node = Node::new();
    let path = |name: &str| node.0.path().join(name);
    std::fs::write(path("initrd"), vec![7; 4 << 20]).unwrap();
    let described = std::fs::read_to_string(node.file()).unwrap();
    std::fs::write(node.file(), described + "initrd = \"initrd\"\n").unwrap();
    node.ok(&["create", node.file().to_str().unwrap()]);
    node.ok(&["start", "web1", "--alone"]);
    let mut console = node.console();
    hears(&console, "on");
    // It waits for who reads it.
    rustix::fs::mkfifoat(rustix::fs::CWD, path("x.new"), rustix::fs::Mode::RWXU).unwrap();
    let mut command = bulkhead(&["vm", "snapshot", "web1"]);
    command.arg(path("x")).arg("--guests").arg(node.guests()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let mut reader = std::fs::File::open(path("x.new")).unwrap();
    reader.read_exact(&mut [0; 1 << 16]).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let begun = std::time::Instant::now();
    while node.ok(&["show", "web1"])["snapshot"]["state"] != "cancelled" {
        assert!(begun.elapsed() < LONG);
    }
    reader.read_to_end(&mut Vec::new()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && err.contains("was cancelled"), "{err}");
    assert!(!path("x").exists() && !path("x.new").exists());
    node.is("Running");
    console.write_all(b"ab").unwrap();
    hears(&console, "ab");
}

/// What is wrong is said where it was asked, and leaves no process behind.
#[test]
fn a_guest_that_cannot_begin_says_why() {
    if !runs_guests() {
        return;
    }
    let node = Node::new();
    std::fs::write(node.0.path().join("kernel"), "#!/bin/sh\n").unwrap();
    node.ok(&["create", node.file().to_str().unwrap()]);
    let why = node.fails(1, &["start", "web1", "--alone"]);
    assert!(why.contains("did not begin") && why.contains("/kernel"), "{why}");
    node.is("Off");
    // One whose process was killed leaves sockets behind, and begins again all the same.
    let sound = elf(&[say("on"), FOR_EVER.to_vec()].concat(), true);
    std::fs::write(node.0.path().join("kernel"), sound).unwrap();
    for _ in 0..2 {
        node.ok(&["start", "web1", "--alone"]);
        hears(&node.console(), "on");
        kill(&node.guests().join("web1/guest.toml"));
        node.is("Off");
    }
}

/// S3-03: a heartbeat that is lost is shown and said, and what was configured follows.
#[test]
fn a_lost_heartbeat_is_shown_and_what_was_configured_follows() {
    if !runs_guests() {
        return;
    }
    let node = Node::new();
    // A beat, and the next one within 2 s; none comes.
    let code = [say("on"), out(0x443, 14), FOR_EVER.to_vec()].concat();
    std::fs::write(node.0.path().join("kernel"), elf(&code, true)).unwrap();
    let described = std::fs::read_to_string(node.file()).unwrap();
    let messages = || std::fs::read_to_string(node.guests().join("web1/messages")).unwrap();
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let begun = std::time::Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < LONG, "{what}: {}", messages());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    for lost in ["report", "stop"] {
        std::fs::write(node.file(), format!("{described}[heartbeat]\nlost = \"{lost}\"\n")).unwrap();
        node.ok(&["create", node.file().to_str().unwrap()]);
        assert_eq!(node.ok(&["show", "web1"])["heartbeat"], Value::Null);
        node.ok(&["start", "web1", "--alone"]);
        hears(&node.console(), "on");
        if lost == "report" {
            until("lost", &|| node.ok(&["show", "web1"])["heartbeat"]["state"] == "lost");
            assert_eq!(messages(), "bulkhead: guest web1: its heartbeat is lost\n");
            let show = bulkhead(&["vm", "show", "web1"]).arg("--guests").arg(node.guests()).output().unwrap();
            let show = Answer::from(show).out;
            assert!(
                show.contains("  heartbeat    lost for ") && show.contains("; lost so far: 1\n"),
                "{show}"
            );
            node.is("Running");
            node.ok(&["stop", "web1", "--now"]);
        } else {
            until("off", &|| node.ok(&["show", "web1"])["state"] == "Off");
            assert!(
                messages().starts_with("bulkhead: guest web1: its heartbeat is lost; "),
                "{}",
                messages()
            );
            node.ok(&["stop", "web1"]);
        }
        node.ok(&["delete", "web1", "--yes"]);
    }
}

/// The process of a guest.
fn process(description: &Path) -> u32 {
    let of_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        words.get(1) == Some(&&b"vmm"[..]) && words.get(2) == Some(&description.to_str().unwrap().as_bytes())
    };
    let entries = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    entries.filter_map(|name| name.to_str()?.parse().ok()).find(of_it).unwrap()
}

/// V44: each thread of a guest's process is behind the filter of system calls, and has none of root's rights.
#[test]
fn a_guest_has_no_rights_beside_its_user() {
    if !runs_guests() {
        return;
    }
    let node = Node::new();
    node.ok(&["create", node.file().to_str().unwrap()]);
    node.ok(&["start", "web1", "--alone"]);
    hears(&node.console(), "on");
    let threads = format!("/proc/{}/task", process(&node.guests().join("web1/guest.toml")));
    let threads = std::fs::read_dir(threads).unwrap().map(|thread| thread.unwrap().path());
    let said: Vec<_> =
        threads.filter_map(|thread| std::fs::read_to_string(thread.join("status")).ok()).collect();
    assert!(6 < said.len(), "processors, devices, console, API: {}", said.len());
    let is_root = rustix::process::geteuid().is_root();
    for status in said {
        let has = |line: &str| status.lines().any(|one| one.split_whitespace().eq(line.split(' ')));
        assert!(has("Seccomp: 2") && has("NoNewPrivs: 1"), "{status}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(has(&format!("{set}: 0000000000000000")), "{status}");
        }
        assert!(!is_root || has("CapBnd: 0000000000000000"), "{status}");
    }
}

/// S2-01, V44: its network is made before that by who still has the right to.
#[test]
fn a_guest_without_rights_has_its_network() {
    let in_namespace = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "--"]).args(words).output()
    };
    let has_taps = in_namespace(&["ip", "tuntap", "add", "dev", "tap0", "mode", "tap"]);
    if !runs_guests() || !has_taps.is_ok_and(|tried| tried.status.success()) {
        println!("skipped: no guests, or no network namespace with taps");
        return;
    }
    let node = Node::new();
    let described = std::fs::read_to_string(node.file()).unwrap();
    std::fs::write(node.file(), described + "[[network]]\ntap = \"tap0\"\n").unwrap();
    let file = node.file();
    let run = format!("echo q | {} vmm {} --alone", env!("CARGO_BIN_EXE_bulkhead"), file.display());
    let ended = in_namespace(&["sh", "-c", &run]).unwrap();
    let err = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), ended.stdout), (Some(0), b"onq".to_vec()), "{err}");
}

/// Kills it.
fn kill(description: &Path) {
    let pid = process(description);
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    while bulkhead::vmm::in_use::is_in_use(description) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// S3-06: a guest goes on where it was in another process, and begins anew from there as any other.
#[test]
fn a_guest_is_restored_by_its_snapshot() {
    if !runs_guests() {
        return;
    }
    let node = Node::new();
    let code = [say("on"), echo(), out(0x600, 1), FOR_EVER.to_vec()].concat();
    std::fs::write(node.0.path().join("kernel"), elf(&code, true)).unwrap();
    let snapshot = node.0.path().join("web1.snapshot");
    let (mut said, writer) = std::io::pipe().unwrap();
    let origin =
        Origin::find(Description::read(&node.file()).unwrap(), Console::to(writer).unwrap(), None).unwrap();
    let machine = Machine::start(origin, &[], |_| ()).unwrap();
    said.read_exact(&mut [0; 2]).unwrap();
    drop(file::save(&machine, &snapshot, &Extent::All, None, &mut |_| Ok(())).unwrap());
    drop(machine);

    let restore = |more: &[&str]| {
        let mut command = bulkhead(&["vmm", "--alone", "--restore", snapshot.to_str().unwrap()]);
        let command = command.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Who is refused may not read it.
        let _ = child.stdin.take().unwrap().write_all(b"hello q");
        child
    };
    let mut child = restore(&[node.file().to_str().unwrap()]);
    let mut heard = [0; 9];
    child.stdout.take().unwrap().read_exact(&mut heard).unwrap();
    assert_eq!(heard, *b"hello qon", "it goes on, resets, and begins with its kernel");
    let twice = restore(&[]).wait_with_output().unwrap();
    assert_eq!(twice.status.code(), Some(3), "it runs already");
    child.kill().unwrap();
    child.wait().unwrap();

    // Its kernel is not needed, unless it is to begin with it.
    std::fs::remove_file(node.0.path().join("kernel")).unwrap();
    let once = restore(&["--once"]).wait_with_output().unwrap();
    assert_eq!((once.status.code(), once.stdout), (Some(0), b"hello q".to_vec()));
    let other = std::fs::read_to_string(node.file()).unwrap().replace("web1", "web2");
    std::fs::write(node.file(), other).unwrap();
    let wrong = restore(&[node.file().to_str().unwrap()]).wait_with_output().unwrap();
    let why = String::from_utf8(wrong.stderr).unwrap();
    assert!(why.contains("web1.snapshot is a snapshot of guest web1, not of web2"), "{why}");
    std::fs::write(&snapshot, b"BHGUEST\0").unwrap();
    let why = restore(&[]).wait_with_output().unwrap().stderr;
    assert!(String::from_utf8_lossy(&why).contains("web1.snapshot: it breaks off in the middle"), "{why:?}");
}
