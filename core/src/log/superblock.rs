//! What a log is, and from where on it counts (I1, V9, F8, F14).
//!
//! Two copies, in blocks 0 and 1 of the log's space. A change is written over the older copy and flushed, one
//! change at a time, so that the newest durable state is whole at every instant.
//!
//! A superblock, 4096 bytes, little-endian:
//!
//! |   at | len | field      | unit, values                                                          |
//! |-----:|----:|------------|-----------------------------------------------------------------------|
//! |    0 |   8 | magic      | "BHLOGS", 0, version 1                                                |
//! |    8 |  16 | site       |                                                                       |
//! |   24 |  16 | group      | the mirror group                                                      |
//! |   40 |   2 | node       | the holder                                                            |
//! |   42 |   2 | reserved   | zero                                                                  |
//! |   44 |   4 | life       | drawn at random when the log was made, never 0                        |
//! |   48 |   8 | ring       | blocks                                                                |
//! |   56 |   8 | seq        | +1 a change, never 0                                                  |
//! |   64 |   8 | promised   | the newest epoch promised: older ones append nothing here             |
//! |   72 |   8 | durable    | every write up to this one was durable here                           |
//! |   80 |   8 | applied    | every write up to this one is in the backing store                    |
//! |   88 |   8 | tail       | position of the oldest batch                                          |
//! |   96 |   8 | tail write | its first write; that of the next batch when there is none            |
//! |  104 |   4 | tail chain | the checksum of the header before it                                  |
//! |  108 |   4 | cuts       | how many, 0..=15                                                      |
//! |  112 |   8 | run        | number of the newest run, +1 a run; 0: none yet                       |
//! |  120 |   8 | run at     | position where it begins                                              |
//! |  128 | 240 | cuts       | each: position (8), first void write (8); oldest first, the rest zero |
//! |  368 |3724 | reserved   | zero                                                                  |
//! | 4092 |   4 | crc        | CRC-32C of bytes 0..4092                                              |

use heapless::Vec;
use thiserror::Error;

use super::ring::{Position, Ring};
use super::{BLOCK_LEN, Block, End, Life, Seq};
use crate::bug::{Bug, is_planted};
use crate::bytes::{Reader, Writer};
use crate::crc::crc32c;
use crate::id::{Epoch, GroupId, NodeId, SiteId};

const MAGIC: [u8; 7] = *b"BHLOGS\0";
const VERSION: u8 = 1;
const CRC_AT: usize = BLOCK_LEN - 4;

/// Cuts that one log remembers. Each is forgotten when the batches before it are trimmed.
pub const CUTS_MAX: usize = 15;

/// Whose log this is. One of another site, group, holder or life is refused (F14, V40).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The site.
    pub site: SiteId,
    /// The mirror group.
    pub group: GroupId,
    /// The holder.
    pub node: NodeId,
    /// Another one each time a log is made.
    pub life: Life,
}

/// The oldest batch of a log, or where its next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tail {
    /// Where.
    pub at: Position,
    /// Its first write.
    pub first: Seq,
    /// The checksum of the header before it: 0 in front of the first.
    pub chain: u32,
}

/// All that one start of a holder appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// Its number.
    pub number: u64,
    /// Where it begins: everything before was whole then.
    pub at: Position,
}

/// Writes that are in the log, and void: their primary never acknowledged them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Batches before this one are meant.
    pub at: Position,
    /// This write of theirs and all after it are void.
    pub from: Seq,
}

/// A superblock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Superblock {
    /// Whose log.
    pub identity: Identity,
    /// Its blocks.
    pub ring: Ring,
    /// Counts changes.
    pub seq: u64,
    /// The newest epoch promised (I1).
    pub promised: Epoch,
    /// Every write up to this one was durable here. What cannot be read of it is damaged.
    pub durable: Seq,
    /// Every write up to this one is in the backing store.
    pub applied: Seq,
    /// From where on batches are kept.
    pub tail: Tail,
    /// The newest run.
    pub run: Run,
    /// Invariant: positions strictly rise, and are not before the tail.
    pub cuts: Vec<Cut, CUTS_MAX>,
}

/// Why a block is no superblock of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Nothing was ever written here.
    #[error("blank")]
    Blank,
    /// Torn, rotten, or something else.
    #[error("damaged: its checksum or its fields do not fit")]
    Damaged,
    /// Written by a newer Bulkhead (V41).
    #[error("format version {found}, this Bulkhead reads {VERSION}")]
    NewerFormat {
        /// The version found.
        found: u8,
    },
}

impl Superblock {
    /// A log that holds nothing, as `identity`'s in `ring`. Its first write is `first`: one after what the
    /// backing store holds already.
    pub const fn new(identity: Identity, ring: Ring, first: Seq) -> Self {
        let before = first.before();
        Self {
            identity,
            ring,
            seq: 1,
            promised: Epoch(0),
            durable: before,
            applied: before,
            tail: Tail { at: Position(0), first, chain: 0 },
            run: Run { number: 0, at: Position(0) },
            cuts: Vec::new(),
        }
    }

