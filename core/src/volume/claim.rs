//! What of a store is not kept in a file of its own: which device or export has a volume's content (S1-24,
//! S1-26; V5, V40, V41, F14, F15).
//!
//! A claim, 4096 bytes, little-endian, in the file `backing-UUID` of the store's directory. It is replaced as
//! a whole, by another file under its name, so it needs no second copy:
//!
//! |   at | len | field    | unit, values                                                             |
//! |-----:|----:|----------|--------------------------------------------------------------------------|
//! |    0 |   8 | magic    | "BHCLAIM", version 1                                                     |
//! |    8 |   2 | number   | of the volume, 1..=4094                                                  |
//! |   10 |   2 | place    | length of it in bytes, 1..=1900                                          |
//! |   12 |   2 | identity | length of it in bytes, 0..=1900; 0: the system knows of none             |
//! |   14 |   2 | reserved | zero                                                                     |
//! |   16 |  16 | uuid     | of the volume                                                            |
//! |   32 |   8 | blocks   | of 4096 bytes that the place had when it was looked at last, 1..=2^52    |
//! |   40 | ... | place    | UTF-8: as the configuration names it                                     |
//! |  ... | ... | identity | UTF-8: what tells the device from every other; the rest zero             |
//! | 4092 |   4 | crc      | CRC-32C of bytes 0..4092                                                 |

use super::NUMBER_MAX;
use super::record::{Fault, Uuid, of_version, with_crc};
use crate::bytes::Writer;
use crate::log::batch::Volume;
use crate::log::{BLOCK_LEN, Block};

const MAGIC: [u8; 7] = *b"BHCLAIM";
const VERSION: u8 = 1;
/// Where the texts begin.
const TEXTS: usize = 40;
/// Bytes of a place, and of an identity, at most: both have room, whatever they are.
pub const TEXT_MAX: usize = 1900;
/// More blocks than this no device has, and their bytes are still a number.
const BLOCKS_MAX: u64 = 1 << 52;

const _: () = assert!(TEXTS + 2 * TEXT_MAX <= BLOCK_LEN - 4, "both texts fit");

/// That a volume's content is at a place, and nobody else's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Its number. Invariant: 1 to [`NUMBER_MAX`].
    pub volume: Volume,
    /// Which volume it is. Invariant: not all zero.
    pub uuid: Uuid,
    /// How many blocks the place had when it was looked at last. Invariant: 1 to 2^52.
    pub blocks: u64,
    /// Where. Invariant: 1 to [`TEXT_MAX`] bytes.
    pub place: &'a str,
    /// What tells it from every other; empty: not known. Invariant: at most [`TEXT_MAX`] bytes.
    pub identity: &'a str,
}

impl<'a> Claim<'a> {
    /// The block to write; `None`: it is not as its invariants say.
    pub fn encode(&self) -> Option<Block> {
        let mut out = Writer::<BLOCK_LEN>::default();
        self.is_sound().then_some(())?;
        out.put(&MAGIC);
        out.u8(VERSION);
        out.u16(self.volume.0);
        out.u16(u16::try_from(self.place.len()).ok()?);
        out.u16(u16::try_from(self.identity.len()).ok()?);
        out.reserved(2);
        out.put(&self.uuid.0);
        out.u64(self.blocks);
        out.put(self.place.as_bytes());
        out.put(self.identity.as_bytes());
        Some(with_crc(out))
    }

    /// Reads a claim.
    ///
    /// # Errors
    ///
    /// [`Fault`]. What does not encode to the same bytes again is damaged: one claim, one form.
    pub fn decode(bytes: &'a Block) -> Result<Self, Fault> {
        let mut fields = of_version(bytes, MAGIC, VERSION)?.ok_or(Fault::Damaged)?;
        let mut read = || {
            let volume = Volume(fields.u16()?);
            let (place, identity) = (usize::from(fields.u16()?), usize::from(fields.u16()?));
            fields.reserved::<2>()?.then_some(())?;
            let (uuid, blocks) = (Uuid(fields.array()?), fields.u64()?);
            let (place, rest) = fields.rest().split_at_checked(place)?;
            let place = core::str::from_utf8(place).ok()?;
            let identity = core::str::from_utf8(rest.get(..identity)?).ok()?;
            Some(Self { volume, uuid, blocks, place, identity })
        };
        let claim = read().filter(|claim| claim.encode().is_some_and(|block| block == *bytes));
        claim.ok_or(Fault::Damaged)
    }

