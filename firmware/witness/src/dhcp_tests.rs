//! The witness's address by DHCP, against a server that a test plays (S1-09).

use core::time::Duration;
use std::vec::Vec;

use bulkhead_core::provision::Local;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol,
    Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use super::tests::{OWN, Wire, network_at};
use super::*;

const SERVER: Ipv4Address = Ipv4Address::new(10, 1, 1, 1);
const SERVER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const LEASE_SECONDS: u32 = 60;

struct Bench {
    network: Network<Wire>,
    now: Instant,
    /// What the server gives to who asks now; `None`: it is off.
    gives: Option<Ipv4Address>,
    /// Requests that it granted.
    granted: usize,
}

impl Bench {
    fn new(paths: [Option<[u8; 4]>; 2]) -> Self {
        let local = |host: Option<[u8; 4]>| Local { host: host.map(|host| (host, 24)), port: 7901 };
        Self { network: network_at(paths.map(local)), now: Instant::ZERO, gives: None, granted: 0 }
    }

    /// Goes on for that long, in steps of 100 ms.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.now = self.now.after(Duration::from_millis(100));
            self.network.serve(self.now);
            let sent = std::mem::take(&mut self.network.device().from_board);
            let answers: Vec<_> = sent.iter().filter_map(|frame| self.answer(frame)).collect();
            self.network.device().to_board.extend(answers);
            let mut buffer = [0; DATAGRAM_MAX];
            while self.network.take_frame(self.now, &mut buffer) != Taken::Nothing {}
            self.network.serve(self.now);
        }
    }

    fn answer(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        let packet = (frame.ethertype() == EthernetProtocol::Ipv4)
            .then(|| Ipv4Packet::new_checked(frame.payload()))?;
        let packet = packet.ok().filter(|packet| packet.next_header() == IpProtocol::Udp)?;
        let datagram = UdpPacket::new_checked(packet.payload()).ok().filter(|one| one.dst_port() == 67)?;
        let bytes = DhcpPacket::new_checked(datagram.payload()).ok()?;
        let asked = DhcpRepr::parse(&bytes).expect("what it asks is DHCP");
        let your_ip = self.gives?;
        let message_type = match asked.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            // A renewal names the address in another field than a first request.
            DhcpMessageType::Request if asked.requested_ip.unwrap_or(asked.client_ip) == your_ip => {
                self.granted += 1;
                DhcpMessageType::Ack
            }
            DhcpMessageType::Request => DhcpMessageType::Nak,
            DhcpMessageType::Offer
            | DhcpMessageType::Decline
            | DhcpMessageType::Ack
            | DhcpMessageType::Nak
            | DhcpMessageType::Release
            | DhcpMessageType::Inform
            | DhcpMessageType::Unknown(_) => panic!("no client says that"),
        };
        let reply = DhcpRepr {
            message_type,
            transaction_id: asked.transaction_id,
            secs: 0,
            client_hardware_address: EthernetAddress(OWN),
            client_ip: Ipv4Address::UNSPECIFIED,
            your_ip,
            server_ip: SERVER,
            router: Some(SERVER),
            subnet_mask: Some(Ipv4Address::new(255, 255, 255, 0)),
            relay_agent_ip: Ipv4Address::UNSPECIFIED,
            broadcast: false,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(SERVER),
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: Some(LEASE_SECONDS),
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        Some(packed(&reply))
    }
}

/// In UDP, IPv4 and Ethernet, to everybody.
fn packed(reply: &DhcpRepr<'_>) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let udp = UdpRepr { src_port: 67, dst_port: 68 };
    let (from, to) = (SERVER, Ipv4Address::BROADCAST);
    let length = udp.header_len() + reply.buffer_len();
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Udp,
        payload_len: length,
        hop_limit: 64,
    };
    let ethernet = EthernetRepr {
        src_addr: SERVER_MAC,
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Ipv4,
    };
    let mut bytes = vec![0; 14 + ip.buffer_len() + length];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &checksums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    let emit =
        |payload: &mut [u8]| reply.emit(&mut DhcpPacket::new_unchecked(payload)).expect("there is room");
    udp.emit(&mut datagram, &from.into(), &to.into(), reply.buffer_len(), emit, &checksums);
    bytes
}

#[test]
fn it_takes_an_address_renews_it_and_takes_another_one() {
    let mut bench = Bench::new([None, None]);
    assert_eq!(bench.network.leased(), Leased::Nothing);
    bench.gives = Some(Ipv4Address::new(10, 1, 1, 50));
    bench.run(15);
    assert_eq!((bench.network.leased(), bench.granted), (Leased::Host([10, 1, 1, 50]), 1));
    // Ten leases long.
    bench.run(600);
    assert_eq!(bench.network.leased(), Leased::Host([10, 1, 1, 50]));
    assert!((10..=30).contains(&bench.granted), "renewed each half of a lease: {}", bench.granted);
    // The server gives another one from now on, and refuses the old one.
    bench.gives = Some(Ipv4Address::new(10, 1, 1, 51));
    bench.run(120);
    assert_eq!(bench.network.leased(), Leased::Host([10, 1, 1, 51]));
}

/// An address that is not granted any more is not used any more, and is asked for as long as it takes.
#[test]
fn without_a_server_it_is_silent_until_there_is_one() {
    let mut bench = Bench::new([None, None]);
    bench.run(300);
    assert_eq!(bench.network.leased(), Leased::Nothing);
    bench.gives = Some(Ipv4Address::new(10, 1, 1, 50));
    bench.run(90);
    assert_eq!(bench.network.leased(), Leased::Host([10, 1, 1, 50]));
    bench.gives = None;
    bench.run(20);
    assert_eq!(bench.network.leased(), Leased::Host([10, 1, 1, 50]), "within its lease");
    bench.run(60);
    assert_eq!(bench.network.leased(), Leased::Nothing);
}

/// The address of the settings stays, whatever DHCP does for the other path.
#[test]
fn one_path_by_dhcp_leaves_the_other_alone() {
    let mut bench = Bench::new([Some([10, 1, 2, 9]), None]);
    let hosts = |bench: &Bench| -> Vec<IpCidr> { bench.network.interface.ip_addrs().to_vec() };
    let cidr = |a, b| IpCidr::new(smoltcp::wire::IpAddress::v4(10, 1, a, b), 24);
    assert_eq!(hosts(&bench), [cidr(2, 9)]);
    bench.gives = Some(Ipv4Address::new(10, 1, 1, 50));
    bench.run(15);
    assert_eq!(hosts(&bench), [cidr(2, 9), cidr(1, 50)]);
    bench.gives = None;
    bench.run(120);
    assert_eq!(hosts(&bench), [cidr(2, 9)]);
    assert_eq!(Bench::new([Some([10, 1, 1, 9]), Some([10, 1, 2, 9])]).network.leased(), Leased::NotAsked);
}
