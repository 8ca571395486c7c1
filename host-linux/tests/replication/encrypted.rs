//! Streams inside TLS: both ends have certificates of the site, nobody on the way reads or changes anything,
//! and nobody is fooled into the clear (S1-31, S1-32, F39, V43).

use super::proxy::{Harm, Proxy};
use super::site::{Node, Place, meet, millis, part, until};
use super::traffic::{LARGEST, check, frame};
use super::veiled::{veiled, willing, with};
use bulkhead::replication::hello::{HELLO_LEN, Refusal};
use bulkhead::replication::words::{Frame, Settings, Stream, Timing};
use bulkhead::storage::buffers::Pool;
use bulkhead::storage::space::crc32c;
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::batch::{BlockIndex, Kind, Sum, Volume, Write};
use bulkhead_core::log::{BLOCK_LEN, Seq};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

fn send(node: &Node, to: Stream, life: u64, frames: u64) {
    for number in 1..=frames {
        if number % 8 == 0 {
            until("it is taken", || node.peer().queued < 4 << 20);
        }
        node.streams.send(to, vec![frame(&node.made, life, number, LARGEST)]);
    }
}

/// Writes go both ways, on either network, and each end shows that they are encrypted.
#[test]
fn two_meet_by_tls_on_both_networks() {
    const FRAMES: u64 = 4_000;
    let place = Place::new();
    let proxies: Vec<_> = [(50, 0), (51, 1)]
        .map(|(at, path)| Proxy::new(place.at(at), place.of(2)[path], |_| Harm::default()))
        .into();
    let timing = Timing { alive: millis(100), silence: millis(2500), ..Timing::default() };
    let high = Node::start(veiled(Settings { timing, ..place.settings(2, 2) }));
    let peers = vec![(NodeId(2), [place.at(50), place.at(51)])];
    let low = Node::start(veiled(Settings { timing, peers, ..place.settings(1, 2) }));
    for network in [1, 2] {
        let (to_high, to_low) = meet(&low, &high);
        let shown = [low.peer(), high.peer()].map(|peer| (peer.network, peer.encrypted));
        assert_eq!(shown, [(Some(network), Some(true)); 2]);
        assert_eq!(low.streams.is_encrypted(to_high), Some(true));
        std::thread::scope(|scope| {
            scope.spawn(|| send(&low, to_high, 7, FRAMES));
            scope.spawn(|| send(&high, to_low, 8, FRAMES));
            scope.spawn(|| (1..=FRAMES).for_each(|number| check(&low.frame(), 8, number, LARGEST)));
            (1..=FRAMES).for_each(|number| check(&high.frame(), 7, number, LARGEST));
        });
        proxies[usize::from(network) - 1].silence(true);
        part(&low, &high);
        assert_eq!(low.streams.is_encrypted(to_high), None);
    }
}

const MARKER: &[u8] = b"the recipe that nobody outside may read";

/// A write of a block that is full of the marker.
fn marked(pool: &Pool) -> Frame {
    let mut buffer = pool.take(1).unwrap();
    let place = buffer.bytes_mut();
    place.iter_mut().zip(MARKER.iter().cycle()).for_each(|(byte, mark)| *byte = *mark);
    let payload = buffer.keep().piece();
    let sums = vec![Sum(crc32c(payload.bytes()))];
    let write = Write::new(Volume(1), BlockIndex(1), 1, Kind::Data).unwrap();
    Frame::Write { epoch: Epoch(1), made: Epoch(1), seq: Seq(1), write, sums, payload: Some(payload) }
}

/// V43: what a holder tells another one is not told to who is on the way. That the clear is told to it shows
/// that it looked.
#[test]
fn nobody_on_the_way_reads_a_write() {
    for (dress, is_read) in [(veiled as fn(Settings) -> Settings, false), (|clear| clear, true)] {
        let place = Place::new();
        let high = Node::start(dress(place.settings(2, 2)));
        let spy = Proxy::watching(place.at(50), place.of(2)[0], MARKER);
        let peers = vec![(NodeId(2), [place.at(50), place.at(51)])];
        let low = Node::start(dress(Settings { peers, ..place.settings(1, 2) }));
        let (to_high, to_low) = meet(&low, &high);
        for (from, to, stream) in [(&low, &high, to_high), (&high, &low, to_low)] {
            let before = spy.sightings();
            from.streams.send(stream, vec![marked(&from.made)]);
            let Frame::Write { payload, .. } = to.frame() else { panic!("a write should come") };
            assert!(payload.unwrap().bytes().starts_with(MARKER));
            // All that the other end has was seen by who is on the way.
            let seen = usize::try_from(spy.sightings() - before).unwrap();
            assert_eq!(seen, if is_read { BLOCK_LEN / MARKER.len() } else { 0 });
        }
    }
}

