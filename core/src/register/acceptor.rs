//! The voter: keeps promises and records for many registers, grants leases, and says nothing that is not
//! durable (S1-06, X03, V10, V11, V18; F25).
//!
//! Every change is first an [`Action::Persist`]; the answer follows when [`Event::Persisted`] says that the
//! flush which covers it has returned. What is answered from memory in between waits behind the same flush.
//! A flush that failed ends this voter for good (V13): nobody knows what the disk holds.

use core::hash::{Hash, Hasher};
use core::time::Duration;

use heapless::{Deque, Vec};

use super::ballot::Ballot;
use super::kept::{ANY_RECORD, Head, Kept};
use super::message::{Answer, Ask, Fenced, Leased, Lending, Millis, Refusal, Reply, Request, Start};
use super::record::Record;
use super::store::Stored;
use super::voters::Life;
use crate::actions::Actions;
use crate::bug::{Bug, is_planted};
use crate::bytes::Long;
use crate::id::{Epoch, NodeId, RegisterId};
use crate::time::{Drift, Instant, Stamp};

/// What the shell tells the machine.
#[expect(clippy::large_enum_variant, reason = "no heap to box into; events are given one by one")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A question arrived.
    Asked {
        /// From whom, authenticated.
        from: NodeId,
        /// What.
        request: Request,
    },
    /// Everything up to this [`Action::Persist`] is durable.
    Persisted(PersistId),
    /// A write or a flush failed.
    PersistFailed,
}

/// What the machine asks the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make this durable, after everything asked for before, then report [`Event::Persisted`].
    Persist {
        /// Counts up.
        id: PersistId,
        /// The place in the voter's table: 0 up to its capacity.
        place: u16,
        /// What.
        stored: Stored,
    },
    /// Send an answer.
    Answer {
        /// To whom.
        to: NodeId,
        /// What.
        answer: Answer,
    },
}

/// Numbers the writes of one start of a voter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistId(pub u64);

/// The machine's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It answers. Exit: a write fails.
    Voting,
    /// It is silent, because it does not know what its disk holds. Final until the node starts again.
    Failed,
}

/// Answers that wait for a flush, and so most actions of one step. Full means: the question is dropped,
/// counted, and asked again by its owner. Whoever writes at once needs one.
pub const WAITING_MAX: usize = 16;

/// What a voter must know from its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The life of its durable state.
    pub life: Life,
    /// The longest lease it grants. Must not be lowered between two starts without waiting for the old one.
    pub lease_max: Duration,
    /// The bound on drift.
    pub drift: Drift,
}

/// A voter for up to `REGISTERS` registers, with up to `WAITING` answers that wait for a flush, and `ROOM`
/// bytes for each record (`register::kept`).
#[derive(Clone, Debug)]
pub struct Acceptor<
    const REGISTERS: usize,
    const WAITING: usize = WAITING_MAX,
    const ROOM: usize = ANY_RECORD,
> {
    settings: Settings,
    mode: Mode,
    /// The place of an entry never changes: it is its place on the disk.
    table: Vec<Entry<ROOM>, REGISTERS>,
    waiting: Deque<Waiting, WAITING>,
    /// The newest write asked for. Invariant: not before `durable`.
    asked: PersistId,
    /// The newest write known to be durable.
    durable: PersistId,
    dropped: u32,
}

#[derive(Clone, Debug)]
struct Entry<const ROOM: usize> {
    kept: Kept<ROOM>,
    /// Volatile on purpose: a restart grants the longest lease anew to the holder on record.
    lease: Option<Lease>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lease {
    leased: NodeId,
    epoch: Long,
    /// A `Start`, when one is known.
    start: Option<Long>,
    until: Stamp,
}

#[derive(Clone, Debug)]
struct Waiting {
    after: PersistId,
    to: NodeId,
    answer: Answer,
}

impl<const REGISTERS: usize, const WAITING: usize, const ROOM: usize> Acceptor<REGISTERS, WAITING, ROOM> {
    /// Starts from what the disk holds, in the order of the places. The shell has written and flushed it once
    /// more since it was read, so that what is answered from it is durable.
    ///
    /// # Panics
    ///
    /// If there is more than [`Self::resume`] has room for: the shell reads no more than its table holds.
    pub fn new(now: Instant, settings: Settings, stored: impl IntoIterator<Item = Stored>) -> Self {
        let mut voter = Self::blank(settings);
        for stored in stored {
            let resumed = voter.resume(now, &stored);
            assert!(resumed, "the shell read more registers than the voter has places");
        }
        voter
    }

