//! Who votes on a register, and what a majority of them is, also while the voters change.
//!
//! Voters are changed like everything else in the record, by compare-and-swap. While a change is under way
//! the record names both sets, and every step needs a majority of each: two majorities of different sets need
//! not meet, so each old one must meet the new record first (Rystsov 2018, section 2.3; Ongaro 2014, section
//! 4.3 calls it joint consensus).

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::bug::{Bug, is_planted};
use crate::id::NodeId;

/// Voters of one register: 3, or 5 in larger sites; 1 while a node may go on alone (X04).
pub const VOTERS_MAX: usize = 5;
/// Voters asked while one set replaces another.
pub const ASKED_MAX: usize = 2 * VOTERS_MAX;

/// The life of a voter's durable state, drawn when that state was created. A voter that lost its disk comes
/// back with another life: it does not know what it promised, so its votes do not count until the record
/// names its new life (F25, F27).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life(pub u32);

impl Life {
    /// In a set: this voter was not heard yet when the record was written. Its votes do not count until a
    /// record names its life: what nobody knows, nobody can tell from what was lost.
    pub const UNSEEN: Self = Self(0);
}

/// One voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Voter {
    /// Where it runs.
    pub node: NodeId,
    /// Which state it must have.
    pub life: Life,
}

/// A set of voters, in the order of their nodes, none twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Voter, VOTERS_MAX>")]
pub struct Set(Vec<Voter, VOTERS_MAX>);

/// Why voters are not a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASet {
    /// Nobody would decide.
    #[error("there must be at least one voter")]
    Empty,
    /// More than the record holds.
    #[error("there can be at most {VOTERS_MAX} voters")]
    TooMany,
    /// A node votes once.
    #[error("a node is named twice among the voters")]
    Twice,
}

impl TryFrom<Vec<Voter, VOTERS_MAX>> for Set {
    type Error = NotASet;

    fn try_from(voters: Vec<Voter, VOTERS_MAX>) -> Result<Self, NotASet> {
        Self::new(voters)
    }
}

impl Set {
    /// The voters in any order.
    ///
    /// # Errors
    ///
    /// [`NotASet`] when there are none, too many, or one twice.
    pub fn new(voters: impl IntoIterator<Item = Voter>) -> Result<Self, NotASet> {
        let mut set = Vec::new();
        for voter in voters {
            set.push(voter).map_err(|_| NotASet::TooMany)?;
        }
        set.sort_unstable();
        let twice = set.windows(2).any(|two| matches!(two, [a, b] if a.node == b.node));
        match (set.is_empty(), twice) {
            (true, _) => Err(NotASet::Empty),
            (_, true) => Err(NotASet::Twice),
            (false, false) => Ok(Self(set)),
        }
    }

    /// The voters on these nodes, whatever their lives.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn on(nodes: impl IntoIterator<Item = NodeId>) -> Result<Self, NotASet> {
        Self::new(nodes.into_iter().map(|node| Voter { node, life: Life::UNSEEN }))
    }

    /// The voters, in the order of their nodes.
    pub fn iter(&self) -> core::slice::Iter<'_, Voter> {
        self.0.iter()
    }

    /// Whether `node` is to vote.
    pub fn has(&self, node: NodeId) -> bool {
        self.0.iter().any(|voter| voter.node == node)
    }

    /// Whether more than half of the set is among `heard`.
    pub fn majority(&self, heard: &[Voter]) -> bool {
        let known = self.0.iter().filter(|voter| voter.life != Life::UNSEEN);
        let same = |voter: &Voter, one: &Voter| {
            voter == one || (is_planted(Bug::LifeIgnored) && voter.node == one.node)
        };
        let votes = known.filter(|voter| heard.iter().any(|one| same(voter, one))).count();
        let half = self.0.len() / 2;
        votes > half || (is_planted(Bug::HalfIsEnough) && votes == half.max(1))
    }

    /// The same set, in which voters among `heard` that were not seen before have the lives they were heard
    /// with.
    pub fn pinned(&self, heard: &[Voter]) -> Self {
        let first = |voter: &Voter, one: &Voter| voter.node == one.node && voter.life == Life::UNSEEN;
        let pin = |voter: &Voter| *heard.iter().find(|one| first(voter, one)).unwrap_or(voter);
        Self(self.0.iter().map(pin).collect())
    }
}

