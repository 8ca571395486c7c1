//! A site of many pairs with guests: nodes, holders, logs, stores and guests together, with whole
//! compartments that fail, and forecasts that are compared with what follows (X09, X22; I1 to I12, S3-04,
//! S3-08, S3-14).
//!
//! ```text
//!   catalogue (blocks of the group) ──▶ service ──▶ Table (core) ──▶ begin ──▶ process
//!   node, holder (crate::world, crate::group) ──▶ lease ─────────────────────────┘
//! ```
//!
//! The nodes, the holders and the table of guests are the core's; the service that asks the table and the
//! process of a guest do what `host-linux/src/failover` and `host-linux/src/vmm/permit.rs` do.
//!
//! Reading order: [`run`] (what a run is), [`faults`] (what goes wrong), [`wants`] (what is to run),
//! [`service`], [`process`], [`checks`] (what must never happen), [`drill`] (forecast, loss, outcome).

mod checks;
mod drill;
pub mod faults;
mod process;
pub mod run;
mod service;
mod wants;

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_core::failover::table::Table;
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::batch::Volume;
use bulkhead_core::time::Instant;
use bulkhead_core::volume::guest::Guest;

use crate::world::{Due, World};

/// Guests of one pair at most.
pub const GUESTS_MAX: usize = 128;

/// Something that will happen to guests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happens {
    /// The service of a node that was started so often looks after its guests.
    Looks { node: NodeId, start: u64 },
    /// A start of a guest has ended.
    Begun { node: NodeId, start: u64, guest: Volume, serial: u64 },
    /// The processes of a node ask for their lease.
    Asks { node: NodeId },
}

/// What an operator wants of the guests of a pair, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// When the pair was made; guest 1 first.
    first: Vec<Guest>,
    /// By the numbers of the writes that said so.
    changes: BTreeMap<u64, Guest>,
    /// True time before which a guest cannot begin.
    broken_until: Vec<u64>,
}

/// The guests on one machine.
#[derive(Debug, Default)]
pub(crate) struct Hosted {
    /// Ends with the agent.
    service: Option<Box<Service>>,
    /// Outlive the agent, and end with the machine's power.
    processes: BTreeMap<Volume, Process>,
    /// Those that have switched themselves off here.
    ended: BTreeSet<Volume>,
    /// True time: none of the processes acts any more from then on, if nobody tells them otherwise.
    pub(crate) acts_until: u64,
}

/// What looks after the guests of a node.
#[derive(Debug)]
struct Service {
    table: Table<GUESTS_MAX>,
    reign: Option<Epoch>,
    /// True time.
    looked_at: u64,
    /// Those that are being begun.
    starting: BTreeSet<Volume>,
    /// Those that failed in this reign: they may wait for their time while others begin.
    failed: BTreeSet<Volume>,
    /// Those that were begun in this reign.
    begun: BTreeSet<Volume>,
}

/// The process of a guest.
#[derive(Clone, Copy, Debug)]
struct Process {
    /// No two are alike.
    serial: u64,
    /// Under which it runs.
    epoch: Epoch,
    /// The end of its lease, by the clock of its machine; `None`: it stands still.
    until: Option<Instant>,
}

impl World {
    pub(crate) fn happens_to_guests(&mut self, what: Happens) {
        match what {
            Happens::Looks { node, start } => self.service_wakes(node, start),
            Happens::Begun { node, start, guest, serial } => self.start_ended((node, start), guest, serial),
            Happens::Asks { node } => self.processes_ask(node),
        }
    }

    /// All guests of a pair.
    fn volumes(&self) -> impl Iterator<Item = Volume> + use<> {
        (1..=self.guests).map(Volume)
    }

    pub(crate) fn schedule_guests(&mut self, at: u64, what: Happens) {
        self.schedule(at, Due::Guests(what));
    }
}
