//! Blocks by their names, in lists from the oldest to the newest: what the algorithms of the read cache are
//! made of (S4-02).
//!
//! Every [`Entry`] is in exactly one list at any time, and what it holds says in which. Each operation takes
//! the same few steps, however many entries there are; a search takes as many as there are names with one
//! home, about one and a half (Knuth, The Art of Computer Programming, volume 3, section 6.4).

use super::index::Key;
use core::num::NonZeroU32;

/// A place for the content of one block, in memory that the caller has: the number of the place, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell(pub u32);

/// Room for one block that is in memory, or was there of late. The caller provides them.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    holds: Holds,
    newer: Option<At>,
    older: Option<At>,
    /// The next one whose name has the same home.
    next: Option<At>,
    /// The first one whose name has its home here, whatever this entry holds.
    first: Option<At>,
}

const _: () = assert!(size_of::<Entry>() == 32, "an entry is as small as the budget of memory wants it");

impl Entry {
    /// Nothing.
    pub const EMPTY: Self = Self { holds: Holds::Nothing, newer: None, older: None, next: None, first: None };
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Nothing.
    Nothing,
    /// A cell that no block has.
    Vacancy(Cell),
    /// A block that is in memory.
    Block {
        key: Key,
        cell: Cell,
        part: Part,
        /// It was read since the hand of the clock went by.
        is_marked: bool,
    },
    /// The name of a block that was in memory.
    Ghost { key: Key, part: Part },
}

/// How a block is known to be wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It was read once of late; or nobody counts.
    Recent,
    /// It was read more than once of late.
    Frequent,
}

/// The lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// Of entries that hold nothing.
    Empty,
    /// Of cells that no block has.
    Vacant,
    /// Of blocks: T1 and T2 of Megiddo and Modha.
    Blocks(Part),
    /// Of ghosts: their B1 and B2.
    Ghosts(Part),
}

impl Holds {
    const fn list(self) -> List {
        match self {
            Self::Nothing => List::Empty,
            Self::Vacancy(_) => List::Vacant,
            Self::Block { part, .. } => List::Blocks(part),
            Self::Ghost { part, .. } => List::Ghosts(part),
        }
    }

    pub(super) const fn key(self) -> Option<Key> {
        match self {
            Self::Nothing | Self::Vacancy(_) => None,
            Self::Block { key, .. } | Self::Ghost { key, .. } => Some(key),
        }
    }
}

/// An entry, by its number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At(NonZeroU32);

impl At {
    pub(super) fn new(index: usize) -> Option<Self> {
        NonZeroU32::new(u32::try_from(index).ok()?.checked_add(1)?).map(Self)
    }

    fn index(self) -> usize {
        // Of a slice, so that it fits.
        usize::try_from(self.0.get()).unwrap_or(usize::MAX).saturating_sub(1)
    }
}

/// One list.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    newest: Option<At>,
    oldest: Option<At>,
    /// Invariant: so many entries are in it.
    count: u32,
}

/// All lists.
#[derive(Debug)]
pub(super) struct Lists<E> {
    entries: E,
    empty: Ends,
    vacant: Ends,
    recent: Ends,
    frequent: Ends,
    recent_ghosts: Ends,
    frequent_ghosts: Ends,
}

impl<E: AsRef<[Entry]> + AsMut<[Entry]>> Lists<E> {
    /// Entries of which the first `cells` have a cell each, and the others nothing.
    pub(super) fn new(mut entries: E, cells: u32) -> Self {
        entries.as_mut().fill(Entry::EMPTY);
        let none = Ends::default();
        let mut lists = Self {
            entries,
            empty: none,
            vacant: none,
            recent: none,
            frequent: none,
            recent_ghosts: none,
            frequent_ghosts: none,
        };
        for (at, cell) in lists.all().zip(0..) {
            lists.link(at, if cell < cells { Holds::Vacancy(Cell(cell)) } else { Holds::Nothing });
        }
        lists
    }

    /// Every entry.
    pub(super) fn all(&self) -> impl Iterator<Item = At> + use<E> {
        (0..self.entries.as_ref().len()).map_while(At::new)
    }

    /// The entry with this name, of a block or of a ghost.
    pub(super) fn find(&self, key: Key) -> Option<At> {
        let mut at = self.get(self.home(key)?)?.first;
        while let Some(entry) = self.get(at?) {
            if entry.holds.key() == Some(key) {
                return at;
            }
            at = entry.next;
        }
        None
    }

