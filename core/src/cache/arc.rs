//! The adaptive replacement cache: whose turn it is to leave (S4-02).
//!
//! As in figure 4 of N. Megiddo and D. S. Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST
//! 2003: T1 are the blocks that were read once, T2 those that were read again, B1 and B2 the ghosts of both,
//! p is the target. What is other here: a block can be forgotten, because it was written. So there may be a
//! vacant cell although there are ghosts, and nobody leaves then. The target is a whole number.

use super::index::Key;
use super::lists::{At, Entry, Holds, List, Part};
use super::residents::Residents;

const ONCE: List = List::Blocks(Part::Recent);
const AGAIN: List = List::Blocks(Part::Frequent);
const ONCE_GHOSTS: List = List::Ghosts(Part::Recent);
const AGAIN_GHOSTS: List = List::Ghosts(Part::Frequent);

impl<E: AsRef<[Entry]> + AsMut<[Entry]>> Residents<E> {
    /// Makes room for a block that is not in memory. Returns to which part it will belong, and who left.
    pub(super) fn make_room(&mut self, key: Key) -> (Part, Option<Key>) {
        let ghost = self.lists.find(key);
        match ghost.map(|at| (at, self.lists.holds(at))) {
            Some((at, Holds::Ghost { part, .. })) => {
                self.learn(part);
                self.lists.put(at, Holds::Nothing);
                (Part::Frequent, self.replace(part == Part::Frequent))
            }
            Some((_, Holds::Nothing | Holds::Vacancy(_) | Holds::Block { .. })) | None => {
                (Part::Recent, self.bound().or_else(|| self.replace(false)))
            }
        }
    }

    /// A ghost was wanted: the part that it left too early gets more room, and the quicker the fewer of its
    /// ghosts there are (cases II and III).
    fn learn(&mut self, part: Part) {
        let (once, again) = (self.lists.count(ONCE_GHOSTS), self.lists.count(AGAIN_GHOSTS));
        let ratio = |others: u32, own: u32| others.checked_div(own).unwrap_or(1).max(1);
        self.target = match part {
            Part::Recent => self.target.saturating_add(ratio(again, once)).min(self.cells),
            Part::Frequent => self.target.saturating_sub(ratio(once, again)),
        };
    }

    /// Forgets the oldest ghost where there would be too many names (case IV). Returns the block that left,
    /// when that was one in memory.
    fn bound(&mut self) -> Option<Key> {
        let count = |list| self.lists.count(list);
        let once = count(ONCE).saturating_add(count(ONCE_GHOSTS));
        let again = count(AGAIN).saturating_add(count(AGAIN_GHOSTS));
        if once == self.cells {
            return match self.lists.oldest(ONCE_GHOSTS) {
                Some(ghost) => {
                    self.lists.put(ghost, Holds::Nothing);
                    None
                }
                None => self.evict(self.lists.oldest(ONCE)?),
            };
        }
        if once.saturating_add(again) == self.cells.saturating_mul(2) {
            self.lists.put(self.lists.oldest(AGAIN_GHOSTS)?, Holds::Nothing);
        }
        None
    }

    /// Where no cell is vacant, the oldest block of one part leaves, and its ghost stays (REPLACE). `again`:
    /// the ghost that was wanted was of those that were read again.
    fn replace(&mut self, again: bool) -> Option<Key> {
        if self.lists.oldest(List::Vacant).is_some() {
            return None;
        }
        let once = self.lists.count(ONCE);
        let is_over = self.target < once || (again && once == self.target);
        let oldest = |list| self.lists.oldest(list);
        let at = oldest(ONCE).filter(|_| is_over).or(oldest(AGAIN)).or(oldest(ONCE))?;
        self.leave_ghost(at)
    }

    fn leave_ghost(&mut self, at: At) -> Option<Key> {
        let Holds::Block { key, cell, part, .. } = self.lists.holds(at) else { return None };
        // There is one: the names are bounded.
        let empty = self.lists.oldest(List::Empty)?;
        self.lists.put(at, Holds::Ghost { key, part });
        self.lists.put(empty, Holds::Vacancy(cell));
        Some(key)
    }
}
