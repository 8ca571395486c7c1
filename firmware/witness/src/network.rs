//! The two control networks on one wire: IPv4 with static addresses or DHCP, ARP, ICMP echo, UDP (S1-09).

use bulkhead_core::id::Path;
use bulkhead_core::provision::{Address, Head};
use bulkhead_core::time::Instant;
use heapless::Vec;
use smoltcp::iface::{
    Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet, SocketStorage,
};
use smoltcp::phy::Device;
use smoltcp::socket::{dhcpv4, udp};
use smoltcp::time::Instant as Stamp;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, IpEndpoint, Ipv4Address, Ipv4Cidr};

/// Longest datagram: what the node's links send.
pub const DATAGRAM_MAX: usize = bulkhead_core::link::frame::DATAGRAM_MAX;
/// Datagrams that wait to be read: each is, before the next frame is taken from the MAC.
const RECEIVED_MAX: usize = 1;
/// Datagrams that wait to be sent: each leaves at once, unless its host is still asked for its address.
const TO_SEND_MAX: usize = 1;
/// Two paths and DHCP.
const SOCKETS: usize = 3;

/// The datagrams that wait: zero at the start, so that flash holds nothing of them.
#[derive(Debug)]
pub struct Bytes([PathBytes; 2]);

#[derive(Debug)]
struct PathBytes {
    received: [u8; RECEIVED_MAX * DATAGRAM_MAX],
    to_send: [u8; TO_SEND_MAX * DATAGRAM_MAX],
}

