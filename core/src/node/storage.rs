//! The office of storage: who leads the mirror group of a pair (S4-03, S4-11, I1, I4).
//!
//! Unlike the others it keeps data in its register: the in-sync set, which the group alone understands. So
//! the group decides whether to take the register, and says what is to stand in it; this is how the two are
//! told of each other. The group runs beside the node and answers later.

use super::machine::{Inner, Node, Out, Work, push};
use super::message::Office;
use super::post::Post;
use super::words;
use crate::bug::{Bug, is_planted};
use crate::id::Epoch;
use crate::monitor::pair;
use crate::register::message::Ask;
use crate::register::record::{Payload, Record};
use crate::register::seat::{self, Verdict};
use crate::time::Instant;

/// What the mirror group says to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The answer to [`Action::Decide`]. Each is answered once, in their order.
    Decided(Verdict),
    /// Have the record say this. [`Action::Held`] says that it does; a register that is lost forgets it.
    Rewrite(Payload),
    /// Give the register back, and ask for it again when nobody else takes it.
    Release,
    /// A guest was told that it may run until then, because this node holds the register (I5). So whatever
    /// becomes of it here, nobody is told before then that it is free: its lease runs out where it was
    /// granted.
    Lent {
        /// Not after the end of the lease.
        until: Instant,
    },
    /// Guests that were told so have given it back, and stand still: all that is lent still ends by then.
    /// What an earlier start lent is not known, and counts as before.
    Returned {
        /// The end of what others were told.
        until: Instant,
    },
}

/// What the node tells the mirror group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The register could be taken, and its newest record says this; `None`: nobody ever had it. Answer with
    /// [`Event::Decided`].
    Decide(Option<Payload>),
    /// It is held, or its record changed while it is held.
    Held {
        /// Of the record.
        epoch: Epoch,
        /// What it says.
        payload: Payload,
        /// The end of the lease.
        until: Instant,
    },
    /// The lease was renewed.
    Leased {
        /// Its end.
        until: Instant,
    },
    /// It is not held any more. The group must not act by it any more when this was carried out: the next
    /// thing that leaves this node may give it to another.
    Lost,
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
    pub(super) fn storage_event(&mut self, event: Event, work: &mut Work<WORK>) {
        match event {
            Event::Decided(verdict) => {
                let Some(post) = self.post_mut(Office::Storage) else { return };
                post.unanswered = post.unanswered.saturating_sub(1);
                if post.unanswered == 0 {
                    push(work, Inner::Seat(Office::Storage, seat::Event::Decided(verdict)));
                }
            }
            Event::Rewrite(payload) => {
                push(work, Inner::Seat(Office::Storage, seat::Event::Rewrite(payload)));
            }
            Event::Release => push(work, Inner::Pair(Office::Storage, pair::Event::Yield)),
            Event::Lent { until } => {
                let Some(post) = self.post_mut(Office::Storage) else { return };
                post.lent_until = post.lent_until.max(until);
            }
            Event::Returned { until } => {
                let Some(post) = self.post_mut(Office::Storage) else { return };
                post.lent_until = until;
            }
        }
    }

    /// Whether it is kept from the voters that a register is held no more: a guest may run by it still. They
    /// learn it when the lease has run out, as if this node had died.
    pub(super) fn keeps_silent(&self, now: Instant, office: Office, body: &Ask) -> bool {
        let lent_until = |post: &Post| match is_planted(Bug::LentGivenBack) {
            true => post.lent_before,
            false => post.lent_until.max(post.lent_before),
        };
        let is_lent = self.post(office).is_some_and(|post| now < lent_until(post));
        is_lent && office == Office::Storage && matches!(body, Ask::Release { .. })
    }

    /// Asks whether to take the register.
    pub(super) fn ask_group(&mut self, current: Option<&Record>, out: Out<'_>) {
        let Some(post) = self.post_mut(Office::Storage) else { return };
        post.unanswered = post.unanswered.saturating_add(1);
        tell(Action::Decide(current.map(|record| record.payload.clone())), out);
    }

    /// The register is held, and this is its record.
    pub(super) fn tell_group_held(&mut self, now: Instant, office: Office, record: &Record, out: Out<'_>) {
        let Some(post) = self.post_mut(office).filter(|_| office == Office::Storage) else { return };
        // It may have been won and given back in one step.
        let until = post.seat.until().unwrap_or(now);
        post.told_until = Some(until);
        tell(Action::Held { epoch: record.epoch, payload: record.payload.clone(), until }, out);
    }

    /// Says when the lease ends, if the group was told otherwise.
    pub(super) fn tell_group_lease(&mut self, office: Office, out: Out<'_>) {
        let Some(post) = self.post_mut(office).filter(|_| office == Office::Storage) else { return };
        if let (Some(told), Some(until)) = (post.told_until, post.seat.until())
            && told != until
        {
            post.told_until = Some(until);
            tell(Action::Leased { until }, out);
        }
    }

    /// The register is held no more.
    pub(super) fn tell_group_lost(&mut self, office: Office, out: Out<'_>) {
        let Some(post) = self.post_mut(office).filter(|_| office == Office::Storage) else { return };
        post.told_until = None;
        tell(Action::Lost, out);
    }
}

fn tell(action: Action, out: Out<'_>) {
    out(words::Action::Storage(action));
}
