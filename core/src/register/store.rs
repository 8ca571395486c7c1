//! What a voter keeps on disk, and where (V10; F1, F8, F14, F25).
//!
//! Each register has a place with two copies. A change is written to copy 0 and flushed, and then counts;
//! copy 1 follows before copy 0 is written again. So at every instant one copy holds everything that was
//! answered, and a torn write damages only what was not. Copies lie [`STRIDE`] bytes apart: no two share a
//! physical sector.
//!
//! | at (bytes)                       | what                                   |
//! |----------------------------------|----------------------------------------|
//! | 0, [`STRIDE`]                    | [`Owner`], two copies                  |
//! | ([`PLACES_AT`] + 2 p) × STRIDE   | register at place p, copy 0            |
//! | ([`PLACES_AT`] + 2 p + 1) × STRIDE | register at place p, copy 1          |
//!
//! A register, 512 bytes, little-endian:
//!
//! |  at | len | field             | unit, values                                             |
//! |----:|----:|-------------------|----------------------------------------------------------|
//! |   0 |   8 | magic             | "BHREGS", 0, version 1                                   |
//! |   8 |  22 | owner             | site (16), node (2), life (4), as in [`Owner`]           |
//! |  30 |   2 | register          |                                                          |
//! |  32 |   8 | seq               | +1 a change, never 0                                     |
//! |  40 |  10 | promised          | round (8), node (2)                                      |
//! |  50 |  10 | accepted          | round (8), node (2); all zero: nothing accepted          |
//! |  60 |   8 | epoch             | this and what follows: zero when nothing is accepted     |
//! |  68 |   2 | holder            | 0: nobody                                                |
//! |  70 |   1 | voters            | how many, 1..=5                                          |
//! |  71 |   1 | voters before     | how many, 0..=5                                          |
//! |  72 |   1 | payload           | bytes, 0..=64                                            |
//! |  73 |   3 | reserved          | zero                                                     |
//! |  76 |  30 | voters            | node (2), life (4) each; the rest zero                   |
//! | 106 |  30 | voters before     | as voters                                                |
//! | 136 |  64 | payload           | the rest zero                                            |
//! | 200 | 308 | reserved          | zero                                                     |
//! | 508 |   4 | crc               | CRC-32C of bytes 0..508                                  |
//!
//! The owner, 512 bytes: magic "BHVOTE", 0, version 1 (8); site (16), node (2), life (4); reserved, zero
//! (478); crc (4).

use heapless::Vec;
use thiserror::Error;

use super::ballot::Ballot;
use super::record::{Payload, Record};
use super::voters::{Life, Set, VOTERS_MAX, Voter, Voters};
use crate::bytes::{Reader, Writer};
use crate::crc::crc32c;
use crate::id::{Epoch, NodeId, RegisterId, SiteId};

/// Bytes of one structure.
pub const STORED_LEN: usize = 512;
/// Bytes from one structure to the next: the largest physical sector in use.
pub const STRIDE: u64 = 4096;
/// The index of the first place, in strides.
pub const PLACES_AT: u64 = 2;

const OWNER_MAGIC: [u8; 7] = *b"BHVOTE\0";
const REGISTER_MAGIC: [u8; 7] = *b"BHREGS\0";
const VERSION: u8 = 1;
const CRC_AT: usize = STORED_LEN - 4;

/// Where a copy (0 or 1) of the register at `place` lies, in bytes from the start of the voter's space.
pub const fn offset(place: u16, copy: u8) -> u64 {
    // Widening; `From` is not const. At most 2 × 65,536 strides: no overflow.
    let index = PLACES_AT.saturating_add((place as u64).saturating_mul(2)).saturating_add(copy as u64 & 1);
    index.saturating_mul(STRIDE)
}

/// Bytes a voter needs for `places` registers.
pub const fn space(places: u16) -> u64 {
    offset(places, 0)
}

/// Whose state this is. A disk that carries another one is refused (F14, F54).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The site.
    pub site: SiteId,
    /// The voter.
    pub node: NodeId,
    /// The life of the state.
    pub life: Life,
}

/// One register as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// Which.
    pub register: RegisterId,
    /// Counts changes; the copy with the higher one is newer.
    pub seq: u64,
    /// The newest attempt promised.
    pub promised: Ballot,
    /// The newest record accepted, and by which attempt. Invariant: not above `promised`.
    pub accepted: Option<(Ballot, Record)>,
}

