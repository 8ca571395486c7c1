//! The processes of guests, and the lease by which they run: asked of the agent of their node, good under the
//! epoch in which they began, and over at its end whatever becomes of the agent, as in
//! `host-linux/src/vmm/permit.rs` and `host-linux/src/cluster/guest_requests.rs` (I5, V23, X02; F16, F19).

use bulkhead_core::bug::{Bug, is_planted};
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::batch::Volume;
use bulkhead_core::node::message::Office;
use bulkhead_core::node::storage;
use bulkhead_core::node::words;
use bulkhead_core::time::Instant;

use super::{Happens, Process};
use crate::world::World;

/// A guest stands still so long before the end of its lease, at the latest: then the kernel ends it. All
/// times in microseconds.
const KILL: u64 = 10_000;
/// It is told to so long before that end; what is left must be more.
const STOP: u64 = 50_000;
/// What a lease must have left when a guest begins.
const LEFT_MIN: u64 = 100_000;

impl World {
    pub(super) fn begin_asking(&mut self, node: NodeId) {
        if self.stores_on(node) {
            let at = self.now + self.chance_of_pause();
            self.schedule_guests(at, Happens::Asks { node });
        }
    }

    /// A third of what is left of a lease at most, so that two answers may be lost.
    fn chance_of_pause(&mut self) -> u64 {
        let lease = u64::try_from(self.timers.lease.as_micros()).unwrap_or(600_000);
        let most = (lease - STOP) / 3;
        self.chance.between(most / 4, most)
    }

    /// The agent lets guests run until then, if its node leads.
    fn lend(&mut self, node: NodeId) -> Option<(Epoch, Instant)> {
        let machine = self.machines.get(&node).filter(|one| !one.sleeps)?;
        let now = machine.clock.at(self.now);
        let epoch = machine.group.shell.as_deref()?.reigns(now)?;
        let post = machine.node.as_deref()?.post(Office::Storage)?;
        let until = post.seat().until().filter(|_| post.seat().holds(now).is_some())?;
        self.step(node, words::Event::Storage(storage::Event::Lent { until }));
        // On the way from the agent, time passes: what is left is counted from before the question.
        let late = self.chance.between(50, 2_000);
        Some((epoch, before(until, late)))
    }

    /// Whether another node may run this one's guests, as far as its agent knows.
    fn is_led_elsewhere(&self, node: NodeId) -> bool {
        let machine = &self.machines[&node];
        let post = machine.node.as_deref().and_then(|running| running.post(Office::Storage));
        let told =
            post.filter(|_| !machine.sleeps).and_then(|post| post.seat().told(machine.clock.at(self.now)));
        told.is_some_and(|lease| lease.holder != node)
    }

    /// A process begins; `false`: it cannot.
    pub(super) fn begin_process(&mut self, node: NodeId, guest: Volume, serial: u64) -> bool {
        let place = usize::from(guest.0) - 1;
        let is_broken = self.now < self.whole(node).wanted.broken_until[place];
        let is_there = self.machines[&node].hosted.processes.contains_key(&guest);
        if is_broken || is_there {
            self.oracle.reached.insert("guest could not begin");
            return false;
        }
        let now = self.machines[&node].clock.at(self.now);
        let granted = self.lend(node).filter(|(_, until)| now <= before(*until, LEFT_MIN));
        let Some((epoch, until)) = granted else { return false };
        let process = Process { serial, epoch, until: Some(until) };
        let Some(machine) = self.machines.get_mut(&node) else { return false };
        machine.hosted.processes.insert(guest, process);
        machine.hosted.ended.remove(&guest);
        self.note(&|| format!("n{}: guest {} begins", node.0, guest.0));
        self.oracle.reached.insert("guest begun");
        self.may_run(node, guest);
        self.acts_until(node);
        true
    }

