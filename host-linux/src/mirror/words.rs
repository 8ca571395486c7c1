//! What the agent's loop and the operator say to a mirror group, and what it asks of the loop.

use crate::replication::service::Replication;
use crate::replication::tally::End;
use crate::replication::words::{Frame, Stream};
use bulkhead_core::cache::residents::Algorithm;
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::batch::Volume;
use bulkhead_core::mirror::membership::Policy;
use bulkhead_core::register::record::Payload;
use bulkhead_core::register::seat::Verdict;
use bulkhead_core::time::Instant;
use bulkhead_core::volume::guest::{Guest, Needs};
use bulkhead_core::volume::record::Seal;
use std::num::NonZeroU64;

/// What the loop tells the group about its register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterNews {
    /// The register could be taken, and its newest record says this; `None`: nobody ever had it. Answered by
    /// [`RegisterWish::Decided`].
    Decide(Option<Payload>),
    /// It is held, or its record changed while it is held.
    Held {
        /// Of the record.
        epoch: Epoch,
        /// What it says.
        payload: Payload,
        /// The end of the lease.
        until: Instant,
    },
    /// The lease was renewed.
    Leased {
        /// Its end.
        until: Instant,
    },
    /// It is not held any more.
    Lost,
}

/// What the group asks of the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterWish {
    /// The answer to [`RegisterNews::Decide`].
    Decided(Verdict),
    /// Have the record say this.
    Rewrite(Payload),
    /// Give the register back.
    Release,
    /// This holder's log failed: give the register back, and do not ask for it again.
    Failed,
}

/// What an operator can ask of a group. Only its primary can carry it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Make a volume.
    Create {
        /// Its name, which no other volume of the group has.
        name: String,
        /// Of 4096 bytes.
        blocks: u64,
    },
    /// Make a volume larger.
    Resize {
        /// Which.
        volume: Volume,
        /// Of 4096 bytes; more than it has.
        blocks: u64,
    },
    /// Delete a volume, and all that is in it.
    Delete {
        /// Which.
        volume: Volume,
    },
    /// When writes are acknowledged, of all volumes that have no policy of their own (S0-06).
    Want(Policy),
    /// When writes of a volume are; `None`: as those of all.
    WantOf {
        /// Which.
        volume: Volume,
        /// When.
        policy: Option<Policy>,
    },
    /// By which algorithm blocks stay in the read caches; `None`: none does (S4-02).
    Cache(Option<Algorithm>),
    /// Whether what is read of a volume stays there.
    CacheOf {
        /// Which.
        volume: Volume,
        /// Whether.
        is_cached: bool,
    },
    /// A volume is to have this seal until it is written to (S3-06).
    Seal {
        /// Which.
        volume: Volume,
        /// What it holds is called so.
        seal: Seal,
    },
    /// What is wanted of the guest whose own volume it is (S3-19).
    Guest {
        /// Which.
        volume: Volume,
        /// What.
        guest: Guest,
    },
    /// What the guest takes of its node whose own volume it is (S3-15).
    Count {
        /// Which.
        volume: Volume,
        /// What.
        needs: Needs,
    },
    /// A holder is to be no secondary any more (S4-02, S4-12).
    Dismiss(NodeId),
    /// A holder may be a secondary again.
    Admit(NodeId),
    /// So many bytes may be at risk; `None`: any number (X11).
    Bound(Option<NonZeroU64>),
}

/// The streams to the other holders.
pub trait Streams: Send + Sync {
    /// Sends frames, in order, without waiting. What does not arrive ends the stream.
    fn send(&self, to: Stream, frames: Vec<Frame>);

    /// Bytes that were sent and are still here.
    fn queued(&self, to: Stream) -> usize;

    /// Ends a stream, for this reason.
    fn end(&self, to: Stream, why: End);

    /// Whether a stream is encrypted; `None` of one that is over.
    fn is_encrypted(&self, to: Stream) -> Option<bool>;
}

impl Streams for Replication {
    fn send(&self, to: Stream, frames: Vec<Frame>) {
        Self::send(self, to, frames);
    }

    fn queued(&self, to: Stream) -> usize {
        Self::queued(self, to)
    }

    fn end(&self, to: Stream, why: End) {
        Self::end(self, to, why);
    }

    fn is_encrypted(&self, to: Stream) -> Option<bool> {
        Self::is_encrypted(self, to)
    }
}