/// Why bytes are not a structure of this voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Nothing was ever written here.
    #[error("blank")]
    Blank,
    /// Torn, rotten, or not ours at all.
    #[error("damaged: its checksum or its fields do not fit")]
    Damaged,
    /// Written by a newer Bulkhead.
    #[error("format version {found}, this Bulkhead reads {VERSION}")]
    NewerFormat {
        /// The version found.
        found: u8,
    },
    /// It belongs to another site, node or life.
    #[error("it belongs to another site, node or life of this voter")]
    Foreign,
}

impl Owner {
    /// The bytes to write at both owner places.
    pub fn encode(&self) -> [u8; STORED_LEN] {
        let mut out = begin(OWNER_MAGIC, self);
        out.reserved(CRC_AT - 30);
        seal(out)
    }

    /// Reads an owner.
    ///
    /// # Errors
    ///
    /// Every [`Fault`] but `Foreign`.
    pub fn parse(bytes: &[u8; STORED_LEN]) -> Result<Self, Fault> {
        let mut fields = open(bytes, OWNER_MAGIC)?;
        let owner = owner(&mut fields).ok_or(Fault::Damaged)?;
        (owner.encode() == *bytes).then_some(owner).ok_or(Fault::Damaged)
    }
}

impl Stored {
    /// The bytes to write at a place of `owner`.
    pub fn encode(&self, owner: &Owner) -> [u8; STORED_LEN] {
        let mut out = begin(REGISTER_MAGIC, owner);
        out.u16(self.register.0);
        out.u64(self.seq);
        ballot(&mut out, self.promised);
        match &self.accepted {
            None => {
                ballot(&mut out, Ballot::NONE);
                out.reserved(200 - 60);
            }
            Some((attempt, record)) => {
                ballot(&mut out, *attempt);
                encode_record(&mut out, record);
            }
        }
        out.reserved(CRC_AT - 200);
        seal(out)
    }

    /// Reads a register of `owner`.
    ///
    /// # Errors
    ///
    /// [`Fault`]. What does not encode to the same bytes again is damaged: one structure, one form.
    pub fn parse(bytes: &[u8; STORED_LEN], owner: &Owner) -> Result<Self, Fault> {
        let mut fields = open(bytes, REGISTER_MAGIC)?;
        let found = self::owner(&mut fields).ok_or(Fault::Damaged)?;
        let stored = parse_register(&mut fields).ok_or(Fault::Damaged)?;
        if found != *owner {
            return Err(Fault::Foreign);
        }
        (stored.encode(owner) == *bytes).then_some(stored).ok_or(Fault::Damaged)
    }
}

/// Whether `bytes` are a register of `owner` as it was written: cheaper than to read it, where nothing is to
/// be read.
pub fn is_whole(bytes: &[u8; STORED_LEN], owner: &Owner) -> bool {
    open(bytes, REGISTER_MAGIC).ok().and_then(|mut fields| self::owner(&mut fields)) == Some(*owner)
}

/// What two copies of a place say together: the newest state that can have been answered from.
///
/// # Errors
///
/// - [`Fault::Blank`]: never used. So is one blank and one damaged copy: the first write was torn, and
///   nothing was answered from it.
/// - [`Fault::Damaged`]: both copies are lost. The voter must not guess what it promised; it needs a new
///   life.
/// - [`Fault::NewerFormat`], [`Fault::Foreign`]: one copy says so.
pub fn newest(copies: [Result<Stored, Fault>; 2]) -> Result<Stored, Fault> {
    match copies {
        [Err(Fault::NewerFormat { found }), _] | [_, Err(Fault::NewerFormat { found })] => {
            Err(Fault::NewerFormat { found })
        }
        [Err(Fault::Foreign), _] | [_, Err(Fault::Foreign)] => Err(Fault::Foreign),
        [Ok(a), Ok(b)] => Ok(if a.seq < b.seq { b } else { a }),
        [Ok(one), Err(Fault::Blank | Fault::Damaged)] | [Err(Fault::Blank | Fault::Damaged), Ok(one)] => {
            Ok(one)
        }
        [Err(Fault::Damaged), Err(Fault::Damaged)] => Err(Fault::Damaged),
        [Err(Fault::Blank), Err(Fault::Blank | Fault::Damaged)]
        | [Err(Fault::Damaged), Err(Fault::Blank)] => Err(Fault::Blank),
    }
}

type Out = Writer<STORED_LEN>;

fn begin(magic: [u8; 7], owner: &Owner) -> Out {
    let mut out = Out::default();
    out.put(&magic);
    out.put(&[VERSION]);
    out.put(&owner.site.0);
    out.u16(owner.node.0);
    out.u32(owner.life.0);
    out
}

