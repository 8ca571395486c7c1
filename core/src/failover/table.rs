//! All guests of a pair, while this node leads their volumes: the most important ones first, a few at once
//! (S3-04, S3-08, S3-14).

use core::cmp::Reverse;

use heapless::Vec;

use super::life::{How, Life, Mode, Sight};
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
#[derive(Clone, Debug, Default)]
pub struct Table<const GUESTS: usize> {
    /// In the order of their volumes. Empty while this node does not lead.
    guests: Vec<(Volume, Life), GUESTS>,
    /// So many are begun at once.
    at_once: usize,
}

impl<const GUESTS: usize> Table<GUESTS> {
    /// A table of no guests; `at_once` of them are begun at once, one at least.
    pub const fn new(at_once: usize) -> Self {
        Self { guests: Vec::new(), at_once: if at_once == 0 { 1 } else { at_once } }
    }

    /// This node leads the volumes, and these are the guests, in the order of their volumes. Those that are
    /// not among them are none any more.
    pub fn lead(&mut self, wanted: impl Iterator<Item = (Volume, Guest)>) {
        let before = core::mem::take(&mut self.guests);
        let mut before = before.iter().peekable();
        for (volume, wanted) in wanted {
            while before.next_if(|(other, _)| *other < volume).is_some() {}
            let known = before.next_if(|(other, _)| *other == volume).map(|(_, life)| *life);
            let mut life = known.unwrap_or(Life::new(wanted));
            life.want(wanted);
            // There are no more than numbers of volumes.
            let _ = self.guests.push((volume, life));
        }
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
        let count = |mode| self.guests.iter().filter(|(_, life)| life.mode() == mode).count();
        if count(Mode::Unseen) != 0 || self.at_once <= count(Mode::Starting) {
            return None;
        }
        let down = self.guests.iter_mut().filter(|(_, life)| life.mode() == Mode::Down);
        // The first of those that are as important: the one with the lowest number.
        let (guest, life) = down.min_by_key(|(_, life)| Reverse(life.wanted().priority))?;
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

    fn find(&mut self, guest: Volume) -> Option<&mut Life> {
        let at = self.guests.binary_search_by_key(&guest, |(volume, _)| *volume).ok()?;
        self.guests.get_mut(at).map(|(_, life)| life)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
