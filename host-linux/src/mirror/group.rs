//! The thread of a mirror group: the holder's machine, its log, and everybody it speaks with (I1 to I4, I10
//! to I12; S4-03, S4-07 to S4-15).
//!
//! It waits for nothing but its log's ring, which anybody's [`Told`] wakes. What the machine asks for is done
//! when its step is over, in order; what comes of that is told to it as an event of its own.

use super::acks::Acks;
use super::act::Act;
use super::applier::{self, Applier, Job};
use super::apply::Apply;
use super::fill::{Filled, Filler};
use super::flow::EXTENTS_MAX;
use super::handle::{Pending, Reign, Shared, Told, lock};
use super::logged::Logged;
use super::mending::Wanted;
use super::orders::Orders;
use super::peer::Peer;
use super::placeholder::Placeholder;
use super::reader::Read;
use super::settings::Asked;
use super::tenant::Tenant;
use super::window::{Done, Entry, Unknown, Window};
use super::words::{RegisterNews, RegisterWish, Streams};
use crate::cluster::clock;
use crate::replication::words::News;
use crate::storage::space::{self, ReadId, Space};
use crate::volume::catalogue::Catalogue;
use bulkhead_core::holder::machine::{Holder, Mode};
use bulkhead_core::holder::words::{Event, Refused};
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::Seq;
use bulkhead_core::log::writer::Log;
use bulkhead_core::mirror::membership::{self, Membership, Policy};
use bulkhead_core::mirror::secondary::Following;
use bulkhead_core::time::{Instant, earliest};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The longest wait: bounds how old the view is.
const TICK: Duration = Duration::from_millis(100);

/// Blocks that go out of memory in one turn at most: some milliseconds.
const SUNK_AT_ONCE: u64 = 1024;

/// A group, on its thread.
pub struct Group {
    pub(super) holder: Holder,
    pub(super) space: Space,
    pub(super) shared: Arc<Shared>,
    pub(super) streams: Arc<dyn Streams>,
    pub(super) window: Window,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) applier: Applier,
    pub(super) apply: Apply,
    /// Guests' writes that the log has no room for now.
    pub(super) waiting: VecDeque<Pending>,
    /// Guests' reads that wait until everything acknowledged can be read.
    pub(super) reads: Vec<Read>,
    /// The end of the lease, while the register is held.
    pub(super) lease: Option<Instant>,
    /// Its newest write when it began to lead.
    pub(super) led_from: Option<Seq>,
    /// Whom it follows, and its newest write when it began to.
    pub(super) followed_from: Option<(Following, Seq)>,
    /// What others want to know of their damaged blocks.
    pub(super) wanted_by_others: Vec<Wanted>,
    /// The primary that fills this store.
    pub(super) filled: Option<Filled>,
    pub(super) fillers: BTreeMap<NodeId, Filler>,
    /// How many fills there were, of others and of this one.
    pub(super) fills: u64,
    pub(super) orders: Orders,
    /// The catalogue as the log has it, once this holder leads and has read all of it.
    pub(super) logged: Option<Catalogue>,
    pub(super) acks: Acks,
    /// The machine was told so.
    pub(super) policy: Policy,
    /// What the catalogue wants.
    pub(super) wanted: Asked,
    /// Nodes that were taken out, or in again, and the machine does not know.
    pub(super) moved: Vec<NodeId>,
    /// What the register said when it was asked last whether to take it.
    pub(super) decided_on: Option<Result<Membership, membership::Unknown>>,
    pub(super) next_read: u64,
    /// Why it may not lead, when it was asked last.
    pub(super) waits: Option<String>,
    pub(super) shown_at: Option<Instant>,
    pub(super) last_error: Option<String>,
    pub(super) placeholder: Placeholder,
    /// Of a store that others reach, too.
    pub(super) tenant: Option<Tenant>,
    /// Why the store takes nothing now.
    pub(super) full: Option<String>,
    /// Blocks of the catalogue that were damaged in the store as that was opened, and that nobody has given
    /// since: volumes may be missing.
    pub(super) damaged: BTreeSet<u64>,
    /// What failed while an action was carried out.
    pub(super) failed: Option<String>,
    pub(super) is_over: bool,
}

/// What became of a write that was offered to the holder.
pub(super) enum Offered {
    /// It is in the log.
    Taken,
    /// There is no room for it now.
    Busy(Entry),
    /// It is not wanted.
    Refused(Entry),
}

