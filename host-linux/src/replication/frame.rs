//! Frames in bytes: a fixed head, what the frame says, its payload, its tag (F36, F39, V5).
//!
//! A head, 16 bytes, little-endian:
//!
//! | at | len | field    | unit, values                                                       |
//! |---:|----:|----------|--------------------------------------------------------------------|
//! |  0 |   1 | kind     | 1 begun, 2 alive, 3 word, 4 write, 5 fill, 6 filled,               |
//! |    |     |          | 7 compare, 8 differs, 9 compared, 10 wants, 11 mend, 12 lacks,     |
//! |    |     |          | 13 member                                                          |
//! |  1 |   1 | reserved | zero                                                               |
//! |  2 |   2 | meta     | bytes of what follows the head                                     |
//! |  4 |   2 | blocks   | of 4096 bytes of payload behind that, 0..=448; write, fill, mend    |
//! |  6 |   2 | reserved | zero                                                               |
//! |  8 |   8 | tag      | of bytes 0..8 ([`super::seal`])                                    |
//!
//! Then follow meta, payload, and 16 bytes: the tag of all of it. Meta, by kind:
//!
//! | kind         | meta                                                                                  |
//! |--------------|---------------------------------------------------------------------------------------|
//! | begun, alive | nothing. Begun is the first frame in each direction, and the first only               |
//! | word         | [`Word`] as postcard writes it                                                        |
//! | write        | epoch (8), made (8), seq (8), the write (16), CRC-32C of each block of payload (4 each) |
//! | fill         | epoch (8), the write (16), CRC-32C of each block of payload (4 each)                  |
//! | filled       | epoch (8), upto (8); back when that is durable                                        |
//! | compare      | epoch (8), blocks (16), a digest of each region of 32 blocks (16 each; 64 at most)    |
//! | differs      | epoch (8), blocks (16; one region), a digest of each block (16 each)                  |
//! | compared     | epoch (8), blocks (16)                                                                |
//! | wants        | epoch (8), blocks (16), upto (8)                                                      |
//! | mend         | as fill                                                                               |
//! | lacks        | as compared                                                                           |
//! | member       | epoch (8), 1 in the in-sync set, 0 not in it (8)                                      |
//!
//! A write, as in the log: volume (2); kind (1: 1 data, 2 zeroes, 3 trimmed); reserved (1); blocks (4); first
//! block (8). Data has as many blocks of payload and as many sums, zeroes and trims have none. Blocks: volume
//! (2), reserved (2), how many (4), the first (8). A digest is the first half of a BLAKE3.

use super::words::{Blocks, Digest, Frame, REGION};
use crate::storage::buffers::Piece;
use crate::storage::space::crc32c;
use bulkhead_core::bytes::{Reader, Writer};
use bulkhead_core::holder::words::Word;
use bulkhead_core::id::Epoch;
use bulkhead_core::log::batch::{BlockIndex, Kind as Content, PAYLOAD_MAX, Sum, Volume, Write};
use bulkhead_core::log::{BLOCK_LEN, Seq};

/// Bytes of a head, without its tag.
pub const HEAD_LEN: usize = 8;
/// Bytes of a word at most; the longest is measured by a test.
pub const WORD_MAX: usize = 1024;

const WRITE_LEN: usize = 16;
const SUM_LEN: usize = 4;
/// Meta of a write and of a fill in front of the sums.
const WRITE_META: usize = 24 + WRITE_LEN;
const FILL_META: usize = 8 + WRITE_LEN;
const FILLED_META: usize = 16;
const COMPARED_META: usize = 24;
const WANTS_META: usize = 32;
const MEMBER_META: usize = 16;
const DIGEST_LEN: usize = 16;
/// Regions of one question.
pub const REGIONS_MAX: u32 = 64;
/// Bytes of meta at most.
pub const META_MAX: usize = WRITE_META + PAYLOAD_MAX * SUM_LEN;

