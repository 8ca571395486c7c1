//! What a node must know at its start.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::budget::timers::Timers;
use crate::id::{NodeId, PairId, RegisterId, Side, SiteId};
use crate::link::key::{Mark, Nonce, SiteKey};
use crate::link::ring::{self, Pace, Place};
use crate::monitor::pair::{CANDIDATES_MAX, Candidate};
use crate::node::message::Office;
use crate::register::message::Start;
use crate::register::voters::{Life, NotASet, Set};
use crate::time::Drift;

/// Nodes of a site, its witnesses included.
pub const MEMBERS_MAX: usize = CANDIDATES_MAX;

/// The register of the designated controller of the site.
pub const CONTROLLER: RegisterId = RegisterId(0);

/// The register of the infra instances of `pair`.
pub const fn infra_register(pair: PairId) -> RegisterId {
    RegisterId(pair.0.wrapping_mul(2).wrapping_add(1))
}

/// The register of the mirror group of `pair`.
pub const fn storage_register(pair: PairId) -> RegisterId {
    RegisterId(pair.0.wrapping_mul(2).wrapping_add(2))
}

// It would be the controller's.
const _: () = assert!(PairId::MAX.0 <= (u16::MAX - 2) / 2, "the last pair has registers of its own");

/// One node of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name on the wire.
    pub node: NodeId,
    /// Which pair of compartments it belongs to; for a witness, the pair it votes for, or [`PairId::EVERY`].
    pub pair: PairId,
    /// Its compartment; `None` for a witness, which is in neither.
    pub side: Option<Side>,
    /// Whether it votes on the registers of its pair.
    pub votes: bool,
}

impl Member {
    /// Whether it belongs to `pair`, or votes for it.
    pub fn serves(&self, pair: PairId) -> bool {
        self.pair == pair || (self.pair == PairId::EVERY && self.side.is_none())
    }
}

/// Identifies what the configuration of all nodes must have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 16]);

/// A relay in the power feed of a node, switched by a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Whose power.
    pub node: NodeId,
    /// Who switches it. The same for all nodes of a pair (`fence::right` says why).
    pub witness: NodeId,
}

/// What a node must know at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The site.
    pub site: SiteId,
    /// This node.
    pub me: NodeId,
    /// Drawn at random for this start.
    pub nonce: Nonce,
    /// The secret of the site.
    pub key: SiteKey,
    /// All nodes, this one included; most wanted first.
    pub members: Vec<Member, MEMBERS_MAX>,
    /// The timers of the site.
    pub timers: Timers,
    /// The bound on drift.
    pub drift: Drift,
    /// The life of this voter's durable state.
    pub life: Life,
    /// Whether a holder that is silent can be fenced, or its lease runs out.
    pub fences: bool,
    /// Of what all nodes must have in common.
    pub digest: Digest,
    /// Whose power a witness switches.
    pub relays: Vec<Relay, MEMBERS_MAX>,
    /// Whether this node holds a copy of its pair's mirror group, and so may lead it.
    pub stores: bool,
}

/// Why settings make no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// The node itself is not in the list.
    #[error("this node is not among the members")]
    NotAMember,
    /// Two members have one name.
    #[error("node {0:?} is named twice")]
    Twice(NodeId),
    /// The voters of the pair are no set.
    #[error("the voters of the pair: {0}")]
    Voters(NotASet),
    /// More peers than this node was built for, or an office on a witness.
    #[error("this node was built for fewer peers, or for no office")]
    NoRoom,
}

impl Settings {
    /// This node among the members.
    ///
    /// # Errors
    ///
    /// [`Unsound`].
    pub fn check(&self) -> Result<Member, Unsound> {
        for (place, member) in self.members.iter().enumerate() {
            if self.members.iter().take(place).any(|other| other.node == member.node) {
                return Err(Unsound::Twice(member.node));
            }
        }
        let me = self.members.iter().find(|member| member.node == self.me).ok_or(Unsound::NotAMember)?;
        for pair in self.members.iter().map(|member| member.pair).filter(|pair| me.serves(*pair)) {
            self.founders(pair).map_err(Unsound::Voters)?;
        }
        Ok(*me)
    }

    /// Who votes on the registers of `pair` while there is no record.
    ///
    /// # Errors
    ///
    /// [`NotASet`] when nobody votes, or too many do.
    pub fn founders(&self, pair: PairId) -> Result<Set, NotASet> {
        Set::on(
            self.members
                .iter()
                .filter(|member| member.serves(pair) && member.votes)
                .map(|member| member.node),
        )
    }

    /// Who can run the infra instance of `pair`, or lead its mirror group.
    pub fn candidates(&self, pair: PairId) -> Vec<Candidate, CANDIDATES_MAX> {
        let of_pair = self.members.iter().filter(|member| member.pair == pair);
        of_pair.filter_map(|member| member.side.map(|side| Candidate { node: member.node, side })).collect()
    }