    /// Whether `write`, of the batch at `at`, was cut off.
    pub fn is_void(&self, at: Position, write: Seq) -> bool {
        self.void_from(at).is_some_and(|from| from <= write)
    }

    /// The first number of which the batch at `at` holds no write that counts.
    pub fn void_from(&self, at: Position) -> Option<Seq> {
        self.cuts.iter().filter(|cut| at < cut.at).map(|cut| cut.from).min()
    }

    /// Promises `epoch`: nothing older is appended from then on (I1).
    pub fn promise(&mut self, epoch: Epoch) {
        self.promised = self.promised.max(epoch);
    }

    /// Says what is in the backing store, and was durable here. Both only rise.
    pub fn settle(&mut self, durable: Seq, applied: Seq) {
        self.durable = self.durable.max(durable);
        self.applied = self.applied.max(applied);
    }

    /// Forgets the batches before `tail`, and the cuts that concern only them. What is not in the backing
    /// store stays.
    pub fn trim(&mut self, tail: Tail) {
        let is_applied = tail.first.before() <= self.applied || is_planted(Bug::TrimmedUnapplied);
        if self.tail.at < tail.at && is_applied {
            self.tail = tail;
            self.cuts.retain(|cut| tail.at < cut.at);
        }
    }

    /// Begins a run where the log ends, with the write `from`; what the log holds from there on is cut off.
    ///
    /// # Errors
    ///
    /// [`Uncut`], and nothing has changed.
    pub fn begin(&mut self, end: &End, from: Seq) -> Result<(), Uncut> {
        let kept = self.applied.max(end.commit);
        if from <= kept {
            return Err(Uncut::Counts(kept));
        }
        // What lay behind the new end is gone, and with it what was cut off there.
        let old = self.cuts.iter().map(|cut| Cut { at: cut.at.min(end.at), from: cut.from });
        let is_cut = from < end.next && !is_planted(Bug::CutUnrecorded);
        let new = is_cut.then_some(Cut { at: end.at, from });
        let mut cuts = Vec::<Cut, CUTS_MAX>::new();
        for cut in old.chain(new) {
            match cuts.last_mut().filter(|last| last.at == cut.at) {
                Some(last) => last.from = last.from.min(cut.from),
                None => cuts.push(cut).map_err(|_| Uncut::TooMany)?,
            }
        }
        self.cuts = cuts;
        self.run = Run { number: self.run.number.saturating_add(1), at: end.at };
        self.durable = self.durable.min(from.before());
        Ok(())
    }

    /// Makes the log anew, as `life`: its first write is `first`, and the backing store holds what is before.
    /// What it held is void, for it is of another life; whoever counts on it must not count on this log
    /// (F14).
    pub fn remake(&mut self, life: Life, at: Position, first: Seq) {
        self.identity.life = life;
        self.durable = first.before();
        self.applied = first.before();
        self.tail = Tail { at, first, chain: 0 };
        self.run = Run { number: self.run.number.saturating_add(1), at };
        self.cuts.clear();
    }

    /// The block to write.
    pub fn encode(&self) -> Block {
        let mut out = Writer::<BLOCK_LEN>::default();
        out.put(&MAGIC);
        out.u8(VERSION);
        out.put(&self.identity.site.0);
        out.put(&self.identity.group.0);
        out.u16(self.identity.node.0);
        out.reserved(2);
        out.u32(self.identity.life.0);
        out.u64(self.ring.blocks());
        out.u64(self.seq);
        out.u64(self.promised.0);
        out.u64(self.durable.0);
        out.u64(self.applied.0);
        out.u64(self.tail.at.0);
        out.u64(self.tail.first.0);
        out.u32(self.tail.chain);
        // At most 15.
        out.u32(u32::try_from(self.cuts.len()).unwrap_or(u32::MAX));
        out.u64(self.run.number);
        out.u64(self.run.at.0);
        for cut in &self.cuts {
            out.u64(cut.at.0);
            out.u64(cut.from.0);
        }
        let mut bytes = out.finish();
        if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
            *crc = crc32c(body).to_le_bytes();
        }
        bytes
    }

    /// Reads a superblock.
    ///
    /// # Errors
    ///
    /// [`Fault`]. What does not encode to the same bytes again is damaged: one structure, one form.
    pub fn parse(bytes: &Block) -> Result<Self, Fault> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(Fault::Blank);
        }
        let (body, crc) = bytes.split_at(CRC_AT);
        if crc32c(body).to_le_bytes() != crc {
            return Err(Fault::Damaged);
        }
        let mut fields = Reader::new(body);
        match (fields.array::<7>(), fields.u8()) {
            (Some(MAGIC), Some(VERSION)) => {}
            (Some(MAGIC), Some(found)) if VERSION < found => return Err(Fault::NewerFormat { found }),
            (Some(_) | None, Some(_) | None) => return Err(Fault::Damaged),
        }
        let superblock = read(&mut fields).ok_or(Fault::Damaged)?;
        (superblock.is_sound() && superblock.encode() == *bytes).then_some(superblock).ok_or(Fault::Damaged)
    }

    /// Whether one of them was written over the other.
    fn replaces(&self, other: &Self) -> bool {
        // The change by which a log is made anew gives it another life.
        let is_one = self.identity.life == other.identity.life || self.seq.abs_diff(other.seq) == 1;
        let identity = Identity { life: self.identity.life, ..other.identity };
        is_one && (self.identity, self.ring) == (identity, other.ring)
    }

    /// Whether its fields can stand beside each other.
    fn is_sound(&self) -> bool {
        let rises = self.cuts.is_sorted_by(|one, two| one.at < two.at);
        let ahead = self.cuts.iter().all(|cut| self.tail.at < cut.at && cut.at <= self.run.at);
        let in_ring = self.run.at.since(self.tail.at) <= self.ring.blocks();
        let named = self.seq != 0 && self.identity.life != Life(0) && self.tail.first != Seq(0);
        rises && ahead && in_ring && named && self.tail.first.before() <= self.applied
    }
}

