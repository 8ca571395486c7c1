//! A holder that has the key and is wrong: another release, a defect, a machine that went bad. Its stream
//! ends, and says why; nothing of what was wrong is told, and no memory stays with it (F36, V5, I11).

use super::site::{Node, Place, millis, until};
use super::traffic::next;
use bulkhead::replication::frame::{Head, Kind};
use bulkhead::replication::hello::{HELLO_LEN, Hello};
use bulkhead::replication::part::{BARE_LEN, begun, is_begun};
use bulkhead::replication::seal::{Direction, Sealer};
use bulkhead::replication::tally::End;
use bulkhead::replication::words::{News, Settings, Timing};
use bulkhead::site_config::key::SiteKey;
use bulkhead::storage::buffers::Pool;
use bulkhead_core::id::{GroupId, NodeId, SiteId};
use bulkhead_core::log::BLOCK_LEN;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// Node 1, made by hand.
struct Impostor {
    socket: TcpStream,
    sealer: Sealer,
}

impl Impostor {
    /// Threads of the streams before may still be ending: then it is sent away, and comes again.
    fn meet(at: SocketAddr) -> Self {
        let mut met = None;
        until("the impostor is met", || {
            met = Self::knock(at).ok();
            met.is_some()
        });
        met.unwrap()
    }

    fn knock(at: SocketAddr) -> std::io::Result<Self> {
        let mut socket = TcpStream::connect(at)?;
        socket.set_read_timeout(Some(millis(20_000)))?;
        let hello = Hello::new(SiteId([1; 16]), GroupId([2; 16]), NodeId(1), NodeId(2), [7; 16]).encode();
        socket.write_all(&hello)?;
        let mut welcome = [0; HELLO_LEN];
        socket.read_exact(&mut welcome)?;
        let sealer = |way| Sealer::new(&SiteKey([3; 32]), &hello, &welcome, way);
        let (mut sealer, mut opener) = (sealer(Direction::Out), sealer(Direction::Back));
        socket.write_all(begun(&mut sealer).front())?;
        let mut answer = [0; BARE_LEN];
        socket.read_exact(&mut answer)?;
        assert!(is_begun(&mut opener, &answer));
        Ok(Self { socket, sealer })
    }

    /// Sends a frame whose tags fit, whatever it says.
    fn send(&mut self, head: [u8; 8], meta: &[u8], payload: &[u8]) {
        let front = [&head[..], &self.sealer.head(&head)].concat();
        let tag = self.sealer.frame(&front, meta, payload);
        // It may have been left in the middle.
        let _ = self.socket.write_all(&[&front, meta, payload, &tag].concat());
    }
}

/// Head, meta, payload.
type Bytes = ([u8; 8], Vec<u8>, Vec<u8>);

/// One write of one block, of zeroes; its sum is wrong unless it is this one.
fn write(sum: u32) -> Bytes {
    let mut meta = vec![0; 44];
    (meta[0], meta[8], meta[16], meta[26], meta[28]) = (1, 1, 1, 1, 1);
    meta[40..].copy_from_slice(&sum.to_le_bytes());
    ([4, 0, 44, 0, 1, 0, 0, 0], meta, vec![0; BLOCK_LEN])
}

fn sum() -> u32 {
    bulkhead::storage::space::crc32c(&[0; BLOCK_LEN])
}