impl Group {
    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        let mut news = Vec::new();
        while !self.is_over {
            self.shared.mailbox.take().into_iter().for_each(|told| self.take(told));
            if self.holder.deadline().is_some_and(|at| at <= clock::now()) {
                self.step(Event::Timeout);
            }
            self.pump();
            self.publish();
            self.space.wait(self.patience(), &mut news);
            news.drain(..).for_each(|news| self.disk(news));
        }
        self.forsake();
    }

    /// How long there is nothing to do, unless somebody says something.
    fn patience(&self) -> Duration {
        if !self.shared.mailbox.sleep() {
            return Duration::ZERO;
        }
        let applies_at = self.apply.due_at().filter(|_| self.has_store());
        let due = earliest([self.holder.deadline(), applies_at]);
        due.map_or(TICK, |at| at.since(clock::now())).min(TICK)
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Register(news) => self.register(news),
            Told::News(news) => self.news(news),
            Told::Applier(done) => self.applied(done),
            Told::Write(pending) => self.waiting.push_back(pending),
            Told::Read(read) => self.reads.push(read),
            Told::Order(order, done) => self.order(order, done),
            Told::Filler(node, number, said) => self.filler_said(node, number, said),
            Told::Recover => self.step(Event::Recover),
            Told::Damaged(why) => self.fail(why),
            Told::Mend => self.ask_for_mends(),
            Told::Mended(block) => self.catalogue_mended(block),
            Told::Stop => self.is_over = true,
        }
    }

    fn register(&mut self, news: RegisterNews) {
        match news {
            RegisterNews::Decide(current) => self.decide(current),
            RegisterNews::Held { .. } if !self.may_hold() => self.wish(RegisterWish::Release),
            RegisterNews::Held { epoch, payload, until } => {
                self.lease = Some(until);
                self.step(Event::Held { epoch, payload: &payload, until });
            }
            RegisterNews::Leased { until } => {
                self.lease = self.lease.map(|lease| lease.max(until));
                self.step(Event::Leased { until });
            }
            RegisterNews::Lost => {
                lock(&self.shared.throne).know_loss();
                self.lease = None;
                self.step(Event::Lost);
            }
        }
    }

    fn news(&mut self, news: News) {
        match news {
            News::Met(node, stream) => {
                self.peers.entry(node).or_default().begin(Some(stream));
                self.meet(node);
            }
            News::Gone(node) => {
                self.peers.entry(node).or_default().begin(None);
                self.fillers.remove(&node);
                self.fill_broke(node);
                self.mends_broke(node);
                self.step(Event::Gone(node));
            }
            News::Frame(node, frame) => self.arrived(node, frame),
        }
    }

    fn disk(&mut self, news: space::News) {
        match news {
            space::News::Committed(at) => self.step(Event::Committed(at)),
            space::News::CommitFailed(fault) => {
                self.last_error = Some(format!("the log failed: {fault}"));
                self.step(Event::CommitFailed);
            }
            space::News::Kept => self.step(Event::Kept),
            space::News::KeepFailed(fault) => {
                self.last_error = Some(format!("the log's superblock failed: {fault}"));
                self.step(Event::KeepFailed);
            }
            space::News::Read(id, result) => {
                self.have_read(id, result);
                self.look_at_failure();
            }
        }
    }

    fn applied(&mut self, done: applier::Done) {
        match done {
            applier::Done::Applied(seq) => {
                self.apply.ended(clock::now(), seq);
                self.step(Event::Applied(seq));
                end(self.acks.applied(self.holder.applied()), Ok(()));
            }
            applier::Done::Filled(number) => self.fill_is_durable(number),
            applier::Done::Compared(compared) => self.have_compared(compared),
            applier::Done::Full(why) => self.full = why,
            applier::Done::Tenancy(said) => self.told_of_store(said),
            // What it has is not known any more: whoever has a whole store is to lead (F13).
            applier::Done::Failed(why) => self.fail(why),
        }
    }

    /// This holder is of no use any more.
    pub(super) fn fail(&mut self, why: String) {
        self.last_error = Some(why);
        self.step(Event::CommitFailed);
    }

    fn look_at_failure(&mut self) {
        if let Some(why) = self.failed.take() {
            self.fail(why);
        }
    }

    /// Lets the machine take an event, and does what it asks for.
    pub(super) fn step(&mut self, event: Event<'_>) {
        let acts = self.machine(event);
        self.carry_out(acts);
    }

    /// Offers a write to the machine, of a guest or fed by a primary; it is in memory before anything is done
    /// about it.
    pub(super) fn offer(&mut self, by: Option<(NodeId, Epoch)>, mut entry: Entry) -> Offered {
        let before = self.holder.log().map(Log::next);
        let Entry { seq, made, write, .. } = entry;
        let sums = &entry.sums;
        let acts = self.machine(match by {
            Some((from, epoch)) => Event::Fed { from, epoch, made, seq, write, sums },
            None => Event::Write { write, sums },
        });
        let accepted = acts.iter().find_map(Act::accepted);
        let fed = before.filter(|next| *next == entry.seq && self.holder.log().map(Log::next) > before);
        let is_busy = acts.iter().any(|act| matches!(act, Act::Refused(Refused::Busy)));
        let outcome = match (accepted, fed) {
            (Some(seq), _) => {
                entry.made = self.holder.primary().map(|primary| primary.epoch()).unwrap_or_default();
                entry.seq = seq;
                self.window.push(entry);
                Offered::Taken
            }
            (None, Some(_)) => {
                self.window.push(entry);
                Offered::Taken
            }
            (None, None) if is_busy => Offered::Busy(entry),
            (None, None) => Offered::Refused(entry),
        };
        self.carry_out(acts);
        outcome
    }

    fn machine(&mut self, event: Event<'_>) -> Vec<Act> {
        let led = self.holder.mode() == Mode::Leading;
        let mut acts = Vec::new();
        self.holder.step(clock::now(), event, &mut |action| acts.extend(Act::of(action)));
        match (led, self.holder.mode() == Mode::Leading) {
            (false, true) => {
                self.led_from = self.holder.primary().map(|primary| primary.newest());
                self.weigh();
                self.move_in();
                // Who may lead has all that was acknowledged; or an operator says that this is to count.
                self.is_of_one_time();
            }
            (true, false) => {
                self.led_from = None;
                self.forsake();
                self.move_out();
            }
            (true, true) | (false, false) => {}
        }
        acts
    }

    pub(super) fn carry_out(&mut self, acts: Vec<Act>) {
        acts.into_iter().for_each(|act| self.act(act));
        self.look_at_failure();
    }

    fn act(&mut self, act: Act) {
        match act {
            // Looked at where the write was offered.
            Act::Accepted(_) | Act::Refused(_) => {}
            Act::Commit { at, writes: (first, count), header } => {
                let last = first.after(u64::try_from(count).unwrap_or(u64::MAX)).before();
                let pieces = self.window.place(first, last, at.after(1));
                if self.space.commit(at, &header, pieces).is_err() {
                    self.failed =
                        Some("the log takes no more at once than it may, and was given more".into());
                }
            }
            Act::Keep { at, block } => {
                if self.space.keep(at, &block).is_err() {
                    self.failed = Some("the log's superblock was to be written twice at once".into());
                }
            }
            Act::Cut(from) => end(self.window.cut(from), Err(Unknown)),
            Act::Remade => self.remade(),
            Act::Say { to, word } => self.peers.entry(to).or_default().say(word),
            Act::Feed { to, epoch, first, last } => {
                self.peers.entry(to).or_default().feed(epoch, first, last);
            }
            Act::Fill { to } => self.fill(to),
            Act::Apply(seq) => {
                self.apply.target(seq);
                self.show();
            }
            Act::Acknowledge(seq) => {
                let safe = self.window.safe(seq);
                end(self.acks.safe(safe), Ok(()));
                self.tell_safe();
            }
            Act::Decided(verdict) => self.wish(RegisterWish::Decided(verdict)),
            Act::Rewrite(payload) => self.wish(RegisterWish::Rewrite(payload)),
            Act::Release if self.holder.mode() == Mode::Failed => self.wish(RegisterWish::Failed),
            Act::Release => self.wish(RegisterWish::Release),
        }
    }

    pub(super) fn wish(&self, wish: RegisterWish) {
        lock(&self.shared.wishes).push(wish);
        self.shared.loop_wake.wake();
    }

    /// Nobody who waits here will be told that what was asked for is done.
    fn forsake(&mut self) {
        lock(&self.shared.throne).set(Reign::default());
        self.logged = None;
        end(self.acks.forsake(), Err(Unknown));
        end(self.window.safe(Seq(u64::MAX)).into_iter().filter_map(|safe| safe.done), Err(Unknown));
        end(self.waiting.drain(..).filter_map(|pending| pending.done), Err(Unknown));
        self.reads.drain(..).for_each(|read| super::handle::not_here(read.reply));
    }

    /// Says under which epoch, until when, and what may be read.
    pub(super) fn reign(&self) {
        let until = self.lease.filter(|_| self.holder.mode() == Mode::Leading);
        let reign = until.zip(self.holder.primary()).map(|(until, primary)| Reign {
            epoch: Some(primary.epoch()),
            until,
            is_readable: self.damaged.is_empty()
                && self.led_from.is_some_and(|from| self.apply.shows_all(from)),
        });
        lock(&self.shared.throne).set(reign.unwrap_or_default());
    }

    /// Does what can be done now.
    fn pump(&mut self) {
        self.hear();
        self.move_tenant();
        self.look_after_fill();
        self.write();
        self.show();
        self.send();
        self.tell_members();
        self.round();
        self.move_fillers();
        self.reign();
        if !self.waiting.is_empty() {
            // Perhaps until all of the catalogue could be read.
            self.write();
            self.send();
        }
        self.follow_catalogue();
        self.tell_safe();
        self.answer_reads();
        self.ask_for_mends();
        self.give_mends();
        self.move_scrub();
        self.forget();
        self.next_order();
        self.look_at_failure();
    }

    fn answer_reads(&mut self) {
        let reign = lock(&self.shared.throne).reign();
        match reign.epoch {
            Some(epoch) if reign.is_readable => {
                for read in std::mem::take(&mut self.reads) {
                    self.shared.readers.begin(&self.shared, epoch, read);
                }
            }
            Some(_) => {}
            None => self.reads.drain(..).for_each(|read| super::handle::not_here(read.reply)),
        }
    }

    /// Forgets what is in the store and was sent to the others. When memory is short: all that is durable in
    /// the log, where it can be read again; what waits for a word of the primary must not keep that word out.
    fn forget(&mut self) {
        let is_short = self.shared.pool.free() < self.shared.pool_blocks / 4;
        let applied = self.holder.applied();
        let durable = self.holder.log().filter(|_| is_short || !self.waiting.is_empty());
        let durable = durable.map(|log| log.durable());
        let unsent =
            self.holder.primary().map_or(applied.next(), |primary| primary.unsent().min(applied.next()));
        self.window.forget(durable.map_or(unsent, Seq::next));
        // What is read back from there costs the disk twice: not only because somebody waits.
        if let Some(durable) = durable.filter(|_| is_short) {
            lock(&self.shared.dirty).sink(durable, SUNK_AT_ONCE);
        }
    }

    pub(super) fn read_id(&mut self) -> ReadId {
        self.next_read = self.next_read.wrapping_add(1);
        ReadId(self.next_read)
    }

    /// The applier is asked for another round, when it is worth it.
    fn round(&mut self) {
        if !self.has_store() {
            return;
        }
        let applied = self.holder.applied();
        let primary = self.holder.primary();
        let is_through = primary.is_some_and(|primary| primary.chosen().policy() == Policy::Through);
        let is_through = is_through || self.acks.waits_for_store();
        let dirty = lock(&self.shared.dirty);
        let (sunk, era) = (dirty.sunk(), dirty.era());
        let is_memory_full = EXTENTS_MAX <= dirty.extents();
        drop(dirty);
        let is_urgent = is_through || !self.waiting.is_empty() || self.is_full() || applied < sunk;
        let Some(log) = self.holder.log() else { return };
        let from = log.marks().before(applied.next());
        if let Some(upto) = self.apply.round(clock::now(), applied, is_urgent, is_memory_full) {
            let logged = from.filter(|_| applied < sunk).map(|from| Logged {
                applied,
                upto: sunk.min(upto),
                from: from.at,
                kept: self.holder.kept().clone(),
                era,
            });
            self.applier.ask(
                logged.map_or(Job::Apply { applied, upto, era }, |logged| Job::ApplyLogged(Box::new(logged))),
            );
        }
    }

    /// Whether the log or the memory is so full that the store should not lag behind.
    fn is_full(&self) -> bool {
        let ring = self.holder.kept().ring.blocks();
        let is_log_full = self.holder.log().is_some_and(|log| log.free() < ring / 2);
        is_log_full || self.shared.pool.free() < self.shared.pool_blocks / 2
    }
}

/// Tells everybody who waits how it ended.
pub(super) fn end(waiting: impl IntoIterator<Item = Done>, how: Result<(), Unknown>) {
    waiting.into_iter().for_each(|done| done(how));
}
