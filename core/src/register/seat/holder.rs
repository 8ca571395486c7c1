//! A register that is held: renewing its lease, bringing late voters up to date, changing who votes (X04) and
//! what the record says (I4).

use super::{Action, Ballot, Holding, Mode, Seat, Todo, Why};
use crate::bug::{Bug, is_planted};
use crate::id::{Epoch, NodeId};
use crate::register::message::{Answer, Ask, AskId, Lending, Refusal, Reply, Request};
use crate::register::proposer::Progress;
use crate::register::record::{Payload, Record};
use crate::register::voters::{Set, Voter, Voters};
use crate::time::Instant;

impl Seat {
    /// Asks all voters to renew, and goes on with a change of voters.
    pub(super) fn renew(&mut self, now: Instant, todo: &mut Todo) {
        let ask = self.next_ask();
        let (renew, lending) = (self.settings.renew, self.settings.lending());
        let answer_max = self.settings.answer_max;
        let Mode::Holding(held) = &mut self.mode else { return };
        held.lease.asks(ask, now);
        held.renew_at = now.after(renew);
        let is_late = held.change.as_ref().is_some_and(|round| round.sent().after(answer_max) <= now);
        if is_late {
            held.change = None;
        }
        self.ask_all(Ask::Renew(lending), todo);
        self.ask_founders(todo);
        self.go_on_changing(now, todo);
    }

    /// Notes who is to vote from now on.
    pub(super) fn revote(&mut self, now: Instant, set: Set, todo: &mut Todo) {
        self.revote = Some(set);
        self.go_on_changing(now, todo);
    }

    /// Notes what the record is to say from now on.
    pub(super) fn rewrite(&mut self, now: Instant, payload: Payload, todo: &mut Todo) {
        if let Mode::Holding(_) = self.mode {
            self.rewrite = Some(payload);
            self.go_on_changing(now, todo);
        }
    }

    /// Begins the next change of the record, if one is wanted or unfinished and none is under way.
    pub(super) fn go_on_changing(&mut self, now: Instant, todo: &mut Todo) {
        let Mode::Holding(held) = &self.mode else { return };
        let Record { voters: Voters { current, previous }, payload, .. } = &held.record;
        let is_settled = previous.is_none() && self.target(current) == *current;
        let is_written = self.rewrite.as_ref().is_none_or(|wanted| wanted == payload);
        if held.change.is_some() || (is_settled && is_written) {
            return;
        }
        let round = self.new_round(now);
        if let Mode::Holding(held) = &mut self.mode {
            held.change = Some(round);
        }
        self.ask_round(todo);
    }

    /// The voters there should be: those wanted, each in the life it was heard in last. While one of them was
    /// not heard, the set stays as it is.
    fn target(&self, current: &Set) -> Set {
        let known = |node| {
            let met = self.lives.iter().find(|voter| voter.node == node);
            met.or_else(|| current.iter().find(|voter| voter.node == node)).copied()
        };
        let wanted = self.revote.as_ref().filter(|set| set.iter().all(|one| known(one.node).is_some()));
        let nodes = wanted.unwrap_or(current).iter().map(|voter| voter.node);
        Set::new(nodes.filter_map(known)).unwrap_or_else(|_| current.clone())
    }

