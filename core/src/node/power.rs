//! Fencing through a witness, on both ends: at the witness, pleas meet what its voter and its links know; at
//! a node, the wish to fence becomes a plea, and its answer the news that a start of a node is over (V20).

use core::time::Duration;

use super::machine::{Inner, Node, Out, Work, push};
use super::message::{Office, Said};
use super::settings::Settings;
use super::words::{Action, Note};
use crate::actions::Actions;
use crate::budget::timers::Timers;
use crate::bug::{Bug, is_planted};
use crate::fence::desk::{self, Desk, Done, OrderId};
use crate::fence::pleas::{self, Pleas};
use crate::fence::right::{Facts, Limits, judge};
use crate::fence::strip::line::ORDER_MAX;
use crate::fence::words::{FenceId, Outcome, Plea, Reply, Want};
use crate::id::NodeId;
use crate::link::suspicion::Verdict;
use crate::monitor::pair;
use crate::register::message::{Fenced, Leased, Start};
use crate::register::seat;
use crate::time::{Instant, earliest};

/// A node that was cut stays off for at least this long: what ATX supplies need to lose their charge.
const OFF_MIN: Duration = Duration::from_secs(5);

const _: () = assert!(
    ORDER_MAX.as_millis() < Timers::TIGHT.fence.as_millis(),
    "an order to a power strip would be overdue while it waits for the line"
);

/// A node's part in fencing through witnesses.
#[derive(Clone, Debug)]
pub struct Power {
    /// None where no relay is held.
    desk: Option<Desk>,
    pleas: Pleas,
    /// How many pleas were made in this start.
    made: u64,
}

impl Power {
    pub(super) fn new(settings: &Settings) -> Self {
        let timers = &settings.timers;
        // Switching and reading back may each take that long.
        let patience = timers.fence.saturating_mul(2);
        let pleas = Pleas::new(pleas::Settings { repeat: timers.heartbeat, patience });
        let mut power = Self { desk: None, pleas, made: 0 };
        power.change(settings);
        power
    }