const _: () = assert!(WORD_MAX <= META_MAX && META_MAX <= u16::MAX as usize);

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The sender has begun anew.
    Begun,
    /// The sender is there.
    Alive,
    /// [`Frame::Word`].
    Word,
    /// [`Frame::Write`].
    Write,
    /// [`Frame::Fill`].
    Fill,
    /// [`Frame::Filled`].
    Filled,
    /// [`Frame::Compare`].
    Compare,
    /// [`Frame::Differs`].
    Differs,
    /// [`Frame::Compared`].
    Compared,
    /// [`Frame::Wants`].
    Wants,
    /// [`Frame::Mend`].
    Mend,
    /// [`Frame::Lacks`].
    Lacks,
    /// [`Frame::Member`].
    Member,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Begun,
        Self::Alive,
        Self::Word,
        Self::Write,
        Self::Fill,
        Self::Filled,
        Self::Compare,
        Self::Differs,
        Self::Compared,
        Self::Wants,
        Self::Mend,
        Self::Lacks,
        Self::Member,
    ];

    const fn number(self) -> u8 {
        match self {
            Self::Begun => 1,
            Self::Alive => 2,
            Self::Word => 3,
            Self::Write => 4,
            Self::Fill => 5,
            Self::Filled => 6,
            Self::Compare => 7,
            Self::Differs => 8,
            Self::Compared => 9,
            Self::Wants => 10,
            Self::Mend => 11,
            Self::Lacks => 12,
            Self::Member => 13,
        }
    }
}

/// The head of a frame, in order: as long as a frame of its kind can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the frame is.
    pub kind: Kind,
    /// Bytes of meta.
    pub meta: usize,
    /// Blocks of payload.
    pub blocks: usize,
}

impl Head {
    /// Of a frame that says nothing more.
    #[must_use]
    pub const fn bare(kind: Kind) -> Self {
        Self { kind, meta: 0, blocks: 0 }
    }

    /// `None` when no frame is so.
    #[must_use]
    pub fn parse(bytes: &[u8; HEAD_LEN]) -> Option<Self> {
        let mut fields = Reader::new(bytes);
        let kind = fields.u8()?;
        let kind = Kind::ALL.into_iter().find(|one| one.number() == kind)?;
        let zero = fields.reserved::<1>()?;
        let (meta, blocks) = (usize::from(fields.u16()?), usize::from(fields.u16()?));
        let head = Self { kind, meta, blocks };
        (zero && fields.reserved::<2>()? && head.is_sound()).then_some(head)
    }

