//! Three holders with real logs on disks that tear, a register, and streams between them. Checks at every
//! takeover and every acknowledgement what must hold.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::vec;
use std::vec::Vec;

use super::machine::{Holder, Mode};
use super::recovery::{self, Recovery};
use super::words::{Action, Backing, Event, Refused, Settings, Word};
use crate::crc::crc32c;
use crate::id::{Epoch, GroupId, NodeId, SiteId};
use crate::log::batch::{BlockIndex, Header, Kind, Sum, Volume, Write};
use crate::log::ring::{BLOCKS_MIN, Position, RING_AT, Ring};
use crate::log::scan::{self, Payload};
use crate::log::superblock::{self, Identity, Superblock};
use crate::log::testing::{Chance, Disk};
use crate::log::{BLOCK_LEN, Block, Life, Seq};
use crate::mirror::membership::{Membership, Policy};
use crate::register::seat::Verdict;
use crate::time::Instant;

pub(super) const MS: u64 = 1_000;
pub(super) const LEASE: u64 = 400 * MS;
const LATE: Duration = Duration::from_millis(60);

/// A write: its epoch, how many blocks, and what it says in each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) made: Epoch,
    pub(super) blocks: u32,
    pub(super) value: u64,
}

impl Entry {
    pub(super) fn write(&self) -> Write {
        Write::new(Volume(1), BlockIndex(self.value), self.blocks, Kind::Data).unwrap()
    }

    fn block(&self) -> Block {
        let mut block = [0; BLOCK_LEN];
        block.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.value.to_le_bytes()));
        block
    }

    pub(super) fn sums(&self) -> Vec<Sum> {
        vec![Sum(crc32c(&self.block())); usize::try_from(self.blocks).unwrap()]
    }
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a test")]
pub(super) enum Message {
    Word(Word),
    Fed { epoch: Epoch, seq: Seq, entry: Entry },
}

pub(super) struct Node {
    pub(super) disk: Disk,
    /// Its own store, when each has one: writes in order. Durable.
    pub(super) store: Vec<Entry>,
    pub(super) holder: Option<Holder>,
    flights: Vec<(Position, Vec<u64>)>,
    pub(super) is_keeping: bool,
    /// What it has of the log, in memory or on the disk.
    pub(super) writes: BTreeMap<Seq, Entry>,
    pub(super) to_apply: Seq,
    pub(super) sleeps: u64,
    pub(super) meets: Vec<bool>,
    /// Of its log, so far.
    lives: Vec<Life>,
}

/// The group's register: linearizable, with a lease.
pub(super) struct Register {
    pub(super) epoch: Epoch,
    pub(super) primary: Option<usize>,
    pub(super) payload: Option<Vec<u8>>,
    pub(super) until: u64,
    /// How often it was taken.
    pub(super) tenure: u64,
}

pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) backing: Backing,
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) register: Register,
    pub(super) wires: BTreeMap<(usize, usize), Option<VecDeque<Message>>>,
    pub(super) acknowledged: BTreeMap<Seq, Entry>,
    /// Payloads on their way to the register, and whether they are chosen: who, and in which tenure.
    pub(super) rewrites: Vec<(usize, u64, Vec<u8>, bool)>,
    pub(super) fills: Vec<(usize, usize)>,
    /// The store of all, when they share one.
    pub(super) shared: Vec<Entry>,
    pub(super) values: u64,
    pub(super) seen: Seen,
    /// Changes of mode.
    pub(super) edges: BTreeSet<(&'static str, &'static str)>,
}

/// What must have happened, or the run shows nothing.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) takeovers: u64,
    pub(super) cuts: u64,
    pub(super) fills: u64,
    pub(super) remade: u64,
    pub(super) damaged: u64,
    pub(super) busy: u64,
    pub(super) full: u64,
    pub(super) trims: u64,
    pub(super) joined: u64,
    pub(super) outranked: u64,
}

pub(super) fn node_id(place: usize) -> NodeId {
    NodeId(u16::try_from(place).unwrap() + 1)
}

fn place(node: NodeId) -> usize {
    usize::from(node.0) - 1
}

fn empty(node: usize) -> Disk {
    let life = Life(u32::try_from(node).unwrap() + 1);
    let identity = Identity { site: SiteId([1; 16]), group: GroupId([2; 16]), node: node_id(node), life };
    let superblock = Superblock::new(identity, Ring::new(BLOCKS_MIN).unwrap(), Seq(1));
    let mut disk = Disk::default();
    disk.kept.insert(superblock::copy_of(superblock.seq), superblock.encode());
    disk
}

