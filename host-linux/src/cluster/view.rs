//! The status of a node: what the machines know, as [`super::status`] says it.

use super::outlook::outlook;
use super::pressure::Lack;
use super::status::{
    API_VERSION, Controller, Counters, Guest, Lacking, Node as NodeStatus, NodeName, Pair, PathState,
    Profile, Resource, Room, Site, State, Status, Voter as VoterStatus,
};
use super::transport::Counts;
use super::witnesses::{Witnesses, shown};
use super::words;
use crate::alerts::raised::Alert;
use crate::mirror::view::{self as mirror, View};
use crate::site_config::value::{site_text, time};
use crate::site_config::{Duty, Member, SiteConfig, check::letter};
use bulkhead_core::id::{NodeId, PairId, Path};
use bulkhead_core::monitor::pair::Role;
use bulkhead_core::node::machine::Node;
use bulkhead_core::node::message::Office;
use bulkhead_core::node::post::Post;
use bulkhead_core::node::settings::infra_register;
use bulkhead_core::register::acceptor::Mode;
use bulkhead_core::register::record::Record;
use bulkhead_core::register::voters::{Life, Set, Voter, Voters};
use bulkhead_core::time::{Instant, micros};
use std::time::Duration;

/// What only the shell knows.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// The configuration.
    pub config: &'a SiteConfig,
    /// When the agent started.
    pub started: Instant,
    /// What it did not get.
    pub lacks: &'a [Lack],
    /// The last error.
    pub last_error: Option<&'a str>,
    /// What both networks saw.
    pub counts: [Counts; 2],
    /// How long a takeover takes at most.
    pub takeover: Duration,
    /// The boot profile in force.
    pub profile: Option<Profile>,
    /// The infrastructure resources.
    pub resources: Vec<Resource>,
    /// The mirror group of its pair.
    pub storage: Option<View>,
    /// The guests of its volumes.
    pub guests: Vec<Guest>,
    /// How the witnesses are.
    pub witnesses: &'a Witnesses,
    /// What is wrong and stays so.
    pub alerts: Vec<Alert>,
}

/// How things are at `now`.
pub fn status(node: &Node, now: Instant, around: &Surroundings<'_>) -> Status {
    let config = around.config;
    let nodes: Vec<NodeStatus> =
        config.members.iter().map(|member| node_status(node, now, around, member)).collect();
    let infra = node.post(Office::Infra);
    let pairs = match infra {
        Some(post) => vec![pair(node, post, now, config)],
        None => witnessed(node, now, config),
    };
    let mut outcome = outlook(&pairs, &nodes, &format!("within {}", time(around.takeover)));
    if infra.is_none() {
        (outcome.state, outcome.summary) = witness_summary(node, config, &nodes);
        // Nodes tell a witness nothing of their roles: it cannot know what would happen.
        outcome.parts.clear();
    }
    let mut is_mirrored = true;
    if let (Some(view), Some(me)) = (&around.storage, config.me()) {
        let line = view.line(me.duty.pair().0, |node| config.name_of(NodeId(node)));
        outcome = outcome.beside(view.state, &line);
        is_mirrored = view.state == mirror::State::Synced;
    }
    let left = |post: &Post| post.seat().left(now).map(millis);
    Status {
        api_version: API_VERSION.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        protected: match infra {
            Some(_) => {
                let survives = outcome.parts.iter().all(|part| part.survives);
                is_mirrored && survives && outcome.state != State::Critical
            }
            None => outcome.state == State::Ok,
        },
        summary: outcome.summary,
        state: outcome.state,
        site: Site {
            id: site_text(config.site),
            name: config.site_name.clone(),
            digest: config.digest_text(),
        },
        node: name(config, config.local.node),
        role: infra.map_or("witness", |post| post.acting(now).name()).into(),
        epoch: infra.map_or(0, |post| epoch(node, post)),
        lease_left_ms: infra.and_then(left),
        reason: infra.map_or_else(|| "it only votes".into(), |post| why(config, post)),
        pairs,
        controller: controller(node, now, config),
        voter: voter(node),
        profile: around.profile.clone(),
        resources: around.resources.clone(),
        storage: around.storage.clone(),
        guests: around.guests.clone(),
        alerts: around.alerts.clone(),
        nodes,
        outlook: outcome.parts,
        takeover_ms: u64::try_from(around.takeover.as_millis()).unwrap_or(u64::MAX),
        lacks: around
            .lacks
            .iter()
            .map(|lack| Lacking { what: lack.what.into(), why: lack.why.clone() })
            .collect(),
        last_error: around.last_error.map(str::to_owned),
        counters: counters(node, around.counts),
        uptime_ms: millis(now.since(around.started)),
    }
}

