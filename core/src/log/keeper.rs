//! Keeps the superblock: changes become durable in order, one write at a time, over the older copy (I1, V9,
//! V13, F8).
//!
//! What is wanted while a write is on its way goes with the next one. Nothing counts before its flush has
//! returned.

use super::ring::Position;
use super::superblock::{Superblock, Tail, Uncut, copy_of};
use super::{Block, End, Life, Seq};
use crate::id::Epoch;

/// What the shell tells the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Make this durable.
    Want(Change),
    /// The write that [`Action::Write`] asked for is durable.
    Written,
    /// It failed.
    WriteFailed,
}

/// What is to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// No older epoch is followed ([`Superblock::promise`]).
    Promise(Epoch),
    /// So much was durable in the log, and is in the backing store ([`Superblock::settle`]).
    Settle {
        /// In the log.
        durable: Seq,
        /// In the backing store.
        applied: Seq,
        /// Batches before this one are not needed ([`Superblock::trim`]).
        trim: Option<Tail>,
    },
    /// A run begins where the log ends, with this write ([`Superblock::begin`]), and no older epoch is
    /// followed.
    Begin {
        /// The end of the log.
        end: End,
        /// What the log has from there on is cut off.
        from: Seq,
        /// Promise it.
        promise: Epoch,
    },
    /// The log is made anew ([`Superblock::remake`]).
    Remake {
        /// Another one than any before.
        life: Life,
        /// Where it begins.
        at: Position,
        /// With which write.
        first: Seq,
    },
}

/// What the machine asks the shell to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Write this block of the log's space, and make it durable; then report [`Event::Written`].
    Write {
        /// Which block: 0 or 1.
        at: u64,
        /// What.
        block: &'a Block,
    },
    /// This is durable now.
    Kept(&'a Superblock),
    /// Nothing was cut off, and no run begins.
    Refused(Uncut),
}

/// The machine's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// All that was wanted is durable. Exit: something else is wanted.
    Resting,
    /// A write is on its way. Exit: it is durable, or it failed.
    Writing,
    /// Nobody knows what the disk holds. Final until the holder starts again.
    Failed,
}

/// The superblock of one log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keeper {
    mode: Mode,
    /// Known to be durable.
    kept: Superblock,
    /// On its way to the disk; `kept` while nothing is.
    written: Superblock,
    wanted: Superblock,
}

impl Keeper {
    /// Keeps the newest superblock that is on the disk, and durable.
    pub fn new(kept: Superblock) -> Self {
        Self { mode: Mode::Resting, written: kept.clone(), wanted: kept.clone(), kept }
    }

    /// The current mode.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// What is known to be durable.
    pub const fn kept(&self) -> &Superblock {
        &self.kept
    }

