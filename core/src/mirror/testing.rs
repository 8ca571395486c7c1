//! Three holders, a register, and everything that can happen between them: streams that break, disks that are
//! slow, holders that hang and lose their power, leases that run out. Checks at every takeover and every
//! acknowledgement what must hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::vec;
use std::vec::Vec;

use super::history::History;
use super::membership::{Holder, Membership, Policy};
use super::primary::{self, Primary};
use super::secondary::{self, Secondary};
use crate::id::{Epoch, NodeId};
use crate::log::{Life, Seq};
use crate::time::Instant;
use core::time::Duration;

pub(super) const MS: u64 = 1_000;
pub(super) const LEASE: u64 = 400 * MS;
const LATE: Duration = Duration::from_millis(60);

pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub(super) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// A write: its epoch, and what it says.
type Entry = (Epoch, u64);

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a test")]
pub(super) enum Message {
    Offer { epoch: Epoch, history: History, oldest: Seq },
    Feed { epoch: Epoch, first: Seq, entries: Vec<Entry>, commit: Seq },
    Commit { epoch: Epoch, seq: Seq },
    Ready { epoch: Epoch, next: Seq },
    Behind { epoch: Epoch, applied: Seq },
    Have { epoch: Epoch, durable: Seq },
    Outranked { promised: Epoch },
}

/// What survives a power cut of one holder.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) log: Vec<Entry>,
    pub(super) promised: Epoch,
    /// Writes in its backing store, in order.
    pub(super) applied: usize,
    /// Writes that its log has trimmed: the store has them.
    pub(super) trimmed: usize,
}

#[expect(clippy::large_enum_variant, reason = "three of them, in a test")]
pub(super) enum Role {
    Down,
    /// A promise and a cut wait for the disk.
    Secondary(Secondary, Option<(Epoch, Seq)>),
    Primary(Primary),
}

pub(super) struct Node {
    pub(super) disk: Disk,
    pub(super) role: Role,
    /// Appended, not durable yet.
    pub(super) pending: VecDeque<Entry>,
    /// It hangs until then.
    pub(super) sleeps: u64,
    pub(super) meets: Vec<bool>,
}

/// The group's register: linearizable, with a lease.
pub(super) struct Register {
    pub(super) epoch: Epoch,
    pub(super) primary: Option<usize>,
    pub(super) set: Membership,
    pub(super) until: u64,
}

pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) register: Register,
    /// Streams between holders, in order; none while there is no path.
    pub(super) wires: BTreeMap<(usize, usize), Option<VecDeque<Message>>>,
    /// Every write that was acknowledged, by number.
    pub(super) acknowledged: BTreeMap<Seq, Entry>,
    /// What each primary proposed, on its way to the register, and answers on their way back.
    pub(super) proposals: Vec<(usize, Epoch, Membership, bool)>,
    /// Holders to be filled with blocks, and by whom.
    pub(super) fills: Vec<(usize, usize)>,
    pub(super) values: u64,
    pub(super) edges: BTreeSet<(&'static str, &'static str)>,
    pub(super) seen: Seen,
}

/// What must have happened, or the run shows nothing.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) takeovers: u32,
    pub(super) cuts: u32,
    pub(super) joined: u32,
    pub(super) dropped: u32,
    pub(super) behind: u32,
    pub(super) written_back: u32,
    pub(super) outranked: u32,
}

pub(super) fn holder(node: usize) -> Holder {
    let number = u16::try_from(node).unwrap() + 1;
    Holder { node: NodeId(number), life: Life(u32::from(number)) }
}

pub(super) fn place(node: NodeId) -> usize {
    usize::from(node.0) - 1
}

/// What a log of these writes, of which the first ones are trimmed, tells of itself.
pub(super) fn history(log: &[Entry], trimmed: usize) -> History {
    let mut history = History::new(Seq(trimmed as u64 + 1));
    log.iter().skip(trimmed).for_each(|(epoch, _)| history.append(*epoch, 1));
    history
}

