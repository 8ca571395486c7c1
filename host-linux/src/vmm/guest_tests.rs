//! S3-03: guests of a few instructions that beat and stop beating, on this machine's own KVM. Where it has
//! none, the tests say so and pass.

use super::*;
use crate::vmm::begins::Kept;
use crate::vmm::description::Description;
use crate::vmm::said::{Said, runs_guests};
use crate::vmm::snapshot::tracked::Extent;
use crate::vmm::testing::{elf, out, say};
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Instant;

const LONG: Duration = Duration::from_secs(30);
/// The port of a beat, and the value for the shortest time.
const BEAT: u16 = 0x443;
const SHORT: u8 = 14;
/// How long that is.
const WITHIN: Duration = Duration::from_secs(2);

/// A guest that says `on`, does this, and then beats whenever something is typed, and says that.
fn kernel(first: &[u8]) -> Vec<u8> {
    // again: mov dx, 0x3fd; in al, dx; test al, 1; jz again
    let wait = [0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 1, 0x74, 0xf7];
    // mov dx, 0x3f8; in al, dx; out dx, al
    let tell = [0x66, 0xba, 0xf8, 0x03, 0xec, 0xee];
    let around = [&wait[..], &tell, &out(BEAT, SHORT)].concat();
    let back = u8::try_from(256 - around.len() - 2).unwrap();
    elf(&[&say("on")[..], first, &around, &[0xeb, back]].concat(), true)
}

/// A guest as it is described; `heartbeat` stands in its description.
fn described(directory: &Path, first: &[u8], heartbeat: &str) -> Begins {
    std::fs::write(directory.join("kernel"), kernel(first)).unwrap();
    let text = format!(
        "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"4M\"\nkernel = \"kernel\"\n\
         [heartbeat]\n{heartbeat}\n"
    );
    Begins::Anew(Description::parse(&text, directory).unwrap())
}

/// A guest that runs.
struct Running {
    said: Said,
    keys: Keys,
    tell: Sender<Event>,
    thread: JoinHandle<Result<Ended, Failure>>,
}

impl Running {
    fn begin(begins: Begins) -> Self {
        let (said, console) = Said::new();
        let (tell, events) = channel();
        let keys = Keys::new(tell.clone());
        let guest = Guest {
            console,
            keys: keys.clone(),
            is_once: false,
            is_paused: false,
            agent: None,
            loan: None,
            record: None,
            leaving: None,
            capturing: None,
            pace: Pace::default(),
            sandbox: None,
        };
        let own = tell.clone();
        let thread = std::thread::spawn(move || guest.run(begins, &events, &own));
        Self { said, keys, tell, thread }
    }

    fn asks(&self, order: Order) -> Value {
        let (hear, heard) = channel();
        let answer = Answer::new(move |answer| hear.send(answer.unwrap()).unwrap());
        self.tell.send(Event::Asked(order, answer)).unwrap();
        heard.recv_timeout(LONG).unwrap()
    }

    fn heart(&self) -> Value {
        self.asks(Order::Info)["heartbeat"].clone()
    }

    /// Waits until its heartbeat is like this. How long that took.
    fn is(&self, state: &str) -> Duration {
        let begun = Instant::now();
        while self.heart()["state"] != state {
            assert!(begun.elapsed() < LONG, "{}", self.heart());
            std::thread::sleep(Duration::from_millis(10));
        }
        begun.elapsed()
    }

    fn beats(&mut self) {
        assert!(self.keys.put(b"b"));
        self.said.hears("b");
    }

    fn stop(self) -> Result<Ended, Failure> {
        // It may have ended.
        let _ = self.tell.send(Event::Stop);
        self.thread.join().unwrap()
    }
}

