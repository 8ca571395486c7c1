//! The door: one thread that accepts clients, shakes hands with all of them at once, and ends what takes too
//! long. A newcomer costs it a socket and a few hundred bytes, some kilobytes if it encrypts, and no thread;
//! there is room for so many, and the next one closes the oldest of whoever has most (F42, V43).

use super::handshake::{Handshake, Progress, Session};
use super::server::{Guest, Shared, Ticket};
use super::socket::{Peer, Socket};
use crate::tls::plain::Gone;
use crate::tls::secure::Shake;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Clients accepted at one listener before others have their turn.
const ACCEPT_AT_ONCE: usize = 64;
/// Reads from one newcomer before others have their turn.
const READS_AT_ONCE: usize = 16;
/// Without file descriptors, wait this long for one.
const SHORT_OF_FILES: Duration = Duration::from_millis(20);

/// Where clients arrive. It does not wait.
#[derive(Debug)]
pub enum Listener {
    /// From this machine.
    Unix(UnixListener),
    /// From anywhere.
    Tcp(TcpListener),
}

impl Listener {
    fn accept(&self) -> std::io::Result<(Socket, Peer)> {
        match self {
            Self::Unix(listener) => listener.accept().map(|(stream, _)| (Socket::Unix(stream), Peer::Unix)),
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                Ok((Socket::Tcp(stream), Peer::Ip(address.ip().to_canonical())))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// A client that has not taken an export.
struct Newcomer {
    socket: Socket,
    peer: Peer,
    handshake: Handshake,
    born: Instant,
    /// It has taken one, and is to be told so.
    taken: Option<(Session, Ticket)>,
    leaves: bool,
    /// It is to be told that it may encrypt, and then does.
    secures: bool,
    /// Its turn ended although there was more.
    more: bool,
}

enum Turn {
    Stay,
    Enter,
    Gone,
}

/// The door of a server.
pub struct Door {
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    /// Oldest first.
    newcomers: Vec<Newcomer>,
    checked: Instant,
}

impl Door {
    /// The door of `shared`.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, listeners: Vec::new(), newcomers: Vec::new(), checked: Instant::now() }
    }

    /// Until the server stops.
    pub fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            self.shared.wake.clear();
            let mut new = self.shared.new.lock().unwrap_or_else(PoisonError::into_inner);
            self.listeners.append(&mut new);
            drop(new);
            let (arrivals, ready) = self.wait();
            for (index, _) in arrivals.iter().enumerate().filter(|(_, here)| **here) {
                self.accept(index);
            }
            // Those accepted just now are at the end and have said nothing yet.
            self.turns(&ready);
            self.tick();
        }
        self.newcomers.clear();
        self.listeners.clear();
        let until = Instant::now().checked_add(self.shared.farewell());
        while self.shared.check(Instant::now()) != 0 && until.is_some_and(|until| Instant::now() < until) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.shared.end_all();
    }

