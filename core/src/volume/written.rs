//! What of a claimed device or export is the volume's: the parts that it was ever written into. All else was
//! there before, and reads as zeroes (V5; F2, F8, V41).
//!
//! A page of the map, 4096 bytes, little-endian, in the file `written-UUID` of the store's directory. Page
//! `p` has two copies, in the file's blocks `2p` and `2p + 1`; a block of zeroes is a page without a bit:
//!
//! |   at | len | field    | unit, values                                                             |
//! |-----:|----:|----------|--------------------------------------------------------------------------|
//! |    0 |   8 | magic    | "BHWRITT", version 1                                                     |
//! |    8 |   2 | number   | of the volume, 1..=4094                                                  |
//! |   10 |   2 | reserved | zero                                                                     |
//! |   12 |   4 | page     | which                                                                    |
//! |   16 |  16 | uuid     | of the volume                                                            |
//! |   32 |   8 | change   | +1 a change, never 0: the sound copy with the higher one counts          |
//! |   40 |4052 | bits     | bit `b` of byte `i`: of chunk `32416 p + 8 i + b`, 1: it is the volume's |
//! | 4092 |   4 | crc      | CRC-32C of bytes 0..4092                                                 |
//!
//! The first copy is written and made durable before the second one is: a cut tears one of them at most, and
//! a page that rots is still there in the other.

use super::NUMBER_MAX;
use super::record::{Fault, Uuid, of_version, with_crc};
use crate::bytes::Writer;
use crate::log::batch::Volume;
use crate::log::{BLOCK_LEN, Block};

const MAGIC: [u8; 7] = *b"BHWRITT";
const VERSION: u8 = 1;

/// Bytes of a page that are bits.
const BITS_LEN: usize = 4052;

/// Chunks of one page.
pub const CHUNKS: u64 = 8 * 4052;

const _: () = assert!(40 + BITS_LEN + 4 == BLOCK_LEN && BITS_LEN == 4052, "a page fills its block");

/// A page of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Of which volume. Invariant: 1 to [`NUMBER_MAX`].
    pub volume: Volume,
    /// Which volume it is.
    pub uuid: Uuid,
    /// Which page.
    pub number: u32,
    /// Orders its copies; 0: it was never written.
    pub change: u64,
    bits: [u8; BITS_LEN],
}

impl Page {
    /// A page without a bit, which was never written.
    pub const fn new(volume: Volume, uuid: Uuid, number: u32) -> Self {
        Self { volume, uuid, number, change: 0, bits: [0; BITS_LEN] }
    }

    /// Whether a chunk of this page, counted from its first, is the volume's.
    pub fn has(&self, chunk: u64) -> bool {
        place(chunk).is_some_and(|(byte, bit)| self.bits.get(byte).is_some_and(|bits| bits & bit != 0))
    }

    /// Says of a chunk of this page whether it is the volume's. Whether that changes anything.
    pub fn set(&mut self, chunk: u64, is_written: bool) -> bool {
        let Some((byte, bit)) = place(chunk) else { return false };
        let Some(bits) = self.bits.get_mut(byte) else { return false };
        let before = *bits;
        *bits = if is_written { before | bit } else { before & !bit };
        before != *bits
    }

    /// No chunk of it is the volume's any more.
    pub const fn clear(&mut self) {
        self.bits = [0; BITS_LEN];
    }

    /// Whether no chunk of it is the volume's.
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|bits| *bits == 0)
    }

    /// The block to write.
    pub fn encode(&self) -> Block {
        let mut out = Writer::<BLOCK_LEN>::default();
        out.put(&MAGIC);
        out.u8(VERSION);
        out.u16(self.volume.0);
        out.reserved(2);
        out.u32(self.number);
        out.put(&self.uuid.0);
        out.u64(self.change);
        out.put(&self.bits);
        with_crc(out)
    }

    /// Reads one copy of a page; `None`: it was never written.
    ///
    /// # Errors
    ///
    /// [`Fault`]: torn, rotten, of another page or of another volume.
    pub fn decode(volume: Volume, uuid: Uuid, number: u32, bytes: &Block) -> Result<Option<Self>, Fault> {
        let Some(mut fields) = of_version(bytes, MAGIC, VERSION)? else { return Ok(None) };
        let mut read = || {
            let found = Volume(fields.u16()?);
            fields.reserved::<2>()?.then_some(())?;
            let (at, of) = (fields.u32()?, Uuid(fields.array()?));
            let (change, bits) = (fields.u64()?, fields.array()?);
            Some(Self { volume: found, uuid: of, number: at, change, bits })
        };
        let page = read().filter(|page| page.change != 0).ok_or(Fault::Damaged)?;
        let is_known = (1..=NUMBER_MAX).contains(&page.volume.0);
        match (page.volume, page.uuid, page.number) == (volume, uuid, number) {
            true if is_known => Ok(Some(page)),
            true | false => Err(Fault::Misdirected { found: page.volume }),
        }
    }

    /// The page that counts of its two copies.
    ///
    /// # Errors
    ///
    /// Neither of them is sound, and both were written.
    pub fn of_copies(
        volume: Volume,
        uuid: Uuid,
        number: u32,
        copies: [&Block; 2],
    ) -> Result<Option<Self>, Fault> {
        let [first, second] = copies.map(|bytes| Self::decode(volume, uuid, number, bytes));
        match (first, second) {
            (Ok(Some(one)), Ok(Some(other))) => {
                Ok(Some(if other.change <= one.change { one } else { other }))
            }
            (Ok(Some(one)), Ok(None) | Err(_)) | (Ok(None) | Err(_), Ok(Some(one))) => Ok(Some(one)),
            // The first one ever was torn.
            (Ok(None) | Err(_), Ok(None)) => Ok(None),
            (Ok(None) | Err(_), Err(fault)) => Err(fault),
        }
    }
}