/// What an end is.
#[derive(Clone, Copy)]
enum Is {
    /// It has the certificate in this directory, and does nothing in the clear.
    With(&'static str),
    /// It does not encrypt.
    Clear,
}

fn dressed(settings: Settings, is: Is) -> Settings {
    match is {
        Is::With(name) => with(settings, name, true),
        Is::Clear => settings,
    }
}

/// V43, F54: who is not believed, or does not encrypt with who does nothing else, is told so at both ends,
/// with what to do, and never met; then the right one is.
#[test]
fn who_is_not_believed_is_refused_and_told_why() {
    let (clear, encrypted, tls) = (Refusal::Clear, Refusal::Encrypted, Refusal::Tls);
    let cases = [
        ("another authority", Is::With("1-other"), Is::With("2"), ("alert", tls), ("UnknownIssuer", tls)),
        ("another authority", Is::With("1"), Is::With("2-other"), ("UnknownIssuer", tls), ("alert", tls)),
        ("too old", Is::With("1-expired"), Is::With("2"), ("alert", tls), ("expired", tls)),
        ("too old", Is::With("1"), Is::With("2-expired"), ("expired", tls), ("alert", tls)),
        ("another node's", Is::With("3"), Is::With("2"), ("alert", tls), ("10.0.1.1", tls)),
        ("another node's", Is::With("1"), Is::With("3"), ("10.0.1.2", tls), ("alert", tls)),
        ("a client's", Is::With("client"), Is::With("2"), ("alert", tls), ("10.0.1.1", tls)),
        ("none", Is::Clear, Is::With("2"), ("streams = \"allow\"", encrypted), ("in its file", clear)),
        ("none", Is::With("1"), Is::Clear, ("in its file", clear), ("in this node's file", encrypted)),
    ];
    for (what, one, two, (low_says, low_why), (high_says, high_why)) in cases {
        let place = Place::new();
        let high = Node::start(dressed(place.settings(2, 2), two));
        let low = Node::start(dressed(place.settings(1, 2), one));
        let mut told = (None, None);
        until(what, || {
            let says = |text: &Option<String>, word: &str, why: Refusal| {
                text.as_ref().is_some_and(|text| text.contains(word) && text.contains(why.text()))
            };
            told = (low.peer().lack, high.peer().lack);
            let (ours, theirs) = (low.streams.view(), high.streams.view());
            let counted = ours.refused.contains_key(&low_why) && theirs.refused.contains_key(&high_why);
            let shown = says(&told.0, low_says, low_why) && says(&told.1, high_says, high_why);
            if std::env::var_os("TOLD").is_some() {
                println!("{what}: {told:?}");
            }
            counted && shown && says(&theirs.last_refused, high_says, high_why)
        });
        low.quiet(millis(100));
        high.quiet(millis(1));
        assert_eq!((low.peer().met, high.peer().met), (0, 0), "{what}");
        // The right ones, one after the other.
        drop(low);
        let low = Node::start(veiled(place.settings(1, 2)));
        if !matches!(two, Is::With("2")) {
            drop(high);
            let high = Node::start(veiled(place.settings(2, 2)));
            meet(&low, &high);
            continue;
        }
        meet(&low, &high);
        assert_eq!((low.peer().lack, high.peer().lack), (None, None), "{what}");
    }
}

/// V41, V43: a pair begins to encrypt one node after the other, and is never without a stream.
#[test]
fn a_pair_changes_over_one_node_after_the_other() {
    let place = Place::new();
    type Dress = fn(Settings) -> Settings;
    let steps: [(Dress, Dress, bool); 6] = [
        (|clear| clear, willing, false),
        (willing, |clear| clear, false),
        (willing, willing, true),
        (veiled, willing, true),
        (willing, veiled, true),
        (veiled, veiled, true),
    ];
    for (one, two, encrypts) in steps {
        let high = Node::start(two(place.settings(2, 2)));
        let low = Node::start(one(place.settings(1, 2)));
        let (stream, _) = meet(&low, &high);
        assert_eq!([low.peer().encrypted, high.peer().encrypted], [Some(encrypts); 2]);
        low.streams.send(stream, vec![frame(&low.made, 7, 1, LARGEST)]);
        check(&high.frame(), 7, 1, LARGEST);
    }
}

/// Passes all on, but has either end believe that the other one speaks in the clear alone.
fn denier(at: SocketAddr, to: SocketAddr) {
    let listener = TcpListener::bind(at).unwrap();
    std::thread::spawn(move || {
        for from in listener.incoming() {
            let (mut from, mut to) = (from.unwrap(), TcpStream::connect(to).unwrap());
            let mut message = [0; HELLO_LEN];
            for (from, to) in [(&from, &to), (&to, &from)] {
                let (mut from, mut to) = (from, to);
                if from.read_exact(&mut message).is_ok() {
                    (message[8], message[9]) = (1, 1);
                    let _ = to.write_all(&message);
                }
            }
            let (mut back, mut forth) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut forth, &mut back);
                let _ = back.shutdown(Shutdown::Both);
            });
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        }
    });
}

/// F39: who is on the way cannot talk two that could encrypt into the clear; nor one that must.
#[test]
fn nobody_talks_two_into_the_clear() {
    for (dress, why) in [(willing as fn(Settings) -> Settings, Refusal::Key), (veiled, Refusal::Clear)] {
        let place = Place::new();
        let high = Node::start(dress(place.settings(2, 2)));
        denier(place.at(50), place.of(2)[0]);
        let peers = vec![(NodeId(2), [place.at(50), place.at(51)])];
        let low = Node::start(dress(Settings { peers, ..place.settings(1, 2) }));
        until("both refuse", || {
            let refused = [&low, &high].map(|node| node.streams.view().refused);
            refused[0].keys().any(|why| why.is_lasting()) && refused[1].contains_key(&why)
        });
        low.quiet(millis(300));
        high.quiet(millis(1));
        assert_eq!((low.peer().met, high.peer().met), (0, 0));
    }
}
