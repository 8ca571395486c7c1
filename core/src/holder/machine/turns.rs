//! What a holder does when nothing is in its way any more: opens its log, cuts it, leads, follows again, and
//! says in its superblock what is applied.

use super::{Holder, Mode, Out, SETTLE_WRITES, Stage, Taking};
use crate::bug::{Bug, is_planted};
use crate::holder::role::{Next, Open, Role};
use crate::holder::words::{Action, Backing, Word};
use crate::id::Epoch;
use crate::log::keeper::{self, Change};
use crate::log::marks::Marks;
use crate::log::ring::Position;
use crate::log::superblock::Uncut;
use crate::log::writer::{self, Log};
use crate::log::{End, Life, Seq};
use crate::mirror::history::History;
use crate::mirror::primary::{self, Primary};
use crate::mirror::secondary::{self, Secondary};
use crate::time::Instant;

impl Holder {
    pub(super) fn go_on(&mut self, now: Instant, out: &mut Out<'_>) {
        self.open(out);
        self.turn(now, out);
        self.share_applied(now);
        self.settle(now, out);
        self.check();
    }

    /// Opens a log whose run is durable.
    fn open(&mut self, out: &mut Out<'_>) {
        let kept = self.keeper.kept();
        let newest = kept.run.number;
        let (log, history, commit) = match &self.stage {
            Stage::Opening { run, end, marks, history } if *run <= newest => {
                let log = Log::new(kept, *end, marks.clone());
                (log, history.clone(), kept.applied.max(end.commit))
            }
            Stage::Remaking { run } if *run <= newest => {
                let (at, next) = (kept.tail.at, kept.tail.first);
                let end = End { at, next, chain: 0, epoch: Epoch(0), commit: next.before() };
                self.applied = kept.applied;
                out(Action::Remade);
                (Log::new(kept, end, Marks::new(kept.ring)), History::new(next), next.before())
            }
            Stage::Opening { .. }
            | Stage::Remaking { .. }
            | Stage::Damaged { .. }
            | Stage::Open(_)
            | Stage::Failed => return,
        };
        let role = Role::Follows(Secondary::new(kept.promised, history, commit));
        self.stage = Stage::Open(Open { log, role, next: None });
        if self.settings.backing == Backing::Local && self.applied < commit {
            out(Action::Apply(commit));
        }
    }

    /// Does what waited until nothing was on its way to the log.
    fn turn(&mut self, now: Instant, out: &mut Out<'_>) {
        let newest = self.kept().run.number;
        let Stage::Open(open) = &self.stage else { return };
        if !open.is_drained() {
            return;
        }
        let end = open.log.end();
        match open.next {
            Some(Next::Adopt { epoch, from }) => self.adopt(epoch, from, end, out),
            Some(Next::Adopting { run, from }) if run <= newest => self.adopted(from, end, out),
            Some(Next::Adopting { .. }) => {}
            Some(Next::Remake { first }) => self.remake(end.at, first, out),
            None => self.change_role(now, out),
        }
    }

    fn adopt(&mut self, epoch: Epoch, from: Seq, end: End, out: &mut Out<'_>) {
        let run = self.kept().run.number.saturating_add(1);
        match self.keep(Change::Begin { end, from, promise: epoch }, out) {
            Ok(()) => {
                if let Stage::Open(open) = &mut self.stage {
                    open.next = Some(Next::Adopting { run, from });
                }
            }
            // The primary that offered has all of it.
            Err(Uncut::TooMany) => self.remake(end.at, self.applied.next(), out),
            // The secondary agrees to no such cut. Whatever it is, nothing is to come of it.
            Err(Uncut::Counts(_)) => self.fail(out),
        }
    }

    fn adopted(&mut self, from: Seq, end: End, out: &mut Out<'_>) {
        let kept = self.keeper.kept();
        let Stage::Open(open) = &mut self.stage else { return };
        let Role::Follows(secondary) = &open.role else { return };
        let epoch = secondary.history().epoch().unwrap_or_default();
        let marks = open.log.marks().clone();
        open.log = Log::new(kept, End { next: from, epoch, ..end }, marks);
        open.next = None;
        if from < end.next {
            out(Action::Cut(from));
        }
        self.follow(secondary::Event::Adopted, out);
    }

    /// Leads when the register is held, and follows when it is lost.
    fn change_role(&mut self, now: Instant, out: &mut Out<'_>) {
        let promised = self.kept().promised;
        let Stage::Open(open) = &mut self.stage else { return };
        if let Role::Leads(primary, history) = &open.role
            && *primary.mode() == primary::Mode::Stopped
        {
            open.role = Role::Follows(Secondary::new(promised, history.clone(), primary.commit()));
        }
        if let (Role::Follows(_), Some(taking)) = (&open.role, self.taking)
            && (taking.epoch <= promised || is_planted(Bug::LeadsUnpromised))
        {
            self.begin_to_lead(now, taking, out);
        }
    }

    fn begin_to_lead(&mut self, now: Instant, taking: Taking, out: &mut Out<'_>) {
        let (me, oldest, applied) = (self.me(), self.kept().tail.first, self.applied);
        let (late, policy) = (self.settings.late, self.settings.policy);
        let Stage::Open(open) = &mut self.stage else { return };
        let Role::Follows(secondary) = &open.role else { return };
        let history = secondary.history().clone();
        let settings = primary::Settings { me, epoch: taking.epoch, late, policy };
        let log = primary::Log { oldest, newest: open.log.durable(), applied };
        let (primary, todo) = Primary::new(now, settings, log, taking.until);
        let commit = primary.commit();
        for action in todo {
            led(action, taking.epoch, (&history, oldest), (commit, applied), out);
        }
        open.role = Role::Leads(primary, history);
        self.taking = None;
        self.recovers = false;
        for node in self.met.clone() {
            self.lead(now, primary::Event::Met(node), out);
        }
    }