/// Who decides about a register.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Voters {
    /// The set from now on.
    pub current: Set,
    /// The set before, while it is not yet certain that all of its majorities have met the new one.
    pub previous: Option<Set>,
}

impl Voters {
    /// The same voters, in which those not seen before have the lives they were heard with.
    pub fn pinned(&self, heard: &[Voter]) -> Self {
        let previous = self.previous.as_ref().map(|set| set.pinned(heard));
        Self { current: self.current.pinned(heard), previous }
    }

    /// A set that replaces none.
    pub const fn settled(current: Set) -> Self {
        Self { current, previous: None }
    }

    /// Whether `heard` is a quorum: a majority of the set, and of the one before while there is one.
    pub fn quorum(&self, heard: &[Voter]) -> bool {
        let previous = self.previous.as_ref().filter(|_| !is_planted(Bug::OldVotersIgnored));
        self.current.majority(heard) && previous.is_none_or(|set| set.majority(heard))
    }

    /// Every voter to ask.
    pub fn all(&self) -> impl Iterator<Item = Voter> + '_ {
        let before = self.previous.iter().flat_map(Set::iter);
        let before = before.filter(|voter| !self.current.has(voter.node));
        self.current.iter().chain(before).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[u16]) -> Set {
        Set::on(nodes.iter().map(|node| NodeId(*node))).unwrap()
    }

    /// The same nodes, all seen.
    fn seen(nodes: &[u16]) -> Set {
        Set::new(heard(nodes)).unwrap()
    }

    fn heard(nodes: &[u16]) -> std::vec::Vec<Voter> {
        nodes.iter().map(|node| Voter { node: NodeId(*node), life: Life(7) }).collect()
    }

    #[test]
    fn a_majority_is_more_than_half() {
        for (voters, votes, enough) in [
            (&[1][..], &[][..], false),
            (&[1], &[1], true),
            (&[1, 2], &[1], false),
            (&[1, 2, 3], &[2], false),
            (&[1, 2, 3], &[2, 3], true),
            (&[1, 2, 3], &[2, 4, 5], false),
            (&[1, 2, 3, 4, 5], &[1, 2], false),
            (&[1, 2, 3, 4, 5], &[1, 2, 5], true),
        ] {
            assert_eq!(seen(voters).majority(&heard(votes)), enough, "{votes:?} of {voters:?}");
        }
    }

    #[test]
    fn while_voters_change_both_sets_must_agree() {
        let both = Voters { current: seen(&[1]), previous: Some(seen(&[1, 2, 3])) };
        assert!(!both.quorum(&heard(&[1])), "2 and 3 could still decide without 1");
        assert!(!both.quorum(&heard(&[2, 3])));
        assert!(both.quorum(&heard(&[1, 3])));
        assert_eq!(both.all().map(|voter| voter.node.0).collect::<std::vec::Vec<_>>(), [1, 2, 3]);
    }

    /// F25, F27: a voter whose state is new does not know what it promised.
    #[test]
    fn a_voter_with_another_life_does_not_count() {
        let pinned = set(&[1, 2, 3]).pinned(&heard(&[1, 2]));
        let reborn = [Voter { node: NodeId(2), life: Life(8) }, Voter { node: NodeId(3), life: Life(9) }];
        assert!(!pinned.majority(&reborn), "2 lost its disk, and 3 was never seen");
        assert!(!pinned.majority(&heard(&[1, 3])), "3 was never seen: nobody knows whether it lost its disk");
        assert!(pinned.majority(&heard(&[1, 2])));
        assert!(pinned.pinned(&reborn).majority(&heard(&[1, 2])), "a pinned life stays");
    }

    #[test]
    fn a_set_has_each_node_once() {
        assert_eq!(Set::on([]), Err(NotASet::Empty));
        assert_eq!(Set::on([NodeId(1), NodeId(1)]), Err(NotASet::Twice));
        assert_eq!(Set::on((1..=6).map(NodeId)), Err(NotASet::TooMany));
    }
}
