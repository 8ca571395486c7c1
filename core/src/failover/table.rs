//! All guests of a pair, while this node leads their volumes: the most important ones first, a few at once,
//! and none without room (S3-04, S3-08, S3-14, S3-18).

use core::cmp::Reverse;

use heapless::Vec;

use super::life::{How, Life, Mode, Sight};
use super::room::{Left, Room, UNBOUNDED, taken};
use crate::bug::{Bug, is_planted};
use crate::log::batch::Volume;
use crate::time::Instant;
use crate::volume::guest::Guest;

/// A guest that is to be begun now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Its own volume.
    pub guest: Volume,
    /// How.
    pub how: How,
}

/// The guests of a pair on one of its nodes. `GUESTS` of them at most: one for each number of a volume is
/// enough.
#[derive(Clone, Debug)]
pub struct Table<const GUESTS: usize> {
    /// In the order of their volumes. Empty while this node does not lead.
    guests: Vec<(Volume, Life), GUESTS>,
    /// So many are begun at once.
    at_once: usize,
    /// What this node has for them.
    room: Room,
}

impl<const GUESTS: usize> Table<GUESTS> {
    /// A table of no guests; `at_once` of them are begun at once, one at least, on a node with room for all.
    pub const fn new(at_once: usize) -> Self {
        Self::in_room(at_once, UNBOUNDED)
    }

    /// As [`Table::new`], of a node with so much room.
    pub const fn in_room(at_once: usize, room: Room) -> Self {
        Self { guests: Vec::new(), at_once: if at_once == 0 { 1 } else { at_once }, room }
    }

    /// The node has so much room from now on. Who has more of it already keeps that.
    pub fn resize(&mut self, room: Room) {
        self.room = room;
    }

    /// This node leads the volumes, and these are the guests, in the order of their volumes. Those that are
    /// not among them are none any more.
    pub fn lead(&mut self, wanted: impl Iterator<Item = (Volume, Guest)>) {
        // In place: a copy of the table is more than a thread's stack may have.
        let mut place = 0_usize;
        for (volume, wanted) in wanted {
            while self.guests.get(place).is_some_and(|(other, _)| *other < volume) {
                self.guests.remove(place);
            }
            if self.guests.get(place).is_none_or(|(other, _)| *other != volume) {
                // There are no more than numbers of volumes.
                let _ = self.guests.insert(place, (volume, Life::new(wanted)));
            }
            if let Some((_, life)) = self.guests.get_mut(place) {
                life.want(wanted);
            }
            place = place.saturating_add(1);
        }
        self.guests.truncate(place);
    }

    /// This node does not lead the volumes any more: nothing is known of their guests, and none is begun.
    pub fn lose(&mut self) {
        self.guests.clear();
    }

    /// A guest was looked at.
    pub fn see(&mut self, now: Instant, guest: Volume, sight: Sight) {
        if let Some(life) = self.find(guest) {
            life.see(now, sight);
        }
    }

    /// Whether a guest could be begun.
    pub fn begun(&mut self, now: Instant, guest: Volume, is_done: bool) {
        if let Some(life) = self.find(guest) {
            life.begun(now, is_done);
        }
    }

    /// The next guest that is to be begun: whoever asks begins it, and says how that ended.
    ///
    /// None is begun before all were looked at: what is more important might be among the rest.
    pub fn next(&mut self, now: Instant) -> Option<Begin> {
        self.guests.iter_mut().for_each(|(_, life)| life.pass(now));
        self.share();
        let count = |mode| self.guests.iter().filter(|(_, life)| life.mode() == mode).count();
        let is_looked_at = count(Mode::Unseen) == 0 || is_planted(Bug::BeginsUnseen);
        let is_free = count(Mode::Starting) < self.at_once || is_planted(Bug::BeginsAllAtOnce);
        if !is_looked_at || !is_free {
            return None;
        }
        let fits = |life: &Life| life.mode() == Mode::Down && life.lacks().is_none();
        let down = self.guests.iter_mut().filter(|(_, life)| fits(life));
        // The first of those that are as important: the one with the lowest number.
        let (guest, life) = down.min_by_key(|(_, life)| {
            let ignored = is_planted(Bug::PriorityIgnored);
            Reverse(if ignored { 0 } else { life.wanted().priority })
        })?;
        Some(Begin { guest: *guest, how: life.begin() })
    }

    /// When [`Table::next`] is to be asked again at the latest; `None`: not before something happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.guests.iter().filter_map(|(_, life)| life.deadline()).min()
    }

    /// All guests, in the order of their volumes.
    pub fn guests(&self) -> impl Iterator<Item = (Volume, &Life)> {
        self.guests.iter().map(|(volume, life)| (*volume, life))
    }

    /// What the guests take that are to be begun here and have room, and were not yet: it is kept for them.
    pub fn awaited(&self) -> Room {
        let awaited = |(_, life): &&(Volume, Life)| life.wants_room() && life.lacks().is_none();
        let all = self.guests.iter().filter(awaited);
        all.fold(Room::NONE, |sum, (_, life)| sum.plus(taken(life.wanted().needs)))
    }

    /// Says of each guest that is to be begun whether there is room for it.
    fn share(&mut self) {
        let mut left = Left::of(self.room);
        for (_, life) in &self.guests {
            if life.has_room() {
                left.take(life.wanted().needs);
            }
        }
        let mut turns: Vec<(Reverse<u8>, u16), GUESTS> = Vec::new();
        for (place, (_, life)) in (0..).zip(&mut self.guests) {
            life.lack(None);
            if life.wants_room() {
                // There are no more than guests.
                let _ = turns.push((Reverse(life.wanted().priority), place));
            }
        }
        turns.sort_unstable();
        for (_, place) in turns {
            if let Some((_, life)) = self.guests.get_mut(usize::from(place)) {
                life.lack(left.fit(life.wanted().needs).err());
            }
        }
    }

    fn find(&mut self, guest: Volume) -> Option<&mut Life> {
        let at = self.guests.binary_search_by_key(&guest, |(volume, _)| *volume).ok()?;
        self.guests.get_mut(at).map(|(_, life)| life)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
