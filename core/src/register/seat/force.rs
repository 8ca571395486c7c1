//! An operator says that voters are lost for good, and has this node decide without them (X14).
//!
//! It is for the one state without another exit: a majority of the voters in force will never answer again.
//! All founders that are not lost are read first, for one of them may know of voters that can decide, or of a
//! newer record. Only if they cannot are all of them asked together to let this node's own voter decide alone
//! from now on, in an era of its own ([`crate::register::era`]): all, so that of two operators who say it at
//! two nodes one is heard. What the record said before does not count then: those who are lost may have
//! changed it without anybody else. The holder has all founders vote again when it hears them all.
//!
//! It is given up when anybody who was called lost answers, when a newer record is learned of, when the
//! register is not wanted any more, and, until all were read, after a few seconds.

use heapless::Vec;

use super::{Mode, Seat, Todo};
use crate::bug::{Bug, is_planted};
use crate::id::{Epoch, NodeId};
use crate::register::era;
use crate::register::message::{Answer, Ask, AskId, Reply, Request};
use crate::register::proposer::Round;
use crate::register::voters::{Set, VOTERS_MAX, Voter, Voters};
use crate::time::Instant;

/// How many watches founders may take to be read.
const PATIENCE: u32 = 8;

/// Voters.
pub type Lost = Vec<NodeId, VOTERS_MAX>;

/// The operator's word, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Forcing {
    lost: Lost,
    /// The question that all others answer.
    ask: AskId,
    /// Who has, in which life.
    heard: Vec<Voter, VOTERS_MAX>,
    /// When to look who has, and to ask again.
    again: Instant,
    /// Until when all must have.
    until: Instant,
    /// A lease after all were read.
    free_at: Option<Instant>,
    /// All that are left, once they were read and cannot decide.
    left: Option<Set>,
}

impl Seat {
    /// Whether this node, if it asks for the register, asks those that are left to decide without the lost.
    pub const fn decides_alone(&self) -> bool {
        match &self.forcing {
            Some(forcing) => forcing.left.is_some(),
            None => false,
        }
    }

    /// Whether the founders are being read, to decide without voters that are lost.
    pub const fn is_forcing(&self) -> bool {
        self.forcing.is_some()
    }

    /// Whether the voters in force, as far as is known, have a majority without those lost: nobody has to
    /// decide for them.
    pub fn decides_without(&self, lost: &[NodeId]) -> bool {
        let rest: Vec<Voter, { super::ASKED_MAX }> =
            self.lives.iter().filter(|voter| !lost.contains(&voter.node)).copied().collect();
        self.has_quorum(&rest)
    }

    fn has_quorum(&self, heard: &[Voter]) -> bool {
        // Before there is any record, whoever answers is who it is.
        let voters = if self.known.is_none() { self.voters().pinned(heard) } else { self.voters() };
        voters.quorum(heard)
    }

    /// Notes the operator's word. Whoever holds the register, or has no vote, decides nothing by it.
    pub(super) fn force(&mut self, now: Instant, lost: Lost, todo: &mut Todo) {
        let me = self.settings.me;
        if matches!(self.mode, Mode::Holding(_)) || !self.settings.founders.has(me) || lost.contains(&me) {
            return;
        }
        let (ask, until) = (self.next_ask(), now.after(self.settings.watch.saturating_mul(PATIENCE)));
        self.forcing =
            Some(Forcing { lost, ask, heard: Vec::new(), again: now, until, free_at: None, left: None });
        self.go_on_forcing(now, todo);
    }

    /// When [`Self::go_on_forcing`] is due.
    pub(super) fn forces_at(&self) -> Option<Instant> {
        self.forcing.as_ref().filter(|forcing| forcing.left.is_none()).map(|forcing| forcing.again)
    }

