//! Where the log of a witness comes from: its serial line, a program that has it, a file, standard input; and
//! how it is offered to other programs, byte by byte.

use super::NOTHING_READ;
use crate::failure::Failure;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A serial line, and its speed in bits per second.
    Serial(PathBuf, u32),
    /// A program that listens, such as QEMU with `-serial tcp::PORT,server`.
    Tcp(String),
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Source {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// It is not there, or in use.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, Failure> {
        match self {
            Self::Serial(path, speed) => Ok(Box::new(serial(path, *speed)?)),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).map_err(|error| {
                    let what = format!("nobody offers a log at {address}: {error}");
                    Failure::failed(what)
                        .left(NOTHING_READ)
                        .next("start what offers it first; write HOST:PORT.")
                })?;
                Ok(Box::new(stream))
            }
            Self::File(path) => {
                let file =
                    File::open(path).map_err(|error| Failure::io("read", path, &error).left(NOTHING_READ))?;
                Ok(Box::new(file))
            }
            Self::Stdin => Ok(Box::new(std::io::stdin())),
        }
    }
}

/// Opens a serial line: eight bits, no parity, nothing translated.
fn serial(path: &Path, speed: u32) -> Result<File, Failure> {
    let failed = |verb: &str, error: std::io::Error| {
        Failure::io(verb, path, &error)
            .left(NOTHING_READ)
            .next("`ls /dev/ttyUSB* /dev/ttyACM*` shows the lines there are.")
    };
    let flags = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| failed("open", error))?;
    let mut settings = tcgetattr(&file).map_err(|error| failed("set up", error.into()))?;
    settings.make_raw();
    settings
        .set_speed(speed)
        .and_then(|()| tcsetattr(&file, OptionalActions::Now, &settings))
        .map_err(|error| failed("set up", error.into()))?;
    Ok(file)
}

/// Offers the raw stream to whoever connects, from then on, as `defmt-print tcp` reads it.
#[derive(Clone, Debug)]
pub struct Offer(Arc<Mutex<Vec<TcpStream>>>);

/// Connections served at once; more are closed.
const CONNECTIONS_MAX: usize = 8;

impl Offer {
    /// Listens at `address`; answers also with the address that it got.
    ///
    /// # Errors
    ///
    /// The address is in use, or not this machine's.
    pub fn listen(address: SocketAddr) -> Result<(Self, SocketAddr), Failure> {
        let failed = |error: std::io::Error| {
            Failure::failed(format!("cannot offer the log at {address}: {error}"))
                .left(NOTHING_READ)
                .next("choose another port.")
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let offer = Self(Arc::new(Mutex::new(Vec::new())));
        let connections = Arc::clone(&offer.0);
        let accept = move || {
            for stream in listener.incoming().flatten() {
                // Whoever does not read in time must not hold up the others.
                if stream.set_nonblocking(true).is_ok() {
                    let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
                    if connections.len() < CONNECTIONS_MAX {
                        connections.push(stream);
                    }
                }
            }
        };
        std::thread::Builder::new().name("log".into()).spawn(accept).map_err(failed)?;
        Ok((offer, bound))
    }

    /// Sends on what came. Whoever does not take all of it is cut off: half a frame would be none.
    pub fn send(&self, bytes: &[u8]) {
        let mut connections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain_mut(|stream| stream.write_all(bytes).is_ok());
    }
}
