//! Ports of a playground that nobody else on this machine gets: not while its processes have not bound them
//! yet, nor while one of them is down. The system gives away the others to whoever asks for any port.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// Below what the system gives away (`net.ipv4.ip_local_port_range` begins at 32768), and above what services
/// have.
const FIRST: u16 = 10_000;
/// So many belong together: whoever has the first of them has all.
const BLOCK: u16 = 256;
/// Blocks there are.
const BLOCKS: u16 = 88;

/// Ports of a playground, until this is dropped.
#[derive(Debug)]
pub struct Ports {
    /// For datagrams and streams, free when they were looked at.
    pub all: Vec<SocketAddr>,
    /// The first of the block: other playgrounds look for another one.
    _first: (UdpSocket, TcpListener),
}

impl Ports {
    /// So many of loopback.
    ///
    /// # Errors
    ///
    /// There are no more, or the system has no random numbers or sockets.
    pub fn take(count: usize) -> Result<Self> {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes).map_err(|error| Error::other(error.to_string()))?;
        let begin = u16::from_le_bytes(bytes);
        let block = |number: u16| {
            let block = begin.wrapping_add(number).checked_rem(BLOCKS).unwrap_or(0);
            Self::of(FIRST.saturating_add(block.saturating_mul(BLOCK)), count)
        };
        let none = || Error::new(ErrorKind::AddrInUse, "no ports are left for a playground");
        (0..BLOCKS).find_map(block).ok_or_else(none)
    }

    /// Those of a block; `None`: somebody has it, or too many of them.
    fn of(first: u16, count: usize) -> Option<Self> {
        let both = |port| {
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            Some((UdpSocket::bind(at).ok()?, TcpListener::bind(at).ok()?))
        };
        let kept = both(first)?;
        let others = (1..BLOCK).map(|place| first.saturating_add(place));
        let free = others.filter(|port| both(*port).is_some()).take(count);
        let all: Vec<_> = free.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect();
        (all.len() == count).then_some(Self { all, _first: kept })
    }
}

const _: () = assert!(FIRST + BLOCK * BLOCKS < 32_768, "the system gives these away");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_port_is_given_twice_nor_by_the_system() {
        let all: Vec<Ports> = (0..10).map(|_| Ports::take(60).unwrap()).collect();
        let ports: BTreeSet<SocketAddr> = all.iter().flat_map(|ports| ports.all.clone()).collect();
        assert_eq!(ports.len(), 600);
        // Not bound, and not given to whoever asks for any.
        let bound: Vec<_> = ports.iter().map(|port| UdpSocket::bind(port).unwrap()).collect();
        drop(bound);
        for _ in 0..100 {
            let any = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            assert!(!ports.contains(&any), "{any}");
        }
        assert!(Ports::take(usize::from(BLOCK)).is_err(), "a block has fewer");
        let first = all[0]._first.0.local_addr().unwrap().port();
        assert!(Ports::of(first, 1).is_none(), "it is taken");
        drop(all);
        assert!(Ports::of(first, 1).is_some(), "it is free again");
    }
}
