//! The holder that acknowledges: numbers writes, feeds the others, and says when a write is safe (I2 to I4,
//! V1, V3, V4; S4-06 to S4-08, S4-12 to S4-14, X07).
//!
//! ```text
#![doc = include_str!("primary.edges.txt")]
//! ```

mod mode;
mod view;
mod words;

use heapless::Vec;

use super::membership::{HOLDERS_MAX, Holder, Membership, Policy};
use crate::actions::Actions;
use crate::bug::{Bug, is_planted};
use crate::id::NodeId;
use crate::log::Seq;
use crate::time::{Instant, earliest};

pub use mode::{EDGES, Mode};
pub use words::{Action, Event, Log, Settings};

/// Writes that a holder may lack when acknowledgements begin to wait for it.
pub const NEAR: u64 = 256;

/// Writes on their way to one holder at most.
pub const WINDOW: u64 = 1024;

/// For how many times [`Settings::late`] acknowledgements do not wait again for a holder that was late.
const GATE_PAUSE: u32 = 8;

/// Most actions of one step: for each other holder an offer or a feed, and a commit point; an append, a
/// proposal, an apply and an acknowledgement.
pub const ACTIONS_MAX: usize = 2 * HOLDERS_MAX + 4;

type Todo = Actions<Action, ACTIONS_MAX>;

/// The primary of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Primary {
    settings: Settings,
    mode: Mode,
    /// What the register says.
    chosen: Membership,
    lease: Instant,
    /// The first write that the log still has, and that can be read there.
    oldest: Seq,
    /// The newest write.
    newest: Seq,
    durable: Seq,
    applied: Seq,
    /// Every write up to this one is durable on all that must have it.
    commit: Seq,
    acknowledged: Seq,
    /// Those that there is a path to.
    others: Vec<Other, HOLDERS_MAX>,
}

/// Another holder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Other {
    node: NodeId,
    state: State,
    /// The commit point it was told.
    told: Seq,
    /// When it said something new, or came to owe something.
    moved: Instant,
    /// Acknowledgements do not wait for it before then, because they did so in vain.
    barred: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// There is no path to it.
    Away,
    /// It was offered to be fed. Offered again at `again`.
    Offered { again: Instant },
    /// It is filled with blocks.
    Filling,
    /// An operator took it out. Left by [`Event::Met`].
    Dismissed,
    /// It is fed.
    Fed {
        holder: Holder,
        /// The next write to send.
        next: Seq,
        durable: Seq,
    },
}

impl Primary {
    /// Leads with this log, until then. The register has this holder alone.
    pub fn new(now: Instant, settings: Settings, log: Log, until: Instant) -> (Self, Todo) {
        let Log { oldest, newest, applied } = log;
        let mut primary = Self {
            settings,
            mode: Mode::Steady,
            chosen: Membership::alone(settings.me),
            lease: until,
            oldest,
            newest,
            durable: newest,
            applied,
            commit: Seq(0),
            acknowledged: Seq(0),
            others: Vec::new(),
        };
        let todo = primary.step(now, Event::Timeout);
        (primary, todo)
    }

