//! A datagram of the control networks in its Ethernet frame: Ethernet, IPv4, UDP and nothing else (S1-09,
//! F39).
//!
//! They are read and written here, past the stack, which knows few neighbours at a time and would ask for
//! each of a hundred again and again. All else is the stack's: ARP, ICMP, DHCP.

use bulkhead_core::id::Path;
use bulkhead_core::provision::Address;
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, RxToken, TxToken};
use smoltcp::time::Instant as Stamp;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Address, Ipv4Packet,
    Ipv4Repr, UdpPacket, UdpRepr,
};

/// Bytes of the three headers.
pub(super) const HEADERS: usize = 14 + 20 + 8;
/// As the stack's own datagrams.
const HOPS: u8 = 64;

/// A datagram for this witness.
pub(super) struct Incoming<'a> {
    pub path: Path,
    pub from: Address,
    /// The Ethernet address of who sent it, or of the gateway.
    pub by: EthernetAddress,
    pub bytes: &'a [u8],
}

/// Whose a frame is.
pub(super) enum Whose<'a> {
    Ours(Incoming<'a>),
    /// It is for one of our paths, and damaged.
    Nobodys,
    Stacks,
}

/// Where the witness receives on its paths; `None` while that path has no address.
pub(super) type Locals = [Option<Address>; 2];

/// Reads a frame. Total: of what is no whole datagram for one of `locals`, nothing is believed.
pub(super) fn read<'a>(frame: &'a [u8], own: EthernetAddress, locals: &Locals) -> Whose<'a> {
    let Ok(frame) = EthernetFrame::new_checked(frame) else { return Whose::Stacks };
    if frame.dst_addr() != own || frame.ethertype() != EthernetProtocol::Ipv4 {
        return Whose::Stacks;
    }
    let Ok(packet) = Ipv4Packet::new_checked(frame.payload()) else { return Whose::Stacks };
    let is_part = packet.more_frags() || packet.frag_offset() != 0;
    if packet.version() != 4 || is_part || packet.next_header() != IpProtocol::Udp {
        return Whose::Stacks;
    }
    let Ok(datagram) = UdpPacket::new_checked(packet.payload()) else { return Whose::Stacks };
    let here = Some(Address { host: packet.dst_addr().octets(), port: datagram.dst_port() });
    let [one, two] = locals;
    let path = match (here == *one, here == *two) {
        (true, _) => Path::One,
        (false, true) => Path::Two,
        (false, false) => return Whose::Stacks,
    };
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    // A sum of zero is none (RFC 768): what counts is the tag inside.
    let is_sound =
        || datagram.checksum() == 0 || datagram.verify_checksum(&source.into(), &destination.into());
    let is_whole = packet.verify_checksum() && is_sound();
    if !is_whole {
        return Whose::Nobodys;
    }
    let from = Address { host: source.octets(), port: datagram.src_port() };
    Whose::Ours(Incoming { path, from, by: frame.src_addr(), bytes: datagram.payload() })
}

/// Writes a frame of [`HEADERS`] and the payload.
pub(super) fn write(frame: &mut [u8], ends: [EthernetAddress; 2], from: Address, to: Address, bytes: &[u8]) {
    let [src_addr, dst_addr] = ends;
    let mut frame = EthernetFrame::new_unchecked(frame);
    EthernetRepr { src_addr, dst_addr, ethertype: EthernetProtocol::Ipv4 }.emit(&mut frame);
    let [source, destination] = [from, to].map(|end| Ipv4Address::from(end.host));
    let datagram = UdpRepr { src_port: from.port, dst_port: to.port };
    let packet = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Udp,
        payload_len: datagram.header_len().saturating_add(bytes.len()),
        hop_limit: HOPS,
    };
    let sums = ChecksumCapabilities::default();
    let mut inner = Ipv4Packet::new_unchecked(frame.payload_mut());
    packet.emit(&mut inner, &sums);
    datagram.emit(
        &mut UdpPacket::new_unchecked(inner.payload_mut()),
        &source.into(),
        &destination.into(),
        bytes.len(),
        |payload| payload.copy_from_slice(bytes),
        &sums,
    );
}

/// A device with one frame that was received, for the stack.
pub(super) struct One<'a, T> {
    pub received: Option<&'a [u8]>,
    pub room: Option<T>,
    pub capabilities: DeviceCapabilities,
}

/// The frame.
pub(super) struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl<'a, T: TxToken> Device for One<'a, T> {
    type RxToken<'b>
        = Received<'a>
    where
        Self: 'b;
    type TxToken<'b>
        = T
    where
        Self: 'b;

    fn receive(&mut self, _: Stamp) -> Option<(Received<'a>, T)> {
        Some((Received(self.received.take()?), self.room.take()?))
    }

    fn transmit(&mut self, _: Stamp) -> Option<T> {
        self.room.take()
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.capabilities.clone()
    }
}
