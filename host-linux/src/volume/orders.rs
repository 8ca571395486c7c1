//! What an operator asks of volumes, judged before the group is asked: a refusal names the node that can do
//! it and what to do next (S4-10, X14; BLACKBOX 3).

use crate::cluster::request::Request;
use crate::failover::wanted::Wanted;
use crate::failure::{Exit, Failure};
use crate::mirror::view::{Algorithm, HolderView, Mode, View, VolumeView};
use crate::mirror::words::Order;
use crate::nbd::uri::Uri;
use bulkhead_core::id::NodeId;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::mirror::membership;
use bulkhead_core::volume::name::{BadName, Name};
use bulkhead_core::volume::record::Seal;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

/// The volumes of a node's pair, and where clients find them: the answer to [`Request::VolumeList`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// This node.
    pub me: u16,
    /// The pair.
    pub pair: u16,
    /// The nodes of the pair that serve its volumes.
    pub nodes: Vec<Place>,
    /// Where clients on this node find them.
    pub socket: Option<PathBuf>,
    /// Clients in the network must encrypt.
    #[serde(default)]
    pub tls: bool,
    /// How their mirror group is.
    pub storage: View,
}

/// A node that serves volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Its identity.
    pub node: u16,
    /// Its name.
    pub name: String,
    /// Where clients in the network find them; `None`: nowhere.
    pub nbd: Option<SocketAddr>,
}

impl Listing {
    /// What to call a node.
    #[must_use]
    pub fn name_of(&self, node: u16) -> String {
        let place = self.nodes.iter().find(|place| place.node == node);
        place.map_or_else(|| format!("node {node}"), |place| place.name.clone())
    }