pub(super) fn at(log: &[Entry], seq: Seq) -> Option<Entry> {
    log.get(usize::try_from(seq.0).unwrap().checked_sub(1)?).copied()
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let disk = Disk { log: vec![], promised: Epoch(0), applied: 0, trimmed: 0 };
        let node = |_| Node {
            disk: disk.clone(),
            role: Role::Down,
            pending: VecDeque::new(),
            sleeps: 0,
            meets: vec![false; 3],
        };
        let set = Membership::alone(holder(0));
        let pairs = (0..3).flat_map(|a| (0..3).map(move |b| (a, b))).filter(|(a, b)| a != b);
        Self {
            chance: Chance(seed * 2 + 1),
            now: 1_000 * MS,
            nodes: (0..3).map(node).collect(),
            register: Register { epoch: Epoch(0), primary: None, set, until: 0 },
            wires: pairs.map(|pair| (pair, Some(VecDeque::new()))).collect(),
            acknowledged: BTreeMap::new(),
            proposals: vec![],
            fills: vec![],
            values: 0,
            edges: BTreeSet::new(),
            seen: Seen::default(),
        }
    }

    pub(super) fn time(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) {
        if let Some(Some(wire)) = self.wires.get_mut(&(from, to)) {
            wire.push_back(message);
        }
    }

    pub(super) fn start(&mut self, node: usize) {
        let disk = &self.nodes[node].disk;
        let secondary =
            Secondary::new(disk.promised, history(&disk.log, disk.trimmed), Seq(disk.applied as u64));
        self.nodes[node].role = Role::Secondary(secondary, None);
    }

    pub(super) fn stop(&mut self, node: usize) {
        self.nodes[node].role = Role::Down;
        self.nodes[node].meets = vec![false; 3];
        // Of what was on its way to the disk, the first part may be there.
        let kept = self.chance.below(self.nodes[node].pending.len() as u64 + 1);
        for _ in 0..kept {
            let entry = self.nodes[node].pending.pop_front().unwrap();
            self.nodes[node].disk.log.push(entry);
        }
        self.nodes[node].pending.clear();
        for (_, wire) in self.wires.iter_mut().filter(|((a, b), _)| *a == node || *b == node) {
            if let Some(wire) = wire {
                wire.clear();
            }
        }
        for other in &mut self.nodes {
            other.meets[node] = false;
        }
    }

    /// Takes the register when its lease is over, as the seat does, and leads.
    pub(super) fn take(&mut self, node: usize) {
        let free = self.register.until <= self.now;
        let Role::Secondary(_, None) = &self.nodes[node].role else { return };
        if !free || self.register.set.may_lead(holder(node), true).is_err() {
            return;
        }
        // What was on its way is durable before it leads: the scan of its log would find it.
        let pending: Vec<_> = self.nodes[node].pending.drain(..).collect();
        self.nodes[node].disk.log.extend(pending);
        let epoch = self.register.epoch.next();
        let until = self.now + LEASE;
        let set = Membership::alone(holder(node));
        self.register = Register { epoch, primary: Some(node), set, until };
        let disk = &mut self.nodes[node].disk;
        disk.promised = epoch;
        for (seq, entry) in &self.acknowledged {
            assert_eq!(at(&disk.log, *seq), Some(*entry), "{seq:?} was acknowledged, and node {node} leads");
        }
        let log = primary::Log {
            oldest: Seq(disk.trimmed as u64 + 1),
            newest: Seq(disk.log.len() as u64),
            applied: Seq(disk.applied as u64),
        };
        for other in &self.nodes {
            let log = &self.nodes[node].disk.log;
            let applied = &other.disk.log[..other.disk.applied];
            assert_eq!(applied, &log[..applied.len()], "I10: a store is ahead of whoever leads");
        }
        let settings = primary::Settings { me: holder(node), epoch, late: LATE, policy: Policy::Back };
        let now = self.time();
        let (primary, todo) = Primary::new(now, settings, log, Instant::from_micros(until));
        self.nodes[node].role = Role::Primary(primary);
        self.nodes[node].meets = vec![false; 3];
        self.seen.takeovers += 1;
        todo.into_iter().for_each(|action| self.primary_acts(node, action));
    }

    pub(super) fn primary(&mut self, node: usize, event: primary::Event) {
        let now = self.time();
        let Role::Primary(primary) = &mut self.nodes[node].role else { return };
        let before = primary.mode().name();
        let todo = primary.step(now, event);
        let after = primary.mode().name();
        self.edges.extend((before != after).then_some((before, after)));
        let deadline = primary.deadline();
        assert!(deadline.is_none_or(|at| now < at), "{deadline:?} at {now:?}: {primary:?}");
        todo.into_iter().for_each(|action| self.primary_acts(node, action));
    }

    pub(super) fn primary_acts(&mut self, node: usize, action: primary::Action) {
        let Role::Primary(primary) = &self.nodes[node].role else { return };
        let (epoch, commit) = (primary_epoch(&self.nodes[node]), primary.commit());
        match action {
            primary::Action::Append(_) => {
                self.values += 1;
                let value = self.values;
                self.nodes[node].pending.push_back((epoch, value));
            }
            primary::Action::Offer { to } => {
                let trimmed = self.nodes[node].disk.trimmed;
                let history = history(&self.everything(node), trimmed);
                self.send(
                    node,
                    place(to),
                    Message::Offer { epoch, history, oldest: Seq(trimmed as u64 + 1) },
                );
            }
            primary::Action::Feed { to, first, last } => {
                let all = self.everything(node);
                let entries = (first.0..=last.0).map(|seq| at(&all, Seq(seq)).unwrap()).collect();
                self.send(node, place(to), Message::Feed { epoch, first, entries, commit });
            }
            primary::Action::Fill { to, .. } => self.fills.push((node, place(to))),
            primary::Action::Commit { to, seq } => {
                self.send(node, place(to), Message::Commit { epoch, seq });
            }
            primary::Action::Propose(set) => self.proposals.push((node, epoch, set, false)),
            primary::Action::Apply(seq) => self.apply(node, seq),
            primary::Action::Acknowledge(seq) => {
                let all = self.everything(node);
                assert!(self.now < self.register.until && self.register.primary == Some(node), "V3");
                for number in 1..=seq.0 {
                    let entry = at(&all, Seq(number)).unwrap();
                    let before = self.acknowledged.insert(Seq(number), entry);
                    assert!(before.is_none_or(|before| before == entry), "V8: write {number} changed");
                }
            }
        }
    }

    /// What a holder has appended, durable or not.
    pub(super) fn everything(&self, node: usize) -> Vec<Entry> {
        let node = &self.nodes[node];
        node.disk.log.iter().chain(&node.pending).copied().collect()
    }

    pub(super) fn apply(&mut self, node: usize, seq: Seq) {
        let disk = &mut self.nodes[node].disk;
        let upto = usize::try_from(seq.0).unwrap().min(disk.log.len());
        disk.applied = disk.applied.max(upto);
        let applied = Seq(disk.applied as u64);
        self.primary(node, primary::Event::Applied(applied));
    }

    pub(super) fn secondary(&mut self, node: usize, event: secondary::Event) {
        let Role::Secondary(secondary, _) = &mut self.nodes[node].role else { return };
        let before = secondary.mode();
        let todo = secondary.step(event);
        let after = secondary.mode();
        self.edges.extend((before != after).then_some((before.name(), after.name())));
        todo.into_iter().for_each(|action| self.secondary_acts(node, action));
    }

    pub(super) fn secondary_acts(&mut self, node: usize, action: secondary::Action) {
        match action {
            secondary::Action::Adopt { epoch, from } => {
                if let Role::Secondary(_, adopting) = &mut self.nodes[node].role {
                    *adopting = Some((epoch, from));
                }
            }
            secondary::Action::Ready { to, epoch, next } => {
                self.send(node, place(to), Message::Ready { epoch, next });
            }
            secondary::Action::Behind { to, epoch } => {
                let applied = Seq(self.nodes[node].disk.applied as u64);
                self.send(node, place(to), Message::Behind { epoch, applied });
            }
            secondary::Action::Contradicted { by, .. } => panic!("node {node} contradicts {by:?}"),
            secondary::Action::Outranked { to, promised } => {
                self.seen.outranked += 1;
                self.send(node, place(to), Message::Outranked { promised });
            }
            secondary::Action::Append { .. } => {}
            secondary::Action::Have { to, epoch, durable } => {
                self.send(node, place(to), Message::Have { epoch, durable });
            }
            secondary::Action::Apply(seq) => self.apply(node, seq),
        }
    }

    /// The disk of a holder does something.
    pub(super) fn disk(&mut self, node: usize) {
        let here = &mut self.nodes[node];
        if let Role::Secondary(_, adopting) = &mut here.role
            && adopting.is_some()
            && here.pending.is_empty()
        {
            let Some((epoch, from)) = adopting.take() else { return };
            let keep = usize::try_from(from.0).unwrap() - 1;
            assert!(here.disk.applied <= keep, "I10: what is in the store is cut off");
            self.seen.cuts += u32::from(keep < here.disk.log.len());
            here.disk.log.truncate(keep);
            here.disk.promised = here.disk.promised.max(epoch);
            return self.secondary(node, secondary::Event::Adopted);
        }
        let count = self.chance.below(self.nodes[node].pending.len() as u64 + 1);
        let here = &mut self.nodes[node];
        for _ in 0..count {
            let entry = here.pending.pop_front().unwrap();
            here.disk.log.push(entry);
        }
        let durable = Seq(here.disk.log.len() as u64);
        if count != 0 {
            self.primary(node, primary::Event::Durable(durable));
            self.secondary(node, secondary::Event::Durable(durable));
        }
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize) {
        if self.now < self.nodes[to].sleeps {
            return;
        }
        let wire = self.wires.get_mut(&(from, to)).unwrap();
        let Some(message) = wire.as_mut().and_then(VecDeque::pop_front) else { return };
        let (node, from_holder) = (holder(from).node, holder(from));
        match (&self.nodes[to].role, message) {
            (Role::Down, _message) => {}
            (Role::Secondary(..), Message::Offer { epoch, history, oldest }) => {
                self.secondary(to, secondary::Event::Offered { from: node, epoch, history, oldest });
            }
            (Role::Secondary(..), Message::Feed { epoch, first, entries, commit }) => {
                for (seq, entry) in (first.0..).map(Seq).zip(entries) {
                    let Role::Secondary(secondary, _) = &mut self.nodes[to].role else { return };
                    let event = secondary::Event::Fed { from: node, epoch, made: entry.0, seq };
                    for action in secondary.step(event) {
                        if let secondary::Action::Append { .. } = action {
                            self.nodes[to].pending.push_back(entry);
                        }
                        self.secondary_acts(to, action);
                    }
                }
                self.secondary(to, secondary::Event::Committed { from: node, epoch, seq: commit });
            }
            (Role::Secondary(..), Message::Commit { epoch, seq }) => {
                self.secondary(to, secondary::Event::Committed { from: node, epoch, seq });
            }
            (Role::Primary(_), Message::Ready { epoch, next }) => {
                self.primary(to, primary::Event::Ready { from: from_holder, epoch, next });
            }
            (Role::Primary(_), Message::Behind { epoch, applied }) => {
                self.primary(to, primary::Event::Behind { from: node, epoch, applied });
            }
            (Role::Primary(_), Message::Have { epoch, durable }) => {
                self.primary(to, primary::Event::Have { from: node, epoch, durable });
            }
            (Role::Primary(_), Message::Outranked { promised }) => {
                if primary_epoch(&self.nodes[to]) < promised {
                    self.step_down(to);
                }
            }
            // Of another time.
            (Role::Secondary(..), Message::Ready { .. } | Message::Behind { .. } | Message::Have { .. })
            | (Role::Secondary(..), Message::Outranked { .. })
            | (Role::Primary(_), Message::Offer { .. } | Message::Feed { .. } | Message::Commit { .. }) => {}
        }
    }

    pub(super) fn step_down(&mut self, node: usize) {
        self.primary(node, primary::Event::Lost);
        self.stop(node);
        self.start(node);
    }
}

/// Under which a primary leads.
pub(super) fn primary_epoch(node: &Node) -> Epoch {
    match &node.role {
        Role::Primary(primary) => primary.epoch(),
        Role::Down | Role::Secondary(..) => Epoch(0),
    }
}
