//! The log of the witness's firmware: defmt frames, which only the ELF file that was flashed can explain.
//!
//! The stream may begin in the middle of a frame, lose bytes, or be of another firmware: a frame that cannot
//! be read is said to be one, and the next one is whole. Frames are cut here and decoded one at a time, so a
//! stream without an end of a frame costs no memory.

pub mod source;

use crate::failure::Failure;
use defmt_decoder::{Frame, Locations, Table};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// What ends a frame.
const END: u8 = 0;
/// Longer than any frame of ours: the firmware's ring for frames that wait has 2 KiB.
const FRAME_MAX: usize = 4096;

/// Explains frames.
#[derive(Debug)]
pub struct Words {
    table: Table,
    locations: Locations,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A frame.
    Said {
        /// Since the start, as the firmware counts.
        time: String,
        /// `trace`, `debug`, `info`, `warn` or `error`; empty when it has none.
        level: &'static str,
        /// The words.
        text: String,
        /// Where in the firmware it was said.
        at: Option<(String, u64)>,
    },
    /// A frame that cannot be read, and how long it is.
    Unreadable(usize),
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Said { time, level, text, .. } => {
                let level = level.to_uppercase();
                let space = if time.is_empty() { "" } else { " " };
                write!(f, "{time}{space}{level:5} {text}")
            }
            Self::Unreadable(count) => write!(f, "(a frame of {count} bytes that cannot be read)"),
        }
    }
}

impl Words {
    /// Reads the ELF file of a firmware.
    ///
    /// # Errors
    ///
    /// It is not there, or explains no log.
    pub fn read(elf: &Path) -> Result<Self, Failure> {
        let bytes = std::fs::read(elf)
            .map_err(|error| Failure::io("read", elf, &error).left(NOTHING_READ).next(ELF_NEXT))?;
        Self::parse(&bytes).map_err(|why| {
            let what = format!("{} does not explain a log: {why}", elf.display());
            Failure::failed(what).left(NOTHING_READ).next(ELF_NEXT)
        })
    }

    /// Takes the bytes of an ELF file.
    ///
    /// # Errors
    ///
    /// Why it explains no log.
    pub fn parse(elf: &[u8]) -> Result<Self, String> {
        let table = match Table::parse(elf) {
            Ok(Some(table)) if !table.is_empty() => table,
            Ok(Some(_) | None) => return Err("it logs nothing by defmt".into()),
            Err(error) => return Err(error.to_string()),
        };
        // Without debug information the words are there, and the places are not.
        let locations = table.get_locations(elf).unwrap_or_default();
        Ok(Self { table, locations })
    }

    /// A reader of one stream.
    pub const fn reader(&self) -> Reader<'_> {
        Reader { words: self, frame: Vec::new(), dropped: 0 }
    }

    fn line(&self, frame: &[u8]) -> Line {
        // What is no frame of this firmware can make the decoder panic.
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let mut decoder = self.table.new_stream_decoder();
            decoder.received(frame);
            decoder.received(&[END]);
            decoder.decode().ok().map(|frame| self.said(&frame))
        }));
        decoded.ok().flatten().unwrap_or(Line::Unreadable(frame.len()))
    }

    fn said(&self, frame: &Frame<'_>) -> Line {
        let time = frame.display_timestamp().map(|time| time.to_string()).unwrap_or_default();
        let level = frame.level().map_or("", |level| level.as_str());
        let at = self.locations.get(&frame.index());
        let at = at.map(|at| (at.file.display().to_string(), at.line));
        Line::Said { time, level, text: frame.display_message().to_string(), at }
    }
}

/// What to do about an ELF file that is missing or wrong.
pub const ELF_NEXT: &str = "give the ELF file that was flashed to this board: the log is made of \
                            numbers, and only that file has their words. `cargo xtask witness \
                            --build` leaves it in target/bulkhead/witness.elf.";
/// What such a failure leaves.
pub const NOTHING_READ: &str = "Nothing of the log was read.";

/// Reads one stream.
#[derive(Debug)]
pub struct Reader<'w> {
    words: &'w Words,
    frame: Vec<u8>,
    /// Bytes of a frame that is longer than any of ours.
    dropped: usize,
}

impl Reader<'_> {
    /// Takes more of the stream, and hands every frame that ends in it to `line`.
    pub fn take(&mut self, bytes: &[u8], line: &mut dyn FnMut(Line)) {
        for byte in bytes {
            match *byte {
                END => {
                    let frame = std::mem::take(&mut self.frame);
                    match std::mem::take(&mut self.dropped) {
                        0 if frame.is_empty() => {}
                        0 => line(self.words.line(&frame)),
                        dropped => line(Line::Unreadable(dropped.saturating_add(frame.len()))),
                    }
                }
                _ if FRAME_MAX <= self.frame.len() => self.dropped = self.dropped.saturating_add(1),
                byte => self.frame.push(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests;
