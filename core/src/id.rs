//! The names of things: each its own type, so that one cannot stand in for another.

use serde::{Deserialize, Serialize};

/// A site: chosen at random when it is first configured, the same on all its nodes. A message or a disk of
/// another site is refused (F54, V40).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SiteId(pub [u8; 16]);

/// A node or a witness: anything that speaks on the control networks. Unique in the site; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u16);

/// Two compartments that guard each other (S1-21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PairId(pub u16);

impl PairId {
    /// Of a witness: it votes for every pair of its site (P1, X03). No pair of compartments has this number.
    pub const EVERY: Self = Self(u16::MAX);
    /// The highest number of a pair: each has two registers, and there are 2^16.
    pub const MAX: Self = Self((1 << 15) - 2);
}

/// One of the two compartments of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The first compartment; preferred where nothing else decides.
    A,
    /// The second compartment.
    B,
}

impl Side {
    /// The compartment across.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Volumes that share one write log, one primary and one set of secondaries. Chosen at random when the group
/// is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub [u8; 16]);

/// One register of a voter's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RegisterId(pub u16);

/// The generation of a register's record: every change raises it by one, nothing lowers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one. Saturates: 2^64 changes do not happen, and a saturated epoch is refused
    /// everywhere as no newer.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One of the two independent control networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Path {
    /// The first network.
    One,
    /// The second network.
    Two,
}

impl Path {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::One, Self::Two];

    /// Of two things, the one of this network.
    pub fn pick<T>(self, one: T, two: T) -> T {
        match self {
            Self::One => one,
            Self::Two => two,
        }
    }
}