    /// Takes one event, and hands what is to be done to `out`, in order.
    pub fn step(&mut self, event: Event, out: &mut dyn FnMut(Action<'_>)) {
        match (self.mode, event) {
            (Mode::Resting | Mode::Writing, Event::Want(change)) => {
                if let Err(why) = self.want(change) {
                    out(Action::Refused(why));
                }
                self.write(out);
            }
            (Mode::Writing, Event::Written) => {
                self.kept = self.written.clone();
                self.mode = Mode::Resting;
                out(Action::Kept(&self.kept));
                self.write(out);
            }
            (Mode::Resting | Mode::Writing, Event::WriteFailed) => self.mode = Mode::Failed,
            (Mode::Resting, Event::Written)
            | (Mode::Failed, Event::Want(_) | Event::Written | Event::WriteFailed) => {}
        }
    }

    fn want(&mut self, change: Change) -> Result<(), Uncut> {
        match change {
            Change::Promise(epoch) => self.wanted.promise(epoch),
            Change::Settle { durable, applied, trim } => {
                self.wanted.settle(durable, applied);
                trim.into_iter().for_each(|tail| self.wanted.trim(tail));
            }
            Change::Begin { end, from, promise } => {
                self.wanted.begin(&end, from)?;
                self.wanted.promise(promise);
            }
            Change::Remake { life, at, first } => self.wanted.remake(life, at, first),
        }
        Ok(())
    }

    fn write(&mut self, out: &mut dyn FnMut(Action<'_>)) {
        if self.mode != Mode::Resting || self.wanted == self.kept {
            return;
        }
        self.wanted.seq = self.kept.seq.saturating_add(1);
        self.written = self.wanted.clone();
        self.mode = Mode::Writing;
        out(Action::Write { at: copy_of(self.written.seq), block: &self.written.encode() });
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::super::ring::{BLOCKS_MIN, Ring};
    use super::super::superblock::Identity;
    use super::super::{BLOCK_LEN, superblock};
    use super::*;
    use crate::id::{GroupId, NodeId, SiteId};

    const IDENTITY: Identity =
        Identity { site: SiteId([1; 16]), group: GroupId([2; 16]), node: NodeId(3), life: Life(4) };

    fn empty() -> Superblock {
        Superblock::new(IDENTITY, Ring::new(BLOCKS_MIN).unwrap(), Seq(1))
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Done {
        Write(u64, u64),
        Kept(u64, Epoch),
        Refused(Uncut),
    }

    fn step(keeper: &mut Keeper, event: Event) -> Vec<Done> {
        let mut done = Vec::new();
        keeper.step(event, &mut |action| {
            done.push(match action {
                Action::Write { at, block } => Done::Write(at, Superblock::parse(block).unwrap().seq),
                Action::Kept(superblock) => Done::Kept(superblock.seq, superblock.promised),
                Action::Refused(why) => Done::Refused(why),
            });
        });
        done
    }

    fn promise(epoch: u64) -> Event {
        Event::Want(Change::Promise(Epoch(epoch)))
    }

    #[test]
    fn changes_go_together_while_one_is_on_its_way_and_copies_take_turns() {
        let mut keeper = Keeper::new(empty());
        assert_eq!(step(&mut keeper, promise(3)), [Done::Write(0, 2)]);
        assert_eq!(step(&mut keeper, promise(4)), []);
        assert_eq!(step(&mut keeper, promise(5)), []);
        assert_eq!(step(&mut keeper, Event::Written), [Done::Kept(2, Epoch(3)), Done::Write(1, 3)]);
        assert_eq!(step(&mut keeper, Event::Written), [Done::Kept(3, Epoch(5))]);
        assert_eq!(step(&mut keeper, Event::Written), [], "told twice");
        assert_eq!(step(&mut keeper, promise(5)), [], "it is durable");
        assert_eq!((keeper.mode(), keeper.kept().seq), (Mode::Resting, 3));
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let mut keeper = Keeper::new(empty());
        let end = End { at: Position(5), next: Seq(4), chain: 0, epoch: Epoch(1), commit: Seq(2) };
        let done = step(&mut keeper, Event::Want(Change::Begin { end, from: Seq(2), promise: Epoch(0) }));
        assert_eq!(done, [Done::Refused(Uncut::Counts(Seq(2)))]);
        let begin = Change::Begin { end, from: Seq(4), promise: Epoch(7) };
        assert_eq!(step(&mut keeper, Event::Want(begin)), [Done::Write(0, 2)]);
        assert_eq!(step(&mut keeper, Event::Written), [Done::Kept(2, Epoch(7))], "with the promise");
    }

    /// V13: a promise that may not be durable is never counted on.
    #[test]
    fn a_failed_write_is_final() {
        let mut keeper = Keeper::new(empty());
        step(&mut keeper, promise(3));
        assert_eq!(step(&mut keeper, Event::WriteFailed), []);
        assert_eq!(step(&mut keeper, Event::Written), []);
        assert_eq!(step(&mut keeper, promise(4)), []);
        assert_eq!((keeper.mode(), keeper.kept().promised), (Mode::Failed, Epoch(0)));
    }

    /// F1, F8, V12: whenever the power goes, and whatever is left of the write on its way, what was kept is
    /// there, or the change that was on its way.
    #[test]
    fn a_power_cut_leaves_what_was_kept_or_what_was_on_its_way() {
        for cut in 0..40_usize {
            for torn in [0, 8, 512, BLOCK_LEN] {
                let mut disk = [[0; BLOCK_LEN], empty().encode()];
                let mut keeper = Keeper::new(empty());
                let mut under_way = None;
                for epoch in 1..=cut {
                    let mut write = |action: Action<'_>| match action {
                        Action::Write { at, block } => {
                            under_way = Some((usize::try_from(at).unwrap(), *block))
                        }
                        Action::Kept(_) | Action::Refused(_) => {}
                    };
                    keeper
                        .step(Event::Want(Change::Promise(Epoch(u64::try_from(epoch).unwrap()))), &mut write);
                    if epoch != cut {
                        let (at, block) = under_way.take().unwrap();
                        disk[at] = block;
                        keeper.step(Event::Written, &mut |_| {});
                    }
                }
                if let Some((at, block)) = under_way {
                    disk[at][..torn].copy_from_slice(&block[..torn]);
                }
                let found = superblock::newest(disk.map(|copy| Superblock::parse(&copy))).unwrap();
                let kept = keeper.kept();
                let is_next = torn == BLOCK_LEN && found.seq == kept.seq + 1;
                assert!(found == *kept || is_next, "cut {cut}, torn {torn}: {found:?}");
            }
        }
    }
}
