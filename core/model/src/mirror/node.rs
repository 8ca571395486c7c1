//! One holder of this model: the real machine, its disk, its store and its clock.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use bulkhead_core::holder::machine::{Holder, Mode};
use bulkhead_core::holder::words::{Action, Backing, Event, Refused, Settings, Word};
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::batch::Header;
use bulkhead_core::log::ring::Position;
use bulkhead_core::log::{Block, Life, Seq};
use bulkhead_core::mirror::membership::{Holder as Member, Policy};
use bulkhead_core::mirror::primary::{self, Primary};
use bulkhead_core::register::seat::Verdict;
use bulkhead_core::time::Instant;

use super::Lie;
use super::disk::{Disk, Entry, Found, Piece, What, share};
use crate::shared::Shared;

/// A batch on its way to the disk: its header, then its payload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flight {
    pub(super) at: Position,
    pieces: Vec<Piece>,
}

/// What a power cut leaves of a batch on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Left {
    /// None of it.
    Nothing,
    /// Its header alone.
    Header,
    /// All of it.
    Whole,
}

/// A holder and what is its own.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) holder: Option<Holder>,
    pub(super) disk: Disk,
    /// What a start finds, while it is down. Follows from the disk.
    found: Option<Found>,
    pub(super) flights: Vec<Flight>,
    pub(super) keeping: Option<(u64, Shared<Block>)>,
    /// What it has of the log, in memory or on the disk.
    pub(super) log: BTreeMap<Seq, Entry>,
    /// Every write up to this one is durable in the log.
    pub(super) safe: Seq,
    /// Its own store, durable, when each has one: writes in order.
    pub(super) store: Vec<Entry>,
    pub(super) to_apply: Seq,
    /// In microseconds since its start.
    pub(super) clock: u64,
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { holder, disk, found: _, flights, keeping, log, safe, store, to_apply, clock } = self;
        (holder, disk, flights, keeping, log, safe, store, to_apply, clock).hash(state);
    }
}

/// An action without what it borrows.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "handled at once")]
pub(super) enum Effect {
    Accepted(Seq),
    Refused(Refused),
    Commit(Shared<Block>),
    Keep(u64, Shared<Block>),
    Durable(Seq),
    Cut(Seq),
    Remade,
    Say(NodeId, Word),
    Feed { to: NodeId, epoch: Epoch, first: Seq, last: Seq },
    Fill(NodeId),
    Apply(Seq),
    Acknowledge(Seq),
    Decided(Verdict),
    Rewrite(Vec<u8>),
    Release,
}

impl Effect {
    fn of(action: Action<'_>) -> Self {
        match action {
            Action::Accepted(seq) => Self::Accepted(seq),
            Action::Refused(why) => Self::Refused(why),
            Action::Commit { header, .. } => Self::Commit(share(*header)),
            Action::Keep { at, block } => Self::Keep(at, share(*block)),
            Action::Durable(seq) => Self::Durable(seq),
            Action::Cut(from) => Self::Cut(from),
            Action::Remade => Self::Remade,
            Action::Say { to, word } => Self::Say(to, word),
            Action::Feed { to, epoch, first, last } => Self::Feed { to, epoch, first, last },
            Action::Fill { to, .. } => Self::Fill(to),
            Action::Apply(seq) => Self::Apply(seq),
            Action::Acknowledge(seq) => Self::Acknowledge(seq),
            Action::Decided(verdict) => Self::Decided(verdict),
            Action::Rewrite(payload) => Self::Rewrite(payload.to_vec()),
            Action::Release => Self::Release,
        }
    }
}

/// How long another may owe a write. A lease ends before any timer is due.
pub(super) const LATE: Duration = Duration::from_millis(100);

impl Node {
    /// A node that is down and has an empty log.
    pub(super) fn new(id: NodeId) -> Self {
        let disk = Disk::new(id);
        Self {
            holder: None,
            found: Some(disk.recover()),
            disk,
            flights: vec![],
            keeping: None,
            log: BTreeMap::new(),
            safe: Seq(0),
            store: vec![],
            to_apply: Seq(0),
            clock: 0,
        }
    }

    pub(super) fn now(&self) -> Instant {
        Instant::from_micros(self.clock)
    }

    pub(super) fn start(&mut self, backing: Backing, is_founder: bool) -> Vec<Effect> {
        let mut effects = vec![];
        if let Some(Found { recovered, superblock, .. }) = self.found.take() {
            // Another one at every start that another could tell from it.
            let seed = u64::from(superblock.identity.node.0) << 32 | superblock.seq;
            let settings = Settings { backing, late: LATE, policy: Policy::Back, is_founder, seed };
            let out = &mut |action: Action<'_>| effects.push(Effect::of(action));
            self.holder = Some(Holder::new(settings, recovered, out));
        }
        effects
    }