fn seal(out: Out) -> [u8; STORED_LEN] {
    let mut bytes = out.finish();
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32c(body).to_le_bytes();
    }
    bytes
}

fn ballot(out: &mut Out, ballot: Ballot) {
    out.u64(ballot.round);
    out.u16(ballot.by().0);
}

fn encode_record(out: &mut Out, record: &Record) {
    let Voters { current, previous } = &record.voters;
    let count = |set: &Set| u8::try_from(set.iter().count()).unwrap_or(u8::MAX);
    let payload_len = u8::try_from(record.payload.len()).unwrap_or(u8::MAX);
    out.u64(record.epoch.0);
    out.u16(record.holder.map_or(0, |node| node.0));
    out.put(&[count(current), previous.as_ref().map_or(0, count), payload_len]);
    out.reserved(3);
    encode_set(out, Some(current));
    encode_set(out, previous.as_ref());
    let mut payload = [0; super::record::PAYLOAD_MAX];
    if let Some(place) = payload.get_mut(..record.payload.len()) {
        place.copy_from_slice(&record.payload);
    }
    out.put(&payload);
}

fn encode_set(out: &mut Out, set: Option<&Set>) {
    let mut voters = set.into_iter().flat_map(Set::iter);
    for _ in 0..VOTERS_MAX {
        let voter = voters.next().copied().unwrap_or(Voter { node: NodeId(0), life: Life::UNSEEN });
        out.u16(voter.node.0);
        out.u32(voter.life.0);
    }
}

fn open(bytes: &[u8; STORED_LEN], magic: [u8; 7]) -> Result<Reader<'_>, Fault> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(Fault::Blank);
    }
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return Err(Fault::Damaged) };
    if crc32c(body).to_le_bytes() != *crc {
        return Err(Fault::Damaged);
    }
    let mut fields = Reader::new(body);
    match (fields.array::<7>(), fields.u8()) {
        (Some(found), Some(VERSION)) if found == magic => Ok(fields),
        (Some(found), Some(version)) if found == magic && VERSION < version => {
            Err(Fault::NewerFormat { found: version })
        }
        (Some(_) | None, Some(_) | None) => Err(Fault::Damaged),
    }
}

fn owner(fields: &mut Reader<'_>) -> Option<Owner> {
    let site = SiteId(fields.array()?);
    Some(Owner { site, node: NodeId(fields.u16()?), life: Life(fields.u32()?) })
}

fn parse_register(fields: &mut Reader<'_>) -> Option<Stored> {
    let register = RegisterId(fields.u16()?);
    let seq = fields.u64()?;
    let promised = parse_ballot(fields)?;
    let attempt = parse_ballot(fields)?;
    let accepted = match attempt == Ballot::NONE {
        true => None,
        false => Some((attempt, parse_record(fields)?)),
    };
    let stored = Stored { register, seq, promised, accepted };
    (attempt <= promised && seq != 0).then_some(stored)
}

fn parse_ballot(fields: &mut Reader<'_>) -> Option<Ballot> {
    let round = fields.u64()?;
    Some(Ballot::new(round, NodeId(fields.u16()?)))
}

fn parse_record(fields: &mut Reader<'_>) -> Option<Record> {
    let epoch = Epoch(fields.u64()?);
    let holder = Some(NodeId(fields.u16()?)).filter(|node| node.0 != 0);
    let [current, previous, payload_len] = fields.array::<3>()?;
    fields.reserved::<3>()?;
    let current = parse_set(fields, current)?.ok()?;
    let previous = match (previous, parse_set(fields, previous)?) {
        (0, _) => None,
        (_, set) => Some(set.ok()?),
    };
    let payload = fields.array::<{ super::record::PAYLOAD_MAX }>()?;
    let payload = Payload::from_slice(payload.get(..usize::from(payload_len))?).ok()?;
    Some(Record { epoch, holder, voters: Voters { current, previous }, payload })
}

fn parse_set(fields: &mut Reader<'_>, count: u8) -> Option<Result<Set, super::voters::NotASet>> {
    let mut voters = Vec::<Voter, VOTERS_MAX>::new();
    for index in 0..VOTERS_MAX {
        let voter = Voter { node: NodeId(fields.u16()?), life: Life(fields.u32()?) };
        if index < usize::from(count) {
            voters.push(voter).ok()?;
        }
    }
    Some(Set::new(voters))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
