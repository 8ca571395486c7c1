//! What is wanted of guests stands in the blocks of their group, one for each: it is written, replicated and
//! read as any other write is, so that whoever leads knows what was acknowledged, and no more (S3-01, S3-13).

use bulkhead_core::id::NodeId;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::volume::guest::{Failover, Guest};

use super::{Hosted, Wanted};
use crate::group::ledger::BLOCKS;
use crate::world::World;

impl World {
    /// Every pair gets so many guests.
    pub(crate) fn make_guests(&mut self, guests: u16) {
        self.guests = guests;
        for pair in 0..self.groups.len() {
            let first = (0..guests).map(|_| self.any_guest()).collect();
            let broken_until = vec![0; usize::from(guests)];
            self.groups[pair].wanted = Wanted { first, broken_until, ..Wanted::default() };
        }
        let nodes = self.nodes();
        for node in nodes {
            self.machines.get_mut(&node).into_iter().for_each(|one| one.hosted = Hosted::default());
            self.begin_asking(node);
        }
    }

    fn any_guest(&mut self) -> Guest {
        let failover = match self.chance.below(10) {
            0 => Failover::Stay,
            1..4 => Failover::Resume,
            _ => Failover::Restart,
        };
        let priority = self.chance.one_of(&[0, 50, 100, 100, 100, 200, 255]);
        let is_wanted = !self.chance.happens(100);
        Guest { is_wanted, failover, priority, home: None, apart: None, needs: None }
    }

    /// What a block of the catalogue says.
    fn said(&self, pair: usize, guest: Volume, block: u64) -> Guest {
        let wanted = &self.groups[pair].wanted;
        // A write's blocks say its number, and which block of them all it is.
        let change = wanted.changes.get(&(block >> 16)).filter(|_| block != 0);
        change.copied().unwrap_or(wanted.first[usize::from(guest.0) - 1])
    }

    /// What is wanted of a guest, as whoever leads reads it.
    pub(super) fn read_wanted(&self, node: NodeId, guest: Volume) -> Option<Guest> {
        let block = self.read_block(node, block_of(guest))?;
        Some(self.said(self.pair_of(node), guest, block))
    }

    /// What is wanted of a guest, by all that was acknowledged.
    pub(super) fn wanted(&self, pair: usize, guest: Volume) -> Guest {
        self.said(pair, guest, self.groups[pair].ledger.block(block_of(guest)))
    }

    /// Somebody wants something else of a guest, and says so to this node. If it does not lead, nothing
    /// follows.
    pub(super) fn want(&mut self, node: NodeId, guest: Volume, wanted: Guest) {
        let number = self.write_block(node, block_of(guest));
        self.whole_mut(node).wanted.changes.insert(number, wanted);
    }

    /// An operator wants something else of some guest.
    pub(super) fn change_a_want(&mut self, pair: usize) {
        let guest = Volume(u16::try_from(self.chance.between(1, u64::from(self.guests))).unwrap_or(1));
        let holders = self.holders(pair);
        let node = self.primaries(pair).first().copied().unwrap_or(holders[0]);
        let now = self.wanted(pair, guest);
        let wanted = match self.chance.below(3) {
            0 => Guest { is_wanted: !now.is_wanted, ..now },
            1 => Guest { is_wanted: true, ..self.any_guest() },
            _ => Guest { priority: self.chance.one_of(&[0, 100, 255]), ..now },
        };
        self.note(&|| format!("an operator wants of guest {} of pair {pair}: {wanted:?}", guest.0));
        self.oracle.reached.insert("wanted otherwise");
        self.want(node, guest, wanted);
    }
}

fn block_of(guest: Volume) -> u64 {
    BLOCKS + u64::from(guest.0) - 1
}
