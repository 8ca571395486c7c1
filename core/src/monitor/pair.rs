//! The pair rule: instances in two compartments watch each other; one is master, the other slave
//! (S1-17..S1-20).
//!
//! Being master means holding the pair's register: this machine only says when to ask for it. So a wrong
//! guess about who is alive costs a question, never a second master (REQUIREMENTS, decision 3). A lone
//! master has the missing peer started. The same rule serves infra and admin instances and, without
//! activation, finds the designated controller among all nodes (S2-03).
//!
//! ```text
#![doc = include_str!("pair.edges.txt")]
//! ```

mod words;

use core::time::Duration;

use heapless::Vec;

use crate::actions::Actions;
use crate::bug::{Bug, is_planted};
use crate::id::{Epoch, NodeId, Side};
use crate::register::message::{Fenced, Leased};
use crate::register::seat::Why;
use crate::time::{Instant, earliest};

pub use words::{Action, CANDIDATES_MAX, Candidate, Event, Heir, Reason, Role, Saying, Settings};

/// The machine's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The instance does not run. Exit: the control domain starts it.
    Stopped,
    /// It listens for a master. Exit: one is heard, or the time is up.
    Starting {
        /// When to ask for the register.
        until: Instant,
    },
    /// It follows. Exit: the master is silent or resigns.
    Slave {
        /// Whom.
        master: NodeId,
    },
    /// It asks for the register, from its turn on. Exit: it is won, or a master is heard.
    Contending {
        /// Its turn.
        from: Instant,
        /// Whether it is asked for already.
        asking: bool,
    },
    /// It holds the register. Exit: the register is lost.
    Master {
        /// Under which epoch.
        epoch: Epoch,
    },
}

/// Most actions of one step.
pub const ACTIONS_MAX: usize = 6;

type Todo = Actions<Action, ACTIONS_MAX>;

/// One instance's part of the rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    settings: Settings,
    mode: Mode,
    reason: Reason,
    /// What is known of the candidates, in their order.
    others: Vec<Other, CANDIDATES_MAX>,
    activate_at: Option<Instant>,
    /// The fence under way, and until when its answer counts as missing.
    fencing: Option<(Fenced, Instant)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Other {
    alive: bool,
    saying: Option<Saying>,
}

impl Pair {
    /// An instance that does not run yet.
    pub fn new(settings: Settings) -> Self {
        let others = settings.candidates.iter().map(|_| Other::default()).collect();
        let (mode, reason) = (Mode::Stopped, Reason::Stopped);
        Self { settings, mode, reason, others, activate_at: None, fencing: None }
    }

    /// These may take the role from now on. What is known of those who stay is kept.
    pub fn set_candidates(&mut self, candidates: Vec<Candidate, CANDIDATES_MAX>) {
        let known = |one: &Candidate| self.other(one.node).copied().unwrap_or_default();
        self.others = candidates.iter().map(known).collect();
        self.settings.candidates = candidates;
    }

    /// The current mode.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The current role.
    pub const fn role(&self) -> Role {
        self.mode.role()
    }

    /// Why the current role was taken.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The master, as far as is known.
    pub fn master(&self) -> Option<NodeId> {
        match self.mode {
            Mode::Master { .. } => Some(self.settings.me),
            Mode::Slave { master } => Some(master),
            Mode::Stopped | Mode::Starting { .. } | Mode::Contending { .. } => {
                self.heard_master().map(|(n, _)| n)
            }
        }
    }

    /// What `node` last said, while it can be heard.
    pub fn said(&self, node: NodeId) -> Option<Saying> {
        self.other(node).filter(|other| other.alive).and_then(|other| other.saying)
    }