    pub(super) fn answered_holder(&mut self, now: Instant, from: NodeId, answer: &Answer, todo: &mut Todo) {
        let (settled, lending) = (self.settled, self.settings.lending());
        if let Mode::Holding(Holding { change: Some(round), .. }) = &mut self.mode {
            match round.answer(from, answer) {
                Progress::Waiting => self.ask_round(todo),
                Progress::Decide => return self.decide_change(now, todo),
                Progress::Chosen(record) => return self.changed(now, record, todo),
                Progress::Failed(_) => self.give_up_change(),
            }
        }
        let Mode::Holding(held) = &mut self.mode else { return };
        let voter = Voter { node: from, life: answer.life };
        match &answer.body {
            Reply::Granted { epoch } => {
                held.grants(now, answer.ask, voter, settled);
                held.remind(from, answer, *epoch, lending, todo);
            }
            // To the reminder below: the voter is up to date, and has granted the lease with it.
            Reply::Accepted => held.grants(now, answer.ask, voter, settled),
            Reply::Refused(Refusal::NotHolder { epoch }) => {
                held.remind(from, answer, *epoch, lending, todo);
            }
            // The rest is late news of this node's own attempts, or of reading.
            Reply::Refused(
                Refusal::Outbid { .. }
                | Refusal::Leased(_)
                | Refusal::OldEpoch { .. }
                | Refusal::LeaseTooLong { .. }
                | Refusal::Full,
            )
            | Reply::State { .. }
            | Reply::Promised { .. }
            | Reply::Released => {}
        }
    }

    /// The voters promised: write the record with the next set of voters, if it is still this node's own.
    fn decide_change(&mut self, now: Instant, todo: &mut Todo) {
        let ask = self.next_ask();
        let (me, lending) = (self.settings.me, self.settings.lending());
        let epoch = self.epoch_max.next();
        let Mode::Holding(Holding { change: Some(round), record, .. }) = &self.mode else { return };
        let current = round.current().cloned();
        let Some(found) = current.filter(|found| found.holder == Some(me)) else {
            // Somebody's attempt got through to a voter while no lease protected it. Whether it was chosen
            // cannot be told from here: the safe reading is that it was.
            self.lose(now, Why::Outranked, todo);
            return;
        };
        let Voters { current, previous } = found.voters.pinned(round.heard());
        let payload = self.rewrite.as_ref().unwrap_or(&record.payload).clone();
        // A voter seen for the first time counts from now on; so much every old majority will hear of.
        let seen = current.pinned(&self.lives);
        let target = self.target(&seen);
        let voters = match previous {
            None if target != seen => Voters { current: target, previous: Some(seen) },
            None => Voters::settled(seen),
            Some(_) if round.is_settled() || is_planted(Bug::ChangeFinishedEarly) => Voters::settled(current),
            // Nobody knows yet that all old majorities have met the new set. A record with the new set alone,
            // left with one voter by an attempt that failed, would let that one decide: once more with both.
            Some(previous) => Voters { current, previous: Some(previous) },
        };
        let record = Record { epoch, holder: Some(me), voters, payload };
        if let Mode::Holding(Holding { change: Some(round), .. }) = &mut self.mode {
            round.write(now, ask, record, lending);
        }
        self.ask_round(todo);
    }

    /// The next renewal tries again, with a higher ballot.
    fn give_up_change(&mut self) {
        if let Mode::Holding(held) = &mut self.mode {
            held.change = None;
        }
    }

    fn changed(&mut self, now: Instant, record: Record, todo: &mut Todo) {
        let Mode::Holding(held) = &mut self.mode else { return };
        let Some(round) = held.change.take() else { return };
        let ballot = round.ballot();
        held.ballot = ballot;
        held.record = record.clone();
        held.lease.extend(round.sent());
        self.settle(ballot, &record);
        todo.push(Action::Held(record));
        self.go_on_changing(now, todo);
    }
}

impl Holding {
    fn grants(&mut self, now: Instant, ask: AskId, voter: Voter, settled: Option<Ballot>) {
        let settled = settled == Some(self.ballot);
        self.lease.grants(now, ask, voter, &self.record.voters, settled);
    }

    /// Sends the record once more to a voter that holds an older one.
    fn remind(&self, to: NodeId, answer: &Answer, epoch: Epoch, lending: Lending, todo: &mut Todo) {
        if self.record.epoch <= epoch {
            return;
        }
        let (ballot, record): (Ballot, Record) = (self.ballot, self.record.clone());
        let body = Ask::Accept { ballot, record, lease: Some(lending), fenced: None };
        let request = Request { register: answer.register, ask: answer.ask, body };
        todo.push(Action::Ask { to, request });
    }
}
