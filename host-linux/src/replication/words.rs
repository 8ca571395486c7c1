//! What a mirror group and its streams say to each other, and what the streams must know.

use super::hello::Speaks;
use crate::site_config::key::SiteKey;
use crate::storage::buffers::Piece;
use crate::tls::keeper::Keeper;
use bulkhead_core::holder::words::Word;
use bulkhead_core::id::{Epoch, GroupId, NodeId, SiteId};
use bulkhead_core::log::Seq;
use bulkhead_core::log::batch::{BlockIndex, Sum, Volume, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Blocks of a region: 128 KiB. Digests of regions cost the more the smaller these are, and those of the
/// blocks of a region that is another one the less: at one block in a thousand both cost the same.
pub const REGION: u32 = 32;

/// Blocks of a volume that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Of which.
    pub volume: Volume,
    /// The first one.
    pub first: BlockIndex,
    /// How many. Never 0.
    pub count: u32,
}

/// The first half of the BLAKE3 of some blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(pub [u8; 16]);

/// One thing that a holder sends to another.
#[derive(Clone, Debug)]
pub enum Frame {
    /// What its machine says.
    Word(Box<Word>),
    /// A write that a primary feeds.
    Write {
        /// Under which the primary took the register.
        epoch: Epoch,
        /// Under which the write was made.
        made: Epoch,
        /// Its number.
        seq: Seq,
        /// Which blocks.
        write: Write,
        /// One for each block of payload. What arrives fits its sums.
        sums: Vec<Sum>,
        /// As many blocks as the write has data; `None` for zeroes and trims.
        payload: Option<Piece>,
    },
    /// A run of blocks for a store that is filled.
    Fill {
        /// Under which the primary took the register.
        epoch: Epoch,
        /// Which blocks.
        write: Write,
        /// As of [`Frame::Write`].
        sums: Vec<Sum>,
        /// As of [`Frame::Write`].
        payload: Option<Piece>,
    },
    /// What regions of a store are, with which another one is compared. Answered by [`Frame::Differs`] for
    /// each region that is another one there, and by [`Frame::Compared`].
    Compare {
        /// Under which the primary took the register.
        epoch: Epoch,
        /// Which blocks.
        blocks: Blocks,
        /// One for each [`REGION`] of them; the last may be shorter.
        digests: Vec<Digest>,
    },
    /// A region is another one here.
    Differs {
        /// As of [`Frame::Compare`].
        epoch: Epoch,
        /// Which blocks: one region.
        blocks: Blocks,
        /// What is in each of them here.
        digests: Vec<Digest>,
    },
    /// All these blocks were compared.
    Compared {
        /// As of [`Frame::Compare`].
        epoch: Epoch,
        /// As of [`Frame::Compare`].
        blocks: Blocks,
    },
    /// All was sent. The other end says the same when it is durable there, and its log made anew.
    Filled {
        /// Under which the primary took the register.
        epoch: Epoch,
        /// The store has every write up to this one.
        upto: Seq,
    },
    /// Blocks of the sender's store are damaged. Answered by [`Frame::Mend`] or [`Frame::Lacks`], when the
    /// other one can say what they are as of `upto` or later.
    Wants {
        /// Under which the two are primary and secondary.
        epoch: Epoch,
        /// A write that the sender may have shown, and all before it.
        upto: Seq,
        /// Which blocks.
        blocks: Blocks,
    },
    /// What was asked for by [`Frame::Wants`].
    Mend {
        /// As of [`Frame::Wants`].
        epoch: Epoch,
        /// Which blocks: always data.
        write: Write,
        /// As of [`Frame::Write`].
        sums: Vec<Sum>,
        /// As of [`Frame::Write`].
        payload: Option<Piece>,
    },
    /// The sender cannot say what was asked for by [`Frame::Wants`].
    Lacks {
        /// As of [`Frame::Wants`].
        epoch: Epoch,
        /// As of [`Frame::Wants`].
        blocks: Blocks,
    },
    /// What the register says of the other end, as the sender, which has it, knows: for its status.
    Member {
        /// Under which the sender took the register.
        epoch: Epoch,
        /// It is in the in-sync set.
        is_in: bool,
    },
}

/// One stream to another holder. What was meant for it goes by no other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub(super) peer: NodeId,
    pub(super) number: u64,
}

impl Stream {
    /// To whom.
    #[must_use]
    pub const fn peer(self) -> NodeId {
        self.peer
    }
}

/// What a group is told. Of one peer in this order: met, frames, gone, and so on.
#[derive(Clone, Debug)]
pub enum News {
    /// Both ends have begun anew. From now on frames can be sent.
    Met(NodeId, Stream),
    /// Nothing more comes of the last stream.
    Gone(NodeId),
    /// It came in order, once.
    Frame(NodeId, Frame),
}

/// How long things take at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Who has sent nothing for so long says that it is there.
    pub alive: Duration,
    /// Of whom nothing was received for so long is gone: five words in a row are late.
    pub silence: Duration,
    /// Who takes nothing for so long is gone. Above the time that a busy log keeps its memory.
    pub stall: Duration,
    /// A connection that is not authenticated by then is closed.
    pub handshake: Duration,
    /// The second network is tried so long after the first.
    pub second: Duration,
    /// From one attempt to the next: at least, and at most.
    pub again: (Duration, Duration),
}

impl Default for Timing {
    fn default() -> Self {
        let millis = Duration::from_millis;
        Self {
            alive: millis(500),
            silence: millis(3000),
            stall: millis(30_000),
            handshake: millis(2000),
            second: millis(200),
            again: (millis(50), millis(1000)),
        }
    }
}

/// Bytes that wait for one peer at most, by default.
pub const QUEUE_MAX: usize = 64 << 20;

/// What the streams of one holder must know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The site.
    pub site: SiteId,
    /// The mirror group.
    pub group: GroupId,
    /// This holder.
    pub me: NodeId,
    /// Where this holder listens, on each network.
    pub listen: [SocketAddr; 2],
    /// Where the other holders listen.
    pub peers: Vec<(NodeId, [SocketAddr; 2])>,
    /// What all holders know, and nobody else.
    pub key: SiteKey,
    /// How streams are encrypted; `None`: they are not.
    pub tls: Option<Tls>,
    /// Bytes that wait for one peer at most: who lets more wait is gone.
    pub queue_max: usize,
    /// How long things take at most.
    pub timing: Timing,
}

/// How streams are encrypted.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate of this node, and whom it believes.
    pub keeper: Arc<Keeper>,
    /// There is no stream without. Otherwise there is one in the clear with a peer that cannot.
    pub is_required: bool,
    /// For which host the certificate of each peer must be.
    pub hosts: Vec<(NodeId, String)>,
}

impl Settings {
    /// What it speaks.
    #[must_use]
    pub const fn speaks(&self) -> Speaks {
        match &self.tls {
            None => Speaks::Clear,
            Some(Tls { is_required: false, .. }) => Speaks::Either,
            Some(Tls { is_required: true, .. }) => Speaks::Encrypted,
        }
    }
}

#[cfg(test)]
impl Stream {
    /// A stream of a test's own.
    pub const fn of(peer: NodeId, number: u64) -> Self {
        Self { peer, number }
    }
}