/// Why a log was not cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Uncut {
    /// [`CUTS_MAX`] cuts are in it already. Exit: apply what it holds to the backing store, and trim it.
    #[error("the log remembers {CUTS_MAX} cuts and has no room for another; it must be trimmed first")]
    TooMany,
    /// Writes up to this one are in the backing store, or were acknowledged: no primary takes them back
    /// (I10).
    #[error("writes up to {} cannot be cut off: they may have been acknowledged", .0.0)]
    Counts(Seq),
}

/// What both copies say together: the newest state.
///
/// # Errors
///
/// - [`Fault::NewerFormat`]: one copy says so.
/// - [`Fault::Blank`]: there never was a log. So is one blank and one damaged copy: making it was cut short.
/// - [`Fault::Damaged`]: both are lost, and nobody knows what was promised here. The holder joins as empty.
pub fn newest(copies: [Result<Superblock, Fault>; 2]) -> Result<Superblock, Fault> {
    match copies {
        [Err(Fault::NewerFormat { found }), _] | [_, Err(Fault::NewerFormat { found })] => {
            Err(Fault::NewerFormat { found })
        }
        // A log beside the rest of another one: nobody can tell which of them is meant.
        [Ok(one), Ok(two)] if !one.replaces(&two) => Err(Fault::Damaged),
        [Ok(one), Ok(two)] if is_planted(Bug::OlderSuperblock) => {
            Ok(if one.seq < two.seq { one } else { two })
        }
        [Ok(one), Ok(two)] => Ok(if one.seq < two.seq { two } else { one }),
        [Ok(one), Err(Fault::Blank | Fault::Damaged)] | [Err(Fault::Blank | Fault::Damaged), Ok(one)] => {
            Ok(one)
        }
        [Err(Fault::Damaged), Err(Fault::Damaged)] => Err(Fault::Damaged),
        [Err(Fault::Blank), Err(Fault::Blank | Fault::Damaged)]
        | [Err(Fault::Damaged), Err(Fault::Blank)] => Err(Fault::Blank),
    }
}

/// Which copy a change with this number is written to.
pub const fn copy_of(seq: u64) -> u64 {
    seq & 1
}

fn read(fields: &mut Reader<'_>) -> Option<Superblock> {
    let (site, group) = (SiteId(fields.array()?), GroupId(fields.array()?));
    let node = NodeId(fields.u16()?);
    fields.reserved::<2>()?.then_some(())?;
    let life = Life(fields.u32()?);
    let ring = Ring::new(fields.u64()?)?;
    let seq = fields.u64()?;
    let promised = Epoch(fields.u64()?);
    let (durable, applied) = (Seq(fields.u64()?), Seq(fields.u64()?));
    let tail = Tail { at: Position(fields.u64()?), first: Seq(fields.u64()?), chain: fields.u32()? };
    let count = fields.u32()?;
    let run = Run { number: fields.u64()?, at: Position(fields.u64()?) };
    let mut cuts = Vec::new();
    for _ in 0..count {
        // A longer list than there is room for is no superblock of ours.
        cuts.push(Cut { at: Position(fields.u64()?), from: Seq(fields.u64()?) }).ok()?;
    }
    let identity = Identity { site, group, node, life };
    Some(Superblock { identity, ring, seq, promised, durable, applied, tail, run, cuts })
}

#[cfg(test)]
#[path = "superblock_tests.rs"]
mod tests;
