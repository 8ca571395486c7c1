//! What a register holds: who has it, since which change, and a little data of its owner.

use heapless::Vec;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::id::{Epoch, NodeId};
use crate::register::voters::Voters;

/// Bytes an owner may keep in a register; a record then fits a disk sector and a small datagram.
pub const PAYLOAD_MAX: usize = 64;

/// Bytes of them that also the smallest voter has room for, whoever votes and voted before.
pub const PAYLOAD_SURE: usize = 16;

/// The owner's data: its format belongs to the machine that uses the register.
pub type Payload = Vec<u8, PAYLOAD_MAX>;

/// The value of a register.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Raised by one with every change.
    pub epoch: Epoch,
    /// Who may ask for a lease; `None` when nobody has the register. Never node 0, which is nobody on the
    /// disk.
    #[serde(deserialize_with = "somebody")]
    pub holder: Option<NodeId>,
    /// Who decides about the next change.
    pub voters: Voters,
    /// The owner's data.
    pub payload: Payload,
}

/// Reads a holder. Node 0 is refused here, at the edge: a voter would promise one record and keep another.
fn somebody<'de, D: Deserializer<'de>>(from: D) -> Result<Option<NodeId>, D::Error> {
    let holder = Option::<NodeId>::deserialize(from)?;
    match holder {
        Some(NodeId(0)) => Err(D::Error::custom("node 0 holds nothing")),
        Some(_) | None => Ok(holder),
    }
}
