//! What a guest's process says to the other node goes through its agent where it is encrypted: the process
//! has neither the site key nor certificates (V22, V43).
//!
//! Where it leaves, the process connects to the agent's socket, says on one line where it wants to go, and
//! hears on another one that it is there, and by which keys its frames go. Where it comes, the agent has the
//! other end before there is a process. What is on its way is bounded, and so are those who want something.

use super::hello::Keys;
use super::opening::{End, PATIENCE};
use super::socket::Socket;
use crate::cluster::guest_moves;
use crate::failure::Failure;
use crate::own_socket;
use crate::replication::wire::Wire;
use crate::site_config::SiteConfig;
use crate::tls::plain::{Gone, read_now, send_now};
use crate::tls::secure::Came;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use std::io::{Error, ErrorKind, IoSlice, Read, Result, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The socket's name in the state directory.
pub const SOCKET: &str = "moves.sock";
/// The longest line, and the longest that is on its way in one direction.
const LINE_MAX: usize = 4096;
const ROOM: usize = 64 << 10;
/// Guests that leave by one agent at once.
const LEAVING_MAX: usize = 64;
/// One end has said its last: the other one has so long.
const FAREWELL: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
const STACK: usize = 256 << 10;

/// Where a guest's process wants to go.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    node: String,
}

/// What it hears.
#[derive(Debug, Serialize, Deserialize)]
struct Heard {
    keys: Option<Keys>,
    /// Nobody is there; else who is there must not be told more.
    away: bool,
    why: String,
}

/// Lets guests leave by this agent from now on, if this node may encrypt what leaves. Nothing ends it but the
/// agent's end.
///
/// # Errors
///
/// The socket cannot be opened, or a key or a certificate not be read.
pub fn open(config: &SiteConfig) -> std::result::Result<(), Failure> {
    if !guest_moves::encrypts(config) {
        return Ok(());
    }
    let path = config.local.state.join(SOCKET);
    let failed = |error: Error| Failure::io("open the socket", &path, &error).left("Nothing was started.");
    let listener = own_socket::listen(&path).map_err(failed)?;
    let listener = listener.ok_or_else(|| failed(ErrorKind::AddrInUse.into()))?;
    let (end, config) = (Arc::new(End::of(config)?), Arc::new(config.clone()));
    let leaving = Arc::new(AtomicUsize::new(0));
    let work = move || {
        loop {
            let Ok((near, _)) = listener.accept() else {
                std::thread::sleep(PAUSE);
                continue;
            };
            let (end, config, leaving) = (Arc::clone(&end), Arc::clone(&config), Arc::clone(&leaving));
            if LEAVING_MAX <= leaving.fetch_add(1, Ordering::SeqCst) {
                leaving.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let own = Arc::clone(&leaving);
            let work = move || {
                // Who breaks off is its own business.
                let _ = serve(near, &end, &config);
                leaving.fetch_sub(1, Ordering::SeqCst);
            };
            let thread = std::thread::Builder::new().name("guest-leaves".into()).stack_size(STACK);
            if thread.spawn(work).is_err() {
                own.fetch_sub(1, Ordering::SeqCst);
            }
        }
    };
    let thread = std::thread::Builder::new().name("leaving".into()).stack_size(STACK);
    thread.spawn(work).map(drop).map_err(failed)
}

/// One guest that leaves.
fn serve(mut near: UnixStream, end: &End, config: &SiteConfig) -> Result<()> {
    near.set_read_timeout(Some(PATIENCE))?;
    near.set_write_timeout(Some(PATIENCE))?;
    let wish: Wish = serde_json::from_slice(&line(&mut near)?)?;
    let called = guest_moves::road(config, &wish.node).map_err(|why| (false, why.what)).and_then(|road| {
        let away = |error| (true, format!("{} cannot be reached at {}: {error}", wish.node, road.at));
        let wire = TcpStream::connect_timeout(&road.at, PATIENCE).map_err(away)?;
        end.call(wire, road.to(), &wish.node).map_err(|why| (false, why))
    });
    let (wire, heard) = match called {
        Ok((wire, keys)) => (Some(wire), Heard { keys: Some(keys), away: false, why: String::new() }),
        Err((away, why)) => (None, Heard { keys: None, away, why }),
    };
    near.write_all(&[&*serde_json::to_vec(&heard)?, b"\n"].concat())?;
    wire.map_or(Ok(()), |wire| run(&near, &wire))
}

/// A connection to that node by this node's agent; why there is none.
///
/// # Errors
///
/// The agent does not answer.
pub fn leave(agent: &Path, node: &str) -> Result<std::result::Result<(UnixStream, Keys), Failure>> {
    let mut near = UnixStream::connect(agent)?;
    near.set_write_timeout(Some(PATIENCE))?;
    // It connects, proves and encrypts before it answers, each within its time.
    near.set_read_timeout(Some(PATIENCE.saturating_mul(6)))?;
    near.write_all(&[&*serde_json::to_vec(&Wish { node: node.to_owned() })?, b"\n"].concat())?;
    let Heard { keys, away, why } = serde_json::from_slice(&line(&mut near)?)?;
    let failure = |why| if away { Failure::failed(why) } else { Failure::refused(why) };
    Ok(keys.map(|keys| (near, keys)).ok_or_else(|| failure(why).next("")))
}

/// One line, and no byte behind it.
fn line(from: &mut impl Read) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => return Ok(line),
            [byte] if line.len() < LINE_MAX => line.push(byte),
            _ => return Err(ErrorKind::InvalidData.into()),
        }
    }
}

