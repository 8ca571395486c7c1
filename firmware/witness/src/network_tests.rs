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

use super::*;

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
    let buffers = Buffers { bytes: Box::leak(Box::default()), heads: Box::leak(Box::default()) };
    Network::new(Instant::ZERO, Wire::default(), &settings, 1, buffers)
}

/// Whoever asks by ARP is known from then on.
fn arp_of(number: u8) -> Vec<u8> {
    let mut arp = [[0xff; 6].as_slice(), &[2, 0, 0, 0, 0, number], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    arp.extend([2, 0, 0, 0, 0, number, 10, 1, 1, number, 0, 0, 0, 0, 0, 0]);
    arp.extend(HERE);
    arp
}

fn send(network: &mut Network<Wire>, now: Instant, number: u8) {
    network.send(Path::One, Address { host: [10, 1, 1, number], port: 7901 }, &[number; 40]);
    network.serve(now);
}

/// The hosts to whom datagrams went.
fn heard(network: &mut Network<Wire>) -> Vec<u8> {
    let frames = std::mem::take(&mut network.device().from_board);
    frames.iter().filter(|frame| frame[12..14] == [8, 0]).map(|frame| frame[33]).collect()
}

/// F14, F26: a node that is off answers no ARP. What is for it is dropped, and holds up nobody else.
#[test]
fn a_node_that_is_off_does_not_keep_the_others_unheard() {
    let mut network = network();
    network.device().to_board.push_back(arp_of(1));
    assert!(network.take_frame(Instant::ZERO));
    for round in 0..200 {
        let now = Instant::from_micros(round * 75_000);
        for number in [2, 1] {
            send(&mut network, now, number);
        }
        assert_eq!(heard(&mut network), [1], "round {round}");
    }
    assert_eq!(network.dropped(), 200);

    // It is switched on, and asks for us as every newcomer does.
    let now = Instant::from_micros(200 * 75_000);
    network.device().to_board.push_back(arp_of(2));
    assert!(network.take_frame(now));
    send(&mut network, now, 2);
    send(&mut network, now, 1);
    assert_eq!(heard(&mut network), [2, 1]);
}

/// S1-09: whoever is not known is asked for, not more often than once a second, and is heard after the
/// answer.
#[test]
fn a_node_is_asked_for_by_arp() {
    let mut network = network();
    for round in 0..40 {
        send(&mut network, Instant::from_micros(round * 100_000), 3);
    }
    let frames = std::mem::take(&mut network.device().from_board);
    assert!(frames.iter().all(|frame| frame[12..14] == [8, 6] && frame[38..42] == [10, 1, 1, 3]));
    assert_eq!(frames.len(), 4);
}

/// What comes on a path is read on that path, and only there.
#[test]
fn each_path_has_its_own_datagrams() {
    let mut network = network();
    let mut frame = [OWN.as_slice(), &[2, 0, 0, 0, 0, 1, 8, 0]].concat();
    let mut ip = vec![0x45, 0, 0, 20 + 8 + 4, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 2, 1, 10, 1, 2, 9];
    let words = ip.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    // A UDP checksum of zero is none.
    frame.extend([0x1e, 0xdd, 0x1e, 0xde, 0, 12, 0, 0, 1, 2, 3, 4]);
    network.device().to_board.push_back(frame);
    assert!(network.take_frame(Instant::ZERO));
    let mut buffer = [0; DATAGRAM_MAX];
    assert!(network.receive(Path::One, &mut buffer).is_none());
    let (from, bytes) = network.receive(Path::Two, &mut buffer).unwrap();
    assert_eq!((from, bytes), (Address { host: [10, 1, 2, 1], port: 7901 }, &[1, 2, 3, 4][..]));
    assert!(!network.take_frame(Instant::ZERO));
}