#[test]
fn what_makes_no_sense_ends_the_stream() {
    let bare = |kind: u8| ([kind, 0, 0, 0, 0, 0, 0, 0], Vec::new(), Vec::new());
    let (head, meta, payload) = write(sum());
    let change = |at: usize, byte: u8| {
        let mut meta = meta.clone();
        meta[at] = byte;
        (head, meta, payload.clone())
    };
    let wrong: [(End, Bytes); 12] = [
        (End::Malformed, bare(0)),
        (End::Malformed, bare(7)),
        // The first frame, again.
        (End::Malformed, bare(1)),
        // A word of no bytes, and one of two spellings.
        (End::Malformed, bare(3)),
        (End::Malformed, ([3, 0, 4, 0, 0, 0, 0, 0], vec![5, 0x86, 0x80, 0], Vec::new())),
        (End::Malformed, ([3, 0, 3, 0, 0, 0, 0, 0], vec![9, 9, 9], Vec::new())),
        // More blocks than a frame can have, and others than the write has.
        (End::Malformed, ([4, 0, 44, 0, 0xff, 0xff, 0, 0], meta.clone(), Vec::new())),
        (End::Malformed, change(28, 2)),
        (End::Malformed, change(26, 4)),
        (End::Malformed, change(27, 1)),
        // A write behind the end of every volume.
        (End::Malformed, change(38, 0xff)),
        (End::Sums, write(sum() ^ 1)),
    ];
    let place = Place::new();
    let high = Node::start(place.settings(2, 2));
    let all = high.pool.free();
    for (number, (why, (head, meta, payload))) in wrong.into_iter().enumerate() {
        let before = high.peer().ends.get(&why).copied().unwrap_or(0);
        let mut impostor = Impostor::meet(place.of(2)[0]);
        high.met();
        // One that is right, so that it is known to be heard.
        let right = write(sum());
        impostor.send(right.0, &right.1, &right.2);
        drop(high.frame());
        impostor.send(head, &meta, &payload);
        let right = write(sum());
        impostor.send(right.0, &right.1, &right.2);
        assert_eq!(high.gone(), NodeId(1), "{number}");
        until("why is shown", || high.peer().ends.get(&why) == Some(&(before + 1)));
    }
    assert_eq!(high.pool.free(), all);
}

/// A frame that comes a byte at a time is no sign of life for ever.
#[test]
fn a_frame_that_never_ends_ends_the_stream() {
    let place = Place::new();
    let timing = Timing { stall: millis(1500), ..place.settings(2, 2).timing };
    let high = Node::start(Settings { timing, ..place.settings(2, 2) });
    let mut impostor = Impostor::meet(place.of(2)[0]);
    high.met();
    let (head, meta, payload) = write(sum());
    let front = [&head[..], &impostor.sealer.head(&head), &meta].concat();
    impostor.socket.write_all(&front).unwrap();
    until("it is over", || {
        let _ = impostor.socket.write_all(&payload[..1]);
        high.peer().network.is_none()
    });
    assert_eq!(high.gone(), NodeId(1));
    until("why is shown", || high.peer().ends.contains_key(&End::Slow));
}

/// Frames of random content under good tags: each is told or ends the stream; the next stream is met.
#[test]
fn random_frames_are_told_or_end_the_stream() {
    let place = Place::new();
    let high = Node::with_pool(place.settings(2, 2), Pool::new(8 << 20).unwrap());
    let all = high.pool.free();
    let (mut seed, mut told, mut ended) = (77, 0_u32, 0_u32);
    for _ in 0..60 {
        let mut impostor = Impostor::meet(place.of(2)[0]);
        high.met();
        for _ in 0..20 {
            let (mut head, mut meta, mut payload) = match next(&mut seed) % 3 {
                0 => write(sum()),
                1 => ([6, 0, 16, 0, 0, 0, 0, 0], vec![1; 16], Vec::new()),
                _ => ([3, 0, 3, 0, 0, 0, 0, 0], vec![3, 5, 8], Vec::new()),
            };
            if next(&mut seed).is_multiple_of(4) {
                let random = next(&mut seed);
                let at = (random >> 8) as usize;
                match random % 3 {
                    0 => head[at % 8] ^= 1 << (random >> 40 & 7),
                    1 => {
                        let at = at % meta.len();
                        meta[at] = (random >> 40) as u8;
                    }
                    _ if payload.is_empty() => {}
                    _ => {
                        let at = at % payload.len();
                        payload[at] ^= 1;
                    }
                }
            }
            impostor.send(head, &meta, &payload);
        }
        drop(impostor);
        loop {
            match high.next() {
                News::Frame(..) => told += 1,
                News::Gone(_) => break,
                met @ News::Met(..) => panic!("{met:?} before the old one is gone"),
            }
        }
        ended += 1;
    }
    assert!(100 < told && ended == 60, "{told} told");
    until("all memory is back", || high.pool.free() == all);
    let ends = high.peer().ends;
    assert!(ends.contains_key(&End::Malformed) && ends.contains_key(&End::Sums), "{ends:?}");
    assert_eq!(Head::parse(&[2, 0, 0, 0, 0, 0, 0, 0]), Some(Head::bare(Kind::Alive)));
}