    /// When [`Event::Timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let own = match &self.mode {
            Mode::Gating { until, .. } => Some(*until),
            Mode::Steady => earliest(self.others.iter().map(|other| self.late_at(other))),
            Mode::Changing { .. } => None,
            Mode::Stopped => return None,
        };
        let others = self.others.iter().map(|other| match other.state {
            State::Offered { again } => Some(again),
            State::Away | State::Fed { .. } | State::Filling | State::Dismissed => other.barred,
        });
        earliest(others.chain([own]))
    }

    /// When a member that owes something is late.
    fn late_at(&self, other: &Other) -> Option<Instant> {
        let member = self.chosen.holders().iter().find(|one| one.node == other.node)?;
        let owes = self.commit < self.newest && self.has(*member).is_none_or(|has| has < self.newest);
        owes.then(|| other.moved.after(self.settings.late))
    }

    /// Takes one event and says what to do.
    pub fn step(&mut self, now: Instant, event: Event) -> Todo {
        let mut todo = Todo::none();
        match (&self.mode, event) {
            (Mode::Stopped, Event::Write | Event::Durable(_) | Event::Applied(_) | Event::Leased { .. })
            | (
                Mode::Stopped,
                Event::Trimmed(_) | Event::Lost | Event::Chosen(_) | Event::Met(_) | Event::Gone(_),
            )
            | (
                Mode::Stopped,
                Event::Dismiss(_) | Event::Ready { .. } | Event::Behind { .. } | Event::Have { .. },
            )
            | (Mode::Stopped, Event::Want(_) | Event::LogFailed | Event::Timeout) => return todo,
            (_, Event::Lost | Event::LogFailed) => {
                self.enter(Mode::Stopped);
                return todo;
            }
            (_, Event::Write) => {
                self.newest = self.newest.next();
                todo.push(Action::Append(self.newest));
                self.owe(now);
            }
            (_, Event::Durable(seq)) => self.durable = self.durable.max(seq.min(self.newest)),
            (_, Event::Applied(seq)) => self.applied = self.applied.max(seq.min(self.commit)),
            (_, Event::Trimmed(oldest)) => self.trimmed(now, oldest),
            (_, Event::Leased { until }) => self.lease = self.lease.max(until),
            (Mode::Changing { proposed }, Event::Chosen(membership)) if *proposed == membership => {
                self.chosen = membership;
                self.enter(Mode::Steady);
            }
            // What was proposed before, and is chosen late.
            (_, Event::Chosen(_)) => {}
            (_, Event::Met(node)) => self.meet(now, node),
            (_, Event::Gone(node)) => {
                if let Some(other) = self.other(node).filter(|other| other.state != State::Dismissed) {
                    other.state = State::Away;
                }
            }
            (_, Event::Dismiss(node)) => {
                if let Some(other) = self.other(node) {
                    other.state = State::Dismissed;
                }
            }
            (_, Event::Ready { from, epoch, next }) if epoch == self.settings.epoch => {
                self.ready(now, from, next);
            }
            (_, Event::Behind { from, epoch, applied }) if epoch == self.settings.epoch => {
                self.behind(from, applied, &mut todo);
            }
            (_, Event::Have { from, epoch, durable }) if epoch == self.settings.epoch => {
                self.have(now, from, durable);
            }
            // Answers to an offer of an earlier start.
            (_, Event::Ready { .. } | Event::Behind { .. } | Event::Have { .. }) => {}
            (_, Event::Want(policy)) => self.settings.policy = policy,
            (_, Event::Timeout) => {}
        }
        self.go_on(now, &mut todo);
        todo
    }

    /// Does what is due, whatever happened.
    fn go_on(&mut self, now: Instant, todo: &mut Todo) {
        self.change(now, todo);
        self.count(now, todo);
        self.feed(now, todo);
        self.check();
    }

    fn meet(&mut self, now: Instant, node: NodeId) {
        let state = State::Offered { again: now };
        let is_me = node == self.settings.me.node;
        match self.other(node) {
            Some(other) => other.state = state,
            None if is_me => {}
            None => {
                let other = Other { node, state, told: Seq(0), moved: now, barred: None };
                // One more than there are holders is none of the group's.
                let _ = self.others.push(other);
            }
        }
    }

    /// Who lacks what is gone is offered to be fed once more, and says that it is behind.
    fn trimmed(&mut self, now: Instant, oldest: Seq) {
        self.oldest = self.oldest.max(oldest);
        for other in &mut self.others {
            if matches!(other.state, State::Fed { next, .. } if next < self.oldest) {
                other.state = State::Offered { again: now };
            }
        }
    }

    fn ready(&mut self, now: Instant, holder: Holder, next: Seq) {
        let (oldest, newest) = (self.oldest, self.newest);
        let Some(other) = self.other(holder.node) else { return };
        let known = match other.state {
            // It answers an offer of before.
            State::Dismissed => return,
            State::Fed { durable, .. } => durable,
            State::Away | State::Offered { .. } | State::Filling => Seq(0),
        };
        // What it had beyond this log it has cut off; one that says otherwise is fed from this log's end.
        let next = next.min(newest.next());
        other.state = match oldest <= next {
            true => State::Fed { holder, next, durable: known.min(next.before()) },
            // The log was trimmed while the offer was on its way.
            false => State::Offered { again: now },
        };
        other.told = Seq(0);
    }

    fn behind(&mut self, from: NodeId, since: Seq, todo: &mut Todo) {
        let Some(other) = self.other(from) else { return };
        if !matches!(other.state, State::Filling | State::Dismissed) {
            other.state = State::Filling;
            todo.push(Action::Fill { to: from, since });
        }
    }

    fn have(&mut self, now: Instant, from: NodeId, upto: Seq) {
        let Some(other) = self.other(from) else { return };
        if let State::Fed { next, durable, .. } = &mut other.state
            && *durable < upto
        {
            // Nothing counts that was not sent.
            *durable = upto.min(next.before()).max(*durable);
            other.moved = now;
        }
    }

    fn other(&mut self, node: NodeId) -> Option<&mut Other> {
        self.others.iter_mut().find(|other| other.node == node)
    }

    /// Whoever owed nothing owes this write from now on.
    fn owe(&mut self, now: Instant) {
        let before = self.newest.before();
        let nothing = self.commit == before;
        for other in &mut self.others {
            let is_fed = matches!(other.state, State::Fed { durable, .. } if durable == before);
            if is_fed || nothing {
                other.moved = now;
            }
        }
    }

    /// What a holder has; `None` when it is not fed.
    fn has(&self, holder: Holder) -> Option<Seq> {
        if holder == self.settings.me {
            return Some(self.durable);
        }
        self.others.iter().find_map(|other| match other.state {
            State::Fed { holder: fed, durable, .. } if fed == holder => Some(durable),
            State::Away | State::Fed { .. } | State::Offered { .. } => None,
            State::Filling | State::Dismissed => None,
        })
    }

    /// Whether a holder owes something for too long, or is not to be in sync.
    fn is_late(&self, now: Instant, holder: Holder) -> bool {
        let other = self.others.iter().find(|other| other.node == holder.node);
        if other.is_some_and(|other| other.state == State::Dismissed) {
            return true;
        }
        let owes = self.commit < self.newest && self.has(holder).is_none_or(|durable| durable < self.newest);
        let is_due = other.is_none_or(|other| other.moved.after(self.settings.late) <= now);
        holder != self.settings.me && owes && is_due
    }

    /// Has the register say who is in sync, one change at a time.
    fn change(&mut self, now: Instant, todo: &mut Todo) {
        for other in &mut self.others {
            other.barred = other.barred.filter(|until| now < *until);
        }
        match self.mode {
            Mode::Steady => {
                if let Some(late) = self.chosen.holders().iter().find(|one| self.is_late(now, **one)) {
                    let next = self.chosen.without(late.node).under(Policy::Through);
                    self.propose(next, todo);
                } else if let Some(holder) = self.near(now) {
                    let until = now.after(self.settings.late);
                    self.enter(Mode::Gating { holder, until });
                    self.change(now, todo);
                } else {
                    let next = self.chosen.under(self.settings.policy);
                    if next != self.chosen {
                        self.propose(next, todo);
                    }
                }
            }
            Mode::Gating { holder, until } => match self.has(holder) {
                // It has whatever may have been acknowledged, and nothing more is without it.
                Some(durable) if self.commit <= durable => {
                    let next = self.chosen.with(holder).under(self.settings.policy);
                    self.propose(next, todo);
                }
                Some(_) if now < until => {}
                Some(_) | None => {
                    let pause = self.settings.late.saturating_mul(GATE_PAUSE);
                    if let Some(other) = self.other(holder.node) {
                        other.barred = Some(now.after(pause));
                    }
                    self.enter(Mode::Steady);
                    // It is barred now, so that this ends.
                    self.change(now, todo);
                }
            },
            Mode::Changing { .. } | Mode::Stopped => {}
        }
    }

    fn propose(&mut self, proposed: Membership, todo: &mut Todo) {
        if is_planted(Bug::LeavesUnrecorded) && proposed.holders().len() < self.chosen.holders().len() {
            self.chosen = proposed;
            return;
        }
        todo.push(Action::Propose(proposed.clone()));
        self.enter(Mode::Changing { proposed });
    }

    /// A holder that is not in sync, lacks only the last writes, and is not late with them.
    fn near(&self, now: Instant) -> Option<Holder> {
        let has_room = self.chosen.holders().len() < HOLDERS_MAX;
        let is_near = |other: &Other| match other.state {
            State::Fed { holder, durable, .. } => {
                let lacks_little = self.newest <= durable.after(NEAR) && !self.is_late(now, holder);
                // Nor a member's node with another log: the member is to leave first.
                let is_new = self.chosen.holders().iter().all(|one| one.node != holder.node);
                Some(holder).filter(|_| lacks_little && is_new)
            }
            State::Away | State::Offered { .. } | State::Filling | State::Dismissed => None,
        };
        self.others.iter().filter(|other| has_room && other.barred.is_none()).find_map(is_near)
    }

    /// Those without whom nothing is acknowledged.
    fn required(&self) -> impl Iterator<Item = Holder> + '_ {
        let coming = match &self.mode {
            Mode::Gating { holder, .. } => core::slice::from_ref(holder),
            Mode::Changing { proposed } => proposed.holders(),
            Mode::Steady | Mode::Stopped => &[],
        };
        self.chosen.holders().iter().chain(coming).copied()
    }

    /// Moves the commit point, and acknowledges what is safe.
    fn count(&mut self, now: Instant, todo: &mut Todo) {
        let all = self.required().map(|holder| self.has(holder).unwrap_or_default()).min();
        let alone = is_planted(Bug::MirrorNotAwaited).then_some(self.durable);
        let commit = alone.or(all).unwrap_or_default();
        if self.commit < commit {
            self.commit = commit;
            todo.push(Action::Apply(commit));
        }
        let is_through = match &self.mode {
            Mode::Changing { proposed } => proposed.policy() == Policy::Through,
            Mode::Steady | Mode::Gating { .. } | Mode::Stopped => false,
        };
        let safe = match is_through || self.chosen.policy() == Policy::Through {
            true if is_planted(Bug::ThroughIgnored) => self.commit,
            true => self.commit.min(self.applied),
            false => self.commit,
        };
        // The last thing before the effect: whoever slept finds the lease over (F19).
        if self.acknowledged < safe && (now < self.lease || is_planted(Bug::AcknowledgedLate)) {
            self.acknowledged = safe;
            todo.push(Action::Acknowledge(safe));
        }
    }

    /// Sends what the others lack.
    fn feed(&mut self, now: Instant, todo: &mut Todo) {
        let Self { others, newest, commit, settings, .. } = self;
        for other in others {
            let to = other.node;
            match &mut other.state {
                State::Offered { again } if *again <= now => {
                    *again = now.after(settings.late);
                    todo.push(Action::Offer { to });
                }
                State::Fed { next, durable, .. } => {
                    let last = (*newest).min(durable.after(WINDOW));
                    let is_told = other.told == *commit;
                    other.told = *commit;
                    if *next <= last {
                        let first = core::mem::replace(next, last.next());
                        if is_planted(Bug::SentIsDurable) {
                            *durable = last;
                        }
                        todo.push(Action::Feed { to, first, last });
                    } else if !is_told {
                        todo.push(Action::Commit { to, seq: *commit });
                    }
                }
                State::Away | State::Offered { .. } | State::Filling | State::Dismissed => {}
            }
        }
    }

    /// Cheap facts that hold between any two events.
    fn check(&self) {
        assert!(self.commit <= self.durable, "a write counts that is not durable here");
        assert!(self.acknowledged <= self.commit, "a write was acknowledged that not all have");
    }

    /// The only place where the mode changes from one variant to another.
    fn enter(&mut self, next: Mode) {
        let edge = (self.mode.name(), next.name());
        assert!(EDGES.contains(&edge), "no such edge: {} -> {}", edge.0, edge.1);
        self.mode = next;
    }
}

#[cfg(test)]
#[path = "primary_tests.rs"]
mod tests;
