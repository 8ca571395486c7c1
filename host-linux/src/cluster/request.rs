//! The words of the control socket: one JSON object on one line asks, one answers. docs/status.md documents
//! both.

use crate::failover::wanted::Wanted;
use crate::failure::Failure;
use crate::mirror::view::{Algorithm, Policy};
use crate::vmm::description::Lost;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How things are.
    Status,
    /// What happened.
    Events {
        /// Only what is newer than the event with this number.
        #[serde(default)]
        after: u64,
        /// Go on with what will happen.
        #[serde(default)]
        follow: bool,
    },
    /// Who is the designated controller (S2-03).
    ControllerShow,
    /// Make another node the designated controller.
    ControllerMove {
        /// Which.
        node: u16,
    },
    /// Take a node of the roster into the cluster (S2-08).
    NodeJoin {
        /// Which.
        node: u16,
    },
    /// Take a node out of the cluster; it stays in the roster.
    NodeLeave {
        /// Which.
        node: u16,
        /// The word that lets it pass where it is held (X21).
        #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
        word: Option<String>,
    },
    /// Start this node's infra instance.
    InfraStart,
    /// Stop this node's infra instance; its peer takes over.
    InfraStop,
    /// Read the configuration file again, and take what changed (S2-07).
    ConfigApply,
    /// Which nodes were fenced, and how that ended.
    FenceHistory,
    /// The cause of a resource's failures is gone: it is tried again.
    ResourceCleanup {
        /// Its name.
        name: String,
    },
    /// Which nodes can be fenced, how, and whether this node may have it done now.
    FenceStatus,
    /// Have a node's power cut, switched on, or read.
    FencePower {
        /// Whose.
        node: u16,
        /// What.
        want: PowerWord,
        /// Why, for the record.
        #[serde(default)]
        reason: Option<String>,
        /// An operator asks: it is held where it would take the last of something (X21). A cluster manager
        /// has decided that already.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        operator: bool,
        /// The word that lets it pass where it is held.
        #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
        word: Option<String>,
    },
    /// The volumes of this node's pair, and how their mirror group is.
    VolumeList,
    /// Make a volume.
    VolumeCreate {
        /// Its name.
        name: String,
        /// Its size, in blocks of 4096 bytes.
        blocks: u64,
    },
    /// Make a volume larger.
    VolumeResize {
        /// Its name.
        name: String,
        /// Its size, in blocks of 4096 bytes.
        blocks: u64,
    },
    /// Delete a volume, and all that is in it.
    VolumeDelete {
        /// Its name.
        name: String,
    },
    /// Give what a volume holds a name, which the next write to it takes away (S3-06).
    VolumeSeal {
        /// Its name.
        name: String,
        /// What it holds is called so: 32 hexadecimal digits, not all zero, drawn at random.
        seal: String,
    },
    /// What is wanted of the guest whose own volume this is (S3-19).
    GuestWanted {
        /// The volume's name.
        name: String,
        /// What.
        wanted: Wanted,
    },
    /// Have writes acknowledged so (S0-06).
    VolumeMode {
        /// Of which volume; `None`: of all that have no mode of their own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volume: Option<String>,
        /// How; `None`: the volume is to have no mode of its own any more.
        mode: Option<Policy>,
    },
    /// Which blocks stay in the read caches of the pair (S4-02).
    VolumeCache {
        /// Of which volume; `None`: of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volume: Option<String>,
        /// Which; `None`: those of the volume as those of the others.
        algorithm: Option<Algorithm>,
    },
    /// Acknowledge no more than so many bytes in one place only (X11); `None`: no bound.
    VolumeLimit {
        /// So many.
        bytes: Option<u64>,
    },
    /// Have a node be no secondary any more (S4-02, S4-12).
    VolumeSecondaryRemove {
        /// Which.
        node: u16,
        /// Also if nothing is mirrored then.
        #[serde(default)]
        yes: bool,
    },
    /// Have a node be a secondary again.
    VolumeSecondaryAdd {
        /// Which.
        node: u16,
    },
    /// Have this node lead with what its log has, whoever has more (X14).
    VolumeRecover {
        /// Also if its store has parts of two times.
        #[serde(default, rename = "evenPartFilled")]
        even_part_filled: bool,
    },
    /// Until when a guest of the pair's volumes may run on this node (I5).
    GuestLease {
        /// What the lease is called by whoever may give it back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<String>,
    },
    /// The guest of this lease stands still, and does not run by it any more.
    GuestReturn {
        /// What it was called.
        lease: String,
    },
    /// How the heartbeat of a guest of this node is (S3-03).
    GuestHeartbeat {
        /// Its name.
        guest: String,
        /// Milliseconds since it was lost; `None`: it is not.
        #[serde(default, rename = "lostMs", skip_serializing_if = "Option::is_none")]
        lost_ms: Option<u64>,
        /// What follows when it is.
        follows: Lost,
    },
    /// How a guest of this node comes to another one (X15).
    GuestRoad {
        /// The other one's name.
        node: String,
        /// It runs by this node's lease.
        leased: bool,
    },
    /// The keys of a connection by which it does.
    GuestKeys {
        /// How it began.
        hello: Vec<u8>,
        /// What was answered.
        welcome: Vec<u8>,
    },
    /// Search this node's store for damage now (V14).
    VolumeScrub,
    /// Have another holder lead the mirror group (S4-11).
    VolumePromote {
        /// Which node.
        node: u16,
    },
    /// The operator says that voters are lost for good: this node decides without them (X14).
    ForceQuorum {
        /// Which nodes.
        lost: Vec<u16>,
    },
    /// How far that is.
    ForceShow,
    /// The operator says that a node is off.
    FenceConfirm {
        /// Which.
        node: u16,
        /// How that is known, for the record.
        #[serde(default)]
        reason: Option<String>,
    },
}

impl Request {
    /// Whether a mirror group carries it out, and may still do so when nobody waits for the answer any more.
    pub const fn changes_volumes(&self) -> bool {
        matches!(
            self,
            Self::VolumeCreate { .. }
                | Self::VolumeResize { .. }
                | Self::VolumeDelete { .. }
                | Self::VolumeSeal { .. }
                | Self::GuestWanted { .. }
                | Self::VolumeMode { .. }
                | Self::VolumeCache { .. }
                | Self::VolumeLimit { .. }
                | Self::VolumeSecondaryRemove { .. }
                | Self::VolumeSecondaryAdd { .. }
        )
    }
}

/// What is wanted of the power of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerWord {
    /// Cut it.
    Off,
    /// Switch it on.
    On,
    /// Read it.
    Look,
}

/// An answer, as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer(pub Value);

impl Answer {
    /// It was done; `key` holds what was asked for.
    pub fn done(key: &str, value: Value) -> Self {
        Self(json!({ "ok": true, key: value }))
    }

    /// It was not done: why, and what to do. `kind` is a word of [`crate::failure::Exit::name`].
    pub fn refused(kind: &str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self(json!({ "ok": false, "error": { "kind": kind, "what": what.into(), "next": next.into() } }))
    }

    /// It was not done, or not known to be.
    pub fn failure(failure: &Failure) -> Self {
        let Failure { exit, what, left, next } = failure;
        let error = json!({ "kind": exit.name(), "what": what, "left": left, "next": next });
        Self(json!({ "ok": false, "error": error }))
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
