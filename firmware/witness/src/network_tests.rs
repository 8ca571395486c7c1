//! The network against a wire that a test holds both ends of.

use std::collections::VecDeque;
use std::vec::Vec;

use bulkhead_core::budget::timers::Timers;
use bulkhead_core::id::{NodeId, PairId, SiteId};
use bulkhead_core::link::key::SiteKey;
use bulkhead_core::node::settings::Digest;
use bulkhead_core::provision::Local;
use bulkhead_core::register::store::Owner;
use bulkhead_core::register::voters::Life;
use bulkhead_core::time::Drift;
use smoltcp::phy::{DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::wire::Ipv4Packet;

use super::*;
use crate::PEERS;

pub const OWN: [u8; 6] = [2, 0, 0, 0, 0, 9];
const HERE: [u8; 4] = [10, 1, 1, 9];

#[derive(Default)]
pub struct Wire {
    pub to_board: VecDeque<Vec<u8>>,
    pub from_board: Vec<Vec<u8>>,
}

impl Device for Wire {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: Stamp) -> Option<(Frame, Room<'_>)> {
        let frame = self.to_board.pop_front()?;
        Some((Frame(frame), Room(&mut self.from_board)))
    }

    fn transmit(&mut self, _: Stamp) -> Option<Room<'_>> {
        Some(Room(&mut self.from_board))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 600;
        capabilities
    }
}

pub struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

pub struct Room<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.push(frame);
        result
    }
}

fn network() -> Network<Wire> {
    let local = |net, port| Local { host: Some(([10, 1, net, 9], 24)), port };
    network_at([local(1, 7901), local(2, 7902)])
}

pub fn network_at(paths: [Local; 2]) -> Network<Wire> {
    let timers = Timers::DEFAULT;
    let settings = Head {
        seq: 1,
        owner: Owner { site: SiteId([1; 16]), node: NodeId(9), life: Life(1) },
        pair: PairId(1),
        digest: Digest::default(),
        old_lease: core::time::Duration::ZERO,
        peers: 2,
        key: SiteKey::new([1; 32]),
        secret: SiteKey::new([2; 32]),
        hardware: OWN,
        paths,
        gateway: None,
        timers,
        drift: Drift::DEFAULT,
    };
    let neighbours = Box::leak(Box::new([[None; 2]; PEERS]));
    let buffers = Buffers { sockets: Box::leak(Box::default()), neighbours };
    Network::new(Instant::ZERO, Wire::default(), &settings, 1, buffers)
}

fn path_port(path: Path) -> u16 {
    path.pick(7901, 7902)
}

/// Peer `number` on `path`: its address, and its network card's.
fn peer(number: u8, path: Path) -> (Address, EthernetAddress) {
    let net = path.pick(1, 2);
    let host = Address { host: [10, 1, net, number], port: path_port(path) };
    (host, EthernetAddress([2, 0, 0, 0, net, number]))
}

/// A frame for this witness.
fn frame((from, by): (Address, EthernetAddress), path: Path, bytes: &[u8]) -> Vec<u8> {
    let here = Address { host: [10, 1, path.pick(1, 2), 9], port: path_port(path) };
    let mut frame = vec![0; HEADERS + bytes.len()];
    write(&mut frame, [by, EthernetAddress(OWN)], from, here, bytes);
    frame
}

fn take(network: &mut Network<Wire>, frame: Vec<u8>) -> (Taken, Vec<u8>) {
    network.device().to_board.push_back(frame);
    let mut buffer = [0; DATAGRAM_MAX];
    let taken = network.take_frame(Instant::ZERO, &mut buffer);
    let length = if let Taken::Datagram(arrived) = taken { arrived.length } else { 0 };
    (taken, buffer[..length].to_vec())
}

fn sent(network: &mut Network<Wire>) -> Vec<Vec<u8>> {
    std::mem::take(&mut network.device().from_board)
}

/// S1-09, X03: 128 peers on the witness's own segment, by both paths, all are answered at once and again: to
/// the network card that each spoke with, and without a single question by ARP.
#[test]
fn a_hundred_neighbours_are_all_answered() {
    let mut network = network();
    let all = || (0..PEERS).flat_map(|place| Path::ALL.map(|path| (place, path)));
    let number = |place: usize| u8::try_from(place + 100).unwrap();
    for round in 0..3_u8 {
        for (place, path) in all() {
            let (host, by) = peer(number(place), path);
            let (taken, bytes) = take(&mut network, frame((host, by), path, &[round; 60]));
            assert_eq!(taken, Taken::Datagram(Arrived { path, from: host, by, length: 60 }));
            assert_eq!(bytes, [round; 60]);
            network.learn(place, path, by, true);
        }
        for (place, path) in all() {
            let (host, by) = peer(number(place), path);
            network.send(Instant::ZERO, path, (place, host), &[round, number(place)]);
            network.serve(Instant::ZERO);
            let frames = sent(&mut network);
            // The same bytes as the stack of a host expects: its parser finds all sums right.
            let [only] = &frames[..] else { panic!("{place} {path:?}: {} frames", frames.len()) };
            let there = [Some(host), None];
            let Whose::Ours(Incoming { from, by: own, bytes, .. }) = read(only, by, &there) else {
                panic!("{place} {path:?}: {only:?}")
            };
            let here = Address { host: [10, 1, path.pick(1, 2), 9], port: path_port(path) };
            assert_eq!((from, own, bytes), (here, EthernetAddress(OWN), &[round, number(place)][..]));
        }
    }
    assert_eq!(network.dropped(), 0);
}