/// What is known of the datagrams that wait, and the sockets.
#[derive(Debug)]
pub struct Heads {
    paths: [PathHeads; 2],
    sockets: [SocketStorage<'static>; SOCKETS],
}

#[derive(Debug)]
struct PathHeads {
    received: [udp::PacketMetadata; RECEIVED_MAX],
    to_send: [udp::PacketMetadata; TO_SEND_MAX],
}

/// All memory of a network but its device's.
#[derive(Debug)]
pub struct Buffers {
    /// The datagrams.
    pub bytes: &'static mut Bytes,
    /// The rest.
    pub heads: &'static mut Heads,
}

impl Default for Bytes {
    fn default() -> Self {
        Self::new()
    }
}

impl Bytes {
    /// Nothing yet.
    pub const fn new() -> Self {
        const PATH: PathBytes = PathBytes {
            received: [0; RECEIVED_MAX * DATAGRAM_MAX],
            to_send: [0; TO_SEND_MAX * DATAGRAM_MAX],
        };
        Self([PATH, PATH])
    }
}

impl Default for Heads {
    fn default() -> Self {
        Self::new()
    }
}

impl Heads {
    /// Nothing yet.
    pub const fn new() -> Self {
        const EMPTY: udp::PacketMetadata = udp::PacketMetadata::EMPTY;
        const PATH: PathHeads = PathHeads { received: [EMPTY; RECEIVED_MAX], to_send: [EMPTY; TO_SEND_MAX] };
        let sockets = [SocketStorage::EMPTY, SocketStorage::EMPTY, SocketStorage::EMPTY];
        Self { paths: [PATH, PATH], sockets }
    }
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
    interface: Interface,
    sockets: SocketSet<'static>,
    paths: [SocketHandle; 2],
    dhcp: Option<SocketHandle>,
    /// What the settings say, and no lease takes away.
    fixed: Vec<Ipv4Cidr, 2>,
    gateway: Option<Ipv4Address>,
    leased: Leased,
    dropped: u32,
}

impl<D: Device> Network<D> {
    /// Begins to listen where `settings` say. `seed` is another at each start: identifications begin with it.
    pub fn new(now: Instant, mut device: D, settings: &Head, seed: u64, buffers: Buffers) -> Self {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(settings.hardware)));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut device, stamp(now));
        let Bytes([one, two]) = buffers.bytes;
        let Heads { paths: [heads_one, heads_two], sockets } = buffers.heads;
        let mut sockets = SocketSet::new(&mut sockets[..]);
        let [local_one, local_two] = settings.paths;
        let paths =
            [(one, heads_one, local_one), (two, heads_two, local_two)].map(|(bytes, heads, local)| {
                let PathBytes { received, to_send } = bytes;
                let mut socket = udp::Socket::new(
                    udp::PacketBuffer::new(&mut heads.received[..], &mut received[..]),
                    udp::PacketBuffer::new(&mut heads.to_send[..], &mut to_send[..]),
                );
                let host = local.host.map(|(host, _)| Ipv4Address::from(host).into());
                // Fails for port 0 only, which the settings do not have: then this path is silent.
                let _ = socket.bind(smoltcp::wire::IpListenEndpoint { addr: host, port: local.port });
                sockets.add(socket)
            });
        let is_dynamic = settings.paths.iter().any(|local| local.host.is_none());
        let dhcp = is_dynamic.then(|| sockets.add(dhcpv4::Socket::new()));
        let cidrs = settings.paths.iter().filter_map(|local| local.host);
        // Two paths, and room for two.
        let fixed = cidrs.map(|(host, bits)| Ipv4Cidr::new(Ipv4Address::from(host), bits.min(32))).collect();
        let gateway = settings.gateway.map(Ipv4Address::from);
        let leased = if is_dynamic { Leased::Nothing } else { Leased::NotAsked };
        let mut network =
            Self { device, interface, sockets, paths, dhcp, fixed, gateway, leased, dropped: 0 };
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

    /// Datagrams that found no room to wait in, or no way to their host.
    pub const fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Takes one frame from the device. `false` when none waits.
    #[inline(never)]
    pub fn take_frame(&mut self, now: Instant) -> bool {
        let taken = self.interface.poll_ingress_single(stamp(now), &mut self.device, &mut self.sockets);
        !matches!(taken, PollIngressSingleResult::None)
    }

    /// Sends what waits, answers what the stack itself has to, and takes the address that DHCP gives.
    #[inline(never)]
    pub fn serve(&mut self, now: Instant) {
        self.interface.poll_maintenance(stamp(now));
        for _ in 0..TO_SEND_MAX {
            let sent = self.interface.poll_egress(stamp(now), &mut self.device, &mut self.sockets);
            if sent == PollResult::None {
                break;
            }
        }
        Path::ALL.into_iter().for_each(|path| self.unblock(path));
        let Some(dhcp) = self.dhcp else { return };
        let (lease, router) = match self.sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp).poll() {
            None => return,
            Some(dhcpv4::Event::Configured(config)) => (Some(config.address), config.router),
            Some(dhcpv4::Event::Deconfigured) => (None, None),
        };
        self.leased = lease.map_or(Leased::Nothing, |lease| Leased::Host(lease.address().octets()));
        self.take_addresses(lease, router);
    }

    /// How DHCP stands.
    pub const fn leased(&self) -> Leased {
        self.leased
    }

    /// The next datagram that was received on `path`, copied into `buffer`.
    pub fn receive<'a>(
        &mut self,
        path: Path,
        buffer: &'a mut [u8; DATAGRAM_MAX],
    ) -> Option<(Address, &'a [u8])> {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.handle(path));
        let (bytes, from) = socket.recv().ok()?;
        let place = buffer.get_mut(..bytes.len())?;
        place.copy_from_slice(bytes);
        let smoltcp::wire::IpAddress::Ipv4(host) = from.endpoint.addr;
        Some((Address { host: host.octets(), port: from.endpoint.port }, place))
    }

    /// Queues a datagram. One that finds no room is dropped and counted: whoever waits for it asks again.
    pub fn send(&mut self, path: Path, to: Address, bytes: &[u8]) {
        let to = IpEndpoint::new(Ipv4Address::from(to.host).into(), to.port);
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.handle(path));
        if socket.send_slice(bytes, to).is_err() {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Forgets what still waits on `path`: its host is not found yet, and was asked for. The stack would wait
    /// with everything behind it, so that one dead node made all others unheard; whoever sent it sends again.
    fn unblock(&mut self, path: Path) {
        let handle = self.handle(path);
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(handle);
        if socket.send_queue() == 0 {
            return;
        }
        self.dropped = self.dropped.saturating_add(1);
        let local = socket.endpoint();
        // Nothing that was received waits here: it is read before anything is sent.
        socket.close();
        let _ = socket.bind(local);
        // A socket that was put back does not remember for whom it waited.
        let socket = self.sockets.remove(handle);
        let [one, two] = &mut self.paths;
        *(match path {
            Path::One => one,
            Path::Two => two,
        }) = self.sockets.add(socket);
    }

    const fn handle(&self, path: Path) -> SocketHandle {
        let [one, two] = self.paths;
        match path {
            Path::One => one,
            Path::Two => two,
        }
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
