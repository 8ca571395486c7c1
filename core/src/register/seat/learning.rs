//! What a seat learns from any answer, whatever it was asked for.

use super::{Action, Mode, Seat, Todo, Why};
use crate::register::ballot::Ballot;
use crate::register::era;
use crate::register::message::{Refusal, Reply};
use crate::register::record::Record;
use crate::register::voters::Voter;
use crate::time::Instant;

impl Seat {
    /// Notes what any answer tells beside its own question.
    pub(super) fn learn(&mut self, now: Instant, reply: &Reply, todo: &mut Todo) {
        match reply {
            Reply::State { accepted, lease } => {
                if let Some(lease) = lease {
                    self.told = Some((*lease, now.after(lease.left.duration())));
                }
                self.learn_record(now, accepted.as_ref(), todo);
            }
            Reply::Promised { accepted } => self.learn_record(now, accepted.as_ref(), todo),
            Reply::Refused(Refusal::Outbid { promised }) => {
                self.round_max = self.round_max.max(promised.round)
            }
            Reply::Refused(Refusal::Leased(lease)) => {
                self.told = Some((*lease, now.after(lease.left.duration())));
            }
            Reply::Refused(Refusal::OldEpoch { epoch } | Refusal::NotHolder { epoch })
            | Reply::Granted { epoch } => self.epoch_max = self.epoch_max.max(*epoch),
            Reply::Refused(Refusal::LeaseTooLong { .. } | Refusal::Full)
            | Reply::Accepted
            | Reply::Released => {}
        }
    }

    /// Notes in which life a voter is; `true` when that is news.
    pub(super) fn meet(&mut self, voter: Voter) -> bool {
        if let Some(known) = self.lives.iter_mut().find(|known| known.node == voter.node) {
            return core::mem::replace(known, voter) != voter;
        }
        if self.lives.is_full() {
            // More voters than one register ever had: forget the one met first.
            self.lives.remove(0);
        }
        self.lives.push(voter).is_ok()
    }

    fn learn_record(&mut self, now: Instant, accepted: Option<&(Ballot, Record)>, todo: &mut Todo) {
        let Some((ballot, record)) = accepted else { return };
        if let Mode::Holding(held) = &self.mode
            && era::of(held.ballot.round) < era::of(ballot.round)
        {
            // An operator has given this node up, and others go on without it.
            self.lose(now, Why::Outranked, todo);
        }
        self.round_max = self.round_max.max(ballot.round);
        self.epoch_max = self.epoch_max.max(record.epoch);
        if self.known.as_ref().is_none_or(|known| known.epoch < record.epoch) {
            self.known = Some(record.clone());
            if record.holder != Some(self.settings.me) && self.decides_alone() {
                self.stop_forcing();
            }
            todo.push(Action::Seen(record.clone()));
        }
    }
}
