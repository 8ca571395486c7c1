//! Two networks between all nodes: each directed link of each can lose, repeat, delay, reorder and bend
//! datagrams, or be cut (F31 to F36, F40).

use std::collections::BTreeMap;

use bulkhead_core::id::{NodeId, Path};

use crate::chance::Chance;

/// How one directed link of one network behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// Nothing gets through.
    pub is_cut: bool,
    /// Lost, in thousandths.
    pub loss: u64,
    /// Sent twice, in thousandths.
    pub repeated: u64,
    /// A bit is changed, in thousandths.
    pub bent: u64,
    /// Least delay, microseconds.
    pub delay: u64,
    /// Most that is added to it by chance: what overtakes is reordered.
    pub jitter: u64,
}

impl Quality {
    /// A good LAN.
    pub const GOOD: Self = Self { is_cut: false, loss: 0, repeated: 0, bent: 0, delay: 100, jitter: 200 };
}

/// All links.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Links that are not good.
    links: BTreeMap<(NodeId, NodeId, Path), Quality>,
}

/// What becomes of a datagram: when each copy arrives, and which bit of it is changed.
pub type Arrivals = [Option<(u64, Option<u64>)>; 2];

impl Network {
    /// How the link from `from` to `to` behaves.
    pub fn quality(&self, from: NodeId, to: NodeId, path: Path) -> Quality {
        self.links.get(&(from, to, path)).copied().unwrap_or(Quality::GOOD)
    }

    /// Changes how a link behaves.
    pub fn set(&mut self, from: NodeId, to: NodeId, path: Path, quality: Quality) {
        self.links.insert((from, to, path), quality);
    }

    /// All links are good.
    pub fn heal(&mut self) {
        self.links.clear();
    }

    /// Sends a datagram of `bits` bits at `now`.
    pub fn send(&self, now: u64, link: (NodeId, NodeId, Path), bits: u64, chance: &mut Chance) -> Arrivals {
        let quality = self.quality(link.0, link.1, link.2);
        let copy = |chance: &mut Chance| {
            if quality.is_cut || chance.happens(quality.loss) {
                return None;
            }
            let bent = chance.happens(quality.bent).then(|| chance.below(bits));
            Some((now + quality.delay + chance.below(quality.jitter + 1), bent))
        };
        let first = copy(chance);
        let second = if chance.happens(quality.repeated) { copy(chance) } else { None };
        [first, second]
    }
}
