//! One volume's block of the catalogue (S0-06, S3-07, S4-02; F2, F4, V41).
//!
//! A record, 4096 bytes, little-endian; a block of zeroes is a number that was never used:
//!
//! |   at | len | field    | unit, values                                                             |
//! |-----:|----:|----------|--------------------------------------------------------------------------|
//! |    0 |   8 | magic    | "BHVOLU", 0, version: 6 of a guest whose needs are known, 5 of one with  |
//! |      |     |          | a home or a group, 4 with a seal or of a guest, 3 without the read       |
//! |      |     |          | cache, 2 with a policy, else 1                                           |
//! |    8 |   2 | number   | of the volume, 1..=4094: the block's own number in the catalogue         |
//! |   10 |   1 | state    | 1 present, 2 deleted                                                     |
//! |   11 |   1 | length   | of the name, 1..=64                                                      |
//! |   12 |   1 | policy   | 0 that of the group, 1 write-through, 2 write-back; version 1 has none   |
//! |   13 |   1 | cache    | of reads: 0 that of the group, 1 none; versions 1 and 2 have 0           |
//! |   14 |   2 | reserved | zero                                                                     |
//! |   16 |  16 | uuid     | tells the volume from every other there ever was, not all zero           |
//! |   32 |   8 | blocks   | of 4096 bytes, 1..=2^40                                                  |
//! |   40 |   8 | change   | of the catalogue, by which the record became so: +1 a change, never 0    |
//! |   48 |  64 | name     | ASCII A-Z a-z 0-9 _ . -, not beginning with - or . ; the rest zero       |
//! |  112 |  16 | seal     | of what the volume holds; zero: none                                     |
//! |  128 |   1 | guest    | whose own it is: 0 none, 1 one that is off, 2 one that is to run         |
//! |  129 |   1 | failover | of the guest: 0 it stays off, 1 it begins anew, 2 it goes on if it can   |
//! |  130 |   1 | priority | of the guest                                                             |
//! |  131 |   1 | home     | of the guest: 0 it has none, 1 compartment a, 2 compartment b            |
//! |  132 |  16 | group    | of guests that are to be apart: as a name; zero: it is in none           |
//! |  148 |   4 | memory   | that the guest takes of its node, in MiB; 0: not known                   |
//! |  152 |   1 | number   | of its processors; 0 where its memory is 0                               |
//! |  153 |3939 | reserved | zero                                                                     |
//! | 4092 |   4 | crc      | CRC-32C of bytes 0..4092                                                 |

use core::fmt;

use thiserror::Error;

use super::guest::{self, Guest};
use super::name::{NAME_MAX, Name};
use super::{BLOCKS_MAX, NUMBER_MAX};
use crate::bytes::{Reader, Writer};
use crate::crc::crc32c;
use crate::log::batch::Volume;
use crate::log::{BLOCK_LEN, Block};
use crate::mirror::membership::Policy;

const MAGIC: [u8; 7] = *b"BHVOLU\0";
/// Without a policy of its own.
const PLAIN: u8 = 1;
/// With one.
const WITH_POLICY: u8 = 2;
/// Without the read cache, and with a policy of its own or without one.
const PAST_CACHE: u8 = 3;
/// With a seal or of a guest, and with or without the rest.
const WITH_SEAL: u8 = 4;
/// Of a guest that has a home, or is in a group.
const WITH_PLACE: u8 = 5;
/// Of a guest whose needs are known.
const VERSION: u8 = 6;

/// Tells a volume from every other there ever was: drawn at random when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            let dash = if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

/// Names what a volume holds, from the moment it is sealed until it is written to (S3-06): the first write
/// takes it away in the same log, before itself. So whoever finds a seal again finds what was there, whatever
/// failed, was taken over or was lost in between. Drawn at random by whoever seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seal([u8; 16]);

impl Seal {
    /// These bytes; `None`: all of them are zero, which names nothing.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// What [`fmt::Display`] shows, 32 hexadecimal digits, read back; `None`: it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
        if pairs.len() != bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            *byte = u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Self::new(bytes)
    }

    /// Its bytes, of which one at least is not zero.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whether a volume is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Guests can use it.
    Present,
    /// It was deleted, and so is what it held. Its number is not given to another one for as long as there
    /// are others.
    Deleted,
}

/// What the catalogue says about a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Its number. Invariant: 1 to [`NUMBER_MAX`].
    pub volume: Volume,
    /// Whether it is there.
    pub state: State,
    /// What it is called.
    pub name: Name,
    /// Which one it is. Invariant: not all zero.
    pub uuid: Uuid,
    /// Its size, in blocks of 4096 bytes. Invariant: 1 to [`BLOCKS_MAX`].
    pub blocks: u64,
    /// Orders the changes of the catalogue. Invariant: not 0.
    pub change: u64,
    /// When its writes are acknowledged (S0-06); `None`: as the group says.
    pub policy: Option<Policy>,
    /// Whether what is read of it stays in the read cache, where there is one (S4-02).
    pub is_cached: bool,
    /// What it holds, by name, if nobody has written to it since that was given.
    pub seal: Option<Seal>,
    /// What is wanted of the guest whose own volume it is; `None`: it is no guest's own.
    pub guest: Option<Guest>,
}