    /// The volume of this name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn volume(&self, name: &str) -> Result<&VolumeView, Failure> {
        self.storage.volumes.iter().find(|volume| volume.name == name).ok_or_else(|| {
            let what = format!("pair {} has no volume {name:?}", self.pair);
            unchanged(Failure::usage(what)).next("`bulkhead volume list` shows them.")
        })
    }

    /// Where clients find a volume, with the name of the node; the Unix socket is this node's own.
    #[must_use]
    pub fn uris(&self, volume: &str) -> Vec<(String, Uri)> {
        let of_place = |place: &Place| {
            let uri = Uri::tcp(place.nbd?, volume);
            Some((place.name.clone(), if self.tls { uri.secure() } else { uri }))
        };
        let unix = self.socket.iter().map(|socket| (self.name_of(self.me), Uri::unix(socket, volume)));
        self.nodes.iter().filter_map(of_place).chain(unix).collect()
    }

    /// What a request asks of the group; `None`: nothing.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn order(&self, request: &Request) -> Result<Option<Order>, Failure> {
        let number = |name: &str| self.volume(name).map(|volume| Volume(volume.number));
        let order = match request {
            Request::VolumeCreate { name, blocks } => {
                Name::new(name).map_err(|why| misnamed(name, &why))?;
                Order::Create { name: name.clone(), blocks: *blocks }
            }
            Request::VolumeResize { name, blocks } => {
                Order::Resize { volume: number(name)?, blocks: *blocks }
            }
            Request::VolumeDelete { name } => Order::Delete { volume: number(name)? },
            Request::GuestWanted { name, wanted } => guest_as(number(name)?, *wanted),
            Request::VolumeSeal { name, seal } => seal_as(number(name)?, seal)?,
            Request::VolumeMode { volume: Some(name), mode } => {
                Order::WantOf { volume: number(name)?, policy: mode.map(membership::Policy::from) }
            }
            Request::VolumeMode { volume: None, mode: Some(mode) } => Order::Want((*mode).into()),
            Request::VolumeMode { volume: None, mode: None } => {
                let what = "only a volume can be as the others are, and none was named";
                let next = "name the volume, or say `through` or `back`.";
                return Err(unchanged(Failure::usage(what)).next(next));
            }
            Request::VolumeCache { volume: Some(name), algorithm } => {
                Order::CacheOf { volume: number(name)?, is_cached: is_cached(name, *algorithm)? }
            }
            Request::VolumeCache { volume: None, algorithm: Some(algorithm) } => {
                Order::Cache((*algorithm).into())
            }
            Request::VolumeCache { volume: None, algorithm: None } => {
                let what = "only a volume can be as the others are, and none was named";
                let next = "name the volume, or say `lru`, `clock`, `arc` or `none`.";
                return Err(unchanged(Failure::usage(what)).next(next));
            }
            Request::VolumeLimit { bytes } => Order::Bound(bound(*bytes)?),
            Request::VolumeSecondaryRemove { node, yes } => {
                self.check_leads()?;
                self.check_removal(*node, *yes)?;
                Order::Dismiss(NodeId(*node))
            }
            Request::VolumeSecondaryAdd { node } => Order::Admit(NodeId(*node)),
            Request::Status
            | Request::Events { .. }
            | Request::ControllerShow
            | Request::ControllerMove { .. }
            | Request::NodeJoin { .. }
            | Request::NodeLeave { .. }
            | Request::InfraStart
            | Request::InfraStop
            | Request::ConfigApply
            | Request::FenceHistory
            | Request::ResourceCleanup { .. }
            | Request::FenceStatus
            | Request::FencePower { .. }
            | Request::ForceQuorum { .. }
            | Request::ForceShow
            | Request::FenceConfirm { .. }
            | Request::VolumeList
            | Request::GuestLease { .. }
            | Request::GuestReturn { .. }
            | Request::GuestHeartbeat { .. }
            | Request::GuestRoad { .. }
            | Request::GuestKeys { .. }
            | Request::VolumeRecover { .. }
            | Request::VolumeScrub
            | Request::VolumePromote { .. } => return Ok(None),
        };
        self.check_leads()?;
        Ok(Some(order))
    }

    /// Which node is to lead; `None`: it does so already.
    ///
    /// # Errors
    ///
    /// It cannot, or this node cannot give it the lead.
    pub fn promotion(&self, node: u16) -> Result<Option<NodeId>, Failure> {
        let name = self.name_of(node);
        let Some(holder) = self.storage.holders.iter().find(|holder| holder.node == node) else {
            let what = format!("{name} holds no copy of the volumes of pair {}", self.pair);
            return Err(unchanged(Failure::usage(what)).next("`bulkhead volume show` lists who does."));
        };
        self.check_leads()?;
        if node == self.me {
            return Ok(None);
        }
        match holder {
            HolderView { in_sync: true, connected: true, .. } => Ok(Some(NodeId(node))),
            HolderView { .. } => {
                let what = format!("{name} lacks writes that were acknowledged, or is not reached");
                let next = "`bulkhead volume wait --for in-sync` waits until it can lead.";
                Err(unchanged(Failure::refused(what)).next(next))
            }
        }
    }

    /// Whether a node may be taken out.
    fn check_removal(&self, node: u16, yes: bool) -> Result<(), Failure> {
        let name = self.name_of(node);
        if self.nodes.iter().all(|place| place.node != node) {
            let what = format!("pair {} has no {name}", self.pair);
            return Err(
                unchanged(Failure::usage(what)).next("`bulkhead volume show` lists who holds a copy.")
            );
        }
        if node == self.me {
            let what = format!("{name} leads, and what leads cannot be taken out");
            return Err(
                unchanged(Failure::refused(what)).next("have another one lead: `bulkhead volume promote`.")
            );
        }
        let stays = |holder: &&HolderView| holder.in_sync && holder.connected && holder.node != node;
        if !yes && self.storage.holders.iter().filter(stays).count() < 2 {
            let what = format!("without {name}, what is written is in one place only");
            return Err(unchanged(Failure::refused(what)).next("say it again with --yes if you mean it."));
        }
        Ok(())
    }

    /// Whether this node may be made to lead with what it has. `heard`: the nodes that have every
    /// acknowledged write, and are there; `voters`: why none can take the register; `part_filled`: also if
    /// its store has parts of two times.
    ///
    /// # Errors
    ///
    /// Somebody else leads, or could, or nobody can be let.
    pub fn recovery(&self, heard: &[u16], voters: Option<String>, part_filled: bool) -> Result<(), Failure> {
        let refused = |what: String, next: &str| Err(unchanged(Failure::refused(what)).next(next));
        let View { primary, mode, .. } = &self.storage;
        if let Some(primary) = primary {
            let what = format!("{} leads the volumes of pair {}", self.name_of(*primary), self.pair);
            return refused(what, "nothing is to be recovered; `bulkhead volume list` says how they are.");
        }
        if let Some(node) = heard.first() {
            let what = format!("{} has every acknowledged write, and is there", self.name_of(*node));
            let next = "let it lead; `bulkhead volume list` there says what it waits for.";
            return refused(what, next);
        }
        if let Some(why) = voters {
            return refused(
                why,
                "bring a voter back, or wait: a second node could lead at once; if they are lost for good, \
                 `bulkhead node force-quorum` first.",
            );
        }
        if self.storage.part_filled && !part_filled {
            let me = self.name_of(self.me);
            let what = format!("{me} was being filled from another node: its store has parts of two times");
            let next = "recover another holder, or restore a backup; if there is neither, say it again with \
                        --even-part-filled, and check every file system.";
            return refused(what, next);
        }
        match mode {
            Mode::Following => Ok(()),
            Mode::Opening | Mode::Remaking | Mode::Taking | Mode::Leading => {
                let what = "its log is being opened, or it is about to lead".to_owned();
                refused(what, "`bulkhead volume list` says how it is; try again then.")
            }
            Mode::Damaged | Mode::Failed => {
                let what = "its own log or store is damaged, and cannot be led with".to_owned();
                refused(what, "recover another holder, or restore a backup.")
            }
        }
    }

    /// Why no guest may run on this node, which does not lead: refused, if another one does; failed, if it
    /// may come to lead (I5).
    pub fn no_guests_here(&self) -> Failure {
        let (pair, me) = (self.pair, self.name_of(self.me));
        let Some(primary) = self.storage.primary.filter(|primary| *primary != self.me) else {
            return Failure { exit: Exit::Failed, ..self.nobody_leads() };
        };
        let name = self.name_of(primary);
        let what = format!("{name} leads the volumes of pair {pair}: their guests run there, not on {me}");
        let next = format!("run the guest on {name}, or have {me} lead: `bulkhead volume promote {me}`.");
        unchanged(Failure::refused(what)).next(next)
    }

    fn check_leads(&self) -> Result<(), Failure> {
        if self.storage.leads {
            return Ok(());
        }
        if let Some(primary) = self.storage.primary.filter(|primary| *primary != self.me) {
            let (name, me) = (self.name_of(primary), self.name_of(self.me));
            let what = format!("{name} leads the volumes of pair {}, not {me}", self.pair);
            return Err(unchanged(Failure::refused(what)).next(format!("run it on {name}.")));
        }
        Err(self.nobody_leads())
    }

    fn nobody_leads(&self) -> Failure {
        let why = self.storage.waits.as_deref().unwrap_or("its holders are agreeing on one");
        let what = format!("nobody leads the volumes of pair {} now: {why}", self.pair);
        let next = "`bulkhead volume wait --for primary` waits for it.";
        unchanged(Failure::refused(what)).next(next)
    }
}