fn millis(duration: Duration) -> u64 {
    micros(duration) / 1000
}

fn name(config: &SiteConfig, node: NodeId) -> NodeName {
    NodeName { id: node.0, name: config.name_of(node) }
}

fn why(config: &SiteConfig, post: &Post) -> String {
    match post.is_barred() {
        true => "the operator stopped it".into(),
        false => words::reason(config, post.office(), post.pair().reason()),
    }
}

/// Who acts as master at this instant, as far as this node knows: itself only while its lease holds.
fn acting_master(node: &Node, post: &Post, now: Instant) -> Option<NodeId> {
    let me = node.member().node;
    match (post.pair().master(), post.acting(now)) {
        (Some(master), role) if master == me => (role == Role::Master).then_some(me),
        (master, _) => master,
    }
}

/// The newest epoch this node knows of: from its own reading of the register, or from what the master says.
fn epoch(node: &Node, post: &Post) -> u64 {
    let others = post.pair().master().filter(|master| *master != node.member().node);
    let said = others.and_then(|master| post.pair().said(master)).map_or(0, |saying| saying.epoch.0);
    post.epoch().0.max(said)
}

/// The voters of a set that the core does not count yet, as far as this node can know: those that were never
/// seen, and itself when the record names another life of its state.
fn uncounted(node: &Node, set: &Set) -> Vec<u16> {
    let me = node.voter().map(|voter| (node.member().node, voter.life()));
    let is_uncounted = |voter: &&Voter| {
        voter.life == Life::UNSEEN || me.is_some_and(|(me, life)| voter.node == me && voter.life != life)
    };
    set.iter().filter(is_uncounted).map(|voter| voter.node.0).collect()
}

/// Who decides on a record. While voters are changed, both sets must agree: until that is over, the old one
/// alone can keep a successor out.
pub(super) const fn in_force(voters: &Voters) -> &Set {
    match &voters.previous {
        Some(previous) => previous,
        None => &voters.current,
    }
}

/// Who votes on a register by this record, and whose votes do not count yet.
pub(super) fn in_force_on(node: &Node, record: &Record) -> (Vec<u16>, Vec<u16>) {
    let voters = in_force(&record.voters).iter().map(|voter| voter.node.0).collect();
    (voters, uncounted(node, &record.voters.current))
}

fn pair(node: &Node, post: &Post, now: Instant, config: &SiteConfig) -> Pair {
    let founders: Vec<u16> = post.founders().iter().map(|voter| voter.node.0).collect();
    let known = post.seat().known().map(|record| in_force_on(node, record));
    let (voters, uncounted) = known.unwrap_or_else(|| (founders.clone(), Vec::new()));
    Pair {
        pair: node.member().pair.0,
        master: acting_master(node, post, now).map(|master| name(config, master)),
        epoch: epoch(node, post),
        uncounted,
        reduced: voters != founders,
        voters,
    }
}