/// F14, F26: to a node that is off there is no way; what is for it is dropped, and holds up nobody else.
#[test]
fn a_node_that_is_off_does_not_keep_the_others_unheard() {
    let mut network = network();
    let (path, [off, on]) = (Path::One, [2, 1].map(|number| peer(number, Path::One)));
    network.learn(1, path, on.1, true);
    for round in 1..=200 {
        network.send(Instant::ZERO, path, (2, off.0), &[7]);
        network.send(Instant::ZERO, path, (1, on.0), &[7]);
        assert_eq!((sent(&mut network).len(), network.dropped()), (1, round));
    }
    // It is switched on, and speaks.
    network.learn(2, path, off.1, false);
    network.send(Instant::ZERO, path, (2, off.0), &[7]);
    assert_eq!((sent(&mut network).len(), network.dropped()), (1, 200));
}

/// F39, V22: who is not authentic leads no datagram of a peer astray; a new network card of the peer is known
/// with its first authentic datagram. Nobody is a group.
#[test]
fn only_what_is_authentic_moves_a_peer() {
    let mut network = network();
    let ((host, card), path) = (peer(1, Path::One), Path::One);
    let [forger, new_card] = [66, 77].map(|last| EthernetAddress([2, 0, 0, 0, 0, last]));
    for (by, is_authentic, goes_to) in [
        (EthernetAddress::BROADCAST, true, None),
        (forger, false, Some(forger)),
        (card, true, Some(card)),
        (forger, false, Some(card)),
        (EthernetAddress::BROADCAST, true, Some(card)),
        (new_card, true, Some(new_card)),
    ] {
        network.learn(1, path, by, is_authentic);
        network.send(Instant::ZERO, path, (1, host), &[7]);
        let to = sent(&mut network).first().map(|frame| EthernetAddress::from_bytes(&frame[..6]));
        assert_eq!(to, goes_to, "{by} {is_authentic}");
    }
}

/// I11, V39: what comes on a path is read on that path, and only there; what is damaged, is a part, or too
/// long is nobody's, and nobody is told.
#[test]
fn each_path_has_its_own_whole_datagrams() {
    let mut network = network();
    for path in Path::ALL {
        let whole = frame(peer(1, path), path, &[1, 2, 3, 4]);
        let (taken, bytes) = take(&mut network, whole.clone());
        assert!(matches!(taken, Taken::Datagram(arrived) if arrived.path == path));
        assert_eq!(bytes, [1, 2, 3, 4]);
        for at in 0..whole.len() * 8 {
            let mut bent = whole.clone();
            bent[at / 8] ^= 1 << (at % 8);
            let (taken, bytes) = take(&mut network, bent);
            // The address of its sender's network card is under no sum.
            let is_free = (6..12).contains(&(at / 8));
            assert_eq!(matches!(taken, Taken::Datagram(_)), is_free, "bit {at}");
            assert!(!is_free || bytes == [1, 2, 3, 4]);
        }
        let mut without_sum = whole.clone();
        without_sum[40..42].fill(0);
        assert!(matches!(take(&mut network, without_sum).0, Taken::Datagram(_)), "none is no wrong one");
        for length in 0..whole.len() {
            assert_eq!(take(&mut network, whole[..length].to_vec()).0, Taken::Frame, "{length} bytes");
        }
        let long = frame(peer(1, path), path, &[0; DATAGRAM_MAX + 1]);
        assert_eq!(take(&mut network, long).0, Taken::Frame);
        let mut part = whole.clone();
        part[20] = 0x20;
        part[24..26].fill(0);
        let mut packet = Ipv4Packet::new_unchecked(&mut part[14..]);
        packet.fill_checksum();
        assert_eq!(take(&mut network, part).0, Taken::Frame);
    }
    let answers = sent(&mut network);
    assert!(answers.iter().all(|frame| frame[12..14] == [8, 6] || frame[23] == 1), "{answers:?}");
    let mut buffer = [0; DATAGRAM_MAX];
    assert_eq!(network.take_frame(Instant::ZERO, &mut buffer), Taken::Nothing);
}

/// S1-09: whoever asks for this witness by ARP is told.
#[test]
fn it_is_found_by_arp() {
    let mut network = network();
    let mut arp = [[0xff; 6].as_slice(), &[2, 0, 0, 0, 0, 1], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    arp.extend([2, 0, 0, 0, 0, 1, 10, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
    arp.extend(HERE);
    assert_eq!(take(&mut network, arp).0, Taken::Frame);
    let answers = sent(&mut network);
    assert!(matches!(&answers[..], [one] if one[..6] == [2, 0, 0, 0, 0, 1] && one[22..28] == OWN));
}