    pub(super) fn holds(&self, at: At) -> Holds {
        self.get(at).map_or(Holds::Nothing, |entry| entry.holds)
    }

    pub(super) fn count(&self, list: List) -> u32 {
        self.ends(list).count
    }

    pub(super) fn oldest(&self, list: List) -> Option<At> {
        self.ends(list).oldest
    }

    #[cfg(test)]
    pub(super) fn newer(&self, at: At) -> Option<At> {
        self.get(at)?.newer
    }

    /// From now on an entry holds this, as the newest of the list that it belongs to.
    pub(super) fn put(&mut self, at: At, holds: Holds) {
        let (old, new) = (self.holds(at).key(), holds.key());
        self.unlink(at);
        if old != new {
            if let Some(key) = old {
                self.unname(at, key);
            }
            if let Some(key) = new {
                self.name(at, key);
            }
        }
        self.link(at, holds);
    }

    /// Marks a block, or takes its mark away, where it is in its list.
    pub(super) fn mark(&mut self, at: At, is_to_be: bool) {
        if let Some(Entry { holds: Holds::Block { is_marked, .. }, .. }) = self.get_mut(at) {
            *is_marked = is_to_be;
        }
    }

    fn link(&mut self, at: At, holds: Holds) {
        let ends = self.ends_mut(holds.list());
        let before = ends.newest.replace(at);
        ends.oldest = ends.oldest.or(Some(at));
        ends.count = ends.count.saturating_add(1);
        if let Some(entry) = self.get_mut(at) {
            (entry.holds, entry.older, entry.newer) = (holds, before, None);
        }
        if let Some(entry) = before.and_then(|before| self.get_mut(before)) {
            entry.newer = Some(at);
        }
    }

    fn unlink(&mut self, at: At) {
        let Some(&Entry { holds, newer, older, .. }) = self.get(at) else { return };
        match older.and_then(|older| self.get_mut(older)) {
            Some(entry) => entry.newer = newer,
            None => self.ends_mut(holds.list()).oldest = newer,
        }
        match newer.and_then(|newer| self.get_mut(newer)) {
            Some(entry) => entry.older = older,
            None => self.ends_mut(holds.list()).newest = older,
        }
        let ends = self.ends_mut(holds.list());
        ends.count = ends.count.saturating_sub(1);
    }

    fn name(&mut self, at: At, key: Key) {
        let Some(home) = self.home(key).and_then(|home| self.get_mut(home)) else { return };
        let next = home.first.replace(at);
        if let Some(entry) = self.get_mut(at) {
            entry.next = next;
        }
    }

    fn unname(&mut self, at: At, key: Key) {
        let next = self.get(at).and_then(|entry| entry.next);
        let Some(home) = self.home(key).and_then(|home| self.get_mut(home)) else { return };
        if home.first == Some(at) {
            home.first = next;
            return;
        }
        let mut before = home.first;
        while let Some(entry) = before.and_then(|before| self.get_mut(before)) {
            if entry.next == Some(at) {
                entry.next = next;
                return;
            }
            before = entry.next;
        }
    }

    /// Where the search for a name begins.
    fn home(&self, key: Key) -> Option<At> {
        At::new(key.home(self.entries.as_ref().len()))
    }

    fn get(&self, at: At) -> Option<&Entry> {
        self.entries.as_ref().get(at.index())
    }

    fn get_mut(&mut self, at: At) -> Option<&mut Entry> {
        self.entries.as_mut().get_mut(at.index())
    }

    const fn ends(&self, list: List) -> &Ends {
        match list {
            List::Empty => &self.empty,
            List::Vacant => &self.vacant,
            List::Blocks(Part::Recent) => &self.recent,
            List::Blocks(Part::Frequent) => &self.frequent,
            List::Ghosts(Part::Recent) => &self.recent_ghosts,
            List::Ghosts(Part::Frequent) => &self.frequent_ghosts,
        }
    }

    const fn ends_mut(&mut self, list: List) -> &mut Ends {
        match list {
            List::Empty => &mut self.empty,
            List::Vacant => &mut self.vacant,
            List::Blocks(Part::Recent) => &mut self.recent,
            List::Blocks(Part::Frequent) => &mut self.frequent,
            List::Ghosts(Part::Recent) => &mut self.recent_ghosts,
            List::Ghosts(Part::Frequent) => &mut self.frequent_ghosts,
        }
    }
}
