//! A tap: an interface of this node whose frames go to and come from this process, one at a time, each behind
//! a header of virtio's (S2-01).

use super::description::Network;
use super::sandbox::rights;
use super::tap_ioctl::{self, add_to_bridge, bring_up, remove_from_bridge};
use super::traffic::Traffic;
use crate::failure::Failure;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{Error, Read as _, Result as IoResult, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;

const DEVICE: &str = "/dev/net/tun";
/// What stands before each frame (virtio 1.3, 5.1.6).
pub const HEADER: usize = 12;

/// What whoever reads a tap understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Checksums that are to be completed. Without that nothing else.
    pub has_checksums: bool,
    /// Segments of TCP over IPv4 that are longer than frames may be.
    pub has_tcp4: bool,
    /// The same over IPv6.
    pub has_tcp6: bool,
}

/// A tap. One that did not exist before goes when this is dropped.
#[derive(Debug)]
pub struct Tap {
    file: File,
    mtu: u16,
    traffic: Traffic,
}

impl Tap {
    /// Takes the tap that is described, or makes it; it is up then, and in its bridge if it has one.
    ///
    /// # Errors
    ///
    /// This node has no taps, or not this one, or no such bridge; or the rights are missing: what to do.
    pub fn open(network: &Network) -> Result<Self, Failure> {
        let (network, name) = (network.clone(), network.tap.clone());
        let opened = rights::with(move || Self::open_here(&network));
        opened.unwrap_or_else(|| Err(Failure::failed(format!("nothing opens the tap `{name}`"))))
    }

    fn open_here(network: &Network) -> Result<Self, Failure> {
        let name = network.tap.as_str();
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
        let file = options.open(DEVICE).map_err(|error| no_taps(&error))?;
        tap_ioctl::attach(&file, name).map_err(|error| not_this(name, &error))?;
        let failed = |what: &'static str| {
            move |error: Error| Failure::failed(format!("cannot {what} the tap `{name}`: {error}"))
        };
        let header = i32::try_from(HEADER).map_err(Error::other);
        header.and_then(|header| tap_ioctl::set_header(&file, header)).map_err(failed("set up"))?;
        let socket = UnixDatagram::unbound().map_err(failed("look at"))?;
        if let Some(bridge) = &network.bridge {
            join(&socket, name, bridge).map_err(|error| not_in_bridge(name, bridge, &error))?;
        }
        bring_up(&socket, name).map_err(|error| {
            failed("bring up")(error).next(format!("`ip link set {name} up`, or grant CAP_NET_ADMIN."))
        })?;
        let mtu = tap_ioctl::mtu(&socket, name).map_err(failed("look at"))?;
        let mtu = u16::try_from(mtu).map_err(|error| failed("use")(Error::other(error)))?;
        Ok(Self { file, mtu, traffic: Traffic::default() })
    }

    /// The longest content of a frame, without the header of Ethernet.
    #[must_use]
    pub const fn mtu(&self) -> u16 {
        self.mtu
    }

    /// What its guest has sent and received.
    #[must_use]
    pub const fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Frames are read as whoever reads them understands, from the next one on that the node sends.
    ///
    /// # Errors
    ///
    /// The kernel knows less.
    pub fn set_offload(&self, offload: Offload) -> IoResult<()> {
        let Offload { has_checksums, has_tcp4, has_tcp6 } = offload;
        let flag = |has: bool, flag: u32| if has && has_checksums { flag } else { 0 };
        let all = [(true, libc::TUN_F_CSUM), (has_tcp4, libc::TUN_F_TSO4), (has_tcp6, libc::TUN_F_TSO6)];
        let flags = all.into_iter().fold(0, |all, (has, one)| all | flag(has, one));
        tap_ioctl::set_offload(&self.file, flags)
    }

    /// Reads the next frame, behind its header. `None`: there is none, or the tap is gone.
    pub fn read(&self, room: &mut [u8]) -> Option<usize> {
        (&self.file).read(room).ok()
    }

    /// Sends a frame behind its header. What is no frame, or what the node has no room for, is lost, as on
    /// any network; its interface counts it.
    pub fn write(&self, frame: &[u8]) {
        let _ = (&self.file).write(frame);
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Puts a tap into a bridge, if it is not in it.
fn join(socket: &UnixDatagram, tap: &str, bridge: &str) -> IoResult<()> {
    let number = rustix::net::netdevice::name_to_index(socket, tap)?;
    let number = i32::try_from(number).map_err(Error::other)?;
    match add_to_bridge(socket, bridge, number) {
        // It is in one already. Only this one lets it go, and it comes back at once.
        Err(error) if errno(&error) == Some(Errno::BUSY) => {
            remove_from_bridge(socket, bridge, number).map_err(|_| error)?;
            add_to_bridge(socket, bridge, number)
        }
        other => other,
    }
}

fn errno(error: &Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

fn no_taps(error: &Error) -> Failure {
    let why = Failure::failed(format!("this node has no taps: {DEVICE}: {error}"));
    match errno(error) {
        Some(Errno::ACCESS | Errno::PERM) => why.next(format!("let this user read and write {DEVICE}.")),
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => why.next("`modprobe tun`."),
        Some(_) | None => why,
    }
}

fn not_this(name: &str, error: &Error) -> Failure {
    let why = Failure::failed(format!("cannot use the tap `{name}`: {error}"));
    let make = format!("`ip tuntap add dev {name} mode tap");
    match errno(error) {
        Some(Errno::PERM) => {
            why.next(format!("{make} user USER` makes it for a user; or grant CAP_NET_ADMIN."))
        }
        Some(Errno::BUSY) => why.next("another guest or program has it: name another one in `[[network]]`."),
        Some(Errno::INVAL) => {
            why.next(format!("it is no tap with one queue: name another one; {make}` makes one."))
        }
        Some(_) | None => why,
    }
}

fn not_in_bridge(name: &str, bridge: &str, error: &Error) -> Failure {
    let why = Failure::failed(format!("cannot put the tap `{name}` into the bridge `{bridge}`: {error}"));
    match errno(error) {
        Some(Errno::PERM) => why.next(format!(
            "`ip link set {name} master {bridge}` without `bridge` in `[[network]]`, or grant CAP_NET_ADMIN."
        )),
        Some(Errno::BUSY) => {
            why.next(format!("it is in another bridge: `ip link set {name} nomaster` takes it out."))
        }
        Some(_) | None => {
            why.next(format!("`ip link add {bridge} type bridge && ip link set {bridge} up` makes a bridge."))
        }
    }
}

#[cfg(test)]
#[path = "tap_tests.rs"]
mod tests;
