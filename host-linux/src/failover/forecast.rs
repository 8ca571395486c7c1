//! What would follow the loss of a part now, for volumes and guests (X09, S3-08): a pure function of what a
//! node's status says. The rule is the core's (`bulkhead_core::failover::forecast`), and decides nothing.
//!
//! Who leads next is a holder that has every acknowledged write and is heard, while a majority of the voters
//! in force is left; which of several it is, is not known before. Only the node that leads knows what the
//! other holders have: there the forecast is exact, elsewhere it goes by what that node was told.

use super::room::{Candidate, candidates, lacking, without};
use super::wanted::{Policy, Wanted};
use crate::cluster::outlook::{is_up, votes};
use crate::cluster::status::{Node, Status};
use crate::failure::Failure;
use crate::mirror::view::{State, View};
use bulkhead_core::failover::forecast::{Fate, Follows, Voter, Why, decides, fate, follows};
use bulkhead_core::id::NodeId;
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
    let heirs = heirs(status, storage, &is_lost);
    let primary = storage.primary.map_or_else(String::new, |primary| status.name_of(primary));
    let is_gone = |node: NodeId| is_lost(node.0);
    let decides = decides(voters(status, storage), is_gone);
    let then = follows(storage.primary.map(NodeId), is_gone, decides, !heirs.is_empty());
    let because = why_nobody(then, &primary);
    let leads: Vec<String> = match then {
        Follows::Nobody(_) => Vec::new(),
        Follows::GoesOn => vec![primary],
        Follows::Moves => heirs.iter().map(|node| node.name.clone()).collect(),
    };
    let moves = then == Follows::Moves;
    let guests = candidates(status);
    let crowded = crowded(status, storage, then, &heirs, &guests);
    let (mut begins, mut goes_on, mut down) = (Vec::new(), Vec::new(), Vec::new());
    for Candidate { name: guest, wanted: Wanted { policy, priority, .. }, .. } in guests.iter().cloned() {
        let no_room = || {
            let (node, _, lacks) = crowded.iter().find(|(_, other, _)| *other == guest)?;
            Some(format!("there is no room for it on {}, which lacks {}", node.name, lacking(lacks)))
        };
        let fate = fate(then, policy.into());
        let why = match fate {
            Fate::GoesOn | Fate::Begins => no_room(),
            Fate::Stays => Some("its policy is `stay`: an operator starts it".to_owned()),
            Fate::Down => Some("its volumes are led by nobody".to_owned()),
        };
        match why {
            Some(why) => down.push(Down { guest, why }),
            None if fate == Fate::Begins => begins.push(Begins { guest, policy, priority }),
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

/// The guests for which there is no room on a node that leads then, that node, and what it lacks.
fn crowded<'a>(
    status: &'a Status,
    storage: &View,
    then: Follows,
    heirs: &[&'a Node],
    guests: &'a [Candidate],
) -> Vec<(&'a Node, &'a str, Shortage)> {
    // Only the node that leads knows what runs there.
    let leads: Vec<(&Node, bool)> = match then {
        Follows::Nobody(_) => Vec::new(),
        Follows::GoesOn => {
            let primary = storage.primary.and_then(|primary| status.find(primary));
            primary.map(|node| (node, storage.leads)).into_iter().collect()
        }
        Follows::Moves => heirs.iter().map(|heir| (*heir, false)).collect(),
    };
    let on = |(node, runs)| without(node, guests, runs).into_iter().map(move |(of, lacks)| (node, of, lacks));
    leads.into_iter().flat_map(on).collect()
}

/// The holders that could lead then; those beside who leads now come first, as they ask first (S0-08).
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
    let mut heirs: Vec<&Node> = status.nodes.iter().filter(could).collect();
    let side = storage.primary.and_then(|primary| status.find(primary)).map(|primary| &primary.side);
    heirs.sort_by_key(|node| Some(&node.side) != side);
    heirs
}

/// The voters in force on the register of the volumes. What a node of a release before says of them is not
/// there: then they are taken for those of the pair's other register, as they are nearly always.
fn voters(status: &Status, storage: &View) -> Vec<Voter> {
    let pair = status.pairs.iter().find(|pair| Some(pair.pair) == status.me().and_then(|me| me.pair));
    let of_pair = || pair.map(|pair| (pair.voters.as_slice(), pair.uncounted.as_slice()));
    let (all, uncounted) = match storage.voters.is_empty() {
        true => of_pair().unwrap_or_default(),
        false => (storage.voters.as_slice(), storage.uncounted.as_slice()),
    };
    let is_heard = |id: u16| status.nodes.iter().any(|node| node.id == id && votes(node));
    let voter = |id: &u16| Voter { node: NodeId(*id), votes: is_heard(*id) && !uncounted.contains(id) };
    all.iter().map(voter).collect()
}

/// Why nobody leads then; `None`: somebody does.
fn why_nobody(then: Follows, primary: &str) -> Option<String> {
    match then {
        Follows::GoesOn | Follows::Moves => None,
        Follows::Nobody(Why::NobodyLeads) => {
            Some("nobody leads the volumes now, either: `bulkhead volume list` says why".to_owned())
        }
        Follows::Nobody(Why::Stops) => {
            Some(format!("{primary} stops: too few voters are left to renew its lease"))
        }
        Follows::Nobody(Why::TooFew) => {
            Some(format!("too few voters are left to let another node than {primary} lead"))
        }
        Follows::Nobody(Why::OnlyThere) => Some(format!(
            "no other node that is heard has every acknowledged write: {primary} must come back, or an \
             operator decides (`bulkhead volume recover`)"
        )),
    }
}
