//! Reads both copies of the table and decides which one is used.
//!
//! The rule is fixed (V33): the primary when it is good, else the backup, else nothing. The backup
//! is looked for where a readable primary header says; where that leads to no table at all, at
//! the end of the disk, where a repair that was cut has left one. Two good
//! copies that differ, and a backup that is not at the end of the disk, are reported; nothing is
//! written here (V37). A shell drives it:
//!
//! ```text
//! while let Some(extent) = reading.wants() { reading.supply(read(extent)) }
//! reading.finish()
//! ```

use super::entries::Table;
use super::header::{Copy, Fault, Header};
use crate::block::{Extent, Geometry, Lba};

/// The smallest disk that can hold a table: protective MBR, two headers, two arrays, one usable block.
const BLOCKS_MIN: u64 = 6;

/// A reading of the table in progress.
#[derive(Debug)]
pub struct Reading {
    disk: Geometry,
    stage: Stage,
    primary: Result<Table, Fault>,
    backup: Result<Table, Fault>,
    /// Where the backup header is looked for: where the primary says, else at the end.
    backup_at: Lba,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Header(Copy),
    Array(Header),
    Finished,
}

impl Reading {
    /// Starts to read the table of `disk`.
    pub const fn new(disk: Geometry) -> Self {
        let too_small = disk.blocks < BLOCKS_MIN;
        let fault = if too_small { Fault::DiskTooSmall { blocks: disk.blocks } } else { Fault::Unreadable };
        Self {
            disk,
            stage: if too_small { Stage::Finished } else { Stage::Header(Copy::Primary) },
            primary: Err(fault),
            backup: Err(fault),
            backup_at: disk.last(),
        }
    }

    /// The blocks to read next: at most [`super::header::ARRAY_LEN_MAX`] bytes, or one block.
    pub fn wants(&self) -> Option<Extent> {
        match self.stage {
            Stage::Header(Copy::Primary) => Extent::with_len(Lba(1), 1),
            Stage::Header(Copy::Backup) => Extent::with_len(self.backup_at, 1),
            Stage::Array(header) => Some(header.array_extent(self.disk)),
            Stage::Finished => None,
        }
    }

    /// Gives the blocks that [`Self::wants`] named; `None` when the disk did not return them.
    pub fn supply(&mut self, bytes: Option<&[u8]>) {
        let bytes = bytes.ok_or(Fault::Unreadable);
        match self.stage {
            Stage::Header(copy) => {
                let at = if copy == Copy::Primary { Lba(1) } else { self.backup_at };
                match bytes.and_then(|bytes| Header::parse(bytes, copy, at, self.disk)) {
                    Ok(header) => {
                        if copy == Copy::Primary {
                            self.backup_at = header.alternate;
                        }
                        self.stage = Stage::Array(header);
                    }
                    Err(fault) => self.settle(copy, Err(fault)),
                }
            }
            Stage::Array(header) => {
                self.settle(header.copy, bytes.and_then(|bytes| Table::parse(&header, bytes)));
            }
            Stage::Finished => {}
        }
    }

    fn settle(&mut self, copy: Copy, table: Result<Table, Fault>) {
        match copy {
            Copy::Primary => {
                self.primary = table;
                self.stage = Stage::Header(Copy::Backup);
            }
            Copy::Backup if table.is_err() && self.primary.is_err() && self.backup_at != self.disk.last() => {
                self.backup_at = self.disk.last();
                self.stage = Stage::Header(Copy::Backup);
            }
            Copy::Backup => {
                self.backup = table;
                self.stage = Stage::Finished;
            }
        }
    }

    /// The table to use, and what is wrong with the other copy.
    ///
    /// # Errors
    ///
    /// [`NoTable`] when neither copy is good, with the fault of each.
    pub fn finish(self) -> Result<Found, NoTable> {
        let backup_at = self.backup_at;
        match (self.primary, self.backup) {
            (Ok(table), backup) => {
                let state = match backup {
                    Ok(backup) if backup != table => State::Differ,
                    Ok(_) if self.backup_at != self.disk.last() => {
                        State::BackupNotAtEnd { at: self.backup_at }
                    }
                    Ok(_) => State::Good,
                    Err(fault) => State::BackupBad(fault),
                };
                Ok(Found { table, state, backup_at })
            }
            (Err(fault), Ok(table)) => Ok(Found { table, state: State::PrimaryBad(fault), backup_at }),
            (Err(primary), Err(backup)) => Err(NoTable { primary, backup }),
        }
    }
}

/// The table that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The validated table.
    pub table: Table,
    /// Whether both copies are as they should be.
    pub state: State,
    /// The block in which the backup header was looked for.
    pub backup_at: Lba,
}

/// The state of the two copies of a readable table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum State {
    /// Both are good and say the same.
    #[error("both copies are good")]
    Good,
    /// The primary is bad; the backup is used. `bulkhead image repair` rewrites the primary.
    #[error("the primary copy is bad ({0}); the backup is used")]
    PrimaryBad(Fault),
    /// The backup is bad; the primary is used.
    #[error("the backup copy is bad ({0}); the primary is used")]
    BackupBad(Fault),
    /// Both are good but say different things; the primary is used.
    #[error("the two copies differ; the primary is used")]
    Differ,
    /// The disk has grown since the table was written: the backup is not in its last block.
    #[error("the backup header is in block {}, not at the end of the disk", at.0)]
    BackupNotAtEnd {
        /// Where the backup header is.
        at: Lba,
    },
}

/// Neither copy of the table can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no partition table: primary: {primary}; backup: {backup}")]
pub struct NoTable {
    /// What is wrong with the primary copy.
    pub primary: Fault,
    /// What is wrong with the backup copy.
    pub backup: Fault,
}
