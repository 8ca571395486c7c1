//! The mirror group of the pair: the real [`Holder`] beside each node, on a simulated log and backing store,
//! with streams between them and guests that write (P4; I1 to I4, I10, I12; S4-03, S4-07 to S4-15).
//!
//! ```text
//!   guests ──▶ shell ──▶ Holder (core) ──▶ drive (log)
//!                │  ▲
//!   node ◀──told─┤  └── streams ◀── other holders
//!                └──▶ drive (store)
//! ```
//!
//! Reading order: [`ledger`] (what must hold), [`shell`] and [`act`] (what a holder is told and asks for),
//! [`store`] (the backing store, and fills), [`tenancy`] (a store that all reach), [`start`] (how it begins,
//! and ends), [`streams`], [`guests`], [`drive`], [`harm`] (what happens to disks).

pub(crate) mod act;
pub(crate) mod drive;
pub(crate) mod guests;
pub(crate) mod harm;
pub(crate) mod ledger;
pub(crate) mod shell;
pub(crate) mod start;
pub(crate) mod store;
pub(crate) mod streams;
pub(crate) mod tenancy;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bulkhead_core::holder::machine::{Holder, Mode};
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::Seq;
use bulkhead_core::node::message::Office;
use bulkhead_core::node::storage::{Action, Event};
use bulkhead_core::node::words::{self, Command};

use crate::site::Wanted;
use crate::world::{Due, World};
use drive::{Drive, Io};
use guests::{Ask, Lane};
use ledger::{BLOCKS, Ledger};
use shell::Shell;
use streams::{Message, Streams};

/// All that is of the group, beside its holders.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    /// Who holds it.
    pub(crate) members: Vec<NodeId>,
    /// What is wanted of its guests.
    pub(crate) wanted: Wanted,
    pub(crate) ledger: Ledger,
    pub(crate) streams: Streams,
    pub(crate) lanes: Vec<Lane>,
    /// How long a holder may owe a write.
    pub(crate) late: Duration,
    /// Guests wait as long at most between two requests, microseconds; 0: they are at rest.
    pub(crate) pace: u64,
    pub(crate) numbers: u64,
    /// Logs rot, and lose writes.
    pub(crate) harms: bool,
    /// Of the logs so far.
    pub(crate) lives: BTreeSet<u32>,
    /// The store that all holders reach; `None`: each has its own.
    pub(crate) shared: Option<Common>,
}

impl Whole {
    /// The group of these holders.
    pub(crate) fn of(members: Vec<NodeId>) -> Self {
        Self { members, ..Self::default() }
    }
}

/// A store that all holders reach, and whose it is.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) store: Drive,
    pub(crate) tenant: Option<NodeId>,
}

/// What a machine has of the group: its disks, and the process while it runs.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) log: Drive,
    pub(crate) store: Drive,
    pub(crate) shell: Option<Box<Shell>>,
    /// What it is to be told when it wakes, or has read its log.
    pub(crate) missed: VecDeque<Told>,
    /// When its newest word arrives at its node: the others do before. And the other way.
    said_at: u64,
    told_at: u64,
    /// The next flush of the log fails, or that of its superblock (F5, F11).
    pub(crate) flush_fails: bool,
    pub(crate) keep_fails: bool,
    /// What was durable in its log may not be there.
    pub(crate) is_harmed: bool,
    /// There is no room in the store (F12).
    pub(crate) is_full: bool,
    /// What it said while its node slept.
    pub(crate) untold: VecDeque<Wish>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            log: Drive::blank(0),
            store: Drive::blank(BLOCKS),
            shell: None,
            missed: VecDeque::new(),
            said_at: 0,
            told_at: 0,
            flush_fails: false,
            keep_fails: false,
            is_harmed: false,
            is_full: false,
            untold: VecDeque::new(),
        }
    }
}

/// What a holder is told, from outside its machine.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// Its log is read.
    Open,
    Register(Action),
    Flushed {
        io: Io,
        works: bool,
        what: Flushed,
    },
    Met(NodeId, u64),
    Gone(NodeId),
    Frames(NodeId, u64, Vec<Message>),
    Ask(Ask),
    Answer {
        ask: Ask,
        epoch: Epoch,
        broken: Option<String>,
    },
    Round,
    Fill {
        to: NodeId,
        stream: u64,
        epoch: Epoch,
        upto: Seq,
        at: u64,
    },
}

/// What was flushed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flushed {
    Log,
    Superblock,
    /// Every write up to this one.
    Store(Seq),
    Fill,
}

/// What a holder wants of its node.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Say(Event),
    /// Its log failed: the register is not for it.
    Failed,
}

impl World {
    /// Whether this node has a copy of its pair's log: three at most do.
    pub(crate) fn stores_on(&self, node: NodeId) -> bool {
        let has_side = self.machines.get(&node).is_some_and(|machine| machine.member.side.is_some());
        self.stores && has_side && self.whole(node).members.contains(&node)
    }

    /// Blocks of a group's store: those that guests write into, and one for what is wanted of each guest.
    pub(crate) fn blocks(&self) -> u64 {
        BLOCKS + u64::from(self.guests)
    }

    /// Which pair a node is of.
    pub(crate) fn pair_of(&self, node: NodeId) -> usize {
        usize::from(self.machines[&node].member.pair.0)
    }

