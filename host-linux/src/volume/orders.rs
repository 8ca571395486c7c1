//! What an operator asks of volumes, judged before the group is asked: a refusal names the node that can do
//! it and what to do next (S4-10, X14; BLACKBOX 3).

use crate::cluster::request::Request;
use crate::failure::{Exit, Failure};
use crate::mirror::view::{Algorithm, HolderView, Mode, View, VolumeView};
use crate::mirror::words::Order;
use crate::nbd::uri::Uri;
use bulkhead_core::id::NodeId;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::mirror::membership;
use bulkhead_core::volume::name::Name;
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
                let bad =
                    |why| unchanged(Failure::usage(format!("a volume cannot be called {name:?}: {why}")));
                Name::new(name).map_err(|why| bad(why).next("choose another name."))?;
                Order::Create { name: name.clone(), blocks: *blocks }
            }
            Request::VolumeResize { name, blocks } => {
                Order::Resize { volume: number(name)?, blocks: *blocks }
            }
            Request::VolumeDelete { name } => Order::Delete { volume: number(name)? },
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
pub(crate) mod tests {
    use super::*;
    use crate::mirror::view::{Policy, State};
    use bulkhead_core::cache::residents;

    /// Two holders; node 1 leads, `me` is asked.
    pub(crate) fn listing(me: u16) -> Listing {
        let holder = |node| HolderView { node, in_sync: true, connected: true, ..HolderView::default() };
        let place = |node: u16, name: &str| {
            let nbd = SocketAddr::from(([10, 0, 1, u8::try_from(node).unwrap()], 10_809));
            Place { node, name: name.into(), nbd: Some(nbd) }
        };
        let volume = VolumeView {
            number: 3,
            name: "vm1".into(),
            uuid: "07070707-0707-4707-8707-070707070707".into(),
            bytes: 10 << 30,
            wanted: None,
            policy: Policy::Back,
            cached: true,
            at_risk_bytes: None,
            backing: "file".into(),
        };
        let view = View {
            mode: if me == 1 { Mode::Leading } else { Mode::Following },
            state: State::Synced,
            epoch: 7,
            leads: me == 1,
            primary: Some(1),
            wanted: Policy::Back,
            policy: Policy::Back,
            holders: vec![holder(1), holder(2)],
            volumes: vec![volume],
            ..View::default()
        };
        let nodes = vec![place(1, "a1"), place(2, "b1")];
        Listing { me, pair: 1, nodes, socket: Some("/run/b/nbd.sock".into()), tls: false, storage: view }
    }

    /// I5: who runs a guest ends it where another node leads, and waits where none does.
    #[test]
    fn whether_another_node_leads_is_told_from_that_none_does() {
        let elsewhere = listing(2).no_guests_here();
        assert_eq!(elsewhere.exit, Exit::Refused);
        assert_eq!(elsewhere.what, "a1 leads the volumes of pair 1: their guests run there, not on b1");
        assert!(
            elsewhere.next.contains("on a1") && elsewhere.next.contains("promote b1"),
            "{}",
            elsewhere.next
        );
        for primary in [None, Some(2)] {
            let mut nowhere = listing(2);
            nowhere.storage.primary = primary;
            let nowhere = nowhere.no_guests_here();
            assert_eq!(nowhere.exit, Exit::Failed, "{}", nowhere.what);
            assert!(nowhere.what.starts_with("nobody leads"), "{}", nowhere.what);
        }
    }

    fn create(name: &str) -> Request {
        Request::VolumeCreate { name: name.into(), blocks: 5 }
    }

    #[test]
    fn the_primary_takes_orders() {
        let all = listing(1);
        let made = Order::Create { name: "vm2".into(), blocks: 5 };
        assert_eq!(all.order(&create("vm2")), Ok(Some(made)));
        let larger = Request::VolumeResize { name: "vm1".into(), blocks: 9 };
        assert_eq!(all.order(&larger), Ok(Some(Order::Resize { volume: Volume(3), blocks: 9 })));
        let gone = Request::VolumeDelete { name: "vm1".into() };
        assert_eq!(all.order(&gone), Ok(Some(Order::Delete { volume: Volume(3) })));
        let mode = |volume: Option<&str>, mode| {
            all.order(&Request::VolumeMode { volume: volume.map(str::to_owned), mode })
        };
        let back = membership::Policy::Back;
        assert_eq!(mode(None, Some(Policy::Back)), Ok(Some(Order::Want(back))));
        let of = |policy| Ok(Some(Order::WantOf { volume: Volume(3), policy }));
        assert_eq!(mode(Some("vm1"), Some(Policy::Back)), of(Some(back)));
        assert_eq!(mode(Some("vm1"), None), of(None));
        assert_eq!(mode(None, None).unwrap_err().exit, Exit::Usage);
        let cache = |volume: Option<&str>, algorithm| {
            all.order(&Request::VolumeCache { volume: volume.map(str::to_owned), algorithm })
        };
        let lru = Some(residents::Algorithm::Lru);
        assert_eq!(cache(None, Some(Algorithm::Lru)), Ok(Some(Order::Cache(lru))));
        assert_eq!(cache(None, Some(Algorithm::Off)), Ok(Some(Order::Cache(None))));
        let of = |is_cached| Ok(Some(Order::CacheOf { volume: Volume(3), is_cached }));
        assert_eq!(
            (cache(Some("vm1"), Some(Algorithm::Off)), cache(Some("vm1"), None)),
            (of(false), of(true))
        );
        assert_eq!(cache(Some("vm1"), Some(Algorithm::Arc)).unwrap_err().exit, Exit::Usage);
        assert_eq!(cache(None, None).unwrap_err().exit, Exit::Usage);
        assert_eq!(all.order(&Request::VolumeList), Ok(None));
        assert_eq!((all.promotion(2), all.promotion(1)), (Ok(Some(NodeId(2))), Ok(None)));
    }