    /// Waits; tells at which listeners clients arrive, and which newcomers can go on.
    fn wait(&self) -> (Vec<bool>, Vec<bool>) {
        let mut files = vec![PollFd::new(&self.shared.wake, PollFlags::IN)];
        files.extend(self.listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        files.extend(self.newcomers.iter().map(|one| {
            let sends = !one.handshake.output().is_empty() || one.socket.wants_room();
            PollFd::new(&one.socket, if sends { PollFlags::OUT } else { PollFlags::IN })
        }));
        let more = self.newcomers.iter().any(|one| one.more);
        let time = Timespec::try_from(if more { Duration::ZERO } else { TICK }).ok();
        if poll(&mut files, time.as_ref()).is_err() {
            // A signal, or no memory: nobody is ready, and the clock is looked at.
            return (Vec::new(), Vec::new());
        }
        let mut ready = files.iter().skip(1).map(|file| !file.revents().is_empty());
        let arrivals = ready.by_ref().take(self.listeners.len()).collect();
        (arrivals, ready.zip(&self.newcomers).map(|(ready, one)| ready || one.more).collect())
    }

    fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPT_AT_ONCE {
            let Some(listener) = self.listeners.get(listener) else { return };
            match listener.accept() {
                Ok((socket, peer)) => {
                    socket.prepare();
                    if socket.set_waiting(false).is_err() {
                        continue;
                    }
                    if self.shared.limits.half_open <= self.newcomers.len() {
                        self.make_room();
                    }
                    let mut newcomer = Newcomer {
                        socket,
                        peer,
                        handshake: Handshake::default(),
                        born: Instant::now(),
                        taken: None,
                        leaves: false,
                        secures: false,
                        more: false,
                    };
                    // It is greeted at once. A quick one may already be through.
                    match newcomer.turn(&self.shared) {
                        Turn::Stay => self.newcomers.push(newcomer),
                        Turn::Enter => newcomer.enter(&self.shared),
                        Turn::Gone => {}
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    // No file descriptors, most likely.
                    self.make_room();
                    std::thread::sleep(SHORT_OF_FILES);
                    return;
                }
            }
        }
    }

    /// Closes the oldest newcomer of the peer that has most.
    fn make_room(&mut self) {
        let mut count = BTreeMap::new();
        for one in &self.newcomers {
            let count: &mut usize = count.entry(one.peer).or_default();
            *count = count.saturating_add(1);
        }
        let most = count.into_iter().max_by_key(|(_, count)| *count).map(|(peer, _)| peer);
        if let Some(index) = self.newcomers.iter().position(|one| Some(one.peer) == most) {
            self.newcomers.remove(index);
        }
    }

    fn turns(&mut self, ready: &[bool]) {
        // Room may have been made meanwhile: then some are asked that have nothing, which is harmless.
        let mut index = 0;
        for ready in ready {
            let Some(one) = self.newcomers.get_mut(index) else { return };
            let turn = if *ready { one.turn(&self.shared) } else { Turn::Stay };
            match turn {
                Turn::Stay => index = index.saturating_add(1),
                Turn::Gone => drop(self.newcomers.remove(index)),
                Turn::Enter => self.newcomers.remove(index).enter(&self.shared),
            }
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.checked) < TICK {
            return;
        }
        self.checked = now;
        let patience = self.shared.limits.handshake;
        self.newcomers.retain(|one| now.saturating_duration_since(one.born) < patience);
        self.shared.check(now);
    }
}

impl Newcomer {
    /// It has taken an export and knows it.
    fn enter(self, shared: &Shared) {
        if let Some((session, ticket)) = self.taken {
            shared.enter(self.socket, session, ticket, self.handshake.rest());
        }
    }

    /// Goes on as far as it goes without waiting.
    fn turn(&mut self, shared: &Shared) -> Turn {
        let guest = Guest { shared, peer: self.peer };
        self.more = false;
        for _ in 0..READS_AT_ONCE {
            match self.socket.shake() {
                Ok(Shake::Done) => {}
                Ok(Shake::Listens | Shake::Full) => return Turn::Stay,
                Err(Gone) => return Turn::Gone,
            }
            while !self.handshake.output().is_empty() {
                match self.socket.send(&[IoSlice::new(self.handshake.output())]) {
                    Ok(Some(count)) => self.handshake.sent(count),
                    Ok(None) => return Turn::Stay,
                    Err(_) => return Turn::Gone,
                }
            }
            if self.taken.is_some() {
                return Turn::Enter;
            }
            if self.leaves {
                return Turn::Gone;
            }
            if std::mem::take(&mut self.secures) {
                let Some(socket) = shared.secured(&self.socket) else { return Turn::Gone };
                self.socket = socket;
                self.handshake.secured();
                continue;
            }
            // An option may have waited until there was room for its answer.
            let mut progress = self.handshake.receive(&[], &guest);
            if matches!(progress, Progress::Stay) && self.handshake.output().is_empty() {
                let mut bytes = [0; 4096];
                match self.socket.receive(&mut bytes) {
                    Ok(Some(count)) => {
                        progress = self.handshake.receive(bytes.get(..count).unwrap_or_default(), &guest);
                    }
                    Ok(None) => return Turn::Stay,
                    Err(_) => return Turn::Gone,
                }
            }
            match progress {
                Progress::Stay => {}
                Progress::Enter(session, ticket) => self.taken = Some((session, ticket)),
                Progress::Secure => self.secures = true,
                Progress::Leave => self.leaves = true,
            }
        }
        self.more = true;
        Turn::Stay
    }
}
