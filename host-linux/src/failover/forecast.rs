//! What would follow the loss of a part now, for volumes and guests (X09, S3-08): a pure function of what a
//! node's status says. It mirrors rules of the core and decides nothing.
//!
//! Who leads next is a holder that has every acknowledged write and is heard, while a majority of the voters
//! in force is left; which of several it is, is not known before. Only the node that leads knows what the
//! other holders have: there the forecast is exact, elsewhere it goes by what that node was told.

use super::room::{Candidate, candidates, lacking, without};
use super::wanted::{Policy, Wanted};
use crate::cluster::outlook::{is_up, majority};
use crate::cluster::status::{Node, Status};
use crate::failure::Failure;
use crate::mirror::view::{State, View};
use bulkhead_core::placement::amounts::Shortage;
use serde::Serialize;

/// A part that may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A node or a witness, by its name.
    Node(String),
    /// All nodes of a compartment of this node's pair: `a` or `b`.
    Compartment(String),
}

impl Part {
    /// One that is named by its kind and its name.
    ///
    /// # Errors
    ///
    /// There is no such kind.
    pub fn named(kind: &str, name: &str) -> Result<Self, Failure> {
        match kind {
            "node" | "witness" => Ok(Self::Node(name.to_owned())),
            "compartment" => Ok(Self::Compartment(name.to_owned())),
            _ => {
                let what = format!("nothing of a site is a {kind:?}");
                Err(Failure::usage(what).next("say `node`, `witness` or `compartment`, and its name."))
            }
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(name) => f.write_str(name),
            Self::Compartment(side) => write!(f, "compartment {side}"),
        }
    }
}

/// What would follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// What is lost, as it was named.
    pub lost: String,
    /// The nodes and witnesses that are lost with it.
    pub nodes: Vec<String>,
    /// Who leads the volumes then: one of these.
    pub leads: Vec<String>,
    /// Another node leads than now.
    pub moves: bool,
    /// When that is so, at the latest; 0: it is so already.
    pub within_ms: u64,
    /// Why nobody leads, and what would change that; `null`: somebody does.
    pub because: Option<String>,
    /// Guests that begin on the node that leads then, in their order.
    pub begins: Vec<Begins>,
    /// Guests that go on where they are.
    pub goes_on: Vec<String>,
    /// Guests that are down then.
    pub down: Vec<Down>,
    /// Bytes that were acknowledged and that only what is lost has.
    pub only_there_bytes: u64,
}

/// A guest that begins elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Begins {
    /// Its name.
    pub guest: String,
    /// How it begins.
    pub policy: Policy,
    /// Those with a higher one begin first.
    pub priority: u8,
}

/// A guest that is down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Down {
    /// Its name.
    pub guest: String,
    /// Why, and what would have it run.
    pub why: String,
}

/// What would follow the loss of this part.
///
/// # Errors
///
/// There is no such part, or the node that was asked has no volumes.
pub fn forecast(status: &Status, part: &Part) -> Result<Forecast, Failure> {
    let Some(storage) = &status.storage else {
        let what = format!("{} has no volumes, and so no guests of the site", status.node.name);
        return Err(Failure::failed(what).left("").next("ask a node of the pair that keeps them."));
    };
    let lost = lost(status, part)?;
    let is_lost = |id: u16| lost.iter().any(|node| node.id == id);
    let primary = storage.primary.filter(|primary| !is_lost(*primary));
    let heirs = heirs(status, storage, &is_lost);
    let because = match (storage.primary, primary) {
        (None, _) => Some("nobody leads the volumes now, either: `bulkhead volume list` says why".to_owned()),
        (Some(primary), kept) => why_nobody(status, primary, kept.is_some(), &heirs, &is_lost),
    };
    let leads: Vec<String> = match (&because, primary) {
        (Some(_), _) => Vec::new(),
        (None, Some(primary)) => vec![status.name_of(primary)],
        (None, None) => heirs.iter().map(|node| node.name.clone()).collect(),
    };
    let moves = storage.primary.is_some() && primary.is_none() && because.is_none();
    let guests = candidates(status);
    // Only the node that leads knows what runs there.
    let stays = primary.and_then(|id| status.find(id)).map(|node| (node, storage.leads));
    let crowded: Vec<(&Node, &str, Shortage)> = stays
        .into_iter()
        .chain(heirs.iter().filter(|_| moves).map(|heir| (*heir, false)))
        .flat_map(|(node, runs)| {
            without(node, &guests, runs).into_iter().map(move |(of, why)| (node, of, why))
        })
        .collect();
    let (mut begins, mut goes_on, mut down) = (Vec::new(), Vec::new(), Vec::new());
    for Candidate { name: guest, wanted: Wanted { policy, priority, .. }, .. } in guests.iter().cloned() {
        let no_room = crowded.iter().find(|(_, other, _)| *other == guest).map(|(node, _, lacks)| {
            format!("there is no room for it on {}, which lacks {}", node.name, lacking(lacks))
        });
        let why = match (&because, moves, policy) {
            (Some(_), _, _) => Some("its volumes are led by nobody".to_owned()),
            (None, true, Policy::Stay) => Some("its policy is `stay`: an operator starts it".to_owned()),
            (None, false, _) | (None, true, Policy::Restart | Policy::Resume) => no_room,
        };
        match why {
            Some(why) => down.push(Down { guest, why }),
            None if moves => begins.push(Begins { guest, policy, priority }),
            None => goes_on.push(guest),
        }
    }
    let only_there = heirs.is_empty() && storage.primary.is_some_and(is_lost);
    Ok(Forecast {
        lost: part.to_string(),
        nodes: lost.iter().map(|node| node.name.clone()).collect(),
        leads,
        moves,
        within_ms: if moves { status.takeover_ms } else { 0 },
        because,
        begins,
        goes_on,
        down,
        only_there_bytes: if only_there { storage.at_risk_bytes.unwrap_or(0) } else { 0 },
    })
}

