//! One round at a register: ask a majority for promises, let the owner decide on what was found, write it
//! (CASPaxos). A round that fails has changed nothing that a later round cannot complete or replace.

use heapless::Vec;

use super::ballot::Ballot;
use super::message::{Answer, Ask, AskId, Fenced, Lending, Refusal, Reply};
use super::record::Record;
use super::voters::{ASKED_MAX, Life, Voter, Voters};
use crate::bug::{Bug, is_planted};
use crate::id::{Epoch, NodeId};
use crate::time::Instant;

/// A round under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Round {
    ballot: Ballot,
    ask: AskId,
    /// When the questions of this phase were first sent.
    sent: Instant,
    fenced: Option<Fenced>,
    /// Who decides, as far as is known: from the newest record heard.
    voters: Voters,
    /// All of them have to agree, and they decide whatever else is found: an operator says that others are
    /// lost (X14).
    forced: bool,
    /// The attempt whose record is known to be chosen: its set of voters need not agree with the one before.
    /// Not an epoch: an attempt that failed may have left another record of the same one.
    settled: Option<Ballot>,
    phase: Phase,
    asked: Vec<NodeId, ASKED_MAX>,
    heard: Vec<Voter, ASKED_MAX>,
    refused: Vec<NodeId, ASKED_MAX>,
    refusal: Option<Refusal>,
    /// Of everything heard in the first phase, what the newest attempt accepted.
    found: Option<(Ballot, Record)>,
    /// The newest epoch heard of, chosen or not.
    epoch_max: Epoch,
}

#[expect(clippy::large_enum_variant, reason = "no heap to box into; a seat has one round")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Preparing,
    Deciding,
    Writing { record: Record, lease: Lending },
}

/// What an answer led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More answers are needed.
    Waiting,
    /// A quorum promised: decide, and call [`Round::write`].
    Decide,
    /// A quorum accepted: the record is the register's value.
    Chosen(Record),
    /// No quorum can be reached any more.
    Failed(Refusal),
}

impl Round {
    /// Begins with the first phase. `voters` is the newest set known, `settled` as in the field.
    pub const fn prepare(
        now: Instant,
        ask: AskId,
        ballot: Ballot,
        voters: Voters,
        settled: Option<Ballot>,
        fenced: Option<Fenced>,
    ) -> Self {
        Self {
            ballot,
            ask,
            sent: now,
            fenced,
            voters,
            forced: false,
            settled,
            phase: Phase::Preparing,
            asked: Vec::new(),
            heard: Vec::new(),
            refused: Vec::new(),
            refusal: None,
            found: None,
            epoch_max: Epoch(0),
        }
    }

    /// As it is, but its voters decide, all of them together, whatever voters are named by what is found.
    pub fn forced(self) -> Self {
        Self { forced: true, ..self }
    }

    /// Whether its voters decide whatever is found.
    pub const fn is_forced(&self) -> bool {
        self.forced
    }

    /// The attempt.
    pub const fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// When the questions of this phase were first sent: the start of a lease granted with them.
    pub const fn sent(&self) -> Instant {
        self.sent
    }

    /// What the register held, once [`Progress::Decide`] was returned.
    pub fn current(&self) -> Option<&Record> {
        self.found.as_ref().map(|(_, record)| record)
    }

    /// The newest epoch any voter spoke of, chosen or not: a new record must be above it.
    pub const fn epoch_max(&self) -> Epoch {
        self.epoch_max
    }

    /// Who decides, as far as is known.
    pub const fn voters(&self) -> &Voters {
        &self.voters
    }

    /// Who promised or accepted so far in this phase.
    pub fn heard(&self) -> &[Voter] {
        &self.heard
    }

