//! What must hold in every state of this model.

use bulkhead_core::log::Seq;

use super::disk::Entry;
use super::site::State;

/// What must never happen in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// A write was acknowledged without the register.
    Unleased,
    /// A number was acknowledged with another content than before.
    Changed,
    /// A holder took the register that is not in the newest in-sync set.
    Outsider,
    /// Two lead in one epoch.
    TwoOfOneEpoch,
    /// A holder took a write of an epoch older than its promise.
    Outdated,
    /// An acknowledged write was cut off.
    Cut,
    /// A mode changed in a way that is not drawn.
    Undrawn,
    /// A holder was fed what cannot be a write.
    Malformed,
}

impl State {
    /// All that this holder has durably, in its store and its log.
    pub(super) fn safe(&self, place: usize) -> Vec<Entry> {
        let node = self.node(place);
        node.everything(self.store(place), node.safe)
    }

    /// I1, I3: whoever leads by the register has every acknowledged write, in order.
    pub(super) fn leader_has_all(&self) -> bool {
        let leads = |place: &usize| self.holds(*place) && self.node(*place).primary().is_some();
        let has_all = |place| {
            let all = self.node(place).everything(self.store(place), Seq(u64::MAX));
            all.starts_with(&self.acknowledged)
        };
        (0..self.nodes.len()).filter(leads).all(has_all)
    }

    /// I2: so has every member of the newest in-sync set, durably; one at least has the log that is meant.
    pub(super) fn members_have_all(&self) -> bool {
        let members: Vec<_> = (0..self.nodes.len()).filter(|place| self.is_member(*place)).collect();
        let is_one = !members.is_empty() || self.membership().is_none();
        is_one && members.iter().all(|place| self.safe(*place).starts_with(&self.acknowledged))
    }

    /// I10: what is in a store is durable on every member of the newest in-sync set.
    pub(super) fn stores_are_committed(&self) -> bool {
        let members = || (0..self.nodes.len()).filter(|place| self.is_member(*place));
        let stores = self.nodes.iter().map(|node| &node.get().store).chain([&self.shared]);
        let mut written = stores.filter(|store| !store.is_empty());
        written.all(|store| members().all(|place| self.safe(place).starts_with(store)))
    }

    /// V4: a log and the store behind it say the same.
    pub(super) fn logs_fit_stores(&self) -> bool {
        let fits = |place: usize| {
            let (log, mut store) = (&self.node(place).log, (1..).map(Seq).zip(self.store(place)));
            store.all(|(seq, entry)| log.get(&seq).is_none_or(|logged| logged == entry))
        };
        (0..self.nodes.len()).filter(|place| self.is_member(*place)).all(fits)
    }
}
