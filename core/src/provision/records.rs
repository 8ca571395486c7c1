//! The records of fences on a card: what was asked for, of whom, on what ground, and what came of it (V20,
//! V21, F29).
//!
//! A record is a block, and never written over but by one that is newer by a whole ring: a cut tears the
//! record under way and no other. An order that was granted has two, one before the power is switched and
//! one at its end; one without the second was cut short, and nobody knows what became of it.
//!
//! | at (bytes) | what                                  | a record at most, in the long run |
//! |------------|---------------------------------------|-----------------------------------|
//! | 256 KiB    | orders: the last 128 records          | each second, 64 at once           |
//! | 320 KiB    | refusals: the last 32                 | each 10 s, 8 at once              |
//!
//! So a flood of wrongful pleas pushes no order off the card, and wears it by less than 300 writes of a
//! block a day. What goes beyond is counted, and the next record says how many were not kept.
//!
//! A record, 512 bytes, little-endian:
//!
//! |  at | len | field    | unit, values                                                    |
//! |----:|----:|----------|-----------------------------------------------------------------|
//! |   0 |   8 | magic    | "BHFNCE", 0, version 1                                          |
//! |   8 |   8 | seq      | +1 a record of its ring, never 0; its place is seq modulo ring  |
//! |  16 |  22 | owner    | as in the head                                                  |
//! |  38 |   8 | start    | number of the witness's start                                   |
//! |  46 |   8 | at       | microseconds since that start                                   |
//! |  54 |   4 | number   | of the plea in that start                                       |
//! |  58 |   4 | lost     | records of its ring that were not kept before it, in that start |
//! |  62 |   2 | asker    | node                                                            |
//! |  64 |   8 | plea     | the asker's number of it                                        |
//! |  72 |   2 | node     | whose power                                                     |
//! |  74 |   9 | of       | 1 and the start of the node that was meant, or 0 and 0          |
//! |  83 |   2 | register |                                                                 |
//! |  85 |   8 | epoch    | that the asker knew                                             |
//! |  93 |   1 | want     | 1 off, 2 on, 3 look                                             |
//! |  94 |   1 | ground   | 0 none, 1 holder, 2 holder silent, 3 looking                    |
//! |  95 |   1 | outcome  | 1 under way, 2 off, 3 on, 4 failed, 16 + refusal                |
//! |  96 | 412 | reserved | zero                                                            |
//! | 508 |   4 | crc      | CRC-32C of bytes 0..508                                         |
//!
//! Refusals: 0 no relay, 1 not a candidate, 2 not deciding, 3 nobody holds, 4 not holder, 5 other start, 6
//! other epoch, 7 heard, 8 busy, 9 off too short, 10 being cut.

use core::time::Duration;

use super::{BLOCK_LEN, Block, CRC_AT, Fault, VERSION, open, seal};
use crate::bytes::{Reader, Writer};
use crate::fence::words::{Entry, FenceId, Ground, Outcome, Plea, Refusal, Want};
use crate::id::{Epoch, NodeId, RegisterId, SiteId};
use crate::register::message::Start;
use crate::register::store::Owner;
use crate::register::voters::Life;
use crate::time::Instant;

const MAGIC: [u8; 7] = *b"BHFNCE\0";

const WANTS: [Want; 3] = [Want::Off, Want::On, Want::Look];
const GROUNDS: [Ground; 3] = [Ground::Holder, Ground::HolderSilent, Ground::Looking];
const OUTCOMES: [Outcome; 4] = [Outcome::UnderWay, Outcome::Off, Outcome::On, Outcome::Failed];
const REFUSALS: [Refusal; 11] = [
    Refusal::NoRelay,
    Refusal::NotACandidate,
    Refusal::NotDeciding,
    Refusal::NobodyHolds,
    Refusal::NotHolder,
    Refusal::OtherStart,
    Refusal::OtherEpoch,
    Refusal::Heard,
    Refusal::Busy,
    Refusal::OffTooShort,
    Refusal::BeingCut,
];
/// The first outcome that is a refusal.
const REFUSED: u8 = 16;

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ring {
    /// What was granted.
    Orders,
    /// What was not.
    Refusals,
}

impl Ring {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Orders, Self::Refusals];

    /// The ring of an entry.
    pub const fn of(entry: &Entry) -> Self {
        if entry.ground.is_some() { Self::Orders } else { Self::Refusals }
    }

    /// How many records it holds.
    pub const fn len(self) -> u64 {
        match self {
            Self::Orders => 128,
            Self::Refusals => 32,
        }
    }

    /// Always false: a ring has places.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Where its records are, in bytes, in the order of their places.
    pub fn places(self) -> impl Iterator<Item = u64> {
        (0..self.len()).map(move |place| self.at(place))
    }

    const fn at(self, seq: u64) -> u64 {
        let begin = match self {
            Self::Orders => 256 << 10,
            Self::Refusals => 320 << 10,
        };
        // Widening; `From` is not const.
        let place = seq.checked_rem(self.len());
        match place {
            Some(place) => place.saturating_mul(BLOCK_LEN as u64).saturating_add(begin),
            None => begin,
        }
    }

    /// Records at once, and the time in which there is room for one more.
    const fn pace(self) -> (u32, Duration) {
        match self {
            Self::Orders => (64, Duration::from_secs(1)),
            Self::Refusals => (8, Duration::from_secs(10)),
        }
    }
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts the records of its ring.
    pub seq: u64,
    /// The witness's start in which it was written; `entry.at` is the time since then.
    pub start: u64,
    /// Records of its ring that were not kept before it, in that start.
    pub lost: u32,
    /// What.
    pub entry: Entry,
}

