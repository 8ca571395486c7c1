//! Our client at our server, at qemu-nbd, at a server behind a server, and at servers that are wrong.

use super::harness::{Plant, SIZE, have, noise, ok};
use super::qemu::Qemu;
use bulkhead::nbd::client::connection::Client;
use bulkhead::nbd::client::negotiate::Refused;
use bulkhead::nbd::export::{Answer, Content, Errno, Export, Extent, Piece, Reply, Request, Span};
use bulkhead::nbd::uri::Uri;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

fn client(uri: &str) -> Client {
    Client::connect(&uri.parse().unwrap(), PATIENCE).unwrap()
}

fn ask(client: &Client, request: Request) -> Receiver<Answer> {
    let (sender, receiver) = channel();
    client.submit(request, Reply::new(move |answer| sender.send(answer).unwrap()));
    receiver
}

fn answer(client: &Client, request: Request) -> Answer {
    ask(client, request).recv_timeout(Duration::from_secs(30)).unwrap()
}

fn done(client: &Client, request: Request) {
    assert!(matches!(answer(client, request), Ok(Content::Done)));
}

fn read(client: &Client, offset: u64, length: u32) -> Vec<u8> {
    let Ok(Content::Data(pieces)) = answer(client, Request::Read { span: Span { offset, length } }) else {
        panic!("no data")
    };
    let one = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => (**bytes).as_ref().to_vec(),
        Piece::Zeroes(count) => vec![0; *count as usize],
    };
    pieces.iter().flat_map(one).collect()
}

/// Everything an export is asked, at the export behind `uri`.
pub fn all_works_by(uri: &str) {
    let client = client(uri);
    assert_eq!(client.geometry().size(), SIZE);
    let data = noise(3, 3 << 20);
    done(&client, Request::Write { offset: 1 << 20, data: data.clone(), durable: true });
    assert!(read(&client, 1 << 20, 3 << 20) == data);
    let span = Span { offset: 2 << 20, length: 1 << 20 };
    done(&client, Request::WriteZeroes { span, durable: true, allocated: true, fast: false });
    assert!(read(&client, 1 << 20, 2 << 20) == [&data[..1 << 20], &[0; 1 << 20]].concat());
    done(&client, Request::Trim { span, durable: true });
    done(&client, Request::Cache { span });
    done(&client, Request::Flush);
    let status = Request::Status { span: Span { offset: 1 << 20, length: 1 << 20 }, extents_max: 9 };
    let Ok(Content::Extents(extents)) = answer(&client, status) else { panic!("no extents") };
    assert_eq!(extents, [Extent { length: 1 << 20, hole: false, zero: false, dirty: false }]);
    // Many at once, each with its own answer.
    let writes: Vec<_> = (0..200_u64)
        .map(|at| {
            let data = noise(at, 8192);
            ask(&client, Request::Write { offset: (8 << 20) + at * 8192, data, durable: false })
        })
        .collect();
    writes.into_iter().for_each(|one| assert!(one.recv_timeout(PATIENCE).unwrap().is_ok()));
    for at in (0..200).rev() {
        assert!(read(&client, (8 << 20) + at * 8192, 8192) == noise(at, 8192));
    }
    let beyond = answer(&client, Request::Read { span: Span { offset: SIZE, length: 512 } });
    assert_eq!(beyond.unwrap_err().errno, Errno::Invalid);
    assert_eq!(client.ended(), None);
}

#[test]
fn our_client_does_everything_at_our_server() {
    let plant = Plant::new();
    plant.uris().iter().for_each(|uri| all_works_by(uri));
    let wrong = |uri: &str| Client::connect(&uri.parse().unwrap(), PATIENCE).unwrap_err();
    let [unix, tcp] = plant.uris();
    assert!(matches!(wrong(&tcp.replace("disk", "other")), Refused::Denied(0x8000_0006, _)));
    assert!(matches!(wrong(&tcp.replace("nbd:", "nbds:")), Refused::Tls(_)));
    assert!(matches!(wrong(&unix.replace(".sock", ".none")), Refused::Unreachable(_)));
}

#[test]
fn our_client_does_everything_at_qemu_nbd() {
    if !have("qemu-nbd", "qemu-utils") {
        return;
    }
    let plant = Plant::new();
    let qemu = Qemu::start(&plant.path("disk"), &plant.path("qemu.sock"));
    all_works_by(&Uri::unix(&plant.path("qemu.sock"), "disk").to_string());
    drop(qemu);
}

