//! How all trouble ends: from any state, what is due happens, and all are in sync (L-1 to L-3, X14).

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use bulkhead_core::mirror::membership::Policy;
use bulkhead_core::mirror::primary;

use super::node::Left;
use super::site::{Budget, State, id};
use super::{Lie, Mark, Step};
use crate::run::Reached;

/// Steps within which all are in sync.
pub const HEAL_MAX: usize = 400;

/// States from which a group is known to heal: the way out of most states leads through them.
#[derive(Debug, Default)]
pub(super) struct Healed(Mutex<HashSet<u64>>);

impl Healed {
    fn has(&self, print: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&print)
    }

    fn add(&self, prints: Vec<u64>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(prints);
    }
}

impl State {
    fn print(&self, gone: Option<usize>) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self, gone).hash(&mut hasher);
        hasher.finish()
    }

    /// One leads, all are in sync but for who is gone, and all that was written is acknowledged.
    fn is_mirrored(&self, gone: Option<usize>) -> bool {
        let all = self.nodes.len();
        (0..all).any(|place| {
            self.holds(place)
                && self.node(place).primary().is_some_and(|primary| {
                    let is_all = match gone {
                        None => primary.chosen().policy() == Policy::Back,
                        Some(_) => self.left.writes == 0,
                    };
                    let needed = all - usize::from(gone.is_some());
                    let is_settled = *primary.mode() == primary::Mode::Steady;
                    is_all
                        && is_settled
                        && needed <= primary.chosen().holders().len()
                        && primary.newest() == primary.acknowledged()
                })
        })
    }

    /// Lets all trouble end, but that one may be gone for good. The others then go on, and take in a write;
    /// unless the newest in-sync set is that one alone.
    pub(super) fn heals(&self, gone: Option<usize>, known: &Healed, reached: &Reached) -> bool {
        let (mut state, mut way, nowhere) = (self.clone(), vec![], Reached::default());
        state.left = Budget { writes: u8::from(gone.is_some()), ..Budget::default() };
        if let Some(place) = gone.filter(|place| self.is_up(*place)) {
            let flights = state.node(place).flights.iter().map(|_| Left::Nothing).collect();
            state.left.crashes = 1;
            state.take(&Step::Crash { place, flights, is_kept: false }, &nowhere);
        }
        while way.len() < HEAL_MAX {
            let print = state.print(gone);
            if known.has(print) || state.is_mirrored(gone) {
                way.push(print);
                known.add(way);
                return true;
            }
            way.push(print);
            let Some(step) = state.calm(gone) else { return state.is_stranded(gone, reached) };
            state.take(&step, &nowhere);
            let is_sound = state.wrong.is_none() && state.leader_has_all() && state.members_have_all();
            if !is_sound {
                return false;
            }
        }
        state.is_stranded(gone, reached)
    }

    /// Whether nobody is left of the newest in-sync set: they wait for who is gone, or for the operator.
    fn is_stranded(&self, gone: Option<usize>, reached: &Reached) -> bool {
        let (Some(gone), Some(set)) = (gone, self.membership()) else { return false };
        let is_alone = set.holders().iter().all(|one| one.node == id(gone));
        let left = (0..self.nodes.len()).filter(|place| *place != gone);
        let has_all = left.clone().any(|place| self.safe(place).starts_with(&self.acknowledged));
        self.mark(Mark::Stranded, is_alone && has_all && !self.acknowledged.is_empty(), reached);
        is_alone
    }

    /// Goes on until all are in sync.
    pub(super) fn settle(&mut self) {
        let nowhere = Reached::default();
        while !self.is_mirrored(None) {
            let Some(step) = self.calm(None) else { return };
            self.take(&step, &nowhere);
        }
        while let Some(step) = self.calm(None).filter(|step| !matches!(step, Step::Timeout(_))) {
            self.take(&step, &nowhere);
        }
    }

    /// What happens next when nothing fails; `None` when nothing is due.
    fn calm(&self, gone: Option<usize>) -> Option<Step> {
        let count = self.nodes.len();
        let all = || 0..count;
        let wires = || all().flat_map(move |from| all().map(move |to| (from, to)));
        let down = all().find(|place| !self.is_up(*place) && gone != Some(*place)).map(Step::Start);
        let are_apart = |(a, b): &(usize, usize)| !self.met[*a][*b] && self.is_up(*a) && self.is_up(*b);
        let apart = self.pairs().find(are_apart).map(|(a, b)| Step::Meet(a, b));
        let leads = |place: &usize| {
            0 < self.left.writes && self.holds(*place) && self.node(*place).primary().is_some()
        };
        let write = all().find(leads).map(Step::Write);
        let wire = wires().find(|(from, to)| !self.wires[*from][*to].is_empty());
        let wire = wire.map(|(from, to)| Step::Deliver(from, to));
        let flies = |place: &usize| !self.node(*place).flights.is_empty();
        let keeps = |place: &usize| self.node(*place).keeping.is_some();
        let flight = all().find(flies).map(|place| Step::Durable(place, 0));
        let keep = all().find(keeps).map(Step::Kept);
        let apply = all().find(|place| self.applies(*place)).map(Step::Applied);
        let fill = self.fills.first().map(|(from, to)| Step::Filled(*from, *to));
        let lost =
            all().find(|place| self.lost[*place] && self.lie != Some(Lie::NeverToldLost)).map(Step::Lost);
        let told = all().find(|place| self.news[*place].is_some()).map(Step::Told);
        let rewritten = self.register.rewrite.as_ref().map(|_| Step::Rewritten);
        let ends = (self.register.is_leased && !self.register.is_alive).then_some(Step::LeaseEnds);
        let asks = |place: &usize| {
            let payload = self.register.payload.as_deref();
            let may = self.node(*place).holder.as_ref().is_some_and(|one| one.may_lead(payload).is_ok());
            may && self.may_ask(*place)
        };
        let asks = all().find(asks).map(Step::Decide);
        let now = down.or(apart).or(flight).or(keep).or(wire).or(apply).or(fill);
        now.or(lost).or(told).or(rewritten).or(ends).or(asks).or(write).or_else(|| self.due())
    }

    /// The timer that is due first.
    fn due(&self) -> Option<Step> {
        let left = |place: &usize| {
            let node = self.node(*place);
            Some(node.holder.as_ref()?.deadline()?.as_micros().saturating_sub(node.clock))
        };
        let waiting = (0..self.nodes.len()).filter(|place| left(place).is_some());
        waiting.min_by_key(|place| left(place)).map(Step::Timeout)
    }
}
