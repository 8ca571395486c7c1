//! What a register holds: who has it, since which change, and a little data of its owner.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::id::{Epoch, NodeId};
use crate::register::voters::Voters;

/// Bytes an owner may keep in a register; a record then fits a disk sector and a small datagram.
pub const PAYLOAD_MAX: usize = 64;

/// The owner's data: its format belongs to the machine that uses the register.
pub type Payload = Vec<u8, PAYLOAD_MAX>;

/// The value of a register.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Raised by one with every change.
    pub epoch: Epoch,
    /// Who may ask for a lease; `None` when nobody has the register.
    pub holder: Option<NodeId>,
    /// Who decides about the next change.
    pub voters: Voters,
    /// The owner's data.
    pub payload: Payload,
}
