//! One copy of a text of the infra partition as bytes: a header of 512 bytes, then the text.
//!
//! | at  | len | field          | unit, values                                   |
//! |----:|----:|----------------|------------------------------------------------|
//! |   0 |   8 | magic          | of the kind of text: [`Kind`]                  |
//! |   8 |   2 | format version | 1                                              |
//! |  10 |   2 | reserved       | zero                                           |
//! |  12 |   4 | length         | bytes of the text, 0 to 61,440                 |
//! |  16 |   8 | sequence       | +1 a write, never 0; the higher good copy wins |
//! |  24 |   4 | text CRC       | CRC-32C of the text                            |
//! |  28 | 480 | reserved       | zero                                           |
//! | 508 |   4 | CRC            | CRC-32C of bytes 0 to 507                      |
//!
//! The text is UTF-8. Zeros behind it up to the end of its block.

use bulkhead_core::bytes::{Reader, Writer};
use bulkhead_core::crc::crc32c;
use bulkhead_core::plan::SECTOR;

/// The longest text, in bytes: with its header it stays below the distance of the two copies.
pub const TEXT_MAX: usize = 60 << 10;
/// From one copy to the next.
const STRIDE: u64 = 64 << 10;
const VERSION: u16 = 1;

/// What a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The node configuration: who the node is.
    Node,
    /// The site's configuration, as this node has it.
    Site,
    /// The site key.
    Key,
    /// What the cluster agent remembers beside its votes.
    Marks,
}

impl Kind {
    /// What a record of this kind begins with.
    const fn magic(self) -> [u8; 8] {
        match self {
            Self::Node => *b"BHDNODE\0",
            Self::Site => *b"BHDSITE\0",
            Self::Key => *b"BHDSKEY\0",
            Self::Marks => *b"BHDMARK\0",
        }
    }

    /// Where its two copies are, from the start of the infra partition.
    pub const fn places(self) -> [u64; 2] {
        match self {
            Self::Node => [0, STRIDE],
            Self::Site => [2 * STRIDE, 3 * STRIDE],
            Self::Key => [4 * STRIDE, 5 * STRIDE],
            Self::Marks => [6 * STRIDE, 7 * STRIDE],
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Node => "the node configuration",
            Self::Site => "the site's configuration",
            Self::Key => "the site key",
            Self::Marks => "the marks of the cluster agent",
        })
    }
}

/// Why a copy says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The disk did not return it.
    Unreadable,
    /// There is none here.
    Magic,
    /// A version this code does not know (V41).
    Version(u16),
    /// Its header is torn or rotten.
    Header,
    /// Its text is torn or rotten.
    Text,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable => f.write_str("the disk could not be read"),
            Self::Magic => f.write_str("there is none"),
            Self::Version(found) => write!(f, "its format {found} is not supported, only format 1 is"),
            Self::Header => f.write_str("its header is damaged"),
            Self::Text => f.write_str("its text is damaged"),
        }
    }
}

/// A good header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Counts the writes.
    pub seq: u64,
    /// Bytes of the text. Invariant: at most [`TEXT_MAX`].
    pub len: usize,
    text_crc: u32,
}

impl Head {
    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`Damage`].
    pub fn parse(kind: Kind, bytes: &[u8; SECTOR]) -> Result<Self, Damage> {
        let mut from = Reader::new(bytes);
        if from.array() != Some(kind.magic()) {
            return Err(Damage::Magic);
        }
        let version = from.u16().unwrap_or_default();
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        let mut fields = || {
            let zero = from.reserved::<2>()?;
            let len = usize::try_from(from.u32()?).ok()?;
            let (seq, text_crc) = (from.u64()?, from.u32()?);
            let zero = zero && from.reserved::<480>()?;
            let good = bytes.first_chunk::<508>().map(|bytes| crc32c(bytes)) == from.u32();
            (zero && good && seq != 0 && len <= TEXT_MAX).then_some(Self { seq, len, text_crc })
        };
        fields().ok_or(Damage::Header)
    }

    /// The text, when it is the one the header was written for.
    ///
    /// # Errors
    ///
    /// [`Damage::Text`].
    pub fn text(&self, bytes: &[u8]) -> Result<String, Damage> {
        let text = bytes.get(..self.len).filter(|text| crc32c(text) == self.text_crc);
        let text = text.and_then(|text| std::str::from_utf8(text).ok());
        text.map(str::to_owned).ok_or(Damage::Text)
    }
}

/// A copy as bytes: header and text.
pub fn encode(kind: Kind, seq: u64, text: &str) -> Vec<u8> {
    let mut out = Writer::<SECTOR>::default();
    out.put(&kind.magic());
    out.u16(VERSION);
    out.reserved(2);
    out.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.u64(seq);
    out.u32(crc32c(text.as_bytes()));
    out.reserved(480);
    out.u32(crc32c(out.written()));
    let mut bytes = out.finish().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<(u64, String), Damage> {
        let head = Head::parse(Kind::Node, bytes.first_chunk().unwrap())?;
        Ok((head.seq, head.text(&bytes[SECTOR..])?))
    }

    /// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
    #[test]
    fn format_1_never_changes() {
        let bytes = encode(Kind::Node, 0x0102, "[node]\n");
        let mut golden = vec![0; SECTOR];
        golden[..8].copy_from_slice(b"BHDNODE\0");
        golden[8] = 1;
        golden[12] = 7;
        golden[16..18].copy_from_slice(&[0x02, 0x01]);
        golden[24..28].copy_from_slice(&crc32c(b"[node]\n").to_le_bytes());
        let crc = crc32c(&golden[..508]).to_le_bytes();
        golden[508..].copy_from_slice(&crc);
        golden.extend_from_slice(b"[node]\n");
        assert_eq!(bytes, golden);
        assert_eq!(&bytes[24..28], [0xc3, 0x15, 0x8e, 0x19], "CRC-32C of the text");
        assert_eq!(parse(&bytes), Ok((0x0102, "[node]\n".into())));
    }

    #[test]
    fn any_flipped_bit_is_seen() {
        let good = encode(Kind::Node, 7, "name = 1");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad).is_err(), "bit {bit}");
        }
    }
    #[test]
    fn texts_of_different_kinds_are_not_taken_for_each_other_and_do_not_overlap() {
        let kinds = [Kind::Node, Kind::Site, Kind::Key, Kind::Marks];
        for kind in kinds {
            let bytes = encode(kind, 1, "text");
            for other in kinds {
                let head = Head::parse(other, bytes.first_chunk().unwrap());
                assert_eq!(head.is_ok(), kind == other, "{kind} as {other}");
            }
        }
        let mut places: Vec<u64> = kinds.into_iter().flat_map(Kind::places).collect();
        places.sort_unstable();
        let room = u64::try_from(TEXT_MAX + SECTOR).unwrap();
        assert!(places.windows(2).all(|two| two[0] + room <= two[1]), "{places:?}");
    }
}