/// What never began is not missed; what began and stops is, and is told until it is back.
#[test]
fn a_lost_heartbeat_is_reported() {
    if !runs_guests() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut guest = Running::begin(described(directory.path(), &[], ""));
    guest.said.hears("on");
    assert_eq!(guest.heart(), json!({ "state": "none", "lost_ms": null, "lost_count": 0 }));
    for round in 1..3 {
        guest.beats();
        guest.is("beats");
        guest.beats();
        assert!(WITHIN / 2 < guest.is("lost"), "a beat begins the time anew");
        std::thread::sleep(Duration::from_millis(100));
        let lost = guest.heart();
        assert!((100..9000).contains(&lost["lost_ms"].as_u64().unwrap()), "{lost}");
        assert_eq!((&lost["state"], &lost["lost_count"]), (&json!("lost"), &json!(round)));
    }
    guest.beats();
    guest.is("beats");
    assert_eq!(guest.stop().unwrap(), Ended::Stopped);
}

#[test]
fn a_lost_heartbeat_resets_the_guest() {
    if !runs_guests() {
        return;
    }
    // With the first beat or without any: what was expected does not come, each time anew.
    for (first, heartbeat) in
        [(out(BEAT, SHORT), "lost = \"reset\""), (Vec::new(), "lost = \"reset\"\nbegins_within = \"1s\"")]
    {
        let directory = tempfile::tempdir().unwrap();
        let mut guest = Running::begin(described(directory.path(), &first, heartbeat));
        guest.said.hears("ononon");
        assert!(2 <= guest.heart()["lost_count"].as_u64().unwrap());
        assert_eq!(guest.stop().unwrap(), Ended::Stopped);
    }
}

#[test]
fn a_lost_heartbeat_ends_the_guest() {
    if !runs_guests() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let begins = described(directory.path(), &out(BEAT, SHORT), "lost = \"stop\"");
    let mut guest = Running::begin(begins);
    guest.said.hears("on");
    let why = guest.thread.join().unwrap().unwrap_err();
    assert_eq!((why.exit.code(), why.what.as_str()), (1, format!("guest web1: {LOST}").as_str()));
}

/// A guest that is held is not expected to beat, and has afterwards what it had left.
#[test]
fn time_while_a_guest_is_held_does_not_count() {
    if !runs_guests() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let begins = described(directory.path(), &[], "lost = \"stop\"\nbegins_within = \"2s\"");
    let mut guest = Running::begin(begins);
    guest.said.hears("on");
    for state in ["awaited", "beats"] {
        assert_eq!(guest.heart()["state"], state);
        guest.asks(Order::Pause);
        std::thread::sleep(WITHIN + WITHIN / 2);
        assert_eq!(guest.heart()["state"], state, "it is held");
        guest.asks(Order::Resume);
        guest.beats();
        guest.is("beats");
    }
    // It runs, and is expected to beat.
    let begun = Instant::now();
    let why = guest.thread.join().unwrap().unwrap_err();
    assert!(WITHIN / 2 < begun.elapsed() && why.what.contains("its heartbeat is lost"), "{why:?}");
}

/// S3-06: where a guest goes on, its heartbeat begins anew, with its next beat or as its description says.
#[test]
fn a_restored_guest_begins_its_heartbeat_anew() {
    if !runs_guests() {
        return;
    }
    for (heartbeat, expected) in [("", "none"), ("begins_within = \"1h\"", "awaited")] {
        let directory = tempfile::tempdir().unwrap();
        let mut guest = Running::begin(described(directory.path(), &[], heartbeat));
        guest.said.hears("on");
        guest.beats();
        guest.is("beats");
        let path = directory.path().join("web1.snapshot");
        let to = Kept::File(path.clone());
        guest.asks(Order::Snapshot(task::Settings { to, extent: Extent::All, is_end: true }));
        assert_eq!(guest.thread.join().unwrap().unwrap(), Ended::Stopped);
        let mut guest =
            Running::begin(Begins::Again { snapshot: Kept::File(path), bases: Vec::new(), described: None });
        while guest.heart() == Value::Null {
            // It is read yet.
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(guest.heart(), json!({ "state": expected, "lost_ms": null, "lost_count": 0 }));
        guest.beats();
        guest.is("beats");
        guest.stop().unwrap();
    }
}

#[path = "guest_snapshot_tests.rs"]
mod snapshots;
