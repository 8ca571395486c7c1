//! What can happen to three holders: their disks, paths, leases, processes and power, by chance.

use std::collections::VecDeque;
use std::vec::Vec;

use super::machine::Mode;
use super::testing::{LEASE, MS, Message, World, node_id};
use super::words::{Backing, Event};
use crate::log::Seq;
use crate::log::batch::Header;
use crate::mirror::membership::Policy;
use crate::mirror::{primary, secondary};
use crate::time::Instant;

impl World {
    fn deliver(&mut self, from: usize, to: usize) {
        let wire = self.wires.get_mut(&(from, to)).unwrap();
        let Some(message) = wire.as_mut().and_then(VecDeque::pop_front) else { return };
        let node = node_id(from);
        match message {
            Message::Word(word) => self.step(to, Event::Heard { from: node, word: &word }),
            Message::Fed { epoch, seq, entry } => {
                let busy = self.seen.busy;
                let before = self.next(to);
                let (write, sums) = (entry.write(), entry.sums());
                // The payload is there before the log may ask for it.
                let old = self.nodes[to].writes.get(&seq).copied();
                if before == Some(seq) {
                    self.nodes[to].writes.insert(seq, entry);
                }
                let made = entry.made;
                self.step(to, Event::Fed { from: node, epoch, made, seq, write, sums: &sums });
                if before == Some(seq) && self.next(to) != Some(seq.next()) {
                    self.nodes[to].writes.remove(&seq);
                    self.nodes[to].writes.extend(old.map(|old| (seq, old)));
                }
                if busy < self.seen.busy
                    && let Some(Some(wire)) = self.wires.get_mut(&(from, to))
                {
                    // As TCP does: it waits at the head of the stream.
                    wire.push_front(Message::Fed { epoch, seq, entry });
                }
            }
        }
    }

    fn next(&self, node: usize) -> Option<Seq> {
        Some(self.nodes[node].holder.as_ref()?.log()?.next())
    }

    fn guest_writes(&mut self, node: usize) {
        self.values += 1;
        let entry = self.offered();
        let busy = self.seen.busy;
        self.step(node, Event::Write { write: entry.write(), sums: &entry.sums() });
        self.seen.full += self.seen.busy - busy;
    }

    /// Something that is committed becomes durable in the store.
    fn apply(&mut self, node: usize) {
        let is_primary = self.register.primary == Some(node) && self.now < self.register.until;
        let store = match self.backing {
            Backing::Local => self.nodes[node].store.len(),
            // The store itself refuses whoever does not hold the register.
            Backing::Shared if is_primary => self.shared.len(),
            Backing::Shared => return,
        };
        let to_apply = self.nodes[node].to_apply;
        let upto = usize::try_from(to_apply.0).unwrap();
        if store < upto && self.nodes[node].holder.is_some() {
            let more = 1 + self.pick(upto - store);
            let all = self.everything(node);
            let new = all[store..store + more].to_vec();
            match self.backing {
                Backing::Local => self.nodes[node].store.extend(new),
                Backing::Shared => self.shared.extend(new),
            }
            self.step(node, Event::Applied(Seq((store + more) as u64)));
        } else if self.nodes[node].holder.as_ref().is_some_and(|holder| holder.applied() < to_apply) {
            // It was there already, of which this start did not know: written again.
            self.step(node, Event::Applied(to_apply));
        }
    }

    /// A holder that lacks what the primary has trimmed gets its store, as of the commit point.
    fn fill(&mut self) {
        let Some((from, to)) = self.fills.pop() else { return };
        let primary = self.nodes[from].holder.as_ref().and_then(|one| one.primary());
        let Some((epoch, commit)) = primary.map(|one| (one.epoch(), one.commit())) else { return };
        let by = secondary::Mode::Behind(secondary::Following { primary: node_id(from), epoch });
        let behind = self.nodes[to].holder.as_ref().and_then(|one| one.secondary());
        if behind.is_none_or(|one| one.mode() != by) {
            return self.step(from, Event::Met(node_id(to)));
        }
        let upto = usize::try_from(commit.0).unwrap();
        self.nodes[to].store = self.everything(from)[..upto].to_vec();
        self.seen.fills += 1;
        self.step(to, Event::Filled { from: node_id(from), epoch, upto: commit });
        self.step(from, Event::Met(node_id(to)));
    }

