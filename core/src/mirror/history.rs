//! How far two logs are the same: by the epochs of their writes, without looking at one of them (V8).
//!
//! Two logs that have a write of one epoch and one number got it from one primary start, which gave each
//! number once, and fed both logs in order: they are the same up to it.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::id::Epoch;
use crate::log::Seq;

/// Epochs that one log tells of at most: the newest. What is older is not known to be the same.
pub const EPOCHS_MAX: usize = 32;

/// Which epoch each write of a log has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Told")]
pub struct History {
    /// The first write of each epoch. Invariant: epochs and writes strictly rise.
    starts: Vec<(Epoch, Seq), EPOCHS_MAX>,
    /// The write that is expected next.
    next: Seq,
}

/// A history as it is told, by somebody who may be wrong.
#[derive(Deserialize)]
struct Told {
    starts: Vec<(Epoch, Seq), EPOCHS_MAX>,
    next: Seq,
}

impl TryFrom<Told> for History {
    type Error = &'static str;

    fn try_from(told: Told) -> Result<Self, Self::Error> {
        let Told { starts, next } = told;
        let rises = starts.is_sorted_by(|one, two| one.0 < two.0 && one.1 < two.1);
        let is_sound = rises && next != Seq(0) && starts.last().is_none_or(|(_, first)| *first < next);
        is_sound.then_some(Self { starts, next }).ok_or("epochs and writes of a history rise")
    }
}

impl History {
    /// A log whose first write will be `next`.
    pub const fn new(next: Seq) -> Self {
        Self { starts: Vec::new(), next }
    }

    /// The write that is expected next.
    pub const fn next(&self) -> Seq {
        self.next
    }

    /// The newest epoch of a write.
    pub fn epoch(&self) -> Option<Epoch> {
        self.starts.last().map(|(epoch, _)| *epoch)
    }

    /// The next `writes` writes are of `epoch`, which is not below that of an earlier one.
    pub fn append(&mut self, epoch: Epoch, writes: u64) {
        if self.epoch() != Some(epoch) && writes != 0 {
            if self.starts.is_full() {
                self.starts.remove(0);
            }
            // There is room now.
            let _ = self.starts.push((epoch, self.next));
        }
        self.next = self.next.after(writes);
    }

    /// This write and all after it are cut off.
    pub fn cut(&mut self, from: Seq) {
        self.next = self.next.min(from);
        while self.starts.last().is_some_and(|(_, first)| self.next <= *first) {
            let _ = self.starts.pop();
        }
    }

    /// The epoch of a write, if it is known.
    pub fn epoch_of(&self, write: Seq) -> Option<Epoch> {
        self.of(write).map(|(epoch, _)| epoch)
    }

    /// The epoch of a write, and the first write that is known to have it.
    fn of(&self, write: Seq) -> Option<(Epoch, Seq)> {
        let is_known = write < self.next;
        let newest = self.starts.iter().rev().find(|(_, first)| *first <= write);
        newest.copied().filter(|_| is_known)
    }

    /// The last write up to which a log with this history and that of a primary are the same; up to `commit`
    /// all holders had the writes of this one. `None` when the primary's log contradicts that: nobody takes
    /// back what all had, whatever a primary says (F51).
    pub fn agreed(&self, commit: Seq, primary: &Self) -> Option<Seq> {
        // What all had is the same everywhere, and so is the state before the first write.
        let known = (commit < primary.next).then_some(commit);
        match self.next <= commit {
            // The log is damaged before that.
            true => known,
            false => self.common(primary).or(known).filter(|agreed| commit <= *agreed),
        }
    }