    /// This node is told of its site anew. A desk whose last relay goes keeps its records, and refuses.
    pub(super) fn change(&mut self, settings: &Settings) {
        if self.desk.is_none() && settings.relays.iter().any(|relay| relay.witness == settings.me) {
            let desk = desk::Settings { step_max: settings.timers.fence, off_min: OFF_MIN };
            self.desk = Some(Desk::new(desk));
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        earliest([self.desk.as_ref().and_then(Desk::deadline), self.pleas.deadline()])
    }
}

impl<
    const PEERS: usize,
    const PLACES: usize,
    const ANSWERS: usize,
    const POSTS: usize,
    const WORK: usize,
    const ROOM: usize,
    const SHOWN: usize,
> Node<PEERS, PLACES, ANSWERS, POSTS, WORK, ROOM, SHOWN>
{
    /// The witness's part of fencing; `None` where no relay is held.
    pub const fn desk(&self) -> Option<&Desk> {
        self.power.desk.as_ref()
    }

    /// The office that this node holds, and by which it may have `node` cut or switched on; `None`: it may
    /// not.
    pub fn may_fence(&self, now: Instant, node: NodeId) -> Option<Office> {
        let holds = |office: &Office| {
            let post = self.post(*office).filter(|post| post.seat().holds(now).is_some());
            post.is_some_and(|post| self.settings.is_candidate(node, post.register()))
        };
        Office::ALL.into_iter().find(|office| node != self.settings.me && holds(office))
    }

    /// The start of `node` that a fence would end: the one whose lease is waited for, else the one spoken
    /// with.
    pub fn start_to_fence(&self, node: NodeId) -> Option<Start> {
        let waited = |office| self.waits_for(office).filter(|lease| lease.holder == node)?.start;
        Office::ALL.into_iter().find_map(waited).or_else(|| self.start_of(node))
    }

    /// The lease that this node waits for.
    fn waits_for(&self, office: Office) -> Option<Leased> {
        let seat = self.post(office)?.seat();
        if let seat::Mode::Pausing { wait: seat::Wait::Lease(lease), .. } = seat.mode() {
            return Some(*lease);
        }
        None
    }

    /// The rule of an office wants a start of a node to be over.
    pub(super) fn fence(
        &mut self,
        now: Instant,
        office: Office,
        fenced: Fenced,
        work: &mut Work<WORK>,
        out: Out<'_>,
    ) {
        match self.settings.relay_of(fenced.node) {
            Some(witness) => {
                let what = (fenced.node, Some(fenced.start), Want::Off);
                self.plead(now, witness, office, what, work, out);
            }
            None => out(Action::Fence(fenced)),
        }
    }

    /// A silent node is to be switched on (S1-20).
    pub(super) fn power_on(&mut self, now: Instant, node: NodeId, work: &mut Work<WORK>, out: Out<'_>) {
        match (self.settings.relay_of(node), self.may_fence(now, node)) {
            (Some(to), Some(office)) => self.plead(now, to, office, (node, None, Want::On), work, out),
            // Its lease ends at this moment: another will do it.
            (Some(_), None) => {}
            (None, _) => out(Action::PowerOn { node }),
        }
    }

    /// The operator wants something of a node's power. To look needs no right; for the rest, this node must
    /// hold a register now: a witness that does not decide believes it that (`fence::right`).
    pub(super) fn want_power(
        &mut self,
        now: Instant,
        node: NodeId,
        want: Want,
        work: &mut Work<WORK>,
        out: Out<'_>,
    ) {
        let Some(witness) = self.settings.relay_of(node) else { return };
        let right = self.may_fence(now, node);
        let Some(office) = right.or((want == Want::Look).then_some(Office::Infra)) else { return };
        // Of a node that is not heard, whichever start runs is meant, not the one that was spoken with last.
        let is_current = want == Want::Off && self.links.verdict(node).is_alive();
        let start = self.start_of(node).filter(|_| is_current);
        self.plead(now, witness, office, (node, start, want), work, out);
    }

    fn plead(
        &mut self,
        now: Instant,
        to: NodeId,
        office: Office,
        (node, start, want): (NodeId, Option<Start>, Want),
        work: &mut Work<WORK>,
        out: Out<'_>,
    ) {
        let Some(post) = self.post(office) else { return };
        // A voter may have named a newer one with its refusal.
        let leased = self.waits_for(office).map(|lease| lease.epoch).unwrap_or_default();
        let (epoch, register) = (leased.max(post.epoch()), post.register());
        self.power.made = self.power.made.wrapping_add(1);
        let Start(base) = self.settings.start();
        let id = FenceId(base.wrapping_add(self.power.made));
        let plea = Plea { id, node, start, register, epoch, want };
        out(Action::Note(Note::Plea { witness: to, plea, ended: None }));
        let todo = self.power.pleas.step(now, pleas::Event::Plead { to, plea });
        self.pleas_todo(todo, work, out);
    }

    #[inline(never)]
    pub(super) fn plea_answered(
        &mut self,
        now: Instant,
        from: NodeId,
        reply: Reply,
        work: &mut Work<WORK>,
        out: Out<'_>,
    ) {
        if POSTS == 0 {
            return;
        }
        let todo = self.power.pleas.step(now, pleas::Event::Answered { from, reply });
        self.pleas_todo(todo, work, out);
    }

    fn pleas_todo(
        &mut self,
        todo: impl IntoIterator<Item = pleas::Action>,
        work: &mut Work<WORK>,
        out: Out<'_>,
    ) {
        for action in todo {
            match action {
                pleas::Action::Send { to, plea } => self.send(to, &Said::Plea(plea), out),
                pleas::Action::Ended { plea, outcome } => {
                    let witness = self.settings.relay_of(plea.node).unwrap_or(plea.node);
                    out(Action::Note(Note::Plea { witness, plea, ended: Some(outcome) }));
                    if let Some(start) = plea.start.filter(|_| plea.want == Want::Off) {
                        let confirmed = outcome == Some(Outcome::Off);
                        fence_answered(Fenced { node: plea.node, start }, confirmed, work);
                    }
                }
            }
        }
    }

    /// A plea came to this witness.
    #[inline(never)]
    pub(super) fn pleaded(&mut self, now: Instant, from: NodeId, plea: Plea, out: Out<'_>) {
        let facts = self.facts(now, from, &plea);
        let limits = Limits { silence: self.settings.timers.silence, lease: self.settings.timers.lease };
        let right = judge(from, &plea, &facts, &limits);
        let Some(desk) = &mut self.power.desk else { return };
        let todo = desk.step(now, desk::Event::Asked { from, plea, right });
        self.desk_todo(&todo, out);
    }

    /// Whether nothing was heard of `node` since a holder should have said the next thing: whoever misses
    /// renewals for a silence may have said one thing more after the last one. By its links alone, a witness
    /// takes a node for silent later than that, for it hears of it calmly.
    fn is_silent(&self, now: Instant, node: NodeId) -> bool {
        let Timers { silence, renew, .. } = self.settings.timers;
        let unheard = self.links.unheard(now, node);
        self.links.verdict(node) == Verdict::Silent
            || unheard.is_some_and(|unheard| silence.saturating_sub(renew) <= unheard)
    }

    fn facts(&self, now: Instant, from: NodeId, plea: &Plea) -> Facts {
        let (settings, register) = (&self.settings, plea.register);
        let record = self.voter.as_ref().and_then(|voter| voter.accepted(register));
        let decides = |record: &crate::register::record::Record| {
            record.voters.current.iter().any(|voter| voter.node == settings.me)
        };
        Facts {
            has_relay: settings.relay_of(plea.node) == Some(settings.me),
            concerns_both: [from, plea.node].into_iter().all(|one| settings.is_candidate(one, register)),
            decides: record.as_ref().is_some_and(decides),
            epoch: record.as_ref().map(|record| record.epoch).unwrap_or_default(),
            holder: record.as_ref().and_then(|record| record.holder),
            lease: self.voter.as_ref().and_then(|voter| voter.lease(now, register)),
            is_silent: self.is_silent(now, plea.node),
            start: self.start_of(plea.node),
        }
    }

    #[inline(never)]
    pub(super) fn power_done(&mut self, now: Instant, order: OrderId, done: Done, out: Out<'_>) {
        let Some(desk) = &mut self.power.desk else { return };
        let todo = desk.step(now, desk::Event::PowerDone { order, done });
        self.desk_todo(&todo, out);
    }

    #[inline(never)]
    fn desk_todo(&mut self, todo: &Actions<desk::Action, { desk::ACTIONS_MAX }>, out: Out<'_>) {
        // By reference: there is room for many, and a move is a copy.
        for action in todo.iter().copied() {
            match action {
                desk::Action::Power { order, node, act } => out(Action::Power { order, node, act }),
                desk::Action::Answer { to, reply } => self.send(to, &Said::PleaAnswered(reply), out),
                desk::Action::Record(entry) => out(Action::Record(entry)),
            }
        }
    }

    #[inline(never)]
    pub(super) fn power_timeout(&mut self, now: Instant, work: &mut Work<WORK>, out: Out<'_>) {
        // Whoever has no office never pleads.
        if POSTS != 0 && self.power.pleas.deadline().is_some_and(|at| at <= now) {
            let todo = self.power.pleas.step(now, pleas::Event::Timeout);
            self.pleas_todo(todo, work, out);
        }
        let desk = self.power.desk.as_mut().filter(|desk| desk.deadline().is_some_and(|at| at <= now));
        if let Some(desk) = desk {
            let todo = desk.step(now, desk::Event::Timeout);
            self.desk_todo(&todo, out);
        }
    }
}

/// A device or a witness answered about a start of a node.
pub(super) fn fence_answered<const WORK: usize>(fenced: Fenced, confirmed: bool, work: &mut Work<WORK>) {
    push(work, Inner::Pair(Office::Infra, pair::Event::FenceAnswered { fenced, confirmed }));
    if confirmed || is_planted(Bug::FenceUnconfirmed) {
        for office in Office::ALL {
            push(work, Inner::Seat(office, seat::Event::Fenced(fenced)));
        }
    }
}