fn place(chunk: u64) -> Option<(usize, u8)> {
    let byte = usize::try_from(chunk / 8).ok()?;
    let bit = 1_u8.checked_shl(u32::try_from(chunk % 8).ok()?)?;
    Some((byte, bit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crc::crc32c;
    use proptest::prelude::*;

    const VOLUME: Volume = Volume(7);
    const UUID: Uuid = Uuid([9; 16]);

    fn page(change: u64, chunk: u64) -> Page {
        let mut page = Page { change, ..Page::new(VOLUME, UUID, 3) };
        assert!(page.set(chunk, true) && !page.set(chunk, true));
        page
    }

    fn of(first: &Block, second: &Block) -> Result<Option<Page>, Fault> {
        Page::of_copies(VOLUME, UUID, 3, [first, second])
    }

    /// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
    #[test]
    fn version_1_never_changes() {
        let mut expected = [0; BLOCK_LEN];
        expected[..16].copy_from_slice(b"BHWRITT\x01\x07\0\0\0\x03\0\0\0");
        expected[16..32].fill(9);
        expected[32] = 5;
        expected[41] = 4;
        let crc = crc32c(&expected[..4092]).to_le_bytes();
        expected[4092..].copy_from_slice(&crc);
        let page = page(5, 10);
        assert_eq!(page.encode(), expected);
        assert_eq!(Page::decode(VOLUME, UUID, 3, &expected), Ok(Some(page)));
    }

    #[test]
    fn every_chunk_has_a_bit_of_its_own_and_no_other_is_there() {
        let mut page = Page::new(VOLUME, UUID, 0);
        for chunk in [0, 7, 8, CHUNKS - 1] {
            assert!(!page.has(chunk) && page.set(chunk, true) && page.has(chunk));
        }
        assert!(!page.set(CHUNKS, true) && !page.has(CHUNKS) && !page.has(1));
        assert!(!page.is_empty());
        page.set(7, false);
        assert!(!page.has(7) && page.has(8));
        page.clear();
        assert!(page.is_empty());
    }

    /// F2, F8: a copy that is torn or rotten is not needed; two are damage, and never an empty map.
    #[test]
    fn the_newest_sound_copy_counts() {
        let (old, new, none) = (page(1, 1), page(2, 2), [0; BLOCK_LEN]);
        let (was, is) = (old.encode(), new.encode());
        let mut torn = is;
        torn[..512].fill(0xee);
        assert_eq!(of(&is, &was), Ok(Some(new.clone())));
        assert_eq!(of(&was, &is), Ok(Some(new.clone())));
        assert_eq!(of(&torn, &was), Ok(Some(old)));
        assert_eq!(of(&is, &torn), Ok(Some(new.clone())));
        assert_eq!(of(&is, &none), Ok(Some(new)));
        assert_eq!(of(&torn, &none), Ok(None));
        assert_eq!(of(&none, &none), Ok(None));
        assert_eq!(of(&torn, &torn), Err(Fault::Damaged));
        assert_eq!(of(&none, &torn), Err(Fault::Damaged), "the second is written behind the first");
        let misdirected = Page::decode(VOLUME, UUID, 4, &is);
        assert_eq!(misdirected, Err(Fault::Misdirected { found: VOLUME }));
        assert!(Page::decode(Volume(8), UUID, 3, &is).is_err());
        assert!(Page::decode(VOLUME, Uuid([8; 16]), 3, &is).is_err());
    }

    proptest! {
        /// I11: whatever is there, no panic, and no bit that was not set.
        #[test]
        fn every_changed_byte_is_seen(at in 0..BLOCK_LEN, change in 1..=u8::MAX) {
            let mut block = page(1, 9).encode();
            block[at] ^= change;
            prop_assert!(Page::decode(VOLUME, UUID, 3, &block).is_err());
        }
    }
}
