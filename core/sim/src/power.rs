//! Power, sleep, and empty disks: what happens to a whole machine (F14, F16, F17, F19, F25).

use bulkhead_core::id::{NodeId, PairId};
use bulkhead_core::link::key::{Nonce, SiteKey};
use bulkhead_core::node::machine::Node;
use bulkhead_core::node::message::Office;
use bulkhead_core::node::settings::{CONTROLLER, Digest, Relay, Settings, infra_register, storage_register};
use bulkhead_core::node::words::{Command, Event};
use bulkhead_core::register::acceptor::Mode;
use bulkhead_core::register::store::{Owner, Stored};
use bulkhead_core::register::voters::Life;
use bulkhead_core::time::Drift;

use crate::disk::Disk;
use crate::queue::Timer;
use crate::world::{DRIFT_PPM, Due, Machine, SITE, World};

impl World {
    /// Switches a machine on; nothing happens when it is on.
    pub fn power_on(&mut self, node: NodeId) {
        if self.gone.contains(&node) {
            return;
        }
        let (now, timers, fences, true_time) =
            (self.machines[&node].clock.at(self.now), self.timers, self.fences, self.now);
        let stores = self.stores_on(node);
        let witness = self.witness();
        let relays: Vec<_> =
            self.nodes().into_iter().filter(|_| self.relays).map(|node| Relay { node, witness }).collect();
        let members = self.machines.values().map(|machine| machine.member).collect();
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| machine.node.is_none()) else {
            return;
        };
        machine.starts += 1;
        machine.writes.clear();
        machine.untold = None;
        machine.flush_fails = false;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&(machine.starts << 16 | u64::from(node.0)).to_le_bytes());
        nonce[8..].copy_from_slice(&self.chance.next().to_le_bytes());
        let life = machine.disk.life;
        let owner = Owner { site: SITE, node, life };
        let stored = machine.disk.read(&owner);
        if let Ok(stored) = &stored {
            self.oracle.starts(true_time, node, life, stored);
        }
        let settings = Settings {
            site: SITE,
            me: node,
            nonce: Nonce(nonce),
            key: SiteKey::new([0x6b; 32]),
            members,
            timers,
            drift: Drift::from_ppm(DRIFT_PPM).unwrap_or(Drift::DEFAULT),
            life,
            fences,
            digest: Digest::default(),
            relays: relays.into_iter().collect(),
            stores,
        };
        let started = stored
            .map_err(|fault| fault.to_string())
            .and_then(|stored| Node::new(now, settings, stored).map_err(|unsound| unsound.to_string()));
        match started {
            Ok(started) => machine.node = Some(Box::new(started)),
            Err(why) => {
                self.oracle.violated(true_time, format!("n{} cannot start: {why}", node.0));
                return;
            }
        }
        self.note(&|| format!("n{} starts", node.0));
        self.start_group(node);
        for office in Office::ALL {
            self.step(node, Event::Command(Command::Start(office)));
        }
    }

    /// Cuts the power of a machine.
    pub fn power_off(&mut self, node: NodeId) {
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| machine.node.is_some()) else {
            return;
        };
        machine.node = None;
        machine.timer_at = None;
        self.queue.set(node, Timer::Node, None);
        self.queue.set(node, Timer::Holder, None);
        machine.sleeps = false;
        machine.buffer.clear();
        // Only the first is on its way to the platter: the next one waits for its flush.
        if let Some(write) = machine.writes.pop_front() {
            machine.disk.write(write.place, u8::from(write.reported), write.bytes);
        }
        machine.writes.clear();
        machine.disk.cut(&mut self.chance);
        self.note(&|| format!("n{} loses power", node.0));
        self.stop_group(node);
    }

    /// Puts a machine to sleep for `micros`.
    pub fn sleep(&mut self, node: NodeId, micros: u64) {
        let Some(machine) = self.machines.get_mut(&node).filter(|one| one.node.is_some() && !one.sleeps)
        else {
            return;
        };
        machine.sleeps = true;
        self.schedule(self.now + micros, Due::Wake { node });
        self.note(&|| format!("n{} sleeps for {micros} us", node.0));
    }

    pub(crate) fn wake(&mut self, node: NodeId) {
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| machine.sleeps) else { return };
        machine.sleeps = false;
        self.note(&|| format!("n{} wakes", node.0));
        // What it does first is a race of its event loop.
        let timers_first = self.chance.happens(500);
        if timers_first {
            self.step(node, Event::Timeout);
        }
        let untold = self.machines.get_mut(&node).and_then(|machine| machine.untold.take());
        if let Some(id) = untold {
            self.step(node, Event::Persisted(id));
        }
        while let Some(wish) = self.machines.get_mut(&node).and_then(|one| one.group.untold.pop_front()) {
            let start = self.machines[&node].starts;
            self.group_says(node, start, wish);
        }
        while let Some((path, bytes)) = self.machines.get_mut(&node).and_then(|one| one.buffer.pop_front()) {
            self.step(node, Event::Received { path, bytes: &bytes });
        }
        self.step(node, Event::Timeout);
        self.group_wakes(node);
    }

    /// One voter in a run loses its disk; not before all others have every record on their disks (a majority
    /// that was never heard, or has forgotten all, is a new site), and not the one that decides alone (then
    /// the register is lost, and only an operator can say what holds).
    pub fn may_wipe(&self, node: NodeId) -> bool {
        let storage = self.stores.then_some(storage_register(PairId(0)));
        let registers = || [CONTROLLER, infra_register(PairId(0))].into_iter().chain(storage);
        let knows = |machine: &Machine| {
            let stored = machine.node.as_ref().map(|_| durable(machine)).unwrap_or_default();
            let record = |register| {
                let stored = stored.iter().find(|stored| stored.register == register);
                stored.and_then(|stored| stored.accepted.as_ref())
            };
            let many = |register| {
                record(register).is_some_and(|(_, record)| {
                    let voters = &record.voters;
                    voters.previous.is_none() && 1 < voters.current.iter().count()
                })
            };
            registers().all(many)
        };
        let voters = || self.machines.iter().filter(|(_, machine)| machine.member.votes);
        let first = voters().all(|(other, machine)| *other == node || machine.lives == 1);
        first && self.machines[&node].member.votes && voters().all(|(_, machine)| knows(machine))
    }

    /// Replaces the disk of a machine that is off by an empty one (F14, F25).
    pub fn wipe(&mut self, node: NodeId) {
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| machine.node.is_none()) else {
            return;
        };
        machine.lives += 1;
        machine.disk = Disk::blank(Life(u32::from(node.0) << 8 | machine.lives));
        self.note(&|| format!("n{} gets an empty disk", node.0));
    }

    /// Everything is repaired: power on, nobody sleeps, links and disks are good.
    pub fn heal(&mut self) {
        self.note(&|| String::from("all is repaired"));
        self.is_healed = true;
        self.gone.clear();
        self.network.heal();
        for node in self.all() {
            self.wake(node);
            let failed = self.machines[&node]
                .node
                .as_ref()
                .and_then(|running| running.voter())
                .is_some_and(|voter| voter.mode() == Mode::Failed);
            if failed || self.machines[&node].group.is_failed() {
                self.power_off(node);
            }
            if let Some(machine) = self.machines.get_mut(&node) {
                machine.flush_max = 3_000;
                machine.flush_fails = false;
                machine.group.is_full = false;
                machine.group.flush_fails = false;
                machine.group.keep_fails = false;
            }
            self.power_on(node);
        }
    }
}

/// What a voter would still know after a power cut now, whatever it makes of the writes under way.
fn durable(machine: &Machine) -> Vec<Stored> {
    let owner = Owner { site: SITE, node: machine.member.node, life: machine.disk.life };
    machine.disk.durable(&owner)
}
