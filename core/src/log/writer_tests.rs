//! V1, V13, I1: writes count in order, when their flush has returned, and never after one that failed.

use std::vec::Vec;

use super::super::batch::{BlockIndex, Kind, Volume};
use super::super::ring::BLOCKS_MIN;
use super::super::superblock::Superblock;
use super::super::{Life, ring};
use super::*;
use crate::id::{GroupId, NodeId, SiteId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// A commit: where, how many blocks, its first write and how many.
    Commit(u64, u64, u64, usize),
    Durable(u64),
    Refused(Refusal),
}

fn log() -> Log {
    let identity =
        Identity { site: SiteId([1; 16]), group: GroupId([2; 16]), node: NodeId(3), life: Life(4) };
    let mut superblock = Superblock::new(identity, Ring::new(BLOCKS_MIN).unwrap(), Seq(1));
    let end = End { at: Position(0), next: Seq(1), chain: 0, epoch: Epoch(5), commit: Seq(0) };
    superblock.begin(&end, Seq(1)).unwrap();
    Log::new(&superblock, end, Marks::new(superblock.ring))
}

fn step(log: &mut Log, event: Event<'_>) -> Vec<Done> {
    let mut done = Vec::new();
    log.step(event, &mut |action| {
        done.push(match action {
            Action::Commit { at, blocks, writes: (first, count), .. } => {
                Done::Commit(at.0, blocks, first.0, count)
            }
            Action::Durable(seq) => Done::Durable(seq.0),
            Action::Refused(why) => Done::Refused(why),
        });
    });
    done
}

fn append(log: &mut Log, seq: u64, epoch: u64, blocks: u32) -> Vec<Done> {
    let write = Write::new(Volume(0), BlockIndex(0), blocks, Kind::Data).unwrap();
    let sums: Vec<_> = (0..blocks).map(Sum).collect();
    step(log, Event::Append { seq: Seq(seq), epoch: Epoch(epoch), write, sums: &sums })
}

fn committed(log: &mut Log, at: u64) -> Vec<Done> {
    step(log, Event::Committed(Position(at)))
}

#[test]
fn what_comes_while_the_disk_is_busy_goes_together() {
    let mut log = log();
    assert_eq!(append(&mut log, 1, 5, 1), [Done::Commit(0, 2, 1, 1)]);
    assert_eq!(append(&mut log, 2, 5, 1), [Done::Commit(2, 2, 2, 1)]);
    for seq in 3..=9 {
        assert_eq!(append(&mut log, seq, 5, 2), []);
    }
    assert_eq!(committed(&mut log, 0), [Done::Durable(1), Done::Commit(4, 15, 3, 7)]);
    // The later batch is on the disk first: it is of no use without the one before it.
    assert_eq!(committed(&mut log, 4), []);
    assert_eq!(committed(&mut log, 2), [Done::Durable(9)]);
    assert_eq!(committed(&mut log, 2), [], "told twice");
    assert_eq!((log.next(), log.durable(), log.free()), (Seq(10), Seq(9), BLOCKS_MIN - 19));
}

/// V13: fsync failure is final.
#[test]
fn after_a_failed_flush_nothing_counts() {
    let mut log = log();
    append(&mut log, 1, 5, 1);
    append(&mut log, 2, 5, 1);
    assert_eq!(step(&mut log, Event::CommitFailed), []);
    assert_eq!(committed(&mut log, 0), []);
    assert_eq!(append(&mut log, 3, 5, 1), [Done::Refused(Refusal::Failed)]);
    assert_eq!((log.mode(), log.durable()), (Mode::Failed, Seq(0)));
}

