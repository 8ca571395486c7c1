//! A store that all holders reach is one's at a time, whatever leases say: it is had before one leads, and
//! left when all that was begun there has ended (S4-03; I1, F19), as in `host-linux/src/mirror/tenant.rs`.

use bulkhead_core::holder::machine::Mode;
use bulkhead_core::id::NodeId;

use super::Told;
use super::drive::Drive;
use crate::world::World;

/// Whoever has it and is not asked any more to lead leaves it after so long, microseconds.
const PATIENCE: u64 = 500_000;

impl World {
    /// The store of this holder.
    pub(crate) fn store(&self, node: NodeId) -> &Drive {
        self.whole(node).shared.as_ref().map_or(&self.machines[&node].group.store, |all| &all.store)
    }

    /// Whether nobody else has it.
    pub(crate) fn is_tenant(&self, node: NodeId) -> bool {
        self.whole(node).shared.as_ref().is_none_or(|all| all.tenant == Some(node))
    }

    /// Whether what is safe comes to the store by this holder.
    pub(crate) fn has_store(&self, node: NodeId) -> bool {
        let leads = || self.holder(node).is_some_and(|holder| holder.mode() == Mode::Leading);
        self.whole(node).shared.is_none() || self.is_tenant(node) && leads()
    }

    /// It is to decide whether to lead: not without the store.
    pub(crate) fn takes_store(&mut self, node: NodeId, current: Option<&[u8]>) -> bool {
        let may_lead = self.holder(node).is_some_and(|holder| holder.may_lead(current).is_ok());
        let now = self.now;
        self.shell(node).into_iter().for_each(|shell| shell.asked_at = now);
        let Some(all) = self.whole_mut(node).shared.as_mut().filter(|_| may_lead) else { return true };
        let tenant = *all.tenant.get_or_insert(node);
        // Then it looks whether it has it in vain.
        self.tell(node, now + PATIENCE, Told::Round);
        if tenant != node {
            self.note(&|| format!("n{} waits for the store, which is still that of n{}", node.0, tenant.0));
            self.oracle.reached.insert("store of another one");
        }
        tenant == node
    }

    /// It leads from now on, or no more: what it knows begins behind what is in the store.
    pub(crate) fn begin_behind_store(&mut self, node: NodeId) {
        let is_shared = self.whole(node).shared.is_some();
        if let Some(shell) = self.shell(node).filter(|_| is_shared) {
            let applied = shell.holder.applied();
            shell.apply.restart(applied, applied);
        }
    }

    /// Leaves a store that it does not lead with, when nothing of it is on its way there.
    pub(crate) fn leave_store(&mut self, node: NodeId) {
        let now = self.now;
        let Some(shell) = self.shell(node) else { return };
        let is_used = match shell.holder.mode() {
            Mode::Leading | Mode::Taking => true,
            Mode::Opening | Mode::Damaged | Mode::Remaking | Mode::Following | Mode::Failed => {
                now < shell.asked_at + PATIENCE || shell.apply.is_running()
            }
        };
        let all = self.whole_mut(node).shared.as_mut().filter(|all| !is_used && all.tenant == Some(node));
        if let Some(all) = all {
            all.tenant = None;
            self.oracle.reached.insert("store left");
        }
    }
}