    /// The register answers: a renewal, or that it is not held.
    fn register(&mut self, node: usize) {
        let is_held = self.register.primary == Some(node) && self.now < self.register.until;
        if is_held {
            self.register.until = self.now + LEASE;
            let until = Instant::from_micros(self.register.until);
            self.step(node, Event::Leased { until });
        } else {
            self.step(node, Event::Lost);
        }
    }

    fn take(&mut self, node: usize) {
        let is_free = self.register.until <= self.now;
        let leads = self.nodes[node].holder.as_ref().is_some_and(|one| one.mode() == Mode::Leading);
        if is_free && leads {
            return self.step(node, Event::Lost);
        }
        if is_free {
            let current = self.register.payload.clone();
            self.step(node, Event::Decide(current.as_deref()));
        }
    }

    fn rewrite(&mut self) {
        if self.rewrites.is_empty() {
            return;
        }
        let which = self.pick(self.rewrites.len());
        let (node, tenure, payload, is_chosen) = self.rewrites[which].clone();
        let register = &mut self.register;
        let holds = register.primary == Some(node) && register.tenure == tenure;
        if holds && !is_chosen && self.now < register.until {
            self.seen.joined += u64::from(register.payload.as_ref().unwrap().len() < payload.len());
            register.payload = Some(payload);
            register.epoch = register.epoch.next();
            self.rewrites[which].3 = true;
            return;
        }
        self.rewrites.remove(which);
        if is_chosen && holds {
            let (epoch, until) = (self.register.epoch, Instant::from_micros(self.register.until));
            self.step(node, Event::Held { epoch, payload: &payload, until });
        }
    }

    /// Paths come and go; whoever leads notices.
    fn path(&mut self, a: usize, b: usize, works: bool) {
        for pair in [(a, b), (b, a)] {
            self.wires.insert(pair, works.then(VecDeque::new));
        }
        self.notice(a, b, works);
        self.notice(b, a, works);
    }

    fn notice(&mut self, node: usize, other: usize, works: bool) {
        // Who is down notices it when it is up.
        self.nodes[node].meets[other] = works && self.nodes[node].holder.is_some();
        let other = node_id(other);
        self.step(node, if works { Event::Met(other) } else { Event::Gone(other) });
    }

    /// A header rots in the log of a holder that is down and not needed; it is found out at the next start.
    fn rot(&mut self, node: usize) {
        let superblock = self.superblock(node);
        let Some(set) = self.membership() else { return };
        let is_needed = set.holders().len() < 3 && set.holders().iter().any(|one| one.node == node_id(node));
        let others_down = self.nodes.iter().filter(|one| one.holder.is_none()).count() != 1;
        if is_needed || others_down {
            return;
        }
        let disk = &mut self.nodes[node].disk;
        let is_header = |block: &[u8; 4096]| {
            let header = Header::parse(block).map(|(header, _)| header);
            header.filter(|one| one.is_of(&superblock.identity)).is_some_and(|one| {
                let void = superblock.void_from(one.at);
                superblock.tail.at <= one.at
                    && one.last() <= superblock.durable
                    && superblock.applied < one.last()
                    && void.is_none_or(|from| one.last() < from)
            })
        };
        let all: Vec<_> = disk.kept.iter().filter(|(_, block)| is_header(block)).map(|(at, _)| *at).collect();
        if !all.is_empty() && disk.cached.is_empty() {
            let at = all[usize::try_from(self.chance.below(all.len() as u64)).unwrap()];
            disk.kept.get_mut(&at).unwrap()[100] ^= 1;
        }
    }

