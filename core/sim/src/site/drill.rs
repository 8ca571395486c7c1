//! A drill: what follows the loss of a part is forecast as the node that leads sees it, the part is lost, and
//! the outcome is compared (X09; I3, X04, S3-08). The rule is the core's, which the operator's forecast uses.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_core::bug::{Bug, is_planted};
use bulkhead_core::failover::forecast::{Fate, Follows, Voter, Why, decides, fate, follows};
use bulkhead_core::id::{NodeId, Side};
use bulkhead_core::log::batch::Volume;
use bulkhead_core::mirror::primary::Mode;
use bulkhead_core::node::machine::Node;
use bulkhead_core::node::message::Office;
use bulkhead_core::register::voters::Life;

use crate::world::World;

/// What can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A node or a witness.
    Node(NodeId),
    /// All nodes of a side.
    Compartment(Side),
}

/// What is expected of a pair.
#[derive(Clone, Debug)]
pub(super) struct Forecast {
    pub(super) follows: Follows,
    /// Who leads now.
    primary: Option<NodeId>,
    /// Who could lead then.
    heirs: Vec<NodeId>,
    /// What follows for each guest that is to run, and its process now.
    guests: BTreeMap<Volume, (Fate, Option<u64>)>,
}

impl World {
    /// Whatever can be lost, as chance has it.
    pub(super) fn any_part(&mut self) -> Part {
        match self.chance.below(4) {
            0 => Part::Compartment(self.chance.one_of(&[Side::A, Side::B])),
            1 => Part::Node(self.any_witness()),
            _ => {
                let nodes = self.nodes();
                Part::Node(self.chance.one_of(&nodes))
            }
        }
    }

    /// Some witness.
    pub(super) fn any_witness(&mut self) -> NodeId {
        let all: Vec<NodeId> = self.all().into_iter().filter(|node| self.is_witness(*node)).collect();
        self.chance.one_of(&all)
    }

    fn is_witness(&self, node: NodeId) -> bool {
        self.machines[&node].member.side.is_none()
    }

    /// The nodes that are lost with a part.
    pub(super) fn lost_with(&self, part: Part) -> BTreeSet<NodeId> {
        let is_of = |node: &NodeId| match part {
            Part::Node(one) => *node == one,
            Part::Compartment(side) => self.machines[node].member.side == Some(side),
        };
        self.all().into_iter().filter(is_of).collect()
    }

    /// Whether nothing of a pair is about to change: a forecast is for a state, not for a moment.
    pub(super) fn is_steady(&self, pair: usize) -> bool {
        let primaries = self.primaries(pair);
        let is_steady = |node: &NodeId| {
            let primary = self.holder(*node).and_then(|holder| holder.primary());
            let record = self.storage_record(*node);
            primary.is_some_and(|one| matches!(one.mode(), Mode::Steady))
                && record.is_some_and(|record| record.voters.previous.is_none())
        };
        primaries.len() < 2 && primaries.iter().all(is_steady)
    }

    fn storage_record(&self, node: NodeId) -> Option<&bulkhead_core::register::record::Record> {
        let running = self.machines[&node].node.as_deref()?;
        running.post(Office::Storage)?.seat().known()
    }

    /// What follows for a pair, as its node that leads sees it.
    pub(super) fn forecast(&self, pair: usize, lost: &BTreeSet<NodeId>) -> Forecast {
        let primary = self.primaries(pair).first().copied();
        let is_lost = |node| lost.contains(&node);
        let heirs = primary.map(|node| self.heirs(node, lost)).unwrap_or_default();
        let voters = primary.map(|node| self.voters(node)).unwrap_or_default();
        let follows = follows(primary, is_lost, decides(voters, is_lost), !heirs.is_empty());
        let guest = |guest: Volume| {
            let wanted = self.wanted(pair, guest);
            let process = primary.and_then(|node| self.serial(node, guest));
            wanted.is_wanted.then(|| (guest, (fate(follows, wanted.failover), process)))
        };
        Forecast { follows, primary, heirs, guests: self.volumes().filter_map(guest).collect() }
    }

