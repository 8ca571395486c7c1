//! What the thread of a group does about a store that several holders reach: has it before this holder leads,
//! leaves it when it leads no more, and looks whether it is the one that a primary leads with before it
//! follows that (S4-03; I1, F19, V5).
//!
//! Whoever follows has nothing to do with the store: it keeps the log, and learns from the primary how much
//! of that is in the store. When it leads it begins where it was told last, and reads the rest from its log.

use super::applier::Job;
use super::group::Group;
use super::handle::lock;
use super::store::Store;
use super::tenancy::{Said, Wish};
use super::words::RegisterWish;
use crate::cluster::clock;
use crate::failure::Failure;
use crate::volume::catalogue::Catalogue;
use bulkhead_core::holder::machine::Mode;
use bulkhead_core::holder::words::{Event, Word};
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::Seq;
use bulkhead_core::mirror::membership::Membership;
use bulkhead_core::mirror::secondary::Following;
use bulkhead_core::register::record::Payload;
use bulkhead_core::register::seat::Verdict;
use bulkhead_core::time::Instant;
use bulkhead_core::volume::CATALOGUE;
use bulkhead_core::volume::tenure::Tenure;
use std::time::Duration;

/// Whoever has the store and is not asked any more to lead leaves it after so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// A primary says that it leads with the store a moment after it leads: it is looked so often.
const LOOK: Duration = Duration::from_millis(100);
/// When that was in vain for so long, it is told.
const STRANGE: Duration = Duration::from_secs(2);
/// A catalogue that is written while it is read is read again so often.
const READS_MAX: u32 = 20;

/// What it knows of the store.
#[derive(Debug)]
pub struct Tenant {
    /// This holder has it, unless it is on its way to leave it.
    has: bool,
    /// It was asked for, and nothing was answered.
    is_asked: bool,
    /// What the register says that is to be taken as soon as it has the store.
    deciding: Option<Option<Payload>>,
    /// Left then, unless it leads.
    until: Instant,
    /// Who was seen to have it last.
    seen: Option<Tenure>,
    /// When it is looked at next; `None`: somebody looks.
    look_at: Option<Instant>,
    /// Whom it followed when it was to lead and did not get the store: that one leads no more.
    refused: Option<Following>,
    /// Since when it is looked at in vain for this primary.
    strange: Option<(NodeId, Epoch, Instant)>,
}

impl Default for Tenant {
    fn default() -> Self {
        Self {
            has: false,
            is_asked: false,
            deciding: None,
            until: Instant::ZERO,
            seen: None,
            refused: None,
            look_at: Some(Instant::ZERO),
            strange: None,
        }
    }
}

