//! A holder of a mirror group: whatever happens to its log, its register, its guests and the other holders,
//! one machine says what to do (I1 to I4, I10, I12).
//!
//! ```text
#![doc = include_str!("machine.edges.txt")]
//! ```

mod mode;
mod peers;
mod turns;

use core::time::Duration;

use heapless::Vec;

use super::recovery::{Recovered, is_unused};
use super::role::{Next, Open, Role};
use super::words::{Action, Backing, Event, Refused, Settings, Waits, Word};
use crate::bug::{Bug, is_planted};
use crate::id::{Epoch, NodeId};
use crate::log::batch::{Sum, Write};
use crate::log::keeper::{self, Change, Keeper};
use crate::log::marks::Marks;
use crate::log::scan::Outcome;
use crate::log::superblock::Superblock;
use crate::log::writer::{self, Log};
use crate::log::{End, Seq};
use crate::mirror::history::History;
use crate::mirror::membership::{HOLDERS_MAX, Holder as Member, Membership, NotInSync};
use crate::mirror::primary::{self, Primary};
use crate::mirror::secondary::{self, Secondary};
use crate::register::seat::Verdict;
use crate::time::{Instant, earliest};
use turns::led;

pub use mode::{EDGES, Mode};

/// How far the superblock may lag behind what is applied: so much is applied again after a start at most.
const SETTLE_WRITES: u64 = 4096;
/// And for how long.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

type Out<'o> = dyn FnMut(Action<'_>) + 'o;

/// One holder of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    settings: Settings,
    keeper: Keeper,
    stage: Stage,
    /// The register is held, and this holder does not lead yet.
    taking: Option<Taking>,
    /// Holders that there is a path to.
    met: Vec<NodeId, HOLDERS_MAX>,
    applied: Seq,
    /// What the primary that is followed has applied to the store of all, as it said; this log may lack some
    /// of it yet.
    shared: Option<(secondary::Following, Seq)>,
    settle_at: Option<Instant>,
    contradicted: Option<(NodeId, Epoch)>,
    /// An operator said that it is to lead, whoever has more. Over when it leads.
    recovers: bool,
    chance: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "no heap to box into; a group has one")]
enum Stage {
    Opening { run: u64, end: End, marks: Marks, history: History },
    Damaged { end: End, history: History },
    Remaking { run: u64 },
    Open(Open),
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Taking {
    epoch: Epoch,
    until: Instant,
}

impl Holder {
    /// A holder with this log. What it asks for first goes to `out`.
    pub fn new(settings: Settings, recovered: Recovered, out: &mut Out<'_>) -> Self {
        let Recovered { superblock, outcome, history, marks } = recovered;
        let (run, promise) = (superblock.run.number.saturating_add(1), superblock.promised);
        let stage = match outcome {
            Outcome::Whole(end) => Stage::Opening { run, end, marks, history },
            Outcome::Damaged(end) => Stage::Damaged { end, history },
        };
        let mut holder = Self {
            settings,
            applied: superblock.applied,
            keeper: Keeper::new(superblock),
            stage,
            taking: None,
            met: Vec::new(),
            shared: None,
            settle_at: None,
            contradicted: None,
            recovers: false,
            chance: settings.seed.max(1),
        };
        if let Outcome::Whole(end) = outcome {
            // A run that begins where the log ends cuts nothing off.
            let _ = holder.keep(Change::Begin { end, from: end.next, promise }, out);
        }
        holder
    }

    /// What it is.
    pub fn mode(&self) -> Mode {
        match &self.stage {
            Stage::Opening { .. } => Mode::Opening,
            Stage::Damaged { .. } => Mode::Damaged,
            Stage::Remaking { .. } => Mode::Remaking,
            Stage::Open(open) if open.leads() => Mode::Leading,
            Stage::Open(_) if self.taking.is_some() => Mode::Taking,
            Stage::Open(_) => Mode::Following,
            Stage::Failed => Mode::Failed,
        }
    }

    /// The superblock as it is durable.
    pub const fn kept(&self) -> &Superblock {
        self.keeper.kept()
    }

