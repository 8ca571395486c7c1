//! What can happen to three holders: their disks, paths, leases and power, by chance.

use std::collections::VecDeque;

use super::membership::Policy;
use super::testing::{Disk, LEASE, MS, Role, World, holder, primary_epoch};
use super::{primary, secondary};
use crate::log::Seq;
use crate::time::Instant;

impl World {
    /// A holder that lacks what the primary has trimmed gets its store, as of the commit point.
    fn fill(&mut self) {
        let Some((from, to)) = self.fills.pop() else { return };
        let is_followed = matches!(&self.nodes[to].role, Role::Secondary(follower, None)
            if matches!(follower.mode(), secondary::Mode::Behind(_)));
        let Role::Primary(primary) = &self.nodes[from].role else { return };
        let commit = usize::try_from(primary.commit().0).unwrap();
        if is_followed {
            let log = self.nodes[from].disk.log[..commit].to_vec();
            let promised = self.nodes[to].disk.promised;
            // What is on its way to the log that is made anew is none of it.
            self.nodes[to].pending.clear();
            self.nodes[to].disk = Disk { log, promised, applied: commit, trimmed: commit };
            self.seen.behind += 1;
        }
        self.stop(to);
        self.start(to);
    }

    fn trim(&mut self, node: usize) {
        let most = self.nodes[node].disk.applied - self.nodes[node].disk.trimmed;
        self.nodes[node].disk.trimmed += usize::try_from(self.chance.below(most as u64 + 1)).unwrap();
        let oldest = Seq(self.nodes[node].disk.trimmed as u64 + 1);
        self.primary(node, primary::Event::Trimmed(oldest));
    }

    fn log_fails(&mut self, node: usize) {
        self.primary(node, primary::Event::LogFailed);
        self.secondary(node, secondary::Event::LogFailed);
        self.stop(node);
    }

    /// The register answers: a renewal, or a change of the set.
    fn register(&mut self, node: usize) {
        let Role::Primary(_) = &self.nodes[node].role else { return };
        let is_held = self.register.primary == Some(node)
            && self.register.epoch == primary_epoch(&self.nodes[node])
            && self.now < self.register.until;
        if !is_held {
            return self.step_down(node);
        }
        self.register.until = self.now + LEASE;
        let until = Instant::from_micros(self.register.until);
        self.primary(node, primary::Event::Leased { until });
    }

    fn proposal(&mut self) {
        if self.proposals.is_empty() {
            return;
        }
        let which = usize::try_from(self.chance.below(self.proposals.len() as u64)).unwrap();
        let (node, epoch, set, is_chosen) = self.proposals[which].clone();
        let holds = self.register.primary == Some(node) && self.register.epoch == epoch;
        if !is_chosen && holds && self.now < self.register.until {
            self.seen.joined += u32::from(self.register.set.holders().len() < set.holders().len());
            self.seen.dropped += u32::from(set.holders().len() < self.register.set.holders().len());
            self.seen.written_back += u32::from(set.policy() == Policy::Back);
            self.register.set = set.clone();
            self.proposals[which].3 = true;
            return;
        }
        self.proposals.remove(which);
        let is_same =
            matches!(self.nodes[node].role, Role::Primary(_)) && primary_epoch(&self.nodes[node]) == epoch;
        if is_chosen && is_same && self.nodes[node].sleeps <= self.now {
            self.primary(node, primary::Event::Chosen(set));
        } else if is_chosen && is_same {
            self.proposals.push((node, epoch, set, true));
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
        let node_id = holder(other).node;
        self.nodes[node].meets[other] = works;
        let event = if works { primary::Event::Met(node_id) } else { primary::Event::Gone(node_id) };
        self.primary(node, event);
    }

    /// An operator takes a holder out, and in again when it is noticed the next time.
    fn dismiss(&mut self, node: usize, other: usize) {
        if matches!(self.nodes[node].role, Role::Primary(_)) {
            self.nodes[node].meets[other] = false;
            self.primary(node, primary::Event::Dismiss(holder(other).node));
        }
    }

    /// All three are in sync, and everything is acknowledged.
    pub(super) fn is_mirrored(&self) -> bool {
        self.nodes.iter().any(|node| match &node.role {
            Role::Primary(primary) => {
                let is_all =
                    primary.chosen().holders().len() == 3 && *primary.mode() == primary::Mode::Steady;
                is_all
                    && primary.chosen().policy() == Policy::Back
                    && primary.newest() == primary.acknowledged()
            }
            Role::Down | Role::Secondary(..) => false,
        })
    }

    pub(super) fn something(&mut self, is_calm: bool) {
        self.now += self.chance.below(3 * MS);
        let node = usize::try_from(self.chance.below(3)).unwrap();
        let other = (node + 1 + usize::try_from(self.chance.below(2)).unwrap()) % 3;
        let awake = self.nodes[node].sleeps <= self.now;
        match self.chance.below(100) {
            0..=29 => self.deliver(other, node),
            30..=49 if awake => self.disk(node),
            50..=64 if awake && (!is_calm || self.chance.one_in(8)) => {
                self.primary(node, primary::Event::Write)
            }
            65..=69 if awake => self.register(node),
            70..=79 => self.proposal(),
            80..=84 if awake => self.primary(node, primary::Event::Timeout),
            85..=89 if awake => self.take(node),
            90..=93 => match (&self.nodes[node].role, &self.wires[&(node, other)]) {
                (Role::Down, _) => self.start(node),
                (_, None) => self.path(node, other, true),
                (Role::Primary(_), Some(_)) if !self.nodes[node].meets[other] => {
                    self.notice(node, other, true)
                }
                (Role::Primary(_) | Role::Secondary(..), Some(_)) => {}
            },
            94 if !is_calm && self.chance.one_in(4) => self.dismiss(node, other),
            95 if !is_calm && self.chance.one_in(3) => self.path(node, other, false),
            96 if !is_calm && self.chance.one_in(4) => self.stop(node),
            97 if !is_calm && self.chance.one_in(4) => {
                self.nodes[node].sleeps = self.now + self.chance.below(2 * LEASE);
            }
            98 if self.chance.one_in(4) => self.fill(),
            99 if !is_calm && self.chance.one_in(16) => self.log_fails(node),
            99 if self.chance.one_in(4) => self.trim(node),
            0..=99 | 100.. => {}
        }
    }
}
