//! What other holders say, and how a holder answers.

use super::{Holder, Out, Stage};
use crate::bug::{Bug, is_planted};
use crate::holder::role::{Next, Open, Role};
use crate::holder::words::{Action, Backing, Refused, Word};
use crate::id::{Epoch, NodeId};
use crate::log::Seq;
use crate::log::batch::{Sum, Write};
use crate::log::writer;
use crate::mirror::history::History;
use crate::mirror::membership::Holder as Member;
use crate::mirror::{primary, secondary};
use crate::time::Instant;

impl Holder {
    pub(super) fn fed(
        &mut self,
        event: secondary::Event,
        (made, seq): (Epoch, Seq),
        (write, sums): (Write, &[Sum]),
        out: &mut Out<'_>,
    ) {
        let Stage::Open(Open { log, role: Role::Follows(secondary), next: None }) = &mut self.stage else {
            return;
        };
        if self.taking.is_some() {
            return;
        }
        if let Some(refused) = log.refuses(seq, made, &write, sums.len()).and_then(Refused::by) {
            return out(Action::Refused(refused));
        }
        for action in secondary.step(event) {
            if let secondary::Action::Append { .. } = action {
                self.append_only(writer::Event::Append { seq, epoch: made, write, sums }, out);
            } else {
                self.follows(action, out);
            }
        }
    }

    pub(super) fn heard(&mut self, now: Instant, from: NodeId, word: &Word, out: &mut Out<'_>) {
        match word {
            Word::Offer { epoch, history, oldest } => self.offered(from, *epoch, history, *oldest, out),
            Word::Commit { epoch, seq, applied } => {
                let (epoch, seq) = (*epoch, *seq);
                self.follow(secondary::Event::Committed { from, epoch, seq }, out);
                self.is_shared_applied(from, *applied);
            }
            Word::Ready { epoch, life, next } => {
                let (from, epoch, next) = (Member { node: from, life: *life }, *epoch, *next);
                self.lead(now, primary::Event::Ready { from, epoch, next }, out);
            }
            Word::Behind { epoch, applied } => {
                let (epoch, applied) = (*epoch, *applied);
                self.lead(now, primary::Event::Behind { from, epoch, applied }, out);
            }
            Word::Have { epoch, durable } => {
                let (epoch, durable) = (*epoch, *durable);
                self.lead(now, primary::Event::Have { from, epoch, durable }, out);
            }
            // The lease and the register say whether this holder may go on, not its peers.
            Word::Outranked { .. } => {}
        }
    }

    fn offered(&mut self, from: NodeId, epoch: Epoch, theirs: &History, oldest: Seq, out: &mut Out<'_>) {
        let promised = self.kept().promised;
        if theirs.next() < oldest {
            // No log begins behind its end.
            return;
        }
        match &mut self.stage {
            Stage::Damaged { .. } | Stage::Open(_) if epoch < promised => {
                out(Action::Say { to: from, word: Word::Outranked { promised } });
            }
            Stage::Damaged { end, history } => match history.agreed(end.commit.max(self.applied), theirs) {
                Some(_) => {
                    let (at, first) = (end.at, self.remade_with(oldest));
                    self.remake(at, first, out);
                }
                None => self.contradicted = Some((from, epoch)),
            },
            Stage::Open(Open { role: Role::Follows(secondary), next: None, .. }) if self.taking.is_none() => {
                let history = theirs.clone();
                for action in secondary.step(secondary::Event::Offered { from, epoch, history, oldest }) {
                    match (action, self.settings.backing) {
                        // The store has what the log lacks.
                        (secondary::Action::Behind { .. }, Backing::Shared) => {
                            let first = self.remade_with(oldest);
                            self.next(Next::Remake { first });
                        }
                        (other, Backing::Shared | Backing::Local) => self.follows(other, out),
                    }
                }
            }
            // Offered again, when it can be answered.
            Stage::Open(_) | Stage::Opening { .. } | Stage::Remaking { .. } | Stage::Failed => {}
        }
    }

    /// Who follows, and has no store of its own, needs its log only from there on: it is told, also when no
    /// write comes any more.
    pub(super) fn tell_applied(&self, out: &mut Out<'_>) {
        let Some(primary) = self.primary().filter(|_| self.settings.backing == Backing::Shared) else {
            return;
        };
        let (epoch, seq, applied) = (primary.epoch(), primary.commit(), self.applied);
        for (holder, _) in primary.fed() {
            out(Action::Say { to: holder.node, word: Word::Commit { epoch, seq, applied } });
        }
    }

    /// The first write of a log that is made anew because a primary's log, which begins with `oldest`, has
    /// what it lacks.
    fn remade_with(&self, oldest: Seq) -> Seq {
        let own = self.applied.next();
        match self.settings.backing {
            Backing::Local => own,
            Backing::Shared => own.max(oldest),
        }
    }

    pub(super) fn filled(&mut self, by: secondary::Following, upto: Seq) {
        if let Some(secondary) = self.secondary()
            && secondary.mode() == secondary::Mode::Behind(by)
            && self.taking.is_none()
        {
            let upto = if is_planted(Bug::FillClaimsMore) { upto.after(3) } else { upto };
            self.next(Next::Remake { first: upto.max(self.applied).next() });
        }
    }
}
