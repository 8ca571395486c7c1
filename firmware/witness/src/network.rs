//! The two control networks on one wire: IPv4 with static addresses or DHCP, ARP, ICMP echo, UDP (S1-09).
//!
//! The witness answers under the Ethernet address that a peer's last authentic datagram came from, six bytes
//! a peer and path: a hundred peers on its own segment need no ARP, and a dead one holds up nobody (F14,
//! F26).

use bulkhead_core::id::Path;
use bulkhead_core::provision::{Address, Head};
use bulkhead_core::time::Instant;
use heapless::Vec;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Device, RxToken, TxToken};
use smoltcp::socket::dhcpv4;
use smoltcp::time::Instant as Stamp;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address, Ipv4Cidr};

use crate::datagram::{HEADERS, Incoming, Locals, One, Whose, read, write};

/// Longest datagram: what the node's links send.
pub const DATAGRAM_MAX: usize = bulkhead_core::link::frame::DATAGRAM_MAX;
/// DHCP.
const SOCKETS: usize = 1;

/// The Ethernet addresses under which a peer is reached on its paths: its own, or the gateway's. `None` until
/// something came from it.
pub type Neighbour = [Option<EthernetAddress>; 2];

/// The sockets of the stack.
#[derive(Debug)]
pub struct Sockets([SocketStorage<'static>; SOCKETS]);

/// All memory of a network but its device's.
#[derive(Debug)]
pub struct Buffers {
    /// The stack's.
    pub sockets: &'static mut Sockets,
    /// One for each peer.
    pub neighbours: &'static mut [Neighbour],
}

impl Default for Sockets {
    fn default() -> Self {
        Self::new()
    }
}

impl Sockets {
    /// None yet.
    pub const fn new() -> Self {
        Self([SocketStorage::EMPTY])
    }
}

/// What was taken from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing waits.
    Nothing,
    /// A frame for the stack itself, or for nobody.
    Frame,
    /// A datagram.
    Datagram(Arrived),
}

/// A datagram that was copied into the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// On which path.
    pub path: Path,
    /// Where it says to come from.
    pub from: Address,
    /// The Ethernet address that it came from.
    pub by: EthernetAddress,
    /// Its bytes in the buffer.
    pub length: usize,
}

/// How DHCP stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leased {
    /// It is not asked: all addresses are in the settings.
    NotAsked,
    /// It has given no address yet, or took it back: the paths that wait for it are silent.
    Nothing,
    /// It gave this one.
    Host([u8; 4]),
}

/// The wire, with both paths on it.
#[allow(missing_debug_implementations, reason = "smoltcp's interface has none")]
pub struct Network<D: Device> {
    device: D,
    own: EthernetAddress,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: Option<SocketHandle>,
    neighbours: &'static mut [Neighbour],
    /// Where it receives on each path.
    locals: Locals,
    /// What the settings say, and no lease takes away.
    fixed: Vec<Ipv4Cidr, 2>,
    /// The ports of the paths that wait for an address by DHCP.
    dynamic: [Option<u16>; 2],
    gateway: Option<Ipv4Address>,
    leased: Leased,
    dropped: u32,
}

