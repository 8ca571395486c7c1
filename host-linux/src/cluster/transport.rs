//! The two control networks: a UDP socket on each, never blocking, every loss counted (F31, F38, V16).

use bulkhead_core::id::Path;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, sendto, socket_with, sockopt};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// One of the two sockets.
#[derive(Debug)]
pub struct Network {
    path: Path,
    socket: UdpSocket,
    counts: Counts,
}

/// What a socket saw since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams that were longer than any of ours.
    pub oversize: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams the system did not take: no route, a full queue.
    pub unsent: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
}

impl Network {
    /// Binds `path`'s socket to `listen`. The address need not be there yet: a node that waits for one
    /// network still speaks on the other.
    ///
    /// # Errors
    ///
    /// Another process uses the address, or there are no sockets to be had.
    pub fn bind(path: Path, listen: SocketAddr) -> std::io::Result<Self> {
        let family = if listen.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
        if listen.is_ipv4() {
            sockopt::set_ip_freebind(&socket, true)?;
        } else {
            sockopt::set_ipv6_v6only(&socket, true)?;
            sockopt::set_ipv6_freebind(&socket, true)?;
        }
        bind(&socket, &listen)?;
        Ok(Self { path, socket: UdpSocket::from(socket), counts: Counts::default() })
    }

    /// Which network it is.
    pub const fn path(&self) -> Path {
        self.path
    }

    /// What it saw.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The next datagram, in `buffer`; longer ones are dropped and counted. `None`: there is none now.
    pub fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let len = loop {
            match self.socket.recv(buffer) {
                // One byte of room tells a datagram that fits from one that was cut.
                Ok(len) if len < buffer.len() => break len,
                Ok(_) => self.counts.oversize = self.counts.oversize.saturating_add(1),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // Errors of earlier sends end up here, too; they say nothing a heartbeat does not.
                Err(_) => return None,
            }
        };
        self.counts.received = self.counts.received.saturating_add(1);
        buffer.get(..len)
    }

    /// Sends, or counts that it could not.
    pub fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendto(&self.socket, bytes, flags, &to) {
            Ok(len) => {
                self.counts.sent = self.counts.sent.saturating_add(1);
                let len = u64::try_from(len).unwrap_or(u64::MAX);
                self.counts.bytes_sent = self.counts.bytes_sent.saturating_add(len);
            }
            Err(_) => self.counts.unsent = self.counts.unsent.saturating_add(1),
        }
    }
}

impl AsFd for Network {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Network {
        Network::bind(Path::One, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    }

    #[test]
    fn datagrams_arrive_and_oversize_ones_are_dropped_and_counted() {
        let (mut a, mut b) = (local(), local());
        let to = b.socket.local_addr().unwrap();
        a.send(to, &[7; 600]);
        a.send(to, &[8; 512]);
        let mut buffer = [0; 513];
        assert_eq!(b.receive(&mut buffer).unwrap(), [8; 512]);
        assert_eq!(b.receive(&mut buffer), None);
        let counts = b.counts();
        assert_eq!((counts.received, counts.oversize, a.counts().sent), (1, 1, 2));
    }

    #[test]
    fn an_address_that_is_not_there_yet_can_be_bound_and_costs_only_counted_sends() {
        let mut absent = Network::bind(Path::Two, SocketAddr::from(([192, 0, 2, 77], 0))).unwrap();
        absent.send(SocketAddr::from(([192, 0, 2, 78], 7901)), b"x");
        let counts = absent.counts();
        assert_eq!(counts.sent + counts.unsent, 1);
        let taken = local();
        assert!(Network::bind(Path::One, taken.socket.local_addr().unwrap()).is_err());
    }
}
