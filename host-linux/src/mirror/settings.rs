//! What an operator wants of a group, from the catalogue to the machine: modes, the bound of what is at risk,
//! who is no secondary, and what stays in memory of what is read (S0-06, S4-02, S4-12, X11).

use super::group::{Group, end};
use super::handle::lock;
use crate::volume::catalogue::{Catalogue, bytes};
use bulkhead_core::holder::machine::Mode;
use bulkhead_core::holder::words::Event;
use bulkhead_core::id::NodeId;
use bulkhead_core::log::batch::Write;
use bulkhead_core::mirror::membership::Policy;
use std::num::NonZeroU64;

/// What the catalogue wants of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    policy: Policy,
    /// In the order of their nodes.
    removed: Vec<NodeId>,
}

impl Asked {
    /// By this catalogue.
    pub fn by(catalogue: &Catalogue) -> Self {
        Self { policy: catalogue.least_policy(), removed: catalogue.group().removed().to_vec() }
    }

    /// Whether a node is no secondary because an operator took it out.
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }
}

impl Group {
    /// The catalogue may say something else now. The machine is told when its step is over.
    pub(super) fn catalogue_changed(&mut self) {
        let catalogue = lock(&self.shared.catalogue);
        let wanted = Asked::by(&catalogue);
        self.shared.store.cache.follow(&catalogue);
        drop(catalogue);
        let before = std::mem::replace(&mut self.wanted, wanted);
        let moved = |node: &NodeId| before.is_removed(*node) != self.wanted.is_removed(*node);
        let both = before.removed.iter().chain(&self.wanted.removed).copied();
        self.moved.extend(both.filter(moved));
        (self.shared.changed)();
    }

    /// Has the machine do what the catalogue wants. Until all of the log can be read, it may say something
    /// else there: whoever waits for more than is wanted loses nothing.
    pub(super) fn follow_catalogue(&mut self) {
        while let Some(node) = self.moved.pop() {
            if self.wanted.is_removed(node) {
                self.fillers.remove(&node);
                self.step(Event::Dismiss(node));
            } else if self.peers.get(&node).is_some_and(|peer| peer.stream.is_some()) {
                self.step(Event::Met(node));
            }
        }
        let is_read = lock(&self.shared.throne).reign().is_readable;
        let is_unread = self.holder.mode() == Mode::Leading && !is_read;
        let policy = if is_unread { Policy::Through } else { self.wanted.policy };
        if self.policy != policy {
            self.policy = policy;
            self.step(Event::Want(policy));
        }
    }

    /// There is a path to another holder, or it can be fed now; unless an operator took it out.
    pub(super) fn meet(&mut self, node: NodeId) {
        if !self.wanted.is_removed(node) {
            self.step(Event::Met(node));
        }
    }

    /// Says what is at risk when this holder begins to lead: nothing that others were in sync with.
    pub(super) fn weigh(&self) {
        let mut risk = lock(&self.shared.risk);
        let me = self.holder.me();
        match &self.decided_on {
            None => risk.clear(),
            Some(Ok(set)) if 1 < set.holders().len() => risk.clear(),
            // It was alone before, and has counted since, unless it was started anew.
            Some(Ok(set)) if set.has(me) => {}
            Some(Ok(_) | Err(_)) => risk.forget(),
        }
    }

    /// Tells guests what is safe, as far as the bound of what is at risk and their volumes' modes let it.
    pub(super) fn tell_safe(&mut self) {
        let Some(primary) = self.holder.primary() else { return };
        let is_alone = primary.chosen().holders().len() < 2;
        let catalogue = lock(&self.shared.catalogue);
        let mut risk = lock(&self.shared.risk);
        if !is_alone {
            risk.clear();
        }
        let max = catalogue.group().at_risk_max.map(NonZeroU64::get);
        let takes = |write: &Write| {
            let size = catalogue.get(write.volume()).map(|record| bytes(record.blocks));
            !is_alone || size.is_none_or(|size| risk.add(write, size, max))
        };
        let is_through = |write: &Write| catalogue.policy(write.volume()) == Policy::Through;
        let done = self.acks.release(self.holder.applied(), takes, is_through);
        drop((catalogue, risk));
        end(done, Ok(()));
    }
}