/// Why a block is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Torn, rotten, or something else.
    #[error("damaged: its checksum or its fields do not fit")]
    Damaged,
    /// It is the record of another number (F4).
    #[error("misdirected: it is the record of volume {}", .found.0)]
    Misdirected {
        /// Whose it is.
        found: Volume,
    },
    /// Written by a newer Bulkhead (V41).
    #[error("format version {found}, this Bulkhead reads {reads}")]
    NewerFormat {
        /// The version found.
        found: u8,
        /// The newest one that is known here.
        reads: u8,
    },
}

impl Record {
    /// The block to write.
    pub fn encode(&self) -> Block {
        let mut out = Writer::<BLOCK_LEN>::default();
        let name = self.name.as_str();
        out.put(&MAGIC);
        let is_more = self.seal.is_some() || self.guest.is_some();
        let is_placed = self.guest.is_some_and(|guest| guest.home.is_some() || guest.apart.is_some());
        let is_counted = self.guest.is_some_and(|guest| guest.needs.is_some());
        out.u8(match (is_counted, is_placed, is_more, self.is_cached, self.policy) {
            (true, _, _, _, _) => VERSION,
            (false, true, _, _, _) => WITH_PLACE,
            (false, false, true, _, _) => WITH_SEAL,
            (false, false, false, false, _) => PAST_CACHE,
            (false, false, false, true, Some(_)) => WITH_POLICY,
            (false, false, false, true, None) => PLAIN,
        });
        out.u16(self.volume.0);
        out.u8(match self.state {
            State::Present => 1,
            State::Deleted => 2,
        });
        // At most NAME_MAX.
        out.u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.u8(match self.policy {
            None => 0,
            Some(Policy::Through) => 1,
            Some(Policy::Back) => 2,
        });
        out.u8(if self.is_cached { 0 } else { 1 });
        out.reserved(2);
        out.put(&self.uuid.0);
        out.u64(self.blocks);
        out.u64(self.change);
        out.put(name.as_bytes());
        out.reserved(NAME_MAX.saturating_sub(name.len()));
        out.put(&self.seal.map_or([0; 16], Seal::bytes));
        out.put(&guest::bytes(self.guest));
        with_crc(out)
    }

    /// Reads block `number` of the catalogue; `None`: the number was never used.
    ///
    /// # Errors
    ///
    /// [`Fault`]. What does not encode to the same bytes again is damaged: one record, one form.
    pub fn decode(number: Volume, bytes: &Block) -> Result<Option<Self>, Fault> {
        let Some(mut fields) = of_version(bytes, MAGIC, VERSION)? else { return Ok(None) };
        let record = read(&mut fields).filter(|record| record.encode() == *bytes).ok_or(Fault::Damaged)?;
        if record.volume != number {
            return Err(Fault::Misdirected { found: record.volume });
        }
        Ok(Some(record))
    }
}

/// A block of the catalogue with its checksum.
pub(super) fn with_crc(out: Writer<BLOCK_LEN>) -> Block {
    let mut bytes = out.finish();
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32c(body).to_le_bytes();
    }
    bytes
}

/// The fields of a sound block of the catalogue; `None`: all of it is zero.
pub(super) fn of_version(bytes: &Block, magic: [u8; 7], newest: u8) -> Result<Option<Reader<'_>>, Fault> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return Err(Fault::Damaged) };
    if crc32c(body).to_le_bytes() != *crc {
        return Err(Fault::Damaged);
    }
    let mut fields = Reader::new(body);
    match (fields.array::<7>(), fields.u8()) {
        (Some(found), Some(version)) if found == magic && (1..=newest).contains(&version) => Ok(Some(fields)),
        (Some(found), Some(version)) if found == magic && newest < version => {
            Err(Fault::NewerFormat { found: version, reads: newest })
        }
        (Some(_) | None, Some(_) | None) => Err(Fault::Damaged),
    }
}

fn read(fields: &mut Reader<'_>) -> Option<Record> {
    let volume = Volume(fields.u16()?);
    let state = match fields.u8()? {
        1 => State::Present,
        2 => State::Deleted,
        0 | 3.. => return None,
    };
    let length = usize::from(fields.u8()?);
    let policy = match fields.u8()? {
        0 => None,
        1 => Some(Policy::Through),
        2 => Some(Policy::Back),
        3.. => return None,
    };
    let is_cached = match fields.u8()? {
        0 => true,
        1 => false,
        2.. => return None,
    };
    fields.reserved::<2>()?.then_some(())?;
    let uuid = Uuid(fields.array()?);
    let (blocks, change) = (fields.u64()?, fields.u64()?);
    let name: [u8; NAME_MAX] = fields.array()?;
    let name = Name::new(core::str::from_utf8(name.get(..length)?).ok()?).ok()?;
    let seal = Seal::new(fields.array()?);
    let guest = guest::read(fields.array()?)?;
    let in_bounds = (1..=NUMBER_MAX).contains(&volume.0) && (1..=BLOCKS_MAX).contains(&blocks);
    let is_sound = in_bounds && change != 0 && uuid != Uuid([0; 16]);
    is_sound.then_some(Record { volume, state, name, uuid, blocks, change, policy, is_cached, seal, guest })
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
