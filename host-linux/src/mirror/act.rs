//! What a holder asks for, without what it borrows: carried out when its step is over.

use bulkhead_core::holder::words::{Action, Refused, Word};
use bulkhead_core::id::{Epoch, NodeId};
use bulkhead_core::log::ring::Position;
use bulkhead_core::log::{Block, Seq};
use bulkhead_core::register::record::Payload;
use bulkhead_core::register::seat::Verdict;

/// As [`Action`].
#[derive(Debug)]
pub enum Act {
    /// As [`Action::Accepted`].
    Accepted(Seq),
    /// As [`Action::Refused`].
    Refused(Refused),
    /// As [`Action::Commit`].
    Commit {
        /// Where the batch begins.
        at: Position,
        /// Its first write, and how many there are.
        writes: (Seq, usize),
        /// The header.
        header: Box<Block>,
    },
    /// As [`Action::Keep`].
    Keep {
        /// Which block.
        at: u64,
        /// What.
        block: Box<Block>,
    },
    /// As [`Action::Cut`].
    Cut(Seq),
    /// As [`Action::Remade`].
    Remade,
    /// As [`Action::Say`].
    Say {
        /// Whom.
        to: NodeId,
        /// What.
        word: Box<Word>,
    },
    /// As [`Action::Feed`].
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
    /// As [`Action::Fill`].
    Fill {
        /// Whom.
        to: NodeId,
    },
    /// As [`Action::Apply`].
    Apply(Seq),
    /// As [`Action::Acknowledge`].
    Acknowledge(Seq),
    /// As [`Action::Decided`].
    Decided(Verdict),
    /// As [`Action::Rewrite`].
    Rewrite(Payload),
    /// As [`Action::Release`].
    Release,
}

impl Act {
    /// `None` for what a shell need not do anything about.
    pub fn of(action: Action<'_>) -> Option<Self> {
        Some(match action {
            Action::Accepted(seq) => Self::Accepted(seq),
            Action::Refused(why) => Self::Refused(why),
            Action::Commit { at, writes, header, .. } => {
                Self::Commit { at, writes, header: Box::new(*header) }
            }
            Action::Keep { at, block } => Self::Keep { at, block: Box::new(*block) },
            Action::Durable(_) => return None,
            Action::Cut(from) => Self::Cut(from),
            Action::Remade => Self::Remade,
            Action::Say { to, word } => Self::Say { to, word: Box::new(word) },
            Action::Feed { to, epoch, first, last } => Self::Feed { to, epoch, first, last },
            // All of the store is sent: since when is of no use.
            Action::Fill { to, .. } => Self::Fill { to },
            Action::Apply(seq) => Self::Apply(seq),
            Action::Acknowledge(seq) => Self::Acknowledge(seq),
            Action::Decided(verdict) => Self::Decided(verdict),
            Action::Rewrite(payload) => Self::Rewrite(payload),
            Action::Release => Self::Release,
        })
    }

    /// The number that a write was given.
    pub const fn accepted(&self) -> Option<Seq> {
        if let Self::Accepted(seq) = self { Some(*seq) } else { None }
    }
}