#[test]
fn writes_come_in_order_and_epochs_never_fall() {
    let mut log = log();
    assert_eq!(append(&mut log, 2, 5, 1), [Done::Refused(Refusal::OutOfOrder { next: Seq(1) })]);
    assert_eq!(append(&mut log, 1, 4, 1), [Done::Refused(Refusal::OldEpoch { newest: Epoch(5) })]);
    let write = Write::new(Volume(0), BlockIndex(0), 2, Kind::Data).unwrap();
    let short = Event::Append { seq: Seq(1), epoch: Epoch(5), write, sums: &[Sum(1)] };
    assert_eq!(step(&mut log, short), [Done::Refused(Refusal::Malformed)]);
    assert_eq!(append(&mut log, 1, 6, 1), [Done::Commit(0, 2, 1, 1)]);
    assert_eq!(append(&mut log, 2, 5, 1), [Done::Refused(Refusal::OldEpoch { newest: Epoch(6) })]);
    // A batch has one epoch: the next one waits until it is on its way.
    append(&mut log, 2, 6, 1);
    append(&mut log, 3, 6, 1);
    assert_eq!(append(&mut log, 4, 7, 1), [Done::Refused(Refusal::Busy)]);
    assert_eq!(committed(&mut log, 0), [Done::Durable(1), Done::Commit(4, 2, 3, 1)]);
    assert_eq!(append(&mut log, 4, 7, 1), []);
}

/// F12, V16: a full log refuses, and goes on when it is trimmed.
#[test]
fn a_full_log_waits_for_a_trim() {
    let mut log = log();
    assert_eq!(append(&mut log, 1, 5, 448), [Done::Commit(0, 449, 1, 1)]);
    assert_eq!(append(&mut log, 2, 5, 448), [Done::Commit(449, 449, 2, 1)]);
    committed(&mut log, 0);
    committed(&mut log, 449);
    assert_eq!(append(&mut log, 3, 5, 126), [Done::Refused(Refusal::Busy)]);
    assert_eq!(append(&mut log, 3, 5, 61), [Done::Commit(898, 62, 3, 1)]);
    assert_eq!(append(&mut log, 4, 5, 30), [Done::Commit(960, 31, 4, 1)]);
    assert_eq!(append(&mut log, 5, 5, 10), [], "it waits for the disk, and has its room");
    assert_eq!(append(&mut log, 6, 5, 23), [Done::Refused(Refusal::Busy)]);
    assert_eq!(append(&mut log, 6, 5, 22), []);
    assert_eq!(committed(&mut log, 898), [Done::Durable(3), Done::Commit(991, 33, 5, 2)]);
    assert_eq!(append(&mut log, 7, 5, 1), [Done::Refused(Refusal::Busy)]);
    let tail = Tail { at: ring::Position(449), first: Seq(2), chain: 0 };
    assert_eq!(step(&mut log, Event::Trimmed(tail)), []);
    assert_eq!((append(&mut log, 7, 5, 1), log.free()), (std::vec![], 449));
}

/// Marks are places where a trim may end, and a search begin.
#[test]
fn the_log_marks_where_its_batches_begin() {
    let mut log = log();
    for seq in 1..=3 {
        append(&mut log, seq, 5, 200);
        committed(&mut log, 201 * (seq - 1));
    }
    let mark = |log: &Log, seq| log.marks().before(Seq(seq)).map(|mark| (mark.at.0, mark.first.0));
    assert_eq!([mark(&log, 1), mark(&log, 2), mark(&log, 9)], [Some((0, 1)), Some((201, 2)), Some((402, 3))]);
    let tail = log.marks().before(Seq(2)).unwrap();
    step(&mut log, Event::Trimmed(tail));
    assert_eq!((mark(&log, 1), mark(&log, 2)), (None, Some((201, 2))));
    assert_eq!(log.end().at, Position(603));
}

#[test]
fn the_commit_point_never_passes_what_is_durable_here() {
    let mut log = log();
    append(&mut log, 1, 5, 1);
    step(&mut log, Event::CommitPoint(Seq(1)));
    assert_eq!(log.end.commit, Seq(0));
    committed(&mut log, 0);
    step(&mut log, Event::CommitPoint(Seq(9)));
    step(&mut log, Event::CommitPoint(Seq(0)));
    assert_eq!(log.end.commit, Seq(1));
}
