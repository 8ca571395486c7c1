//! A disk that loses power: what was flushed stays, of the rest any part stays in any order.

use super::Dice;
use bulkhead_core::plan::{Data, Plan, Step};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Why a write or flush did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Power was cut.
    Cut,
    /// The disk refused the write.
    Refused,
}

/// The bytes of a sector; `None`: it cannot be read.
pub type Sector = Option<Rc<[u8]>>;

/// The disk. Sectors that were never written are zero.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Bytes of a sector.
    pub sector: usize,
    durable: BTreeMap<u64, Sector>,
    /// Written since the last flush, in order.
    pending: Vec<(u64, Sector)>,
    /// Sector writes until power is cut, in the middle of the next one.
    pub power: Option<usize>,
    /// Writes are refused.
    pub refuses: bool,
    /// Sectors of which no two may be in flight at once (V36).
    pub never_together: Vec<u64>,
    /// When set, only these sectors may be written (V37).
    pub only: Option<Vec<u64>>,
    /// Sector writes so far.
    pub writes: usize,
}

impl Disk {
    pub fn new(sector: usize) -> Self {
        Self {
            sector,
            durable: BTreeMap::new(),
            pending: Vec::new(),
            power: None,
            refuses: false,
            never_together: Vec::new(),
            only: None,
            writes: 0,
        }
    }

    /// Reads whole sectors, as the driver shows them: the last write, durable or not.
    pub fn read(&self, sector: u64) -> Sector {
        let pending = self.pending.iter().rev().find(|(at, _)| *at == sector).map(|(_, bytes)| bytes);
        let bytes = pending.or_else(|| self.durable.get(&sector)).cloned();
        bytes.unwrap_or_else(|| Some(vec![0; self.sector].into()))
    }

    /// Reads `len` bytes from byte `at`; `None` when a sector cannot be read.
    pub fn bytes(&self, at: u64, len: usize) -> Option<Vec<u8>> {
        let first = at / self.size();
        let mut bytes = Vec::with_capacity(len);
        for sector in first..first + u64::try_from(len.div_ceil(self.sector)).unwrap() {
            bytes.extend_from_slice(&self.read(sector)?);
        }
        bytes.truncate(len);
        Some(bytes)
    }

    fn size(&self) -> u64 {
        u64::try_from(self.sector).unwrap()
    }

