//! The server: what is exported, where it listens, who is connected. It goes away as a whole when dropped, in
//! bounded time.

use super::door::{Door, Listener};
use super::encryption::{Encryption, Tls};
use super::export::{Export, Geometry};
use super::handshake::{Catalogue, Denied, Entry, Session};
use super::limits::Limits;
use super::line::{End, Line};
use super::pool::Pool;
use super::reader;
use super::seats::{Seat, Seats};
use super::socket::{Peer, Socket};
use super::turns::{Turn, Turns, of_session};
use super::uri::{Place, Uri};
use crate::cluster::wake::Wake;
use crate::failure::Failure;
use crate::own_socket;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest name and the longest description of an export: a list of many stays short.
const TEXT_MAX: usize = 255;
/// Stack of a connection's threads; the storage's `submit` runs on one of them.
const STACK: usize = 256 << 10;

/// An NBD server.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    door: Option<JoinHandle<()>>,
    sockets: Vec<PathBuf>,
}

/// What the server, its door and its connections share.
pub struct Shared {
    /// Its bounds.
    pub limits: Limits,
    /// Wakes the door.
    pub wake: Wake,
    /// The door closes.
    pub stop: AtomicBool,
    /// Listeners the door has not seen yet.
    pub new: Mutex<Vec<Listener>>,
    pool: Arc<Pool>,
    seats: Arc<Seats>,
    turns: Turns,
    tls: Option<Tls>,
    exports: Mutex<Exports>,
    places: Mutex<Vec<Place>>,
}

#[derive(Default)]
struct Exports {
    by_name: BTreeMap<String, Published>,
    /// Tells an export from one of the same name before it.
    next: u64,
    lines: Vec<(u64, Weak<Line>)>,
}

struct Published {
    id: u64,
    description: String,
    export: Arc<dyn Export>,
    /// It is taken in sessions ([`Server::publish_for_sessions`]).
    sessions: bool,
}

/// The right to use an export.
pub struct Ticket {
    id: u64,
    export: Arc<dyn Export>,
    seat: Seat,
    turn: Option<Arc<Turn>>,
}

/// A client that looks for an export.
pub struct Guest<'a> {
    /// The server.
    pub shared: &'a Shared,
    /// Where the client is.
    pub peer: Peer,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("places", &self.places).finish_non_exhaustive()
    }
}

impl Server {
    /// A server that exports nothing yet and listens nowhere.
    ///
    /// # Errors
    ///
    /// No thread or no file descriptor can be had.
    pub fn start(limits: Limits) -> Result<Self, Failure> {
        Self::start_with(limits, None)
    }

    /// As [`Self::start`], encrypting if it is said how.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_with(limits: Limits, tls: Option<Tls>) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("cannot start the NBD server: {error}"));
        let shared = Arc::new(Shared {
            limits,
            wake: Wake::new().map_err(failed)?,
            stop: AtomicBool::new(false),
            new: Mutex::default(),
            pool: Arc::new(Pool::new(limits.shared_bytes)),
            seats: Arc::new(Seats::new(limits.connections, limits.connections_per_peer)),
            turns: Turns::default(),
            tls,
            exports: Mutex::default(),
            places: Mutex::default(),
        });
        let door = Door::new(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("nbd-door".into()).stack_size(STACK);
        let door = thread.spawn(move || door.run()).map_err(failed)?;
        Ok(Self { shared, door: Some(door), sockets: Vec::new() })
    }

    /// Listens at `path`, for the owner of this process only.
    ///
    /// # Errors
    ///
    /// The path cannot be used, or another server serves it.
    pub fn listen_unix(&mut self, path: &Path) -> Result<(), Failure> {
        let io = |error: std::io::Error| Failure::io("open the NBD socket", path, &error);
        let listener = own_socket::listen(path).map_err(io)?.ok_or_else(|| {
            let what = format!("another server serves {}", path.display());
            Failure::refused(what).next("stop it first, or choose another path.")
        })?;
        listener.set_nonblocking(true).map_err(io)?;
        self.sockets.push(path.to_owned());
        self.listen(Listener::Unix(listener), Place::Unix(path.to_owned()));
        Ok(())
    }