impl Group {
    /// Whether what is safe comes to the store by this holder.
    pub(super) fn has_store(&self) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| tenant.has && self.holder.mode() == Mode::Leading)
    }

    /// Has the machine decide whether to lead; of a store of all, when this holder has that.
    pub(super) fn decide(&mut self, current: Option<Payload>) {
        self.decided_on = current.as_deref().map(Membership::parse);
        self.waits = self.holder.may_lead(current.as_deref()).err().map(|why| why.to_string());
        let Some(tenant) = &mut self.tenant else {
            return self.step(Event::Decide(current.as_deref()));
        };
        tenant.until = clock::now().after(PATIENCE);
        if tenant.deciding.take().is_some() {
            // The seat counts the answers, and takes the last one.
            lock(&self.shared.wishes).push(RegisterWish::Decided(Verdict::Leave));
        }
        let is_to_wait = self.waits.is_none() && !tenant.has;
        if is_to_wait {
            tenant.deciding = Some(current);
            if !std::mem::replace(&mut tenant.is_asked, true) {
                self.applier.ask(Job::Tenancy(Wish::Take));
            }
        } else {
            self.step(Event::Decide(current.as_deref()));
        }
    }

    /// Whether a primary that was followed leads no more: this holder was to, and waits for the store.
    pub(super) fn is_left_by(&self, primary: &Following) -> bool {
        self.tenant.as_ref().is_some_and(|tenant| tenant.refused.as_ref() == Some(primary))
    }

    /// Whether the register that is held now is of use: to lead without the store is not.
    pub(super) fn may_hold(&self) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| tenant.has)
    }

    /// The store answered.
    pub(super) fn told_of_store(&mut self, said: Said) {
        let Some(tenant) = &mut self.tenant else { return };
        match said {
            Said::Took(Ok(before)) => {
                tenant.is_asked = false;
                tenant.has = true;
                match self.is_the_store(before) {
                    Ok(()) => self.go_on_deciding(None),
                    Err(why) => {
                        self.leave_store();
                        self.go_on_deciding(Some(why));
                    }
                }
            }
            Said::Took(Err(why)) => {
                tenant.is_asked = false;
                self.go_on_deciding(Some(why));
            }
            Said::Saw(Ok(found)) => {
                tenant.look_at = Some(clock::now().after(LOOK));
                let reach = found.map(|found| (found, self.shared.store.in_reach(&found)));
                match reach {
                    Some((found, Ok(()))) => tenant.seen = Some(found),
                    Some((_, Err(why))) => self.last_error = Some(why),
                    None => {}
                }
            }
            Said::Saw(Err(why)) => {
                tenant.look_at = Some(clock::now().after(LOOK));
                self.last_error = Some(why);
            }
        }
    }

    /// Decides what waited for the store; `why`: it does not have it.
    fn go_on_deciding(&mut self, why: Option<String>) {
        let Some(current) = self.tenant.as_mut().and_then(|tenant| tenant.deciding.take()) else { return };
        match why {
            None => self.step(Event::Decide(current.as_deref())),
            Some(why) => {
                self.waits = Some(why);
                let left = self.follows();
                if let Some(tenant) = &mut self.tenant {
                    tenant.refused = left;
                }
                self.wish(RegisterWish::Decided(Verdict::Leave));
            }
        }
    }

    /// Whether a store is the one whose log this holder keeps, as far as can be seen: who had it before led
    /// no earlier than whoever wrote there what the log says is in it.
    fn is_the_store(&self, before: Option<Tenure>) -> Result<(), String> {
        let applied = self.holder.applied();
        let history = self.holder.secondary().map(|secondary| secondary.history());
        let by_log = history.and_then(|history| history.epoch_of(applied)).unwrap_or_default();
        let seen = self.tenant.as_ref().and_then(|tenant| tenant.seen).map(|seen| seen.epoch);
        let least = by_log.max(seen.unwrap_or_default());
        let is_it = before.map_or(applied == Seq(0) && least == Epoch(0), |before| least <= before.epoch);
        if is_it || self.holder.recovers() {
            return Ok(());
        }
        let place = self.shared.store.directory().display();
        let found = before.map_or_else(
            || "nobody ever led with it".to_owned(),
            |before| format!("node {} led with it last, under epoch {}", before.node.0, before.epoch.0),
        );
        Err(format!(
            "{place} is not the store that was led with under epoch {}: {found}. Mount the right one; or, if \
             it is to count all the same, `bulkhead volume recover`",
            least.0
        ))
    }

    /// This holder leads: what the store lacks is read from its log, from where it was told last.
    pub(super) fn move_in(&mut self) {
        if self.tenant.is_none() {
            return;
        }
        self.begin_anew();
        if let Some(epoch) = self.holder.primary().map(|primary| primary.epoch()) {
            self.applier.ask(Job::Tenancy(Wish::Mark(epoch)));
        }
    }

    /// This holder leads no more.
    pub(super) fn move_out(&mut self) {
        if self.tenant.is_some() {
            self.begin_anew();
            self.leave_store();
        }
    }

    fn begin_anew(&mut self) {
        lock(&self.shared.dirty).clear();
        self.begin_behind_store();
    }

    /// Goes on behind what is in the store. It has the catalogue, too, should this holder not have come so
    /// far.
    fn begin_behind_store(&mut self) {
        let applied = self.holder.applied();
        if self.apply.visible() < applied {
            match catalogue(&self.shared.store) {
                Ok(catalogue) => *lock(&self.shared.catalogue) = catalogue,
                Err(failure) => self.failed = Some(failure.what),
            }
            self.catalogue_changed();
        }
        self.apply.restart(applied, applied);
    }

    fn leave_store(&mut self) {
        if let Some(tenant) = self.tenant.as_mut().filter(|tenant| tenant.has) {
            tenant.has = false;
            self.applier.ask(Job::Tenancy(Wish::Leave));
        }
    }

    /// Leaves a store that it does not lead with; and, while it follows, has the catalogue be what it is.
    pub(super) fn move_tenant(&mut self) {
        let Some(tenant) = &self.tenant else { return };
        let is_over = tenant.until < clock::now();
        match self.holder.mode() {
            Mode::Leading | Mode::Taking => return,
            Mode::Opening | Mode::Damaged | Mode::Remaking | Mode::Following | Mode::Failed => {}
        }
        if is_over {
            self.leave_store();
        }
        if let Some(secondary) = self.holder.secondary() {
            self.apply.target(secondary.commit().min(secondary.durable()));
            self.show();
            if self.apply.visible() < self.holder.applied() {
                // What is in the store need not be read in the log, which may have it no more.
                self.begin_behind_store();
            }
        }
    }

    /// Whether what a primary says waits until this holder sees that it has the very store that that one
    /// leads with.
    pub(super) fn looks_first(&mut self, from: NodeId, word: &Word) -> bool {
        let (Some(tenant), Word::Offer { epoch, .. }) = (&mut self.tenant, word) else { return false };
        let (epoch, now) = (*epoch, clock::now());
        if tenant.seen.is_some_and(|seen| (seen.node, seen.epoch) == (from, epoch)) {
            tenant.strange = None;
            return false;
        }
        if tenant.look_at.is_some_and(|at| at <= now) {
            tenant.look_at = None;
            self.applier.ask(Job::Tenancy(Wish::Look));
        }
        match tenant.strange {
            Some((node, under, since)) if (node, under) == (from, epoch) => {
                if since.after(STRANGE) <= now {
                    let place = self.shared.store.directory().display();
                    self.last_error = Some(format!(
                        "{place} is not the store that node {} leads with: is the right file system mounted \
                         there, and does that node have `shared = true`, too?",
                        from.0
                    ));
                }
            }
            Some(_) | None => tenant.strange = Some((from, epoch, now)),
        }
        true
    }
}

/// The catalogue of a store; of one that somebody else may write meanwhile, when it can be read.
///
/// # Errors
///
/// It cannot be.
pub fn catalogue(store: &Store) -> Result<Catalogue, Failure> {
    let path = store.path(CATALOGUE);
    for _ in 0..READS_MAX {
        match Catalogue::load(&path) {
            Err(_) if store.is_shared() => std::thread::sleep(Duration::from_millis(1)),
            loaded => return loaded,
        }
    }
    Catalogue::load(&path)
}