    /// Which holder of the group this is.
    pub fn me(&self) -> Member {
        let identity = self.keeper.kept().identity;
        Member { node: identity.node, life: identity.life }
    }

    /// The primary, while this holder leads.
    pub fn primary(&self) -> Option<&Primary> {
        match &self.stage {
            Stage::Open(Open { role: Role::Leads(primary, _), .. }) => Some(primary),
            Stage::Open(_)
            | Stage::Opening { .. }
            | Stage::Damaged { .. }
            | Stage::Remaking { .. }
            | Stage::Failed => None,
        }
    }

    /// Whom it follows, while it does.
    pub fn secondary(&self) -> Option<&Secondary> {
        match &self.stage {
            Stage::Open(Open { role: Role::Follows(secondary), .. }) => Some(secondary),
            Stage::Open(_)
            | Stage::Opening { .. }
            | Stage::Damaged { .. }
            | Stage::Remaking { .. }
            | Stage::Failed => None,
        }
    }

    /// The log, once it is open.
    pub const fn log(&self) -> Option<&Log> {
        match &self.stage {
            Stage::Open(open) => Some(&open.log),
            Stage::Opening { .. } | Stage::Damaged { .. } | Stage::Remaking { .. } | Stage::Failed => None,
        }
    }

    /// Every write up to this one is in the backing store.
    pub const fn applied(&self) -> Seq {
        self.applied
    }

    /// The primary whose log contradicted what all holders had, and under which epoch (F51).
    pub const fn contradicted(&self) -> Option<(NodeId, Epoch)> {
        self.contradicted
    }

    /// When [`Event::Timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let settles = self.settle_at.filter(|_| self.keeper.mode() == keeper::Mode::Resting);
        earliest([self.primary().and_then(Primary::deadline), settles])
    }

    /// Whether this holder may take the register whose newest record says this (I3, I7).
    ///
    /// # Errors
    ///
    /// [`Waits`]: why not, and what would change it.
    pub fn may_lead(&self, current: Option<&[u8]>) -> Result<(), Waits> {
        let is_whole = match &self.stage {
            Stage::Opening { .. } | Stage::Remaking { .. } => return Err(Waits::Opening),
            Stage::Failed => return Err(Waits::Failed),
            Stage::Open(Open { next: Some(Next::Remake { .. }), .. }) => return Err(Waits::Opening),
            Stage::Damaged { .. } => false,
            Stage::Open(_) => true,
        };
        let by_rule = match current {
            None => self.may_found(is_whole),
            Some(payload) => Membership::parse(payload)?.may_lead(self.me(), is_whole).map_err(Waits::from),
        };
        by_rule.or_else(|why| if self.recovers && why.is_for_operator() { Ok(()) } else { Err(why) })
    }

    /// Whether an operator had it lead whoever has more, and it does not yet.
    pub const fn recovers(&self) -> bool {
        self.recovers
    }

    fn may_found(&self, is_whole: bool) -> Result<(), Waits> {
        let is_unused = self.secondary().is_some_and(|one| is_unused(one.history(), self.kept()));
        match (self.settings.is_founder, is_unused) {
            (_, _) if !is_whole => Err(NotInSync::Damaged.into()),
            (_, false) => Err(Waits::Forgotten),
            (false, true) => Err(Waits::NotFounder),
            (true, true) => Ok(()),
        }
    }

