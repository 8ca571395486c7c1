//! A batch: the header that names writes, and their payload behind it (V5, F1 to F4).
//!
//! A header, 4096 bytes, little-endian:
//!
//! |   at | len | field    | unit, values                                                            |
//! |-----:|----:|----------|-------------------------------------------------------------------------|
//! |    0 |   8 | magic    | "BHBATC", 0, version 1                                                  |
//! |    8 |  16 | group    | the mirror group                                                        |
//! |   24 |   4 | life     | of the log                                                              |
//! |   28 |   4 | chain    | the checksum of the header before it; 0 in front of the first           |
//! |   32 |   8 | position | where it is                                                             |
//! |   40 |   8 | run      | its number                                                              |
//! |   48 |   8 | epoch    | under which its writes were made                                        |
//! |   56 |   8 | first    | number of its first write; the others follow                            |
//! |   64 |   8 | durable  | every write up to this one was durable here when this header was made   |
//! |   72 |   8 | commit   | every write up to this one was durable on all in-sync holders, as known |
//! |   80 |   2 | writes   | how many, 1..=128                                                       |
//! |   82 |   2 | blocks   | of payload, 0..=448                                                     |
//! |   84 |  12 | reserved | zero                                                                    |
//! |   96 |2048 | writes   | 16 each, the rest zero                                                  |
//! | 2144 |1792 | sums     | CRC-32C of each block of payload, in order; the rest zero               |
//! | 3936 | 156 | reserved | zero                                                                    |
//! | 4092 |   4 | crc      | CRC-32C of bytes 0..4092                                                |
//!
//! A write: volume (2); kind (1: 1 data, 2 zeroes, 3 trimmed); reserved (1); blocks (4); first block (8).
//! Data takes as many blocks of payload, zeroes and trims take none.

use heapless::Vec;

use super::ring::Position;
use super::superblock::Identity;
use super::{BLOCK_LEN, Block, Life, Seq};
use crate::bytes::{Reader, Writer};
use crate::crc::crc32c;
use crate::id::{Epoch, GroupId};

/// Writes that one header names at most.
pub const WRITES_MAX: usize = 128;
/// Blocks of payload in one batch at most: 1.75 MiB.
pub const PAYLOAD_MAX: usize = 448;
/// Blocks of one batch at most, its header included.
pub const BATCH_MAX: u64 = 449;

const _: () = assert!(BATCH_MAX == PAYLOAD_MAX as u64 + 1, "a header, and all payload");

const MAGIC: [u8; 7] = *b"BHBATC\0";
const VERSION: u8 = 1;
const CRC_AT: usize = BLOCK_LEN - 4;
const WRITE_LEN: usize = 16;
const SUM_LEN: usize = 4;

const _: () =
    assert!(96 + WRITES_MAX * WRITE_LEN + PAYLOAD_MAX * SUM_LEN <= CRC_AT, "a header fits its block");

/// A volume of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Volume(pub u16);

/// A block of a volume, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIndex(pub u64);

/// Blocks of a volume at most: 2^52, 16 ZiB, so that a byte offset fits 64 bits.
pub const VOLUME_BLOCKS_MAX: u64 = 1 << 52;

/// What a write puts into its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes of the guest.
    Data,
    /// Zeroes.
    Zeroes,
    /// Nothing: their content does not matter any more. Reads as zeroes.
    Trimmed,
}

/// A range of blocks of a volume, and what is put into them. Made by [`Write::new`], so that it can be
/// logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    volume: Volume,
    first: BlockIndex,
    blocks: u32,
    kind: Kind,
}

impl Write {
    /// `None` when it has no block, reaches behind the largest volume, or has more data than a batch.
    pub fn new(volume: Volume, first: BlockIndex, blocks: u32, kind: Kind) -> Option<Self> {
        let end = first.0.checked_add(u64::from(blocks))?;
        let most = match kind {
            Kind::Data => u32::try_from(PAYLOAD_MAX).ok()?,
            Kind::Zeroes | Kind::Trimmed => u32::MAX,
        };
        (1..=most).contains(&blocks).then_some(())?;
        (end <= VOLUME_BLOCKS_MAX).then_some(Self { volume, first, blocks, kind })
    }

    /// The volume.
    pub const fn volume(&self) -> Volume {
        self.volume
    }

    /// The first of its blocks.
    pub const fn first(&self) -> BlockIndex {
        self.first
    }

    /// How many blocks it covers.
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// What it puts there.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// How many blocks of payload it has.
    pub fn payload(&self) -> usize {
        match self.kind {
            // At most PAYLOAD_MAX.
            Kind::Data => usize::try_from(self.blocks).unwrap_or(usize::MAX),
            Kind::Zeroes | Kind::Trimmed => 0,
        }
    }
}

/// CRC-32C of one block of payload, computed by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sum(pub u32);

/// Writes on their way into one batch, with the checksums of their payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Content {
    writes: Vec<Write, WRITES_MAX>,
    sums: Vec<Sum, PAYLOAD_MAX>,
}

impl Content {
    /// Whether a write with so many blocks of payload finds room.
    pub fn has_room(&self, payload: usize) -> bool {
        !self.writes.is_full() && payload <= PAYLOAD_MAX.saturating_sub(self.sums.len())
    }

    /// Adds a write. `false`, and nothing happens, when it finds no room or has another number of checksums
    /// than blocks of payload.
    #[must_use]
    pub fn push(&mut self, write: Write, sums: impl ExactSizeIterator<Item = Sum>) -> bool {
        let fits = sums.len() == write.payload() && self.has_room(sums.len());
        if fits {
            // Room was asked for above.
            let _ = self.writes.push(write);
            self.sums.extend(sums);
        }
        fits
    }