    /// The next node that must be asked, and what; `None` when all have been.
    pub fn next_question(&mut self) -> Option<(NodeId, AskId, Ask)> {
        let body = match &self.phase {
            Phase::Preparing => Ask::Prepare { ballot: self.ballot, fenced: self.fenced },
            Phase::Writing { record, lease } => {
                let (record, fenced) = (record.clone(), self.fenced);
                Ask::Accept { ballot: self.ballot, record, lease: Some(*lease), fenced }
            }
            Phase::Deciding => return None,
        };
        let new = match &self.phase {
            Phase::Writing { record, .. } => Some(&record.voters),
            Phase::Preparing | Phase::Deciding => None,
        };
        let mut all = self.voters.all().chain(new.into_iter().flat_map(Voters::all));
        let next = all.find(|voter| !self.asked.contains(&voter.node))?.node;
        // Two sets of voters at most, and the new one differs from the old only while they change.
        self.asked.push(next).ok()?;
        Some((next, self.ask, body))
    }

    /// Writes `record`: begins the second phase.
    ///
    /// # Panics
    ///
    /// If no quorum has promised: a defect of the caller.
    pub fn write(&mut self, now: Instant, ask: AskId, record: Record, lease: Lending) {
        assert!(self.phase == Phase::Deciding, "written before a quorum promised");
        self.phase = Phase::Writing { record, lease };
        self.ask = ask;
        self.sent = now;
        self.asked.clear();
        self.heard.clear();
        self.refused.clear();
        self.refusal = None;
    }

    /// Takes an answer of `from`. Answers to other questions are ignored.
    pub fn answer(&mut self, from: NodeId, answer: &Answer) -> Progress {
        if answer.ask != self.ask {
            return Progress::Waiting;
        }
        let voter = Voter { node: from, life: answer.life };
        match (&self.phase, &answer.body) {
            (Phase::Preparing, Reply::Promised { accepted }) => {
                self.promised(voter, accepted.as_ref());
                match self.quorum() {
                    true => {
                        self.phase = Phase::Deciding;
                        Progress::Decide
                    }
                    false => Progress::Waiting,
                }
            }
            (Phase::Writing { record, .. }, Reply::Accepted) => {
                let record = record.clone();
                self.hear(voter);
                // A record that changes the voters needs those who decided before as well as the new ones.
                match self.quorum() && record.voters.current.majority(&self.heard) {
                    true => Progress::Chosen(record),
                    false => Progress::Waiting,
                }
            }
            (Phase::Preparing | Phase::Writing { .. }, Reply::Refused(refusal)) => {
                self.refused(from, *refusal)
            }
            // A voter answers each question in its kind; whatever else it says is not about this one.
            (
                Phase::Preparing | Phase::Deciding | Phase::Writing { .. },
                Reply::State { .. }
                | Reply::Promised { .. }
                | Reply::Accepted
                | Reply::Granted { .. }
                | Reply::Released
                | Reply::Refused(_),
            ) => Progress::Waiting,
        }
    }

    fn promised(&mut self, voter: Voter, accepted: Option<&(Ballot, Record)>) {
        if let Some((attempt, record)) = accepted {
            self.epoch_max = self.epoch_max.max(record.epoch);
            let newer = |(newest, _): &(Ballot, Record)| newest < attempt && !is_planted(Bug::FirstFoundWins);
            if self.found.as_ref().is_none_or(newer) {
                if !self.forced {
                    self.voters = record.voters.clone();
                }
                self.found = Some((*attempt, record.clone()));
            }
        }
        self.hear(voter);
    }

    fn hear(&mut self, voter: Voter) {
        if !self.heard.contains(&voter) {
            // Only nodes that were asked answer, each with one life: there is room.
            let _ = self.heard.push(voter);
        }
    }

    fn refused(&mut self, from: NodeId, refusal: Refusal) -> Progress {
        if !self.refused.contains(&from) {
            let _ = self.refused.push(from);
        }
        if let Refusal::NotHolder { epoch } | Refusal::OldEpoch { epoch } = refusal {
            self.epoch_max = self.epoch_max.max(epoch);
        }
        self.refusal = Some(weightier(self.refusal, refusal));
        // Whoever did not refuse may still agree; on a first record also who was never seen.
        let possible = self.voters.all().filter(|voter| !self.refused.contains(&voter.node));
        let seen = |voter: Voter| {
            if self.found.is_none() && !self.forced { Voter { life: Life(1), ..voter } } else { voter }
        };
        let possible: Vec<Voter, ASKED_MAX> = possible.map(seen).collect();
        match self.decides(&possible) {
            true => Progress::Waiting,
            false => Progress::Failed(self.refusal.unwrap_or(refusal)),
        }
    }

