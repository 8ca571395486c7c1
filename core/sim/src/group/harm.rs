//! What can happen to the disks of a holder beyond a power cut: rot, lost and misdirected writes, an empty
//! disk, a flush that fails once, a store without room (F3 to F5, F7, F11, F12, F14). Never to the only one
//! that has what was acknowledged: that no design survives.

use bulkhead_core::holder::machine::{Holder, Mode};
use bulkhead_core::id::NodeId;
use bulkhead_core::log::batch::Header;
use bulkhead_core::log::ring::BLOCKS_MIN;
use bulkhead_core::log::superblock::copy_of;
use bulkhead_core::log::{BLOCK_LEN, Seq};
use bulkhead_core::mirror::primary::{self, Primary};
use bulkhead_core::node::message::Office;

use super::drive::{Cell, Drive};
use super::start::last_header;
use crate::world::World;

impl World {
    /// Whether another holder leads at this instant, and so has everything.
    pub(crate) fn leads_elsewhere(&self, node: NodeId) -> bool {
        self.leader_beside(node).is_some()
    }

    fn leader_beside(&self, node: NodeId) -> Option<&Primary> {
        self.holders(self.pair_of(node)).into_iter().filter(|other| *other != node).find_map(|other| {
            let machine = &self.machines[&other];
            let post = machine.node.as_ref().and_then(|running| running.post(Office::Storage));
            let holds = post.and_then(|post| post.seat().holds(machine.clock.at(self.now))).is_some();
            let leads = self.holder(other).filter(|holder| holds && holder.mode() == Mode::Leading);
            leads.and_then(Holder::primary)
        })
    }

    /// Whether another holder leads at this instant, and neither counts on this one nor is about to.
    fn is_spare(&self, node: NodeId) -> bool {
        self.leader_beside(node).is_some_and(|primary| {
            let is_member = primary.chosen().holders().iter().any(|one| one.node == node);
            !is_member && matches!(primary.mode(), primary::Mode::Steady)
        })
    }

    /// A flush will fail, or the store has no room, or has room again.
    pub(crate) fn bad_flush_of_group(&mut self, node: NodeId) {
        if !self.stores_on(node) {
            return;
        }
        let what = self.chance.below(4);
        let Some(machine) = self.machines.get_mut(&node) else { return };
        match what {
            0 => machine.group.is_full = !machine.group.is_full,
            1 => machine.group.keep_fails = true,
            _ => machine.group.flush_fails = true,
        }
    }

    /// All holders lose power at once; one is back soon (F17).
    pub(crate) fn all_lose_power(&mut self) {
        let holders: Vec<NodeId> = (0..self.groups.len()).flat_map(|pair| self.holders(pair)).collect();
        holders.iter().for_each(|node| self.power_off(*node));
        let back = self.chance.one_of(&holders);
        let at = self.now + self.chance.between(10_000, 500_000);
        self.schedule(at, crate::world::Due::PowerOn { node: back });
        self.oracle.reached.insert("all lost power");
    }

    /// A holder that stops finds something wrong with its log when it starts.
    pub(crate) fn harm(&mut self, node: NodeId) {
        let is_needed = !self.leads_elsewhere(node);
        if is_needed || self.is_healed || !self.whole(node).harms || !self.chance.happens(700) {
            return;
        }
        let Some(holder) = self.holder(node) else { return };
        let (kept, end) = (holder.kept(), holder.log().map(|log| (log.end().at, log.durable())));
        let (ring, tail, newest) = (kept.ring, kept.tail.at, copy_of(kept.seq));
        let Some((end, durable)) = end.filter(|(end, _)| tail < *end) else { return };
        let from = self.chance.below(end.since(tail));
        let (kind, bit) = (self.chance.below(6), self.chance.below(4096 * 8));
        let elsewhere = self.chance.below(BLOCKS_MIN) + 2;
        let group = &mut self.machines.get_mut(&node).expect("a holder has a machine").group;
        let places = ring.extents(tail.after(from), end.since(tail) - from);
        let mut blocks = places.flat_map(|extent| extent.first..extent.first + extent.blocks);
        // Payload that rots is found when it is read; here it is headers.
        let header = blocks.find(|at| matches!(group.log.read(*at), Cell::Bytes(_)));
        // Or the newest copy of the superblock (F8).
        let at = if kind < 2 { Some(newest) } else { header };
        let Some(at) = at else { return };
        let cell = match kind {
            0..=3 => group.log.read(at).rotten(bit),
            4 => Cell::of(0),
            _ => group.log.read(elsewhere).clone(),
        };
        // What a log does not show is for a holder that nobody counts on (below).
        if 2 <= kind && !shows(&group.log, at, &mut blocks, durable) {
            return;
        }
        group.log.write([(at, cell)]);
        group.log.flush_all();
        self.note_harm(node, at);
    }

    /// A holder that nobody counts on starts, and the last batch of its log rotted: nothing shows that, and
    /// whoever leads has what was in it.
    pub(crate) fn lose_end(&mut self, node: NodeId) {
        if self.is_healed || !self.whole(node).harms || !self.is_spare(node) || !self.chance.happens(500) {
            return;
        }
        let bit = self.chance.below(4096 * 8);
        let log = &mut self.machines.get_mut(&node).expect("a holder has a machine").group.log;
        log.flush_all();
        let Some(at) = last_header(log) else { return };
        let cell = log.read(at).rotten(bit);
        log.write([(at, cell)]);
        log.flush_all();
        self.note_harm(node, at);
        self.oracle.reached.insert("end of a log lost");
    }

    fn note_harm(&mut self, node: NodeId, at: u64) {
        self.machines.get_mut(&node).into_iter().for_each(|one| one.group.is_harmed = true);
        self.note(&|| format!("block {at} of the log of n{} is not what was written", node.0));
        self.oracle.reached.insert("log harmed");
    }

    /// Its disks are replaced by empty ones.
    pub(crate) fn empty_disks(&mut self, node: NodeId) {
        let blocks = self.blocks();
        let group = &mut self.machines.get_mut(&node).expect("a holder has a machine").group;
        (group.log, group.store) = (Drive::blank(BLOCKS_MIN + 2), Drive::blank(blocks));
        group.is_harmed = false;
        self.note(&|| format!("n{} gets an empty log", node.0));
        self.oracle.reached.insert("log lost");
    }
}

/// Whether a log shows that the batch at this block is gone, for a later one says that it was there, or
/// nothing that was durable goes with it. Of the last ones none says so (`bulkhead_core::log`).
fn shows(log: &Drive, at: u64, later: &mut dyn Iterator<Item = u64>, durable: Seq) -> bool {
    let mut room = [0; BLOCK_LEN];
    let mut header = |at| Header::parse(log.read(at).bytes(&mut room)).map(|(header, _)| header);
    header(at).is_none_or(|gone| {
        durable < gone.first || later.filter_map(header).any(|later| gone.first <= later.durable)
    })
}