    /// Listens at `address` and tells the one it got: port 0 takes any that is free.
    ///
    /// # Errors
    ///
    /// The address cannot be used.
    pub fn listen_tcp(&mut self, address: SocketAddr) -> Result<SocketAddr, Failure> {
        let open = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        };
        let failed = |error: std::io::Error| {
            Failure::failed(format!("cannot listen for NBD clients at {address}: {error}"))
        };
        let (address, listener) = open().map_err(failed)?;
        self.listen(Listener::Tcp(listener), address.into());
        Ok(address)
    }

    fn listen(&self, listener: Listener, place: Place) {
        lock(&self.shared.new).push(listener);
        lock(&self.shared.places).push(place);
        self.shared.wake.wake();
    }

    /// Exports `export` as `name`.
    ///
    /// # Errors
    ///
    /// The name is taken, empty, too long, or has a control character in it.
    pub fn publish(&self, name: &str, description: &str, export: Arc<dyn Export>) -> Result<(), Failure> {
        self.insert(name, Published { id: 0, description: description.into(), export, sessions: false })
    }

    /// Exports `export` for programs that know about it: it is not listed, and taken by the names that
    /// [`session`](super::turns::session) makes. Of the connections of one session the newest counts: it ends
    /// the one before, and is refused until all that was asked there is answered, so nothing that was asked
    /// there happens after what is asked here.
    ///
    /// # Errors
    ///
    /// As for [`Self::publish`].
    pub fn publish_for_sessions(&self, name: &str, export: Arc<dyn Export>) -> Result<(), Failure> {
        self.insert(name, Published { id: 0, description: String::new(), export, sessions: true })
    }

    fn insert(&self, name: &str, published: Published) -> Result<(), Failure> {
        let description = &published.description;
        let long = TEXT_MAX < name.len() || TEXT_MAX < description.len();
        if name.is_empty() || long || name.contains(char::is_control) {
            let what = format!("an export cannot be called {name:?}");
            let next = format!("choose a name of 1 to {TEXT_MAX} bytes without control characters.");
            return Err(Failure::refused(what).next(next));
        }
        let mut exports = lock(&self.shared.exports);
        if exports.by_name.contains_key(name) {
            return Err(Failure::refused(format!("{name} is exported already")).next("withdraw it first."));
        }
        let id = exports.next;
        exports.next = exports.next.wrapping_add(1);
        exports.by_name.insert(name.into(), Published { id, ..published });
        Ok(())
    }

    /// Exports `name` no more. New clients do not find it, requests that arrive from now on are answered with
    /// `ESHUTDOWN`, those under way get [`Limits::farewell`] to be answered, and then its connections close.
    /// Whether there was such an export. Returns at once: a request that was admitted a moment before may
    /// still reach the export.
    pub fn withdraw(&self, name: &str) -> bool {
        let mut exports = lock(&self.shared.exports);
        let Some(gone) = exports.by_name.remove(name) else { return false };
        let of_it = exports.lines.iter().filter(|(id, _)| *id == gone.id);
        let lines: Vec<_> = of_it.filter_map(|(_, line)| line.upgrade()).collect();
        drop(exports);
        for line in lines {
            line.withdraw();
        }
        true
    }

    /// How many clients are connected to `name`.
    #[must_use]
    pub fn clients(&self, name: &str) -> usize {
        let exports = lock(&self.shared.exports);
        let Some(published) = exports.by_name.get(name) else { return 0 };
        let of_it = exports.lines.iter().filter(|(id, _)| *id == published.id);
        of_it.filter(|(_, line)| line.upgrade().is_some_and(|line| line.ended().is_none())).count()
    }

    /// Where clients find `name`: one URI for each place this server listens at.
    #[must_use]
    pub fn uris(&self, name: &str) -> Vec<Uri> {
        let places = lock(&self.shared.places);
        let is_required = self.shared.tls.as_ref().is_some_and(|tls| tls.is_required);
        let uri = |place: &Place| {
            let uri = Uri { tls: None, place: place.clone(), export: name.to_owned() };
            match place {
                Place::Tcp { .. } if is_required => uri.secure(),
                Place::Tcp { .. } | Place::Unix(_) => uri,
            }
        };
        places.iter().map(uri).collect()
    }

    /// Bytes that connections could still borrow beyond their own share.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.shared.pool.free()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for path in &self.sockets {
            let _ = std::fs::remove_file(path);
        }
        self.shared.stop.store(true, Ordering::Release);
        let names: Vec<_> = lock(&self.shared.exports).by_name.keys().cloned().collect();
        for name in names {
            self.withdraw(&name);
        }
        self.shared.wake.wake();
        // The door ends what does not end by itself.
        if let Some(door) = self.door.take() {
            let _ = door.join();
        }
    }
}

impl Shared {
    /// Serves a client that has taken an export; it starts with `rest`.
    pub fn enter(&self, socket: Socket, session: Session, ticket: Ticket, rest: Vec<u8>) {
        if socket.set_waiting(true).is_err() {
            return;
        }
        let Ticket { id, export, seat, turn } = ticket;
        let line = Arc::new(Line::new(socket, self.limits, Arc::clone(&self.pool), seat));
        if let Some(turn) = turn {
            turn.begin(&line);
        }
        let mut exports = lock(&self.exports);
        let current = exports.by_name.values().any(|published| published.id == id);
        exports.lines.push((id, Arc::downgrade(&line)));
        drop(exports);
        if !current {
            line.withdraw();
        }
        let own = Arc::clone(&line);
        let thread = |name: &str| std::thread::Builder::new().name(name.into()).stack_size(STACK);
        let sender = thread("nbd-send").spawn(move || own.go_on());
        let own = Arc::clone(&line);
        let reader = thread("nbd").spawn(move || reader::serve(&own, &session, &export, &rest));
        // Without threads it closes, which is an answer too.
        if sender.is_err() || reader.is_err() {
            line.end(End::Withdrawn);
        }
    }