    fn is_sound(&self) -> bool {
        (1..=NUMBER_MAX).contains(&self.volume.0)
            && self.uuid != Uuid([0; 16])
            && (1..=BLOCKS_MAX).contains(&self.blocks)
            && (1..=TEXT_MAX).contains(&self.place.len())
            && self.identity.len() <= TEXT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crc::crc32c;
    use proptest::prelude::*;

    const CLAIM: Claim<'_> = Claim {
        volume: Volume(7),
        uuid: Uuid([9; 16]),
        blocks: 0x0102,
        place: "/dev/sdb",
        identity: "wwid naa.5",
    };

    /// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
    #[test]
    fn version_1_never_changes() {
        let block = CLAIM.encode().unwrap();
        let mut expected = [0; BLOCK_LEN];
        expected[..16].copy_from_slice(b"BHCLAIM\x01\x07\0\x08\0\x0a\0\0\0");
        expected[16..32].fill(9);
        expected[32..40].copy_from_slice(&[2, 1, 0, 0, 0, 0, 0, 0]);
        expected[40..58].copy_from_slice(b"/dev/sdbwwid naa.5");
        let crc = crc32c(&expected[..4092]).to_le_bytes();
        expected[4092..].copy_from_slice(&crc);
        assert_eq!(block, expected);
        assert_eq!(Claim::decode(&block), Ok(CLAIM));
    }

    #[test]
    fn what_is_out_of_bounds_is_not_written() {
        let long = [b'a'; TEXT_MAX + 1];
        let long = core::str::from_utf8(&long).unwrap();
        for claim in [
            Claim { volume: Volume(0), ..CLAIM },
            Claim { volume: Volume(4095), ..CLAIM },
            Claim { uuid: Uuid([0; 16]), ..CLAIM },
            Claim { blocks: 0, ..CLAIM },
            Claim { blocks: u64::MAX, ..CLAIM },
            Claim { place: "", ..CLAIM },
            Claim { place: long, ..CLAIM },
            Claim { identity: long, ..CLAIM },
        ] {
            assert_eq!(claim.encode(), None, "{claim:?}");
        }
        let (place, identity) = (&long[1..], &long[1..]);
        let largest = Claim { place, identity, ..CLAIM }.encode().unwrap();
        assert_eq!(Claim::decode(&largest).unwrap().identity, identity);
        assert_eq!(Claim { identity: "", ..CLAIM }.encode().map(|block| block[12]), Some(0));
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut block = CLAIM.encode().unwrap();
        block[7] = 2;
        let crc = crc32c(&block[..4092]).to_le_bytes();
        block[4092..].copy_from_slice(&crc);
        assert_eq!(Claim::decode(&block), Err(Fault::NewerFormat { found: 2, reads: 1 }));
        assert_eq!(Claim::decode(&[0; BLOCK_LEN]), Err(Fault::Damaged));
    }

    proptest! {
        /// I11, F8: whatever is changed, with a checksum that fits or not: the same claim or none, no panic.
        #[test]
        fn every_changed_byte_is_seen(at in 0..BLOCK_LEN, change in 1..=u8::MAX, seals: bool) {
            let mut block = CLAIM.encode().unwrap();
            block[at] ^= change;
            if seals {
                let crc = crc32c(&block[..4092]).to_le_bytes();
                block[4092..].copy_from_slice(&crc);
            }
            if let Ok(claim) = Claim::decode(&block) {
                prop_assert_eq!(claim.encode(), Some(block));
            }
        }
    }
}
