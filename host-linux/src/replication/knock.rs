//! A socket in the handshake: it never waits, and reads no byte more than it must.

use super::hello::HELLO_LEN;
use super::wire::Wire;
use crate::tls::secure::Came;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use rustls::Connection;
use std::io::IoSlice;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Connections that the kernel keeps while nobody accepts them.
const BACKLOG: i32 = 128;

/// A socket in the handshake.
#[derive(Debug)]
pub struct Knock {
    wire: Wire,
    buffer: [u8; HELLO_LEN],
    have: usize,
}

/// What a socket in the handshake has for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// Not all yet.
    Waits,
    /// It is over.
    Over,
    /// As many bytes as were asked for; the rest zero.
    All([u8; HELLO_LEN]),
}

impl Knock {
    /// Over a socket that does not wait.
    #[must_use]
    pub const fn new(socket: TcpStream) -> Self {
        Self { wire: Wire::Clear(socket), buffer: [0; HELLO_LEN], have: 0 }
    }

    /// Is encrypted from now on: nothing but what was asked for was read of it.
    ///
    /// # Errors
    ///
    /// There is no file descriptor to be had.
    pub fn secure(&mut self, connection: Connection) -> std::io::Result<()> {
        self.wire = self.wire.secured(connection)?;
        Ok(())
    }

    /// What it goes over.
    #[must_use]
    pub const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// What it goes over, for a stream.
    #[must_use]
    pub fn into_wire(self) -> Wire {
        self.wire
    }

    /// Receives up to `wanted` bytes, in all, since it last had as many.
    pub fn receive(&mut self, wanted: usize) -> Got {
        loop {
            let Some(room) = self.buffer.get_mut(self.have..wanted).filter(|room| !room.is_empty()) else {
                self.have = 0;
                return Got::All(std::mem::replace(&mut self.buffer, [0; HELLO_LEN]));
            };
            match self.wire.receive(room, &mut []) {
                Ok(Came::Bytes(count)) => self.have = self.have.saturating_add(count),
                Ok(Came::Part | Came::Nothing) => return Got::Waits,
                Err(_) => return Got::Over,
            }
        }
    }

    /// Sends all of it, or not: a handshake always finds room in an empty socket. Whether it did.
    pub fn send(&self, bytes: &[u8]) -> bool {
        self.wire.send(&[IoSlice::new(bytes)]) == Ok(Some(bytes.len()))
    }

    /// Whether it is connected by now.
    ///
    /// # Errors
    ///
    /// It will not be.
    pub fn is_connected(&self) -> std::io::Result<bool> {
        sockopt::socket_error(&self.wire)??;
        Ok(rustix::net::getpeername(&self.wire).is_ok())
    }
}

impl AsFd for Knock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}

fn open(like: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if like.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    if like.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

/// Begins to connect from one address of this node to one of a peer, by the network of both.
///
/// # Errors
///
/// The address is not there, or nothing leads to the peer.
pub fn dial(from: SocketAddr, to: SocketAddr) -> std::io::Result<Knock> {
    let socket = open(to)?;
    if !from.ip().is_unspecified() && from.is_ipv4() == to.is_ipv4() {
        bind(&socket, &SocketAddr::new(from.ip(), 0))?;
    }
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(Knock::new(TcpStream::from(socket))),
        Err(error) => Err(error.into()),
    }
}

/// Listens at an address of this node, which need not be there yet.
///
/// # Errors
///
/// Another process uses it, or the system has no sockets.
pub fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = open(at)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    match at {
        SocketAddr::V4(_) => sockopt::set_ip_freebind(&socket, true)?,
        SocketAddr::V6(_) => sockopt::set_ipv6_freebind(&socket, true)?,
    }
    bind(&socket, &at)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}
