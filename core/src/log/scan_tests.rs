//! V5, F2 to F4, F14: a header is followed when everything in it fits, and a log of another kind is not.

use std::vec::Vec;

use super::super::batch::{BlockIndex, Content, Kind, Volume, Write};
use super::super::ring::{BLOCKS_MIN, Ring};
use super::super::superblock::{Identity, Tail};
use super::super::{End, Life};
use super::*;
use crate::id::{GroupId, NodeId, SiteId};

fn superblock() -> Superblock {
    let identity =
        Identity { site: SiteId([1; 16]), group: GroupId([2; 16]), node: NodeId(3), life: Life(4) };
    let mut superblock = Superblock::new(identity, Ring::new(BLOCKS_MIN).unwrap(), Seq(1));
    superblock.settle(Seq(20), Seq(20));
    superblock.trim(Tail { at: Position(40), first: Seq(21), chain: 5 });
    let end = End { at: Position(40), next: Seq(21), chain: 5, epoch: Epoch(1), commit: Seq(20) };
    superblock.begin(&end, Seq(21)).unwrap();
    superblock
}

/// The first batch of that log.
fn header() -> Header {
    let mut content = Content::default();
    let write = Write::new(Volume(0), BlockIndex(0), 3, Kind::Trimmed).unwrap();
    assert!(content.push(write, [].into_iter()));
    let (group, life, at) = (GroupId([2; 16]), Life(4), Position(40));
    let (epoch, first, durable, commit) = (Epoch(1), Seq(21), Seq(20), Seq(20));
    Header { group, life, chain: 5, at, run: 1, epoch, first, durable, commit, content }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Done {
    Read(u64),
    Check(u64),
    Found(u64),
    Ended(Outcome),
}

fn step(scan: &mut Scan, event: Event<'_>) -> Vec<Done> {
    let mut done = Vec::new();
    scan.step(event, &mut |action| {
        done.push(match action {
            Action::Read(at) => Done::Read(at.0),
            Action::Check(header) => Done::Check(header.first.0),
            Action::Found(header) => Done::Found(header.first.0),
            Action::Ended(outcome) => Done::Ended(outcome),
        });
    });
    done
}

#[test]
fn a_header_is_followed_when_everything_in_it_fits() {
    let follows = |header: Header| {
        let mut scan = Scan::new(superblock());
        assert_eq!(step(&mut scan, Event::Begin), [Done::Read(40)]);
        let next = step(&mut scan, Event::Block(Some(&header.encode())));
        assert!(next == [Done::Read(41)], "the next header, or the search behind this one: {next:?}");
        scan.mode() == Mode::Following
    };
    assert!(follows(header()));
    let others: [(&str, Header); 6] = [
        ("group", Header { group: GroupId([9; 16]), ..header() }),
        ("life", Header { life: Life(5), ..header() }),
        ("chain", Header { chain: 6, ..header() }),
        ("place", Header { at: Position(40 + BLOCKS_MIN), ..header() }),
        ("older run", Header { run: 0, ..header() }),
        ("first write", Header { first: Seq(22), ..header() }),
    ];
    for (what, header) in others {
        assert!(!follows(header), "another {what}");
    }
}

/// F8, V9: the newest copy of the superblock rotted, and the older one does not know of the run under which
/// the log went on. What was appended under it may have been acknowledged: it is damaged, and not shorter.
#[test]
fn a_batch_of_a_run_that_is_not_in_the_superblock_proves_that_a_superblock_is_lost() {
    let mut scan = Scan::new(superblock());
    step(&mut scan, Event::Begin);
    let newer = Header { run: 2, ..header() };
    let done = step(&mut scan, Event::Block(Some(&newer.encode())));
    let [Done::Ended(Outcome::Damaged(end))] = done[..] else { panic!("{done:?}") };
    assert_eq!((end.at, end.next), (Position(40), Seq(21)));
    for other in [Header { life: Life(5), ..newer.clone() }, Header { at: Position(41), ..newer }] {
        let mut scan = Scan::new(superblock());
        step(&mut scan, Event::Begin);
        let done = step(&mut scan, Event::Block(Some(&other.encode())));
        assert_eq!(done, [Done::Read(41)], "of another log, or from elsewhere: no proof");
    }
}

#[test]
fn the_last_batch_counts_when_its_payload_is_whole() {
    for (payload, found) in [(Payload::Whole, true), (Payload::Broken, false), (Payload::Unreadable, false)] {
        let mut scan = Scan::new(superblock());
        step(&mut scan, Event::Begin);
        step(&mut scan, Event::Block(Some(&header().encode())));
        assert_eq!(step(&mut scan, Event::Payload(Payload::Whole)), [Done::Read(41)], "nobody asked");
        assert_eq!(step(&mut scan, Event::Block(Some(&[0; 4096]))), [Done::Check(21)]);
        assert_eq!(step(&mut scan, Event::Begin), [Done::Check(21)], "the question is open");
        let mut done = step(&mut scan, Event::Payload(payload));
        assert_eq!(done.first() == Some(&Done::Found(21)), found);
        while let Some(Done::Read(_)) = done.last() {
            done = step(&mut scan, Event::Block(Some(&[7; 4096])));
        }
        let end = match (done.last(), payload) {
            (Some(Done::Ended(Outcome::Whole(end))), Payload::Whole | Payload::Broken) => *end,
            (Some(Done::Ended(Outcome::Damaged(end))), Payload::Unreadable) => *end,
            (other, _) => panic!("{payload:?}: {other:?}"),
        };
        assert_eq!((end.at, end.next), if found { (Position(41), Seq(22)) } else { (Position(40), Seq(21)) });
        assert_eq!(step(&mut scan, Event::Begin), []);
    }
}

/// An earlier start has read everything before its run.
#[test]
fn what_is_missing_before_the_newest_run_is_lost() {
    let mut superblock = superblock();
    let end = End { at: Position(50), next: Seq(25), chain: 5, epoch: Epoch(1), commit: Seq(20) };
    superblock.begin(&end, Seq(25)).unwrap();
    superblock.durable = Seq(20);
    let mut scan = Scan::new(superblock);
    step(&mut scan, Event::Begin);
    let ended = step(&mut scan, Event::Block(Some(&[0; 4096])));
    let [Done::Ended(Outcome::Damaged(found))] = ended.as_slice() else { panic!("{ended:?}") };
    assert_eq!((found.at, found.next), (Position(40), Seq(21)));
}

/// V5, F7: what the superblock calls durable was written behind the cut, under the numbers of what was cut
/// off. A log that lacks it is damaged, and not shorter.
#[test]
fn what_was_durable_behind_a_cut_is_lost_when_it_is_missing() {
    let mut first = header();
    for block in 1..3 {
        let write = Write::new(Volume(0), BlockIndex(block), 3, Kind::Trimmed).unwrap();
        assert!(first.content.push(write, [].into_iter()));
    }
    for (durable, is_lost) in [(21, false), (22, true), (23, true)] {
        let mut superblock = superblock();
        let end = End { at: Position(41), next: Seq(24), chain: 9, epoch: Epoch(1), commit: Seq(20) };
        superblock.begin(&end, Seq(22)).unwrap();
        superblock.settle(Seq(durable), Seq(20));
        let mut scan = Scan::new(superblock);
        step(&mut scan, Event::Begin);
        let mut done = step(&mut scan, Event::Block(Some(&first.encode())));
        while let [.., Done::Read(_)] = done[..] {
            done = step(&mut scan, Event::Block(Some(&[7; 4096])));
            if let [Done::Check(_)] = done[..] {
                done = step(&mut scan, Event::Payload(Payload::Whole));
            }
        }
        let outcome = match done.last() {
            Some(Done::Ended(outcome)) => *outcome,
            other => panic!("{durable}: {other:?}"),
        };
        let (Outcome::Whole(end) | Outcome::Damaged(end)) = outcome;
        assert_eq!((end.at, end.next), (Position(41), Seq(22)), "what was cut off does not count");
        assert_eq!(matches!(outcome, Outcome::Damaged(_)), is_lost, "up to {durable} was durable");
    }
}
