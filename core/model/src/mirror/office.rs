//! The register of this model, and the guest's acknowledgements: what they do, and what must hold then.

use bulkhead_core::holder::machine::{EDGES, Mode};
use bulkhead_core::holder::words::{Backing, Event};
use bulkhead_core::id::Epoch;
use bulkhead_core::log::Seq;
use bulkhead_core::mirror::membership::Membership;
use bulkhead_core::time::Instant;

use super::node::Node;
use super::site::{Register, State, id};
use super::truth::Wrong;
use super::{Lie, Mark};
use crate::run::Reached;

impl State {
    /// The voters choose the record by which a holder takes the register. It is told later.
    pub(super) fn taken(&mut self, here: usize, node: &Node, payload: &[u8], reached: &Reached) {
        let before = self.register.by;
        self.mark(Mark::Takeover, before.is_some_and(|(by, _)| by != here), reached);
        if self.membership().is_some_and(|set| !set.has(node.member())) {
            self.wrong = self.wrong.or(Some(Wrong::Outsider));
        }
        let epoch = match self.lie {
            Some(Lie::EpochReused) => before.map_or(Epoch(1), |(_, epoch)| epoch),
            Some(_) | None => self.register.epoch.next(),
        };
        self.news[here] = Some((epoch, payload.to_vec()));
        self.register = Register {
            epoch,
            payload: Some(payload.to_vec()),
            by: Some((here, epoch)),
            is_leased: true,
            is_told: false,
            is_alive: true,
            rewrite: None,
        };
    }

    /// What the voters say that their record is.
    pub(super) fn answer(&self) -> Option<Vec<u8>> {
        let everybody = || {
            let mut all = self.nodes.iter().map(|node| node.get().member());
            let first = Membership::alone(all.next()?);
            Some(all.fold(first, |set, one| set.with(one)).encode().to_vec())
        };
        match (&self.register.payload, self.lie) {
            (Some(_), Some(Lie::AllInSync)) => everybody(),
            (payload, _) => payload.clone(),
        }
    }

    /// A holder learns that it has the register, or that the record says what it wanted. It may be late.
    pub(super) fn told(&mut self, place: usize, reached: &Reached) {
        let Some((epoch, payload)) = self.news[place].take() else { return };
        let is_held = self.register.is_leased && self.register.by.is_some_and(|(by, _)| by == place);
        self.register.is_told |= is_held;
        self.mark(Mark::ToldLate, !is_held, reached);
        let until = Instant::from_micros(self.node(place).clock + u64::from(is_held));
        self.step(place, Event::Held { epoch, payload: &payload, until }, reached);
    }

    /// The voters choose what the holder wanted the record to say, even when its lease has ended since.
    pub(super) fn rewritten(&mut self, reached: &Reached) {
        let (Some(payload), Some((by, _))) = (self.register.rewrite.take(), self.register.by) else { return };
        let size = |payload: &[u8]| Membership::parse(payload).map_or(0, |set| set.holders().len());
        let (before, after) = (size(self.register.payload.as_deref().unwrap_or_default()), size(&payload));
        self.mark(Mark::Grown, before < after, reached);
        self.mark(Mark::Shrunk, after < before, reached);
        self.mark(Mark::RewrittenLate, !self.holds(by), reached);
        self.register.epoch = self.register.epoch.next();
        if self.holds(by) {
            self.news[by] = Some((self.register.epoch, payload.clone()));
        }
        if self.lie != Some(Lie::LossForgotten) || before < after {
            self.register.payload = Some(payload);
        }
    }

    /// Whoever held the register does not, from now on; its clock says so, whether it looks or not.
    pub(super) fn lease_ends(&mut self) {
        let Register { by, is_told, is_alive, .. } = self.register;
        let Some((by, _)) = by else { return };
        if is_alive {
            self.left.losses -= 1;
            self.lost[by] = true;
            if is_told && self.lie != Some(Lie::LeaseOutlived) {
                self.change(by, |node| node.clock += 1);
            }
        }
        self.register.is_leased = false;
        self.register.is_told = false;
    }

    /// V3, V8, I2: a guest is told that its writes are safe.
    pub(super) fn acknowledge(&mut self, here: usize, node: &Node, upto: Seq, reached: &Reached) {
        if !self.holds(here) {
            self.wrong = self.wrong.or(Some(Wrong::Unleased));
        }
        let store = match self.backing {
            Backing::Local => &node.store,
            Backing::Shared => &self.shared,
        };
        let all = node.everything(store, upto);
        let is_same = all.iter().zip(&self.acknowledged).all(|(one, other)| one == other);
        if all.len() < usize::try_from(upto.0).expect("few") || !is_same {
            self.wrong = self.wrong.or(Some(Wrong::Changed));
        }
        let is_alone = node.primary().is_some_and(|primary| primary.chosen().holders().len() == 1);
        self.mark(Mark::Survivor, is_alone && self.acknowledged.len() < all.len(), reached);
        if self.acknowledged.len() < all.len() {
            self.acknowledged = all;
        }
    }

    /// I1: one leads in an epoch, and it took the register in it.
    pub(super) fn leads(&mut self, here: usize, epoch: Epoch) {
        let leads = |other: &usize| self.node(*other).primary().is_some_and(|one| one.epoch() == epoch);
        if (0..self.nodes.len()).filter(|other| *other != here).any(|other| leads(&other)) {
            self.wrong = self.wrong.or(Some(Wrong::TwoOfOneEpoch));
        }
    }

    /// X14: the holder goes only the ways that are drawn.
    pub(super) fn is_drawn(&mut self, before: Option<Mode>, after: Option<Mode>) {
        if let (Some(before), Some(after)) = (before, after)
            && before != after
            && !EDGES.contains(&(before.name(), after.name()))
        {
            self.wrong = self.wrong.or(Some(Wrong::Undrawn));
        }
    }

    /// I1, V2: a holder appends nothing of an epoch that is older than what it promised durably.
    pub(super) fn appends(&mut self, node: &Node, epoch: Epoch) {
        if node.holder.as_ref().is_some_and(|holder| epoch < holder.kept().promised) {
            self.wrong = self.wrong.or(Some(Wrong::Outdated));
        }
    }

    /// I2: what a holder cuts off was not acknowledged.
    pub(super) fn cuts(&mut self, node: &Node, from: Seq) {
        let acknowledged = (1..).map(Seq).zip(&self.acknowledged);
        let mut cut = acknowledged.filter(|(seq, _)| from <= *seq);
        if cut.any(|(seq, entry)| node.log.get(&seq) == Some(entry)) {
            self.wrong = self.wrong.or(Some(Wrong::Cut));
        }
    }

    /// Whether a holder may ask for the register.
    pub(super) fn may_ask(&self, place: usize) -> bool {
        let node = self.node(place);
        let is_free = !self.register.is_leased && !self.lost[place] && self.news[place].is_none();
        is_free && node.holder.is_some() && node.primary().is_none()
    }

    /// Whether the lease may end: of somebody who is there, as often as the bounds say.
    pub(super) fn may_end(&self) -> bool {
        let Register { is_leased, is_alive, .. } = self.register;
        is_leased && (!is_alive || 0 < self.left.losses)
    }

    /// The other holders.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = self.nodes.len();
        (0..count).flat_map(move |a| (a + 1..count).map(move |b| (a, b)))
    }

    /// Whether this one was heard of by the others as who it is.
    pub(super) fn is_member(&self, place: usize) -> bool {
        let Some(set) = self.membership() else { return false };
        set.holders().iter().any(|one| one.node == id(place)) && set.has(self.node(place).member())
    }
}
