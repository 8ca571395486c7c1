//! What is wrong now, by what a node's status says: a pure function. It sees what its node sees; of volumes
//! and guests the node that leads them sees most, and so they are its own to say.

use crate::cluster::outlook::is_up;
use crate::cluster::status::{Guest, Node, Status};
use crate::failover::room;
use crate::failover::wanted::{Home, Wanted};
use crate::guests::own_volume as own;
use crate::mirror::view::{Policy, State, View, VolumeView};
use crate::output::size;
use bulkhead_core::alert::board::Condition;
use bulkhead_core::alert::kind::Kind;
use bulkhead_core::crc::crc32c;
use std::collections::{BTreeMap, BTreeSet};

/// Names of guests and volumes in one sentence; of more than these the number is said.
const NAMED: usize = 8;

/// What is wrong with somebody, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// With whom.
    pub subject: String,
    /// What.
    pub what: String,
    /// What to do about it.
    pub next: String,
}

/// All that is wrong, the gravest first.
#[must_use]
pub fn conditions(status: &Status) -> BTreeMap<Condition, Words> {
    let mut all = All::default();
    nodes(status, &mut all);
    if let Some(view) = &status.storage {
        volumes(status, view, &mut all);
    }
    guests(status, &mut all);
    lacks(status, &mut all);
    all.0
}

#[derive(Debug, Default)]
struct All(BTreeMap<Condition, Words>);

impl All {
    /// The same thing about the same somebody is one condition, with the words of all.
    fn add(&mut self, kind: Kind, subject: u32, name: &str, what: String, next: &str) {
        let words = Words { subject: name.to_owned(), what, next: next.to_owned() };
        let known = self.0.entry(Condition { kind, subject });
        let add = |before: &mut Words| before.what = format!("{}; {}", before.what, words.what);
        known.and_modify(add).or_insert(words);
    }
}

fn nodes(status: &Status, all: &mut All) {
    for node in &status.nodes {
        let (id, name) = (u32::from(node.id), node.name.as_str());
        if matches!(node.verdict.as_str(), "silent" | "unknown") {
            let what = if node.witness { "the witness" } else { "the node" };
            let next =
                "see whether it has power and network; `bulkhead plan` says what one more loss would mean";
            all.add(Kind::NodeAway, id, name, format!("{what} {name} is not heard"), next);
        }
        if is_up(node) && node.health.as_ref().is_some_and(|health| !health.votes) {
            let what = format!("the witness {name} is heard and does not vote: its card or disk failed");
            all.add(Kind::NoVote, id, name, what, crate::cluster::witnesses::NO_VOTE_NEXT);
        }
        if is_up(node) {
            network(node, all);
        }
        if matches!(node.configuration.as_deref(), Some("differs" | "other-voters")) {
            let what = format!("the site file of {name} says otherwise than this node's");
            let next = "put the newer one on both, and `bulkhead config apply`";
            all.add(Kind::FilesDiffer, id, name, what, next);
        }
    }
}

/// A node that is heard on one network only.
fn network(node: &Node, all: &mut All) {
    let silent: Vec<_> = node.paths.iter().filter(|path| !path.alive).map(|path| path.network).collect();
    let ([network], true) = (silent.as_slice(), 1 < node.paths.len()) else { return };
    let name = &node.name;
    let what = format!("{name} is not heard on network {network}: one more cut, and it is away");
    let next = "look at that network's cables and switches, and at the card of that node";
    let subject = u32::from(node.id) << 8 | u32::from(*network);
    all.add(Kind::NetworkAway, subject, &format!("{name}, network {network}"), what, next);
}

