//! What an operator asks of volumes, judged before the group is asked: a refusal names the node that can do
//! it and what to do next (S4-10, X14; BLACKBOX 3).

use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::mirror::view::{HolderView, Policy, View, VolumeView};
use crate::mirror::words::Order;
use crate::nbd::uri::Uri;
use bulkhead_core::id::NodeId;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::mirror::membership;
use bulkhead_core::volume::name::Name;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
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
        let of_place = |place: &Place| Some((place.name.clone(), Uri::tcp(place.nbd?, volume)));
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
            Request::VolumeMode { mode: Policy::Through } => Order::Want(membership::Policy::Through),
            Request::VolumeMode { mode: Policy::Back } => Order::Want(membership::Policy::Back),
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
            | Request::FenceConfirm { .. }
            | Request::VolumeList
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

    fn check_leads(&self) -> Result<(), Failure> {
        let View { leads, primary, waits, .. } = &self.storage;
        if *leads {
            return Ok(());
        }
        if let Some(primary) = primary.filter(|primary| *primary != self.me) {
            let (name, me) = (self.name_of(primary), self.name_of(self.me));
            let what = format!("{name} leads the volumes of pair {}, not {me}", self.pair);
            return Err(unchanged(Failure::refused(what)).next(format!("run it on {name}.")));
        }
        let why = waits.as_deref().unwrap_or("its holders are agreeing on one");
        let what = format!("nobody leads the volumes of pair {} now: {why}", self.pair);
        let next = "`bulkhead volume wait --for primary` waits for it.";
        Err(unchanged(Failure::refused(what)).next(next))
    }
}

/// What is said where a node has no log.
pub fn no_storage(name: &str) -> Failure {
    let failure = unchanged(Failure::failed(format!("{name} has no log, and so no volumes")));
    failure.next("run it on a node whose configuration has `[local.storage]`, or add it (docs/volumes.md).")
}

fn unchanged(failure: Failure) -> Failure {
    failure.left("Nothing was changed.")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::failure::Exit;
    use crate::mirror::view::{Mode, State};

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
        Listing { me, pair: 1, nodes, socket: Some("/run/b/nbd.sock".into()), storage: view }
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
        let back = Request::VolumeMode { mode: Policy::Back };
        assert_eq!(all.order(&back), Ok(Some(Order::Want(membership::Policy::Back))));
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

    #[test]
    fn a_volume_is_found_on_every_node_of_the_pair() {
        let uris: Vec<_> =
            listing(2).uris("vm1").into_iter().map(|(name, uri)| format!("{name} {uri}")).collect();
        let unix = "b1 nbd+unix:///vm1?socket=/run/b/nbd.sock";
        assert_eq!(uris, ["a1 nbd://10.0.1.1/vm1", "b1 nbd://10.0.1.2/vm1", unix]);
    }
}