    /// When [`Event::Timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let own = match self.mode {
            Mode::Starting { until } => Some(until),
            Mode::Contending { from, asking: false } => Some(from),
            Mode::Contending { asking: true, .. } => self.fencing.map(|(_, until)| until),
            Mode::Stopped | Mode::Slave { .. } | Mode::Master { .. } => None,
        };
        earliest([own, self.activate_at])
    }

    /// Takes one event and says what to do.
    pub fn step(&mut self, now: Instant, event: Event) -> Todo {
        let mut todo = Todo::none();
        match event {
            Event::Started if self.mode == Mode::Stopped => {
                let until = now.after(self.settings.listen);
                self.enter(Mode::Starting { until }, Reason::Started, &mut todo);
            }
            Event::Stopped if self.mode != Mode::Stopped => {
                todo.push(Action::Follow);
                self.enter(Mode::Stopped, Reason::Stopped, &mut todo);
            }
            Event::Started | Event::Stopped => {}
            Event::Heard { node, alive } => self.note(node, |other| other.alive = alive),
            Event::Said { node, saying } => self.note(node, |other| other.saying = Some(saying)),
            Event::Held(epoch) => self.held(epoch, &mut todo),
            Event::Lost(why) => self.lost(now, why, &mut todo),
            Event::Leased(lease) => self.leased(now, lease, &mut todo),
            Event::FenceAnswered { fenced, confirmed } => self.fence_answered(fenced, confirmed),
            Event::Yield => self.give_way(now, &mut todo),
            Event::Promoted { by } => self.promoted(now, by, &mut todo),
            Event::Timeout => self.timeout(now, &mut todo),
        }
        self.look(now, &mut todo);
        todo
    }

    fn give_way(&mut self, now: Instant, todo: &mut Todo) {
        if matches!(self.mode, Mode::Master { .. }) {
            todo.push(Action::Follow);
            // Should the other fail to take it, this one asks again.
            let from = now.after(self.settings.leave);
            self.enter(Mode::Contending { from, asking: false }, Reason::Released, todo);
        }
    }

    fn promoted(&mut self, now: Instant, by: NodeId, todo: &mut Todo) {
        self.note(by, |other| other.saying = None);
        match self.mode {
            Mode::Slave { .. } | Mode::Starting { .. } => {
                self.enter(Mode::Contending { from: now, asking: true }, Reason::Moved { by }, todo);
                todo.push(Action::Hold);
            }
            Mode::Stopped | Mode::Contending { .. } | Mode::Master { .. } => {}
        }
    }

    fn timeout(&mut self, now: Instant, todo: &mut Todo) {
        if self.fencing.is_some_and(|(_, until)| until <= now) {
            self.fencing = None;
        }
        match self.mode {
            Mode::Starting { until } if until <= now => {
                self.contend(now, Reason::NoMasterHeard, todo);
            }
            Mode::Contending { from, asking: false } if from <= now => {
                self.mode = Mode::Contending { from, asking: true };
                todo.push(Action::Hold);
            }
            Mode::Starting { .. }
            | Mode::Contending { .. }
            | Mode::Stopped
            | Mode::Slave { .. }
            | Mode::Master { .. } => {}
        }
    }

    /// What follows from what is known by now.
    fn look(&mut self, now: Instant, todo: &mut Todo) {
        let heard = self.heard_master();
        match (self.mode, heard) {
            (Mode::Starting { .. }, Some((master, _))) => self.follow(master, todo),
            // Whoever has not even asked yet follows. Who asks is told by the voters.
            (Mode::Contending { .. }, Some((master, _))) if !is_planted(Bug::NeverSlave) => {
                todo.push(Action::Follow);
                self.follow(master, todo);
            }
            (Mode::Slave { master: old }, Some((master, _))) if old != master => {
                self.mode = Mode::Slave { master };
                self.reason = Reason::MasterHeard { master };
                todo.push(Action::Role { role: Role::Slave, reason: self.reason });
            }
            (Mode::Slave { master }, None) => {
                let alive = self.other(master).is_some_and(|other| other.alive);
                let reason = match alive {
                    true => Reason::MasterResigned { master },
                    false => Reason::MasterSilent { master },
                };
                self.contend(now, reason, todo);
            }
            (Mode::Master { .. }, _) => self.activate(now, todo),
            (Mode::Stopped | Mode::Starting { .. } | Mode::Contending { .. } | Mode::Slave { .. }, _) => {}
        }
        if !matches!(self.mode, Mode::Master { .. }) {
            self.activate_at = None;
        }
    }

    fn follow(&mut self, master: NodeId, todo: &mut Todo) {
        self.enter(Mode::Slave { master }, Reason::MasterHeard { master }, todo);
    }

    /// Asks for the register, in turn: first those of the [`Heir`]'s compartment, each in its order.
    fn contend(&mut self, now: Instant, reason: Reason, todo: &mut Todo) {
        let ahead = u32::try_from(self.ahead(reason)).unwrap_or(u32::MAX);
        let from = now.after(self.settings.stagger.saturating_mul(ahead));
        let asking = ahead == 0;
        self.enter(Mode::Contending { from, asking }, reason, todo);
        if asking {
            todo.push(Action::Hold);
        }
    }

    /// How many candidates that are alive are to ask before this one.
    fn ahead(&self, reason: Reason) -> usize {
        let gone = match reason {
            Reason::MasterSilent { master } | Reason::MasterResigned { master } => Some(master),
            Reason::Started
            | Reason::Stopped
            | Reason::MasterHeard { .. }
            | Reason::NoMasterHeard
            | Reason::RegisterWon { .. }
            | Reason::LeaseExpired
            | Reason::Released
            | Reason::Moved { .. }
            | Reason::Outranked => None,
        };
        let side = |node| self.settings.candidates.iter().find(|one| one.node == node).map(|one| one.side);
        let lost = gone.and_then(side);
        let is_later = |candidate: &Candidate| match self.settings.heir {
            Heir::Across => Some(candidate.side) == lost,
            Heir::Near => lost.is_some_and(|lost| candidate.side != lost),
        };
        let order = |candidate: &Candidate| (Some(candidate.node) == gone, is_later(candidate));
        let all = self.settings.candidates.iter().enumerate();
        let Some((my_place, mine)) = all.clone().find(|(_, one)| one.node == self.settings.me) else {
            return 0;
        };
        all.filter(|(_, one)| self.runs(one.node))
            .filter(|(place, one)| (order(one), *place) < (order(mine), my_place))
            .count()
    }

    fn runs(&self, node: NodeId) -> bool {
        let saying = self.said(node);
        saying.is_some_and(|saying| saying.role != Role::Stopped)
    }

    fn held(&mut self, epoch: Epoch, todo: &mut Todo) {
        match self.mode {
            Mode::Contending { .. } => {
                self.fencing = None;
                self.enter(Mode::Master { epoch }, Reason::RegisterWon { epoch }, todo);
            }
            // The record changed while it is held: another epoch, the same role.
            Mode::Master { .. } => self.mode = Mode::Master { epoch },
            // Won by a question that was under way when it was no longer wanted.
            Mode::Stopped | Mode::Starting { .. } | Mode::Slave { .. } => todo.push(Action::Follow),
        }
    }

    fn lost(&mut self, now: Instant, why: Why, todo: &mut Todo) {
        let reason = match why {
            Why::Released => Reason::Released,
            Why::Expired => Reason::LeaseExpired,
            Why::Outranked => Reason::Outranked,
        };
        match self.mode {
            Mode::Master { .. } if is_planted(Bug::LossIgnored) => {}
            Mode::Master { .. } => self.contend(now, reason, todo),
            Mode::Stopped | Mode::Starting { .. } | Mode::Slave { .. } | Mode::Contending { .. } => {}
        }
    }

    /// Somebody else has a lease. It is waited out, or its holder is fenced: only when it is silent here, and
    /// has not renewed at the voters for a silence either. A master that only this side cannot hear lives.
    fn leased(&mut self, now: Instant, lease: Leased, todo: &mut Todo) {
        let Some(wait) = self.settings.fence else { return };
        let is_silent = self.other(lease.holder).is_some_and(|other| !other.alive);
        let is_stale = lease.left.duration().saturating_add(self.settings.silence) <= self.settings.lease;
        let asking = matches!(self.mode, Mode::Contending { asking: true, .. });
        if let Some(start) = lease.start.filter(|_| asking && is_silent && is_stale) {
            self.fence(now, Fenced { node: lease.holder, start }, wait, todo);
        }
    }

    fn fence(&mut self, now: Instant, fenced: Fenced, wait: Duration, todo: &mut Todo) {
        // One request for one start of a node; a new one only when the answer is overdue (V21).
        if self.fencing.is_none_or(|(under_way, _)| under_way != fenced) {
            self.fencing = Some((fenced, now.after(wait)));
            todo.push(Action::Fence(fenced));
        }
    }

    fn fence_answered(&mut self, fenced: Fenced, confirmed: bool) {
        if confirmed
            && let Some((under_way, _)) = self.fencing
            && under_way == fenced
        {
            self.fencing = None;
        }
    }

    /// A master whose peer compartment has no running instance has one started (S1-20).
    fn activate(&mut self, now: Instant, todo: &mut Todo) {
        let Some(every) = self.settings.activate else { return };
        match (self.runs_across(), self.activate_at) {
            (true, _) => self.activate_at = None,
            (false, None) => self.activate_at = Some(now.after(every)),
            (false, Some(at)) if at <= now => {
                self.activate_at = Some(now.after(every));
                if let Some(node) = self.first_across() {
                    todo.push(Action::Activate { node });
                }
            }
            (false, Some(_)) => {}
        }
    }

    fn across(&self) -> impl Iterator<Item = NodeId> + '_ {
        let mine = self.side_of(self.settings.me);
        let across = self.settings.candidates.iter().filter(move |one| Some(one.side) != mine);
        across.map(|one| one.node)
    }

    fn runs_across(&self) -> bool {
        self.across().any(|node| self.runs(node))
    }

    /// The first one whose control domain answers; else the first of all, whose power may be off.
    fn first_across(&self) -> Option<NodeId> {
        let is_alive = |node: &NodeId| self.other(*node).is_some_and(|other| other.alive);
        self.across().find(is_alive).or_else(|| self.across().next())
    }

    fn side_of(&self, node: NodeId) -> Option<Side> {
        self.settings.candidates.iter().find(|one| one.node == node).map(|one| one.side)
    }

    /// Whoever is alive and says to be master, the newest epoch first.
    fn heard_master(&self) -> Option<(NodeId, Epoch)> {
        let masters = self.settings.candidates.iter().zip(&self.others).filter_map(|(candidate, other)| {
            let saying = other.saying.filter(|saying| other.alive && saying.role == Role::Master)?;
            Some((candidate.node, saying.epoch))
        });
        masters.filter(|(node, _)| *node != self.settings.me).max_by_key(|(_, epoch)| *epoch)
    }

    fn other(&self, node: NodeId) -> Option<&Other> {
        let place = self.settings.candidates.iter().position(|one| one.node == node)?;
        self.others.get(place)
    }

    fn note(&mut self, node: NodeId, change: impl FnOnce(&mut Other)) {
        let place = self.settings.candidates.iter().position(|one| one.node == node);
        if let Some(other) = place.and_then(|place| self.others.get_mut(place)) {
            change(other);
        }
    }

    /// The only place where the mode changes from one variant to another.
    fn enter(&mut self, next: Mode, reason: Reason, todo: &mut Todo) {
        let edge = (self.mode.name(), next.name());
        assert!(EDGES.contains(&edge), "no such edge: {} -> {}", edge.0, edge.1);
        self.mode = next;
        self.reason = reason;
        todo.push(Action::Role { role: next.role(), reason });
    }
}

impl Mode {
    /// The role this mode is.
    pub const fn role(self) -> Role {
        match self {
            Self::Stopped => Role::Stopped,
            Self::Starting { .. } => Role::Starting,
            Self::Slave { .. } => Role::Slave,
            Self::Contending { .. } => Role::Contending,
            Self::Master { .. } => Role::Master,
        }
    }

    /// The name used in [`EDGES`], in traces and in the operator's view.
    pub const fn name(self) -> &'static str {
        self.role().name()
    }
}

/// Every allowed change of mode. A test walks all of them and finds no other.
pub const EDGES: &[(&str, &str)] = &[
    ("stopped", "starting"),
    ("starting", "slave"),
    ("starting", "contending"),
    ("starting", "stopped"),
    ("slave", "contending"),
    ("slave", "stopped"),
    ("contending", "master"),
    ("contending", "slave"),
    ("contending", "stopped"),
    ("master", "contending"),
    ("master", "stopped"),
];

#[cfg(test)]
#[path = "pair_tests.rs"]
mod tests;
