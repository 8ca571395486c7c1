//! Guests: each asks for one thing at a time, of whoever leads, and asks another holder when it is not
//! answered for certain; a write without an answer may be there or not (S1-27 to S1-29, V8, F20).

use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::batch::Kind;

use super::Told;
use super::ledger::{BLOCKS, Entry};
use crate::world::{Due, World};

/// How many there are.
const LANES: usize = 3;
/// Bits of a request that say whose it is; all of them set: nobody waits for it.
const LANE_BITS: u32 = 2;
const NO_LANE: u64 = 3;
/// What most of them want is in the first blocks.
const HOT: u64 = 24;

/// A guest.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    at: NodeId,
    /// The request that it waits for.
    waits: Option<u64>,
}

/// What it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    request: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// In this order; the last one tells of all.
    Write(Vec<Entry>),
    Read {
        first: u64,
        blocks: u64,
    },
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// It did not happen, or nobody knows.
    Unknown,
}

impl World {
    pub(crate) fn begin_guests(&mut self, pair: usize) {
        let at = self.holders(pair).first().copied().unwrap_or(NodeId(1));
        self.groups[pair].lanes = vec![Lane { at, waits: None }; LANES];
        for lane in 0..LANES {
            let at = self.now + self.chance.between(1, 1_000_000);
            self.schedule(at, Due::Guest { pair, lane });
        }
    }

    /// A guest asks for something.
    pub(crate) fn guest(&mut self, pair: usize, lane: usize) {
        let whole = &mut self.groups[pair];
        if whole.pace == 0 || whole.lanes[lane].waits.is_some() {
            return;
        }
        whole.numbers += 1;
        let request = whole.numbers << LANE_BITS | u64::try_from(lane).unwrap_or(0);
        let what = self.something_to_ask(pair);
        let at = self.groups[pair].lanes[lane].at;
        if self.machines[&at].node.is_none() {
            return self.elsewhere(pair, lane);
        }
        self.groups[pair].lanes[lane].waits = Some(request);
        let arrives = self.now + self.chance.between(20, 500);
        self.tell(at, arrives, Told::Ask(Ask { request, what }));
    }

    fn something_to_ask(&mut self, pair: usize) -> What {
        let hot = self.chance.below(HOT);
        let small = self.chance.between(1, 4);
        match self.chance.below(100) {
            0..30 => What::Read { first: hot, blocks: self.chance.between(1, 8) },
            30..35 => What::Read { first: self.chance.below(BLOCKS - 64), blocks: 64 },
            35..85 => What::Write(vec![self.entry(pair, hot, (small, Kind::Data))]),
            85..92 => {
                let blocks = self.chance.between(30, 150);
                let first = self.chance.below(BLOCKS - blocks);
                What::Write(vec![self.entry(pair, first, (blocks, Kind::Data))])
            }
            92..99 => {
                let blocks = self.chance.between(1, 64);
                let first = self.chance.below(BLOCKS - blocks);
                let kind = self.chance.one_of(&[Kind::Zeroes, Kind::Trimmed]);
                What::Write(vec![self.entry(pair, first, (blocks, kind))])
            }
            _ => What::Write((0..40).map(|block| self.entry(pair, block, (small, Kind::Data))).collect()),
        }
    }

    fn entry(&mut self, pair: usize, first: u64, (blocks, kind): (u64, Kind)) -> Entry {
        let whole = &mut self.groups[pair];
        whole.numbers += 1;
        let entry = Entry::new(first, u32::try_from(blocks).unwrap_or(1), kind, whole.numbers);
        whole.ledger.offer(&entry);
        entry
    }

    /// An operator has this block written by this node; nobody waits for the answer. The number of the write.
    pub(crate) fn write_block(&mut self, node: NodeId, block: u64) -> u64 {
        let pair = self.pair_of(node);
        let entry = self.entry(pair, block, (1, Kind::Data));
        let arrives = self.now + self.chance.between(20, 500);
        let request = entry.number << LANE_BITS | NO_LANE;
        self.tell(node, arrives, Told::Ask(Ask { request, what: What::Write(vec![entry]) }));
        entry.number
    }

