//! V22, V43: two ends that encrypt, or do not, or should not believe each other.

use super::super::relay::near;
use super::super::socket::Socket;
use super::*;
use crate::tls::certificates::Authority;
use crate::tls::files::Files;
use crate::tls::keeper::Keeper;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, Mutex};

const SITE: SiteId = SiteId([4; 16]);
const HERE: NodeId = NodeId(1);
const THERE: NodeId = NodeId(2);
/// What the other end would see of a guest.
const PATTERN: [u8; 64] = [0xa5; 64];

/// How an end encrypts: with a certificate for this host, and whether it does nothing else.
fn tls(authority: &Authority, host: &str, is_required: bool) -> Option<Tls> {
    let directory = tempfile::tempdir().unwrap();
    let own = authority.issue(directory.path(), &[host]);
    let [certificate, key, authorities] =
        ["client-cert.pem", "client-key.pem", "ca-cert.pem"].map(|name| own.join(name));
    let keeper = Arc::new(Keeper::open(Files { certificate, key, authorities }).unwrap());
    // Files that are gone are not looked at again within the test.
    Some(Tls { keeper, is_required, hosts: vec![(HERE, "here.test".into()), (THERE, "there.test".into())] })
}

fn end(me: NodeId, tls: Option<Tls>) -> End {
    End { me, site: SITE, key: SiteKey([5; 32]), tls }
}

