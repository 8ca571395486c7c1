//! The socket of a stream, in the clear or encrypted. Sending never waits; receiving waits as it was told to.

use super::tally::End;
use crate::tls::plain::Gone;
use crate::tls::secure::{Came, Secure, Shake};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg, sockopt};
use rustls::Connection;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The socket of a stream.
#[derive(Debug)]
pub enum Wire {
    /// Whoever is on the way can read it.
    Clear(TcpStream),
    /// Nobody can.
    Tls(Box<Secure>),
}

impl Wire {
    /// The same connection, encrypted from now on; its reads do not wait, as those of this one. Drop this.
    ///
    /// # Errors
    ///
    /// There is no file descriptor to be had.
    pub fn secured(&self, connection: Connection) -> std::io::Result<Self> {
        let wire = self.as_fd().try_clone_to_owned()?;
        Ok(Self::Tls(Box::new(Secure::new(wire, connection))))
    }

    /// Whether it is encrypted.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Goes on with the handshake of an encrypted one.
    ///
    /// # Errors
    ///
    /// The other side is gone, or not to be believed.
    pub fn shake(&self) -> Result<Shake, Gone> {
        match self {
            Self::Clear(_) => Ok(Shake::Done),
            Self::Tls(secure) => secure.shake(),
        }
    }

    /// What TLS calls this session, and nobody else knows; `None` in the clear.
    #[must_use]
    pub fn exported(&self, label: &[u8]) -> Option<[u8; 32]> {
        match self {
            Self::Clear(_) => None,
            Self::Tls(secure) => secure.exported(label),
        }
    }

    /// Why an encrypted one is over, if encryption is the reason.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Clear(_) => None,
            Self::Tls(secure) => secure.why(),
        }
    }

    /// What to wait for before it goes on in a handshake.
    #[must_use]
    pub fn awaited(&self) -> PollFlags {
        match self {
            Self::Tls(secure) if secure.wants_room() => PollFlags::IN | PollFlags::OUT,
            Self::Clear(_) | Self::Tls(_) => PollFlags::IN,
        }
    }

    /// From now on reads wait, so long at most.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn set_waiting(&self, look: Duration, stall: Duration) -> std::io::Result<()> {
        sockopt::set_tcp_nodelay(self, true)?;
        sockopt::set_socket_timeout(self, sockopt::Timeout::Recv, Some(look))?;
        // A window that stays shut this long has the kernel give up, too, whatever we count.
        let _ = sockopt::set_tcp_user_timeout(self, u32::try_from(stall.as_millis()).unwrap_or(u32::MAX));
        match self {
            Self::Clear(socket) => socket.set_nonblocking(false),
            Self::Tls(secure) => secure.set_waiting(true),
        }
    }

    /// Sends what fits at once. `None`: nothing fits, and the same bytes are to be sent next.
    ///
    /// # Errors
    ///
    /// Why the stream is over.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> Result<Option<usize>, End> {
        let socket = match self {
            Self::Clear(socket) => socket,
            Self::Tls(secure) => return secure.send(parts).map_err(|Gone| gone(secure)),
        };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            return match sendmsg(socket, parts, &mut SendAncillaryBuffer::default(), flags) {
                Ok(count) => Ok(Some(count)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::PIPE | Errno::CONNRESET) => Err(End::Left),
                Err(_) => Err(End::Failed),
            };
        }
    }

    /// Receives into `place`, and what comes beyond it into `ahead`.
    ///
    /// # Errors
    ///
    /// Why the stream is over.
    pub fn receive(&self, place: &mut [u8], ahead: &mut [u8]) -> Result<Came, End> {
        let mut socket = match self {
            Self::Clear(socket) => socket,
            Self::Tls(secure) => {
                let room = place.len();
                return match secure.receive_some(place).map_err(|Gone| gone(secure))? {
                    Came::Bytes(count) if count == room => {
                        Ok(Came::Bytes(count.saturating_add(secure.at_hand(ahead))))
                    }
                    other @ (Came::Bytes(_) | Came::Part | Came::Nothing) => Ok(other),
                };
            }
        };
        loop {
            return match socket.read_vectored(&mut [IoSliceMut::new(place), IoSliceMut::new(ahead)]) {
                Ok(0) => Err(End::Left),
                Ok(count) => Ok(Came::Bytes(count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Came::Nothing),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(End::Left),
                Err(_) => Err(End::Failed),
            };
        }
    }

    /// Waits until something fits, or `time` is over.
    pub fn wait_for_room(&self, time: Duration) {
        let time = Timespec::try_from(time).ok();
        let _ = poll(&mut [PollFd::new(self, PollFlags::OUT)], time.as_ref());
    }

    /// Ends it in both directions; whoever reads it wakes.
    pub fn end(&self) {
        match self {
            Self::Clear(socket) => drop(socket.shutdown(Shutdown::Both)),
            Self::Tls(secure) => {
                secure.close();
                let _ = rustix::net::shutdown(secure, rustix::net::Shutdown::Both);
            }
        }
    }
}

/// Why an encrypted one is over: what does not decrypt was changed on its way.
fn gone(secure: &Secure) -> End {
    if secure.why().is_some() { End::Changed } else { End::Left }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Clear(socket) => socket.as_fd(),
            Self::Tls(secure) => secure.as_fd(),
        }
    }
}
