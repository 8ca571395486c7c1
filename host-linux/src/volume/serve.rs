//! The NBD side of an agent: every volume of the catalogue is exported on every node of its pair, under its
//! name, for as long as it is in the catalogue (S1-27 to S1-29, S3-07; BLACKBOX 2).
//!
//! A thread of its own compares what is exported with the catalogue whenever [`Bell::ring`] says that there
//! may be news, so that the group's thread never waits for clients. A volume that was resized keeps its
//! clients: who connects from then on sees the new size. One that was deleted loses them.

use super::catalogue::{Catalogue, bytes};
use super::route::{self, Here, Route};
use crate::failure::Failure;
use crate::mirror::handle::Handle;
use crate::nbd::encryption::{Tls, Wish};
use crate::nbd::export::{Geometry, Reply, Request};
use crate::nbd::limits::Limits;
use crate::nbd::server::Server;
use bulkhead_core::id::Epoch;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::volume::record::Record;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Without a ring it looks again after this time: what could not be exported is tried again.
const LOOK: Duration = Duration::from_secs(1);
/// The name of the Unix socket in an agent's state directory.
pub const NBD_SOCKET: &str = "nbd.sock";
/// The only block: what a log keeps.
const BLOCK: u32 = 4096;

/// What a mirror group is to its clients. No method waits.
pub trait Group: Send + Sync {
    /// Which volumes there are.
    fn catalogue(&self) -> Catalogue;
    /// Under which epoch this node leads, while its lease holds.
    fn reign(&self) -> Option<Epoch>;
    /// The node that leads, as far as this one knows.
    fn primary(&self) -> Option<u16>;
    /// Begins a client's request, as [`Here::submit`].
    fn submit(&self, volume: Volume, request: Request, reply: Reply);
}

impl Group for Handle {
    fn catalogue(&self) -> Catalogue {
        Self::catalogue(self)
    }

    fn reign(&self) -> Option<Epoch> {
        Self::reign(self)
    }

    fn primary(&self) -> Option<u16> {
        self.view().primary
    }

    fn submit(&self, volume: Volume, request: Request, reply: Reply) {
        Self::submit(self, volume, request, reply);
    }
}

/// Where clients find the volumes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For clients on this machine that belong to the agent's user.
    pub socket: PathBuf,
    /// For clients in the network.
    pub listen: Option<SocketAddr>,
    /// Where the other nodes of the pair serve the same volumes.
    pub others: BTreeMap<u16, SocketAddr>,
    /// How what goes over the network is encrypted; `None`: it is not.
    pub tls: Option<Tls>,
    /// How long a request may take.
    pub route: route::Settings,
}

/// Says that the volumes, or who leads, may have changed. Clones ring at the same service.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<(Mutex<Rung>, Condvar)>);

/// What the bell was rung for.
#[derive(Clone, Copy, Debug, Default)]
struct Rung {
    news: bool,
    stop: bool,
}

/// The NBD server of an agent, and the thread that keeps it up to date. It ends, and its clients are
/// disconnected, when this is dropped.
#[derive(Debug)]
pub struct Service {
    bell: Bell,
    thread: Option<JoinHandle<()>>,
    listens: Option<SocketAddr>,
    lacks: Arc<Mutex<Option<Failure>>>,
}

impl Bell {
    /// There may be news.
    pub fn ring(&self) {
        self.say(|rung| rung.news = true);
    }

    fn say(&self, what: impl Fn(&mut Rung)) {
        let (rung, wake) = &*self.0;
        what(&mut lock(rung));
        wake.notify_one();
    }

    /// Waits for news, but not for long; whether to go on.
    fn wait(&self) -> bool {
        let (rung, wake) = &*self.0;
        let idle = |rung: &mut Rung| !rung.news && !rung.stop;
        let (mut rung, _) =
            wake.wait_timeout_while(lock(rung), LOOK, idle).unwrap_or_else(PoisonError::into_inner);
        rung.news = false;
        !rung.stop
    }
}

impl Service {
    /// Serves the volumes of `group`. `bell` is what the group rings.
    ///
    /// # Errors
    ///
    /// A place cannot be listened at, or there is no thread to be had. Nothing is served.
    pub fn start(group: Arc<dyn Group>, bell: Bell, settings: Settings) -> Result<Self, Failure> {
        let stopped = |failure: Failure| failure.left("Nothing was started.");
        let mut server = Server::start_with(Limits::default(), settings.tls.clone()).map_err(stopped)?;
        server.listen_unix(&settings.socket).map_err(stopped)?;
        let listen = |at| {
            let next = "end what uses this address, or correct `nbd` of this node.";
            server.listen_tcp(at).map_err(|failure| stopped(failure).next(next))
        };
        let listens = settings.listen.map(listen).transpose()?;
        let lacks = Arc::default();
        let shelf = Shelf {
            server,
            group,
            settings,
            primary: Arc::default(),
            shown: BTreeMap::new(),
            lacks: Arc::clone(&lacks),
        };
        let own = bell.clone();
        let thread = std::thread::Builder::new().name("volumes".into()).stack_size(256 << 10);
        let thread = thread
            .spawn(move || shelf.run(&own))
            .map_err(|error| stopped(Failure::failed(format!("the volumes cannot be served: {error}"))))?;
        Ok(Self { bell, thread: Some(thread), listens, lacks })
    }