    /// Puts bytes on the disk, durable at once: for setting a scene.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        for (sector, chunk) in (at / self.size()..).zip(bytes.chunks(self.sector)) {
            let mut whole = chunk.to_vec();
            whole.resize(self.sector, 0);
            self.durable.insert(sector, Some(whole.into()));
        }
    }

    /// Makes a sector unreadable until it is written again.
    pub fn spoil(&mut self, at: u64) {
        self.durable.insert(at / self.size(), None);
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Stop> {
        for (sector, chunk) in (at / self.size()..).zip(bytes.chunks(self.sector)) {
            let allowed = self.only.as_ref().is_none_or(|only| only.contains(&sector));
            assert!(allowed, "V37: the boot path wrote sector {sector}");
            let in_flight =
                self.pending.iter().any(|(at, _)| *at != sector && self.never_together.contains(at));
            assert!(!(in_flight && self.never_together.contains(&sector)), "V36: both copies are in flight");
            if self.refuses {
                return Err(Stop::Refused);
            }
            let mut whole = chunk.to_vec();
            whole.resize(self.sector, 0);
            self.pending.push((sector, Some(whole.into())));
            self.writes += 1;
            match self.power {
                Some(0) => return Err(Stop::Cut),
                Some(left) => self.power = Some(left - 1),
                None => {}
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.durable.extend(self.pending.drain(..));
    }

    /// Carries out a plan. `image` and `entries` are what its data stand for.
    pub fn carry_out(&mut self, plan: &Plan, image: &[u8], entries: &[u8]) -> Result<(), Stop> {
        for step in plan.steps() {
            match step {
                Step::Write { at, data: Data::Sector(bytes) } => self.write(at.0, bytes)?,
                Step::Write { at, data: Data::Image { from, len } } => {
                    let from = usize::try_from(*from).unwrap();
                    let to = from + usize::try_from(*len).unwrap();
                    self.write(at.0, &image[from..to])?;
                }
                Step::Write { at, data: Data::Entries } => self.write(at.0, entries)?,
                Step::Flush => self.flush(),
            }
        }
        Ok(())
    }

    /// After a cut: every disk that may be left, or a sample of them.
    pub fn outcomes(&self, effort: Effort, dice: &mut Dice) -> Vec<Self> {
        let settled = Self { pending: Vec::new(), power: None, refuses: false, only: None, ..self.clone() };
        // A sector that was alone is torn at every byte; of many, any may be the torn one.
        let tears = if self.pending.len() > 1 { effort.min(Effort::Some) } else { effort };
        let mut left = Vec::new();
        for kept in self.subsets(effort, dice) {
            let mut disk = settled.clone();
            disk.durable.extend(kept.iter().cloned());
            left.push(disk.clone());
            // One sector of those that did not make it is caught half way.
            let lost: Vec<_> = self.pending.iter().filter(|write| !kept.contains(write)).collect();
            if let Some((at, Some(new))) = lost.get(dice.below(lost.len())) {
                for torn in torn(disk.read(*at), new, tears, dice) {
                    let mut disk = disk.clone();
                    disk.durable.insert(*at, torn);
                    left.push(disk);
                }
            }
        }
        left
    }

    /// The few outcomes that differ for a model that sees a sector as whole or not: of a single
    /// sector old, unreadable, new; of many none, a half with one unreadable, all.
    pub fn kinds_of_outcome(&self) -> Vec<Self> {
        let settled = Self { pending: Vec::new(), power: None, refuses: false, only: None, ..self.clone() };
        let (mut torn, mut new) = (settled.clone(), settled.clone());
        let (last, before) = self.pending.split_last().expect("a cut is in the middle of a write");
        torn.durable.extend(before.iter().step_by(2).cloned());
        torn.durable.insert(last.0, None);
        new.durable.extend(self.pending.iter().cloned());
        vec![settled, torn, new]
    }

    fn subsets(&self, effort: Effort, dice: &mut Dice) -> Vec<Vec<(u64, Sector)>> {
        let count = self.pending.len();
        let chosen = |mask: u64| {
            let bit = |index: &usize| mask >> index & 1 == 1;
            (0..count).filter(bit).map(|index| self.pending[index].clone()).collect()
        };
        if count <= effort.exhaustive_up_to() {
            return (0..1_u64 << count).map(chosen).collect();
        }
        let all = u64::MAX >> (64 - count);
        let mut masks = vec![0, all, all >> 1];
        masks.extend((0..effort.samples()).map(|_| dice.roll() & all));
        masks.into_iter().map(chosen).collect()
    }
}

/// How many of the disks that a cut may leave are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// The fewest that show every kind.
    Few,
    /// A sector torn at a few bytes.
    Some,
    /// A sector torn at every byte.
    Whole,
}

impl Effort {
    const fn exhaustive_up_to(self) -> usize {
        match self {
            Self::Whole => 4,
            Self::Some => 3,
            Self::Few => 1,
        }
    }

    const fn samples(self) -> usize {
        match self {
            Self::Whole => 24,
            Self::Some => 6,
            Self::Few => 1,
        }
    }
}

/// What may be left of a sector that was being written: a part of the new bytes before or behind
/// a part of the old, garbage, or a sector that cannot be read.
fn torn(old: Sector, new: &[u8], effort: Effort, dice: &mut Dice) -> Vec<Sector> {
    let len = new.len();
    let at: Vec<usize> = match effort {
        Effort::Whole => (1..len).collect(),
        Effort::Some => vec![1, 17, 40, 64, 70, 130, 500, 508, 511],
        Effort::Few => vec![1 + dice.below(len - 1)],
    };
    let garbage: Vec<u8> = (0..len).map(|_| dice.roll().to_le_bytes()[0]).collect();
    let mut torn = vec![None, Some(garbage.into())];
    let Some(old) = old else { return torn };
    for at in at {
        torn.push(Some([&new[..at], &old[at..]].concat().into()));
        torn.push(Some([&old[..at], &new[at..]].concat().into()));
    }
    torn
}