fn volumes(status: &Status, view: &View, all: &mut All) {
    let (me, my_name) = (u32::from(status.node.id), status.node.name.as_str());
    let pair = of_pair(status);
    let of = format!("pair {pair}");
    if nobody_leads(view, me) {
        let why = view.waits.as_deref().unwrap_or("its holders are agreeing on one");
        let what = format!("nobody leads the volumes of {of}, and their guests wait or are down: {why}");
        let next = "`bulkhead volume list` on its nodes says what each of them has";
        all.add(Kind::NobodyLeads, u32::from(pair), &of, what, next);
    }
    match view.scrub.damaged_blocks {
        0 => {}
        count => {
            let what =
                format!("{count} blocks are damaged in the store of {my_name}, and no holder can mend them");
            let next = "`bulkhead volume list --json` has their volumes and places, under `scrub`";
            all.add(Kind::Damaged, me, my_name, what, next);
        }
    }
    if let Some(why) = &view.full {
        let what = format!(
            "the store of {my_name} is full: {why}; the log has room for {}",
            size(view.log.free_bytes)
        );
        all.add(Kind::StoreFull, me, my_name, what, "make room in its file system: it goes on by itself");
    }
    if !view.leads {
        return;
    }
    for holder in view.holders.iter().filter(|holder| !holder.in_sync) {
        let name = status.name_of(holder.node);
        let (what, next) = match holder.removed {
            true => (
                format!("{name} was taken out of the volumes of {of}: they are in one compartment less"),
                format!("`bulkhead volume secondary add {name}` takes it in again"),
            ),
            false => (
                format!("the replica of {of} on {name} is behind: it must not be the only one left"),
                "once heard it is brought up to date by itself; `bulkhead volume list` says how far it is"
                    .to_owned(),
            ),
        };
        all.add(Kind::ReplicaBehind, u32::from(holder.node), &name, what, &next);
    }
    cached(view, pair, all);
}

/// Whether nobody leads, as far as this holder knows. One that missed writes, and that the voters would have
/// lead, knows it, too; one that an operator took out hears of no primary while another holder leads.
fn nobody_leads(view: &View, me: u32) -> bool {
    let is_out = view.holders.iter().any(|holder| u32::from(holder.node) == me && holder.removed);
    let is_stale = view.state == State::Stale && view.primary.is_none() && view.waits.is_some();
    view.state == State::Waiting || (is_stale && !is_out)
}

/// Volumes that are cached in a pair that is resilient (S0-20).
fn cached(view: &View, pair: u16, all: &mut All) {
    let is_cached = |volume: &&VolumeView| volume.wanted == Some(Policy::Back);
    let names: Vec<&str> = view.volumes.iter().filter(is_cached).map(|volume| volume.name.as_str()).collect();
    if view.wanted != Policy::Through || names.is_empty() {
        return;
    }
    let of = format!("pair {pair}");
    let what = format!(
        "{of} is resilient, and of its {} volumes {} cached: {}",
        view.volumes.len(),
        if names.len() == 1 { "one is".to_owned() } else { format!("{} are", names.len()) },
        list(&names)
    );
    let next = "`bulkhead volume mode NAME pair` has it go by the pair's mode";
    all.add(Kind::Cached, u32::from(pair), &of, what, next);
}

/// The guests of this node's pair, where they are led.
fn guests(status: &Status, all: &mut All) {
    let pair = of_pair(status);
    let (subject, of) = (u32::from(pair), format!("pair {pair}"));
    let is_down = |guest: &&Guest| !matches!(guest.state.as_str(), "running" | "off" | "unseen" | "adrift");
    let down: Vec<&Guest> = status.guests.iter().filter(is_down).collect();
    if let Some(first) = down.first() {
        let names: Vec<&str> = down.iter().map(|guest| guest.name.as_str()).collect();
        let what = match names.len() {
            1 if first.why.is_empty() => format!("guest {} is to run and does not", first.name),
            1 => format!("guest {} is to run and does not: {}", first.name, first.why),
            count => format!("{count} guests are to run and do not: {}", list(&names)),
        };
        let next =
            "`bulkhead status` says what each of them waits for; `bulkhead vm log NAME` what it said last";
        all.add(Kind::GuestsDown, subject, &of, what, next);
    }
    silent(status, subject, &of, all);
    crowded(status, all);
    for guest in status.guests.iter().filter(|guest| guest.state == "adrift") {
        let what = format!("guest {} was {}", guest.name, guest.why);
        let next = "`bulkhead vm show NAME` there says whether it runs; if not, `bulkhead vm start NAME` \
                    there, or with --here in this pair, begins it";
        all.add(Kind::GuestsDown, subject, &of, what, next);
    }
    let here = status.me().and_then(|me| Home::of_side(me.side.as_deref()?));
    let Some(here) = here else { return };
    let running = running(status);
    away(status, &running, here, all);
    for (group, members) in groups(&running) {
        let ([_, _, ..], node) = (members.as_slice(), &status.node.name) else { continue };
        let what =
            format!("{} are to be apart, and all run on {node}: its loss takes all of them", list(&members));
        let next = "keep the disks of one of them in another pair: guests run where their volumes are led";
        all.add(Kind::Together, crc32c(group.as_bytes()), group, what, next);
    }
}

