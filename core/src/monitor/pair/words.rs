//! What is said to an instance, what it says, and what it must be told at its start.

use core::time::Duration;

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::id::{Epoch, NodeId, Side};
use crate::register::message::{Fenced, Leased};
use crate::register::seat::Why;

/// Nodes that can take one role: two for each of 64 pairs, and some.
pub const CANDIDATES_MAX: usize = 132;

/// What the links, the register, the control domain and the clock tell the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The control domain started this instance.
    Started,
    /// The control domain stopped it.
    Stopped,
    /// A candidate can be heard, or not any more.
    Heard {
        /// Which.
        node: NodeId,
        /// Whether it is alive as far as the links can tell. A slow one is.
        alive: bool,
    },
    /// A candidate said what it does.
    Said {
        /// Which.
        node: NodeId,
        /// What it does.
        saying: Saying,
    },
    /// The register is held under this epoch.
    Held(Epoch),
    /// The register is not held any more.
    Lost(Why),
    /// A lease of another node on the register became known, or the wait for it began.
    Leased(Leased),
    /// A fencing device answered about this start of a node.
    FenceAnswered {
        /// About whom.
        fenced: Fenced,
        /// The power is off, and was read back as off.
        confirmed: bool,
    },
    /// The operator wants another candidate in this role: give it up, and let the other ask first.
    Yield,
    /// The one who had this role gave it up for this node.
    Promoted {
        /// Who.
        by: NodeId,
    },
    /// [`Pair::deadline`](super::Pair::deadline) has passed.
    Timeout,
}

/// What a candidate tells all others, with every heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Saying {
    /// What it does.
    pub role: Role,
    /// The epoch it acts under or has last heard of.
    pub epoch: Epoch,
}

/// What the machine asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Try to hold the register from now on.
    Hold,
    /// Do not hold it, and do not try.
    Follow,
    /// The role is another from now on, for this reason.
    Role {
        /// The new role.
        role: Role,
        /// Why.
        reason: Reason,
    },
    /// Have the instance of this node started (S1-20).
    Activate {
        /// Whose.
        node: NodeId,
    },
    /// Make certain that this start of a node cannot act any more.
    Fence(Fenced),
}

/// What an instance does, in the words of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// It does not run.
    Stopped,
    /// It runs and listens.
    Starting,
    /// It follows a master, or would.
    Slave,
    /// It knows of no master that is alive, and asks for the register.
    Contending,
    /// It holds the register.
    Master,
}

/// Why a role was taken (L-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The control domain started the instance.
    Started,
    /// The control domain stopped it.
    Stopped,
    /// A master is alive.
    MasterHeard {
        /// Which.
        master: NodeId,
    },
    /// Nobody said to be master for as long as one listens after a start.
    NoMasterHeard,
    /// The master is silent on every path.
    MasterSilent {
        /// Which.
        master: NodeId,
    },
    /// The master says that it is none any more.
    MasterResigned {
        /// Which.
        master: NodeId,
    },
    /// The voters gave the register.
    RegisterWon {
        /// Under which epoch.
        epoch: Epoch,
    },
    /// The lease ran out: too few voters answered in time.
    LeaseExpired,
    /// The register was given back.
    Released,
    /// Another node holds a newer epoch.
    Outranked,
    /// The operator moved the role here.
    Moved {
        /// Who gave it up.
        by: NodeId,
    },
}

/// A node that can take the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// In which compartment.
    pub side: Side,
}

/// Who asks first for the role of a master that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heir {
    /// The compartment across: the one that lost its master may have lost more (S1-17).
    Across,
    /// What is left of the same compartment: guests go no further than they must (S0-08).
    Near,
}

/// What the machine must know from its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// This node.
    pub me: NodeId,
    /// Who can take the role, most wanted first. One compartment's come before the other's where nothing else
    /// is wanted.
    pub candidates: Vec<Candidate, CANDIDATES_MAX>,
    /// Who of them asks first for the role of one that is gone.
    pub heir: Heir,
    /// How long to listen for a master after a start: at least one silence.
    pub listen: Duration,
    /// How long who gives the role away leaves it to the other before it asks again: as long as that one may
    /// have to wait for it.
    pub leave: Duration,
    /// How much later each next candidate asks: one round, so that the first is not disturbed.
    pub stagger: Duration,
    /// A lease that was not renewed for this long belongs to a holder that is dead to the voters too.
    pub silence: Duration,
    /// The length of a lease.
    pub lease: Duration,
    /// How often the start of a missing peer is asked for; `None`: never.
    pub activate: Option<Duration>,
    /// How long to wait for a fencing device; `None`: there is none, leases run out.
    pub fence: Option<Duration>,
}

impl Role {
    /// The operator's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Slave => "slave",
            Self::Contending => "contending",
            Self::Master => "master",
        }
    }
}
