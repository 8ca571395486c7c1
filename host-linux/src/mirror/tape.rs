//! Reads writes of the log that are not in memory any more, in order (S4-07, V12; F3, F4, F7).
//!
//! One reader, one question to the disk at a time: the header of a batch, then its payload. What it finds is
//! compared with its checksums; what does not fit ends the reading, and is never handed out.

use super::window::Entry;
use crate::storage::buffers::Payload;
use crate::storage::job::Fault;
use crate::storage::space::{Busy, ReadId, Space, sums};
use bulkhead_core::log::batch::{Header, Kind};
use bulkhead_core::log::ring::Position;
use bulkhead_core::log::superblock::Superblock;
use bulkhead_core::log::writer::Log;
use bulkhead_core::log::{Block, Seq};

/// A reader.
#[derive(Debug, Default)]
pub struct Tape {
    /// Where the batch begins that has the next write, or an earlier one.
    at: Option<(Position, Seq)>,
    asked: Option<(ReadId, Asked)>,
}

#[derive(Debug)]
enum Asked {
    Header { want: Seq },
    Payload { want: Seq, header: Box<Header> },
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
        self.asked.as_ref().is_some_and(|(asked, _)| *asked == id)
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
        space.read(id, at, 1)?;
        self.at = Some((at, Seq(0)));
        self.asked = Some((id, Asked::Header { want }));
        Ok(true)
    }

    /// An answer came.
    pub fn have(
        &mut self,
        id: ReadId,
        result: Result<Payload, Fault>,
        kept: &Superblock,
        space: &mut Space,
    ) -> Found {
        match self.asked.take() {
            Some((asked, Asked::Header { want })) if asked == id => {
                let Some((at, _)) = self.at else { return Found::Lost };
                let header = result.ok().and_then(|payload| header(&payload, at, kept));
                match header {
                    Some(header) => self.have_header(id, want, header, kept, space),
                    None => self.lost(),
                }
            }
            Some((asked, Asked::Payload { want, header })) if asked == id => match result {
                Ok(payload) if sums(payload.bytes()).eq(header.content.sums().iter().copied()) => {
                    self.at = Some((header.end(), valid_last(&header, kept).next()));
                    Found::Writes(entries(&header, Some(&payload), want, kept))
                }
                Ok(_) | Err(_) => self.lost(),
            },
            other => {
                self.asked = other;
                Found::Other
            }
        }
    }

    fn have_header(
        &mut self,
        id: ReadId,
        want: Seq,
        header: Header,
        kept: &Superblock,
        space: &mut Space,
    ) -> Found {
        if want < header.first {
            return self.lost();
        }
        let (last, end) = (valid_last(&header, kept), header.end());
        if last < want {
            self.at = Some((end, header.first));
            return Found::Nothing;
        }
        let blocks = header.content.sums().len();
        if blocks == 0 {
            self.at = Some((end, last.next()));
            return Found::Writes(entries(&header, None, want, kept));
        }
        if space.read(id, header.at.after(1), blocks).is_err() {
            self.at = Some((header.at, header.first));
            return Found::Nothing;
        }
        self.asked = Some((id, Asked::Payload { want, header: Box::new(header) }));
        Found::Nothing
    }

    fn lost(&mut self) -> Found {
        *self = Self::default();
        Found::Lost
    }
}

/// The header that is to be at a position of this log.
fn header(payload: &Payload, at: Position, kept: &Superblock) -> Option<Header> {
    let block: &Block = payload.bytes().try_into().ok()?;
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
fn entries(header: &Header, payload: Option<&Payload>, want: Seq, kept: &Superblock) -> Vec<Entry> {
    let (last, mut entries) = (valid_last(header, kept), Vec::new());
    let mut rest = payload.map(Payload::piece);
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