    /// The log cannot be read any more where the store has it.
    fn unreadable(&mut self, node: usize) {
        if let Some(holder) = &self.nodes[node].holder {
            let applied = holder.applied();
            self.step(node, Event::Unreadable(applied));
        }
    }

    /// All three are in sync, and everything is acknowledged.
    pub(super) fn is_mirrored(&self) -> bool {
        let primaries = self.nodes.iter().filter_map(|node| node.holder.as_ref()?.primary());
        primaries.into_iter().any(|primary| {
            primary.chosen().holders().len() == 3
                && *primary.mode() == primary::Mode::Steady
                && primary.chosen().policy() == Policy::Back
                && primary.newest() == primary.acknowledged()
        })
    }

    /// Guests write nothing, until what was written is in the store and all know it; `false`: they never do.
    pub(super) fn rest(&mut self) -> bool {
        for _ in 0..20_000 {
            self.now += self.chance.below(MS);
            let node = self.pick(3);
            let other = (node + 1 + self.pick(2)) % 3;
            self.deliver(other, node);
            self.complete(node);
            self.keep(node);
            self.apply(node);
            self.register(node);
            let holders: Vec<_> = self.nodes.iter().filter_map(|node| node.holder.as_ref()).collect();
            let newest = holders.iter().find_map(|holder| holder.primary()).map(|primary| primary.newest());
            if newest.is_some_and(|newest| holders.iter().all(|holder| holder.applied() == newest)) {
                return true;
            }
        }
        false
    }

    pub(super) fn something(&mut self, is_calm: bool) {
        self.now += self.chance.below(3 * MS);
        let node = self.pick(3);
        let other = (node + 1 + self.pick(2)) % 3;
        let awake = self.nodes[node].sleeps <= self.now;
        match self.chance.below(100) {
            0..=24 if awake => (0..8).for_each(|_| self.deliver(other, node)),
            25..=36 if awake => self.complete(node),
            37..=44 if awake => self.keep(node),
            45..=49 if awake => self.apply(node),
            50..=64 if awake && (!is_calm || self.chance.below(8) == 0) => {
                // Now and then more than a log takes at once.
                let count = if self.chance.below(300) == 0 { 400 } else { 1 };
                (0..count).for_each(|_| self.guest_writes(node));
            }
            65..=69 if awake => self.register(node),
            70..=79 => self.rewrite(),
            80..=84 if awake => self.step(node, Event::Timeout),
            85..=89 if awake => self.take(node),
            90..=94 => match (self.nodes[node].holder.is_some(), &self.wires[&(node, other)]) {
                (false, _) => self.start(node),
                (true, None) => self.path(node, other, true),
                (true, Some(_)) if !self.nodes[node].meets[other] => self.notice(node, other, true),
                (true, Some(_)) => {}
            },
            95 if !is_calm && self.chance.below(3) == 0 => self.path(node, other, false),
            96 if !is_calm && self.chance.below(4) == 0 => {
                let with_power = self.chance.below(2) == 0;
                self.stop(node, with_power);
                if self.chance.below(2) == 0 {
                    self.rot(node);
                }
            }
            97 if !is_calm && self.chance.below(4) == 0 => {
                self.nodes[node].sleeps = self.now + self.chance.below(2 * LEASE);
            }
            97 if !is_calm && awake && self.chance.below(4) == 0 => self.unreadable(node),
            98 if self.chance.below(4) == 0 => self.fill(),
            98 if !is_calm => {
                // An operator takes it out, and in again when it is noticed the next time.
                self.nodes[node].meets[other] = false;
                self.step(node, Event::Dismiss(node_id(other)));
            }
            99 if !is_calm && self.chance.below(16) == 0 => self.step(node, Event::CommitFailed),
            99 if self.nodes[node].holder.as_ref().is_some_and(|one| one.mode() == Mode::Failed) => {
                self.stop(node, false);
            }
            0..=99 | 100.. => {}
        }
    }
}
