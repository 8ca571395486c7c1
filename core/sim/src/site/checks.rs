//! What must never happen to guests, by what the world knows, not by what a node's table says of itself; and
//! what must be so when nothing is wrong (I5, V23; S3-04, S3-08, S3-14).

use bulkhead_core::id::NodeId;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::node::message::Office;
use bulkhead_core::volume::guest::Failover;

use super::Service;
use super::service::AT_ONCE;
use crate::world::World;

impl World {
    /// Whether a node holds the register of its pair's volumes at this very instant.
    fn holds_volumes(&self, node: NodeId) -> bool {
        let machine = &self.machines[&node];
        let post = machine.node.as_deref().and_then(|running| running.post(Office::Storage));
        post.is_some_and(|post| post.seat().holds(machine.clock.at(self.now)).is_some())
    }

    /// A node begins a guest: it leads, the guest is wanted, and nothing more important waits that could
    /// begin (S3-04).
    pub(super) fn may_begin(&mut self, node: NodeId, guest: Volume) {
        let pair = self.pair_of(node);
        let wanted = self.wanted(pair, guest);
        if let Some(why) = self.may_not_begin(node, guest) {
            let priority = wanted.priority;
            let text = format!("n{} begins guest {} of priority {priority}, {why}", node.0, guest.0);
            self.oracle.violated(self.now, text);
        }
    }

    fn may_not_begin(&self, node: NodeId, guest: Volume) -> Option<String> {
        let pair = self.pair_of(node);
        let wanted = self.wanted(pair, guest);
        let service = self.machines[&node].hosted.service.as_deref()?;
        if !self.holds_volumes(node) {
            return Some(String::from("and does not lead its volumes"));
        }
        if !wanted.is_wanted {
            return Some(String::from("which is not to run, by what was acknowledged"));
        }
        if AT_ONCE <= service.starting.len() {
            return Some(format!("while {} others are being begun", service.starting.len()));
        }
        let before = self.volumes().find(|other| {
            let its = self.wanted(pair, *other);
            let matters_more = its.is_wanted && wanted.priority < its.priority && *other != guest;
            matters_more && self.could_begin(node, service, *other)
        });
        before.map(|other| format!("while guest {} waits, which is more important", other.0))
    }

    /// Whether a guest does not run here, and nothing that was seen in this reign says why.
    fn could_begin(&self, node: NodeId, service: &Service, guest: Volume) -> bool {
        let hosted = &self.machines[&node].hosted;
        let known = service.starting.contains(&guest)
            || service.failed.contains(&guest)
            || service.begun.contains(&guest)
            || hosted.processes.contains_key(&guest)
            || hosted.ended.contains(&guest);
        !known && self.wanted(self.pair_of(node), guest).failover != Failover::Stay
    }

    /// A guest is let run on a node: under a lease that holds, and nowhere else (I5).
    pub(super) fn may_run(&mut self, node: NodeId, guest: Volume) {
        if !self.holds_volumes(node) {
            let text = format!("guest {} runs on n{}, which does not hold its volumes", guest.0, node.0);
            self.oracle.violated(self.now, text);
        }
        let others = self.holders(self.pair_of(node)).into_iter().filter(|other| *other != node);
        let second = others.into_iter().find(|other| self.acts(*other, guest));
        if let Some(other) = second {
            let text = format!("guest {} runs on n{} and on n{}", guest.0, other.0, node.0);
            self.oracle.violated(self.now, text);
        }
    }

    /// A node holds the volumes of its pair at this instant: no guest of them runs elsewhere (I5, V23).
    pub(crate) fn none_runs_elsewhere(&mut self, node: NodeId) {
        let members = &self.whole(node).members;
        let is_late = |other: &&NodeId| **other != node && self.now < self.machines[*other].hosted.acts_until;
        if let Some(other) = members.iter().find(is_late).copied() {
            let text = format!("n{} holds the volumes while guests run by them on n{}", node.0, other.0);
            self.oracle.violated(self.now, text);
        }
    }

    /// Why the guests of a pair are not as they should be when nothing is wrong: one node leads, and all that
    /// are to run do so there.
    pub(super) fn guests_are_well(&self, pair: usize) -> Result<(), String> {
        let [node] = self.primaries(pair)[..] else {
            return Err(format!("{:?} lead pair {pair}", self.primaries(pair)));
        };
        if self.leads_settled(node).is_none() {
            return Err(format!("n{} does not know yet all of pair {pair}", node.0));
        }
        let left = self.volumes().find(|guest| {
            let wanted = self.wanted(pair, *guest);
            let may_be_down = wanted.failover == Failover::Stay || !wanted.is_wanted;
            let has_ended = self.machines[&node].hosted.ended.contains(guest);
            !may_be_down && !has_ended && !self.acts(node, *guest)
        });
        match left {
            Some(guest) => {
                let hosted = &self.machines[&node].hosted;
                let life = hosted.service.as_deref().and_then(|service| {
                    service.table.guests().find(|(of, _)| *of == guest).map(|(_, life)| life.mode().name())
                });
                Err(format!("guest {} of pair {pair} is left down on n{}: {life:?}", guest.0, node.0))
            }
            None => Ok(()),
        }
    }
}