    /// The last write up to which both logs are the same; `None` when nothing is known to be.
    pub fn common(&self, other: &Self) -> Option<Seq> {
        let mut write = self.next.min(other.next).before();
        // Each round leaves one epoch of one of them behind.
        for _ in 0..=2 * EPOCHS_MAX {
            let ((mine, my_first), (theirs, their_first)) = (self.of(write)?, other.of(write)?);
            write = match mine.cmp(&theirs) {
                core::cmp::Ordering::Equal => return Some(write),
                core::cmp::Ordering::Greater => my_first.before(),
                core::cmp::Ordering::Less => their_first.before(),
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn history(first: u64, epochs: &[(u64, u64)]) -> History {
        let mut history = History::new(Seq(first));
        for (epoch, writes) in epochs {
            history.append(Epoch(*epoch), *writes);
        }
        history
    }

    #[test]
    fn logs_are_the_same_up_to_the_last_write_of_one_epoch() {
        let common = |a: &[_], b: &[_]| history(1, a).common(&history(1, b)).map(|seq| seq.0);
        assert_eq!(common(&[(1, 5)], &[(1, 5)]), Some(5));
        assert_eq!(common(&[(1, 5)], &[(1, 3)]), Some(3));
        assert_eq!(common(&[(1, 5), (3, 2)], &[(1, 7)]), Some(5));
        assert_eq!(common(&[(1, 5), (3, 9)], &[(1, 7), (2, 4)]), Some(5));
        assert_eq!(common(&[(1, 2), (4, 9)], &[(1, 7), (2, 4)]), Some(2));
        assert_eq!(common(&[(2, 5)], &[(1, 5)]), None, "nothing is the same");
        assert_eq!(common(&[], &[(1, 5)]), None);
        let later = history(4, &[(1, 3)]);
        assert_eq!(later.common(&history(1, &[(1, 5)])), Some(Seq(5)), "one of them forgot its first writes");
        assert_eq!(later.common(&history(1, &[(1, 2), (2, 9)])), None);
    }

    /// F51, I10: what all had is taken back by nobody.
    #[test]
    fn a_primary_that_contradicts_what_all_had_is_not_agreed_with() {
        let agreed = |mine: &[_], commit, theirs: &[_]| {
            history(1, mine).agreed(Seq(commit), &history(1, theirs)).map(|seq| seq.0)
        };
        assert_eq!(agreed(&[(1, 5)], 3, &[(1, 4), (2, 9)]), Some(4));
        assert_eq!(agreed(&[(1, 5)], 3, &[(1, 2), (2, 9)]), None, "it has another third write");
        assert_eq!(agreed(&[(1, 5)], 3, &[(1, 2)]), None, "it has no third write");
        assert_eq!(agreed(&[], 0, &[(1, 2)]), Some(0));
        assert_eq!(agreed(&[(1, 2)], 3, &[(1, 9)]), Some(3), "the log is damaged before the third write");
        assert_eq!(history(4, &[]).agreed(Seq(3), &history(1, &[(1, 9)])), Some(Seq(3)));
    }

    #[test]
    fn what_is_cut_off_is_forgotten() {
        let mut log = history(1, &[(1, 5), (3, 2)]);
        log.cut(Seq(6));
        assert_eq!((log.next(), log.epoch()), (Seq(6), Some(Epoch(1))));
        log.cut(Seq(9));
        assert_eq!(log, history(1, &[(1, 5)]));
        log.cut(Seq(1));
        assert_eq!(log, History::new(Seq(1)));
    }

    #[test]
    fn the_oldest_epochs_are_forgotten() {
        let many: std::vec::Vec<_> = (1..=40).map(|epoch| (epoch, 1)).collect();
        let log = history(1, &many);
        assert_eq!(log.common(&log), Some(Seq(40)));
        assert_eq!(log.common(&history(1, &many[..8])), None);
        assert_eq!(log.common(&history(1, &many[..9])), Some(Seq(9)));
    }

    proptest! {
        /// Against logs that name the epoch of every write, made as primaries make them: each epoch goes on
        /// from somebody's log.
        #[test]
        fn it_finds_what_a_comparison_of_all_writes_finds(
            steps in prop::collection::vec((0..3_usize, 0..3_usize, 0..20_u64, 1..5_u64), 1..30)
        ) {
            let mut logs = [(); 3].map(|()| (History::new(Seq(1)), std::vec::Vec::<u64>::new()));
            for (epoch, (from, to, cut, writes)) in (1..).zip(steps) {
                // The primary goes on with its own log, and another follows a part of it.
                let (history, log) = &mut logs[from];
                history.append(Epoch(epoch), writes);
                log.extend((0..writes).map(|_| epoch));
                let (source, entries) = logs[from].clone();
                if to != from {
                    let (history, log) = &mut logs[to];
                    let common = history.common(&source).map_or(0, |seq| seq.0);
                    history.cut(Seq(common + 1));
                    log.truncate(usize::try_from(common).unwrap());
                    for entry in entries.iter().skip(log.len()).take(usize::try_from(cut).unwrap()) {
                        history.append(Epoch(*entry), 1);
                        log.push(*entry);
                    }
                }
                for (one, mine) in &logs {
                    for (other, theirs) in &logs {
                        let same = mine.iter().zip(theirs).take_while(|(a, b)| a == b).count() as u64;
                        let found = one.common(other).map_or(0, |seq| seq.0);
                        prop_assert_eq!(found, same);
                    }
                }
            }
        }
    }
}