    /// A voter that never voted.
    #[inline(always)]
    pub const fn blank(settings: Settings) -> Self {
        Self {
            settings,
            mode: Mode::Voting,
            table: Vec::new(),
            waiting: Deque::new(),
            asked: PersistId(0),
            durable: PersistId(0),
            dropped: 0,
        }
    }

    /// Goes on from what the disk holds at the next place, before the first event. `false` when there is no
    /// room for it: a larger voter wrote it, and this one must not vote.
    #[must_use = "a voter that forgets a register must not vote"]
    pub fn resume(&mut self, now: Instant, stored: &Stored) -> bool {
        let settings = self.settings;
        // Whoever is on record could have been given the longest lease a moment before the restart.
        let lease = stored.accepted.as_ref().and_then(|(_, record)| {
            let until = match is_planted(Bug::LeaseForgotten) {
                true => now,
                false => now.after(settings.drift.at_least(settings.lease_max)),
            };
            let (epoch, until) = (record.epoch.0.into(), until.into());
            record.holder.map(|leased| Lease { leased, epoch, start: None, until })
        });
        let entry = Kept::of(stored).map(|kept| Entry { kept, lease });
        entry.is_some_and(|entry| self.table.push(entry).is_ok())
    }

    /// The current mode.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The life of its state.
    pub const fn life(&self) -> Life {
        self.settings.life
    }

    /// Questions dropped because too many answers waited for the disk.
    pub const fn dropped(&self) -> u32 {
        self.dropped
    }

    /// What is accepted for `register`, durable or about to be.
    pub fn accepted(&self, register: RegisterId) -> Option<Record> {
        self.entry(register).and_then(|entry| entry.kept.accepted()).map(|(_, record)| record)
    }

    /// Whether anything is accepted for `register`.
    pub fn has_record(&self, register: RegisterId) -> bool {
        self.entry(register).is_some_and(|entry| entry.kept.has_record())
    }

    /// The lease in force on `register`.
    pub fn lease(&self, now: Instant, register: RegisterId) -> Option<Leased> {
        self.entry(register).and_then(|entry| entry.lease(now))
    }

    /// Hashes what decides how this voter will answer from `now` on: two that hash alike behave alike. Only
    /// what was counted on the way here, and leases that have ended, are left out. For model checking.
    pub fn hash_at<H: Hasher>(&self, now: Instant, state: &mut H) {
        let ahead = |id: PersistId| id.0.saturating_sub(self.durable.0);
        (self.settings.life, self.mode, ahead(self.asked)).hash(state);
        for Entry { kept, lease } in &self.table {
            kept.hash_meaning(state);
            lease.filter(|lease| now < lease.until.instant()).hash(state);
        }
        for Waiting { after, to, answer } in &self.waiting {
            (ahead(*after), to, answer).hash(state);
        }
    }

    /// Takes one event and says what to do.
    #[inline(never)]
    pub fn step(&mut self, now: Instant, event: Event) -> Actions<Action, WAITING> {
        let mut todo = Actions::none();
        match (self.mode, event) {
            (Mode::Voting, Event::Asked { from, request }) => self.asked(now, from, &request, &mut todo),
            (Mode::Voting, Event::Persisted(id)) => {
                self.durable = self.durable.max(id.min(self.asked));
                self.release(&mut todo);
            }
            (Mode::Voting, Event::PersistFailed) => {
                self.mode = Mode::Failed;
                self.waiting.clear();
            }
            // Silence is the only safe answer: no promise made now could be kept.
            (Mode::Failed, Event::Asked { .. } | Event::Persisted(_) | Event::PersistFailed) => {}
        }
        self.check();
        todo
    }