/// Somebody between the two who writes down all that goes by.
fn recorder(to: TcpListener) -> (TcpListener, Arc<Mutex<Vec<u8>>>) {
    let (listener, seen) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::<Mutex<Vec<u8>>>::default());
    let (own, written) = (listener.try_clone().unwrap(), Arc::clone(&seen));
    std::thread::spawn(move || {
        let (one, _) = own.accept().unwrap();
        let other = TcpStream::connect(to.local_addr().unwrap()).unwrap();
        let ways = [(one.try_clone().unwrap(), other.try_clone().unwrap()), (other, one)];
        for (mut from, mut to) in ways {
            let written = Arc::clone(&written);
            std::thread::spawn(move || {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(count @ 1..) = from.read(&mut bytes) {
                    written.lock().unwrap().extend_from_slice(&bytes[..count]);
                    if to.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    });
    (listener, seen)
}

type Opened = Result<(Wire, Keys), String>;

/// What both ends make of a connection, and what somebody between them has seen of it.
fn meet(one: &End, other: End) -> (Opened, Opened, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (between, seen) = recorder(listener.try_clone().unwrap());
    let answers = std::thread::spawn(move || {
        let (mut wire, _) = listener.accept().unwrap();
        let mut bytes = [0; HELLO_LEN];
        wire.read_exact(&mut bytes).unwrap();
        other.answer(wire, &Hello::parse(&bytes).unwrap())
    });
    let wire = TcpStream::connect(between.local_addr().unwrap()).unwrap();
    let called = one.call(wire, THERE, "b1");
    (called, answers.join().unwrap(), seen)
}

/// Both speak what both can; who wants more than the other can is told its name, and what to do.
#[test]
fn two_ends_encrypt_if_both_can_and_one_wants_to() {
    let plant = Authority::new("the plant");
    let cases = [
        (None, None, Ok(false)),
        (Some(false), None, Ok(false)),
        (None, Some(false), Ok(false)),
        (Some(false), Some(false), Ok(true)),
        (Some(true), Some(false), Ok(true)),
        (Some(true), Some(true), Ok(true)),
        (Some(true), None, Err("b1 does not encrypt what moves")),
        (None, Some(true), Err("b1 wants what moves encrypted")),
    ];
    for (one, other, expected) in cases {
        let here = end(HERE, one.and_then(|is_required| tls(&plant, "here.test", is_required)));
        let there = end(THERE, other.and_then(|is_required| tls(&plant, "there.test", is_required)));
        let (called, answered, _) = meet(&here, there);
        match (called, answered, expected) {
            (Ok((wire, keys)), Ok((other, same)), Ok(is_encrypted)) => {
                assert_eq!((wire.is_encrypted(), other.is_encrypted()), (is_encrypted, is_encrypted));
                assert!(keys == same, "{one:?}, {other:?}");
            }
            (Err(why), Err(_), Err(said)) => assert!(why.contains(said) && why.contains("streams"), "{why}"),
            (called, answered, _) => panic!("{one:?}, {other:?}: {called:?}, {answered:?}"),
        }
    }
}

/// Who has the key and not the certificate of the node that it says it is, or the certificate and not the
/// key, is not let in, and does not let in.
#[test]
fn nobody_is_believed_for_half_of_it() {
    let (plant, other) = (Authority::new("the plant"), Authority::new("another one"));
    let here = |authority: &Authority, host: &str| end(HERE, tls(authority, host, true));
    let there = |authority: &Authority, host: &str| end(THERE, tls(authority, host, true));
    let good = || (here(&plant, "here.test"), there(&plant, "there.test"));
    let foreign = End { key: SiteKey([6; 32]), ..here(&plant, "here.test") };
    let cases = [
        (here(&plant, "there.test"), good().1, "docs/nbd.md"),
        (here(&other, "here.test"), good().1, "docs/nbd.md"),
        (good().0, there(&plant, "here.test"), "docs/nbd.md"),
        (good().0, there(&other, "there.test"), "docs/nbd.md"),
        (foreign, good().1, "site key"),
    ];
    for (at, (one, another, said)) in cases.into_iter().enumerate() {
        let (called, answered, seen) = meet(&one, another);
        let why = called.unwrap_err();
        assert!(why.contains("b1") && why.contains(said), "{at}: {why}");
        assert!(answered.is_err() || 1 < at, "{at}: {answered:?}");
        // Without the key nobody says a word of TLS.
        let bare = 2 * HELLO_LEN + PROOF_LEN;
        assert_eq!(seen.lock().unwrap().len() <= bare, said == "site key", "{at}");
    }
}

/// What goes over it comes there, in both directions and to its end, and nobody on the way sees it.
#[test]
fn what_is_relayed_arrives_and_is_not_seen() {
    const MANY: usize = 200_000;
    let plant = Authority::new("the plant");
    for is_encrypted in [true, false] {
        let own = |me, host| end(me, is_encrypted.then(|| tls(&plant, host, true)).flatten());
        let (called, answered, seen) = meet(&own(HERE, "here.test"), own(THERE, "there.test"));
        let ends = [called, answered].map(|opened| near(opened.unwrap().0).unwrap());
        let all = PATTERN.repeat(MANY / PATTERN.len());
        let threads = ends.map(|mut socket| {
            let all = all.clone();
            std::thread::spawn(move || {
                socket.set_read_timeout(Duration::from_secs(60)).unwrap();
                let mut out = socket.try_clone().unwrap();
                let says = std::thread::spawn(move || {
                    out.write_all(&all).unwrap();
                    out
                });
                let mut came = vec![0; MANY / PATTERN.len() * PATTERN.len()];
                socket.read_exact(&mut came).unwrap();
                (says.join().unwrap(), came)
            })
        });
        let [mut one, mut other] = threads.map(|thread| {
            let (socket, came) = thread.join().unwrap();
            assert!(came == all, "it is another one");
            socket
        });
        // The last word of one end comes before its end.
        one.write_all(b"last").unwrap();
        one.finish();
        let mut last = Vec::new();
        Socket::read_to_end(&mut other, &mut last).unwrap();
        assert_eq!(last, b"last");
        let seen = seen.lock().unwrap();
        let is_seen = seen.windows(PATTERN.len()).any(|bytes| bytes == PATTERN);
        assert_eq!((is_seen, 2 * MANY <= seen.len() + 1000), (!is_encrypted, true), "{}", seen.len());
    }
}