impl Record {
    /// The bytes of a record of `owner`.
    pub fn encode(&self, owner: &Owner) -> Block {
        let Entry { number, at, asker, plea, ground, outcome } = self.entry;
        let mut out: Writer<BLOCK_LEN> = super::begin(MAGIC, VERSION, self.seq);
        out.put(&owner.site.0);
        out.u16(owner.node.0);
        out.u32(owner.life.0);
        out.u64(self.start);
        out.u64(at.as_micros());
        out.u32(number);
        out.u32(self.lost);
        out.u16(asker.0);
        out.u64(plea.id.0);
        out.u16(plea.node.0);
        out.u8(plea.start.is_some().into());
        out.u64(plea.start.map_or(0, |start| start.0));
        out.u16(plea.register.0);
        out.u64(plea.epoch.0);
        out.u8(code(&WANTS, plea.want, 1));
        out.u8(ground.map_or(0, |ground| code(&GROUNDS, ground, 1)));
        out.u8(match outcome {
            Outcome::Refused(refusal) => code(&REFUSALS, refusal, REFUSED),
            Outcome::UnderWay | Outcome::Off | Outcome::On | Outcome::Failed => code(&OUTCOMES, outcome, 1),
        });
        out.reserved(CRC_AT - 96);
        seal(out)
    }

    /// Reads a record of `owner`.
    ///
    /// # Errors
    ///
    /// [`Fault`]; [`Fault::OtherSeq`] when it is of another owner.
    pub fn parse(bytes: &Block, owner: &Owner) -> Result<Self, Fault> {
        let (mut fields, _) = open(bytes, MAGIC, VERSION)?;
        let (record, theirs) = record(&mut fields).ok_or(Fault::Damaged)?;
        if theirs != *owner {
            return Err(Fault::OtherSeq);
        }
        Ok(record)
    }
}

fn record(fields: &mut Reader<'_>) -> Option<(Record, Owner)> {
    let seq = fields.u64().filter(|seq| *seq != 0)?;
    let site = SiteId(fields.array()?);
    let owner = Owner { site, node: NodeId(fields.u16()?), life: Life(fields.u32()?) };
    let (start, at) = (fields.u64()?, Instant::from_micros(fields.u64()?));
    let (number, lost) = (fields.u32()?, fields.u32()?);
    let (asker, id) = (NodeId(fields.u16()?), FenceId(fields.u64()?));
    let node = NodeId(fields.u16()?);
    let of = match (fields.u8()?, fields.u64()?) {
        (0, 0) => None,
        (1, of) => Some(Start(of)),
        (0.., _) => return None,
    };
    let (register, epoch) = (RegisterId(fields.u16()?), Epoch(fields.u64()?));
    let want = meant(&WANTS, fields.u8()?, 1)?;
    let ground = match fields.u8()? {
        0 => None,
        ground => Some(meant(&GROUNDS, ground, 1)?),
    };
    let outcome = match fields.u8()? {
        refusal @ REFUSED.. => Outcome::Refused(meant(&REFUSALS, refusal, REFUSED)?),
        outcome => meant(&OUTCOMES, outcome, 1)?,
    };
    fields.reserved::<412>()?.then_some(())?;
    let plea = Plea { id, node, start: of, register, epoch, want };
    let entry = Entry { number, at, asker, plea, ground, outcome };
    Some((Record { seq, start, lost, entry }, owner))
}

fn code<T: PartialEq, const N: usize>(all: &[T; N], one: T, first: u8) -> u8 {
    (first..).zip(all).find_map(|(code, known)| (*known == one).then_some(code)).unwrap_or(u8::MAX)
}

fn meant<T: Copy, const N: usize>(all: &[T; N], code: u8, first: u8) -> Option<T> {
    all.get(usize::from(code.checked_sub(first)?)).copied()
}

/// How much room there is for more records.
#[derive(Clone, Debug)]
struct Room {
    last: u64,
    left: u32,
    /// Since when one more is on its way.
    since: Instant,
    lost: u32,
}

/// The witness's end: where the next record goes, and whether there is room for it.
#[derive(Clone, Debug)]
pub struct Book {
    owner: Owner,
    start: u64,
    rooms: [Room; 2],
}

impl Book {
    /// A book that goes on behind the records `last`, orders and refusals: the highest numbers on the card, 0
    /// when there are none.
    pub fn new(now: Instant, owner: Owner, start: u64, last: [u64; 2]) -> Self {
        let [orders, refusals] = last;
        let room = |ring: Ring, last| {
            let (left, _) = ring.pace();
            Room { last, left, since: now, lost: 0 }
        };
        Self { owner, start, rooms: [room(Ring::Orders, orders), room(Ring::Refusals, refusals)] }
    }

    /// The block to write, and where in bytes; `None` when there are too many, which the next one will say.
    pub fn add(&mut self, now: Instant, entry: Entry) -> Option<(u64, Block)> {
        let ring = Ring::of(&entry);
        let [orders, refusals] = &mut self.rooms;
        let room = match ring {
            Ring::Orders => orders,
            Ring::Refusals => refusals,
        };
        let (most, one) = ring.pace();
        while room.left < most && one <= now.since(room.since) {
            room.left = room.left.saturating_add(1);
            room.since = room.since.after(one);
        }
        if room.left == most {
            room.since = now;
        }
        let Some(left) = room.left.checked_sub(1) else {
            room.lost = room.lost.saturating_add(1);
            return None;
        };
        room.left = left;
        room.last = room.last.saturating_add(1);
        let record = Record { seq: room.last, start: self.start, lost: room.lost, entry };
        Some((ring.at(record.seq), record.encode(&self.owner)))
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
