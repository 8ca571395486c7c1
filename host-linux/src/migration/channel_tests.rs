//! Frames between two ends on loopback, and what stands between them.

use super::*;
use std::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(10);

fn keys() -> Keys {
    Keys { out: [1; 32], back: [2; 32] }
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn both() -> (Channel, Channel) {
    let (one, other) = sockets();
    (Channel::leaving(one, &keys()).unwrap(), Channel::arriving(other, &keys()).unwrap())
}

#[test]
fn words_and_bytes_arrive_in_order() {
    let (mut here, mut there) = both();
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let expected = sent.clone();
    let heard = std::thread::spawn(move || {
        assert_eq!(there.hear(SOON).unwrap(), Word::Accepted);
        let mut bytes = vec![0; expected.len()];
        Incoming::new(&mut there).read_exact(&mut bytes).unwrap();
        assert!(bytes == expected);
        there.say(&Word::Whole).unwrap();
        assert_eq!(there.hear(SOON).unwrap(), Word::Go);
        there
    });
    here.say(&Word::Accepted).unwrap();
    let mut out = Outgoing::new(&mut here);
    out.write_all(&sent).unwrap();
    out.flush().unwrap();
    assert_eq!(here.hear(SOON).unwrap(), Word::Whole);
    here.say(&Word::Go).unwrap();
    // Another process goes on hearing where this one was.
    let (wire, heard) = heard.join().unwrap().into_parts();
    let mut there = Channel::arriving(wire, &keys()).unwrap().after(heard);
    here.say(&Word::Runs).unwrap();
    assert_eq!(there.hear(SOON).unwrap(), Word::Runs);
}

/// V22, I11: what was changed, repeated, left out or said by somebody else is not heard, nor is what is too
/// long, and a silent end is given up.
#[test]
fn what_is_not_the_other_nodes_is_not_heard() {
    let frame = |keys: &Keys, before: u64| {
        let (one, mut other) = sockets();
        let mut channel = Channel::leaving(one, keys).unwrap();
        channel.says.number = before;
        channel.say(&Word::Go).unwrap();
        let mut bytes = vec![0; HEAD + 1];
        other.read_exact(&mut bytes).unwrap();
        bytes
    };
    let sound = frame(&keys(), 0);
    let hears = |bytes: &[u8]| {
        let (mut one, other) = sockets();
        one.write_all(bytes).unwrap();
        drop(one);
        let mut there = Channel::arriving(other, &keys()).unwrap();
        let first = there.hear(SOON).map(|word| assert_eq!(word, Word::Go)).map_err(|why| why.to_string());
        (first, there.hear(SOON).unwrap_err().to_string())
    };
    assert_eq!(hears(&sound), (Ok(()), "the other node broke off".into()));
    assert!(hears(&sound.repeat(2)).1.contains("not the other node's"), "repeated");
    for at in 4..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        assert!(hears(&bytes).0.unwrap_err().contains("not the other node's"), "byte {at}");
    }
    let others = Keys { out: keys().back, back: keys().out };
    for bytes in [frame(&keys(), 1), frame(&others, 0)] {
        assert!(hears(&bytes).0.unwrap_err().contains("not the other node's"));
    }
    assert!(hears(&[0xff; HEAD]).0.unwrap_err().contains("too long"));
    assert!(hears(&sound[..HEAD]).0.unwrap_err().contains("broke off"));

    let (_here, mut there) = both();
    let why = there.hear(Duration::from_millis(20)).unwrap_err();
    assert_eq!((why.kind(), why.to_string()), (ErrorKind::TimedOut, "the other node says nothing".into()));
}

#[test]
fn a_pace_is_kept() {
    let (mut here, mut there) = both();
    here.limit(Some(10 << 20));
    let begun = Instant::now();
    let heard = std::thread::spawn(move || Incoming::new(&mut there).read_exact(&mut vec![0; 2 << 20]));
    let mut out = Outgoing::new(&mut here);
    out.write_all(&vec![1; 2 << 20]).unwrap();
    heard.join().unwrap().unwrap();
    // The last piece is not waited for.
    assert!(Duration::from_millis(170) < begun.elapsed());
}
