//! How many pairs, nodes and witnesses a site has, and what they are called.

use bulkhead_core::id::{NodeId, PairId, Side};
use bulkhead_core::node::settings::Member;

/// Holders of one mirror group at most.
const HOLDERS_MAX: usize = 3;

/// Who votes beside the two compartments of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witnesses {
    /// Each pair has its own.
    Each,
    /// One votes for all.
    Shared,
}

/// A site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its pairs.
    pub pairs: u16,
    /// Nodes of each pair in each compartment.
    pub per_side: u16,
    /// Its witnesses.
    pub witnesses: Witnesses,
}

impl Shape {
    /// All nodes, pair after pair, then the witnesses. The first node of each compartment of a pair votes.
    pub fn members(&self) -> Vec<Member> {
        let mut members: Vec<_> = (0..self.pairs).flat_map(|pair| self.nodes(pair)).collect();
        let first = 2 * self.per_side * self.pairs + 1;
        let witness = |number, pair| Member { node: NodeId(first + number), pair, side: None, votes: true };
        match self.witnesses {
            Witnesses::Each => members.extend((0..self.pairs).map(|pair| witness(pair, PairId(pair)))),
            Witnesses::Shared => members.push(witness(0, PairId::EVERY)),
        }
        members
    }

    /// Who holds the mirror group of a pair.
    pub fn holders(&self, pair: u16) -> Vec<NodeId> {
        self.nodes(pair).into_iter().map(|member| member.node).take(HOLDERS_MAX).collect()
    }

    /// A node of compartment A and one of B, by turns.
    fn nodes(&self, pair: u16) -> Vec<Member> {
        let first = 2 * self.per_side * pair;
        let place = |place: u16, base: u16, side| Member {
            node: NodeId(first + base + 2 * place),
            pair: PairId(pair),
            side: Some(side),
            votes: place == 0,
        };
        (0..self.per_side).flat_map(|at| [place(at, 1, Side::A), place(at, 2, Side::B)]).collect()
    }
}
