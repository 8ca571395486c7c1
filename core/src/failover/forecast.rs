//! What follows when a part of a site is lost, for the volumes of a pair and their guests: the rule of every
//! forecast (X09, S3-08). It repeats in one place what registers, mirror and table do, and decides nothing;
//! the simulator of a site loses the part, and compares.

use crate::bug::{Bug, is_planted};
use crate::id::NodeId;
use crate::volume::guest::Failover;

/// A voter in force on the register of the volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Which node.
    pub node: NodeId,
    /// It is heard, and its vote counts.
    pub votes: bool,
}

/// What follows for the volumes of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Who leads them goes on.
    GoesOn,
    /// Another holder leads them.
    Moves,
    /// Nobody does.
    Nobody(Why),
}

/// Why nobody leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody does now, either.
    NobodyLeads,
    /// Too few voters are left to renew the lease of who leads.
    Stops,
    /// Too few voters are left to let another one lead.
    TooFew,
    /// No other holder that is heard has every acknowledged write.
    OnlyThere,
}

/// What follows for a guest that is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on where it is.
    GoesOn,
    /// It begins on the node that leads then.
    Begins,
    /// It is down: an operator starts it.
    Stays,
    /// It is down: nobody leads its volumes.
    Down,
}

/// Whether those voters that are not lost are a majority of those in force.
pub fn decides(voters: impl IntoIterator<Item = Voter>, is_lost: impl Fn(NodeId) -> bool) -> bool {
    let (mut all, mut left) = (0_usize, 0_usize);
    for voter in voters {
        all = all.saturating_add(1);
        let is_lost = is_lost(voter.node) && !is_planted(Bug::ForecastCountsLost);
        left = left.saturating_add(usize::from(voter.votes && !is_lost));
    }
    all < left.saturating_mul(2)
}

/// What follows for the volumes that `primary` leads. `decides`: what [`decides`] says; `has_heir`: another
/// holder that is heard and not lost has every acknowledged write.
pub fn follows(
    primary: Option<NodeId>,
    is_lost: impl Fn(NodeId) -> bool,
    decides: bool,
    has_heir: bool,
) -> Follows {
    let Some(primary) = primary else { return Follows::Nobody(Why::NobodyLeads) };
    match (is_lost(primary), decides, has_heir) {
        (false, true, _) => Follows::GoesOn,
        (false, false, _) => Follows::Nobody(Why::Stops),
        (true, false, _) => Follows::Nobody(Why::TooFew),
        (true, true, false) => Follows::Nobody(Why::OnlyThere),
        (true, true, true) => Follows::Moves,
    }
}

/// What follows for a guest of these volumes that is to run.
pub const fn fate(follows: Follows, failover: Failover) -> Fate {
    match (follows, failover) {
        (Follows::Nobody(_), _) => Fate::Down,
        (Follows::GoesOn, _) => Fate::GoesOn,
        (Follows::Moves, Failover::Stay) => Fate::Stays,
        (Follows::Moves, Failover::Restart | Failover::Resume) => Fate::Begins,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X09: every row of the rule.
    #[test]
    fn what_follows_is_a_table() {
        let (a, b) = (NodeId(1), NodeId(2));
        for (primary, lost, decides, has_heir, expected) in [
            (None, a, true, true, Follows::Nobody(Why::NobodyLeads)),
            (Some(a), b, true, false, Follows::GoesOn),
            (Some(a), b, false, true, Follows::Nobody(Why::Stops)),
            (Some(a), a, true, true, Follows::Moves),
            (Some(a), a, true, false, Follows::Nobody(Why::OnlyThere)),
            (Some(a), a, false, true, Follows::Nobody(Why::TooFew)),
        ] {
            let found = follows(primary, |node| node == lost, decides, has_heir);
            assert_eq!(found, expected, "{primary:?} {lost:?} {decides} {has_heir}");
            for failover in [Failover::Stay, Failover::Restart, Failover::Resume] {
                let fate = fate(found, failover);
                assert_eq!(fate == Fate::Begins, found == Follows::Moves && failover != Failover::Stay);
                assert_eq!(fate == Fate::Down, matches!(found, Follows::Nobody(_)));
            }
        }
    }

    /// X04: who was agreed on as the one who decides alone is all voters; half of them decide nothing.
    #[test]
    fn those_that_are_left_decide() {
        let voters = |all: &[(u16, bool)]| -> std::vec::Vec<Voter> {
            all.iter().map(|(node, votes)| Voter { node: NodeId(*node), votes: *votes }).collect()
        };
        for (all, lost, expected) in [
            (&[(1, true), (2, true), (3, true)][..], 1, true),
            (&[(1, true), (2, true), (3, false)], 1, false),
            (&[(1, true)], 1, false),
            (&[(1, true)], 3, true),
            (&[(1, true), (2, true)], 2, false),
            (&[], 1, false),
        ] {
            assert_eq!(decides(voters(all), |node| node == NodeId(lost)), expected, "{all:?} without {lost}");
        }
    }
}