#[test]
fn a_server_behind_our_server_serves_the_clients_people_use() {
    if !have("nbdcopy", "libnbd-bin") {
        return;
    }
    let back = Plant::new();
    let front = Plant::empty(bulkhead::nbd::limits::Limits::default());
    front.server.publish("disk", "", Arc::new(client(&back.uris()[0]))).unwrap();
    let content = [noise(5, 20 << 20), vec![0; 44 << 20]].concat();
    let (source, copy) = (front.path("source"), front.path("copy"));
    std::fs::write(&source, &content).unwrap();
    for uri in front.uris() {
        ok("nbdcopy", &["--flush", source.to_str().unwrap(), &uri]);
        assert!(std::fs::read(back.path("disk")).unwrap() == content);
        ok("nbdcopy", &[&uri, copy.to_str().unwrap()]);
        assert!(std::fs::read(&copy).unwrap() == content);
        std::fs::remove_file(&copy).unwrap();
    }
}

#[test]
fn when_the_server_goes_everything_under_way_fails_and_so_does_what_comes_later() {
    let plant = Plant::new();
    let client = client(&plant.uris()[0]);
    let flushes: Vec<_> = (0..50).map(|_| ask(&client, Request::Flush)).collect();
    drop(plant);
    for one in flushes {
        // Answered before the end, or failed by it: never silent.
        one.recv_timeout(PATIENCE).unwrap().ok();
    }
    let begin = Instant::now();
    while client.ended().is_none() {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(answer(&client, Request::Flush).unwrap_err().errno, Errno::Io);
}

/// A server that shakes hands like a real one (simple replies), reads one request, and then says `bytes`.
fn wrong_server(bytes: &'static [u8]) -> (Client, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut sink = [0; 64];
        stream.write_all(b"NBDMAGICIHAVEOPT\0\x03").unwrap();
        stream.read_exact(&mut sink[..4 + 16]).unwrap();
        let head = |option: u8, kind: [u8; 4], length: u8| {
            [&0x3_e889_0455_65a9_u64.to_be_bytes()[..], &[0, 0, 0, option], &kind, &[0, 0, 0, length]]
                .concat()
        };
        stream.write_all(&head(8, [0x80, 0, 0, 1], 0)).unwrap();
        stream.read_exact(&mut sink[..16 + 8]).unwrap();
        stream.write_all(&head(7, [0, 0, 0, 3], 12)).unwrap();
        stream.write_all(b"\0\0\0\0\0\0\0\x10\0\0\0\x0d").unwrap();
        stream.write_all(&head(7, [0, 0, 0, 1], 0)).unwrap();
        stream.read_exact(&mut sink[..28]).unwrap();
        stream.write_all(bytes).unwrap();
        // Until the client gives up.
        while stream.read(&mut sink).is_ok_and(|count| 0 < count) {}
    });
    let uri = Uri::tcp(address, "");
    (Client::connect(&uri, Duration::from_secs(2)).unwrap(), thread)
}

#[test]
fn a_server_that_is_wrong_or_silent_ends_its_connection_in_time() {
    let cases: [(&[u8], &str); 6] = [
        (b"", "it did not answer in time"),
        (b"\x67\x44\x66\x98", "it did not answer in time"),
        (b"\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\0half", "it did not answer in time"),
        (b"HTTP/1.1 400 Bad", "it sent what is no reply"),
        (b"\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\x63", "it answered what nobody asked"),
        (b"\x66\x8e\x33\xef\0\x01\0\x01\0\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0", "it sent too much"),
    ];
    for (bytes, why) in cases {
        let (client, thread) = wrong_server(bytes);
        let failed = answer(&client, Request::Read { span: Span { offset: 0, length: 512 } }).unwrap_err();
        assert_eq!(failed.errno, Errno::Io, "{why}");
        assert_eq!(client.ended(), Some(why));
        thread.join().unwrap();
    }
}

#[test]
fn a_server_without_a_word_for_zeroes_is_sent_zeroes() {
    let answers = b"\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\0\x67\x44\x66\x98\0\0\0\x1c\0\0\0\0\0\0\0\x01";
    let (client, thread) = wrong_server(answers);
    let span = Span { offset: 0, length: 1 << 20 };
    let zeroes = |span, fast| Request::WriteZeroes { span, durable: true, allocated: true, fast };
    assert_eq!(answer(&client, zeroes(span, true)).unwrap_err().errno, Errno::Unsupported);
    // Two pieces: the first is written, the second finds no room, and that is the answer.
    let long = Span { length: 2 << 20, ..span };
    assert_eq!(answer(&client, zeroes(long, false)).unwrap_err().errno, Errno::NoSpace);
    done(&client, Request::Trim { span, durable: false });
    done(&client, Request::Cache { span });
    let whole = Extent { length: 1 << 20, hole: false, zero: false, dirty: false };
    let Ok(Content::Extents(told)) = answer(&client, Request::Status { span, extents_max: 4 }) else {
        panic!()
    };
    assert_eq!(told, [whole]);
    drop(client);
    thread.join().unwrap();
}
