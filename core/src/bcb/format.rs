//! The boot control block as 512 bytes. A block of a larger size has zeros behind it.
//!
//! | at  | len | field            | unit, values                                      | writer       |
//! |----:|----:|------------------|---------------------------------------------------|--------------|
//! |   0 |   8 | magic            | "BHDBCB" and two zeros                            | all          |
//! |   8 |   2 | format version   | 1                                                 | all          |
//! |  10 |   2 | reserved         | zero                                              | all          |
//! |  12 |   4 | floor            | lowest security version that boots                | confirm      |
//! |  16 |   8 | sequence         | +1 a write, never 0; the higher valid copy is used | all         |
//! |  24 |   8 | boot             | number of the last boot, 0 before the first       | boot         |
//! |  32 |   1 | preferred        | 0 = A, 1 = B                                      | tools, boot  |
//! |  33 |   1 | booted           | 0 = A, 1 = B, 255 = none                          | boot         |
//! |  34 |   1 | tries max        | 1 to 15                                           | tools        |
//! |  35 |   1 | reason           | code of the last decision, see [`Reason::ALL`]    | boot         |
//! |  36 |  28 | reserved         | zero                                              | all          |
//! |  64 |  64 | slot A           | see below                                         | all          |
//! | 128 |  64 | slot B           | see below                                         | all          |
//! | 192 | 316 | reserved         | zero                                              | all          |
//! | 508 |   4 | CRC              | CRC-32C of bytes 0 to 507                         | all          |
//!
//! A slot:
//!
//! | at | len | field            | values                                            |
//! |---:|----:|------------------|---------------------------------------------------|
//! |  0 |   1 | state            | 0 empty, 1 candidate, 2 confirmed, 3 bad          |
//! |  1 |   1 | tries left       | 0 to 15; 0 unless candidate                       |
//! |  2 |   1 | tries done       | 0 to 15; 0 unless candidate                       |
//! |  3 |   1 | cause            | code of [`Why::ALL`] when bad, else 0             |
//! |  4 |   4 | security version | of the image; 0 when empty                        |
//! |  8 |   8 | image version    | of the image; 0 when empty                        |
//! | 16 |  32 | digest           | SHA-256 of the image's payload; 0 when empty      |
//! | 48 |  16 | reserved         | zero                                              |
//!
//! The floor stands before the slots because nothing below it may boot whatever they say. A
//! block that does not encode to the same bytes again is refused: there is one way to say a thing.

use super::state::{Bcb, BootId, Reason, SlotState, Tries, Why};
use crate::bytes::{Reader, Writer};
use crate::container::image::{Digest, ImageId, ImageVersion, SecurityVersion};
use crate::crc::crc32c;
use crate::plan::SECTOR;
use crate::slot::{PerSlot, SlotId};

const MAGIC: [u8; 8] = *b"BHDBCB\0\0";
const VERSION: u16 = 1;

/// Why bytes are not a boot control block. The disk's fault (F9, F46).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The disk did not return the block.
    #[error("the disk could not be read")]
    Unreadable,
    /// There is no boot control block here.
    #[error("there is no boot control block")]
    Magic,
    /// A version this code does not know (V41).
    #[error("format {found} is not supported, only format 1 is")]
    Version {
        /// The version in the block.
        found: u16,
    },
    /// The checksum does not hold: torn or rotten.
    #[error("checksum is wrong")]
    Checksum,
    /// The checksum holds, but a field has a value it cannot have.
    #[error("a field has an impossible value")]
    Field,
}

/// A boot control block with the sequence number of its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Counts the writes; never 0.
    pub seq: u64,
    /// What it says.
    pub bcb: Bcb,
}

