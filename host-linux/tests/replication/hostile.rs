//! Who is not a holder changes nothing for those who are (V43, F39, I11).

use super::proxy::{Harm, Proxy};
use super::site::{Node, Place, meet, millis, until};
use super::traffic::{check, frame, next};
use super::veiled::veiled;
use bulkhead::replication::hello::{HELLO_LEN, Hello, Refusal, Speaks};
use bulkhead::replication::words::Settings;
use bulkhead_core::id::{GroupId, NodeId, SiteId};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

fn hello(to: u16, nonce: u64) -> [u8; HELLO_LEN] {
    Hello::new(SiteId([1; 16]), GroupId([2; 16]), NodeId(1), NodeId(to), [nonce as u8; 16]).encode()
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(millis(20_000))).unwrap();
    stream
}

/// All that comes until the end.
fn rest(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// F39: everything that a holder once said, said again, is answered by a new nonce, and then by a refusal.
#[test]
fn a_recorded_handshake_begins_nothing() {
    let place = Place::new();
    let high = Node::start(place.settings(2, 2));
    let proxy = Proxy::new(place.at(50), place.of(2)[0], |_| Harm::default());
    let peers = vec![(NodeId(2), [place.at(50), place.at(51)])];
    let low = Node::start(Settings { peers, ..place.settings(1, 2) });
    let (stream, _) = meet(&low, &high);
    low.streams.send(stream, (1..=5).map(|number| frame(&low.made, 7, number, 1)).collect());
    (1..=5).for_each(|number| check(&high.frame(), 7, number, 1));
    let recorded = proxy.recorded();
    assert!(200 < recorded.len());
    for _ in 0..5 {
        let thief = connect(place.of(2)[0]);
        (&thief).write_all(&recorded).unwrap();
        let answer = rest(&thief);
        assert!(answer.len() <= 2 * HELLO_LEN, "no stream began");
    }
    until("each is counted", || high.streams.view().refused.get(&Refusal::Key) == Some(&5));
    // Nothing of it was told, and the stream lives.
    low.streams.send(stream, vec![frame(&low.made, 7, 6, 1)]);
    check(&high.frame(), 7, 6, 1);
    assert_eq!((low.peer().met, high.peer().met), (1, 1));
}

/// Three hundred connections that say nothing, nonsense, or a good hello without the proof: the stream stays,
/// and a holder that comes meanwhile is met.
#[test]
fn strangers_change_nothing() {
    let place = Place::new();
    let high = Node::start(place.settings(3, 3));
    let low = Node::start(place.settings(1, 3));
    let (stream, _) = meet(&low, &high);
    let mut seed = 42;
    let mut strangers = Vec::new();
    for number in 0..300_u64 {
        let stranger = connect(place.of(3)[number as usize % 2]);
        let bytes: Vec<u8> = match number % 4 {
            0 => Vec::new(),
            // For another one, and for this one.
            1 => hello(2 + (number / 4) as u16 % 2, number).to_vec(),
            2 => (0..next(&mut seed) % 5000).map(|_| next(&mut seed) as u8).collect(),
            _ => hello(3, 0)[..usize::try_from(next(&mut seed) % 64).unwrap()].to_vec(),
        };
        let _ = (&stranger).write_all(&bytes);
        strangers.push(stranger);
        if number % 10 == 0 {
            low.streams.send(stream, vec![frame(&low.made, 7, 1 + number / 10, 2)]);
            check(&high.frame(), 7, 1 + number / 10, 2);
        }
        if number == 200 {
            let middle = Node::start(place.settings(2, 3));
            let met = [middle.met().peer(), middle.met().peer()];
            assert!(met.contains(&NodeId(1)) && met.contains(&NodeId(3)));
            assert_eq!((low.met().peer(), high.met().peer()), (NodeId(2), NodeId(2)));
            drop(middle);
            assert_eq!((low.gone(), high.gone()), (NodeId(2), NodeId(2)));
        }
    }
    until("all of them are counted and closed", || {
        let refused = high.streams.view().refused;
        let reasons = [Refusal::Nonsense, Refusal::Stranger, Refusal::Unfinished, Refusal::Crowded];
        reasons.iter().all(|why| refused.contains_key(why)) && refused.values().sum::<u64>() == 300
    });
    drop(strangers);
    assert_eq!(high.peer().met, 1);
    assert!(high.streams.view().last_refused.is_some());
}

/// A listener that is no holder gets nothing from who dials it, and cannot keep it from the true one.
#[test]
fn a_false_listener_is_left() {
    leaves_a_false_listener(|clear| clear, Speaks::Clear);
}

/// Nor does it begin TLS with one: no name of the site and no certificate goes there.
#[test]
fn a_false_listener_is_left_before_tls() {
    leaves_a_false_listener(veiled, Speaks::Encrypted);
}

fn leaves_a_false_listener(dress: fn(Settings) -> Settings, speaks: Speaks) {
    let place = Place::new();
    let thief = std::net::TcpListener::bind(place.of(2)[0]).unwrap();
    let answers = std::thread::spawn(move || {
        let (mut seen, mut longest) = (Vec::new(), 0);
        // A welcome that anybody could send, and then garbage as the proof.
        while let Ok((victim, _)) = thief.accept() {
            victim.set_read_timeout(Some(millis(20_000))).unwrap();
            let mut bytes = [0; HELLO_LEN];
            if (&victim).read_exact(&mut bytes).is_err() {
                break;
            }
            let hello = Hello::parse(&bytes).unwrap();
            let answer = hello.answer(hello.site, hello.group, (NodeId(2), speaks), |_| true, [5; 16]);
            let _ = (&victim).write_all(&answer.encode());
            let _ = (&victim).write_all(&[0xa5; 32]);
            longest = rest(&victim).len().max(longest);
            seen.push(hello.nonce);
        }
        (seen, longest)
    });
    let low = Node::start(dress(place.settings(1, 2)));
    until("it is seen through, twice", || {
        low.streams.view().refused.get(&Refusal::Key).is_some_and(|count| 2 <= *count)
    });
    low.quiet(millis(1));
    // The true one, on the network that is left to it.
    let high = Node::start(dress(place.settings(2, 2)));
    meet(&low, &high);
    assert_eq!(low.peer().network, Some(2));
    drop(connect(place.of(2)[0]));
    let (mut nonces, longest) = answers.join().unwrap();
    assert_eq!(longest, 32, "no more than the proof");
    let streams = nonces.len();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), streams, "each stream has its own nonce");
}