/// The end of a connection that a guest's process may have: it knows nothing of its encryption.
///
/// # Errors
///
/// The system has no socket or thread.
pub fn near(wire: Wire) -> Result<Socket> {
    match wire {
        Wire::Clear(socket) => Ok(socket.into()),
        Wire::Tls(_) => {
            let (near, own) = UnixStream::pair()?;
            let thread = std::thread::Builder::new().name("guest-comes".into()).stack_size(STACK);
            thread.spawn(move || drop(run(&own, &wire)))?;
            Ok(near.into())
        }
    }
}

/// Bytes on their way in one direction.
struct Half {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
    /// Who says them has said its last.
    is_over: bool,
}

impl Half {
    fn new() -> Self {
        Self { bytes: vec![0; ROOM], from: 0, to: 0, is_over: false }
    }

    const fn is_empty(&self) -> bool {
        self.from == self.to
    }

    const fn listens(&self) -> bool {
        self.is_empty() && !self.is_over
    }

    /// Reads, if all of before is gone; whether something came.
    fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> std::result::Result<Came, ()>) -> bool {
        if !self.listens() {
            return false;
        }
        match read(&mut self.bytes) {
            Ok(Came::Bytes(count)) => {
                (self.from, self.to) = (0, count);
                true
            }
            Ok(Came::Part) => true,
            Ok(Came::Nothing) => false,
            Err(()) => {
                self.is_over = true;
                true
            }
        }
    }

    /// Writes what there is, as far as it goes; whether something went.
    fn drain(&mut self, write: impl FnOnce(&[IoSlice<'_>]) -> Option<Option<usize>>) -> Result<bool> {
        if self.is_empty() {
            return Ok(false);
        }
        let here = self.bytes.get(self.from..self.to).unwrap_or_default();
        let went = write(&[IoSlice::new(here)]).ok_or(ErrorKind::BrokenPipe)?;
        self.from = self.from.saturating_add(went.unwrap_or(0));
        Ok(went.is_some())
    }
}

/// Carries bytes in both directions until both ends have said their last, or one is gone.
fn run(near: &UnixStream, far: &Wire) -> Result<()> {
    rustix::io::ioctl_fionbio(near, true)?;
    rustix::io::ioctl_fionbio(far, true)?;
    let (mut out, mut back) = (Half::new(), Half::new());
    let mut farewell: Option<Instant> = None;
    let ends = |result: Result<()>| {
        let _ = near.shutdown(Shutdown::Both);
        far.end();
        result
    };
    loop {
        let came = out.fill(|room| match read_now(near, room) {
            Ok(count) => Ok(count.map_or(Came::Nothing, Came::Bytes)),
            Err(Gone) => Err(()),
        });
        let heard = back.fill(|room| far.receive(room, &mut []).map_err(drop));
        let went = out.drain(|bytes| far.send(bytes).ok());
        let said = back.drain(|bytes| send_now(near, bytes).ok());
        let (Ok(went), Ok(said)) = (went, said) else { return ends(Err(ErrorKind::BrokenPipe.into())) };
        if back.is_over && back.is_empty() {
            return ends(Ok(()));
        }
        if out.is_over && out.is_empty() {
            let since = farewell.get_or_insert_with(|| {
                // A farewell of TLS would have this end hear nothing more; frames say where their end is.
                let _ = rustix::net::shutdown(far, rustix::net::Shutdown::Write);
                Instant::now()
            });
            if FAREWELL < since.elapsed() {
                return ends(Ok(()));
            }
        }
        if !(came || heard || went || said) {
            wait(near, far, &out, &back);
        }
    }
}

/// Waits for whichever goes on first.
fn wait(near: &UnixStream, far: &Wire, out: &Half, back: &Half) {
    let flag = |is: bool, flag: PollFlags| if is { flag } else { PollFlags::empty() };
    let near_waits = flag(out.listens(), PollFlags::IN) | flag(!back.is_empty(), PollFlags::OUT);
    let own = far.awaited() & PollFlags::OUT;
    let far_waits = flag(back.listens(), PollFlags::IN) | flag(!out.is_empty(), PollFlags::OUT) | own;
    // One that is waited for in no direction would wake whoever waits by its end.
    let ends = [(near.as_fd(), near_waits), (far.as_fd(), far_waits)];
    let ends = ends.into_iter().filter(|(_, what)| !what.is_empty());
    let mut ends: Vec<_> = ends.map(|(end, what)| PollFd::from_borrowed_fd(end, what)).collect();
    let _ = poll(&mut ends, Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