impl Stored {
    /// Reads one copy.
    ///
    /// # Errors
    ///
    /// [`Damage`]: this copy says nothing.
    pub fn parse(bytes: &[u8; SECTOR]) -> Result<Self, Damage> {
        let mut from = Reader::new(bytes);
        if from.array() != Some(MAGIC) {
            return Err(Damage::Magic);
        }
        let found = from.u16().unwrap_or_default();
        if found != VERSION {
            return Err(Damage::Version { found });
        }
        let crc = bytes.last_chunk::<4>().map(|crc| u32::from_le_bytes(*crc));
        if bytes.first_chunk::<508>().map(|bytes| crc32c(bytes)) != crc {
            return Err(Damage::Checksum);
        }
        let stored = Self::fields(from).ok_or(Damage::Field)?;
        if stored.encode() == *bytes { Ok(stored) } else { Err(Damage::Field) }
    }

    fn fields(mut from: Reader<'_>) -> Option<Self> {
        from.reserved::<2>()?;
        let floor = SecurityVersion(from.u32()?);
        let seq = from.u64()?;
        let boot = BootId(from.u64()?);
        let preferred = slot(from.u8()?)?;
        let booted = match from.u8()? {
            0xff => None,
            code => Some(slot(code)?),
        };
        let tries_max = Tries::new(from.u8()?)?;
        let reason = decode(&Reason::ALL, from.u8()?)?;
        from.reserved::<28>()?;
        let slots = PerSlot { a: slot_state(&mut from)?, b: slot_state(&mut from)? };
        let sound = seq != 0 && tries_max != Tries::NONE;
        let bcb = Bcb { floor, tries_max, preferred, slots, boot, booted, reason };
        sound.then_some(Self { seq, bcb })
    }

    /// The block as bytes.
    pub fn encode(&self) -> [u8; SECTOR] {
        let Bcb { floor, tries_max, preferred, slots, boot, booted, reason } = &self.bcb;
        let mut out = Writer::<SECTOR>::default();
        out.put(&MAGIC);
        out.u16(VERSION);
        out.reserved(2);
        out.u32(floor.0);
        out.u64(self.seq);
        out.u64(boot.0);
        out.u8(slot_code(*preferred));
        out.u8(booted.map_or(0xff, slot_code));
        out.u8(tries_max.count());
        out.u8(encode(&Reason::ALL, *reason));
        out.reserved(28);
        for slot in SlotId::ALL {
            put_slot(&mut out, slots.get(slot));
        }
        out.reserved(316);
        out.u32(crc32c(out.written()));
        out.finish()
    }
}

fn slot(code: u8) -> Option<SlotId> {
    SlotId::ALL.get(usize::from(code)).copied()
}

const fn slot_code(slot: SlotId) -> u8 {
    match slot {
        SlotId::A => 0,
        SlotId::B => 1,
    }
}

fn decode<T: Copy>(codes: &[(T, u8)], code: u8) -> Option<T> {
    codes.iter().find(|(_, known)| *known == code).map(|(value, _)| *value)
}

/// Every value is in its table; a test walks them. 0xFF, which no table has, would be refused on reading.
fn encode<T: Copy + PartialEq>(codes: &[(T, u8)], value: T) -> u8 {
    codes.iter().find(|(known, _)| *known == value).map_or(0xff, |(_, code)| *code)
}

fn slot_state(from: &mut Reader<'_>) -> Option<SlotState> {
    let (state, left, done, cause) =
        (from.u8()?, Tries::new(from.u8()?)?, Tries::new(from.u8()?)?, from.u8()?);
    let security = SecurityVersion(from.u32()?);
    let version = ImageVersion(from.u64()?);
    let image = ImageId { version, security, digest: Digest(from.array()?) };
    from.reserved::<16>()?;
    if state == 0 {
        Some(SlotState::Empty)
    } else if state == 1 {
        Some(SlotState::Candidate { image, left, done })
    } else if state == 2 {
        Some(SlotState::Confirmed { image })
    } else if state == 3 {
        Some(SlotState::Bad { image, why: decode(&Why::ALL, cause)? })
    } else {
        None
    }
}