/// Guests that run and do not beat (S3-03).
fn silent(status: &Status, subject: u32, of: &str, all: &mut All) {
    let is_silent = |guest: &&Guest| guest.silent_ms.is_some();
    let names: Vec<&str> = status.guests.iter().filter(is_silent).map(|guest| guest.name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let (count, s) = (names.len(), if names.len() == 1 { "" } else { "s" });
    let what = format!("the heartbeat of {count} guest{s} is lost: {}", list(&names));
    let next = "`bulkhead vm console NAME` shows whether it hangs; `lost` of its [heartbeat] says what is to \
                follow, and `bulkhead vm stop NAME --now` and `start` begin it anew";
    all.add(Kind::GuestsSilent, subject, of, what, next);
}

/// Guests that would find no room if this node, which leads, were lost now (S3-16, S3-18).
fn crowded(status: &Status, all: &mut All) {
    let Some(me) = status.me().filter(|_| status.storage.as_ref().is_some_and(|view| view.leads)) else {
        return;
    };
    let guests = room::candidates(status);
    let is_other =
        |node: &&Node| !node.witness && node.pair == me.pair && node.id != me.id && node.room.is_some();
    for node in status.nodes.iter().filter(is_other) {
        let down = room::without(node, &guests, false);
        let Some((_, lacks)) = down.first() else { continue };
        let names: Vec<&str> = down.iter().map(|(guest, _)| *guest).collect();
        let what = format!(
            "if {} is lost, {} would be down: {} has no room for {}, and lacks {} for the first",
            me.name,
            list(&names),
            node.name,
            if names.len() == 1 { "it" } else { "them" },
            room::lacking(lacks)
        );
        let next =
            "stop guests that matter less, give them less, or say more `room` of that node if it has more";
        all.add(Kind::Crowded, u32::from(node.id), &node.name, what, next);
    }
}

/// Guests that run here and belong into the other compartment (S0-19).
fn away(status: &Status, running: &[Running<'_>], here: Home, all: &mut All) {
    let of_home = |home: Option<Home>| -> Vec<&str> {
        running.iter().filter(|(_, guest)| guest.home == home).map(|(name, _)| *name).collect()
    };
    let there = here.other();
    let (guests, own) = (of_home(Some(there)), of_home(Some(here)));
    if guests.is_empty() {
        return;
    }
    let node = &status.node.name;
    let (home, at) = (there.name(), here.name());
    let mut what = match guests.len() {
        1 => format!("guest {} of compartment {home} runs in compartment {at}, on {node}", list(&guests)),
        count => format!(
            "{count} guests of compartment {home} run in compartment {at}, on {node}: {}",
            list(&guests)
        ),
    };
    if !own.is_empty() {
        what = format!("{what}; with {} of compartment {at}: both sets now run there", own.len());
    }
    let next = format!(
        "`bulkhead vm home` takes them home as they run, once compartment {home} is well and in sync"
    );
    all.add(Kind::GuestsAway, u32::from(of_pair(status)), &format!("compartment {home}"), what, &next);
}

/// A guest that runs here, and what is wanted of it.
type Running<'a> = (&'a str, Wanted);

/// All of them. The agent's loop asks for that each second, of thousands of guests.
fn running<'a>(status: &'a Status) -> Vec<Running<'a>> {
    let runs = status.guests.iter().filter(|guest| guest.state == "running");
    let runs: BTreeSet<&str> = runs.map(|guest| guest.name.as_str()).collect();
    let volumes = status.storage.iter().flat_map(|view| &view.volumes);
    let guest = |volume: &'a VolumeView| Some((own::guest(&volume.name)?, volume.guest?));
    volumes.filter_map(guest).filter(|(name, _)| runs.contains(name)).collect()
}

/// Of each group of guests that are to be apart those that run here.
fn groups<'a>(running: &'a [Running<'a>]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut groups = BTreeMap::<&str, Vec<&str>>::new();
    for (name, wanted) in running {
        if let Some(group) = &wanted.apart {
            groups.entry(group.name()).or_default().push(name);
        }
    }
    groups
}

fn lacks(status: &Status, all: &mut All) {
    // A full store is an alert of its own.
    for lack in status.lacks.iter().filter(|lack| lack.what != "store") {
        let next = "docs/status.md says what each of these costs; `bulkhead status` shows whether it is had";
        all.add(Kind::Lacking, crc32c(lack.what.as_bytes()), &lack.what, lack.why.clone(), next);
    }
}

fn of_pair(status: &Status) -> u16 {
    status.me().and_then(|me| me.pair).unwrap_or(0)
}

fn list(names: &[&str]) -> String {
    let shown = names.get(..NAMED).unwrap_or(names).join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
