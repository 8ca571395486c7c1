//! The confirmation mark: the proof, beside an image, that it was once confirmed good (F9).
//!
//! It has the last 4 KiB of the slot, is written when the slot is confirmed, and is read only
//! when both copies of the boot control block are lost. It names the image by its digest, so a
//! mark left behind by an earlier image says nothing about a later one and need not be erased.
//!
//! | at  | len | field            | values                                                   |
//! |----:|----:|------------------|----------------------------------------------------------|
//! |   0 |   8 | magic            | "BHDMARK" and a zero                                     |
//! |   8 |   2 | format version   | 1                                                        |
//! |  10 |   2 | reserved         | zero                                                     |
//! |  12 |   4 | floor            | the security floor this confirmation set                 |
//! |  16 |   8 | sequence         | of the boot control block that recorded the confirmation |
//! |  24 |   8 | image version    |                                                          |
//! |  32 |  32 | digest           | SHA-256 of the payload                                   |
//! |  64 |   4 | security version | of the image                                             |
//! |  68 |   1 | tries            | tries a later candidate gets, 1 to 15                    |
//! |  69 | 439 | reserved         | zero                                                     |
//! | 508 |   4 | CRC              | CRC-32C of bytes 0 to 507                                |

use super::image::{Digest, ImageId, ImageVersion, SecurityVersion};
use crate::bytes::{Reader, Writer};
use crate::crc::crc32c;
use crate::plan::SECTOR;

const MAGIC: [u8; 8] = *b"BHDMARK\0";

/// A confirmation mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The image that was confirmed.
    pub image: ImageId,
    /// The security floor that confirmation set.
    pub floor: SecurityVersion,
    /// Sequence number of the boot control block that recorded it: of two marks, the larger is
    /// the later confirmation.
    pub seq: u64,
    /// Tries a later candidate gets on this disk.
    pub tries_max: u8,
}

impl Mark {
    /// Reads a mark; `None` when there is none, or it is damaged. No mark is ever guessed.
    pub fn parse(bytes: &[u8; SECTOR]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let (magic, version, zero) = (from.array()?, from.u16()?, from.reserved::<2>()?);
        let (floor, seq) = (SecurityVersion(from.u32()?), from.u64()?);
        let (version_of_image, digest) = (ImageVersion(from.u64()?), Digest(from.array()?));
        let (security, tries_max) = (SecurityVersion(from.u32()?), from.u8()?);
        let zero = zero && from.reserved::<439>()?;
        let crc = from.u32()?;
        let sound = magic == MAGIC && version == 1 && zero && (1..=15).contains(&tries_max);
        let sound = sound && bytes.first_chunk::<508>().map(|bytes| crc32c(bytes)) == Some(crc);
        let image = ImageId { version: version_of_image, security, digest };
        sound.then_some(Self { image, floor, seq, tries_max })
    }

    /// The mark as bytes.
    pub fn encode(&self) -> [u8; SECTOR] {
        let mut out = Writer::<SECTOR>::default();
        out.put(&MAGIC);
        out.u16(1);
        out.reserved(2);
        out.u32(self.floor.0);
        out.u64(self.seq);
        out.u64(self.image.version.0);
        out.put(&self.image.digest.0);
        out.u32(self.image.security.0);
        out.u8(self.tries_max);
        out.reserved(439);
        out.u32(crc32c(out.written()));
        out.finish()
    }
}