    fn is_sound(&self) -> bool {
        let &Self { kind, meta, blocks } = self;
        let has_sums = |fixed: usize| blocks <= PAYLOAD_MAX && meta == fixed.saturating_add(sums_len(blocks));
        let has_digests = |most: u32| {
            let digests = meta.saturating_sub(COMPARED_META);
            let most = usize::try_from(most).unwrap_or(usize::MAX).saturating_mul(DIGEST_LEN);
            blocks == 0 && digests.is_multiple_of(DIGEST_LEN) && (1..=most).contains(&digests)
        };
        match kind {
            Kind::Begun | Kind::Alive => meta == 0 && blocks == 0,
            Kind::Word => (1..=WORD_MAX).contains(&meta) && blocks == 0,
            Kind::Write => has_sums(WRITE_META),
            Kind::Fill => has_sums(FILL_META),
            Kind::Mend => blocks != 0 && has_sums(FILL_META),
            Kind::Filled => meta == FILLED_META && blocks == 0,
            Kind::Compare => has_digests(REGIONS_MAX),
            Kind::Differs => has_digests(REGION),
            Kind::Compared | Kind::Lacks => meta == COMPARED_META && blocks == 0,
            Kind::Member => meta == MEMBER_META && blocks == 0,
            Kind::Wants => meta == WANTS_META && blocks == 0,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEAD_LEN] {
        let mut out = Writer::<HEAD_LEN>::default();
        // Both are bounded far below by `META_MAX` and `PAYLOAD_MAX`.
        let short = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        out.u8(self.kind.number());
        out.reserved(1);
        out.u16(short(self.meta));
        out.u16(short(self.blocks));
        out.finish()
    }
}

const fn sums_len(blocks: usize) -> usize {
    blocks.saturating_mul(SUM_LEN)
}

/// What is in a frame beside its payload; `None` when it contradicts itself: a defect of whoever made it.
#[must_use]
pub fn meta(frame: &Frame) -> Option<(Head, Vec<u8>)> {
    let mut meta = Vec::with_capacity(64);
    let kind = match frame {
        Frame::Word(word) => {
            let mut buffer = [0; WORD_MAX];
            meta.extend_from_slice(postcard::to_slice(&**word, &mut buffer).ok()?);
            Kind::Word
        }
        Frame::Write { epoch, made, seq, .. } => {
            [epoch.0, made.0, seq.0].iter().for_each(|field| meta.extend_from_slice(&field.to_le_bytes()));
            Kind::Write
        }
        Frame::Fill { epoch, .. } => {
            meta.extend_from_slice(&epoch.0.to_le_bytes());
            Kind::Fill
        }
        Frame::Mend { epoch, .. } => {
            meta.extend_from_slice(&epoch.0.to_le_bytes());
            Kind::Mend
        }
        Frame::Filled { epoch, upto } => {
            [epoch.0, upto.0].iter().for_each(|field| meta.extend_from_slice(&field.to_le_bytes()));
            Kind::Filled
        }
        Frame::Compare { epoch, blocks, digests } => {
            (digests.len() == regions(blocks)).then_some(())?;
            put_digests(&mut meta, *epoch, blocks, digests);
            Kind::Compare
        }
        Frame::Differs { epoch, blocks, digests } => {
            (u32::try_from(digests.len()) == Ok(blocks.count)).then_some(())?;
            put_digests(&mut meta, *epoch, blocks, digests);
            Kind::Differs
        }
        Frame::Compared { epoch, blocks } => {
            put_digests(&mut meta, *epoch, blocks, &[]);
            Kind::Compared
        }
        Frame::Wants { epoch, upto, blocks } => {
            put_digests(&mut meta, *epoch, blocks, &[]);
            meta.extend_from_slice(&upto.0.to_le_bytes());
            Kind::Wants
        }
        Frame::Lacks { epoch, blocks } => {
            put_digests(&mut meta, *epoch, blocks, &[]);
            Kind::Lacks
        }
        Frame::Member { epoch, is_in } => {
            meta.extend_from_slice(&epoch.0.to_le_bytes());
            meta.extend_from_slice(&u64::from(*is_in).to_le_bytes());
            Kind::Member
        }
    };
    let mut blocks = 0;
    if let Frame::Write { write, sums, payload, .. }
    | Frame::Fill { write, sums, payload, .. }
    | Frame::Mend { write, sums, payload, .. } = frame
    {
        blocks = write.payload();
        let has = payload.as_ref().map_or(0, Piece::blocks);
        (sums.len() == blocks && has == blocks).then_some(())?;
        meta.extend_from_slice(&put_write(write));
        sums.iter().for_each(|sum| meta.extend_from_slice(&sum.0.to_le_bytes()));
    }
    let head = Head { kind, meta: meta.len(), blocks };
    head.is_sound().then_some((head, meta))
}

fn put_digests(meta: &mut Vec<u8>, epoch: Epoch, blocks: &Blocks, digests: &[Digest]) {
    meta.extend_from_slice(&epoch.0.to_le_bytes());
    let mut out = Writer::<WRITE_LEN>::default();
    out.u16(blocks.volume.0);
    out.reserved(2);
    out.u32(blocks.count);
    out.u64(blocks.first.0);
    meta.extend_from_slice(&out.finish());
    digests.iter().for_each(|digest| meta.extend_from_slice(&digest.0));
}

/// As long as a write may be.
fn take_blocks(fields: &mut Reader<'_>) -> Option<Blocks> {
    let volume = Volume(fields.u16()?);
    fields.reserved::<2>()?.then_some(())?;
    let (count, first) = (fields.u32()?, BlockIndex(fields.u64()?));
    Write::new(volume, first, count, Content::Zeroes)?;
    Some(Blocks { volume, first, count })
}

fn take_digests(fields: &mut Reader<'_>) -> Option<Vec<Digest>> {
    let (digests, rest) = fields.rest().as_chunks::<DIGEST_LEN>();
    rest.is_empty().then(|| digests.iter().copied().map(Digest).collect())
}

/// How many regions these blocks are.
fn regions(blocks: &Blocks) -> usize {
    usize::try_from(blocks.count.div_ceil(REGION)).unwrap_or(usize::MAX)
}

fn put_write(write: &Write) -> [u8; WRITE_LEN] {
    let mut out = Writer::<WRITE_LEN>::default();
    out.u16(write.volume().0);
    out.u8(match write.kind() {
        Content::Data => 1,
        Content::Zeroes => 2,
        Content::Trimmed => 3,
    });
    out.reserved(1);
    out.u32(write.blocks());
    out.u64(write.first().0);
    out.finish()
}

fn take_write(fields: &mut Reader<'_>) -> Option<Write> {
    let volume = Volume(fields.u16()?);
    let kind = match fields.u8()? {
        1 => Content::Data,
        2 => Content::Zeroes,
        3 => Content::Trimmed,
        _ => return None,
    };
    fields.reserved::<1>()?.then_some(())?;
    let blocks = fields.u32()?;
    Write::new(volume, BlockIndex(fields.u64()?), blocks, kind)
}

/// What a frame says, whose payload is not looked at yet.
#[derive(Clone, Debug)]
pub enum Said {
    /// The sender has begun anew.
    Begun,
    /// The sender is there.
    Alive,
    /// A frame; its payload, if it has any, is still to be put into it.
    Frame(Frame),
}

/// Reads what is in a frame; `None` when it contradicts itself.
#[must_use]
pub fn read(head: &Head, meta: &[u8]) -> Option<Said> {
    (meta.len() == head.meta).then_some(())?;
    let mut fields = Reader::new(meta);
    let frame = match head.kind {
        Kind::Begun => return Some(Said::Begun),
        Kind::Alive => return Some(Said::Alive),
        Kind::Word => Frame::Word(Box::new(read_word(meta)?)),
        Kind::Write => {
            let (epoch, made) = (Epoch(fields.u64()?), Epoch(fields.u64()?));
            let (seq, write) = (Seq(fields.u64()?), take_write(&mut fields)?);
            Frame::Write { epoch, made, seq, write, sums: take_sums(&mut fields)?, payload: None }
        }
        Kind::Fill => {
            let (epoch, write) = (Epoch(fields.u64()?), take_write(&mut fields)?);
            Frame::Fill { epoch, write, sums: take_sums(&mut fields)?, payload: None }
        }
        Kind::Filled => Frame::Filled { epoch: Epoch(fields.u64()?), upto: Seq(fields.u64()?) },
        Kind::Compare => {
            let (epoch, blocks) = (Epoch(fields.u64()?), take_blocks(&mut fields)?);
            let digests = take_digests(&mut fields)?;
            (digests.len() == regions(&blocks)).then_some(())?;
            Frame::Compare { epoch, blocks, digests }
        }
        Kind::Differs => {
            let (epoch, blocks) = (Epoch(fields.u64()?), take_blocks(&mut fields)?);
            let digests = take_digests(&mut fields)?;
            (u32::try_from(digests.len()) == Ok(blocks.count)).then_some(())?;
            Frame::Differs { epoch, blocks, digests }
        }
        Kind::Compared => Frame::Compared { epoch: Epoch(fields.u64()?), blocks: take_blocks(&mut fields)? },
        Kind::Wants => {
            let (epoch, blocks) = (Epoch(fields.u64()?), take_blocks(&mut fields)?);
            Frame::Wants { epoch, upto: Seq(fields.u64()?), blocks }
        }
        Kind::Mend => {
            let (epoch, write) = (Epoch(fields.u64()?), take_write(&mut fields)?);
            Frame::Mend { epoch, write, sums: take_sums(&mut fields)?, payload: None }
        }
        Kind::Lacks => Frame::Lacks { epoch: Epoch(fields.u64()?), blocks: take_blocks(&mut fields)? },
        Kind::Member => {
            let (epoch, is_in) = (Epoch(fields.u64()?), fields.u64()?);
            (is_in <= 1).then_some(())?;
            Frame::Member { epoch, is_in: is_in == 1 }
        }
    };
    if let Frame::Write { write, sums, .. }
    | Frame::Fill { write, sums, .. }
    | Frame::Mend { write, sums, .. } = &frame
    {
        (write.payload() == head.blocks && sums.len() == head.blocks).then_some(())?;
    }
    Some(Said::Frame(frame))
}

/// postcard itself would let trailing bytes and long integers pass: what does not encode to the same bytes
/// again is refused.
fn read_word(bytes: &[u8]) -> Option<Word> {
    let word: Word = postcard::from_bytes(bytes).ok()?;
    let mut buffer = [0; WORD_MAX];
    let again = postcard::to_slice(&word, &mut buffer).ok()?;
    (*again == *bytes).then_some(word)
}

fn take_sums(fields: &mut Reader<'_>) -> Option<Vec<Sum>> {
    let (sums, rest) = fields.rest().as_chunks::<SUM_LEN>();
    rest.is_empty().then(|| sums.iter().map(|sum| Sum(u32::from_le_bytes(*sum))).collect())
}

/// Whether each block of `payload` has its sum.
#[must_use]
pub fn fits(payload: &[u8], sums: &[Sum]) -> bool {
    let (blocks, rest) = payload.as_chunks::<BLOCK_LEN>();
    let mut both = blocks.iter().zip(sums);
    rest.is_empty() && blocks.len() == sums.len() && both.all(|(block, sum)| crc32c(block) == sum.0)
}

impl Frame {
    /// Its sums.
    pub(super) fn sums(&self) -> &[Sum] {
        match self {
            Self::Write { sums, .. } | Self::Fill { sums, .. } | Self::Mend { sums, .. } => sums,
            Self::Word(_)
            | Self::Filled { .. }
            | Self::Compare { .. }
            | Self::Differs { .. }
            | Self::Compared { .. }
            | Self::Wants { .. }
            | Self::Lacks { .. }
            | Self::Member { .. } => &[],
        }
    }

    /// With this payload.
    pub(super) fn with(mut self, filled: Piece) -> Self {
        match &mut self {
            Self::Write { payload, .. } | Self::Fill { payload, .. } | Self::Mend { payload, .. } => {
                *payload = Some(filled);
            }
            Self::Word(_)
            | Self::Filled { .. }
            | Self::Compare { .. }
            | Self::Differs { .. }
            | Self::Compared { .. }
            | Self::Wants { .. }
            | Self::Lacks { .. }
            | Self::Member { .. } => {}
        }
        self
    }

    /// Its payload.
    pub(super) fn into_payload(self) -> Option<Piece> {
        match self {
            Self::Write { payload, .. } | Self::Fill { payload, .. } | Self::Mend { payload, .. } => payload,
            Self::Word(_)
            | Self::Filled { .. }
            | Self::Compare { .. }
            | Self::Differs { .. }
            | Self::Compared { .. }
            | Self::Wants { .. }
            | Self::Lacks { .. }
            | Self::Member { .. } => None,
        }
    }
}