impl<D: Device> Network<D> {
    /// Begins to listen where `settings` say. `seed` is another at each start: identifications begin with it.
    pub fn new(now: Instant, mut device: D, settings: &Head, seed: u64, buffers: Buffers) -> Self {
        let own = EthernetAddress(settings.hardware);
        let mut config = Config::new(HardwareAddress::Ethernet(own));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut device, stamp(now));
        let Buffers { sockets: Sockets(sockets), neighbours } = buffers;
        let mut sockets = SocketSet::new(&mut sockets[..]);
        let locals =
            settings.paths.map(|local| local.host.map(|(host, _)| Address { host, port: local.port }));
        let dynamic = settings.paths.map(|local| local.host.is_none().then_some(local.port));
        let is_dynamic = dynamic.iter().any(Option::is_some);
        let dhcp = is_dynamic.then(|| sockets.add(dhcpv4::Socket::new()));
        let cidrs = settings.paths.iter().filter_map(|local| local.host);
        // Two paths, and room for two.
        let fixed = cidrs.map(|(host, bits)| Ipv4Cidr::new(Ipv4Address::from(host), bits.min(32))).collect();
        let gateway = settings.gateway.map(Ipv4Address::from);
        let leased = if is_dynamic { Leased::Nothing } else { Leased::NotAsked };
        let dropped = 0;
        let mut network = Self {
            device,
            own,
            interface,
            sockets,
            dhcp,
            neighbours,
            locals,
            fixed,
            dynamic,
            gateway,
            leased,
            dropped,
        };
        network.take_addresses(None, None);
        network
    }

    /// Has the addresses of the settings and, beside them, what DHCP gave.
    fn take_addresses(&mut self, lease: Option<Ipv4Cidr>, router: Option<Ipv4Address>) {
        let Self { interface, fixed, gateway, .. } = self;
        interface.update_ip_addrs(|addresses| {
            addresses.clear();
            // A lease is asked for by a path that has none: there is room.
            addresses.extend(fixed.iter().copied().chain(lease).map(IpCidr::Ipv4).take(2));
        });
        let routes = interface.routes_mut();
        match router.or(*gateway) {
            Some(router) => drop(routes.add_default_ipv4_route(router)),
            None => drop(routes.remove_default_ipv4_route()),
        }
    }

    /// The device.
    pub const fn device(&mut self) -> &mut D {
        &mut self.device
    }

    /// Datagrams that found no way to their host.
    pub const fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Takes one frame from the device. A datagram is copied into `buffer`.
    #[inline(never)]
    pub fn take_frame(&mut self, now: Instant, buffer: &mut [u8; DATAGRAM_MAX]) -> Taken {
        let Self { device, interface, sockets, locals, own, .. } = self;
        let capabilities = device.capabilities();
        let Some((received, room)) = device.receive(stamp(now)) else { return Taken::Nothing };
        received.consume(|frame| match read(frame, *own, locals) {
            Whose::Ours(Incoming { path, from, by, bytes }) => {
                let Some(place) = buffer.get_mut(..bytes.len()) else { return Taken::Frame };
                place.copy_from_slice(bytes);
                Taken::Datagram(Arrived { path, from, by, length: bytes.len() })
            }
            Whose::Nobodys => Taken::Frame,
            Whose::Stacks => {
                let mut one = One { received: Some(frame), room: Some(room), capabilities };
                let _ = interface.poll_ingress_single(stamp(now), &mut one, sockets);
                Taken::Frame
            }
        })
    }

    /// Sends what the stack itself has to, and takes the address that DHCP gives.
    #[inline(never)]
    pub fn serve(&mut self, now: Instant) {
        let Some(dhcp) = self.dhcp else { return };
        let _ = self.interface.poll_egress(stamp(now), &mut self.device, &mut self.sockets);
        let (lease, router) = match self.sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp).poll() {
            None => return,
            Some(dhcpv4::Event::Configured(config)) => (Some(config.address), config.router),
            Some(dhcpv4::Event::Deconfigured) => (None, None),
        };
        self.leased = lease.map_or(Leased::Nothing, |lease| Leased::Host(lease.address().octets()));
        self.locals.iter_mut().zip(self.dynamic).filter_map(|(local, port)| Some((local, port?))).for_each(
            |(local, port)| *local = lease.map(|lease| Address { host: lease.address().octets(), port }),
        );
        self.take_addresses(lease, router);
    }

    /// How DHCP stands.
    pub const fn leased(&self) -> Leased {
        self.leased
    }

    /// The peer at `place` is reached on `path` under this Ethernet address. Believed when something
    /// authentic came from there; or for want of anything better, until that is the case.
    pub fn learn(&mut self, place: usize, path: Path, by: EthernetAddress, is_authentic: bool) {
        let Some([one, two]) = self.neighbours.get_mut(place) else { return };
        let known = match path {
            Path::One => one,
            Path::Two => two,
        };
        if by.is_unicast() && (is_authentic || known.is_none()) {
            *known = Some(by);
        }
    }

    /// Sends a datagram to the peer at `place`. To one that nothing came from in this start there is no way:
    /// it is dropped and counted. Whoever wants a witness speaks first, and again.
    #[inline(never)]
    pub fn send(&mut self, now: Instant, path: Path, (place, to): (usize, Address), bytes: &[u8]) {
        let by = self.neighbours.get(place).and_then(|[one, two]| *path.pick(one, two));
        let [one, two] = &self.locals;
        let (Some(by), Some(from)) = (by, *path.pick(one, two)) else {
            self.dropped = self.dropped.saturating_add(1);
            return;
        };
        let Some(room) = self.device.transmit(stamp(now)) else {
            self.dropped = self.dropped.saturating_add(1);
            return;
        };
        let ends = [self.own, by];
        room.consume(HEADERS.saturating_add(bytes.len()), |frame| write(frame, ends, from, to, bytes));
    }
}

fn stamp(now: Instant) -> Stamp {
    Stamp::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "dhcp_tests.rs"]
mod dhcp_tests;