    /// The group of a node's pair.
    pub(crate) fn whole(&self, node: NodeId) -> &Whole {
        &self.groups[self.pair_of(node)]
    }

    /// The same, to be changed.
    pub(crate) fn whole_mut(&mut self, node: NodeId) -> &mut Whole {
        let pair = self.pair_of(node);
        &mut self.groups[pair]
    }

    /// All holders of a pair's group.
    pub(crate) fn holders(&self, pair: usize) -> Vec<NodeId> {
        if self.stores { self.groups[pair].members.clone() } else { Vec::new() }
    }

    pub(crate) fn shell(&mut self, node: NodeId) -> Option<&mut Shell> {
        self.machines.get_mut(&node)?.group.shell.as_deref_mut()
    }

    pub(crate) fn holder(&self, node: NodeId) -> Option<&Holder> {
        Some(&self.machines.get(&node)?.group.shell.as_ref()?.holder)
    }

    /// A node tells its holder of the register; the holder's thread hears it a little later.
    pub(crate) fn tell_group(&mut self, node: NodeId, action: Action) {
        if matches!(action, Action::Lost)
            && let Some(shell) = self.shell(node)
        {
            shell.knows_loss = true;
        }
        let took = self.chance.between(5, 300);
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&node) else { return };
        machine.group.told_at = (machine.group.told_at + 1).max(now + took);
        let at = machine.group.told_at;
        self.tell(node, at, Told::Register(action));
    }

    /// A holder is told something then, if it still runs.
    pub(crate) fn tell(&mut self, node: NodeId, at: u64, told: Told) {
        let start = self.machines[&node].starts;
        self.schedule(at, Due::Told { node, start, told: Box::new(told) });
    }

    /// In order; sometimes later than it is waited for.
    pub(crate) fn wish(&mut self, node: NodeId, wish: Wish) {
        let answer_max = u64::try_from(self.timers.answer_max.as_micros()).unwrap_or(150_000);
        // Now and then its thread hangs: until after the next question.
        let most = match (self.is_healed, self.chance.below(40)) {
            (true, _) | (false, 4..) => answer_max / 8,
            (false, 1..4) => answer_max + answer_max / 4,
            (false, 0) => 8 * answer_max,
        };
        let took = self.chance.between(20, most);
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&node) else { return };
        machine.group.said_at = (machine.group.said_at + 1).max(now + took);
        let (at, start) = (machine.group.said_at, machine.starts);
        self.schedule(at, Due::Group { node, start, wish });
    }

    /// What a holder says arrives at its node, which may sleep or have been started anew.
    pub(crate) fn group_says(&mut self, node: NodeId, start: u64, wish: Wish) {
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| machine.starts == start) else {
            return;
        };
        match (machine.sleeps, wish) {
            (true, wish) => machine.group.untold.push_back(wish),
            (false, Wish::Say(event)) => self.step(node, words::Event::Storage(event)),
            (false, Wish::Failed) => {
                self.step(node, words::Event::Command(Command::Stop(Office::Storage)));
            }
        }
    }

    /// Who leads the mirror group of a pair, as far as it knows.
    pub(crate) fn primaries(&self, pair: usize) -> Vec<NodeId> {
        let leads = |node: &NodeId| {
            let machine = &self.machines[node];
            let shell = machine.group.shell.as_ref().filter(|_| machine.node.is_some());
            shell.is_some_and(|shell| shell.reigns(machine.clock.at(self.now)).is_some())
        };
        self.holders(pair).into_iter().filter(leads).collect()
    }

    /// Why the group is not what it should be when nothing is wrong: everybody in sync, everything that was
    /// acknowledged in every store.
    pub(crate) fn is_together(&self, pair: usize) -> Result<(), String> {
        let primaries = self.primaries(pair);
        let [first] = primaries[..] else { return Err(format!("{primaries:?} lead the mirror group")) };
        let primary = self.holder(first).and_then(Holder::primary);
        let Some(primary) = primary else { return Err(String::from("nobody leads")) };
        let (holders, set) = (self.holders(pair), primary.chosen());
        if set.holders().len() != holders.len() {
            return Err(format!("in sync are {:?}, of {holders:?}: {:?}", set.holders(), primary.mode()));
        }
        if primary.newest() != primary.acknowledged() {
            return Err(format!("{} writes, {} acknowledged", primary.newest().0, primary.acknowledged().0));
        }
        for node in holders {
            let store = self.store(node);
            let applied = self.holder(node).map(Holder::applied).unwrap_or_default();
            if applied != primary.newest() {
                return Err(format!("n{} has applied {} of {}", node.0, applied.0, primary.newest().0));
            }
            let seen = (0..self.blocks()).map(|block| store.read(block).value());
            self.groups[pair]
                .ledger
                .compare(seen)
                .map_err(|why| format!("the store of n{}: {why}", node.0))?;
        }
        Ok(())
    }

    /// How each holder is, in words.
    pub(crate) fn group_modes(&self, pair: usize) -> BTreeMap<NodeId, Option<Mode>> {
        self.holders(pair).into_iter().map(|node| (node, self.holder(node).map(Holder::mode))).collect()
    }
}
