//! A socket by which a guest is moved: to the other node, or to this node's agent, which encrypts what goes
//! over it.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};
use std::io::{Read, Result, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Reads and writes wait, for as long as was said.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Another handle of it.
    ///
    /// # Errors
    ///
    /// There is no file descriptor to be had.
    pub fn try_clone(&self) -> Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Reads wait for so long at most.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn set_read_timeout(&self, most: Duration) -> Result<()> {
        Ok(sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, Some(most))?)
    }

    /// Writes wait for so long at most.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn set_write_timeout(&self, most: Duration) -> Result<()> {
        Ok(sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Send, Some(most))?)
    }

    /// Nothing more is written.
    pub fn finish(&self) {
        let _ = shutdown(&self.0, Shutdown::Write);
    }

    /// Ends it in both directions; whoever waits for it wakes.
    pub fn end(&self) {
        let _ = shutdown(&self.0, Shutdown::Both);
    }

    /// Whether the other end is there, as far as can be known, and says nothing.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let looked = recv(&self.0, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        looked.is_err_and(|error| matches!(error, Errno::AGAIN | Errno::INTR))
    }
}

impl From<OwnedFd> for Socket {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<TcpStream> for Socket {
    fn from(socket: TcpStream) -> Self {
        // It costs time only.
        let _ = socket.set_nodelay(true);
        Self(socket.into())
    }
}

impl From<UnixStream> for Socket {
    fn from(socket: UnixStream) -> Self {
        Self(socket.into())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> Result<usize> {
        let (count, _) = recv(&self.0, room, RecvFlags::empty())?;
        Ok(count)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        Ok(send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