    pub(super) fn step(&mut self, event: Event<'_>) -> Vec<Effect> {
        let (now, mut effects) = (self.now(), vec![]);
        if let Some(holder) = &mut self.holder {
            holder.step(now, event, &mut |action| effects.push(Effect::of(action)));
        }
        effects
    }

    /// A batch goes to the disk.
    pub(super) fn commit(&mut self, block: Shared<Block>) {
        let Some((header, _)) = Header::parse(block.get()) else { return };
        let at = header.at;
        let mut pieces = vec![Piece { at, blocks: 1, what: What::Header(block) }];
        let mut next = at.after(1);
        for seq in (header.first.0..=header.last().0).map(Seq) {
            let Entry { value, blocks, .. } = self.log[&seq];
            pieces.push(Piece { at: next, blocks: blocks.into(), what: What::Data(value) });
            next = next.after(blocks.into());
        }
        self.flights.push(Flight { at, pieces });
    }

    /// A batch is durable.
    pub(super) fn land(&mut self, which: usize) -> Position {
        let flight = self.flights.remove(which);
        flight.pieces.into_iter().for_each(|piece| self.disk.append(piece));
        flight.at
    }

    /// The superblock on its way is durable.
    pub(super) fn kept(&mut self) {
        if let Some((at, block)) = self.keeping.take() {
            self.disk.keep(at, block);
        }
    }

    /// The process is gone, with its memory; of what was on its way to the disk, so much is durable.
    pub(super) fn crash(&mut self, left: &[Left], is_kept: bool, lie: Option<Lie>) {
        for (flight, left) in core::mem::take(&mut self.flights).into_iter().zip(left) {
            let pieces = match left {
                Left::Nothing => 0,
                Left::Header => 1,
                Left::Whole => flight.pieces.len(),
            };
            flight.pieces.into_iter().take(pieces).for_each(|piece| self.disk.append(piece));
        }
        if is_kept {
            self.kept();
        }
        self.keeping = None;
        self.holder = None;
        self.to_apply = Seq(0);
        self.clock = 0;
        match lie {
            Some(Lie::BatchLost) => self.disk.forget_batch(),
            Some(Lie::SuperblockLost) => self.disk.forget_superblock(),
            Some(_) | None => {}
        }
        let found = self.disk.recover();
        self.log = found.writes.clone();
        self.safe = found.safe;
        self.found = Some(found);
    }

    /// What a crash may leave of what is on its way.
    pub(super) fn crashes(&self) -> impl Iterator<Item = (Vec<Left>, bool)> + use<> {
        let rests = self.flights.iter().fold(vec![vec![]], |rests: Vec<Vec<Left>>, _| {
            let with = |rest: &Vec<Left>, left| rest.iter().copied().chain([left]).collect();
            let each =
                |rest: &Vec<Left>| [Left::Nothing, Left::Header, Left::Whole].map(|left| with(rest, left));
            rests.iter().flat_map(each).collect()
        });
        let kept: &[bool] = if self.keeping.is_some() { &[false, true] } else { &[false] };
        rests.into_iter().flat_map(|rest| kept.iter().map(move |is_kept| (rest.clone(), *is_kept)))
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        self.holder.as_ref().map(Holder::mode)
    }

    /// The primary, while it leads as far as it knows.
    pub(super) fn primary(&self) -> Option<&Primary> {
        let primary = self.holder.as_ref()?.primary()?;
        (*primary.mode() != primary::Mode::Stopped).then_some(primary)
    }

    /// Which holder it is, with the log that is durable.
    pub(super) fn member(&self) -> Member {
        match (&self.holder, &self.found) {
            (Some(holder), _) => holder.me(),
            (None, Some(found)) => {
                let identity = found.superblock.identity;
                Member { node: identity.node, life: identity.life }
            }
            (None, None) => Member { node: NodeId(0), life: Life(0) },
        }
    }

    /// The write that its log expects next.
    pub(super) fn next(&self) -> Option<Seq> {
        Some(self.holder.as_ref()?.log()?.next())
    }

    /// All writes from the first on: those in the store, then those in its log up to `upto`.
    pub(super) fn everything(&self, store: &[Entry], upto: Seq) -> Vec<Entry> {
        let mut all = store.to_vec();
        for seq in (u64::try_from(all.len()).expect("few") + 1..=upto.0).map(Seq) {
            let Some(entry) = self.log.get(&seq) else { break };
            all.push(*entry);
        }
        all
    }
}
