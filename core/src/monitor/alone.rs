//! Who is to vote, given who can be heard (X04).
//!
//! With three voters, one lost leaves a majority that the next loss destroys. So while there still is a
//! majority, it agrees at once on who may go on alone: the holder. When all are back, all vote again.

use crate::id::NodeId;
use crate::register::voters::{Set, VOTERS_MAX};

/// The set the holder `me` should have the register decided by. `founders` is the configured set, `current`
/// the one in force, `heard` says of a voter whether it can be reached now.
///
/// - all founders are heard: the founders;
/// - the set in force can lose one more of those heard: no change;
/// - an odd number of at least three is heard: those;
/// - else: `me` alone, if it votes.
pub fn voters(me: NodeId, founders: &Set, current: &Set, heard: impl Fn(NodeId) -> bool) -> Set {
    let heard = |node: NodeId| node == me || heard(node);
    let reachable = |set: &Set| set.iter().filter(|voter| heard(voter.node)).count();
    let size = |set: &Set| set.iter().count();
    if reachable(founders) == size(founders) {
        return founders.clone();
    }
    let majority = size(current) / 2;
    // `majority` is one less than what decides: reaching two more means one can still be lost.
    if majority.saturating_add(2) <= reachable(current) {
        return current.clone();
    }
    let rest: heapless::Vec<NodeId, VOTERS_MAX> =
        founders.iter().map(|voter| voter.node).filter(|node| heard(*node)).collect();
    let set = match rest.len() % 2 == 1 && 3 <= rest.len() {
        true => Set::on(rest.iter().copied()),
        // A holder that keeps no votes cannot decide anything alone.
        false if !founders.has(me) => return current.clone(),
        false => Set::on([me]),
    };
    // The nodes of a set are not named twice, and `me` is one.
    set.unwrap_or_else(|_| current.clone())
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn set(nodes: &[u16]) -> Set {
        Set::on(nodes.iter().map(|node| NodeId(*node))).unwrap()
    }

    #[test]
    fn the_table() {
        for (founders, current, heard, expected, why) in [
            (&[1, 2, 3][..], &[1, 2, 3][..], &[1, 2, 3][..], &[1, 2, 3][..], "nothing is lost"),
            (&[1, 2, 3], &[1, 2, 3], &[1, 2], &[1], "the witness is lost"),
            (&[1, 2, 3], &[1, 2, 3], &[1, 3], &[1], "the peer is lost"),
            (&[1, 2, 3], &[1], &[1, 2], &[1], "one of two is back"),
            (&[1, 2, 3], &[1], &[1, 2, 3], &[1, 2, 3], "all are back"),
            (&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5], &[1, 2, 3, 4], &[1, 2, 3, 4, 5], "one more can be lost"),
            (&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5], &[1, 2, 5], &[1, 2, 5], "three of five"),
            (&[1, 2, 3, 4, 5], &[1, 2, 5], &[1, 5], &[1], "two of these three"),
        ] {
            let voters = voters(NodeId(1), &set(founders), &set(current), |node| heard.contains(&node.0));
            assert_eq!(voters, set(expected), "{why}");
        }
    }

    /// A holder that does not vote leaves the decision to those who do.
    #[test]
    fn who_does_not_vote_does_not_decide_alone() {
        let all = set(&[1, 2, 3]);
        assert_eq!(voters(NodeId(9), &all, &all, |node| node != NodeId(3)), all);
    }

    /// Whatever is heard, the holder is among those who decide.
    #[test]
    fn the_holder_always_votes() {
        for bits in 0..32_u16 {
            let heard: Vec<_> = (1..=5).filter(|node| bits & 1 << (node - 1) != 0).collect();
            for current in [&[1, 2, 3, 4, 5][..], &[1, 3, 4], &[1]] {
                let voters =
                    voters(NodeId(1), &set(&[1, 2, 3, 4, 5]), &set(current), |n| heard.contains(&n.0));
                assert!(voters.has(NodeId(1)) && voters.iter().count() % 2 == 1, "{heard:?} {current:?}");
            }
        }
    }
}