/// What is said where a node has no log.
pub fn no_storage(name: &str) -> Failure {
    let failure = unchanged(Failure::failed(format!("{name} has no log, and so no volumes")));
    failure.next("run it on a node whose configuration has `[local.storage]`, or add it (docs/volumes.md).")
}

/// A volume is not to be called so.
fn misnamed(name: &str, why: &BadName) -> Failure {
    let failure = Failure::usage(format!("a volume cannot be called {name:?}: {why}"));
    unchanged(failure).next("choose another name.")
}

/// Whether something of a volume stays in the read caches; `None`: as of the others.
fn is_cached(name: &str, algorithm: Option<Algorithm>) -> Result<bool, Failure> {
    match algorithm {
        None => Ok(true),
        Some(Algorithm::Off) => Ok(false),
        Some(Algorithm::Lru | Algorithm::Clock | Algorithm::Arc) => {
            let what = format!("{name} has no algorithm of its own: all volumes of a pair share one memory");
            let next = "say it without a volume; of one, say `none` or `pair`.";
            Err(unchanged(Failure::usage(what)).next(next))
        }
    }
}

/// To want this of the guest whose own volume it is.
fn guest_as(volume: Volume, wanted: Wanted) -> Order {
    Order::Guest { volume, guest: wanted.into() }
}

/// To give a volume this seal.
fn seal_as(volume: Volume, seal: &str) -> Result<Order, Failure> {
    let bad = || unchanged(Failure::usage(format!("{seal:?} is no seal")));
    let seal = Seal::parse(seal).ok_or_else(|| bad().next("draw 32 hexadecimal digits."))?;
    Ok(Order::Seal { volume, seal })
}

/// A bound of the bytes at risk.
fn bound(bytes: Option<u64>) -> Result<Option<NonZeroU64>, Failure> {
    let Some(bytes) = bytes else { return Ok(None) };
    match NonZeroU64::new(bytes).filter(|bytes| 4096 <= bytes.get()) {
        Some(bytes) => Ok(Some(bytes)),
        None => {
            let failure = Failure::usage(format!("no write fits a bound of {bytes} bytes"));
            Err(unchanged(failure).next("give it 4 KiB at least, or `none`."))
        }
    }
}

fn unchanged(failure: Failure) -> Failure {
    failure.left("Nothing was changed.")
}

#[cfg(test)]
#[path = "orders_tests.rs"]
pub(crate) mod tests;
