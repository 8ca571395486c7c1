//! The checksums of the blocks of a backing store, so that no block is believed that is not what was written
//! there (I6, V5; F3, F4, F7).
//!
//! They lie apart from the blocks: a block that is lost, or written elsewhere, does not take its checksum
//! with it. For each volume a head, one block of which is used, and then four bytes for each block of the
//! volume. All integers are little-endian:
//!
//! |   at | len | field    | unit, values                                                         |
//! |-----:|----:|----------|----------------------------------------------------------------------|
//! |    0 |   7 | magic    | "BHSUMS", 0                                                          |
//! |    7 |   1 | version  | 1                                                                    |
//! |    8 |   2 | volume   | its number                                                           |
//! |   10 |   1 | whole    | 1: every block has its checksum; 0: some were written before there   |
//! |      |     |          | were checksums, and theirs is 0                                      |
//! |   11 |   1 | reserved | zero                                                                 |
//! |   12 |   4 | crc      | CRC-32C of bytes 0..12                                               |
//! |   16 |4080 | reserved | zero                                                                 |
//! | 4096 | 4 n | sums     | of each block: [`stored`]; 0: it was never written, or was made zero |

use crate::bytes::{Reader, Writer};
use crate::crc::crc32c;
use crate::log::batch::{BlockIndex, Sum, Volume};

/// Bytes of a head that are not reserved.
pub const HEAD_LEN: usize = 16;
/// Where the checksum of block 0 is.
pub const SUMS_AT: u64 = 4096;
/// Bytes of a checksum.
pub const SUM_LEN: u64 = 4;

const MAGIC: [u8; 7] = *b"BHSUMS\0";
const VERSION: u8 = 1;
const SEALED: usize = 12;

/// The checksum of a block where it is, whose content has this one. Never 0: that is a block of zeroes.
pub fn stored(volume: Volume, block: BlockIndex, content: Sum) -> u32 {
    let mut all = Writer::<14>::default();
    all.u16(volume.0);
    all.u64(block.0);
    all.u32(content.0);
    crc32c(&all.finish()).max(1)
}

/// What the head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose blocks.
    pub volume: Volume,
    /// Whether every block has its checksum.
    pub is_whole: bool,
}

impl Head {
    /// The bytes.
    pub fn encode(&self) -> [u8; HEAD_LEN] {
        let mut sealed = Writer::<SEALED>::default();
        sealed.put(&MAGIC);
        sealed.u8(VERSION);
        sealed.u16(self.volume.0);
        sealed.u8(u8::from(self.is_whole));
        sealed.reserved(1);
        let sealed = sealed.finish();
        let mut all = Writer::<HEAD_LEN>::default();
        all.put(&sealed);
        all.u32(crc32c(&sealed));
        all.finish()
    }

    /// `None`: damaged, of another version, or something else.
    pub fn parse(bytes: &[u8; HEAD_LEN]) -> Option<Self> {
        let mut fields = Reader::new(bytes);
        fields.array::<8>()?;
        let head = Self { volume: Volume(fields.u16()?), is_whole: fields.u8()? == 1 };
        (head.encode() == *bytes).then_some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_has_these_bytes() {
        let head = Head { volume: Volume(0x0102), is_whole: true };
        let bytes = head.encode();
        assert_eq!(bytes[..12], *b"BHSUMS\0\x01\x02\x01\x01\0");
        assert_eq!(bytes[12..], crc32c(&bytes[..12]).to_le_bytes());
        assert_eq!(Head::parse(&bytes), Some(head));
        for bit in 0..HEAD_LEN * 8 {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::parse(&other), None, "bit {bit}");
        }
    }

    /// F4: the same content at another place has another checksum, and none is that of a block of zeroes.
    #[test]
    fn a_checksum_is_that_of_a_place() {
        let here = stored(Volume(1), BlockIndex(7), Sum(0x1234_5678));
        assert_eq!(here, 0x4e4d_1813);
        let others = [
            stored(Volume(2), BlockIndex(7), Sum(0x1234_5678)),
            stored(Volume(1), BlockIndex(8), Sum(0x1234_5678)),
            stored(Volume(1), BlockIndex(7), Sum(0x1234_5679)),
        ];
        assert!(others.iter().all(|other| *other != here && *other != 0));
    }
}
