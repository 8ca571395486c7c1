//! Volumes as block devices of this machine: the kernel's NBD client with a connection to every node that
//! serves the volume. When one dies, the kernel goes on over another; this side gives it a new one as soon as
//! the node answers again. The device outlives every node, in any order, for as long as guests may wait
//! (S1-27 to S1-29).

pub mod driver;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::failure::Failure;
use crate::nbd::client::negotiate::{Refused, Taken, connect_simple};
use crate::nbd::socket::Socket;
use crate::nbd::uri::Uri;
use crate::nbd::wire::number::transmission::MULTI_CONN;
use driver::{Driver, Shape};

/// A node that serves no block of the volume within this time is asked again later: longer than the nodes
/// need to agree who leads.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a request waits on one connection before it is asked on another. What was asked of a node that
/// was silent for less than 7 s could be done there after what is asked here (docs/nbd.md).
const TIMEOUT: Duration = Duration::from_secs(8);
/// What was sent to a node and did not reach it by then never does. A network that was cut would deliver it
/// when it is whole again, to a node that cannot know how old it is: behind what was done elsewhere since,
/// and done here after [`TIMEOUT`] (V8).
const IN_TIME: Duration = Duration::from_secs(6);
/// From one look at the connections to the next.
const LOOK: Duration = Duration::from_millis(250);

/// A way to the volume.
#[derive(Debug)]
struct Way {
    uri: Uri,
    /// The kernel has it, too, and ends it when it gives it up. One of nothing where no node answered yet.
    socket: Socket,
    /// What was said of it last, to say each thing once.
    said: String,
}

/// A device of this machine.
#[derive(Debug)]
pub struct Attached {
    driver: Driver,
    device: Device,
    ways: Vec<Way>,
    size: u64,
}

/// The name of a device, `/dev/nbd0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device(u32);

impl std::str::FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("/dev/nbd").filter(|rest| !rest.starts_with('+'));
        let number = number.and_then(|number| number.parse().ok());
        number.map(Self).ok_or_else(|| "a device is such as /dev/nbd0".into())
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/dev/nbd{}", self.0)
    }
}

impl Device {
    /// Whether it is attached to anything.
    #[must_use]
    pub fn is_in_use(self) -> bool {
        let path: PathBuf = ["/sys/block", &format!("nbd{}", self.0), "pid"].iter().collect();
        Path::exists(&path)
    }

    /// Ends it.
    ///
    /// # Errors
    /// It is not attached, it is mounted or otherwise in use, or the kernel refuses.
    pub fn detach(self) -> Result<(), Failure> {
        if !self.is_in_use() {
            return Err(Failure::refused(format!("{self} is not attached")).left("Nothing was changed."));
        }
        // Whoever mounts a device has it for itself.
        let own = rustix::fs::open(self.to_string(), OFlags::EXCL | OFlags::CLOEXEC, Mode::empty());
        if own.is_err_and(|error| error == Errno::BUSY) {
            let failure = Failure::refused(format!("{self} is mounted")).left("It is attached.");
            return Err(failure.next(format!("`umount {self}`.")));
        }
        let ended = open()?.disconnect(self.0);
        ended.map_err(|error| {
            Failure::failed(format!("cannot detach {self}: {error}")).left("It is attached.")
        })
    }
}

impl Attached {
    /// Attaches `device` to what `uris` name, over every one that answers.
    ///
    /// # Errors
    /// None answers, they do not serve the same, the device is in use, or the kernel refuses.
    pub fn new(device: Device, uris: &[Uri], patience: Duration) -> Result<Self, Failure> {
        if device.is_in_use() {
            let failure = Failure::refused(format!("{device} is in use")).left("Nothing was changed.");
            return Err(failure.next("take another device, or `bulkhead volume detach` this one."));
        }
        let mut driver = open()?;
        let (mut ways, mut shape, mut whys) = (Vec::new(), None, Vec::new());
        for uri in uris {
            let (socket, said) = match connect(uri) {
                Ok((socket, taken)) => {
                    fits(uri, &taken, uris.len(), shape.map(|shape: Shape| shape.size)).map_err(usage)?;
                    shape.get_or_insert(shape_of(&taken, patience));
                    (socket, String::new())
                }
                Err(why) => {
                    whys.push(format!("{uri} {why}"));
                    (nothing()?, format!("{uri} {why}"))
                }
            };
            ways.push(Way { uri: uri.clone(), socket, said });
        }
        let Some(shape) = shape else {
            let failure = Failure::failed(whys.join("; ")).left("Nothing was attached.");
            return Err(failure.next("`bulkhead volume show` on a node says where the volume is served."));
        };
        let sockets: Vec<_> = ways.iter().map(|way| way.socket.as_fd()).collect();
        driver.connect(device.0, shape, &sockets).map_err(|error| {
            let failure = Failure::failed(format!("the kernel does not attach {device}: {error}"));
            failure.left("Nothing was attached.")
        })?;
        whys.iter().for_each(|why| eprintln!("{why}"));
        Ok(Self { driver, device, ways, size: shape.size })
    }