    /// Takes one event, and hands what is to be done to `out`, in order.
    pub fn step(&mut self, now: Instant, event: Event<'_>, out: &mut Out<'_>) {
        match event {
            Event::Write { write, sums } => self.write(now, write, sums, out),
            Event::Fed { from, epoch, made, seq, write, sums } => {
                let fed = secondary::Event::Fed { from, epoch, made, seq };
                self.fed(fed, (made, seq), (write, sums), out);
            }
            Event::Heard { from, word } => self.heard(now, from, word, out),
            Event::Met(node) => {
                self.forget(node);
                // One more than there are holders is none of the group's.
                let _ = self.met.push(node);
                self.lead(now, primary::Event::Met(node), out);
            }
            Event::Gone(node) => {
                self.forget(node);
                self.lead(now, primary::Event::Gone(node), out);
            }
            Event::Dismiss(node) => {
                self.forget(node);
                self.lead(now, primary::Event::Dismiss(node), out);
            }
            Event::Recover => self.recovers = !matches!(&self.stage, Stage::Open(open) if open.leads()),
            Event::Filled { from, epoch, upto } => {
                self.filled(secondary::Following { primary: from, epoch }, upto);
            }
            Event::Committed(at) => self.append(now, writer::Event::Committed(at), out),
            Event::CommitFailed => self.fail(out),
            Event::Kept => self.is_kept(now, out),
            Event::KeepFailed => self.fail(out),
            Event::Applied(seq) => self.is_applied(now, seq, out),
            Event::Unreadable(seq) => self.lead(now, primary::Event::Trimmed(seq.next()), out),
            Event::Decide(current) => out(Action::Decided(self.decide(current))),
            Event::Held { epoch, payload, until } => self.held(now, epoch, payload, until, out),
            Event::Leased { until } => {
                if let Some(taking) = &mut self.taking {
                    taking.until = taking.until.max(until);
                }
                self.lead(now, primary::Event::Leased { until }, out);
            }
            Event::Lost => {
                self.taking = None;
                self.lead(now, primary::Event::Lost, out);
            }
            Event::Want(policy) => {
                self.settings.policy = policy;
                self.lead(now, primary::Event::Want(policy), out);
            }
            Event::Timeout => self.lead(now, primary::Event::Timeout, out),
        }
        self.go_on(now, out);
    }

    fn forget(&mut self, node: NodeId) {
        self.met.retain(|one| *one != node);
    }

    fn write(&mut self, now: Instant, write: Write, sums: &[Sum], out: &mut Out<'_>) {
        let Stage::Open(open) = &mut self.stage else { return out(Action::Refused(Refused::NotPrimary)) };
        if !open.leads() {
            return out(Action::Refused(Refused::NotPrimary));
        }
        let Role::Leads(primary, history) = &mut open.role else { return };
        let (seq, epoch) = (primary.newest().next(), primary.epoch());
        if let Some(refusal) = open.log.refuses(seq, epoch, &write, sums.len()) {
            return out(Action::Refused(Refused::by(refusal).unwrap_or(Refused::NotPrimary)));
        }
        history.append(epoch, 1);
        out(Action::Accepted(seq));
        self.append(now, writer::Event::Append { seq, epoch, write, sums }, out);
        self.lead(now, primary::Event::Write, out);
    }

    fn next(&mut self, next: Next) {
        if let Stage::Open(open) = &mut self.stage {
            open.next.get_or_insert(next);
        }
    }

    fn decide(&self, current: Option<&[u8]>) -> Verdict {
        match self.may_lead(current) {
            Ok(()) => Verdict::Take(Membership::alone(self.me()).encode()),
            Err(_) => Verdict::Leave,
        }
    }

    fn held(&mut self, now: Instant, epoch: Epoch, payload: &[u8], until: Instant, out: &mut Out<'_>) {
        if matches!(&self.stage, Stage::Open(open) if open.leads()) {
            if let Ok(membership) = Membership::parse(payload) {
                self.lead(now, primary::Event::Chosen(membership), out);
            }
            return self.lead(now, primary::Event::Leased { until }, out);
        }
        // The log may have failed, or been made anew, since it was decided to take the register.
        match self.may_lead(Some(payload)) {
            Ok(()) if self.taking.is_none() => {
                self.taking = Some(Taking { epoch, until });
                if let Stage::Open(Open { role: Role::Follows(secondary), .. }) = &mut self.stage {
                    secondary.promise(epoch);
                }
                let _ = self.keep(Change::Promise(epoch), out);
            }
            Ok(()) => {}
            Err(_) => out(Action::Release),
        }
    }

    /// Tells the primary, if there is one, and does what it asks for.
    fn lead(&mut self, now: Instant, event: primary::Event, out: &mut Out<'_>) {
        let applied = self.applied;
        let Stage::Open(Open { log, role: Role::Leads(primary, history), .. }) = &mut self.stage else {
            return;
        };
        let todo = primary.step(now, event);
        let (epoch, commit, oldest) = (primary.epoch(), primary.commit(), primary.oldest());
        log.step(writer::Event::CommitPoint(commit), &mut |_| {});
        for action in todo {
            led(action, epoch, (history, oldest), (commit, applied), out);
        }
    }

