//! The holders of the pair's mirror group, as far as their register is concerned: they answer late, leave it
//! now and then, have its record rewritten and give it back; the record counts who led (I1, I4, S4-11).

use std::collections::VecDeque;

use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::node::storage::{Action, Event};
use bulkhead_core::node::words;
use bulkhead_core::register::record::Payload;
use bulkhead_core::register::seat::Verdict;
use bulkhead_core::time::Instant;

use crate::world::{Due, World};

/// One holder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    /// What it was told that it leads by: the count of its record, and the end of its lease.
    leads: Option<(u64, Instant)>,
    /// What it said while its node slept.
    pub(crate) untold: VecDeque<Event>,
    /// When its newest answer arrives: the others do before.
    answers_at: u64,
}

/// The count in a record.
fn count_of(payload: &Payload) -> u64 {
    payload.as_slice().try_into().map(u64::from_le_bytes).unwrap_or_default()
}

fn payload_of(count: u64) -> Payload {
    Payload::from_slice(&count.to_le_bytes()).unwrap_or_default()
}

impl World {
    /// A node tells its holder of the register.
    pub(crate) fn tell_group(&mut self, node: NodeId, action: Action) {
        match action {
            Action::Decide(current) => {
                let count = current.as_ref().map(count_of).unwrap_or_default();
                let leaves = !self.is_healed && self.chance.happens(250);
                let verdict = if leaves { Verdict::Leave } else { Verdict::Take(payload_of(count + 1)) };
                self.answer(node, verdict);
            }
            Action::Held { epoch, payload, until } => {
                self.group_leads(node, epoch, count_of(&payload), until)
            }
            Action::Leased { until } => {
                let Some(machine) = self.machines.get_mut(&node) else { return };
                let Some((_, end)) = &mut machine.group.leads else {
                    return self
                        .oracle
                        .violated(self.now, format!("n{} is told of a lease, but not led", node.0));
                };
                *end = until;
                if !self.is_healed && self.chance.happens(30) {
                    self.wish(node);
                }
            }
            Action::Lost => {
                let lost = self.machines.get_mut(&node).and_then(|machine| machine.group.leads.take());
                if lost.is_none() {
                    self.oracle
                        .violated(self.now, format!("n{} is told that it lost what it had not", node.0));
                }
            }
        }
    }

    /// In the order of the questions; sometimes later than it is waited for.
    fn answer(&mut self, node: NodeId, verdict: Verdict) {
        let answer_max = u64::try_from(self.timers.answer_max.as_micros()).unwrap_or(150_000);
        // Now and then its disk hangs: until after the next question.
        let most = match (self.is_healed, self.chance.happens(200)) {
            (true, _) => answer_max / 8,
            (false, false) => answer_max + answer_max / 4,
            (false, true) => 8 * answer_max,
        };
        let took = self.chance.between(20, most);
        let Some(machine) = self.machines.get_mut(&node) else { return };
        machine.group.answers_at = (machine.group.answers_at + 1).max(self.now + took);
        let (at, start) = (machine.group.answers_at, machine.starts);
        self.schedule(at, Due::Group { node, start, event: Event::Decided(verdict) });
    }

    /// It wants something of its own accord.
    fn wish(&mut self, node: NodeId) {
        let Some(machine) = self.machines.get(&node) else { return };
        let (start, count) = (machine.starts, machine.group.leads.map_or(0, |(count, _)| count));
        let event = match self.chance.happens(700) {
            true => Event::Rewrite(payload_of(count + 1)),
            false => Event::Release,
        };
        self.schedule(self.now + 50, Due::Group { node, start, event });
    }

    /// No other one leads, and nothing that was in the record before is forgotten.
    fn group_leads(&mut self, node: NodeId, epoch: Epoch, count: u64, until: Instant) {
        self.note(&|| format!("n{} leads the mirror group, epoch {}, count {count}", node.0, epoch.0));
        let other = self.machines.iter().find(|(other, machine)| {
            let leads = machine.group.leads.filter(|(_, end)| machine.clock.at(self.now) < *end);
            **other != node && machine.node.is_some() && leads.is_some()
        });
        if let Some((other, _)) = other {
            let text = format!("n{} is told to lead, and n{} was not told otherwise", node.0, other.0);
            self.oracle.violated(self.now, text);
        }
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let before = machine.group.leads.replace((count, until));
        self.oracle.counts(self.now, node, count, before.is_none());
    }

    /// What a holder says arrives at its node, which may sleep or have been started anew.
    pub(crate) fn group_says(&mut self, node: NodeId, start: u64, event: Event) {
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| machine.starts == start) else {
            return;
        };
        match machine.sleeps {
            true => machine.group.untold.push_back(event),
            false => self.step(node, words::Event::Storage(event)),
        }
    }

    /// Who leads the mirror group, as it was told.
    pub(crate) fn primaries(&self) -> Vec<NodeId> {
        let leads = self.machines.iter().filter(|(_, machine)| {
            let until = machine.group.leads.filter(|_| machine.node.is_some());
            until.is_some_and(|(_, until)| machine.clock.at(self.now) < until)
        });
        leads.map(|(node, _)| *node).collect()
    }
}
