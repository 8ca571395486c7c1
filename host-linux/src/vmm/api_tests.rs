//! The API as a client with bare hands sees it.

use super::*;
use crate::migration::barrier::Step;
use crate::vmm::guest::Event;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};

struct Served {
    path: PathBuf,
    _api: Api,
    _directory: tempfile::TempDir,
}

impl Served {
    /// An API before a guest that answers each order with this.
    fn new(answer: impl Fn(Order) -> Result<Value, Failure> + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api");
        let (tell, events): (_, Receiver<Event>) = channel();
        let api = Api::serve(&path, tell).unwrap();
        std::thread::spawn(move || {
            for event in events {
                let Event::Asked(order, heard) = event else { continue };
                heard.hear(answer(order));
            }
        });
        Self { path, _api: api, _directory: directory }
    }

    /// The answer to these bytes, and to nothing more.
    fn say(&self, bytes: &[u8], is_all: bool) -> String {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(bytes).unwrap();
        if is_all {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    fn ask(&self, method: &str, path: &str) -> String {
        self.say(
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
            false,
        )
    }
}

/// What this guest answers.
fn said(order: Order) -> Result<Value, Failure> {
    match order {
        Order::Info => Ok(json!({ "state": "Running" })),
        Order::Counters => Ok(json!({ "disk0": { "read_ops": 1 } })),
        Order::Pause | Order::Resume | Order::Reboot | Order::PowerButton => Ok(Value::Null),
        Order::Snapshot(Settings { to: Kept::File(path), extent, is_end }) => {
            let expected = match path.to_str().unwrap() {
                "/srv/web 1" => (Extent::All, true),
                "/srv/0" => (Extent::Tracked, false),
                _ => (Extent::Since("/srv/0".into()), false),
            };
            assert_eq!((extent, is_end), expected);
            Ok(Value::Null)
        }
        Order::Snapshot(Settings { to: Kept::Own(name), extent, is_end }) => {
            assert_eq!((name.as_str(), extent, is_end), ("last", Extent::All, false));
            Err(Failure::refused("it runs alone"))
        }
        Order::Leave(leave) => {
            assert_eq!((leave.node.as_str(), leave.downtime.as_millis()), ("b1", 300));
            Ok(json!({ "rounds": 2 }))
        }
        Order::Share(share) => {
            assert!([5, 100].contains(&share), "{share}");
            Ok(Value::Null)
        }
        Order::Advance(advance) => {
            assert_eq!((&*advance.together, advance.step), ("x", Some(Step::Hold)));
            Ok(json!({ "phase": "ready" }))
        }
        Order::Abandon => Err(Failure::refused("no snapshot")),
        Order::Stay => Err(Failure::refused("it is not being moved")),
        Order::Shutdown => Err(Failure::refused("it is being moved").next("wait for it.")),
    }
}

#[test]
fn a_guest_is_asked_by_the_names_of_cloud_hypervisor() {
    let served = Served::new(said);
    let cases = [
        ("GET", "vmm.ping", "200", "\"version\""),
        ("GET", "vm.info", "200", "{\"state\":\"Running\"}"),
        ("GET", "vm.counters", "200", "{\"disk0\":{\"read_ops\":1}}"),
        ("PUT", "vm.counters", "405", "takes GET, not PUT"),
        ("PUT", "vm.pause", "204", ""),
        ("PUT", "vm.resume", "204", ""),
        ("PUT", "vm.power-button", "204", ""),
        ("PUT", "vm.shutdown", "409", "it is being moved"),
        ("PUT", "vm.cancel-migration", "409", "it is not being moved"),
        ("PUT", "vm.cancel-snapshot", "409", "no snapshot"),
        ("PUT", "vm.send-migration", "400", "the body of vm.send-migration"),
        ("PUT", "vm.advance-migration", "400", "the body of vm.advance-migration"),
        ("PUT", "vm.info", "405", "takes GET, not PUT"),
        ("PUT", "vm.explode", "404", "nothing is at /api/v1/vm.explode"),
    ];
    for (method, path, code, body) in cases {
        let answer = served.ask(method, &format!("/api/v1/{path}"));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {code} ")) && answer.contains(body),
            "{path}: {answer}"
        );
    }
    let with = |path: &str, body: &str| {
        let head = format!("PUT /api/v1/{path} HTTP/1.1\r\nHost: x\r\nConnection: close");
        served.say(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(), false)
    };
    let answer = with("vm.snapshot", r#"{"destination_url": "file:///srv/web 1", "stop": true}"#);
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    let answer = with("vm.advance-migration", r#"{"together": "x", "step": "hold"}"#);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("ready"), "{answer}");
    for kept in [
        r#"{"destination_url": "file:///srv/0", "track": true}"#,
        r#"{"destination_url": "file:///srv/1", "since": "/srv/0"}"#,
    ] {
        assert!(with("vm.snapshot", kept).starts_with("HTTP/1.1 204 "), "{kept}");
    }
    let answer = with("vm.snapshot", r#"{"destination_url": "own:last"}"#);
    assert!(answer.starts_with("HTTP/1.1 409 ") && answer.contains("it runs alone"), "{answer}");
    let since = r#"{"destination_url": "file:///x", "since": "x"}"#;
    let wrong = ["", "[]", "{}", r#"{"destination_url": "/x"}"#, r#"{"destination_url": "file://x"}"#, since];
    let wrong =
        wrong.into_iter().chain([r#"{"destination_url": "own:"}"#, r#"{"destination_url": "own:a/b"}"#]);
    for wrong in wrong {
        let answer = with("vm.snapshot", wrong);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("destination_url"), "{answer}");
    }
    let answer = with("vm.send-migration", r#"{"node": "b1"}"#);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#"{"rounds":2}"#), "{answer}");
    for wrong in ["{}", r#"{"node": "b1", "bandwidth": 1000}"#, r#"{"node": "b1", "to": 1}"#] {
        assert!(with("vm.send-migration", wrong).starts_with("HTTP/1.1 400 "), "{wrong}");
    }
    let mode = std::fs::metadata(&served.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let twice = Api::serve(&served.path, channel().0).unwrap_err();
    assert!(twice.what.contains("another guest serves"), "{}", twice.what);
    let long = Api::serve(&served.path.with_file_name("x".repeat(120)), channel().0).unwrap_err();
    assert!(long.what.contains("open the socket") && long.next.contains("100 bytes"), "{long:?}");
}

/// S1-52.
#[test]
fn a_share_is_within_its_bounds() {
    let served = Served::new(said);
    let with = |body: &str| {
        let head = "PUT /api/v1/vm.share HTTP/1.1\r\nHost: x\r\nConnection: close";
        served.say(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(), false)
    };
    for body in [r#"{"percent": 5}"#, r#"{"percent": 100}"#] {
        assert!(with(body).starts_with("HTTP/1.1 204 "), "{body}");
    }
    for body in
        ["", "{}", r#"{"percent": 4}"#, r#"{"percent": 101}"#, r#"{"percent": -1}"#, r#"{"percent": 256}"#]
    {
        let answer = with(body);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("the body of vm.share"), "{answer}");
    }
}

/// V16, I11: who says nonsense, says nothing, or says too much costs a slot for a while; others are served.
#[test]
fn hostile_clients_hold_nobody_up() {
    let served = Served::new(|_| Ok(Value::Null));
    for nonsense in [&b"\0\xff\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", &[b'x'; 100_000]] {
        let answer = served.say(nonsense, true);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let long =
        format!("PUT /api/v1/vm.pause HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", BODY_MAX + 1);
    let answer = served.say(&[long.as_bytes(), &vec![b'x'; BODY_MAX + 1]].concat(), true);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let silent: Vec<_> =
        (0..CONNECTIONS_MAX - 1).map(|_| UnixStream::connect(&served.path).unwrap()).collect();
    assert!(served.ask("GET", "/api/v1/vmm.ping").starts_with("HTTP/1.1 200"));
    drop(silent);
}

/// A guest that has ended says so, and the socket goes with it.
#[test]
fn who_asks_a_guest_that_ends_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api");
    let (tell, events) = channel();
    let api = Api::serve(&path, tell).unwrap();
    drop(events);
    let served = Served { path: path.clone(), _api: api, _directory: directory };
    let answer = served.ask("PUT", "/api/v1/vm.pause");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("the guest ends"), "{answer}");
    drop(served);
    assert!(!path.exists());
}
