//! Whom a node watches closely (S3-01): in a small site everybody; in a larger one its neighbours in the
//! ring of its own compartment, and two across. The others it hears at a slower [`Pace`], so that it knows
//! them too.
//!
//! Watching is mutual: a session has two ends. So [`watches`] gives the same answer from both sides, and the
//! work of a node is bounded however large the site is. Voters speak with whom they must, besides.

use heapless::Vec;

use crate::id::{NodeId, Side};

/// Most peers that one node watches.
pub const WATCHED_MAX: usize = 8;

/// Neighbours on each side in the ring.
const REACH: usize = 2;

/// How closely a peer is watched. Both ends must watch each other at one pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pace {
    /// As the timers of the site say.
    Close,
    /// All times are longer: a witness and a node that it votes for. Neither takes the other's place; leases
    /// and their answers pass between them anyhow, and each of those counts as a heartbeat.
    Calm,
    /// All times are longer: the peer is no neighbour, its neighbours will notice first.
    Far,
}

/// How much longer the times are between far peers: 64 nodes then cost little more than nine.
const FAR: u32 = 8;
/// And between a witness and its nodes: 128 of those are a quarter of a microcontroller's work.
const CALM: u32 = 4;

impl Pace {
    /// All of them, the shortest times first.
    pub const ALL: [Self; 3] = [Self::Close, Self::Calm, Self::Far];

    /// What a time of the site's timers is multiplied by.
    pub const fn times(self) -> u32 {
        match self {
            Self::Close => 1,
            Self::Calm => CALM,
            Self::Far => FAR,
        }
    }
}

/// A node of the site, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Who.
    pub node: NodeId,
    /// In which compartment.
    pub side: Side,
}

/// Whom `me` watches among `roster`, in its order. The roster may be in any order, but has each node once.
/// Empty when `me` is not in it.
pub fn watched(roster: &[Place], me: NodeId) -> Vec<NodeId, WATCHED_MAX> {
    let mut watched = Vec::new();
    for place in roster.iter().filter(|place| watches(roster, me, place.node)) {
        // Never full: two neighbours on each side and two across; or all of a small site.
        if watched.push(place.node).is_err() {
            break;
        }
    }
    watched
}

/// Whether `a` and `b` watch each other.
pub fn watches(roster: &[Place], a: NodeId, b: NodeId) -> bool {
    let (Some(a), Some(b)) = (find(roster, a), find(roster, b)) else { return false };
    if a == b {
        return false;
    }
    if roster.len() <= WATCHED_MAX.saturating_add(1) {
        return true;
    }
    let (mine, theirs) = (rank(roster, a), rank(roster, b));
    if a.side == b.side {
        let size = size(roster, a.side);
        return ahead(mine, theirs, size).min(ahead(theirs, mine, size)) <= REACH;
    }
    // Each of the smaller compartment, and as many of the larger one, have a partner and the one after it.
    let (a_size, b_size) = (size(roster, a.side), size(roster, b.side));
    let (small, large, large_size) = match (a_size, a.side) < (b_size, b.side) {
        true => (mine, theirs, b_size),
        false => (theirs, mine, a_size),
    };
    ahead(small, large, large_size) < 2
}

fn find(roster: &[Place], node: NodeId) -> Option<Place> {
    roster.iter().find(|place| place.node == node).copied()
}

/// How many of its compartment come before `place`.
fn rank(roster: &[Place], place: Place) -> usize {
    roster.iter().filter(|other| other.side == place.side && other.node < place.node).count()
}

fn size(roster: &[Place], side: Side) -> usize {
    roster.iter().filter(|place| place.side == side).count()
}

/// How many steps it is from place `from` to place `to` in a ring of `size`.
fn ahead(from: usize, to: usize, size: usize) -> usize {
    to.saturating_add(size).saturating_sub(from).checked_rem(size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn site(a: u16, b: u16) -> Vec<Place> {
        let place = |number, side| Place { node: NodeId(number), side };
        // The numbers of the two compartments alternate, then those of the larger one go on.
        let a = (0..a).map(|n| place(n * 2 + 1, Side::A));
        a.chain((0..b).map(|n| place(n * 2 + 2, Side::B))).collect()
    }

    /// S3-01: whatever the compartments' sizes, up to a cluster of 64 nodes.
    #[test]
    fn everybody_is_watched_by_two_others() {
        for (a, b) in (0..=64).flat_map(|a| (0..=64 - a).map(move |b| (a, b))) {
            let roster = site(a, b);
            let watched: Vec<_> = roster.iter().map(|place| watched(&roster, place.node)).collect();
            for (place, mine) in roster.iter().zip(&watched) {
                let by = watched.iter().filter(|others| others.contains(&place.node)).count();
                assert!(2.min(roster.len() - 1) <= by, "{a}+{b}: {place:?} is watched by {by}");
                let count = roster.iter().filter(|other| watches(&roster, place.node, other.node)).count();
                assert_eq!(mine.len(), count, "{a}+{b}: {place:?} would watch more than fits");
                assert!(!mine.contains(&place.node));
            }
        }
    }

    #[test]
    fn watching_is_mutual_and_the_order_of_the_roster_does_not_matter() {
        for (a, b) in [(3, 3), (5, 5), (6, 4), (1, 12), (32, 32), (12, 0)] {
            let roster = site(a, b);
            let reversed: Vec<_> = roster.iter().rev().copied().collect();
            for (one, other) in roster.iter().flat_map(|one| roster.iter().map(move |other| (one, other))) {
                let mutual = watches(&roster, one.node, other.node);
                assert_eq!(mutual, watches(&roster, other.node, one.node), "{a}+{b}: {one:?} {other:?}");
                assert_eq!(mutual, watches(&reversed, one.node, other.node));
            }
        }
    }

    /// Compartments that both have nodes watch each other, by two links at least.
    #[test]
    fn the_compartments_watch_each_other() {
        for (a, b) in (1..=63).flat_map(|a| (1..=64 - a).map(move |b| (a, b))).filter(|(a, b)| 2 < a + b) {
            let roster = site(a, b);
            let side = |side| roster.iter().filter(move |place| place.side == side);
            let across = side(Side::A).flat_map(|one| side(Side::B).map(move |other| (one.node, other.node)));
            assert!(2 <= across.filter(|(one, other)| watches(&roster, *one, *other)).count(), "{a}+{b}");
        }
    }

    #[test]
    fn a_story_of_ten() {
        let roster = site(5, 5);
        let numbers = |me| watched(&roster, NodeId(me)).iter().map(|node| node.0).collect::<Vec<_>>();
        assert_eq!(numbers(1), [3, 5, 7, 9, 2, 4]);
        assert_eq!(numbers(2), [1, 9, 4, 6, 8, 10]);
        assert!(numbers(99).is_empty());
    }
}
