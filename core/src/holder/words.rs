//! What a holder is told, what it asks for, and what holders say to each other.

use core::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::{Epoch, NodeId};
use crate::log::batch::{Sum, Write};
use crate::log::ring::Position;
use crate::log::writer;
use crate::log::{Block, Life, Seq};
use crate::mirror::history::History;
use crate::mirror::membership::{NotInSync, Policy, Unknown};
use crate::register::record::Payload;
use crate::register::seat::Verdict;
use crate::time::Instant;

/// Where a group's writes go in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backing {
    /// Each holder has a store of its own, and applies its log to it.
    Local,
    /// All holders reach one store; only the primary applies.
    Shared,
}

/// What a holder must know from its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Where writes go in the end.
    pub backing: Backing,
    /// How long another holder may owe a write before a primary goes on without it (S4-12, X07).
    pub late: Duration,
    /// When a primary acknowledges (S0-06).
    pub policy: Policy,
    /// Whether it may make the group's first record. One holder of a group may, and only while its log never
    /// followed anybody.
    pub is_founder: bool,
    /// Draws the lives of logs that are made anew. Random at every start.
    pub seed: u64,
}

/// What holders say to each other, beside the writes that a primary feeds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "no heap to box into; words are handled one by one")]
pub enum Word {
    /// A primary offers to feed.
    Offer {
        /// Under which it took the register.
        epoch: Epoch,
        /// Of its log.
        history: History,
        /// The oldest write that its log still has.
        oldest: Seq,
    },
    /// A holder can be fed.
    Ready {
        /// Of the offer.
        epoch: Epoch,
        /// Of its log.
        life: Life,
        /// From this write on.
        next: Seq,
    },
    /// The offered log does not reach back to a holder's: it needs the blocks that changed.
    Behind {
        /// Of the offer.
        epoch: Epoch,
        /// Its backing store has every write up to this one.
        applied: Seq,
    },
    /// What is durable in a holder's log.
    Have {
        /// Of the offer.
        epoch: Epoch,
        /// Every write up to this one.
        durable: Seq,
    },
    /// What is safe, from a primary.
    Commit {
        /// Under which it took the register.
        epoch: Epoch,
        /// Every write up to this one is durable on all in-sync holders.
        seq: Seq,
        /// Every write up to this one is in the primary's backing store.
        applied: Seq,
    },
    /// Somebody newer is followed.
    Outranked {
        /// Nothing older than this is.
        promised: Epoch,
    },
}

/// What the shell tells a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A guest wants to write. Answered by [`Action::Accepted`] or [`Action::Refused`].
    Write {
        /// Which blocks.
        write: Write,
        /// One for each block of payload.
        sums: &'a [Sum],
    },
    /// A write came from a primary. Unless it is refused, nothing is answered.
    Fed {
        /// Who, authenticated.
        from: NodeId,
        /// Under which it took the register.
        epoch: Epoch,
        /// Under which the write was made.
        made: Epoch,
        /// Its number.
        seq: Seq,
        /// Which blocks.
        write: Write,
        /// One for each block of payload. The payload fits them.
        sums: &'a [Sum],
    },
    /// Another holder said something.
    Heard {
        /// Who, authenticated.
        from: NodeId,
        /// What.
        word: &'a Word,
    },
    /// There is a path to another holder, maybe a new one; or it was filled.
    Met(NodeId),
    /// There is none any more.
    Gone(NodeId),
    /// An operator takes another holder out: while this one leads, that one is neither in sync nor fed until
    /// it is met again.
    Dismiss(NodeId),
    /// An operator has this holder lead with what its log has, whoever has more (X14). Until it leads, it
    /// takes a register that it may not take, if the voters let it have one.
    Recover,
    /// This holder's backing store was filled, durably, by the primary that it is behind.
    Filled {
        /// Who. Nobody else fills it meanwhile.
        from: NodeId,
        /// Under which it took the register.
        epoch: Epoch,
        /// It has every write up to this one, and none that its log must not repeat.
        upto: Seq,
    },
    /// The batch at this position is durable.
    Committed(Position),
    /// A batch, or its flush, failed.
    CommitFailed,
    /// The superblock that [`Action::Keep`] asked for is durable.
    Kept,
    /// It failed.
    KeepFailed,
    /// Every write up to this one is durable in the backing store.
    Applied(Seq),
    /// The log has this write, and it cannot be read for another holder (F7, F10). Whoever lacks it is filled
    /// from the backing store, as if the log were trimmed up to here.
    Unreadable(Seq),
    /// The seat asks whether to take the register, whose newest record says this.
    Decide(Option<&'a [u8]>),
    /// The seat holds the register, or its record has changed.
    Held {
        /// Of the record.
        epoch: Epoch,
        /// What it says.
        payload: &'a [u8],
        /// The end of the lease, on this node's clock.
        until: Instant,
    },
    /// The lease was renewed.
    Leased {
        /// Its end.
        until: Instant,
    },
    /// The register is not held any more.
    Lost,
    /// What the operator wants (S0-06).
    Want(Policy),
    /// [`super::machine::Holder::deadline`] has passed.
    Timeout,
}

