//! Alerts begin and end once each, in time, whatever comes and goes (X25).

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// How often the board is told.
const LOOK: Duration = Duration::from_millis(500);

const fn of(kind: Kind, subject: u32) -> Condition {
    Condition { kind, subject }
}

fn look<const N: usize>(board: &mut Board<N>, ms: u64, holds: &[Condition]) -> Vec<Change> {
    let mut changes = Vec::new();
    let tell = &mut |change| changes.push(change);
    board.look(Instant::from_millis(ms), holds.iter().copied(), tell);
    changes
}

#[test]
fn what_holds_for_long_enough_is_one_alert() {
    let behind = of(Kind::ReplicaBehind, 2);
    let mut board = Board::<4>::new();
    assert_eq!(look(&mut board, 0, &[behind]), []);
    assert_eq!(board.deadline(), Some(Instant::from_millis(5_000)));
    assert_eq!(look(&mut board, 4_999, &[behind]), []);
    assert_eq!(look(&mut board, 5_000, &[behind]), [Change::Raised(behind)]);
    assert_eq!(board.raised().collect::<Vec<_>>(), [(behind, Instant::from_millis(5_000))]);
    assert_eq!((look(&mut board, 9_000, &[behind]), board.deadline()), (Vec::new(), None));
    // It comes and goes, and is the same alert.
    assert_eq!(look(&mut board, 10_000, &[]), []);
    assert_eq!(board.deadline(), Some(Instant::from_millis(15_000)));
    assert_eq!(look(&mut board, 14_999, &[behind]), []);
    assert_eq!(look(&mut board, 15_000, &[]), []);
    assert_eq!(board.raised().count(), 1);
    assert_eq!(look(&mut board, 20_000, &[]), [Change::Cleared(behind)]);
    assert_eq!((look(&mut board, 30_000, &[]), board.raised().count()), (Vec::new(), 0));
}

#[test]
fn what_holds_for_a_moment_is_none() {
    let mut board = Board::<4>::new();
    let down = of(Kind::GuestsDown, 1);
    for ms in (0..60_000).step_by(9_000) {
        assert_eq!(look(&mut board, ms, &[down]), []);
        assert_eq!(look(&mut board, ms + 8_000, &[down]), []);
        assert_eq!(look(&mut board, ms + 8_500, &[]), []);
    }
    let full = of(Kind::StoreFull, 1);
    assert_eq!(look(&mut board, 70_000, &[full]), [Change::Raised(full)], "nothing is waited for here");
}

/// I11: what has no place is not half known.
#[test]
fn a_full_board_keeps_the_gravest() {
    let (one, two, three) = (of(Kind::Damaged, 1), of(Kind::NoVote, 1), of(Kind::NoVote, 2));
    let mut board = Board::<2>::new();
    assert_eq!(look(&mut board, 0, &[two, three]), [Change::Raised(two), Change::Raised(three)]);
    let changes = look(&mut board, 1, &[one, two, three]);
    assert_eq!(changes, [Change::Raised(one), Change::Cleared(three)]);
    let changes = look(&mut board, 9_000, &[two, three]);
    assert_eq!((changes.len(), board.raised().count()), (0, 2), "its place is kept until it is over");
    let changes = look(&mut board, 18_000, &[two, three]);
    assert_eq!(changes, [Change::Cleared(one), Change::Raised(three)]);
}

proptest! {
    /// X25: whatever comes and goes, raised and cleared follow each other, and both come in time.
    #[test]
    fn each_is_raised_once_and_cleared_once(
        steps in prop::collection::vec((0_usize..13, 0_u32..2, 1_u64..8), 1..60),
    ) {
        let mut board = Board::<32>::new();
        let mut holding = BTreeMap::<Condition, u64>::new();
        let mut absent = BTreeMap::<Condition, u64>::new();
        let mut raised = std::collections::BTreeSet::new();
        let mut ms = 0;
        for (kind, subject, looks) in steps {
            let toggled = of(Kind::ALL[kind], subject);
            // As it is from now on.
            if holding.remove(&toggled).is_some() {
                absent.insert(toggled, ms);
            } else {
                absent.remove(&toggled);
                holding.insert(toggled, ms);
            }
            for _ in 0..looks {
                let holds: Vec<Condition> = holding.keys().copied().collect();
                for change in look(&mut board, ms, &holds) {
                    match change {
                        Change::Raised(one) => prop_assert!(raised.insert(one), "raised twice: {one:?}"),
                        Change::Cleared(one) => prop_assert!(raised.remove(&one), "was none: {one:?}"),
                    }
                }
                let late = |since: &u64, one: &Condition| {
                    bound(one.kind, LOOK) < Duration::from_millis(ms - since)
                };
                for (one, since) in &holding {
                    prop_assert!(raised.contains(one) || !late(since, one), "not raised in time: {one:?}");
                }
                for (one, since) in &absent {
                    prop_assert!(!raised.contains(one) || !late(since, one), "not cleared in time: {one:?}");
                }
                ms += 500;
            }
        }
        prop_assert!(board.raised().map(|(one, _)| one).eq(raised));
    }
}