    /// The other holders that have everything, and are heard.
    fn heirs(&self, node: NodeId, lost: &BTreeSet<NodeId>) -> Vec<NodeId> {
        let Some(running) = self.machines[&node].node.as_deref() else { return Vec::new() };
        let Some(primary) = self.holder(node).and_then(|holder| holder.primary()) else { return Vec::new() };
        let members = primary.chosen().holders().iter().map(|member| member.node);
        let could = |other: &NodeId| {
            *other != node && !lost.contains(other) && running.links().verdict(*other).is_alive()
        };
        members.filter(could).collect()
    }

    /// The voters in force on the register of the volumes.
    fn voters(&self, node: NodeId) -> Vec<Voter> {
        let Some(running) = self.machines[&node].node.as_deref() else { return Vec::new() };
        let office = if is_planted(Bug::ForecastOfMaster) { Office::Infra } else { Office::Storage };
        let Some(post) = running.post(office) else { return Vec::new() };
        let record = post.seat().known();
        let set = match record.map(|record| &record.voters) {
            Some(voters) if !is_planted(Bug::ForecastForgetsWitness) => {
                voters.previous.as_ref().unwrap_or(&voters.current)
            }
            Some(_) | None => post.founders(),
        };
        let is_heard =
            |running: &Node, other: NodeId| other == node || running.links().verdict(other).is_alive();
        let counts = |life: Life| life != Life::UNSEEN || is_planted(Bug::ForecastForgetsWitness);
        set.iter()
            .map(|voter| Voter {
                node: voter.node,
                votes: is_heard(running, voter.node) && counts(voter.life),
            })
            .collect()
    }

    /// The power of a part fails, for good.
    pub(super) fn lose(&mut self, lost: &BTreeSet<NodeId>) {
        for node in lost {
            self.loses_power(*node);
        }
        // Who leads has those switched on that are missing (S1-20): not these.
        self.gone.extend(lost);
    }

    /// The machine is off, its guests with it.
    pub(super) fn loses_power(&mut self, node: NodeId) {
        self.power_off(node);
        self.guests_lose_power(node);
    }

    /// Why a pair is not as it was forecast.
    pub(super) fn differs(&self, pair: usize, forecast: &Forecast) -> Result<(), String> {
        let primaries = self.primaries(pair);
        let all = || format!("pair {pair}: {:?} was forecast, heirs {:?}", forecast.follows, forecast.heirs);
        match (forecast.follows, &primaries[..]) {
            (Follows::Nobody(_), []) => {}
            (Follows::GoesOn, [node]) if forecast.primary == Some(*node) => {}
            (Follows::Moves, [node]) if forecast.heirs.contains(node) => {}
            (Follows::Nobody(_) | Follows::GoesOn | Follows::Moves, _) => {
                return Err(format!("{}; {primaries:?} lead", all()));
            }
        }
        let holders = self.holders(pair);
        let process = |guest: Volume| holders.iter().find_map(|node| self.serial(*node, guest));
        let wrong = forecast.guests.iter().find(|(guest, (fate, before))| match fate {
            Fate::Begins => process(**guest).is_none(),
            Fate::GoesOn => process(**guest) != *before,
            Fate::Stays | Fate::Down => process(**guest).is_some(),
        });
        wrong.map_or(Ok(()), |(guest, (fate, before))| {
            let now = process(*guest);
            Err(format!("{}; of guest {} {fate:?}: it ran as {before:?}, and now as {now:?}", all(), guest.0))
        })
    }
}

/// What was reached by a forecast.
pub(super) const fn reached(follows: Follows) -> &'static str {
    match follows {
        Follows::GoesOn => "forecast: goes on",
        Follows::Moves => "forecast: moves",
        Follows::Nobody(Why::NobodyLeads) => "forecast: nobody leads now",
        Follows::Nobody(Why::Stops) => "forecast: stops",
        Follows::Nobody(Why::TooFew) => "forecast: too few voters",
        Follows::Nobody(Why::OnlyThere) => "forecast: only there",
    }
}
