//! An own volume that is open: read, and changed so that the old content or the new one is there, and whole,
//! whenever the power goes (V1, I11).
//!
//! What is new goes into blocks that are free by the table in force and is made durable; then the other copy
//! of the table is written, and made durable. What the table in force names is never written over.

use super::format::{Unsound, encode, newer, parse};
use super::medium::Medium;
use super::stream::{Filled, Inflow, Outflow};
use super::table::{BLOCK, Entry, Table, What, largest, smallest};
use std::io::{Error, ErrorKind, Read, Result, copy};
use std::ops::Range;

/// An own volume.
#[derive(Debug)]
pub struct Contents<M> {
    medium: M,
    table: Table,
    /// Which copy is in force; `None`: there was no table yet.
    copy: Option<u64>,
}

/// Why a volume is not opened.
#[derive(Debug, thiserror::Error)]
pub enum NotOpen {
    /// There is no table in it.
    #[error("{0}")]
    Unsound(#[from] Unsound),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] Error),
}

impl<M: Medium> Contents<M> {
    /// Opens a volume.
    ///
    /// # Errors
    ///
    /// It cannot be read, or has no table that counts: why.
    pub fn open(medium: M) -> std::result::Result<Self, NotOpen> {
        let (first, second) = (look(&medium, 0)?, look(&medium, 1)?);
        let (copy, table) = newer(first, second)?;
        Ok(Self { medium, table, copy: Some(copy) })
    }

    /// Opens a volume that may have been made a moment ago: one in which nothing is has nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_new(medium: M) -> std::result::Result<Self, NotOpen> {
        match newer(look(&medium, 0)?, look(&medium, 1)?) {
            Ok((copy, table)) => Ok(Self { medium, table, copy: Some(copy) }),
            Err(Unsound::Empty) => Ok(Self { medium, table: Table::default(), copy: None }),
            Err(why) => Err(why.into()),
        }
    }

    /// What is in it.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// How many blocks the volume has.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.medium.blocks()
    }

    /// Reads a part of it; `None`: it has no such part.
    #[must_use]
    pub fn read(&self, what: &What) -> Option<Inflow<'_, M>> {
        self.table.find(what).map(|entry| Inflow::new(&self.medium, entry))
    }

    /// Begins to change it. Until [`Change::commit`] nothing is changed.
    #[must_use]
    pub fn change(self) -> Change<M> {
        Change { next: self.table.clone(), contents: self, placed: Vec::new() }
    }
}

fn look<M: Medium>(medium: &M, copy: u64) -> Result<std::result::Result<Table, Unsound>> {
    let block = medium.read(copy, BLOCK).wait()?;
    let block = <&[u8; BLOCK]>::try_from(&block[..]).map_err(|_| ErrorKind::UnexpectedEof)?;
    Ok(parse(block, medium.blocks()))
}

/// A change of an own volume that is under way.
#[derive(Debug)]
pub struct Change<M> {
    contents: Contents<M>,
    next: Table,
    /// What is written already.
    placed: Vec<Range<u64>>,
}

impl<M: Medium> Change<M> {
    /// Writes a part of so many bytes, which comes from there.
    ///
    /// # Errors
    ///
    /// There is no room, or it cannot be read or written.
    pub fn put(&mut self, what: What, at: u64, length: u64, from: &mut impl Read) -> Result<()> {
        let gaps = self.gaps();
        let room = smallest(&gaps, length).ok_or_else(|| no_room(&gaps, length))?;
        let mut out = Outflow::new(&self.contents.medium, room);
        let copied = copy(&mut from.take(length), &mut out)?;
        if copied != length {
            return Err(Error::new(ErrorKind::UnexpectedEof, "it became shorter as it was read"));
        }
        let filled = out.finish()?;
        self.keep(what, at, filled)
    }

    /// Where a part is written that nobody knows the length of: into the largest gap. [`Self::keep`] it then.
    ///
    /// # Errors
    ///
    /// There is no room at all.
    pub fn stream(&self) -> Result<Outflow<'_, M>> {
        let gaps = self.gaps();
        let room = largest(&gaps).ok_or_else(|| no_room(&gaps, 1))?;
        Ok(Outflow::new(&self.contents.medium, room))
    }

    /// What was written is this, in place of what was.
    ///
    /// # Errors
    ///
    /// The table is full.
    pub fn keep(&mut self, what: What, at: u64, filled: Filled) -> Result<()> {
        let Filled { first, length, digest } = filled;
        let entry = Entry { what, first, length, digest, at };
        self.placed.push(entry.extent());
        if self.next.put(entry) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::StorageFull, "it has as many snapshots as it can have"))
    }

    /// Takes a part out. `false`: it has none.
    pub fn remove(&mut self, what: &What) -> bool {
        self.next.remove(what).is_some()
    }

    /// Puts it in force: durable when this returns.
    ///
    /// # Errors
    ///
    /// It could not be written: the old content or the new one is in force, and whole.
    pub fn commit(self) -> Result<Contents<M>> {
        let Self { contents: Contents { medium, table, copy }, mut next, .. } = self;
        medium.flush().wait()?;
        let mut write = |at: u64| {
            next.generation = next.generation.saturating_add(1);
            medium.write(at, encode(&next)).wait()?;
            medium.flush().wait()?;
            Ok::<_, Error>(at)
        };
        let copy = match copy {
            Some(copy) => write(1_u64.saturating_sub(copy))?,
            // One copy alone would be all that there is.
            None => write(1).and_then(|_| write(0))?,
        };
        let still = |entry: &&Entry| next.entries().iter().any(|kept| kept.extent() == entry.extent());
        for entry in table.entries().iter().filter(|entry| !still(entry)) {
            // What comes next may be written there: it must not be forgotten then. Kept, it costs room only.
            let _ = medium.forget(entry.extent()).wait();
        }
        Ok(Contents { medium, table: next, copy: Some(copy) })
    }

    fn gaps(&self) -> Vec<Range<u64>> {
        self.contents.table.gaps(self.contents.medium.blocks(), &self.placed)
    }
}

fn no_room(gaps: &[Range<u64>], length: u64) -> Error {
    let most = largest(gaps).map_or(0, |gap| super::table::room(&gap).saturating_mul(BLOCK as u64));
    let what = format!("the volume has no room for {length} bytes: {most} are free in one piece");
    Error::new(ErrorKind::StorageFull, what)
}

#[cfg(test)]
#[path = "contents_tests.rs"]
mod tests;