    /// Where it listens for clients in the network: port 0 of the settings took one that was free.
    #[must_use]
    pub const fn listens(&self) -> Option<SocketAddr> {
        self.listens
    }

    /// Why a volume of the catalogue is not exported, or what is wrong with the certificate, if something is.
    /// It is tried again.
    #[must_use]
    pub fn lack(&self) -> Option<Failure> {
        lock(&self.lacks).clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.bell.say(|rung| rung.stop = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Shelf {
    server: Server,
    group: Arc<dyn Group>,
    settings: Settings,
    /// Where the node that leads serves them; `None`: this one leads, or nobody does.
    primary: Arc<Mutex<Option<SocketAddr>>>,
    /// By number.
    shown: BTreeMap<u16, Shown>,
    lacks: Arc<Mutex<Option<Failure>>>,
}

/// An exported volume.
struct Shown {
    record: Record,
    geometry: Arc<Mutex<Geometry>>,
    route: Arc<Route>,
}

/// A volume of the group of this node.
struct Local {
    group: Arc<dyn Group>,
    volume: Volume,
    geometry: Arc<Mutex<Geometry>>,
    primary: Arc<Mutex<Option<SocketAddr>>>,
    tls: Option<Tls>,
}

impl Here for Local {
    fn reign(&self) -> Option<Epoch> {
        self.group.reign()
    }

    fn primary(&self) -> Option<SocketAddr> {
        *lock(&self.primary)
    }

    fn geometry(&self) -> Geometry {
        *lock(&self.geometry)
    }

    fn wish(&self) -> Wish {
        self.tls.as_ref().map_or(Wish::Clear, Tls::wish)
    }

    fn submit(&self, request: Request, reply: Reply) {
        self.group.submit(self.volume, request, reply);
    }
}

impl Shelf {
    fn run(mut self, bell: &Bell) {
        loop {
            self.look();
            if !bell.wait() {
                return;
            }
        }
    }

    /// Exports what the catalogue has, and nothing else.
    fn look(&mut self) {
        let leads = self.group.primary().and_then(|node| self.settings.others.get(&node).copied());
        *lock(&self.primary) = leads;
        let catalogue = self.group.catalogue();
        let is_other = |shown: &Shown| {
            let now = catalogue.get(shown.record.volume);
            now.is_none_or(|now| (now.uuid, &now.name) != (shown.record.uuid, &shown.record.name))
        };
        let gone: Vec<u16> =
            self.shown.iter().filter(|(_, shown)| is_other(shown)).map(|(number, _)| *number).collect();
        for shown in gone.iter().filter_map(|number| self.shown.remove(number)) {
            route::withdraw(&self.server, shown.record.name.as_str());
        }
        let mut lack = self.settings.tls.as_ref().and_then(|tls| tls.keeper.look());
        for record in catalogue.list() {
            match self.shown.get_mut(&record.volume.0) {
                Some(shown) => {
                    match geometry(record) {
                        Ok(geometry) => *lock(&shown.geometry) = geometry,
                        Err(failure) => lack = Some(failure),
                    }
                    shown.route.changed();
                }
                None => lack = self.publish(record).err().or(lack),
            }
        }
        *lock(&self.lacks) = lack;
    }

    fn publish(&mut self, record: &Record) -> Result<(), Failure> {
        let geometry = Arc::new(Mutex::new(geometry(record)?));
        let here = Local {
            group: Arc::clone(&self.group),
            volume: record.volume,
            geometry: Arc::clone(&geometry),
            primary: Arc::clone(&self.primary),
            tls: self.settings.tls.clone(),
        };
        let name = record.name.as_str();
        let description = format!("volume {}, {}", record.volume.0, record.uuid);
        let route = route::publish(&self.server, name, &description, Arc::new(here), self.settings.route)?;
        self.shown.insert(record.volume.0, Shown { record: record.clone(), geometry, route });
        Ok(())
    }
}

/// How a volume looks to clients.
fn geometry(record: &Record) -> Result<Geometry, Failure> {
    let geometry = Geometry::new(bytes(record.blocks), BLOCK, BLOCK).map(|one| one.multi_conn(true));
    geometry.map_err(|_| {
        let what = format!("volume {} has {} blocks, which NBD has no words for", record.name, record.blocks);
        Failure::failed(what)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
