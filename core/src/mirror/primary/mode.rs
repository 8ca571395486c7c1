//! The modes of a primary, and the way out of each (X14).

use crate::mirror::membership::{Holder, Membership};
use crate::time::Instant;

/// The machine's mode.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The in-sync set is what it should be, for now. Exit: a member is late, or another holder is near.
    Steady,
    /// Acknowledgements wait for a holder that lacks only the last writes, so that it can come in. Exit: it
    /// has them, or it is late.
    Gating {
        /// Who.
        holder: Holder,
        /// Until when.
        until: Instant,
    },
    /// The register is to say who is in sync. Exit: it does, or it is lost.
    Changing {
        /// The set that it is to say.
        proposed: Membership,
    },
    /// It acknowledges nothing any more. Final: the holder follows, or takes the register anew.
    Stopped,
}

impl Mode {
    /// The name used in [`EDGES`], in traces and in the operator's view.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Gating { .. } => "gating",
            Self::Changing { .. } => "changing",
            Self::Stopped => "stopped",
        }
    }
}

/// Every allowed change of mode. A test walks all of them and finds no other.
pub const EDGES: &[(&str, &str)] = &[
    ("steady", "gating"),
    ("steady", "changing"),
    ("steady", "stopped"),
    ("gating", "changing"),
    ("gating", "steady"),
    ("gating", "stopped"),
    ("changing", "steady"),
    ("changing", "stopped"),
];
