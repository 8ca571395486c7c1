//! Block 0 of the catalogue: what an operator wants of the whole group, kept like any write, so that whoever
//! leads next knows of it (S0-06, S4-02, S4-12, X11; F2, F4, V41).
//!
//! A record, 4096 bytes, little-endian; a block of zeroes says what [`Group::default`] says:
//!
//! |   at | len | field    | unit, values                                                             |
//! |-----:|----:|----------|--------------------------------------------------------------------------|
//! |    0 |   8 | magic    | "BHGROUP", version: 2 with another read cache than 0, else 1             |
//! |    8 |   1 | policy   | 1 write-through, 2 write-back: of volumes without one of their own       |
//! |    9 |   1 | count    | of nodes that were taken out, 0..=8                                      |
//! |   10 |   1 | cache    | of reads: 0 ARC, 1 LRU, 2 the clock, 3 none; version 1 has none of them  |
//! |   11 |   5 | reserved | zero                                                                     |
//! |   16 |   8 | change   | of the catalogue, by which the record became so: +1 a change, never 0    |
//! |   24 |   8 | at risk  | bytes that may be acknowledged in one place only; 0: no bound            |
//! |   32 |  16 | removed  | nodes that are no secondaries, two bytes each, rising; the rest zero     |
//! |   48 |4044 | reserved | zero                                                                     |
//! | 4092 |   4 | crc      | CRC-32C of bytes 0..4092                                                 |

use core::num::NonZeroU64;

use heapless::Vec;

use super::record::{Fault, of_version, with_crc};
use crate::bytes::{Reader, Writer};
use crate::cache::residents::Algorithm;
use crate::id::NodeId;
use crate::log::{BLOCK_LEN, Block};
use crate::mirror::membership::Policy;

const MAGIC: [u8; 7] = *b"BHGROUP";
/// With the read cache as it is until somebody asks for something else.
const PLAIN: u8 = 1;
/// With another one.
const VERSION: u8 = 2;

/// Nodes that can be taken out at once. A group has fewer holders; nodes that left the site may be among
/// them.
pub const REMOVED_MAX: usize = 8;

/// What an operator wants of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// When writes of volumes without a policy of their own are acknowledged.
    pub policy: Policy,
    /// Bytes that may be acknowledged while they are in one place only.
    pub at_risk_max: Option<NonZeroU64>,
    /// By which algorithm blocks stay in the read cache of a node that has memory for one (S4-02); `None`:
    /// none does.
    pub cache: Option<Algorithm>,
    /// Orders the changes of the catalogue; 0: nothing was ever asked for.
    pub change: u64,
    /// Invariant: strictly rising.
    removed: Vec<NodeId, REMOVED_MAX>,
}

impl Default for Group {
    /// What is so until somebody asks for something else.
    fn default() -> Self {
        let cache = Some(Algorithm::default());
        Self { policy: Policy::Back, at_risk_max: None, cache, change: 0, removed: Vec::new() }
    }
}

impl Group {
    /// The nodes that are no secondaries because an operator took them out.
    pub fn removed(&self) -> &[NodeId] {
        &self.removed
    }

    /// With another node taken out; `None`: there is no room for one more.
    #[must_use]
    pub fn without(&self, node: NodeId) -> Option<Self> {
        let mut next = self.clone();
        if let Err(at) = next.removed.binary_search(&node) {
            next.removed.insert(at, node).ok()?;
        }
        Some(next)
    }

    /// With a node that may be a secondary again.
    #[must_use]
    pub fn with(&self, node: NodeId) -> Self {
        let mut next = self.clone();
        next.removed.retain(|one| *one != node);
        next
    }

    /// The block to write.
    pub fn encode(&self) -> Block {
        let mut out = Writer::<BLOCK_LEN>::default();
        out.put(&MAGIC);
        let cache = match self.cache {
            Some(Algorithm::Arc) => 0,
            Some(Algorithm::Lru) => 1,
            Some(Algorithm::Clock) => 2,
            None => 3,
        };
        out.u8(if cache == 0 { PLAIN } else { VERSION });
        out.u8(match self.policy {
            Policy::Through => 1,
            Policy::Back => 2,
        });
        // At most REMOVED_MAX.
        out.u8(u8::try_from(self.removed.len()).unwrap_or(u8::MAX));
        out.u8(cache);
        out.reserved(5);
        out.u64(self.change);
        out.u64(self.at_risk_max.map_or(0, NonZeroU64::get));
        self.removed.iter().for_each(|node| out.u16(node.0));
        with_crc(out)
    }

    /// Reads block 0 of the catalogue; `None`: nothing was ever asked for.
    ///
    /// # Errors
    ///
    /// [`Fault`]. What does not encode to the same bytes again is damaged: one record, one form.
    pub fn decode(bytes: &Block) -> Result<Option<Self>, Fault> {
        let Some(mut fields) = of_version(bytes, MAGIC, VERSION)? else { return Ok(None) };
        let group = read(&mut fields).filter(|group| group.change != 0 && group.encode() == *bytes);
        group.map(Some).ok_or(Fault::Damaged)
    }
}

fn read(fields: &mut Reader<'_>) -> Option<Group> {
    let policy = match fields.u8()? {
        1 => Policy::Through,
        2 => Policy::Back,
        0 | 3.. => return None,
    };
    let count = fields.u8()?;
    let cache = match fields.u8()? {
        0 => Some(Algorithm::Arc),
        1 => Some(Algorithm::Lru),
        2 => Some(Algorithm::Clock),
        3 => None,
        4.. => return None,
    };
    fields.reserved::<5>()?.then_some(())?;
    let (change, at_risk_max) = (fields.u64()?, NonZeroU64::new(fields.u64()?));
    let mut removed = Vec::<NodeId, REMOVED_MAX>::new();
    for _ in 0..count {
        let node = NodeId(fields.u16()?);
        removed.last().is_none_or(|last| *last < node).then_some(())?;
        removed.push(node).ok()?;
    }
    Some(Group { policy, at_risk_max, cache, change, removed })
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
