//! What a search remembers, in memory that the caller has: three tables with a row for each guest (S0-02).

use super::TooSmall;
use super::guest::GuestIndex;
use super::hosts::HostIndex;
use super::steps::Found;

/// What becomes of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It takes no part: it is off, or was lost and is not protected.
    Out,
    /// Its turn is still to come.
    Pending,
    /// It stays where it runs.
    Stays,
    /// It is put there.
    On { host: HostIndex, found: Found },
    /// It does not run.
    Down,
}

/// Of a guest, by its place in the site's list.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    pub(super) now: Decision,
    /// In the best placement that was found so far.
    pub(super) best: Decision,
}

/// Of a guest, by its place in the order in which they are placed.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub(super) guest: GuestIndex,
    /// How many higher priorities there are.
    pub(super) level: u16,
    /// Whether there is anything to decide: it has no host, or guests of higher priority need its room.
    pub(super) is_open: bool,
    /// Which of its candidates is being tried; behind the last one, it stays down.
    pub(super) choice: u8,
}

/// Of one priority: how many of its guests are down.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    pub(super) down: u16,
    /// In the best placement that was found so far.
    pub(super) best: u16,
}

impl Fate {
    /// Of nobody yet.
    pub const NEW: Self = Self { now: Decision::Out, best: Decision::Out };
}

impl Turn {
    /// Nobody's yet.
    pub const NEW: Self = Self { guest: GuestIndex(0), level: 0, is_open: false, choice: 0 };
}

impl Level {
    /// Of no priority yet.
    pub const NEW: Self = Self { down: 0, best: 0 };
}

/// The three tables. Whatever they held is forgotten.
#[derive(Debug)]
pub struct Memory<'m> {
    /// A place for each guest.
    pub fates: &'m mut [Fate],
    /// The same.
    pub turns: &'m mut [Turn],
    /// The same.
    pub levels: &'m mut [Level],
}

impl<'m> Memory<'m> {
    /// The same memory, for one more search.
    pub fn again(&mut self) -> Memory<'_> {
        Memory { fates: self.fates, turns: self.turns, levels: self.levels }
    }

    /// Tables of as many rows as there are guests.
    pub(super) fn fit(self, needed: usize) -> Result<Self, TooSmall> {
        let short = TooSmall { needed };
        let Self { fates, turns, levels } = self;
        let fates = fates.get_mut(..needed).ok_or(short)?;
        let turns = turns.get_mut(..needed).ok_or(short)?;
        let levels = levels.get_mut(..needed).ok_or(short)?;
        fates.fill(Fate::NEW);
        levels.fill(Level::NEW);
        Ok(Self { fates, turns, levels })
    }
}