    /// Bytes of the device.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Keeps it attached: new connections in the places of those that end. Returns when somebody has detached
    /// the device.
    pub fn keep(&mut self) {
        while self.device.is_in_use() {
            let count = self.ways.len();
            for way in &mut self.ways {
                if !way.socket.is_closed_there() {
                    continue;
                }
                let said = match renew(way, &mut self.driver, self.device, self.size, count) {
                    Ok(()) => format!("{} serves again", way.uri),
                    Err(why) => format!("{} is lost: {why}", way.uri),
                };
                if said != way.said {
                    eprintln!("{said}");
                    way.said = said;
                }
            }
            thread::sleep(LOOK);
        }
    }
}

/// A connection on which nothing arrives late.
fn connect(uri: &Uri) -> Result<(Socket, Taken), Refused> {
    let (socket, taken) = connect_simple(uri, CONNECT_MAX)?;
    socket.set_in_time(IN_TIME)?;
    Ok((socket, taken))
}

/// A new connection for `way`, in the place of one that ended.
fn renew(way: &mut Way, driver: &mut Driver, device: Device, size: u64, ways: usize) -> Result<(), String> {
    let (socket, taken) = connect(&way.uri).map_err(|why| why.to_string())?;
    fits(&way.uri, &taken, ways, Some(size))?;
    driver.replace(device.0, socket.as_fd()).map_err(|error| format!("the kernel takes none: {error}"))?;
    way.socket = socket;
    Ok(())
}

/// Whether an export can be used beside the others.
fn fits(uri: &Uri, taken: &Taken, ways: usize, size: Option<u64>) -> Result<(), String> {
    if 1 < ways && taken.flags & MULTI_CONN == 0 {
        return Err(format!("{uri} must not be used over several connections at once"));
    }
    // A volume that grew is as long as before for whoever has it open.
    match size.filter(|size| taken.geometry.size() < *size) {
        Some(size) => Err(format!("{uri} has {} bytes, not {size}", taken.geometry.size())),
        None => Ok(()),
    }
}

fn usage(what: String) -> Failure {
    Failure::usage(what).left("Nothing was attached.")
}

fn shape_of(taken: &Taken, patience: Duration) -> Shape {
    let geometry = &taken.geometry;
    // The kernel knows blocks of a sector to those of a page.
    let block = geometry.block_min().clamp(512, 4096);
    Shape { size: geometry.size(), block, flags: taken.flags, timeout: TIMEOUT, patience }
}

/// A connection whose other end is gone: a place for one that comes later.
fn nothing() -> Result<Socket, Failure> {
    let pair = UnixStream::pair();
    let (one, _) = pair.map_err(|error| Failure::failed(format!("cannot make a socket: {error}")))?;
    Ok(Socket::Unix(one))
}

fn open() -> Result<Driver, Failure> {
    Driver::open().map_err(|error| {
        let failure = Failure::failed(format!("the kernel's NBD client cannot be asked: {error}"));
        let failure = failure.left("Nothing was changed.");
        if error.kind() == io::ErrorKind::NotFound { failure.next("`modprobe nbd`.") } else { failure }
    })
}

/// Whether every URI is a way of its own.
///
/// # Errors
/// One is named twice, or none is.
pub fn all_different(uris: &[Uri]) -> Result<(), Failure> {
    let names: BTreeSet<_> = uris.iter().map(ToString::to_string).collect();
    if names.len() == uris.len() { Ok(()) } else { Err(usage("a URI is named twice".into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_as_the_kernel_names_it() {
        assert_eq!("/dev/nbd12".parse(), Ok(Device(12)));
        assert_eq!(Device(12).to_string(), "/dev/nbd12");
        for text in ["nbd0", "/dev/nbd", "/dev/nbd0p1", "/dev/nbd-1", "/dev/nbd+1", "/dev/sda", ""] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_place_for_a_connection_that_comes_later_is_closed() {
        assert!(nothing().unwrap().is_closed_there());
    }
}
