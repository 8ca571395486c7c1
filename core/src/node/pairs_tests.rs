//! S1-21, X03: one witness votes for every pair of its site, and each pair decides for itself.

use std::vec::Vec;

use super::roster::Match;
use super::settings::{Digest, Member, Settings, Unsound, infra_register};
use super::testing::{A, B, S, Site, W, settings};
use crate::id::{NodeId, PairId, Side};
use crate::link::ring::Pace;
use crate::register::voters::NotASet;

const C: NodeId = NodeId(4);
const D: NodeId = NodeId(5);
const SECOND: PairId = PairId(2);

/// A second pair, and the witness votes for both.
fn two_pairs(settings: &mut Settings) {
    for member in settings.members.iter_mut().filter(|member| member.node == W) {
        member.pair = PairId::EVERY;
    }
    for (node, side) in [(C, Side::A), (D, Side::B)] {
        let member = Member { node, pair: SECOND, side: Some(side), votes: true };
        settings.members.push(member).unwrap();
    }
}

fn site() -> Site {
    let mut site = Site::new(&[]);
    site.other = [A, B, W, C, D].into_iter().map(|node| (node, two_pairs as fn(&mut Settings))).collect();
    [A, B, W, C, D].into_iter().for_each(|node| site.start(node));
    site
}

#[test]
fn one_witness_votes_for_every_pair() {
    let mut site = site();
    site.pass(4 * S);
    assert_eq!(site.masters(), [A, C], "a master for each pair");
    let voter = site.nodes[&W].voter().unwrap();
    for pair in [PairId(0), SECOND] {
        assert!(voter.accepted(infra_register(pair)).is_some(), "{pair:?}");
    }
    for (node, pair) in [(B, PairId(0)), (D, SECOND)] {
        assert_eq!(site.nodes[&node].member().pair, pair);
        assert_eq!(site.nodes[&node].compared(W), Some(Match::Same));
    }
    // Each pair loses its master, one after the other, and what happens in one changes nothing in the other.
    site.nodes.remove(&C);
    site.pass(2 * S);
    assert_eq!(site.masters(), [A, D]);
    site.nodes.remove(&A);
    site.pass(2 * S);
    assert_eq!(site.masters(), [B, D]);
    // Without the witness nobody new acts (V18).
    site.pass(20 * S);
    site.nodes.remove(&W);
    site.start(A);
    site.start(C);
    site.pass(5 * S);
    assert_eq!(site.masters(), [B, D]);
}

/// F54: a node that was told of another witness for its pair founds nothing, and is told why.
#[test]
fn other_voters_of_any_pair_are_found_out() {
    let mut site = Site::new(&[]);
    site.other = [A, B, W, C].into_iter().map(|node| (node, two_pairs as fn(&mut Settings))).collect();
    let wrong: fn(&mut Settings) = |settings| {
        two_pairs(settings);
        settings.members.iter_mut().filter(|member| member.node == W).for_each(|one| one.pair = PairId(0));
        settings.digest = Digest([9; 16]);
    };
    site.other.insert(D, wrong);
    [A, B, W, C, D].into_iter().for_each(|node| site.start(node));
    site.pass(3 * S);
    assert_eq!(site.nodes[&W].compared(D), Some(Match::OtherVoters));
    assert_eq!(site.nodes[&D].compared(W), Some(Match::OtherVoters));
    assert_eq!(site.masters(), [], "nothing is founded while files differ");
    site.nodes.remove(&D);
    site.other.insert(D, two_pairs);
    site.start(D);
    site.pass(4 * S);
    let pairs: Vec<_> = site.masters().iter().map(|master| site.nodes[master].member().pair).collect();
    assert_eq!(pairs, [PairId(0), SECOND]);
}

#[test]
fn whoever_votes_for_every_pair_hears_all_of_them_calmly() {
    let mut settings = settings(W, 1, false);
    two_pairs(&mut settings);
    let voters = |pair| settings.founders(pair).map(|set| set.iter().map(|one| one.node).collect::<Vec<_>>());
    assert_eq!(voters(PairId(0)), Ok(Vec::from([A, B, W])));
    assert_eq!(voters(SECOND), Ok(Vec::from([W, C, D])));
    let witness = *settings.members.iter().find(|one| one.node == W).unwrap();
    for one in settings.members.iter().filter(|one| one.node != W) {
        assert_eq!(settings.pace(&witness, one), Pace::Calm);
        assert_eq!(settings.pace(one, &witness), Pace::Calm);
    }
    assert_eq!(settings.check().map(|me| me.node), Ok(W));
    // Too many for one of its pairs is too many.
    for node in 10..13 {
        let member = Member { node: NodeId(node), pair: SECOND, side: Some(Side::A), votes: true };
        settings.members.push(member).unwrap();
    }
    assert_eq!(settings.check(), Err(Unsound::Voters(NotASet::TooMany)));
}
