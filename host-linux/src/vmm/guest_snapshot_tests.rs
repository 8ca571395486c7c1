//! S3-06: a snapshot that is taken while the guest's process answers; the file is a pipe, so that it waits
//! for who reads it. On this machine's own KVM; where it has none, the tests say so and pass.

use super::*;
use crate::vmm::begins::Kept;
use crate::vmm::snapshot::tracked::Extent;
use rustix::fs::{CWD, Mode, mkfifoat};
use std::fs::File;
use std::io::Read as _;
use std::sync::mpsc::Receiver;

/// A guest with memory that does not fit into a pipe.
fn large(directory: &Path) -> Begins {
    std::fs::write(directory.join("kernel"), kernel(&[])).unwrap();
    std::fs::write(directory.join("initrd"), vec![7; 5 << 20]).unwrap();
    let text = "version = 1\nname = \"web1\"\nprocessors = 1\nmemory = \"8M\"\nkernel = \"kernel\"\n\
                initrd = \"initrd\"\n";
    Begins::Anew(Description::parse(text, directory).unwrap())
}

impl Running {
    fn asks_for(&self, order: Order) -> Receiver<Result<Value, Failure>> {
        let (hear, heard) = channel();
        self.tell.send(Event::Asked(order, Answer::new(move |answer| hear.send(answer).unwrap()))).unwrap();
        heard
    }

    fn fails(&self, order: Order, expected: &str) {
        let why = self.asks_for(order).recv_timeout(LONG).unwrap().unwrap_err();
        assert!(why.what.contains(expected), "{expected}: {why:?}");
    }

    /// Has it written into a pipe; who reads that, and who hears of it. It is in the middle of that.
    fn is_written(&self, path: &Path) -> (File, Receiver<Result<Value, Failure>>) {
        let new = path.with_extension("new");
        mkfifoat(CWD, &new, Mode::RWXU).unwrap();
        let taken = self.asks_for(snapshot(path, false));
        let reader = File::open(&new).unwrap();
        let begun = Instant::now();
        while self.asks(Order::Info)["snapshot"]["state"] != "writing" {
            assert!(begun.elapsed() < LONG);
            std::thread::sleep(Duration::from_millis(5));
        }
        (reader, taken)
    }
}

fn snapshot(path: &Path, is_end: bool) -> Order {
    Order::Snapshot(task::Settings { to: Kept::File(path.to_owned()), extent: Extent::All, is_end })
}

/// How far it is is shown; it can be cancelled, and then nothing is left, and the guest goes on.
#[test]
fn a_snapshot_is_shown_and_can_be_cancelled() {
    if !runs_guests() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut guest = Running::begin(large(directory.path()));
    guest.said.hears("on");
    guest.fails(Order::Abandon, "no snapshot of it is being taken");
    assert_eq!(guest.asks(Order::Info)["snapshot"], Value::Null);
    let path = directory.path().join("x");
    let (mut reader, taken) = guest.is_written(&path);
    let info = guest.asks(Order::Info);
    assert_eq!((&info["state"], &info["held"]), (&json!("Paused"), &json!(["captured"])));
    let (bytes, of) = (info["snapshot"]["bytes"].as_u64().unwrap(), info["snapshot"]["of"].as_u64().unwrap());
    assert!((1..of).contains(&bytes) && of == 8 << 20, "{info}");
    guest.fails(snapshot(&path, false), "a snapshot of it is being taken already");
    let (node, downtime) = ("b1".to_owned(), Duration::ZERO);
    let leave = Leave {
        node,
        agent: Some("/none".into()),
        downtime,
        bandwidth: None,
        is_quick: true,
        with_disks: false,
        together: None,
    };
    guest.fails(Order::Leave(leave), "a snapshot of guest web1 is being taken");
    assert_eq!(guest.asks(Order::Abandon), Value::Null);
    let mut written = Vec::new();
    reader.read_to_end(&mut written).unwrap();
    assert!(written.len() < 3 << 20, "it goes on for {} bytes", written.len());
    let why = taken.recv_timeout(LONG).unwrap().unwrap_err();
    assert_eq!(why.what, "the snapshot of guest web1 was cancelled");
    guest.beats();
    let mut names: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["initrd", "kernel"]);
    let info = guest.asks(Order::Info);
    assert_eq!((&info["snapshot"], &info["state"]), (&Value::Null, &json!("Running")));
    // The next one is not cancelled.
    guest.asks_for(snapshot(&path, true)).recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(guest.thread.join().unwrap().unwrap(), Ended::Stopped);
    assert!(path.exists());
}

/// A guest that ends meanwhile does not wait for its snapshot, and who asked for that hears it.
#[test]
fn a_guest_that_ends_leaves_no_half_of_a_snapshot() {
    if !runs_guests() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut guest = Running::begin(large(directory.path()));
    guest.said.hears("on");
    let path = directory.path().join("x");
    // A reset, and its end.
    for is_end in [false, true] {
        let (mut reader, taken) = guest.is_written(&path);
        guest
            .tell
            .send(if is_end { Event::Stop } else { Event::Asked(Order::Reboot, Answer::new(|_| ())) })
            .unwrap();
        reader.read_to_end(&mut Vec::new()).unwrap();
        assert!(taken.recv_timeout(LONG).unwrap().unwrap_err().what.contains("was cancelled"));
        assert!(!path.exists() && !path.with_extension("new").exists());
        if !is_end {
            guest.said.hears("on");
        }
    }
    assert_eq!(guest.thread.join().unwrap().unwrap(), Ended::Stopped);
}

/// A guest that is read says how far that is, and is not begun if it is not to be.
#[test]
fn a_guest_that_is_restored_answers() {
    if !runs_guests() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut guest = Running::begin(large(directory.path()));
    guest.said.hears("on");
    let path = directory.path().join("x");
    guest.asks_for(snapshot(&path, true)).recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(guest.thread.join().unwrap().unwrap(), Ended::Stopped);
    let (tell, events) = channel();
    let (hear, heard) = channel();
    tell.send(Event::Asked(Order::Info, Answer::new(move |said| hear.send(said.unwrap()).unwrap()))).unwrap();
    tell.send(Event::Asked(Order::Shutdown, Answer::new(|_| ()))).unwrap();
    let begins = Begins::Again { snapshot: Kept::File(path.clone()), bases: Vec::new(), described: None };
    let Err(why) = begins.find(&Said::new().1, None, &events) else { panic!("it was told to end") };
    assert!(why.what.contains("told to end before all of it was read"), "{why:?}");
    let info = heard.recv_timeout(LONG).unwrap();
    let of = std::fs::metadata(&path).unwrap().len();
    assert_eq!((&info["state"], &info["snapshot"]["of"]), (&json!("Restoring"), &json!(of)));
}
