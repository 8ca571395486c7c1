//! A client's socket, whichever kind it is.

use crate::tls::plain::{Gone, read_now, send_now};
use crate::tls::secure::{Secure, Shake};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use rustls::Connection;
use std::io::IoSlice;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A dead peer is asked after so much silence, so often, so many times: gone after a minute.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// A client's socket.
#[derive(Debug)]
pub enum Socket {
    /// On this machine.
    Unix(UnixStream),
    /// From anywhere.
    Tcp(TcpStream),
    /// Encrypted, over one of the others.
    Tls(Box<Secure>),
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// On this machine.
    Unix,
    /// At this address.
    Ip(IpAddr),
}

impl Socket {
    /// Small packets leave at once; a peer that lost its power is noticed.
    pub fn prepare(&self) {
        if let Self::Tcp(stream) = self {
            let (idle, interval, count) = KEEPALIVE;
            // Each is a comfort: without it the connection works too.
            let _ = sockopt::set_tcp_nodelay(stream, true);
            let _ = sockopt::set_socket_keepalive(stream, true);
            let _ = sockopt::set_tcp_keepidle(stream, idle);
            let _ = sockopt::set_tcp_keepintvl(stream, interval);
            let _ = sockopt::set_tcp_keepcnt(stream, count);
        }
    }

    /// What was sent, and did not reach the other end within this time, never does: the connection ends.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn set_in_time(&self, time: Duration) -> std::io::Result<()> {
        let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        match self {
            // What is sent on this machine is there.
            Self::Unix(_) => Ok(()),
            Self::Tcp(stream) => Ok(sockopt::set_tcp_user_timeout(stream, millis)?),
            Self::Tls(secure) => Ok(sockopt::set_tcp_user_timeout(secure.as_fd(), millis)?),
        }
    }

    /// Whether reads wait. Sends never do.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn set_waiting(&self, waiting: bool) -> std::io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_nonblocking(!waiting),
            Self::Tcp(stream) => stream.set_nonblocking(!waiting),
            Self::Tls(secure) => secure.set_waiting(waiting),
        }
    }

    /// The same connection, encrypted from now on; its reads do not wait. Drop this one.
    ///
    /// # Errors
    ///
    /// There is no file descriptor to be had.
    pub fn secured(&self, connection: Connection) -> std::io::Result<Self> {
        let wire = self.as_fd().try_clone_to_owned()?;
        rustix::io::ioctl_fionbio(&wire, true)?;
        Ok(Self::Tls(Box::new(Secure::new(wire, connection))))
    }

    /// Goes on with the handshake of an encrypted one.
    ///
    /// # Errors
    ///
    /// The other side is gone, or not to be believed.
    pub fn shake(&self) -> Result<Shake, Gone> {
        match self {
            Self::Unix(_) | Self::Tcp(_) => Ok(Shake::Done),
            Self::Tls(secure) => secure.shake(),
        }
    }

    /// Whether it has something to send of its own.
    #[must_use]
    pub fn wants_room(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Tcp(_) => false,
            Self::Tls(secure) => secure.wants_room(),
        }
    }

    /// Why an encrypted one is over, if encryption is the reason.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Unix(_) | Self::Tcp(_) => None,
            Self::Tls(secure) => secure.why(),
        }
    }

    /// Reads. `None`: nothing is there yet.
    ///
    /// # Errors
    ///
    /// The client is gone, or has no more to say.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, Gone> {
        match self {
            Self::Unix(stream) => read_now(stream, buffer),
            Self::Tcp(stream) => read_now(stream, buffer),
            Self::Tls(secure) => secure.receive(buffer),
        }
    }

    /// Sends what fits at once. `None`: nothing fits, and the same bytes are to be sent next.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> Result<Option<usize>, Gone> {
        match self {
            Self::Unix(stream) => send_now(stream, parts),
            Self::Tcp(stream) => send_now(stream, parts),
            Self::Tls(secure) => secure.send(parts),
        }
    }

    /// Waits until something fits, or `time` is over.
    pub fn wait_for_room(&self, time: Duration) {
        let time = Timespec::try_from(time).ok();
        let _ = poll(&mut [PollFd::new(self, PollFlags::OUT)], time.as_ref());
    }

    /// Whether the other side sends no more, though there may be something left to read.
    #[must_use]
    pub fn is_closed_there(&self) -> bool {
        let closed = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut files = [PollFd::new(self, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut files, Some(&now)).is_ok() && files.iter().any(|file| file.revents().intersects(closed))
    }

    /// Ends it in both directions; whoever reads it wakes.
    pub fn end(&self) {
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Tls(secure) => {
                secure.close();
                rustix::net::shutdown(secure, rustix::net::Shutdown::Both).map_err(Into::into)
            }
        };
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(secure) => secure.as_fd(),
        }
    }
}