    /// Tells the secondary, if there is one, and does what it asks for.
    fn follow(&mut self, event: secondary::Event, out: &mut Out<'_>) {
        let Stage::Open(Open { log, role: Role::Follows(secondary), .. }) = &mut self.stage else { return };
        let todo = secondary.step(event);
        log.step(writer::Event::CommitPoint(secondary.commit()), &mut |_| {});
        for action in todo {
            self.follows(action, out);
        }
    }

    fn follows(&mut self, action: secondary::Action, out: &mut Out<'_>) {
        match action {
            secondary::Action::Adopt { epoch, from } => self.next(Next::Adopt { epoch, from }),
            secondary::Action::Ready { to, epoch, next } => {
                self.contradicted = None;
                out(Action::Say { to, word: Word::Ready { epoch, life: self.me().life, next } });
            }
            secondary::Action::Behind { to, epoch } => {
                out(Action::Say { to, word: Word::Behind { epoch, applied: self.applied } });
            }
            secondary::Action::Contradicted { by, epoch } => self.contradicted = Some((by, epoch)),
            secondary::Action::Outranked { to, promised } => {
                out(Action::Say { to, word: Word::Outranked { promised } });
            }
            secondary::Action::Have { to, epoch, durable } => {
                out(Action::Say { to, word: Word::Have { epoch, durable } });
            }
            secondary::Action::Apply(seq) => match self.settings.backing {
                Backing::Local => out(Action::Apply(seq)),
                // The primary does that.
                Backing::Shared => {}
            },
            // Only of what is fed, and done there.
            secondary::Action::Append { .. } => {}
        }
    }

    /// Tells the log; what becomes durable by it is told to the role.
    fn append(&mut self, now: Instant, event: writer::Event<'_>, out: &mut Out<'_>) {
        let Some(durable) = self.append_only(event, out) else { return };
        self.follow(secondary::Event::Durable(durable), out);
        self.lead(now, primary::Event::Durable(durable), out);
    }

    fn append_only(&mut self, event: writer::Event<'_>, out: &mut Out<'_>) -> Option<Seq> {
        let Stage::Open(Open { log, .. }) = &mut self.stage else { return None };
        let mut newly = None;
        log.step(event, &mut |action| match action {
            writer::Action::Commit { at, blocks, writes, header } => {
                out(Action::Commit { at, blocks, writes, header });
            }
            writer::Action::Durable(seq) => {
                newly = Some(seq);
                out(Action::Durable(seq));
            }
            // It was asked beforehand.
            writer::Action::Refused(_) => {}
        });
        newly
    }

    fn is_applied(&mut self, now: Instant, seq: Seq, out: &mut Out<'_>) {
        if let Stage::Open(open) = &self.stage {
            let seq = if is_planted(Bug::AppliedEarly) { open.commit() } else { seq };
            self.applied = self.applied.max(seq.min(open.commit()));
            self.lead(now, primary::Event::Applied(self.applied), out);
            self.unsettled(now);
            self.tell_applied(out);
        }
    }

    /// A primary says what it has applied to the store of all.
    fn is_shared_applied(&mut self, from: NodeId, applied: Seq) {
        if let Some(secondary::Mode::Following(one)) = self.secondary().map(Secondary::mode)
            && one.primary == from
            && self.settings.backing == Backing::Shared
        {
            self.shared = Some((one, applied));
        }
    }

    /// What the primary has applied and this log has need not be applied by this holder when it leads.
    fn share_applied(&mut self, now: Instant) {
        if let (Some((by, applied)), Some(secondary)) = (self.shared, self.secondary())
            && secondary.mode() == secondary::Mode::Following(by)
        {
            self.applied = self.applied.max(applied.min(secondary.commit()).min(secondary.durable()));
            self.unsettled(now);
        }
    }

    fn unsettled(&mut self, now: Instant) {
        if self.kept().applied < self.applied {
            self.settle_at = self.settle_at.or(Some(now.after(SETTLE_AFTER)));
        }
    }
}
