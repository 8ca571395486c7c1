//! What the kernel's client is handed: a connection that knows simple replies only, of a server that has
//! carried out a read over it (S1-27 to S1-29).

use super::harness::{Plant, SIZE};
use bulkhead::nbd::client::negotiate::{Refused, connect_simple};
use bulkhead::nbd::socket::Socket;
use bulkhead::nbd::uri::Uri;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

#[test]
fn a_connection_for_the_kernel_is_answered_in_simple_replies() {
    let plant = Plant::new();
    for uri in plant.uris() {
        let (socket, taken) = connect_simple(&uri.parse().unwrap(), Duration::from_secs(10)).unwrap();
        assert_eq!(taken.geometry.size(), SIZE);
        let read = b"\x25\x60\x95\x13\0\0\0\0cookie!!\0\0\0\0\0\0\x10\0\0\0\x02\0";
        let mut reply = [1; 16 + 512];
        match socket {
            Socket::Tcp(mut stream) => {
                stream.write_all(read).unwrap();
                stream.read_exact(&mut reply).unwrap();
            }
            Socket::Unix(mut stream) => {
                stream.write_all(read).unwrap();
                stream.read_exact(&mut reply).unwrap();
            }
            Socket::Tls(_) => panic!("encrypted"),
        }
        assert_eq!(reply[..16], *b"\x67\x44\x66\x98\0\0\0\0cookie!!");
    }
    let [_, tcp] = plant.uris();
    let encrypted = tcp.replace("nbd:", "nbds:").parse().unwrap();
    assert!(matches!(connect_simple(&encrypted, Duration::from_secs(10)), Err(Refused::Tls(_))));
}

/// Seen with a node that was cut off from the one that leads: it took the kernel back after each timeout, and
/// a guest got one answer in 8 s.
#[test]
fn a_server_that_shakes_hands_and_carries_nothing_out_is_refused_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = Uri::tcp(listener.local_addr().unwrap(), "");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut sink = [0; 64];
        stream.write_all(b"NBDMAGICIHAVEOPT\0\x03").unwrap();
        // Its flags, and GO with an empty name and one kind of information asked for.
        stream.read_exact(&mut sink[..4 + 16]).unwrap();
        let length = usize::from(sink[19]);
        stream.read_exact(&mut sink[..length]).unwrap();
        let head = |kind: u8, length: u8| {
            let magic = 0x3_e889_0455_65a9_u64.to_be_bytes();
            [&magic[..], &[0, 0, 0, 7, 0, 0, 0, kind, 0, 0, 0, length]].concat()
        };
        stream.write_all(&head(3, 12)).unwrap();
        stream.write_all(b"\0\0\0\0\0\0\0\x10\0\0\x01\x0d").unwrap();
        stream.write_all(&head(1, 0)).unwrap();
        // Until the client gives up.
        while stream.read(&mut sink).is_ok_and(|count| 0 < count) {}
    });
    let begin = Instant::now();
    let refused = connect_simple(&uri, Duration::from_secs(1)).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(refused.to_string(), "the server refuses: it carries out no read");
    server.join().unwrap();
}
