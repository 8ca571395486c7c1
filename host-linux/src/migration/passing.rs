//! A connection handed over from the agent to the process of a guest: the socket, and what the two have said
//! on it (`SCM_RIGHTS`, unix(7)).

use super::hello::Keys;
use super::socket::Socket;
use super::words::Sizes;
use rustix::fd::OwnedFd;
use rustix::io::IoSlice;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::io::{Error, ErrorKind, IoSliceMut, Read as _, Result, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// More than any message has.
const PASSED_MAX: u64 = 64 << 10;
/// Who hands over does so at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is handed over with a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Of the connection.
    pub keys: Keys,
    /// How many frames were heard on it.
    pub heard: u64,
    /// The node at its other end.
    pub node: String,
    /// The guest runs by the lease of this node.
    pub is_leased: bool,
    /// It stands still until somebody has it go on.
    pub is_paused: bool,
    /// The control socket of this node's agent.
    pub agent: PathBuf,
    /// The NBD socket of its volumes.
    pub volumes: PathBuf,
    /// What of its disks comes with it; `None`: nothing.
    pub disks: Option<Sizes>,
    /// It has a volume of its own, which is there.
    #[serde(default)]
    pub is_own: bool,
}

/// Hands it over.
///
/// # Errors
///
/// Nobody takes it.
pub fn pass(mut to: UnixStream, passed: &Passed, wire: &Socket) -> Result<()> {
    to.set_write_timeout(Some(PATIENCE))?;
    let bytes = serde_json::to_vec(passed).map_err(Error::other)?;
    let (first, rest) = bytes.split_at_checked(1).ok_or(ErrorKind::InvalidInput)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [wire.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(ErrorKind::OutOfMemory.into());
    }
    sendmsg(&to, &[IoSlice::new(first)], &mut control, SendFlags::NOSIGNAL)?;
    to.write_all(rest)
}

/// Takes what is handed over.
///
/// # Errors
///
/// Nothing is.
pub fn take(mut from: UnixStream) -> Result<(Passed, Socket)> {
    from.set_read_timeout(Some(PATIENCE))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0];
    recvmsg(&from, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            sockets.extend(rights);
        }
    }
    let socket = sockets.pop().ok_or_else(|| Error::new(ErrorKind::InvalidData, "no socket came"))?;
    (&mut from).take(PASSED_MAX).read_to_end(&mut bytes)?;
    let passed = serde_json::from_slice(&bytes).map_err(|why| Error::new(ErrorKind::InvalidData, why))?;
    Ok((passed, socket.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_is_handed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (wire, _) = listener.accept().unwrap();
        let passed = Passed {
            keys: Keys { out: [1; 32], back: [2; 32] },
            heard: 3,
            node: "a1".into(),
            is_leased: true,
            is_paused: false,
            agent: "/run/a.sock".into(),
            volumes: "/run/nbd.sock".into(),
            disks: Some(vec![Some(4096), None]),
            is_own: true,
        };
        let (to, from) = UnixStream::pair().unwrap();
        let wire = Socket::from(wire);
        pass(to, &passed, &wire).unwrap();
        drop(wire);
        let (taken, mut wire) = take(from).unwrap();
        assert_eq!(taken, passed);
        wire.write_all(b"it").unwrap();
        let mut bytes = [0; 2];
        far.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"it");
    }

    /// I11: what is no connection is none.
    #[test]
    fn nothing_is_taken_of_who_has_nothing() {
        for said in [&b""[..], b"{}", &[b'x'; 100]] {
            let (mut to, from) = UnixStream::pair().unwrap();
            to.write_all(said).unwrap();
            drop(to);
            assert!(take(from).is_err(), "{said:?}");
        }
    }
}