    /// Each refusal says who can do it, or what is waited for.
    #[test]
    fn what_this_node_cannot_do_is_refused_with_what_to_do() {
        let secondary = listing(2);
        let mut orphan = listing(2);
        orphan.storage.primary = None;
        orphan.storage.waits = Some("its log failed".into());
        let mut behind = listing(1);
        behind.storage.holders[1].in_sync = false;
        let unknown = Request::VolumeDelete { name: "vm9".into() };
        let cases = [
            (secondary.order(&create("vm2")).unwrap_err(), Exit::Refused, "run it on a1."),
            (secondary.promotion(1).unwrap_err(), Exit::Refused, "run it on a1."),
            (orphan.order(&create("vm2")).unwrap_err(), Exit::Refused, "wait --for primary"),
            (behind.promotion(2).unwrap_err(), Exit::Refused, "wait --for in-sync"),
            (behind.promotion(9).unwrap_err(), Exit::Usage, "volume show"),
            (listing(1).order(&unknown).unwrap_err(), Exit::Usage, "volume list"),
            (listing(1).order(&create("a b")).unwrap_err(), Exit::Usage, "another name"),
        ];
        for (failure, exit, next) in cases {
            assert_eq!((failure.exit, failure.left.as_str()), (exit, "Nothing was changed."), "{failure:?}");
            assert!(failure.next.contains(next), "{failure:?}");
        }
        let why = orphan.order(&create("vm2")).unwrap_err().what;
        assert!(why.contains("its log failed"), "{why}");
    }

    /// S4-02, S4-12: a node is taken out only if another one has all, or the operator says so.
    #[test]
    fn the_last_secondary_is_taken_out_only_on_purpose() {
        let all = listing(1);
        let remove = |node, yes| all.order(&Request::VolumeSecondaryRemove { node, yes });
        assert_eq!(remove(2, true), Ok(Some(Order::Dismiss(NodeId(2)))));
        assert_eq!(remove(2, false).unwrap_err().exit, Exit::Refused);
        assert_eq!(remove(1, true).unwrap_err().exit, Exit::Refused);
        assert_eq!(remove(9, true).unwrap_err().exit, Exit::Usage);
        let mut three = listing(1);
        three.storage.holders.push(HolderView {
            node: 3,
            in_sync: true,
            connected: true,
            ..HolderView::default()
        });
        let request = Request::VolumeSecondaryRemove { node: 2, yes: false };
        assert_eq!(three.order(&request), Ok(Some(Order::Dismiss(NodeId(2)))));
        let add = Request::VolumeSecondaryAdd { node: 2 };
        assert_eq!(all.order(&add), Ok(Some(Order::Admit(NodeId(2)))));
        assert_eq!(listing(2).order(&add).unwrap_err().exit, Exit::Refused);
        let limit = |bytes| all.order(&Request::VolumeLimit { bytes });
        assert_eq!(limit(Some(4096)), Ok(Some(Order::Bound(NonZeroU64::new(4096)))));
        assert_eq!(limit(None), Ok(Some(Order::Bound(None))));
        assert_eq!(limit(Some(4095)).unwrap_err().exit, Exit::Usage);
    }

    /// X14: who lacks writes is made to lead only where nobody else could.
    #[test]
    fn a_holder_is_recovered_only_where_nobody_who_has_all_is_there() {
        let mut all = listing(2);
        assert!(all.recovery(&[], None, false).unwrap_err().what.contains("a1 leads"));
        all.storage.primary = None;
        assert_eq!(all.recovery(&[], None, false), Ok(()));
        assert!(
            all.recovery(&[1], None, false).unwrap_err().what.contains("a1 has every acknowledged write")
        );
        let voters = Some("too few voters".to_owned());
        assert!(all.recovery(&[], voters, false).unwrap_err().next.contains("bring a voter back"));
        all.storage.part_filled = true;
        assert!(all.recovery(&[], None, false).unwrap_err().what.contains("parts of two times"));
        assert_eq!(all.recovery(&[], None, true), Ok(()));
        all.storage.part_filled = false;
        for mode in [Mode::Damaged, Mode::Failed, Mode::Opening] {
            all.storage.mode = mode;
            assert_eq!(all.recovery(&[], None, false).unwrap_err().exit, Exit::Refused);
        }
    }

    #[test]
    fn a_volume_is_found_on_every_node_of_the_pair() {
        let uris: Vec<_> =
            listing(2).uris("vm1").into_iter().map(|(name, uri)| format!("{name} {uri}")).collect();
        let unix = "b1 nbd+unix:///vm1?socket=/run/b/nbd.sock";
        assert_eq!(uris, ["a1 nbd://10.0.1.1/vm1", "b1 nbd://10.0.1.2/vm1", unix]);
    }
}