fn put_slot(out: &mut Writer<SECTOR>, slot: &SlotState) {
    let (state, left, done, cause) = match slot {
        SlotState::Empty => (0, 0, 0, 0),
        SlotState::Candidate { left, done, .. } => (1, left.count(), done.count(), 0),
        SlotState::Confirmed { .. } => (2, 0, 0, 0),
        SlotState::Bad { why, .. } => (3, 0, 0, encode(&Why::ALL, *why)),
    };
    out.put(&[state, left, done, cause]);
    let Some(image) = slot.image() else {
        out.reserved(60);
        return;
    };
    out.u32(image.security.0);
    out.u64(image.version.0);
    out.put(&image.digest.0);
    out.reserved(16);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Stored {
        let image = |version, byte| ImageId {
            version: ImageVersion(version),
            security: SecurityVersion(2),
            digest: Digest([byte; 32]),
        };
        let (left, done) = (Tries::new(2).unwrap(), Tries::new(1).unwrap());
        let bcb = Bcb {
            floor: SecurityVersion(1),
            preferred: SlotId::B,
            boot: BootId(0x0102),
            booted: Some(SlotId::A),
            reason: Reason::FallbackImage,
            ..Bcb::new(Tries::new(3).unwrap())
        };
        let bcb = bcb.with(SlotId::A, SlotState::Confirmed { image: image(7, 0xaa) });
        Stored {
            seq: 9,
            bcb: bcb.with(SlotId::B, SlotState::Candidate { image: image(8, 0xbb), left, done }),
        }
    }

    /// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
    #[test]
    fn version_1_never_changes() {
        let bytes = example().encode();
        let mut golden = [0_u8; SECTOR];
        golden[..6].copy_from_slice(b"BHDBCB");
        golden[8] = 1;
        golden[12] = 1;
        golden[16] = 9;
        golden[24..26].copy_from_slice(&[2, 1]);
        golden[32..36].copy_from_slice(&[1, 0, 3, 4]);
        golden[64..76].copy_from_slice(&[2, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0]);
        golden[80..112].fill(0xaa);
        golden[128..140].copy_from_slice(&[1, 2, 1, 0, 2, 0, 0, 0, 8, 0, 0, 0]);
        golden[144..176].fill(0xbb);
        golden[508..].copy_from_slice(&GOLDEN_CRC.to_le_bytes());
        assert_eq!(bytes, golden);
        assert_eq!(Stored::parse(&golden), Ok(example()));
    }

    const GOLDEN_CRC: u32 = 0xc83f_a0be;

    #[test]
    fn every_code_reads_back() {
        for (reason, _) in Reason::ALL {
            let mut stored = example();
            stored.bcb.reason = reason;
            assert_eq!(Stored::parse(&stored.encode()), Ok(stored));
        }
        for (why, _) in Why::ALL {
            let mut stored = example();
            let image = *stored.bcb.slots.a.image().unwrap();
            stored.bcb.slots.a = SlotState::Bad { image, why };
            assert_eq!(Stored::parse(&stored.encode()), Ok(stored));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = example().encode();
        for bit in 0..SECTOR * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let damage = match bit / 8 {
                0..8 => Damage::Magic,
                8 | 9 => Damage::Version { found: u16::from_le_bytes([bytes[8], bytes[9]]) },
                10.. => Damage::Checksum,
            };
            assert_eq!(Stored::parse(&bytes), Err(damage), "bit {bit}");
        }
    }

    #[test]
    fn a_field_with_a_good_checksum_and_an_impossible_value_is_refused() {
        let cases =
            [(10, 1), (16, 0), (32, 2), (33, 2), (34, 0), (34, 16), (35, 99), (40, 1), (64, 4), (65, 1)];
        for (at, value) in cases {
            let mut bytes = example().encode();
            bytes[at] = value;
            let crc = crc32c(&bytes[..508]);
            bytes[508..].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(Stored::parse(&bytes), Err(Damage::Field), "byte {at} = {value}");
        }
    }
}
