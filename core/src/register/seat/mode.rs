//! The modes of a seat, and the way out of each (X14).

use super::super::ballot::Ballot;
use super::super::lease::Lease;
use super::super::message::Leased;
use super::super::proposer::Round;
use super::super::record::Record;
use crate::time::Instant;

/// The machine's mode.
#[expect(clippy::large_enum_variant, reason = "no heap to box into; a node has few seats")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Not wanted: asks now and then who holds it. Exit: it is wanted.
    Following {
        /// When to ask next.
        read_at: Instant,
    },
    /// Asks the voters for promises. Exit: a quorum answers, or refuses, or is late.
    Preparing(Round),
    /// The machine above decides. Exit: it has decided, or is late.
    Deciding(Round),
    /// Asks the voters to accept. Exit: a quorum answers, or refuses, or is late.
    Writing(Round),
    /// Waits before it tries again. Exit: the time has come, or it is not wanted any more.
    Pausing {
        /// Until when.
        until: Instant,
        /// For what.
        wait: Wait,
    },
    /// Holds the register. Exit: it is given back, or the lease ends.
    Holding(Holding),
}

/// What a seat that cannot have its register waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// The lease of the holder to end.
    Lease(Leased),
    /// Its turn, after another node's attempt.
    Turn,
    /// A majority of the voters to answer.
    Majority,
    /// The machine above, which left the register or did not decide in time.
    Verdict,
}

/// A register that is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holding {
    pub(super) lease: Lease,
    /// The attempt that chose `record`: repeated to voters that missed it.
    pub(super) ballot: Ballot,
    pub(super) record: Record,
    pub(super) renew_at: Instant,
    pub(super) change: Option<Round>,
}

impl Mode {
    /// The name used in [`EDGES`], in traces and in the operator's view.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Following { .. } => "following",
            Self::Preparing(_) => "preparing",
            Self::Deciding(_) => "deciding",
            Self::Writing(_) => "writing",
            Self::Pausing { .. } => "pausing",
            Self::Holding(_) => "holding",
        }
    }
}

/// Every allowed change of mode. A test walks all of them and finds no other.
pub const EDGES: &[(&str, &str)] = &[
    ("following", "preparing"),
    ("preparing", "deciding"),
    ("preparing", "following"),
    ("preparing", "pausing"),
    ("deciding", "writing"),
    ("deciding", "following"),
    ("deciding", "pausing"),
    ("writing", "holding"),
    ("writing", "pausing"),
    ("pausing", "preparing"),
    ("pausing", "following"),
    ("holding", "pausing"),
    ("holding", "following"),
];