/// All parts of this node's pair, and the witnesses.
#[must_use]
pub fn parts(status: &Status) -> Vec<Part> {
    let pair = status.me().and_then(|me| me.pair);
    let of_pair = |node: &&Node| node.pair == pair || node.witness;
    let nodes = status.nodes.iter().filter(of_pair).map(|node| Part::Node(node.name.clone()));
    let mut sides: Vec<&str> = status
        .nodes
        .iter()
        .filter(|node| node.pair == pair)
        .filter_map(|node| node.side.as_deref())
        .collect();
    sides.sort_unstable();
    sides.dedup();
    // One with a single node is that node.
    let has_many = |side: &&str| {
        let of_side = |node: &&Node| node.pair == pair && node.side.as_deref() == Some(*side);
        1 < status.nodes.iter().filter(of_side).count()
    };
    let sides = sides.into_iter().filter(has_many).map(|side| Part::Compartment(side.to_owned()));
    nodes.chain(sides).collect()
}

/// The nodes that are lost with a part.
fn lost<'a>(status: &'a Status, part: &Part) -> Result<Vec<&'a Node>, Failure> {
    let pair = status.me().and_then(|me| me.pair);
    let is_of = |node: &&Node| match part {
        Part::Node(name) => node.name == *name,
        Part::Compartment(side) => node.pair == pair && node.side.as_deref() == Some(side),
    };
    let lost: Vec<&Node> = status.nodes.iter().filter(is_of).collect();
    if lost.is_empty() {
        let names: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        let what = format!("this site has no {part}");
        let next = format!("its nodes are {}; its compartments a and b.", names.join(", "));
        return Err(Failure::usage(what).next(next));
    }
    Ok(lost)
}

/// The holders that could lead then.
fn heirs<'a>(status: &'a Status, storage: &View, is_lost: &dyn Fn(u16) -> bool) -> Vec<&'a Node> {
    // A node that follows knows of itself what the voters know, and of others what it was told.
    let is_synced_here = |id: u16| id == status.node.id && storage.state == State::Synced;
    let has_all = |id: u16| {
        let holder = storage.holders.iter().find(|holder| holder.node == id);
        holder.is_some_and(|holder| (holder.in_sync || is_synced_here(id)) && !holder.removed)
    };
    let could = |node: &&Node| {
        is_up(node) && has_all(node.id) && !is_lost(node.id) && storage.primary != Some(node.id)
    };
    status.nodes.iter().filter(could).collect()
}

/// Why nobody leads then; `None`: somebody does.
fn why_nobody(
    status: &Status,
    primary: u16,
    is_primary_left: bool,
    heirs: &[&Node],
    is_lost: &dyn Fn(u16) -> bool,
) -> Option<String> {
    let pair = status.pairs.iter().find(|pair| Some(pair.pair) == status.me().and_then(|me| me.pair))?;
    let name = status.name_of(primary);
    let decides = majority(pair, &status.nodes, |node| !is_lost(node.id));
    match (is_primary_left, decides) {
        (true, true) => None,
        (true, false) => Some(format!("{name} stops: too few voters are left to renew its lease")),
        (false, false) => Some(format!("too few voters are left to let another node than {name} lead")),
        (false, true) if heirs.is_empty() => Some(format!(
            "no other node that is heard has every acknowledged write: {name} must come back, or an operator \
             decides (`bulkhead volume recover`)"
        )),
        (false, true) => None,
    }
}
