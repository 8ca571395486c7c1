//! Clients that mean harm to a server with TLS, beside a good one (V43, F42; CVE-2021-3716).

use super::certificates::Authority;
use super::harness::{Plant, noise};
use super::raw::{Raw, request};
use bulkhead::nbd::limits::Limits;
use bulkhead::tls::files::Trust;
use rustls::{ClientConnection, Connection, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// A reply that is late by more than this is a client that was disturbed; far above a busy machine's noise.
const UNDISTURBED: Duration = Duration::from_millis(900);

/// Short times, so that what must end does so while a test can watch.
fn strict() -> Limits {
    let second = Duration::from_secs(1);
    Limits { handshake: second, stall: second, ..Limits::default() }
}

/// Has said that it wants TLS, and was told to go on.
fn started(plant: &Plant) -> Raw {
    let mut raw = Raw::new(plant.tcp);
    raw.say(&3_u32.to_be_bytes());
    raw.option(5, b"");
    assert_eq!(raw.answer(), (1, Vec::new()));
    raw
}

/// Encrypts, with the certificates of a directory.
fn encrypted(plant: &Plant, certificates: &str) -> Encrypted {
    let trust = Trust::from_directory(&plant.path(certificates)).unwrap();
    let Connection::Client(connection) = trust.client("127.0.0.1").unwrap() else { panic!("a client") };
    StreamOwned::new(connection, started(plant).0)
}

fn option(option: u32, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u32;
    [&b"IHAVEOPT"[..], &option.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// Takes `disk` in the old way: simple replies.
fn entered(plant: &Plant) -> Encrypted {
    let mut stream = encrypted(plant, "client");
    stream.write_all(&option(1, b"disk")).unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    stream
}

/// Writes and reads a little, and tells the longest time that took.
fn works(stream: &mut Encrypted, rounds: u64) -> Duration {
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let begin = Instant::now();
        let data = noise(round, 4096);
        stream.write_all(&[&request(0, 1, round, round * 4096, 4096)[..], &data].concat()).unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
        stream.write_all(&request(0, 0, round, round * 4096, 4096)).unwrap();
        let mut back = [0; 16 + 4096];
        stream.read_exact(&mut back).unwrap();
        assert!(back[16..] == data);
        slowest = slowest.max(begin.elapsed());
    }
    slowest
}

fn gone(stream: &mut Encrypted) -> bool {
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn nothing_in_the_clear_enters_a_server_that_wants_tls() {
    let (plant, _) = Plant::secure(strict(), true);
    let mut good = entered(&plant);
    let go = [&[0, 0, 0, 4][..], b"disk", &[0, 0]].concat();
    let mut raw = Raw::new(plant.tcp);
    raw.say(&3_u32.to_be_bytes());
    for (number, data) in [(3, &b""[..]), (6, &go), (7, &go), (8, b""), (10, b"x"), (99, b"y")] {
        raw.option(number, data);
        assert_eq!(raw.answer().0, 0x8000_0005, "option {number}");
    }
    raw.option(1, b"disk");
    assert!(raw.closes());
    // A request, as if it had entered.
    let mut raw = Raw::new(plant.tcp);
    raw.say(&3_u32.to_be_bytes());
    raw.say(&request(0, 1, 1, 0, 4096));
    assert!(raw.closes());
    assert!(works(&mut good, 50) < UNDISTURBED);
}

/// What is sent in the clear behind `STARTTLS`, in the same packet or a later one, is never obeyed.
#[test]
fn what_is_injected_before_the_handshake_is_not_obeyed() {
    let (plant, _) = Plant::secure(strict(), false);
    let go = [&[0, 0, 0, 4][..], b"disk", &[0, 0]].concat();
    for injected in [option(8, b""), option(1, b"disk"), option(7, &go), request(0, 1, 1, 0, 512)] {
        let mut raw = Raw::new(plant.tcp);
        raw.say(&[&3_u32.to_be_bytes()[..], &option(5, b""), &injected].concat());
        assert!(raw.closes());
        let mut raw = started(&plant);
        raw.say(&injected);
        assert!(raw.closes());
        assert_eq!(plant.server.clients("disk"), 0);
    }
    // Nor is what was agreed on in the clear: replies are simple until that is asked again.
    let mut raw = Raw::new(plant.tcp);
    raw.say(&3_u32.to_be_bytes());
    raw.option(8, b"");
    assert_eq!(raw.answer().0, 1);
    raw.option(5, b"");
    assert_eq!(raw.answer().0, 1);
    let trust = Trust::from_directory(&plant.path("client")).unwrap();
    let Connection::Client(connection) = trust.client("localhost").unwrap() else { panic!("a client") };
    let mut stream = StreamOwned::new(connection, raw.0);
    stream.write_all(&option(1, b"disk")).unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    stream.write_all(&request(0, 0, 7, 0, 512)).unwrap();
    let mut head = [0; 4];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(u32::from_be_bytes(head), 0x6744_6698);
}

#[test]
fn half_open_handshakes_and_garbage_change_nothing_for_others() {
    let (plant, _) = Plant::secure(strict(), true);
    let mut good = entered(&plant);
    let trust = Trust::from_directory(&plant.path("client")).unwrap();
    let mut hello = Vec::new();
    trust.client("localhost").unwrap().write_tls(&mut hello).unwrap();
    let mut crowd = Vec::new();
    let mut slowest = Duration::ZERO;
    for round in 0..12 {
        for number in 0..40 {
            let mut raw = started(&plant);
            let sent = match number % 4 {
                0 => Vec::new(),
                1 => hello[..hello.len() / 2].to_vec(),
                2 => hello.clone(),
                _ => noise(round * 40 + number, 700),
            };
            let _ = raw.0.write_all(&sent);
            crowd.push(raw);
        }
        slowest = slowest.max(works(&mut good, 5));
        let begin = Instant::now();
        works(&mut entered(&plant), 1);
        slowest = slowest.max(begin.elapsed());
    }
    assert!(slowest < UNDISTURBED, "{slowest:?}");
    assert!(crowd.iter_mut().all(Raw::closes), "each ends");
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads < 200, "{threads} threads");
    assert!(works(&mut good, 50) < UNDISTURBED);
}

#[test]
fn who_cannot_prove_itself_gets_no_byte_of_an_export() {
    let (plant, authority) = Plant::secure(strict(), true);
    let mut good = entered(&plant);
    authority.issue_until(2020, &plant.path("expired"), &[]);
    Authority::new("somebody else").issue(&plant.path("other"), &[]);
    std::fs::copy(plant.path("client/ca-cert.pem"), plant.path("other/ca-cert.pem")).unwrap();
    std::fs::create_dir(plant.path("nobody")).unwrap();
    std::fs::copy(plant.path("client/ca-cert.pem"), plant.path("nobody/ca-cert.pem")).unwrap();
    for wrong in ["expired", "other", "nobody"] {
        let mut stream = encrypted(&plant, wrong);
        let _ = stream.write_all(&option(1, b"disk"));
        let mut bytes = [0; 10];
        assert!(stream.read_exact(&mut bytes).is_err() && bytes == [0; 10], "{wrong}");
    }
    assert_eq!(plant.server.clients("disk"), 1);
    assert!(works(&mut good, 50) < UNDISTURBED);
}

/// A client with a certificate is no better than one without: it costs a bounded amount, and ends in time.
#[test]
fn a_client_that_does_not_read_or_finish_is_closed() {
    let (plant, _) = Plant::secure(strict(), true);
    let free = plant.server.free_bytes();
    let mut good = entered(&plant);
    let mut deaf = entered(&plant);
    deaf.sock.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    for cookie in 0..200 {
        if deaf.write_all(&request(0, 0, cookie, 0, 8 << 20)).is_err() {
            break;
        }
    }
    let mut slow = entered(&plant);
    slow.write_all(&[&request(0, 1, 1, 32 << 20, 1 << 20)[..], &[0xee; 1000]].concat()).unwrap();
    // Half a record of a request that is begun, and then nothing.
    let mut half = entered(&plant);
    half.write_all(&request(0, 1, 1, 33 << 20, 4096)).unwrap();
    half.conn.writer().write_all(&[0xdd; 4096]).unwrap();
    let mut record = Vec::new();
    half.conn.write_tls(&mut record).unwrap();
    half.sock.write_all(&record[..100]).unwrap();
    // A record that nobody encrypted.
    let mut forged = entered(&plant);
    record.fill(0x17);
    forged.sock.write_all(&[&[0x17, 3, 3, 0, 200][..], &record[..200]].concat()).unwrap();
    assert!(works(&mut good, 300) < UNDISTURBED);
    assert!(gone(&mut slow) && gone(&mut half) && gone(&mut forged));
    let begin = Instant::now();
    while plant.server.clients("disk") != 1 {
        assert!(begin.elapsed() < Duration::from_secs(45), "still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(plant.server.free_bytes(), free);
    let disk = std::fs::read(plant.path("disk")).unwrap();
    assert!(disk[32 << 20..].iter().all(|byte| *byte == 0), "nothing of a half-sent write is there");
}