    /// The writes, in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The checksums of their payload, block by block.
    pub fn sums(&self) -> &[Sum] {
        &self.sums
    }

    /// Whether there is no write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Blocks that it takes in the log, its header included.
    pub fn blocks(&self) -> u64 {
        // At most PAYLOAD_MAX.
        u64::try_from(self.sums.len()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// The header of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The mirror group.
    pub group: GroupId,
    /// Of the log.
    pub life: Life,
    /// The checksum of the header before it.
    pub chain: u32,
    /// Where it is.
    pub at: Position,
    /// The number of its run.
    pub run: u64,
    /// Under which its writes were made.
    pub epoch: Epoch,
    /// Its first write.
    pub first: Seq,
    /// Every write up to this one was durable here when this header was made.
    pub durable: Seq,
    /// Every write up to this one was durable on all in-sync holders then, as far as this one knew.
    pub commit: Seq,
    /// What it holds. Never empty.
    pub content: Content,
}

impl Header {
    /// Its last write.
    pub fn last(&self) -> Seq {
        // At most WRITES_MAX.
        self.first.after(u64::try_from(self.content.writes.len()).unwrap_or(u64::MAX)).before()
    }

    /// Where the next batch begins.
    pub fn end(&self) -> Position {
        self.at.after(self.content.blocks())
    }

    /// Whether it stands in the log of `identity`.
    pub fn is_of(&self, identity: &Identity) -> bool {
        (self.group, self.life) == (identity.group, identity.life)
    }

    /// The block to write, in front of the payload.
    pub fn encode(&self) -> Block {
        let mut bytes = self.body();
        if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
            *crc = crc32c(body).to_le_bytes();
        }
        bytes
    }

    /// All but the checksum.
    fn body(&self) -> Block {
        let mut out = Writer::<BLOCK_LEN>::default();
        out.put(&MAGIC);
        out.u8(VERSION);
        out.put(&self.group.0);
        out.u32(self.life.0);
        out.u32(self.chain);
        out.u64(self.at.0);
        out.u64(self.run);
        out.u64(self.epoch.0);
        out.u64(self.first.0);
        out.u64(self.durable.0);
        out.u64(self.commit.0);
        let Content { writes, sums } = &self.content;
        let count = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
        out.u16(count(writes.len()));
        out.u16(count(sums.len()));
        out.reserved(12);
        for write in writes {
            out.u16(write.volume.0);
            out.u8(match write.kind {
                Kind::Data => 1,
                Kind::Zeroes => 2,
                Kind::Trimmed => 3,
            });
            out.reserved(1);
            out.u32(write.blocks);
            out.u64(write.first.0);
        }
        out.reserved(WRITES_MAX.saturating_sub(writes.len()).saturating_mul(WRITE_LEN));
        for sum in sums {
            out.u32(sum.0);
        }
        out.finish()
    }

    /// Reads a header, and the checksum that the next one names; `None` when it is none, whatever else it is:
    /// a ring is full of payload and of old headers.
    pub fn parse(bytes: &Block) -> Option<(Self, u32)> {
        let mut fields = Reader::new(bytes);
        // Most blocks that are no header are found out here, before a checksum is made.
        (fields.array()? == MAGIC && fields.u8()? == VERSION).then_some(())?;
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let crc = u32::from_le_bytes(*crc);
        (crc32c(body) == crc).then_some(())?;
        let header = read(&mut fields)?;
        // One structure, one form. Its checksum is right.
        let form = header.body();
        (form.split_last_chunk::<4>()?.0 == body).then_some((header, crc))
    }
}

fn read(fields: &mut Reader<'_>) -> Option<Header> {
    let (group, life) = (GroupId(fields.array()?), Life(fields.u32()?));
    let chain = fields.u32()?;
    let at = Position(fields.u64()?);
    let run = fields.u64()?;
    let epoch = Epoch(fields.u64()?);
    let first = Seq(fields.u64()?);
    let (durable, commit) = (Seq(fields.u64()?), Seq(fields.u64()?));
    let (count, blocks) = (usize::from(fields.u16()?), usize::from(fields.u16()?));
    fields.reserved::<12>()?.then_some(())?;
    let mut content = Content::default();
    let mut expected = 0_usize;
    for place in 0..WRITES_MAX {
        let raw: [u8; WRITE_LEN] = fields.array()?;
        if place < count {
            let write = read_write(&raw)?;
            expected = expected.saturating_add(write.payload());
            content.writes.push(write).ok()?;
        }
    }
    for _ in 0..blocks {
        content.sums.push(Sum(fields.u32()?)).ok()?;
    }
    let is_sound = !content.is_empty() && expected == blocks && first != Seq(0) && durable < first;
    is_sound.then_some(Header { group, life, chain, at, run, epoch, first, durable, commit, content })
}

fn read_write(raw: &[u8; WRITE_LEN]) -> Option<Write> {
    let mut fields = Reader::new(raw);
    let volume = Volume(fields.u16()?);
    let kind = match fields.array()? {
        [1, 0] => Kind::Data,
        [2, 0] => Kind::Zeroes,
        [3, 0] => Kind::Trimmed,
        [_, _] => return None,
    };
    let (blocks, first) = (fields.u32()?, BlockIndex(fields.u64()?));
    Write::new(volume, first, blocks, kind)
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