    fn asked(&mut self, now: Instant, from: NodeId, request: &Request, todo: &mut Actions<Action, WAITING>) {
        let Request { register, ask, body } = request;
        if self.waiting.is_full() {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let settings = self.settings;
        let place = match self.place(*register, body) {
            Some(place) => place,
            None => {
                let empty = Reply::State { accepted: None, lease: None };
                let reply = match body {
                    Ask::Read => empty,
                    Ask::Prepare { .. } | Ask::Accept { .. } => Reply::Refused(Refusal::Full),
                    Ask::Renew(_) => Reply::Refused(Refusal::NotHolder { epoch: Epoch(0) }),
                    Ask::Release { .. } => Reply::Released,
                };
                let answer = Answer { register: *register, ask: *ask, life: settings.life, body: reply };
                todo.push(Action::Answer { to: from, answer });
                return;
            }
        };
        let Some(entry) = self.table.get_mut(usize::from(place)) else { return };
        let (reply, changed) = entry.answer(now, settings, from, body);
        // Nothing else changes an entry, and a small processor has time for one.
        let accepted = entry.kept.head().attempt;
        assert!(accepted <= entry.kept.promised(), "accepted an attempt that was promised away");
        if changed {
            entry.kept.count();
            self.asked = PersistId(self.asked.0.saturating_add(1));
            todo.push(Action::Persist { id: self.asked, place, stored: entry.kept.stored() });
        }
        // The newest write of this register: it is on the disk, or its own answer still waits for it.
        let after = if changed { self.asked } else { self.written(*register) };
        let answer = Answer { register: *register, ask: *ask, life: settings.life, body: reply };
        let waiting = Waiting { after, to: from, answer };
        // There is room: it was looked for above. What is already durable leaves at once.
        let _ = self.waiting.push_back(waiting);
        self.release(todo);
    }

    /// The place of `register`; a new one only for what changes something.
    fn place(&mut self, register: RegisterId, body: &Ask) -> Option<u16> {
        let found = self.table.iter().position(|entry| entry.kept.register == register);
        let place = match (found, body) {
            (Some(place), _) => place,
            (None, Ask::Prepare { .. } | Ask::Accept { .. }) => {
                let kept = Kept::new(register);
                self.table.push(Entry { kept, lease: None }).ok()?;
                self.table.len().checked_sub(1)?
            }
            (None, Ask::Read | Ask::Renew(_) | Ask::Release { .. }) => return None,
        };
        u16::try_from(place).ok()
    }

    /// Hands out the answers whose writes are durable, oldest first.
    fn release(&mut self, todo: &mut Actions<Action, WAITING>) {
        for _ in 0..self.waiting.len() {
            let Some(one) = self.waiting.pop_front() else { return };
            if one.after <= self.durable || is_planted(Bug::AnswerBeforePersist) {
                todo.push(Action::Answer { to: one.to, answer: one.answer });
            } else {
                let _ = self.waiting.push_back(one);
            }
        }
    }

    /// The newest write of `register` that is not known to be durable.
    fn written(&self, register: RegisterId) -> PersistId {
        let of_it = self.waiting.iter().filter(|waiting| waiting.answer.register == register);
        of_it.map(|waiting| waiting.after).max().unwrap_or_default()
    }

    fn entry(&self, register: RegisterId) -> Option<&Entry<ROOM>> {
        self.table.iter().find(|entry| entry.kept.register == register)
    }

    /// Cheap facts that hold between any two events.
    fn check(&self) {
        assert!(self.durable <= self.asked, "more is durable than was asked for");
    }
}

impl Settings {
    fn is_too_long(&self, lease: Lending) -> bool {
        self.lease_max < lease.length.duration()
    }

    /// The asker would count on more than this voter remembers across a restart.
    fn too_long(&self) -> Refusal {
        // Rounded down: what is offered must not be too long again.
        let max = u32::try_from(self.lease_max.as_millis()).unwrap_or(u32::MAX);
        Refusal::LeaseTooLong { max: Millis(max) }
    }
}

impl<const ROOM: usize> Entry<ROOM> {
    /// The lease in force.
    fn lease(&self, now: Instant) -> Option<Leased> {
        let lease = self.lease.filter(|lease| now < lease.until.instant())?;
        let left = Millis::ceil(lease.until.instant().since(now));
        let (epoch, start) = (Epoch(lease.epoch.get()), lease.start.map(|start| Start(start.get())));
        Some(Leased { holder: lease.leased, epoch, start, left })
    }

    /// Whose lease forbids `from` to change the record.
    fn forbidden(&self, now: Instant, from: NodeId, fenced: Option<Fenced>) -> Option<Leased> {
        let lease = self.lease(now).filter(|lease| lease.holder != from)?;
        let is_fenced = |fence: Fenced| fence.node == lease.holder && Some(fence.start) == lease.start;
        let is_void = fenced.is_some_and(|fence| {
            is_fenced(fence) || (is_planted(Bug::FenceIgnoresStart) && fence.node == lease.holder)
        });
        Some(lease).filter(|_| !is_void && !is_planted(Bug::LeaseIgnored))
    }