    /// Has the superblock say what is applied, and forget what is not needed for lack of room.
    fn settle(&mut self, now: Instant, out: &mut Out<'_>) {
        let Stage::Open(open) = &self.stage else { return };
        if self.keeper.mode() != keeper::Mode::Resting {
            return;
        }
        let (kept, applied, free) = (self.keeper.kept(), self.applied, open.log.free());
        let ring = kept.ring.blocks();
        // What others lack is kept for them while there is room.
        let upto = match &open.role {
            _role if is_planted(Bug::TrimmedUnapplied) => open.log.durable().next(),
            Role::Leads(primary, _) if ring / 8 <= free => applied.next().min(primary.unsent()),
            Role::Leads(..) | Role::Follows(_) => applied.next(),
        };
        let is_short = free < ring / 2;
        let is_newer = |tail: &crate::log::superblock::Tail| kept.tail.at < tail.at;
        let trim = open.log.marks().before(upto).filter(|tail| is_short && is_newer(tail));
        let is_far = SETTLE_WRITES <= applied.0.saturating_sub(kept.applied.0);
        let is_due = self.settle_at.is_some_and(|at| at <= now);
        if trim.is_some() || is_far || is_due {
            self.settle_at = None;
            let durable = open.log.durable();
            // Refused is only what cuts.
            let _ = self.keep(Change::Settle { durable, applied, trim }, out);
        }
    }

    pub(super) fn is_kept(&mut self, now: Instant, out: &mut Out<'_>) {
        self.keeper.step(keeper::Event::Written, &mut |action| kept(&action, out));
        let tail = self.kept().tail;
        self.append(now, writer::Event::Trimmed(tail), out);
        self.lead(now, primary::Event::Trimmed(tail.first), out);
    }

    pub(super) fn keep(&mut self, change: Change, out: &mut Out<'_>) -> Result<(), Uncut> {
        let mut refused = Ok(());
        self.keeper.step(keeper::Event::Want(change), &mut |action| match &action {
            keeper::Action::Refused(why) => refused = Err(*why),
            keeper::Action::Write { .. } | keeper::Action::Kept(_) => kept(&action, out),
        });
        refused
    }

    pub(super) fn fail(&mut self, out: &mut Out<'_>) {
        self.stage = Stage::Failed;
        self.taking = None;
        self.settle_at = None;
        out(Action::Release);
    }

    pub(super) fn remake(&mut self, at: Position, first: Seq, out: &mut Out<'_>) {
        let run = self.kept().run.number.saturating_add(1);
        let life = self.draw();
        self.stage = Stage::Remaking { run };
        if self.taking.take().is_some() {
            // The register was won with the log that is gone.
            out(Action::Release);
        }
        // Refused is only what cuts.
        let _ = self.keep(Change::Remake { life, at, first }, out);
    }

    /// The life of a log that is made anew.
    fn draw(&mut self) -> Life {
        loop {
            self.chance ^= self.chance << 13;
            self.chance ^= self.chance >> 7;
            self.chance ^= self.chance << 17;
            // The upper half.
            let life = Life(u32::try_from(self.chance >> 32).unwrap_or(1));
            if is_planted(Bug::LifeKept) {
                return self.me().life;
            }
            if life != Life(0) && life != self.me().life {
                return life;
            }
        }
    }

    /// Cheap facts that hold between any two events.
    fn check(&self) {
        if let Stage::Open(open) = &self.stage {
            let next = match &open.role {
                Role::Follows(secondary) => secondary.history().next(),
                Role::Leads(_, history) => history.next(),
            };
            let is_cut = matches!(open.next, Some(Next::Adopt { .. } | Next::Adopting { .. }));
            assert!(is_cut || next == open.log.next(), "the role and the log tell of different writes");
            assert!(self.applied < next, "more was applied than there is");
        }
        assert!(self.mode() != Mode::Leading || self.taking.is_none(), "it leads already");
    }
}

/// Does what a primary asks for.
pub(super) fn led(
    action: primary::Action,
    epoch: Epoch,
    (history, oldest): (&History, Seq),
    (commit, applied): (Seq, Seq),
    out: &mut Out<'_>,
) {
    match action {
        primary::Action::Offer { to } => {
            out(Action::Say { to, word: Word::Offer { epoch, history: history.clone(), oldest } });
        }
        primary::Action::Feed { to, first, last } => {
            // First: what is fed may be more than the other log has room for before it is applied.
            out(Action::Say { to, word: Word::Commit { epoch, seq: commit, applied } });
            out(Action::Feed { to, epoch, first, last });
        }
        primary::Action::Fill { to, since } => out(Action::Fill { to, since }),
        primary::Action::Commit { to, seq } => {
            out(Action::Say { to, word: Word::Commit { epoch, seq, applied } });
        }
        primary::Action::Propose(membership) => out(Action::Rewrite(membership.encode())),
        primary::Action::Apply(seq) => out(Action::Apply(seq)),
        primary::Action::Acknowledge(seq) => out(Action::Acknowledge(seq)),
        // Done where the write was taken in.
        primary::Action::Append(_) => {}
    }
}

/// Passes on what a keeper asks for.
fn kept(action: &keeper::Action<'_>, out: &mut Out<'_>) {
    match action {
        keeper::Action::Write { at, block } => out(Action::Keep { at: *at, block }),
        // Looked at afterwards.
        keeper::Action::Kept(_) | keeper::Action::Refused(_) => {}
    }
}
