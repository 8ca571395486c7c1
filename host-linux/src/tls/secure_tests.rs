//! An encrypted socket beside what a plain one promises (V43, F42).

use super::*;
use crate::tls::certificates::Authority;
use crate::tls::files::{Credentials, Files};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuiteCommon, ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use rustls::{ServerConnection, SupportedCipherSuite, Tls13CipherSuite};
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
    both(credentials.server().unwrap(), credentials.trust().client("localhost").unwrap())
}

fn both(server: Connection, client: Connection) -> [Secure; 2] {
    let [server, client] = begun(server, client);
    let mut rounds = 0;
    while [&server, &client].map(|end| end.shake().unwrap()) != [Shake::Done; 2] {
        rounds += 1;
        assert!(rounds < 100, "the handshake does not come to its end");
    }
    [server, client]
}

fn begun(server: Connection, client: Connection) -> [Secure; 2] {
    let (one, other) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
    sockopt::set_socket_send_buffer_size(&one, 4096).unwrap();
    [Secure::new(one, server), Secure::new(other, client)]
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

/// Who has said farewell, or has found that something was changed, does not look at what comes after it.
#[test]
fn nothing_is_read_behind_the_last_word() {
    let forged = [&[0x17, 3, 3, 0, 40][..], &[9; 40]].concat();
    let [server, client] = ends();
    let mut wire = UnixStream::from(client.wire.try_clone().unwrap());
    let mut buffer = [0; 64];
    wire.write_all(&forged).unwrap();
    server.close();
    assert_eq!((server.receive(&mut buffer), server.why()), (Err(Gone), None));
    let [server, client] = ends();
    let mut wire = UnixStream::from(client.wire.try_clone().unwrap());
    for _ in 0..2 {
        wire.write_all(&forged).unwrap();
        assert_eq!(server.receive(&mut buffer), Err(Gone));
        assert!(server.why().is_some());
    }
}

/// Who waits for a whole record hears that a part of it came, and has the rest of one that is decrypted.
#[test]
fn a_record_comes_by_and_by() {
    let [server, client] = ends();
    let mut record = Vec::new();
    {
        let mut session = lock(&client.session);
        session.connection.writer().write_all(b"a record of some bytes").unwrap();
        session.connection.write_tls(&mut record).unwrap();
    }
    let mut wire = UnixStream::from(client.wire.try_clone().unwrap());
    let mut buffer = [0; 8];
    assert_eq!(server.receive_some(&mut buffer), Ok(Came::Nothing));
    for byte in &record[..record.len() - 1] {
        wire.write_all(&[*byte]).unwrap();
        assert_eq!(server.receive_some(&mut buffer), Ok(Came::Part));
    }
    wire.write_all(&record[record.len() - 1..]).unwrap();
    assert_eq!((server.receive_some(&mut buffer), &buffer), (Ok(Came::Bytes(8)), b"a record"));
    let mut rest = [0; 64];
    assert_eq!((server.at_hand(&mut rest), &rest[..14]), (14, &b" of some bytes"[..]));
    assert_eq!(server.at_hand(&mut rest), 0);
}

/// I11: a message that needs ever more records is not listened to for ever.
#[test]
fn a_handshake_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = credentials(directory.path());
    let [server, client] =
        begun(credentials.server().unwrap(), credentials.trust().client("localhost").unwrap());
    let mut wire = UnixStream::from(client.wire.try_clone().unwrap());
    // A hello of sixty thousand bytes, each in a record of its own.
    let message = [1, 0, 0xea, 0x60].into_iter().chain(std::iter::repeat(0));
    let mut records = message.map(|byte| [0x16, 3, 1, 0, 1, byte]);
    let mut sent = 0;
    while server.shake().is_ok() {
        let bytes: Vec<u8> = records.by_ref().take(100).flatten().collect();
        wire.write_all(&bytes).unwrap();
        sent += bytes.len();
        assert!(sent < 2 * HANDSHAKE_MAX, "it listens still");
    }
    let why = server.why().unwrap();
    assert!(why.contains("longer than any of ours") && HANDSHAKE_MAX <= sent, "{sent} bytes: {why}");
}

/// A client's certificate that is for nobody, or for another node, is that of no node.
#[test]
fn a_node_is_whom_its_certificate_names() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = credentials(directory.path());
    both(credentials.server_for("localhost").unwrap(), credentials.trust().client("localhost").unwrap());
    assert!(credentials.server_for("no host at all").is_err());
    let [server, client] =
        begun(credentials.server_for("10.0.0.7").unwrap(), credentials.trust().client("localhost").unwrap());
    let over = (0..100).any(|_| {
        let _ = client.shake();
        server.shake().is_err()
    });
    let why = server.why().unwrap();
    assert!(over && why.contains("not valid for name"), "{why}");
    assert!(client.receive(&mut [0; 8]).is_err() && client.why().unwrap().contains("alert"));
}

/// Both ends know the secret of their session; another session has another one.
#[test]
fn a_session_has_a_secret() {
    let [server, client] = ends();
    let secret = server.exported(b"EXPORTER of a test");
    assert!(secret.is_some() && secret == client.exported(b"EXPORTER of a test"));
    assert_ne!(secret, server.exported(b"EXPORTER of another"));
    assert_ne!(secret, ends()[0].exported(b"EXPORTER of a test"));
    let [server, _client] = {
        let directory = tempfile::tempdir().unwrap();
        let credentials = credentials(directory.path());
        begun(credentials.server().unwrap(), credentials.trust().client("localhost").unwrap())
    };
    assert_eq!(server.exported(b"EXPORTER of a test"), None);
}

/// A key is good for so many records, which a stream between holders sends within hours: it is replaced, and
/// nothing stops. Here it is good for twenty.
#[test]
fn a_connection_outlives_its_keys() {
    let provider = || {
        let mut provider = ring::default_provider();
        let SupportedCipherSuite::Tls13(suite) = ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
        let CipherSuiteCommon { suite: name, hash_provider, .. } = suite.common;
        let common = CipherSuiteCommon { suite: name, hash_provider, confidentiality_limit: 20 };
        let Tls13CipherSuite { hkdf_provider, aead_alg, quic, .. } = *suite;
        let short: &'static _ =
            Box::leak(Box::new(Tls13CipherSuite { common, hkdf_provider, aead_alg, quic }));
        provider.cipher_suites = vec![SupportedCipherSuite::Tls13(short)];
        std::sync::Arc::new(provider)
    };
    let directory = tempfile::tempdir().unwrap();
    let node = Authority::new("the site").issue(directory.path(), &["localhost"]);
    let chain = vec![CertificateDer::from_pem_file(node.join("client-cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(node.join("client-key.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(node.join("ca-cert.pem")).unwrap()).unwrap();
    let only = &[&rustls::version::TLS13];
    let server = ServerConfig::builder_with_provider(provider()).with_protocol_versions(only).unwrap();
    let server = server.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let client = ClientConfig::builder_with_provider(provider()).with_protocol_versions(only).unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let [server, client] = both(
        ServerConnection::new(server.into()).unwrap().into(),
        ClientConnection::new(client.into(), "localhost".try_into().unwrap()).unwrap().into(),
    );
    let mut buffer = [0; 4096];
    for round in 0..500_u32 {
        for (from, to) in [(&server, &client), (&client, &server)] {
            let bytes = round.to_le_bytes().repeat(100);
            assert_eq!(from.send(&[IoSlice::new(&bytes)]), Ok(Some(400)));
            assert_eq!(to.receive(&mut buffer), Ok(Some(400)), "round {round}: {:?}", to.why());
            assert!(buffer[..400] == bytes);
        }
    }
}
