//! How a move went: what was copied, and what the guest stood still for (S0-11, X15).

use serde::{Deserialize, Serialize};

/// How a move went that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// How often its memory was copied, what was written again included.
    pub rounds: u32,
    /// Bytes that were sent.
    pub bytes: u64,
    /// For so long it stood still.
    pub downtime_ms: u64,
    /// For so long all of it took.
    pub total_ms: u64,
    /// For so many hundredths of the time it was held at last, because it wrote too fast.
    pub throttled: u8,
    /// Bytes of its disks among those that were sent.
    #[serde(default, skip_serializing_if = "is_none")]
    pub disk_bytes: u64,
    /// What it stood still for. Told, and not noted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stood: Option<Stood>,
}

/// For how long a guest that moves stands still for what, one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stood {
    /// The rest of its memory and its state are sent.
    pub rest_ms: u64,
    /// The other node has all of it, and it is whole.
    pub whole_ms: u64,
    /// The other node leads its volumes.
    pub lead_ms: u64,
    /// It runs there.
    pub begin_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_none(bytes: &u64) -> bool {
    *bytes == 0
}