impl World {
    pub(super) fn new(seed: u64, backing: Backing) -> Self {
        let node = |node| Node {
            disk: empty(node),
            store: vec![],
            holder: None,
            flights: vec![],
            is_keeping: false,
            writes: BTreeMap::new(),
            to_apply: Seq(0),
            sleeps: 0,
            meets: vec![false; 3],
            lives: vec![],
        };
        let pairs = (0..3).flat_map(|a| (0..3).map(move |b| (a, b))).filter(|(a, b)| a != b);
        Self {
            chance: Chance(seed * 2 + 1),
            backing,
            now: 1_000 * MS,
            nodes: (0..3).map(node).collect(),
            register: Register { epoch: Epoch(0), primary: None, payload: None, until: 0, tenure: 0 },
            wires: pairs.map(|pair| (pair, Some(VecDeque::new()))).collect(),
            acknowledged: BTreeMap::new(),
            rewrites: vec![],
            fills: vec![],
            shared: vec![],
            values: 0,
            seen: Seen::default(),
            edges: BTreeSet::new(),
        }
    }

    pub(super) fn time(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    pub(super) fn pick(&mut self, limit: usize) -> usize {
        usize::try_from(self.chance.below(limit as u64)).unwrap()
    }

    pub(super) fn superblock(&self, node: usize) -> Superblock {
        let copies = [0, 1].map(|at| Superblock::parse(&self.nodes[node].disk.read(at)));
        superblock::newest(copies).unwrap()
    }

    /// Reads the log, as the shell does, and begins.
    pub(super) fn start(&mut self, node: usize) {
        self.nodes[node].disk.flush_all();
        let superblock = self.superblock(node);
        let ring = superblock.ring;
        let mut recovery = Recovery::new(superblock.clone());
        let (mut writes, mut recovered) = (BTreeMap::new(), None);
        let disk = &self.nodes[node].disk;
        let read = |at: Position| disk.read(ring.extents(at, 1).next().unwrap().first);
        let mut event = scan::Event::Begin;
        let mut held: Block;
        loop {
            let (mut ask, mut check) = (None, None);
            recovery.step(event, &mut |action| match action {
                recovery::Action::Scan(scan::Action::Read(at)) => ask = Some(at),
                recovery::Action::Scan(scan::Action::Check(header)) => check = Some(header.clone()),
                recovery::Action::Scan(scan::Action::Found(header)) => {
                    found(header, &superblock, &read, &mut writes);
                }
                recovery::Action::Scan(scan::Action::Ended(_)) => {}
                recovery::Action::Ended(one) => recovered = Some(one),
            });
            match (ask, check) {
                (Some(at), _) => {
                    held = read(at);
                    event = scan::Event::Block(Some(&held));
                }
                (None, Some(header)) => event = scan::Event::Payload(whole(&header, &read)),
                (None, None) => break,
            }
        }
        let recovered = recovered.unwrap();
        self.nodes[node].lives.push(superblock.identity.life);
        let is_damaged = matches!(recovered.outcome(), scan::Outcome::Damaged(_));
        self.seen.damaged += u64::from(is_damaged);
        let settings = Settings {
            backing: self.backing,
            late: LATE,
            policy: Policy::Back,
            is_founder: node == 0,
            seed: self.chance.below(u64::MAX) | 1,
        };
        self.nodes[node].writes = writes;
        self.nodes[node].to_apply = Seq(0);
        let mut done = vec![];
        let holder = Holder::new(settings, recovered, &mut |action| done.push(Done::of(action)));
        self.nodes[node].holder = Some(holder);
        done.into_iter().for_each(|one| self.act(node, one));
    }

    pub(super) fn step(&mut self, node: usize, event: Event<'_>) {
        let now = self.time();
        let Some(holder) = &mut self.nodes[node].holder else { return };
        let before = holder.mode();
        let is_timeout = event == Event::Timeout;
        let mut done = vec![];
        holder.step(now, event, &mut |action| done.push(Done::of(action)));
        let after = holder.mode();
        let deadline = holder.deadline();
        assert!(!is_timeout || deadline.is_none_or(|at| now < at), "{deadline:?} at {now:?}: {holder:?}");
        if before != after {
            self.edges.insert((before.name(), after.name()));
        }
        if before != Mode::Leading && after == Mode::Leading {
            self.leads(node);
        }
        done.into_iter().for_each(|one| self.act(node, one));
    }

    /// I3, I10, V4: whoever leads has every acknowledged write, and no store is ahead of it.
    fn leads(&mut self, node: usize) {
        self.seen.takeovers += 1;
        let all = self.everything(node);
        for (seq, entry) in &self.acknowledged {
            let mine = all.get(usize::try_from(seq.0).unwrap() - 1);
            assert_eq!(mine, Some(entry), "{seq:?} was acknowledged, and node {node} leads");
        }
        for other in self.nodes.iter().map(|other| &other.store).chain([&self.shared]) {
            assert!(all.starts_with(other), "a store is ahead of whoever leads");
        }
    }

    /// All writes of a holder from the first on: those in its store, then those in its log.
    pub(super) fn everything(&self, node: usize) -> Vec<Entry> {
        let mut all = match self.backing {
            Backing::Local => self.nodes[node].store.clone(),
            Backing::Shared => self.shared.clone(),
        };
        while let Some(entry) = self.nodes[node].writes.get(&Seq(all.len() as u64 + 1)) {
            all.push(*entry);
        }
        all
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) {
        if let Some(Some(wire)) = self.wires.get_mut(&(from, to)) {
            wire.push_back(message);
        }
    }

    fn act(&mut self, node: usize, done: Done) {
        let now = self.now;
        match done {
            Done::Accepted(seq) => {
                let made = self.nodes[node].holder.as_ref().unwrap().primary().unwrap().epoch();
                let entry = Entry { made, ..self.offered() };
                self.nodes[node].writes.insert(seq, entry);
            }
            Done::Refused(refused) => {
                assert_ne!(refused, Refused::Malformed);
                self.seen.busy += u64::from(refused == Refused::Busy);
            }
            Done::Commit { at, blocks, header } => self.commit(node, at, blocks, &header),
            Done::Keep { at, block } => {
                assert!(!self.nodes[node].is_keeping, "one at a time");
                self.nodes[node].disk.cached.push((at, *block));
                self.nodes[node].is_keeping = true;
            }
            Done::Durable => {}
            Done::Remade => {
                self.seen.remade += 1;
                let life = self.nodes[node].holder.as_ref().unwrap().me().life;
                assert!(!self.nodes[node].lives.contains(&life), "F14: whoever counts on the old log");
                self.nodes[node].lives.push(life);
            }
            Done::Cut(from) => {
                self.seen.cuts += 1;
                self.nodes[node].writes.retain(|seq, _| *seq < from);
            }
            Done::Say { to, word } => {
                self.seen.outranked += u64::from(matches!(word, Word::Outranked { .. }));
                self.send(node, place(to), Message::Word(word));
            }
            Done::Feed { to, epoch, first, last } => {
                for seq in (first.0..=last.0).map(Seq) {
                    let entry = self.nodes[node].writes[&seq];
                    self.send(node, place(to), Message::Fed { epoch, seq, entry });
                }
            }
            Done::Fill { to } => self.fills.push((node, place(to))),
            Done::Apply(seq) => {
                let leads = self.nodes[node].holder.as_ref().unwrap().primary().is_some();
                assert!(leads || self.backing == Backing::Local, "one writes to the store of all");
                self.nodes[node].to_apply = self.nodes[node].to_apply.max(seq);
            }
            Done::Acknowledge(seq) => {
                assert!(now < self.register.until && self.register.primary == Some(node), "V3");
                let all = self.everything(node);
                for number in 1..=seq.0 {
                    let entry = all[usize::try_from(number).unwrap() - 1];
                    let before = self.acknowledged.insert(Seq(number), entry);
                    assert!(before.is_none_or(|before| before == entry), "V8: write {number} changed");
                }
            }
            Done::Decided(verdict) => self.decided(node, verdict),
            Done::Rewrite(payload) => {
                self.rewrites.push((node, self.register.tenure, payload, false));
            }
            Done::Release => {
                if self.register.primary == Some(node) {
                    self.register.until = self.now;
                }
            }
        }
    }

    /// The write that is about to be offered.
    pub(super) fn offered(&self) -> Entry {
        let blocks =
            if self.values.is_multiple_of(13) { 40 } else { 1 + u32::try_from(self.values % 3).unwrap() };
        Entry { made: Epoch(0), blocks, value: self.values }
    }

    fn commit(&mut self, node: usize, at: Position, blocks: u64, header: &Block) {
        let here = &mut self.nodes[node];
        let (parsed, _) = Header::parse(header).unwrap();
        let mut content = vec![*header];
        for seq in (parsed.first.0..=parsed.last().0).map(Seq) {
            let entry = here.writes[&seq];
            content.extend(vec![entry.block(); usize::try_from(entry.blocks).unwrap()]);
        }
        let ring = here.holder.as_ref().unwrap().kept().ring;
        let places: Vec<_> = ring.extents(at, blocks).flat_map(|e| e.first..e.first + e.blocks).collect();
        assert_eq!(places.len(), content.len(), "a batch is as long as it says");
        assert!(RING_AT <= places[0]);
        here.disk.cached.extend(places.iter().copied().zip(content));
        here.flights.push((at, places));
    }

    fn decided(&mut self, node: usize, verdict: Verdict) {
        let Verdict::Take(payload) = verdict else { return };
        let register = &mut self.register;
        register.epoch = register.epoch.next();
        register.primary = Some(node);
        register.payload = Some(payload.to_vec());
        register.until = self.now + LEASE;
        register.tenure += 1;
        let (epoch, until) = (register.epoch, Instant::from_micros(register.until));
        self.step(node, Event::Held { epoch, payload: &payload, until });
    }

    /// A commit of a holder is durable.
    pub(super) fn complete(&mut self, node: usize) {
        if self.nodes[node].flights.is_empty() {
            return;
        }
        let which = self.pick(self.nodes[node].flights.len());
        let (at, places) = self.nodes[node].flights.remove(which);
        self.nodes[node].disk.flush(&places);
        self.step(node, Event::Committed(at));
    }

    /// The superblock that is on its way is durable.
    pub(super) fn keep(&mut self, node: usize) {
        let here = &mut self.nodes[node];
        if core::mem::take(&mut here.is_keeping) {
            let before = here.holder.as_ref().unwrap().kept().tail.at;
            here.disk.flush(&[0, 1]);
            self.step(node, Event::Kept);
            let after = self.nodes[node].holder.as_ref().unwrap().kept().tail.at;
            self.seen.trims += u64::from(before < after);
        }
    }

    /// The holder is gone; with its power, or only its process.
    pub(super) fn stop(&mut self, node: usize, with_power: bool) {
        let here = &mut self.nodes[node];
        here.holder = None;
        here.flights.clear();
        here.is_keeping = false;
        here.writes.clear();
        here.meets = vec![false; 3];
        if with_power {
            here.disk.power_cut(&mut self.chance);
        }
        for (_, wire) in self.wires.iter_mut().filter(|((a, b), _)| *a == node || *b == node) {
            wire.iter_mut().for_each(VecDeque::clear);
        }
        self.nodes.iter_mut().for_each(|other| other.meets[node] = false);
    }

    pub(super) fn membership(&self) -> Option<Membership> {
        Some(Membership::parse(self.register.payload.as_ref()?).unwrap())
    }
}

/// Reads the writes of a batch that count.
fn found(
    header: &Header,
    superblock: &Superblock,
    read: &dyn Fn(Position) -> Block,
    writes: &mut BTreeMap<Seq, Entry>,
) {
    let mut at = header.at.after(1);
    let void = superblock.void_from(header.at);
    for (seq, write) in (header.first.0..).map(Seq).zip(header.content.writes()) {
        let value = u64::from_le_bytes(*read(at).first_chunk().unwrap());
        let entry = Entry { made: header.epoch, blocks: write.blocks(), value };
        assert!((0..write.blocks()).all(|n| read(at.after(n.into())) == entry.block()), "{seq:?}");
        assert_eq!(entry.write(), *write);
        if void.is_none_or(|from| seq < from) {
            writes.insert(seq, entry);
        }
        at = at.after(write.blocks().into());
    }
}

fn whole(header: &Header, read: &dyn Fn(Position) -> Block) -> Payload {
    let blocks = (1..).map(|n| read(header.at.after(n)));
    let is_whole = blocks.zip(header.content.sums()).all(|(block, sum)| Sum(crc32c(&block)) == *sum);
    if is_whole { Payload::Whole } else { Payload::Broken }
}

/// An action without what it borrows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a test")]
enum Done {
    Accepted(Seq),
    Refused(Refused),
    Commit { at: Position, blocks: u64, header: std::boxed::Box<Block> },
    Keep { at: u64, block: std::boxed::Box<Block> },
    Durable,
    Cut(Seq),
    Remade,
    Say { to: NodeId, word: Word },
    Feed { to: NodeId, epoch: Epoch, first: Seq, last: Seq },
    Fill { to: NodeId },
    Apply(Seq),
    Acknowledge(Seq),
    Decided(Verdict),
    Rewrite(Vec<u8>),
    Release,
}

impl Done {
    fn of(action: Action<'_>) -> Self {
        match action {
            Action::Accepted(seq) => Self::Accepted(seq),
            Action::Refused(why) => Self::Refused(why),
            Action::Commit { at, blocks, header, .. } => {
                Self::Commit { at, blocks, header: (*header).into() }
            }
            Action::Keep { at, block } => Self::Keep { at, block: (*block).into() },
            Action::Durable(_) => Self::Durable,
            Action::Cut(from) => Self::Cut(from),
            Action::Remade => Self::Remade,
            Action::Say { to, word } => Self::Say { to, word },
            Action::Feed { to, epoch, first, last } => Self::Feed { to, epoch, first, last },
            Action::Fill { to, .. } => Self::Fill { to },
            Action::Apply(seq) => Self::Apply(seq),
            Action::Acknowledge(seq) => Self::Acknowledge(seq),
            Action::Decided(verdict) => Self::Decided(verdict),
            Action::Rewrite(payload) => Self::Rewrite(payload.to_vec()),
            Action::Release => Self::Release,
        }
    }
}
