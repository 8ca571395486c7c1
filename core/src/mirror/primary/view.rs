//! What may be asked of a primary at any time.

use super::super::membership::{Holder, Membership};
use super::{Mode, Primary, State};
use crate::id::Epoch;
use crate::log::Seq;

impl Primary {
    /// The current mode.
    pub const fn mode(&self) -> &Mode {
        &self.mode
    }

    /// Under which it took the register.
    pub const fn epoch(&self) -> Epoch {
        self.settings.epoch
    }

    /// What the register says.
    pub const fn chosen(&self) -> &Membership {
        &self.chosen
    }

    /// The first write that others can be fed.
    pub const fn oldest(&self) -> Seq {
        self.oldest
    }

    /// The newest write.
    pub const fn newest(&self) -> Seq {
        self.newest
    }

    /// Every write up to this one is durable on all in-sync holders. Reads show no later one (I12).
    pub const fn commit(&self) -> Seq {
        self.commit
    }

    /// Every write up to this one was acknowledged.
    pub const fn acknowledged(&self) -> Seq {
        self.acknowledged
    }

    /// The first write that is still to be sent to somebody who is fed, or is still to be written.
    pub fn unsent(&self) -> Seq {
        let next = self.others.iter().filter_map(|other| match other.state {
            State::Fed { next, .. } => Some(next),
            State::Away | State::Offered { .. } | State::Filling | State::Dismissed => None,
        });
        next.min().unwrap_or(self.newest.next())
    }

    /// What the holders have that are fed, as they said.
    pub fn fed(&self) -> impl Iterator<Item = (Holder, Seq)> + '_ {
        self.others.iter().filter_map(|other| match other.state {
            State::Fed { holder, durable, .. } => Some((holder, durable)),
            State::Away | State::Offered { .. } | State::Filling | State::Dismissed => None,
        })
    }
}