    /// What a block says to whoever reads it by this node; `None`: it does not lead, or does not know yet.
    pub(crate) fn read_block(&self, node: NodeId, block: u64) -> Option<u64> {
        let shell = self.machines[&node].group.shell.as_deref()?;
        let stored = || self.store(node).read(block).value();
        shell.apply.dirty(block).or_else(stored)
    }

    /// A request arrived.
    pub(crate) fn is_asked(&mut self, node: NodeId, ask: Ask) {
        let now = self.machines[&node].clock.at(self.now);
        let Some(shell) = self.shell(node) else { return };
        let Some(epoch) = shell.reigns(now) else { return self.ended(node, ask.request, Outcome::Unknown) };
        match &ask.what {
            What::Write(entries) => {
                let last = entries.len().saturating_sub(1);
                for (place, entry) in entries.iter().enumerate() {
                    shell.waiting.push_back((*entry, (place == last).then_some(ask.request)));
                }
            }
            What::Read { first, blocks } => {
                if !shell.is_readable() {
                    return self.ended(node, ask.request, Outcome::Unknown);
                }
                let broken = self.look_up(node, *first, *blocks).err();
                let at = self.now + self.chance.between(20, 3_000);
                self.tell(node, at, Told::Answer { ask, epoch, broken });
            }
        }
    }

    /// I12, V5: what these blocks say is what was promised last.
    fn look_up(&self, node: NodeId, first: u64, blocks: u64) -> Result<(), String> {
        let group = &self.machines[&node].group;
        let Some(shell) = &group.shell else { return Ok(()) };
        let ledger = &self.whole(node).ledger;
        if shell.apply.visible < ledger.upto() {
            let (mine, all) = (shell.apply.visible.0, ledger.upto().0);
            return Err(format!("it shows writes up to {mine}, and {all} count"));
        }
        for block in first..first + blocks {
            let (seen, image) = (self.read_block(node, block), ledger.block(block));
            if seen != Some(image) {
                return Err(format!("block {block} says {seen:x?}, and not {image:x}"));
            }
        }
        Ok(())
    }

    /// A read is answered if its holder led from its beginning to its end (F19).
    pub(crate) fn answers(&mut self, node: NodeId, ask: &Ask, epoch: Epoch, broken: Option<String>) {
        let now = self.machines[&node].clock.at(self.now);
        let reigns = self.shell(node).and_then(|shell| shell.reigns(now));
        if reigns != Some(epoch) {
            return self.ended(node, ask.request, Outcome::Unknown);
        }
        if let Some(why) = broken {
            self.oracle.violated(self.now, format!("a read at n{}: {why}", node.0));
        }
        self.oracle.reached.insert("read");
        self.ended(node, ask.request, Outcome::Done);
    }

    /// A guest has its answer.
    pub(crate) fn ended(&mut self, node: NodeId, request: u64, outcome: Outcome) {
        let pair = self.pair_of(node);
        let lane = usize::try_from(request & NO_LANE).unwrap_or(0);
        let whole = &mut self.groups[pair];
        let Some(waits) = whole.lanes.get_mut(lane).filter(|lane| lane.waits == Some(request)) else {
            return;
        };
        waits.waits = None;
        let pace = whole.pace.max(1);
        match outcome {
            Outcome::Done => {
                let at = self.now + self.chance.between(1, pace);
                self.schedule(at, Due::Guest { pair, lane });
            }
            Outcome::Unknown => self.elsewhere(pair, lane),
        }
    }

    /// It asks another holder, a little later.
    fn elsewhere(&mut self, pair: usize, lane: usize) {
        let holders = self.holders(pair);
        self.groups[pair].lanes[lane].at = self.chance.one_of(&holders);
        let at = self.now + self.chance.between(2_000, 60_000);
        self.schedule(at, Due::Guest { pair, lane });
    }

    /// Whoever waits for this node waits in vain.
    pub(crate) fn gone_from(&mut self, node: NodeId, outcome: Outcome) {
        let lanes = self.whole(node).lanes.iter();
        let waits: Vec<_> = lanes.filter(|lane| lane.at == node).filter_map(|lane| lane.waits).collect();
        waits.into_iter().for_each(|request| self.ended(node, request, outcome));
    }
}
