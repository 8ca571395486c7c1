//! What a guest's disk comes from: an NBD server, by a connection that is made anew when it ends.
//!
//! What was asked on a connection that ended is asked again on the next. That asks of a server what ours
//! promises (`volume::route`): it begins nothing any more for a client that has left.

use super::changes::Changes;
use super::description::{self, Content};
use super::lease::{Lease, Tied};
use super::traffic::Traffic;
use crate::failure::Failure;
use crate::nbd::client::connection::Client;
use crate::nbd::export::{Export, Geometry, Reply, Request};
use crate::nbd::uri::Uri;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How long a connection may take to be made, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// The smallest block that a guest knows.
const SECTOR: u32 = 512;

/// A disk's content.
#[derive(Clone, Debug)]
pub struct Disk {
    uri: Uri,
    geometry: Geometry,
    is_read_only: bool,
    /// By whose right it is written; `None`: by nobody's.
    tied: Option<Tied>,
    traffic: Arc<Traffic>,
    changes: Arc<Changes>,
    /// The connection by which the guest asks; clones have one together.
    session: Arc<Mutex<Weak<Server>>>,
}

/// A connection to it.
#[derive(Debug)]
pub struct Server {
    client: Client,
    is_given_up: AtomicBool,
}

impl Disk {
    /// Looks at what the description names. What a guest writes under a lease is done while that lasts, or
    /// never.
    ///
    /// # Errors
    ///
    /// Nobody serves it, it is nothing that a guest can write, or the lease is not about it.
    pub fn open(described: &description::Disk, lease: Option<&Lease>) -> Result<Self, Failure> {
        let uri = match (&described.content, lease) {
            (Content::Served(uri), _) => uri.clone(),
            (Content::Volume(name), Some(lease)) => lease.volume(name),
            (Content::Volume(name), None) => {
                let what = format!("the disk is volume {name} of an agent, and nobody asks one");
                let next = "run the guest by the agent's lease, without --alone, or name a `uri`.";
                return Err(Failure::refused(what).left("The guest was not started.").next(next));
            }
        };
        let wrong = |why: String| Failure::failed(format!("the disk {uri}: {why}"));
        let client = Client::connect(&uri, PATIENCE).map_err(|why| wrong(why.to_string()))?;
        let geometry = client.geometry();
        if geometry.is_read_only() && !described.is_read_only {
            let why = wrong("its server lets nobody write".into());
            return Err(why.next("say `read_only = true` in its [[disk]], or have it served otherwise"));
        }
        drop(client);
        let is_read_only = described.is_read_only;
        let lease = lease.filter(|_| !is_read_only);
        let tied = lease.map(|lease| lease.tie(&uri)).transpose()?;
        let (traffic, changes, session) = Default::default();
        Ok(Self { uri, geometry, is_read_only, tied, traffic, changes, session })
    }

    /// Connects, if it is served, and still what it was.
    pub fn connect(&self) -> Option<Server> {
        let uri = self.tied.as_ref().map_or(&self.uri, |tied| &tied.uri);
        let may = || self.tied.as_ref().is_none_or(|tied| tied.right.holds());
        let client = may().then(|| Client::connect(uri, PATIENCE).ok())??;
        let is_same = client.geometry().size() == self.geometry.size();
        // The server has bound the connection to the epoch of some moment since: it was the guest's own.
        (is_same && may()).then(|| Server { client, is_given_up: AtomicBool::new(false) })
    }

    /// Where it is served.
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Bytes.
    pub const fn size(&self) -> u64 {
        self.geometry.size()
    }

    /// What it has carried; clones carry it together.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Which of its blocks are written, for whoever looks; clones share it.
    pub const fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// The guest asks by this connection from now on.
    pub fn is_asked_by(&self, server: &Arc<Server>) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(server);
    }

    /// The connection by which the guest asks, if it has one: what it was told to be written is read there,
    /// whatever other connections see of that.
    pub fn session(&self) -> Option<Arc<Server>> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        session.filter(|server| !server.is_over())
    }

    /// Bytes of the smallest block that can be read and written.
    pub fn block(&self) -> u32 {
        self.geometry.block_min().max(SECTOR)
    }

    /// Whether the guest may not write.
    pub const fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Whether it has these bytes, and they are whole blocks and not none.
    pub fn has(&self, offset: u64, length: u64) -> bool {
        let is_whole = |number: u64| number.is_multiple_of(u64::from(self.block()));
        let is_within = offset.checked_add(length).is_some_and(|end| end <= self.size());
        length != 0 && is_within && is_whole(offset) && is_whole(length)
    }
}

impl Server {
    /// Whether nothing more comes of it.
    pub fn is_over(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire) || self.client.ended().is_some()
    }

    /// It goes away: another connection is to be made.
    pub fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
    }

    /// Asks it.
    pub fn submit(&self, request: Request, reply: Reply) {
        self.client.submit(request, reply);
    }
}
