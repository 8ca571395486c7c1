//! From a URI to an export of a server: connects, asks for everything we can use, takes what there is.

use crate::nbd::encryption::Wish;
use crate::nbd::export::Geometry;
use crate::nbd::limits::REQUEST_MAX;
use crate::nbd::socket::Socket;
use crate::nbd::uri::{Place, Uri};
use crate::nbd::wire::context::Numbers;
use crate::nbd::wire::number::{answer, command, handshake, option, transmission};
use crate::nbd::wire::request::Header;
use crate::nbd::wire::server::{self, Begin, GREETING_LEN, NotAServer, OPTION_REPLY, REPLY, Told};
use crate::tls::files::Trust;
use crate::tls::plain::Gone;
use crate::tls::secure::Shake;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::io::{Error, ErrorKind, IoSlice};
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
    /// In what block status can be asked for.
    pub contexts: Numbers,
}

/// Why there is no connection. Nothing was written.
#[derive(Debug)]
pub enum Refused {
    /// It is not encrypted, or the other side is not believed; why.
    Tls(String),
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
            Self::Tls(why) => write!(f, "there is no encrypted connection: {why}"),
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

/// How the server is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replies {
    /// In chunks that say what they are, if it can.
    Structured,
    /// In one piece.
    Simple,
}

/// Connects to `uri` and takes its export, all within `time`.
///
/// # Errors
///
/// There is no connection, and why.
pub fn connect(uri: &Uri, wish: &Wish, time: Duration) -> Result<(Socket, Taken), Refused> {
    let mut server = Patient::dialled(uri, time)?;
    let taken = negotiate(&mut server, uri, wish, Replies::Structured)?;
    Ok((server.ready()?, taken))
}

/// As [`connect`], for the kernel's client: it understands simple replies only, and does not encrypt. The
/// first block was read over it, for a node may take a client and be unable to carry anything out.
///
/// # Errors
///
/// There is no connection, and why.
pub fn connect_simple(uri: &Uri, time: Duration) -> Result<(Socket, Taken), Refused> {
    if uri.tls.is_some() {
        return Err(Refused::Tls("the kernel's client does not encrypt".into()));
    }
    let mut server = Patient::dialled(uri, time)?;
    let taken = negotiate(&mut server, uri, &Wish::Clear, Replies::Simple)?;
    server.read_some(&taken).map_err(|_| Refused::Denied(0, "it carries out no read".into()))?;
    Ok((server.ready()?, taken))
}

fn dial(host: &str, port: u16, until: Instant) -> Result<TcpStream, Error> {
    let mut error = Error::from(ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(why) => error = why,
        }
    }
    Err(error)
}

/// A socket with one deadline for everything. Its reads do not wait.
struct Patient {
    socket: Socket,
    until: Instant,
}

impl Patient {
    fn dialled(uri: &Uri, time: Duration) -> Result<Self, Refused> {
        let until = Instant::now().checked_add(time).ok_or(Refused::Shape)?;
        let socket = match &uri.place {
            Place::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
            Place::Tcp { host, port } => Socket::Tcp(dial(host, *port, until)?),
        };
        socket.prepare();
        socket.set_waiting(false)?;
        Ok(Self { socket, until })
    }

    /// The socket, whose reads wait from now on.
    fn ready(self) -> Result<Socket, Refused> {
        self.socket.set_waiting(true)?;
        Ok(self.socket)
    }

    /// Reads the first block.
    fn read_some(&mut self, taken: &Taken) -> Result<(), Refused> {
        let length = taken.geometry.block_min().max(512);
        let header = Header { flags: 0, command: command::READ, cookie: 0, offset: 0, length };
        self.say(&server::request(&header))?;
        let mut reply = [0; REPLY];
        self.take(&mut reply)?;
        match Begin::parse(&reply)? {
            Begin::Simple { error: 0, .. } => self.take(&mut vec![0; usize::try_from(length).unwrap_or(0)]),
            Begin::Simple { .. } | Begin::Chunk { .. } => Err(Refused::NotAServer),
        }
    }