    /// Looks whether all were read, and reads all founders again if not: the lost ones, too, for one that
    /// answers is not lost.
    pub(super) fn go_on_forcing(&mut self, now: Instant, todo: &mut Todo) {
        let answer_max = self.settings.answer_max;
        let Some(forcing) = self.forcing.as_mut().filter(|forcing| forcing.left.is_none()) else { return };
        if now < forcing.again {
            return;
        }
        let is_read =
            |node| forcing.lost.contains(&node) || forcing.heard.iter().any(|voter| voter.node == node);
        if self.settings.founders.iter().all(|founder| is_read(founder.node)) {
            return self.go_on_when_read(now, todo);
        }
        if forcing.until <= now {
            return self.stop_forcing();
        }
        forcing.again = now.after(answer_max);
        let (register, ask) = (self.settings.register, forcing.ask);
        for to in self.settings.founders.iter().map(|voter| voter.node) {
            todo.push(super::Action::Ask { to, request: Request { register, ask, body: Ask::Read } });
        }
    }

    /// All that are left were read. If they cannot decide, all of them are asked for this node to do it, once
    /// every lease is over that a voter granted before it was lost, or has forgotten.
    fn go_on_when_read(&mut self, now: Instant, todo: &mut Todo) {
        let lease = self.settings.drift.at_least(self.settings.lease);
        let Some(forcing) = &mut self.forcing else { return };
        let free_at = *forcing.free_at.get_or_insert_with(|| now.after(lease));
        forcing.again = free_at;
        let (me, heard) = (self.settings.me, forcing.heard.clone());
        if self.has_quorum(&heard) {
            return self.stop_forcing();
        }
        if now < free_at {
            return;
        }
        self.round_max = era::after(self.round_max.max(self.epoch_max.0), me);
        if let Some(forcing) = &mut self.forcing {
            // Each is there once, and this node is one of them.
            forcing.left = Set::new(heard).ok();
        }
        if let Mode::Pausing { .. } = self.mode {
            self.begin(now, todo);
        }
    }

    /// The operator is wrong, or nobody waits for this any more.
    pub(super) fn stop_forcing(&mut self) {
        self.forcing = None;
    }

    /// Takes a founder's answer; what it told of records is learned already.
    pub(super) fn answered_force(&mut self, from: NodeId, answer: &Answer) {
        let Some(forcing) = &mut self.forcing else { return };
        if forcing.lost.contains(&from) {
            return self.stop_forcing();
        }
        // When the wait for leases has begun, a voter in another life may have granted one since, and forgot.
        let is_asked = answer.ask == forcing.ask && forcing.free_at.is_none();
        if is_asked && matches!(answer.body, Reply::State { .. }) {
            forcing.heard.retain(|voter| voter.node != from);
            // Founders alone were asked: there is room.
            let _ = forcing.heard.push(Voter { node: from, life: answer.life });
        }
    }

    /// Under which epoch a round that may write does so.
    pub(super) fn epoch_of(&self, round: &Round) -> Epoch {
        let newest = self.epoch_max.max(round.epoch_max());
        match round.is_forced() {
            true => Epoch(era::after(newest.0, self.settings.me)),
            false if is_planted(Bug::EpochReused) && newest.0 != 0 => newest,
            false => newest.next(),
        }
    }

    /// All that are left, if they are to let this node decide.
    pub(super) fn all_left(&self) -> Option<Voters> {
        self.forcing.as_ref()?.left.clone().map(Voters::settled)
    }

    /// Who votes by the record of a round that may write.
    pub(super) fn voters_of(&self, round: &Round) -> Voters {
        let me = round.heard().iter().copied().filter(|voter| voter.node == self.settings.me);
        match Set::new(me).ok().filter(|_| round.is_forced()) {
            // An attempt that failed may have left this with one voter: whoever finds it asks the others that
            // are left, too, as in any change of voters.
            Some(me) => Voters { current: me, previous: Some(round.voters().current.clone()) },
            None => round.voters().pinned(round.heard()),
        }
    }
}