/// The pairs of a witness, as its own vote shows them: to whom it lent their registers.
fn witnessed(node: &Node, now: Instant, config: &SiteConfig) -> Vec<Pair> {
    let served = node.settings().members.iter().filter(|member| member.side.is_some());
    let mut pairs: Vec<_> =
        served.map(|member| member.pair).filter(|pair| node.member().serves(*pair)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs.into_iter().filter_map(|pair| lent(node, pair, now, config)).collect()
}

fn lent(node: &Node, pair: PairId, now: Instant, config: &SiteConfig) -> Option<Pair> {
    let register = infra_register(pair);
    let voter = node.voter()?;
    let record = voter.accepted(register)?;
    let voters: Vec<u16> = in_force(&record.voters).iter().map(|voter| voter.node.0).collect();
    let founders = node.settings().founders(pair).ok()?;
    Some(Pair {
        pair: pair.0,
        master: voter.lease(now, register).map(|lease| name(config, lease.holder)),
        epoch: record.epoch.0,
        uncounted: uncounted(node, &record.voters.current),
        reduced: voters.len() != founders.iter().count(),
        voters,
    })
}

fn controller(node: &Node, now: Instant, config: &SiteConfig) -> Controller {
    let Some(post) = node.post(Office::Controller) else {
        let reason = "a witness does not follow the controller".into();
        return Controller { node: None, epoch: 0, lease_left_ms: None, reason };
    };
    Controller {
        node: acting_master(node, post, now).map(|master| name(config, master)),
        epoch: epoch(node, post),
        lease_left_ms: post.seat().left(now).map(millis),
        reason: why(config, post),
    }
}

fn voter(node: &Node) -> VoterStatus {
    let Some(voter) = node.voter() else { return VoterStatus { mode: "none".into(), life: 0, dropped: 0 } };
    let mode = match voter.mode() {
        Mode::Voting => "voting",
        Mode::Failed => "failed",
    };
    VoterStatus { mode: mode.into(), life: voter.life().0, dropped: voter.dropped() }
}

fn node_status(node: &Node, now: Instant, around: &Surroundings<'_>, member: &Member) -> NodeStatus {
    let is_me = member.id == around.config.local.node;
    let (pair, side) = match member.duty {
        Duty::Witness { .. } => (None, None),
        Duty::Compartment { pair, side, .. } => (Some(pair.0), Some(letter(side).to_owned())),
    };
    let post = node.post(Office::Infra);
    let role = match (is_me, member.duty) {
        (_, Duty::Witness { .. }) => "witness",
        (true, Duty::Compartment { .. }) => post.map_or("unknown", |post| post.acting(now).name()),
        (false, Duty::Compartment { .. }) => {
            let said = post.and_then(|post| post.pair().said(member.id));
            said.map_or("unknown", |said| said.role.name())
        }
    };
    let verdict = node.links().verdict(member.id);
    let paths = Path::ALL.iter().filter_map(|path| path_state(node, now, member.id, *path));
    NodeStatus {
        id: member.id.0,
        name: member.name.clone(),
        witness: member.duty.is_witness(),
        pair,
        side,
        voter: member.voter,
        verdict: if is_me { "self" } else { words::verdict(verdict) }.into(),
        configuration: node.compared(member.id).map(|found| words::compared(found).to_owned()),
        room: member.room.map(|room| Room { memory_mib: room.memory, processors: room.processors }),
        role: role.into(),
        paths: paths.collect(),
        silences: node.links().silences(member.id),
        health: match is_me && member.duty.is_witness() {
            true => Some(shown(&node.health(now), Duration::ZERO)),
            false => around.witnesses.show(now, member.id),
        },
    }
}

fn path_state(node: &Node, now: Instant, of: NodeId, path: Path) -> Option<PathState> {
    let found = node.links().path(of, path)?;
    let silence = node.settings().timers.silence;
    Some(PathState {
        network: match path {
            Path::One => 1,
            Path::Two => 2,
        },
        heard_ms: found.heard.map(|heard| millis(now.since(heard))),
        round_trip_us: found.round_trip.map(micros),
        loss_permille: found.loss_permille,
        alive: found.heard.is_some_and(|heard| now.since(heard) <= silence),
    })
}

/// What a witness can answer: whether those it votes for can be heard.
fn witness_summary(node: &Node, config: &SiteConfig, nodes: &[NodeStatus]) -> (State, String) {
    let failed = node.voter().is_none_or(|voter| voter.mode() == Mode::Failed);
    let own = *node.member();
    let pair = match own.pair {
        PairId::EVERY => "every pair".to_owned(),
        PairId(number) => format!("pair {number}"),
    };
    let serves = |node: &NodeStatus| node.pair.is_some_and(|pair| own.serves(PairId(pair)));
    let silent: Vec<&str> = nodes
        .iter()
        .filter(|node| serves(node) && !matches!(node.verdict.as_str(), "up" | "slow"))
        .map(|node| node.name.as_str())
        .collect();
    let me = config.name_of(config.local.node);
    match (failed, silent.as_slice()) {
        (true, _) => (State::Critical, format!("NOT PROTECTED: {me} cannot vote: its disk failed")),
        (false, []) => (State::Ok, format!("{me} votes for {pair} and hears all its nodes")),
        (false, silent) => {
            (State::Warning, format!("{me} votes for {pair}, but does not hear {}", silent.join(", ")))
        }
    }
}

fn counters(node: &Node, counts: [Counts; 2]) -> Counters {
    let [one, two] = counts;
    let drops = node.links().drops();
    let sum = |a: u32, b: u32| u64::from(a).saturating_add(u64::from(b));
    Counters {
        received: one.received.saturating_add(two.received),
        sent: one.sent.saturating_add(two.sent),
        bytes_sent: one.bytes_sent.saturating_add(two.bytes_sent),
        unsent: one.unsent.saturating_add(two.unsent),
        oversize: one.oversize.saturating_add(two.oversize),
        foreign: sum(drops.not_for_us, drops.stranger),
        not_authentic: drops.not_authentic.into(),
        repeated: sum(drops.repeated, drops.too_late),
        malformed: sum(drops.malformed, drops.not_a_frame),
        no_common_version: drops.no_common_version.into(),
    }
}
