//! An encrypted socket beside what a plain one promises (V43, F42).

use super::*;
use crate::tls::certificates::Authority;
use crate::tls::files::{Credentials, Files};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
use std::os::unix::net::UnixStream;

fn credentials(directory: &std::path::Path) -> Credentials {
    let node = Authority::new("the site").issue(directory, &["localhost"]);
    let path = |name| node.join(name);
    let (certificate, key) = (path("client-cert.pem"), path("client-key.pem"));
    Files { certificate, key, authorities: path("ca-cert.pem") }.read().unwrap()
}

/// Both ends of a connection whose sockets hold little.
fn ends() -> [Secure; 2] {
    let directory = tempfile::tempdir().unwrap();
    let credentials = credentials(directory.path());
    let (one, other) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
    sockopt::set_socket_send_buffer_size(&one, 4096).unwrap();
    let server = Secure::new(one, credentials.server().unwrap());
    let client = Secure::new(other, credentials.trust().client("localhost").unwrap());
    let mut rounds = 0;
    while [&server, &client].map(|end| end.shake().unwrap()) != [Shake::Done; 2] {
        rounds += 1;
        assert!(rounds < 100, "the handshake does not come to its end");
    }
    [server, client]
}

/// What is called sent is in the kernel, and each byte of it arrives once, however little fits at a time.
#[test]
fn what_is_called_sent_has_left_and_arrives_once() {
    let [server, client] = ends();
    let bytes: Vec<u8> =
        (0..175_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let (mut sent, mut came, mut chance) = (0, Vec::new(), 7_u64);
    let (mut whole, mut blocked) = (0, 0);
    let mut buffer = vec![0; 9_000];
    while came.len() < bytes.len() {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let first = bytes.len().min(sent + (chance >> 48) as usize % 30_000);
        let second = bytes.len().min(first + (chance >> 32) as usize % 90_000);
        let parts = [IoSlice::new(&bytes[sent..first]), IoSlice::new(&bytes[first..second])];
        if sent < second {
            match server.send(&parts).unwrap() {
                Some(count) => {
                    assert!(!server.wants_room(), "something of it is still here");
                    (sent, whole) = (sent + count, whole + 1);
                }
                None => blocked += 1,
            }
        }
        if let Some(count) = client.receive(&mut buffer[..1 + (chance >> 20) as usize % 8_999]).unwrap() {
            came.extend_from_slice(&buffer[..count]);
        }
    }
    assert!(came == bytes && sent == bytes.len());
    assert!(10 < whole && 10 < blocked, "{whole} sends, {blocked} that had to wait");
}

/// A peer that says farewell, one that only goes, and one that sends what nobody encrypted: each is gone,
/// and the last one is told apart.
#[test]
fn the_end_of_the_other_side_is_the_end() {
    let mut buffer = [0; 64];
    let [server, client] = ends();
    client.close();
    assert_eq!(server.receive(&mut buffer), Err(Gone));
    assert_eq!(server.why(), None);
    let [server, client] = ends();
    drop(client);
    assert_eq!((server.receive(&mut buffer), server.why()), (Err(Gone), None));
    let [server, client] = ends();
    let mut forged = UnixStream::from(client.wire.try_clone().unwrap());
    forged.write_all(&[&[0x17, 3, 3, 0, 40][..], &[9; 40]].concat()).unwrap();
    assert_eq!(server.receive(&mut buffer), Err(Gone));
    assert!(server.why().is_some());
}