    /// Ends connections in which something takes too long. Tells how many there are.
    pub fn check(&self, now: Instant) -> usize {
        let mut exports = lock(&self.exports);
        exports.lines.retain(|(_, line)| line.strong_count() != 0);
        let lines: Vec<_> = exports.lines.iter().filter_map(|(_, line)| line.upgrade()).collect();
        drop(exports);
        lines.iter().for_each(|line| line.check(now));
        lines.iter().filter(|line| line.ended().is_none()).count()
    }

    /// Ends all connections.
    pub fn end_all(&self) {
        let lines: Vec<_> = lock(&self.exports).lines.iter().filter_map(|(_, line)| line.upgrade()).collect();
        lines.iter().for_each(|line| line.end(End::Withdrawn));
    }

    /// The same connection, encrypted from now on.
    pub fn secured(&self, socket: &Socket) -> Option<Socket> {
        let connection = self.tls.as_ref()?.keeper.current().server().ok()?;
        socket.secured(connection).ok()
    }

    /// How long the door may wait for the last answers.
    #[must_use]
    pub fn farewell(&self) -> Duration {
        self.limits.farewell
    }
}

impl Exports {
    /// The export `name`, and what it is called; without a name, the only one that is listed.
    fn find<'a>(&'a self, name: &'a str) -> Option<(&'a str, &'a Published)> {
        let mut listed = self.listed();
        if name.is_empty() {
            return listed.next().filter(|_| listed.next().is_none());
        }
        listed.find(|(listed, _)| *listed == name).or_else(|| {
            let published = self.by_name.get(of_session(name)?).filter(|published| published.sessions)?;
            Some((name, published))
        })
    }

    fn listed(&self) -> impl Iterator<Item = (&str, &Published)> {
        let listed = self.by_name.iter().filter(|(_, published)| !published.sessions);
        listed.map(|(name, published)| (name.as_str(), published))
    }
}

impl Catalogue for Guest<'_> {
    type Ticket = Ticket;

    fn list(&self) -> Vec<(String, String)> {
        let exports = lock(&self.shared.exports);
        exports.listed().map(|(name, one)| (name.to_owned(), one.description.clone())).collect()
    }

    fn look(&self, name: &str) -> Option<Entry> {
        let exports = lock(&self.shared.exports);
        let (canonical, published) = exports.find(name)?;
        let (canonical, description) = (canonical.to_owned(), published.description.clone());
        let export = Arc::clone(&published.export);
        drop(exports);
        let geometry: Geometry = export.geometry();
        Some(Entry { canonical, description, geometry })
    }

    fn admit(&self, canonical: &str) -> Result<Ticket, Denied> {
        let seat = self.shared.seats.take(self.peer).ok_or(Denied::Full)?;
        let exports = lock(&self.shared.exports);
        let (_, published) = exports.find(canonical).ok_or(Denied::Gone)?;
        let (id, sessions, export) = (published.id, published.sessions, Arc::clone(&published.export));
        drop(exports);
        let turn = match sessions {
            true => Some(self.shared.turns.take(canonical).ok_or(Denied::Busy)?),
            false => None,
        };
        Ok(Ticket { id, export: export.session().unwrap_or(export), seat, turn })
    }

    /// Whoever can open the Unix socket is the owner of this process.
    fn encryption(&self) -> Encryption {
        match (&self.shared.tls, self.peer) {
            (None, _) => Encryption::Missing,
            (Some(tls), Peer::Ip(_)) if tls.is_required => Encryption::Required,
            (Some(_), Peer::Ip(_) | Peer::Unix) => Encryption::Offered,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn a_socket_that_is_served_is_nobody_elses() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nbd.sock");
        let [mut one, mut other] = [(); 2].map(|()| Server::start(Limits::default()).unwrap());
        one.listen_unix(&path).unwrap();
        let twice = other.listen_unix(&path).unwrap_err();
        assert!(twice.exit == Exit::Refused && twice.what.contains("another server serves"), "{twice:?}");
        drop(one);
        other.listen_unix(&path).unwrap();
        let long = other.listen_unix(&directory.path().join("x".repeat(120))).unwrap_err();
        assert!(long.what.contains("open the NBD socket"), "{long:?}");
    }
}
