//! A part of a guest's disk in bytes: the content of a record of `vmm::snapshot::format`. All integers are
//! little-endian.
//!
//! | at | len | field | value |
//! |---:|----:|-------|-------|
//! | 0 | 4 | disk | its number among the guest's disks, from 0 |
//! | 4 | 8 | offset | the first byte |
//! | 12 | 8 | zeroes | so many bytes from there are zero, and nothing follows; 0: it is data |
//! | 20 | | data | what is there, at most 1 MiB |

/// Bytes before the data.
pub const HEAD: usize = 20;
/// The most data of one piece.
pub const DATA_MAX: usize = 1 << 20;

/// A part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The disk's number.
    pub disk: u32,
    /// Its first byte.
    pub offset: u64,
    /// What is there.
    pub content: Content<'a>,
}

/// What is on a part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// This.
    Data(&'a [u8]),
    /// So many zeroes.
    Zeroes(u64),
}

impl<'a> Piece<'a> {
    /// What stands before its data.
    #[must_use]
    pub fn head(&self) -> [u8; HEAD] {
        let zeroes = if let Content::Zeroes(count) = self.content { count } else { 0 };
        let parts: [&[u8]; 3] = [&self.disk.to_le_bytes(), &self.offset.to_le_bytes(), &zeroes.to_le_bytes()];
        let mut head = [0; HEAD];
        head.iter_mut().zip(parts.concat()).for_each(|(place, byte)| *place = byte);
        head
    }

    /// What these bytes say; `None`: no part of a disk.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (disk, rest) = bytes.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (zeroes, data) = rest.split_first_chunk()?;
        let content = match (u64::from_le_bytes(*zeroes), data) {
            (0, []) => return None,
            (0, data) => Content::Data(data),
            (count, []) => Content::Zeroes(count),
            (_, _) => return None,
        };
        Some(Self { disk: u32::from_le_bytes(*disk), offset: u64::from_le_bytes(*offset), content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes are in the field. If this test fails, add a version; do not edit them.
    #[test]
    fn version_1_never_changes() {
        let data = Piece { disk: 1, offset: 0x203, content: Content::Data(b"ab") };
        let zeroes = Piece { content: Content::Zeroes(4096), ..data };
        let all: [(Piece<'_>, &[u8], &[u8]); 2] = [
            (data, b"\x01\0\0\0\x03\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0", b"ab"),
            (zeroes, b"\x01\0\0\0\x03\x02\0\0\0\0\0\0\0\x10\0\0\0\0\0\0", b""),
        ];
        for (piece, head, data) in all {
            assert_eq!(piece.head(), *head);
            assert_eq!(Piece::parse(&[head, data].concat()), Some(piece));
        }
    }

    /// I11: what is no part of a disk is none.
    #[test]
    fn nonsense_is_none() {
        let zeroes = Piece { disk: 0, offset: 0, content: Content::Zeroes(1) }.head();
        assert_eq!(Piece::parse(&[&zeroes[..], b"x"].concat()), None);
        for length in 0..=HEAD {
            assert_eq!(Piece::parse(&[0; HEAD][..length]), None, "{length}");
        }
    }
}