    fn answer(&mut self, now: Instant, settings: Settings, from: NodeId, ask: &Ask) -> (Reply, bool) {
        let unchanged = |reply| (reply, false);
        match ask {
            Ask::Read => unchanged(Reply::State { accepted: self.kept.accepted(), lease: self.lease(now) }),
            Ask::Prepare { ballot, fenced } => {
                if let Some(lease) = self.forbidden(now, from, *fenced) {
                    return unchanged(Reply::Refused(Refusal::Leased(lease)));
                }
                // Strictly above: an attempt of an earlier start of the same node is not promised again.
                let promised = self.kept.promised();
                let again = is_planted(Bug::PromiseTwice) && *ballot == promised;
                if *ballot <= promised && !again {
                    return unchanged(Reply::Refused(Refusal::Outbid { promised }));
                }
                self.kept.promise(*ballot);
                self.lease = self.lease.filter(|lease| lease.leased == from);
                (Reply::Promised { accepted: self.kept.accepted() }, true)
            }
            Ask::Accept { ballot, record, lease, fenced } => {
                if lease.is_some_and(|lease| settings.is_too_long(lease)) {
                    return unchanged(Reply::Refused(settings.too_long()));
                }
                if let Some(refusal) = self.cannot_accept(now, from, *ballot, record, *fenced) {
                    return unchanged(Reply::Refused(refusal));
                }
                let repeated = self.kept.has_record() && self.kept.head().attempt == *ballot;
                if !repeated && !self.kept.accept(*ballot, record) {
                    return unchanged(Reply::Refused(Refusal::Full));
                }
                self.kept.promise(*ballot);
                self.lease = self.lease.filter(|held| Some(held.leased) == record.holder);
                if let Some(lease) = lease.filter(|_| record.holder == Some(from)) {
                    self.grant(now, settings, from, record.epoch, lease);
                }
                (Reply::Accepted, !repeated && !is_planted(Bug::AcceptUnwritten))
            }
            Ask::Renew(lease) => {
                let Head { epoch, holder, .. } = self.kept.head();
                if holder != Some(from) {
                    return unchanged(Reply::Refused(Refusal::NotHolder { epoch }));
                }
                if settings.is_too_long(*lease) {
                    return unchanged(Reply::Refused(settings.too_long()));
                }
                self.grant(now, settings, from, epoch, *lease);
                unchanged(Reply::Granted { epoch })
            }
            Ask::Release { epoch } => {
                self.lease = self.lease.filter(|lease| lease.leased != from || lease.epoch.get() != epoch.0);
                unchanged(Reply::Released)
            }
        }
    }

    fn cannot_accept(
        &self,
        now: Instant,
        from: NodeId,
        ballot: Ballot,
        record: &Record,
        fenced: Option<Fenced>,
    ) -> Option<Refusal> {
        // Asked again here: a lease may have been renewed since the promise. A holder may hand its register
        // over itself; nobody else may move it away.
        if let Some(lease) = self.forbidden(now, from, fenced)
            && record.holder != Some(lease.holder)
        {
            return Some(Refusal::Leased(lease));
        }
        let promised = self.kept.promised();
        if ballot < promised && !is_planted(Bug::AcceptBelowPromise) {
            return Some(Refusal::Outbid { promised });
        }
        // Nobody's attempt. On the disk it says that nothing was accepted: the record would be unreadable.
        if ballot == Ballot::NONE {
            return Some(Refusal::Outbid { promised });
        }
        let epoch = self.kept.head().epoch;
        (record.epoch < epoch).then_some(Refusal::OldEpoch { epoch })
    }

    fn grant(&mut self, now: Instant, settings: Settings, to: NodeId, epoch: Epoch, lending: Lending) {
        let counted = match is_planted(Bug::VoterIgnoresDrift) {
            true => settings.drift.at_most(lending.length.duration()),
            false => settings.drift.at_least(lending.length.duration()),
        };
        let until = now.after(counted);
        // A shorter lease asked for later does not shorten what was granted before.
        let held = self.lease.filter(|held| held.leased == to).map(|held| held.until.instant());
        let until = held.map_or(until, |held| held.max(until)).into();
        self.lease =
            Some(Lease { leased: to, epoch: epoch.0.into(), start: Some(lending.start.0.into()), until });
    }
}

#[cfg(test)]
#[path = "acceptor_tests.rs"]
mod tests;