/// What a holder asks the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "no heap to box into; actions are handed out one by one")]
pub enum Action<'a> {
    /// The guest's write has this number. It is not safe yet.
    Accepted(Seq),
    /// The write was not taken in, and nothing has changed.
    Refused(Refused),
    /// As [`writer::Action::Commit`]. Report [`Event::Committed`] or [`Event::CommitFailed`].
    Commit {
        /// Where the batch begins.
        at: Position,
        /// Its blocks, the header included.
        blocks: u64,
        /// Its first write, and how many there are.
        writes: (Seq, usize),
        /// The header.
        header: &'a Block,
    },
    /// Write this superblock and make it durable; then report [`Event::Kept`] or [`Event::KeepFailed`].
    Keep {
        /// Which block: 0 or 1.
        at: u64,
        /// What.
        block: &'a Block,
    },
    /// Every write up to this one is durable in this log: its payload can be read there.
    Durable(Seq),
    /// This write and all after it are void.
    Cut(Seq),
    /// The log was made anew and holds nothing: all that was known of it is void.
    Remade,
    /// Say something to another holder.
    Say {
        /// Whom.
        to: NodeId,
        /// What.
        word: Word,
    },
    /// Send these writes to another holder, in order, each with the epoch under which it was made.
    Feed {
        /// Whom.
        to: NodeId,
        /// Under which this holder took the register.
        epoch: Epoch,
        /// The first one.
        first: Seq,
        /// The last one.
        last: Seq,
    },
    /// Fill another holder's store with all blocks that changed since a write; then report [`Event::Met`].
    Fill {
        /// Whom.
        to: NodeId,
        /// Its store has every write up to this one.
        since: Seq,
    },
    /// Every write up to this one may go to the backing store (I10), and be read (I12).
    Apply(Seq),
    /// Tell the guest: every write up to this one is safe.
    Acknowledge(Seq),
    /// The answer to [`Event::Decide`].
    Decided(Verdict),
    /// Have the register's record say this ([`crate::register::seat::Event::Rewrite`]).
    Rewrite(Payload),
    /// Give the register back.
    Release,
}

/// Why a write was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// This holder does not lead.
    #[error("this node is not the primary of the volume's group")]
    NotPrimary,
    /// The log has no room for it now. Exit: [`Action::Durable`], or [`Event::Kept`]; offer it again.
    #[error("the log is busy")]
    Busy,
    /// What came from another holder cannot be a write.
    #[error("the write does not fit its checksums")]
    Malformed,
}

impl Refused {
    /// What the log's refusal means to who offered the write; `None` when that has an answer of its own.
    pub(super) const fn by(refusal: writer::Refusal) -> Option<Self> {
        match refusal {
            writer::Refusal::Busy => Some(Self::Busy),
            writer::Refusal::Malformed => Some(Self::Malformed),
            writer::Refusal::OutOfOrder { .. }
            | writer::Refusal::OldEpoch { .. }
            | writer::Refusal::Failed => None,
        }
    }
}

/// Why a holder does not lead, in the operator's words (S4-10, X14). Each says what would change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Waits {
    /// Its log is being opened. Exit: the superblock is durable.
    #[error("its log is being opened")]
    Opening,
    /// Its log failed. Exit: the disk is repaired or replaced, and the agent started again.
    #[error("its log failed; repair or replace the disk and start the agent again")]
    Failed,
    /// It is not in the newest in-sync set.
    #[error(transparent)]
    NotInSync(#[from] NotInSync),
    /// The register's record cannot be read.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// No voter knows of the group, and it is not for this holder to found it.
    #[error("no voter knows of this group, and another holder is to found it")]
    NotFounder,
    /// No voter knows of the group, but this log was in use: the voters lost their disks.
    #[error("no voter knows of this group, although its log was in use; recover it as an operator")]
    Forgotten,
}

impl Waits {
    /// Whether an operator may say that this holder is to lead all the same. A log that lacks writes in its
    /// middle cannot be led with, and a record that cannot be read may say anything.
    pub(super) const fn is_for_operator(&self) -> bool {
        match self {
            Self::NotInSync(NotInSync::Stale | NotInSync::OtherLog) | Self::NotFounder | Self::Forgotten => {
                true
            }
            Self::NotInSync(NotInSync::Damaged) | Self::Opening | Self::Failed | Self::Unknown(_) => false,
        }
    }
}
