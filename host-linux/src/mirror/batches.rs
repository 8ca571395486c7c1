//! Batches in a piece of the log that was read: one after the other, each compared with its checksums, and
//! only what was not cut off (V12; F3, F4, F7).

use super::window::Entry;
use crate::storage::buffers::Piece;
use crate::storage::space::sums;
use bulkhead_core::log::batch::{Header, Kind};
use bulkhead_core::log::ring::Position;
use bulkhead_core::log::superblock::Superblock;
use bulkhead_core::log::{Block, Seq};

/// A batch at the front of what was read.
#[derive(Debug)]
pub struct Batch {
    /// Its header.
    pub header: Header,
    /// The last of its writes that counts; before its first when none does.
    pub last: Seq,
    behind: Piece,
}

impl Batch {
    /// The one that is to be at this position of this log; `None`: there is none.
    pub fn front(read: &Piece, at: Position, kept: &Superblock) -> Option<Self> {
        let (front, behind) = read.split(1);
        let block: &Block = front.bytes().try_into().ok()?;
        let (header, _) = Header::parse(block)?;
        let last = match kept.void_from(header.at) {
            Some(from) => header.last().min(from.before()),
            None => header.last(),
        };
        (header.is_of(&kept.identity) && header.at == at).then_some(Self { header, last, behind })
    }

    /// Whether any write of it counts. The numbers of what was cut off are those of what came in its place,
    /// further on.
    pub fn counts(&self) -> bool {
        self.header.first <= self.last
    }

    /// Blocks of its payload.
    pub fn payload(&self) -> usize {
        self.header.content.sums().len()
    }

    /// Its payload, and what is behind it; `None`: not all of it was read.
    pub fn content(&self) -> Option<(Piece, Piece)> {
        let blocks = self.payload();
        (blocks <= self.behind.blocks()).then(|| self.behind.split(blocks))
    }

    /// Whether the payload is what was written.
    pub fn is_whole(&self, content: &Piece) -> bool {
        sums(content.bytes()).eq(self.header.content.sums().iter().copied())
    }

    /// Its writes from `want` on that count.
    pub fn entries(&self, content: &Piece, want: Seq) -> Vec<Entry> {
        let mut entries = Vec::new();
        let (mut rest, mut place) = (content.clone(), self.header.at.after(1));
        let mut sums = self.header.content.sums();
        for (seq, write) in (self.header.first.0..).map(Seq).zip(self.header.content.writes()) {
            let (mine, others) = sums.split_at_checked(write.payload()).unwrap_or((sums, &[]));
            let (piece, behind) = rest.split(mine.len());
            let at = place;
            (sums, rest) = (others, behind);
            place = place.after(u64::try_from(mine.len()).unwrap_or(0));
            if want <= seq && seq <= self.last {
                let is_data = write.kind() == Kind::Data;
                let (piece, at) = (is_data.then_some(piece), is_data.then_some(at));
                let (made, sums) = (self.header.epoch, mine.to_vec());
                entries.push(Entry { seq, made, write: *write, sums, piece, at, done: None });
            }
        }
        entries
    }
}
