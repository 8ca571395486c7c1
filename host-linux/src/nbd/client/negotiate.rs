//! From a URI to an export of a server: connects, asks for everything we can use, takes what there is.

use crate::nbd::export::Geometry;
use crate::nbd::limits::REQUEST_MAX;
use crate::nbd::socket::Socket;
use crate::nbd::uri::{Place, Uri};
use crate::nbd::wire::number::{answer, handshake, option, transmission};
use crate::nbd::wire::server::{self, GREETING_LEN, NotAServer, OPTION_REPLY, Told};
use std::fmt;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Replies to one option; a server that says more about one export never comes to its end.
const REPLIES_MAX: u32 = 64;

/// An export of a server, taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What it looks like.
    pub geometry: Geometry,
    /// Transmission flags, as the server gave them.
    pub flags: u16,
    /// The largest read or write.
    pub request_max: u32,
    /// Block status can be asked for.
    pub allocation: bool,
}

/// Why there is no connection. Nothing was written.
#[derive(Debug)]
pub enum Refused {
    /// The URI asks for encryption, which we do not have.
    Tls,
    /// Nobody answers there, or not in time.
    Unreachable(std::io::Error),
    /// Whoever answers is no NBD server of the fixed newstyle.
    NotAServer,
    /// The server has no such export, or does not give it: its number and its words.
    Denied(u32, String),
    /// The export has a shape we cannot use.
    Shape,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls => f.write_str("encryption is asked for, and is not served yet"),
            Self::Unreachable(error) => write!(f, "cannot be reached: {error}"),
            Self::NotAServer => f.write_str("whoever answers there does not speak NBD (fixed newstyle)"),
            Self::Denied(number, why) if why.is_empty() => write!(f, "the server refuses ({number:#x})"),
            Self::Denied(_, why) => write!(f, "the server refuses: {why}"),
            Self::Shape => f.write_str("its size or its blocks cannot be used"),
        }
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self::Unreachable(error)
    }
}

impl From<NotAServer> for Refused {
    fn from(_: NotAServer) -> Self {
        Self::NotAServer
    }
}

/// Connects to `uri` and takes its export, all within `time`.
///
/// # Errors
///
/// There is no connection, and why.
pub fn connect(uri: &Uri, time: Duration) -> Result<(Socket, Taken), Refused> {
    if uri.tls {
        return Err(Refused::Tls);
    }
    let until = Instant::now().checked_add(time).ok_or(Refused::Shape)?;
    match &uri.place {
        Place::Unix(path) => {
            let mut stream = UnixStream::connect(path)?;
            let set = |stream: &UnixStream, time| {
                stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time))
            };
            let taken = negotiate(&mut Patient { stream: &mut stream, until, set: &set }, &uri.export)?;
            set(&stream, None)?;
            Ok((Socket::Unix(stream), taken))
        }
        Place::Tcp { host, port } => {
            let mut error = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
            let mut found = None;
            for address in (host.as_str(), *port).to_socket_addrs()? {
                let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                match TcpStream::connect_timeout(&address, left) {
                    Ok(stream) => {
                        found = Some(stream);
                        break;
                    }
                    Err(why) => error = why,
                }
            }
            let mut stream = found.ok_or(error)?;
            let set = |stream: &TcpStream, time| {
                stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time))
            };
            let taken = negotiate(&mut Patient { stream: &mut stream, until, set: &set }, &uri.export)?;
            set(&stream, None)?;
            let socket = Socket::Tcp(stream);
            socket.prepare();
            Ok((socket, taken))
        }
    }
}

/// A stream with one deadline for everything.
struct Patient<'a, S> {
    stream: &'a mut S,
    until: Instant,
    set: &'a dyn Fn(&S, Option<Duration>) -> std::io::Result<()>,
}

impl<S: Read + Write> Patient<'_, S> {
    fn hurry(&mut self) -> std::io::Result<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        let left = if left.is_zero() { None } else { Some(left) };
        (self.set)(self.stream, Some(left.ok_or(std::io::ErrorKind::TimedOut)?))
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Refused> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.hurry()?;
            match self.stream.read(rest) {
                Ok(0) => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.hurry()?;
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next reply to `option`: what it is, and its data.
    fn reply(&mut self, option: u32) -> Result<(u32, Vec<u8>), Refused> {
        let mut header = [0; OPTION_REPLY];
        self.take(&mut header)?;
        let (kind, length) = server::option_reply(&header, option)?;
        let mut data = vec![0; usize::try_from(length).unwrap_or(0)];
        self.take(&mut data)?;
        Ok((kind, data))
    }

    /// Asks `option` and hands each reply before the last to `each`. Whether it was granted.
    fn ask(
        &mut self,
        option: u32,
        data: &[u8],
        mut each: impl FnMut(u32, &[u8]) -> Result<(), Refused>,
    ) -> Result<Result<(), (u32, String)>, Refused> {
        self.say(&server::option(option, data))?;
        for _ in 0..REPLIES_MAX {
            match self.reply(option)? {
                (answer::ACK, _) => return Ok(Ok(())),
                (error, text) if error & 0x8000_0000 != 0 => {
                    return Ok(Err((error, String::from_utf8_lossy(&text).into_owned())));
                }
                (kind, data) => each(kind, &data)?,
            }
        }
        Err(Refused::NotAServer)
    }
}

fn negotiate<S: Read + Write>(server: &mut Patient<'_, S>, name: &str) -> Result<Taken, Refused> {
    let mut greeting = [0; GREETING_LEN];
    server.take(&mut greeting)?;
    let flags = server::greeting(&greeting)?;
    if flags & handshake::FIXED_NEWSTYLE == 0 {
        return Err(Refused::NotAServer);
    }
    let ours = flags & (handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES);
    server.say(&u32::from(ours).to_be_bytes())?;
    let nothing = |_: u32, _: &[u8]| Ok(());
    let structured = server.ask(option::STRUCTURED_REPLY, &[], nothing)?.is_ok();
    let mut allocation = false;
    if structured {
        let contexts = server::contexts(name);
        let granted = server.ask(option::SET_META_CONTEXT, &contexts, |kind, _| {
            allocation |= kind == answer::META_CONTEXT;
            Ok(())
        })?;
        allocation &= granted.is_ok();
    }
    let (mut export, mut blocks) = (None, (1, 4096, REQUEST_MAX));
    let granted = server.ask(option::GO, &server::go(name), |kind, data| {
        if kind == answer::INFO {
            match server::told(data)? {
                Told::Export { size, flags } => export = Some((size, flags)),
                Told::Blocks { least, preferred, most } => blocks = (least, preferred, most),
                Told::Other => {}
            }
        }
        Ok(())
    })?;
    granted.map_err(|(number, why)| Refused::Denied(number, why))?;
    let (size, flags) = export.ok_or(Refused::NotAServer)?;
    shape(size, flags, blocks, allocation).ok_or(Refused::Shape)
}

fn shape(size: u64, flags: u16, blocks: (u32, u32, u32), allocation: bool) -> Option<Taken> {
    let (least, preferred, most) = blocks;
    // A preferred block that is none of ours is only a hint that is lost.
    let preferred =
        if preferred.is_power_of_two() { preferred.clamp(512.max(least), 32 << 20) } else { 4096 };
    let geometry = Geometry::new(size, least, preferred).ok()?;
    let has = |flag: u16| flags & flag != 0;
    let geometry = geometry.read_only(has(transmission::READ_ONLY)).multi_conn(has(transmission::MULTI_CONN));
    let request_max = most.min(REQUEST_MAX);
    (least <= request_max).then_some(Taken { geometry, flags, request_max, allocation })
}