    /// Who can be the designated controller.
    pub fn everybody(&self) -> Vec<Candidate, CANDIDATES_MAX> {
        let of = |member: &Member| Some(Candidate { node: member.node, side: member.side? });
        self.members.iter().filter_map(of).collect()
    }

    /// How closely two nodes watch each other: the same from both ends. Neighbours in the ring do, and
    /// whoever votes and those it votes for (S3-01); calmly when one of the two is a witness (X03).
    pub fn pace(&self, one: &Member, other: &Member) -> Pace {
        let place = |member: &Member| Some(Place { node: member.node, side: member.side? });
        let roster: Vec<Place, MEMBERS_MAX> = self.members.iter().filter_map(place).collect();
        let is_one_pair = one.serves(other.pair) || other.serves(one.pair);
        let votes_for = is_one_pair && (one.votes || other.votes);
        let is_with_witness = one.side.is_none() || other.side.is_none();
        match (votes_for, is_with_witness) {
            (true, true) => Pace::Calm,
            (true, false) => Pace::Close,
            (false, _) if ring::watches(&roster, one.node, other.node) => Pace::Close,
            (false, _) => Pace::Far,
        }
    }

    /// The witness that switches the power of `node`.
    pub fn relay_of(&self, node: NodeId) -> Option<NodeId> {
        self.relays.iter().find(|relay| relay.node == node).map(|relay| relay.witness)
    }

    /// Whether `node` can hold `register`.
    pub fn is_candidate(&self, node: NodeId, register: RegisterId) -> bool {
        let member = self.members.iter().find(|member| member.node == node && member.side.is_some());
        let of_pair = |pair| [CONTROLLER, infra_register(pair), storage_register(pair)].contains(&register);
        member.is_some_and(|member| of_pair(member.pair))
    }

    /// What this node may do as the member `me`.
    pub fn offices(&self, me: &Member) -> impl Iterator<Item = Office> + use<> {
        let (stores, has_side) = (self.stores, me.side.is_some());
        Office::ALL.into_iter().filter(move |office| has_side && (stores || *office != Office::Storage))
    }

    /// This start of this node, as voters know it.
    pub const fn start(&self) -> Start {
        start_of(self.nonce.mark())
    }
}

/// The pair whose voters decide who is controller.
pub fn first_pair(members: &[Member]) -> PairId {
    members.iter().map(|member| member.pair).min().unwrap_or(PairId(0))
}

/// The start that a mark stands for.
pub const fn start_of(mark: Mark) -> Start {
    Start(u64::from_le_bytes(mark.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::key::NONCE_LEN;

    /// S3-01: in a small site everybody watches everybody; in a large one the work of a node is bounded, both
    /// ends agree, and voters are always close to those they vote for.
    #[test]
    fn watching_is_bounded_and_mutual() {
        for per_side in [1, 3, 4, 5, 20, 31] {
            let mut settings = Settings {
                site: SiteId([1; 16]),
                me: NodeId(1),
                nonce: Nonce([0; NONCE_LEN]),
                key: SiteKey::new([7; 32]),
                members: Vec::new(),
                timers: Timers::DEFAULT,
                drift: Drift::from_ppm(10_000).unwrap(),
                life: Life(1),
                fences: false,
                digest: Digest::default(),
                relays: Vec::new(),
                stores: false,
            };
            let pair = PairId(1);
            for number in 1..=per_side * 2 {
                let side = Some(if number % 2 == 1 { Side::A } else { Side::B });
                let member = Member { node: NodeId(number), pair, side, votes: number <= 2 };
                settings.members.push(member).unwrap();
            }
            settings.members.push(Member { node: NodeId(99), pair, side: None, votes: true }).unwrap();
            for one in &settings.members {
                let others = || settings.members.iter().filter(|other| other.node != one.node);
                assert!(others().all(|other| settings.pace(one, other) == settings.pace(other, one)));
                let close = others().filter(|other| settings.pace(one, other) != Pace::Far).count();
                let is_calm = |other: &&Member| settings.pace(one, other) == Pace::Calm;
                let calm = others().filter(is_calm).count();
                // The voters' own witness, and its whole pair.
                assert_eq!(calm, if one.side.is_none() { usize::from(per_side) * 2 } else { 1 });
                let all = usize::from(per_side) * 2;
                // Neighbours in the ring and across, and three voters.
                let most = if one.votes { all } else { all.min(ring::WATCHED_MAX + 3) };
                assert!(close <= most && (all <= 8 || 3 <= close), "{per_side}: {one:?} watches {close}");
                assert!(9 < all || close == all, "{per_side}: everybody in a small site");
            }
        }
    }
}