    fn wait(&self, what: PollFlags) -> Result<(), Refused> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::from(ErrorKind::TimedOut).into());
        }
        let time = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(&self.socket, what)], time.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Error::from(error).into()),
        }
    }

    /// The connection is over.
    fn gone(&self) -> Refused {
        match self.socket.why() {
            Some(why) => Refused::Tls(why),
            None => Error::from(ErrorKind::UnexpectedEof).into(),
        }
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Refused> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.socket.receive(rest) {
                Ok(Some(count)) => rest = rest.get_mut(count..).unwrap_or_default(),
                Ok(None) if self.socket.wants_room() => self.wait(PollFlags::IN | PollFlags::OUT)?,
                Ok(None) => self.wait(PollFlags::IN)?,
                Err(Gone) => return Err(self.gone()),
            }
        }
        Ok(())
    }

    fn say(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        while !bytes.is_empty() {
            match self.socket.send(&[IoSlice::new(bytes)]) {
                Ok(Some(count)) => bytes = bytes.get(count..).unwrap_or_default(),
                Ok(None) => self.wait(PollFlags::OUT)?,
                Err(Gone) => return Err(self.gone()),
            }
        }
        Ok(())
    }

    /// Encrypts. Nothing that came before is left over: answers are read to their last byte and no further.
    fn secure(&mut self, trust: &Trust, host: &str) -> Result<(), Refused> {
        self.socket = self.socket.secured(trust.client(host).map_err(Refused::Tls)?)?;
        loop {
            match self.socket.shake() {
                Ok(Shake::Done) => return Ok(()),
                Ok(Shake::Listens) => self.wait(PollFlags::IN)?,
                Ok(Shake::Full) => self.wait(PollFlags::OUT)?,
                Err(Gone) => return Err(self.gone()),
            }
        }
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

/// As the client wishes; an error of it is the end, never a connection in the clear.
fn encrypt(server: &mut Patient, uri: &Uri, wish: &Wish) -> Result<(), Refused> {
    let (trust, is_must) = match wish {
        Wish::Clear => return Ok(()),
        Wish::Offered(trust) => (trust, false),
        Wish::Always(trust) => (trust, true),
    };
    match server.ask(option::STARTTLS, &[], |_, _| Ok(()))? {
        Ok(()) => server.secure(trust, uri.certified_host()),
        Err((_, why)) if is_must => Err(Refused::Tls(format!("the server does not encrypt: {why}"))),
        Err(_) => Ok(()),
    }
}

fn negotiate(server: &mut Patient, uri: &Uri, wish: &Wish, replies: Replies) -> Result<Taken, Refused> {
    let name = &uri.export;
    let mut greeting = [0; GREETING_LEN];
    server.take(&mut greeting)?;
    let flags = server::greeting(&greeting)?;
    if flags & handshake::FIXED_NEWSTYLE == 0 {
        return Err(Refused::NotAServer);
    }
    let ours = flags & (handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES);
    server.say(&u32::from(ours).to_be_bytes())?;
    encrypt(server, uri, wish)?;
    let nothing = |_: u32, _: &[u8]| Ok(());
    let structured =
        replies == Replies::Structured && server.ask(option::STRUCTURED_REPLY, &[], nothing)?.is_ok();
    let mut contexts = Numbers::default();
    if structured {
        let wanted = server::contexts(name);
        let granted = server.ask(option::SET_META_CONTEXT, &wanted, |kind, data| {
            let told = data.split_first_chunk().filter(|_| kind == answer::META_CONTEXT);
            if let Some((number, name)) = told {
                contexts.take(name, u32::from_be_bytes(*number));
            }
            Ok(())
        })?;
        if granted.is_err() {
            contexts = Numbers::default();
        }
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
    shape(size, flags, blocks, contexts).ok_or(Refused::Shape)
}

fn shape(size: u64, flags: u16, blocks: (u32, u32, u32), contexts: Numbers) -> Option<Taken> {
    let (least, preferred, most) = blocks;
    // A preferred block that is none of ours is only a hint that is lost.
    let preferred =
        if preferred.is_power_of_two() { preferred.clamp(512.max(least), 32 << 20) } else { 4096 };
    let geometry = Geometry::new(size, least, preferred).ok()?;
    let has = |flag: u16| flags & flag != 0;
    let geometry = geometry.read_only(has(transmission::READ_ONLY)).multi_conn(has(transmission::MULTI_CONN));
    let request_max = most.min(REQUEST_MAX);
    (least <= request_max).then_some(Taken { geometry, flags, request_max, contexts })
}
