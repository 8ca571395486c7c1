//! The control socket against hostile clients: each of them is bounded in bytes, connections and time, and
//! none of them keeps a friendly one from its answer (V16, V43, F38).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use bulkhead::cluster::client::Client;
use bulkhead::cluster::control::{CONNECTIONS_MAX, Control, PATIENCE, REQUEST_MAX};
use bulkhead::cluster::events::{Log, News};
use bulkhead::cluster::request::{Answer, Request};
use bulkhead::cluster::wake::Wake;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A loop that answers everything, as the agent's does.
struct Served {
    _directory: tempfile::TempDir,
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let mut log = Log::new();
        log.say(News::new("started", "the agent started", json!({})));
        let control = Control::open(&path, log.reader(), Wake::new().unwrap()).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                if let Ok(question) = control.questions.recv_timeout(Duration::from_millis(5)) {
                    let request = format!("{:?}", question.request);
                    log.say(News::new("asked", request.clone(), json!({ "request": request.clone() })));
                    question.answer(Answer::done("asked", request.into()));
                }
            }
        });
        Self { _directory: directory, path, stop, thread: Some(thread) }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream
    }

    fn answers(&self) -> Result<(), bulkhead::failure::Failure> {
        let answer = Client::connect(&self.path)?.ask(&Request::Status)?;
        assert_eq!(answer["asked"], "Status");
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

#[test]
fn only_its_owner_can_use_it_and_a_second_agent_cannot_take_it() {
    let served = Served::start();
    served.answers().unwrap();
    assert_eq!(std::fs::metadata(&served.path).unwrap().permissions().mode() & 0o777, 0o600);
    let second = Control::open(&served.path, Log::new().reader(), Wake::new().unwrap()).unwrap_err();
    assert!(second.exit.code() == 3 && second.what.contains("another agent"), "{second:?}");
    let path = served.path.clone();
    drop(served);
    assert!(!path.exists());
    // One that was killed leaves its socket; the next one takes its place.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    Control::open(&path, Log::new().reader(), Wake::new().unwrap()).unwrap();
    let long = directory.path().join("x".repeat(120));
    let long = Control::open(&long, Log::new().reader(), Wake::new().unwrap()).unwrap_err();
    assert!(long.what.contains("open the control socket") && long.next.contains("100 bytes"), "{long:?}");
}

#[test]
fn garbage_is_answered_and_too_much_of_it_ends_the_connection() {
    let served = Served::start();
    let mut stream = served.connect();
    stream.write_all(b"not json\n{\"request\":\"explode\"}\n{\"request\":\"node-join\"}\n").unwrap();
    let mut seen = String::new();
    while seen.matches('\n').count() < 3 {
        let mut buffer = [0; 512];
        let len = stream.read(&mut buffer).unwrap();
        seen.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
    }
    assert_eq!(seen.matches("this is no request").count(), 3, "{seen}");

    let mut endless = served.connect();
    let _ = endless.write_all(&vec![b'x'; REQUEST_MAX * 4]);
    let mut told = String::new();
    let _ = endless.read_to_string(&mut told);
    assert!(told.contains("at most 4096 bytes"), "{told}");
    served.answers().unwrap();
}

#[test]
fn slow_and_many_clients_lose_their_slots_and_the_loop_goes_on() {
    let served = Served::start();
    let mut slow: Vec<_> = (0..CONNECTIONS_MAX * 3).map(|_| served.connect()).collect();
    let begin = Instant::now();
    // A byte now and then keeps nobody connected beyond the patience of the agent.
    while begin.elapsed() < PATIENCE + Duration::from_secs(1) {
        slow.iter_mut().for_each(|stream| drop(stream.write_all(b"{")));
        std::thread::sleep(Duration::from_millis(200));
    }
    served.answers().unwrap();
    let full = slow.iter_mut().filter_map(|stream| {
        let mut told = String::new();
        let _ = stream.read_to_string(&mut told);
        told.contains("all its connections").then_some(())
    });
    assert!(CONNECTIONS_MAX <= full.count(), "nobody was told that it is full");
}

#[test]
fn followers_get_what_happened_and_what_happens_and_nobody_waits_for_a_slow_one() {
    let served = Served::start();
    let mut stalled = Client::connect(&served.path).unwrap();
    stalled.follow(&Request::Events { after: 0, follow: true }).unwrap();
    let mut follower = Client::connect(&served.path).unwrap();
    follower.follow(&Request::Events { after: 0, follow: true }).unwrap();
    assert_eq!(follower.line().unwrap().unwrap()["kind"], "started");
    for _ in 0..200 {
        served.answers().unwrap();
    }
    for seq in 2..=201 {
        assert_eq!(follower.line().unwrap().unwrap()["seq"], seq);
    }
    let all = Client::connect(&served.path).unwrap().ask(&Request::Events { after: 199, follow: false });
    assert_eq!(all.unwrap()["events"].as_array().unwrap().len(), 2);
}
