//! Reads writes of the log that are not in memory any more, in order (S4-07, V12; F3, F4, F7).
//!
//! One reader, one question to the disk at a time, for many batches at once. What it finds is compared with
//! its checksums; what does not fit ends the reading, and is never handed out. Nothing is taken that was not
//! durable when it was asked for: behind that, the disk may still show what an earlier start left there.

use super::window::Entry;
use crate::storage::buffers::{Payload, Piece};
use crate::storage::job::Fault;
use crate::storage::space::{Busy, ReadId, Space, sums};
use bulkhead_core::log::batch::{Header, Kind};
use bulkhead_core::log::ring::Position;
use bulkhead_core::log::superblock::Superblock;
use bulkhead_core::log::writer::Log;
use bulkhead_core::log::{Block, Seq};

/// Blocks that are asked for at once: 512 KiB.
const CHUNK: usize = 128;
/// When there is no memory for that.
const FEW: usize = 8;

/// A reader.
#[derive(Debug, Default)]
pub struct Tape {
    /// Where the batch begins that has the next write, or an earlier one.
    at: Option<(Position, Seq)>,
    /// Blocks of the batch there, when it was longer than what was read of it.
    long: Option<usize>,
    asked: Option<Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    id: ReadId,
    at: Position,
    want: Seq,
    /// The last write that was durable then.
    durable: Seq,
}

/// What came of an answer.
#[derive(Debug)]
pub enum Found {
    /// It was the answer to another question.
    Other,
    /// Nothing yet: ask again.
    Nothing,
    /// Writes from the wanted one on, in order. Never none.
    Writes(Vec<Entry>),
    /// The log does not have it any more, or cannot be read.
    Lost,
}

impl Tape {
    /// Whether this is the answer that is awaited.
    pub fn awaits(&self, id: ReadId) -> bool {
        self.asked.is_some_and(|asked| asked.id == id)
    }

    /// Asks for this write and those behind it. Nothing else is asked meanwhile.
    ///
    /// # Errors
    ///
    /// [`Busy`]: again after the next news. `Ok(false)`: the log begins behind it.
    pub fn ask(&mut self, id: ReadId, want: Seq, log: &Log, space: &mut Space) -> Result<bool, Busy> {
        if self.asked.is_some() {
            return Ok(true);
        }
        let near = self.at.filter(|(_, first)| *first <= want).map(|(at, _)| at);
        let far = log.marks().before(want).map(|tail| tail.at);
        // Whichever is nearer; a place before the tail is gone.
        let Some(at) = near.into_iter().chain(far).max().filter(|_| far.is_some()) else { return Ok(false) };
        match self.long {
            Some(blocks) => space.read(id, at, blocks)?,
            None => space.read(id, at, CHUNK).or_else(|Busy| space.read(id, at, FEW))?,
        }
        self.at = Some((at, Seq(0)));
        self.asked = Some(Asked { id, at, want, durable: log.durable() });
        Ok(true)
    }

    /// An answer came.
    pub fn have(&mut self, id: ReadId, result: Result<Payload, Fault>, kept: &Superblock) -> Found {
        let Some(asked) = self.asked.take_if(|asked| asked.id == id) else { return Found::Other };
        let Ok(payload) = result else { return self.lost() };
        self.long = None;
        let (mut rest, mut at, mut writes) = (payload.piece(), asked.at, Vec::new());
        loop {
            let (front, behind) = rest.split(1);
            let Some(header) = header(&front, at, kept) else { break };
            let last = valid_last(&header, kept);
            // The numbers of what was cut off are those of what came in its place, further on.
            let counts = header.first <= last;
            if counts && asked.durable < header.first {
                break;
            }
            if counts && writes.is_empty() && asked.want < header.first {
                return self.lost();
            }
            let blocks = header.content.sums().len();
            if behind.blocks() < blocks {
                self.long = Some(blocks.saturating_add(1)).filter(|_| at == asked.at);
                break;
            }
            let (content, next) = behind.split(blocks);
            if counts && asked.want <= last {
                if !sums(content.bytes()).eq(header.content.sums().iter().copied()) {
                    break;
                }
                writes.extend(entries(&header, &content, asked.want, kept));
            }
            (rest, at) = (next, header.end());
            self.at = Some((at, last.next()));
            if rest.blocks() == 0 {
                break;
            }
        }
        match (writes.is_empty(), at == asked.at && self.long.is_none()) {
            (false, _) => Found::Writes(writes),
            (true, false) => Found::Nothing,
            (true, true) => self.lost(),
        }
    }

    fn lost(&mut self) -> Found {
        *self = Self::default();
        Found::Lost
    }
}

/// The header that is to be at a position of this log.
fn header(front: &Piece, at: Position, kept: &Superblock) -> Option<Header> {
    let block: &Block = front.bytes().try_into().ok()?;
    let (header, _) = Header::parse(block)?;
    (header.is_of(&kept.identity) && header.at == at).then_some(header)
}

/// The last write of a batch that counts; before its first when none does.
fn valid_last(header: &Header, kept: &Superblock) -> Seq {
    match kept.void_from(header.at) {
        Some(from) => header.last().min(from.before()),
        None => header.last(),
    }
}

/// The writes of a batch from `want` on that count.
fn entries(header: &Header, content: &Piece, want: Seq, kept: &Superblock) -> Vec<Entry> {
    let (last, mut entries) = (valid_last(header, kept), Vec::new());
    let mut rest = Some(content.clone());
    let mut sums = header.content.sums();
    for (seq, write) in (header.first.0..).map(Seq).zip(header.content.writes()) {
        let (mine, behind) = sums.split_at_checked(write.payload()).unwrap_or((sums, &[]));
        sums = behind;
        let piece = match write.kind() {
            Kind::Data => rest.take().map(|all| {
                let (piece, behind) = all.split(write.payload());
                rest = Some(behind);
                piece
            }),
            Kind::Zeroes | Kind::Trimmed => None,
        };
        if want <= seq && seq <= last {
            let (sums, made) = (mine.to_vec(), header.epoch);
            entries.push(Entry { seq, made, write: *write, sums, piece, done: None });
        }
    }
    entries
}
