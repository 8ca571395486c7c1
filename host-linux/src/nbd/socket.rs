//! A client's socket, whichever kind it is.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg, sockopt};
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
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// On this machine.
    Unix,
    /// At this address.
    Ip(IpAddr),
}

/// The other side is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

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

    /// Whether reads wait. Sends never do.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn set_waiting(&self, waiting: bool) -> std::io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_nonblocking(!waiting),
            Self::Tcp(stream) => stream.set_nonblocking(!waiting),
        }
    }

    /// Reads. `None`: nothing is there yet.
    ///
    /// # Errors
    ///
    /// The client is gone, or has no more to say.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, Gone> {
        loop {
            match rustix::io::read(self, &mut *buffer) {
                Ok(0) => return Err(Gone),
                Ok(count) => return Ok(Some(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(_) => return Err(Gone),
            }
        }
    }

    /// Sends what fits at once. `None`: nothing fits.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> Result<Option<usize>, Gone> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match sendmsg(self, parts, &mut SendAncillaryBuffer::default(), flags) {
                Ok(count) => return Ok(Some(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(_) => return Err(Gone),
            }
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
        };
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}
