//! The service of a node: while it leads the volumes of its pair, it looks at the guests that are to run, and
//! begins those that do not, in the order of the core's table, as `host-linux/src/failover/service.rs` does
//! (S3-01, S3-04, S3-08, S3-14).

use std::collections::BTreeSet;

use bulkhead_core::failover::life::{Mode, Sight};
use bulkhead_core::failover::table::Table;
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::batch::Volume;
use bulkhead_core::volume::guest::Guest;

use super::{Happens, Service};
use crate::world::World;

/// How often it is looked whether this node has come to lead, microseconds.
const LOOK: u64 = 20_000;
/// How often all guests are looked at.
const LOOK_AT_ALL: u64 = 250_000;
/// Guests that are begun at once.
pub(super) const AT_ONCE: usize = 4;

impl World {
    /// The agent of a node begins its work.
    pub(crate) fn start_service(&mut self, node: NodeId) {
        if self.guests == 0 || !self.stores_on(node) {
            return;
        }
        let at = self.now + self.chance.between(1_000, LOOK);
        let Some(machine) = self.machines.get_mut(&node) else { return };
        machine.hosted.service = Some(Box::new(Service {
            table: Table::new(AT_ONCE),
            reign: None,
            looked_at: 0,
            starting: BTreeSet::new(),
            failed: BTreeSet::new(),
            begun: BTreeSet::new(),
        }));
        let start = machine.starts;
        self.schedule_guests(at, Happens::Looks { node, start });
    }

    /// The agent of a node has ended; what it was told of its guests is gone with it.
    pub(crate) fn stop_service(&mut self, node: NodeId) {
        self.machines.get_mut(&node).into_iter().for_each(|one| one.hosted.service = None);
    }

    pub(super) fn service_wakes(&mut self, node: NodeId, start: u64) {
        let Some(machine) = self.machines.get(&node).filter(|one| one.starts == start) else { return };
        let Some(service) = machine.hosted.service.as_deref() else { return };
        let now = machine.clock.at(self.now);
        let is_due = service.table.deadline().is_some_and(|at| at <= now);
        let looked = self.now - service.looked_at;
        let is_news = self.leads_settled(node) != service.reign;
        if !machine.sleeps && (is_news || is_due || LOOK_AT_ALL <= looked) {
            self.look_at_guests(node);
        }
        let at = self.now + LOOK + self.chance.below(1_000);
        self.schedule_guests(at, Happens::Looks { node, start });
    }

    /// The epoch under which a node leads, when it knows all that was acknowledged.
    pub(super) fn leads_settled(&self, node: NodeId) -> Option<Epoch> {
        let machine = &self.machines[&node];
        let shell = machine.group.shell.as_deref().filter(|_| machine.node.is_some())?;
        shell.reigns(machine.clock.at(self.now)).filter(|_| shell.is_readable())
    }

    /// Looks whether this node leads, what is wanted and what runs, and begins what is to be begun.
    pub(super) fn look_at_guests(&mut self, node: NodeId) {
        let (reign, now) = (self.leads_settled(node), self.now);
        let read: Vec<(Volume, Guest)> = match reign {
            Some(_) => self.volumes().filter_map(|of| Some((of, self.read_wanted(node, of)?))).collect(),
            None => Vec::new(),
        };
        let Some(service) = self.service(node) else { return };
        service.looked_at = now;
        let is_first = service.reign != reign;
        if reign.is_none() || is_first {
            service.table.lose();
            (service.reign, service.looked_at) = (reign, now);
            // A start of the last reign says nothing in this one.
            service.starting.clear();
            service.failed.clear();
            service.begun.clear();
        }
        if reign.is_none() {
            return;
        }
        service.table.lead(read.iter().copied());
        // It may be asked in the middle of the first look: nothing is begun before all were looked at.
        let among = if is_first { u64::from(self.guests) } else { 0 };
        let pause = usize::try_from(self.chance.below(among + 1)).unwrap_or(0);
        for (place, (guest, _)) in read.into_iter().enumerate() {
            if is_first && place == pause {
                self.begin_guests_of(node);
            }
            self.look_at_guest(node, guest);
        }
        self.begin_guests_of(node);
    }

    fn look_at_guest(&mut self, node: NodeId, guest: Volume) {
        let machine = &self.machines[&node];
        let now = machine.clock.at(self.now);
        let sight = match (machine.hosted.processes.contains_key(&guest), &machine.hosted.ended) {
            (true, _) => Sight::Runs,
            (false, ended) if ended.contains(&guest) => Sight::Ended,
            (false, _) => Sight::Gone,
        };
        let Some(service) = self.service(node) else { return };
        let mode =
            |service: &Service| service.table.guests().find(|(of, _)| *of == guest).map(|(_, life)| *life);
        let before = mode(service).map(|life| life.mode());
        service.table.see(now, guest, sight);
        let after = mode(service);
        match (before, after.map(|life| (life.mode(), life.wanted()))) {
            (Some(Mode::Running), Some((Mode::Waiting, _))) => drop(service.failed.insert(guest)),
            (Some(Mode::Running), Some((Mode::Left, wanted))) if sight == Sight::Ended => {
                self.oracle.reached.insert("guest off");
                self.want(node, guest, Guest { is_wanted: false, ..wanted });
            }
            (_, _) => {}
        }
    }

    fn begin_guests_of(&mut self, node: NodeId) {
        let now = self.machines[&node].clock.at(self.now);
        while let Some(begin) = self.service(node).and_then(|service| service.table.next(now)) {
            let guest = begin.guest;
            self.may_begin(node, guest);
            self.serials += 1;
            let (serial, start) = (self.serials, self.machines[&node].starts);
            if let Some(service) = self.service(node) {
                service.starting.insert(guest);
                service.begun.insert(guest);
            }
            let took = self.chance.between(10_000, self.begin_max);
            self.schedule_guests(self.now + took, Happens::Begun { node, start, guest, serial });
        }
    }

    /// A start has ended, well or not.
    pub(super) fn start_ended(&mut self, at: (NodeId, u64), guest: Volume, serial: u64) {
        let (node, start) = at;
        let Some(machine) = self.machines.get(&node).filter(|one| one.starts == start) else { return };
        if machine.hosted.service.is_none() {
            return;
        }
        if machine.sleeps {
            // Its agent does not answer it.
            return self.schedule_guests(self.now + 50_000, Happens::Begun { node, start, guest, serial });
        }
        let now = machine.clock.at(self.now);
        let is_done = self.begin_process(node, guest, serial);
        let Some(service) = self.service(node) else { return };
        service.starting.remove(&guest);
        if !is_done {
            service.failed.insert(guest);
        }
        service.table.begun(now, guest, is_done);
        self.look_at_guests(node);
    }

    pub(super) fn service(&mut self, node: NodeId) -> Option<&mut Service> {
        self.machines.get_mut(&node)?.hosted.service.as_deref_mut()
    }
}