    /// All processes of a node ask for their lease; each answer may be lost.
    pub(super) fn processes_ask(&mut self, node: NodeId) {
        let at = self.now + self.chance_of_pause();
        self.schedule_guests(at, Happens::Asks { node });
        if self.machines[&node].hosted.processes.is_empty() {
            return;
        }
        let (granted, is_refused) = (self.lend(node), self.is_led_elsewhere(node));
        let machine = &self.machines[&node];
        let now = machine.clock.at(self.now);
        let guests: Vec<Volume> = machine.hosted.processes.keys().copied().collect();
        for guest in guests {
            let is_lost = self.chance.happens(100);
            let Some(machine) = self.machines.get_mut(&node) else { return };
            let Some(process) = machine.hosted.processes.get_mut(&guest) else { continue };
            let is_over = process.until.is_some_and(|until| before(until, STOP) <= now);
            match granted.filter(|_| !is_lost) {
                Some((epoch, _)) if epoch != process.epoch => self.end_process(node, guest, "is led anew"),
                Some((_, until)) if now < before(until, STOP) => {
                    process.until = Some(process.until.map_or(until, |known| known.max(until)));
                    self.may_run(node, guest);
                }
                None if is_refused && !is_lost => self.end_process(node, guest, "is led elsewhere"),
                Some(_) | None if is_over && !is_planted(Bug::GuestOutlivesLease) => process.until = None,
                Some(_) | None => {}
            }
        }
        self.acts_until(node);
    }

    fn end_process(&mut self, node: NodeId, guest: Volume, why: &str) {
        self.note(&|| format!("n{}: guest {} ends: it {why}", node.0, guest.0));
        if let Some(machine) = self.machines.get_mut(&node) {
            machine.hosted.processes.remove(&guest);
        }
        self.oracle.reached.insert("guest ended by its lease");
    }

    /// Notes until when the processes of a node act, in true time.
    fn acts_until(&mut self, node: NodeId) {
        let (now, is_endless) = (self.now, is_planted(Bug::GuestOutlivesLease));
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let last = machine.hosted.processes.values().filter_map(|process| process.until).max();
        let at = last.map_or(0, |until| machine.clock.when(before(until, KILL), now));
        machine.hosted.acts_until = if is_endless && last.is_some() { u64::MAX } else { at };
    }

    /// Whether a guest acts on this node at this very instant.
    pub(super) fn acts(&self, node: NodeId, guest: Volume) -> bool {
        let machine = &self.machines[&node];
        let process = machine.hosted.processes.get(&guest);
        let until = process.and_then(|process| process.until);
        until.is_some_and(|until| {
            machine.clock.at(self.now) < before(until, KILL) || is_planted(Bug::GuestOutlivesLease)
        })
    }

    /// Which process of a guest acts on this node now.
    pub(super) fn serial(&self, node: NodeId, guest: Volume) -> Option<u64> {
        let process = self.machines[&node].hosted.processes.get(&guest)?;
        self.acts(node, guest).then_some(process.serial)
    }

    /// The machine loses its power, and every guest with it.
    pub(crate) fn guests_lose_power(&mut self, node: NodeId) {
        let Some(machine) = self.machines.get_mut(&node) else { return };
        machine.hosted.processes.clear();
        machine.hosted.ended.clear();
        machine.hosted.acts_until = 0;
    }

    /// A guest of this pair that runs ends: by its own will or not.
    pub(super) fn guest_dies(&mut self, pair: usize, by_itself: bool) {
        let running: Vec<(NodeId, Volume)> = self
            .holders(pair)
            .into_iter()
            .flat_map(|node| self.machines[&node].hosted.processes.keys().map(move |guest| (node, *guest)))
            .collect();
        if running.is_empty() {
            return;
        }
        let (node, guest) = self.chance.one_of(&running);
        self.note(&|| format!("n{}: guest {} ends, by itself: {by_itself}", node.0, guest.0));
        let Some(machine) = self.machines.get_mut(&node) else { return };
        machine.hosted.processes.remove(&guest);
        if by_itself {
            machine.hosted.ended.insert(guest);
        }
        self.acts_until(node);
        self.oracle.reached.insert("guest died");
    }
}

fn before(instant: Instant, micros: u64) -> Instant {
    Instant::from_micros(instant.as_micros().saturating_sub(micros))
}