    /// Whether what was found is what is known to be chosen.
    pub fn is_settled(&self) -> bool {
        self.settled.is_some() && self.settled == self.found.as_ref().map(|(ballot, _)| *ballot)
    }

    fn quorum(&self) -> bool {
        self.decides(&self.heard)
    }

    fn decides(&self, heard: &[Voter]) -> bool {
        if self.forced {
            return self.voters.all().all(|voter| heard.contains(&voter));
        }
        // Before there is any record, nobody has been seen: the first to answer are who they are.
        let voters = match self.found {
            None => &self.voters.pinned(heard),
            Some(_) => &self.voters,
        };
        match self.is_settled() {
            true => voters.current.majority(heard),
            false => voters.quorum(heard),
        }
    }
}

/// Of two refusals the one that says more about when to try again.
fn weightier(held: Option<Refusal>, new: Refusal) -> Refusal {
    match (held, new) {
        (Some(Refusal::Leased(a)), Refusal::Leased(b)) if b.left < a.left => Refusal::Leased(a),
        (_, Refusal::Leased(lease)) | (Some(Refusal::Leased(lease)), _) => Refusal::Leased(lease),
        (Some(Refusal::Outbid { promised: a }), Refusal::Outbid { promised: b }) => {
            Refusal::Outbid { promised: a.max(b) }
        }
        (_, outbid @ Refusal::Outbid { .. }) | (Some(outbid @ Refusal::Outbid { .. }), _) => outbid,
        (_, new) => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RegisterId;
    use crate::register::message::{Millis, Start};
    use crate::register::record::Payload;
    use crate::register::voters::Set;

    const LENDING: Lending = Lending { length: Millis(600), start: Start(9) };

    fn set(nodes: [u16; 3]) -> Set {
        Set::new(nodes.map(|node| Voter { node: NodeId(node), life: Life(7) })).unwrap()
    }

    fn record(epoch: u64, voters: Voters) -> Record {
        Record { epoch: Epoch(epoch), holder: Some(NodeId(1)), voters, payload: Payload::new() }
    }

    fn answer(ask: u32, body: Reply) -> Answer {
        Answer { register: RegisterId(1), ask: AskId(ask), life: Life(7), body }
    }

    /// X04: who is to vote is chosen when majorities of those who voted and of those who will have accepted.
    #[test]
    fn a_record_that_changes_the_voters_needs_both_sets() {
        let (old, new) = (set([1, 2, 3]), set([3, 4, 5]));
        for (accepting, is_chosen) in [
            (&[1, 2][..], false),
            (&[1, 2, 3], false),
            (&[3, 4, 5], false),
            (&[2, 3, 4], true),
            (&[1, 2, 4, 5], true),
        ] {
            let (ballot, voters) = (Ballot::new(2, NodeId(1)), Voters::settled(old.clone()));
            let found = (Ballot::new(1, NodeId(1)), record(1, voters.clone()));
            let mut round = Round::prepare(Instant::ZERO, AskId(1), ballot, voters, None, None);
            let promised = answer(1, Reply::Promised { accepted: Some(found) });
            assert_eq!(round.answer(NodeId(1), &promised), Progress::Waiting);
            assert_eq!(round.answer(NodeId(2), &promised), Progress::Decide);
            let next = record(2, Voters { current: new.clone(), previous: Some(old.clone()) });
            round.write(Instant::ZERO, AskId(2), next.clone(), LENDING);
            let mut answers =
                accepting.iter().map(|node| round.answer(NodeId(*node), &answer(2, Reply::Accepted)));
            let chosen = answers.find(|progress| *progress != Progress::Waiting);
            assert_eq!(chosen, is_chosen.then_some(Progress::Chosen(next)), "{accepting:?} accepted");
        }
    }
}
