//! Content on its way to and from a volume, a window of pieces at once, however long it is; its digest is
//! made, or compared, on the way.

use super::medium::{Awaited, Medium, PIECE, WINDOW};
use super::table::{BLOCK, Entry, blocks};
use blake3::Hasher;
use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::ops::Range;

/// Content that is written into free blocks.
#[derive(Debug)]
pub struct Outflow<'a, M> {
    medium: &'a M,
    /// Where the next piece goes, and where the room ends.
    room: Range<u64>,
    first: u64,
    piece: Vec<u8>,
    under_way: VecDeque<Awaited<()>>,
    length: u64,
    hasher: Hasher,
}

/// Content that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Its first block.
    pub first: u64,
    /// Its bytes.
    pub length: u64,
    /// Their digest.
    pub digest: [u8; 32],
}

impl<'a, M: Medium> Outflow<'a, M> {
    pub(super) fn new(medium: &'a M, room: Range<u64>) -> Self {
        let (first, hasher) = (room.start, Hasher::new());
        Self { medium, room, first, piece: Vec::new(), under_way: VecDeque::new(), length: 0, hasher }
    }

    /// Waits until all of it is written. It is not durable yet.
    ///
    /// # Errors
    ///
    /// It could not be written.
    pub fn finish(mut self) -> Result<Filled> {
        if !self.piece.is_empty() {
            self.send()?;
        }
        self.under_way.drain(..).try_for_each(Awaited::wait)?;
        let Self { first, length, hasher, .. } = self;
        Ok(Filled { first, length, digest: hasher.finalize().into() })
    }

    fn send(&mut self) -> Result<()> {
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(piece.len().next_multiple_of(BLOCK), 0);
        let count = blocks(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        let at = self.room.start;
        if self.room.end.saturating_sub(at) < count {
            return Err(Error::new(ErrorKind::StorageFull, "the volume has no room for it"));
        }
        self.room.start = at.saturating_add(count);
        if WINDOW <= self.under_way.len() {
            self.under_way.pop_front().map_or(Ok(()), Awaited::wait)?;
        }
        self.under_way.push_back(self.medium.write(at, piece));
        Ok(())
    }
}

impl<M: Medium> Write for Outflow<'_, M> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let count = PIECE.saturating_sub(self.piece.len()).min(bytes.len());
        let taken = bytes.get(..count).unwrap_or_default();
        self.piece.extend_from_slice(taken);
        self.hasher.update(taken);
        self.length = self.length.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Content that is read. Who reads it to its end knows that it is what was written.
#[derive(Debug)]
pub struct Inflow<'a, M> {
    medium: &'a M,
    /// What is not asked for yet.
    next: Range<u64>,
    under_way: VecDeque<Awaited<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
    /// Bytes that were not read yet.
    left: u64,
    hasher: Hasher,
    digest: [u8; 32],
}

impl<'a, M: Medium> Inflow<'a, M> {
    pub(super) fn new(medium: &'a M, entry: &Entry) -> Self {
        Self {
            medium,
            next: entry.extent(),
            under_way: VecDeque::new(),
            piece: Vec::new(),
            at: 0,
            left: entry.length,
            hasher: Hasher::new(),
            digest: entry.digest,
        }
    }

    fn fill(&mut self) -> Result<()> {
        while self.under_way.len() < WINDOW && !self.next.is_empty() {
            let most = self.next.end.saturating_sub(self.next.start).saturating_mul(BLOCK as u64);
            let bytes = usize::try_from(most).unwrap_or(PIECE).min(PIECE);
            self.under_way.push_back(self.medium.read(self.next.start, bytes));
            let count = blocks(u64::try_from(bytes).unwrap_or(u64::MAX));
            self.next.start = self.next.start.saturating_add(count);
        }
        let piece = self.under_way.pop_front().ok_or(ErrorKind::UnexpectedEof)?.wait()?;
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len());
        (self.piece, self.at) = (piece, 0);
        self.piece.truncate(length);
        self.hasher.update(&self.piece);
        self.left = self.left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
        Ok(())
    }
}

impl<M: Medium> Read for Inflow<'_, M> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        if self.at == self.piece.len() {
            if self.left != 0 {
                self.fill()?;
            } else if *self.hasher.finalize().as_bytes() != self.digest {
                return Err(Error::new(ErrorKind::InvalidData, "it is not what was written"));
            } else {
                return Ok(0);
            }
        }
        let rest = self.piece.get(self.at..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into.iter_mut().zip(rest).for_each(|(into, byte)| *into = *byte);
        self.at = self.at.saturating_add(count);
        Ok(count)
    }
}
