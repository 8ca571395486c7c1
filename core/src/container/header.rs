//! The header of an image container: what is in the payload, and who says so.
//!
//! A container is this header in its first 4,096 bytes (512 of them used, the rest zero), then
//! the payload. The payload is an EFI binary, and where that is a plain Linux kernel and not a
//! unified kernel image, an initrd and a command line.
//!
//! | at  | len | field            | unit, values                                            |
//! |----:|----:|------------------|---------------------------------------------------------|
//! |   0 |   8 | magic            | "BHDIMAGE"                                              |
//! |   8 |   2 | format version   | 1                                                       |
//! |  10 |   2 | header length    | 4,096 bytes: where the payload starts                   |
//! |  12 |   4 | security version | see [`SecurityVersion`]                                 |
//! |  16 |   8 | image version    | see [`ImageVersion`]                                    |
//! |  24 |   8 | payload length   | bytes, 1 to 1 GiB                                       |
//! |  32 |  32 | payload digest   | SHA-256                                                 |
//! |  64 |  16 | EFI binary       | offset and length in the payload, 8 bytes each          |
//! |  80 |  16 | initrd           | the same; length 0: none                                |
//! |  96 |  16 | command line     | the same, UTF-8 without control characters, max. 2 KiB  |
//! | 112 |  32 | key id           | SHA-256 of the Ed25519 public key                       |
//! | 144 | 300 | reserved         | zero                                                    |
//! | 444 |  64 | signature        | Ed25519 over "bulkhead image 1" and bytes 0 to 443      |
//! | 508 |   4 | CRC              | CRC-32C of bytes 0 to 507                               |
//!
//! Parts lie in the order EFI binary, initrd, command line, each at a multiple of 4,096, and do
//! not overlap. The signature covers the digest, and through it every byte of the payload.

use super::image::{Digest, ImageId, ImageVersion, SecurityVersion};
use crate::bytes::{Reader, Writer};
use crate::crc::crc32c;
use crate::plan::SECTOR;

/// Where the payload starts, from the start of the container.
pub const PAYLOAD_START: u64 = 4096;
/// The largest payload: bounds what a hostile header can make a node read (V39, F50).
pub const PAYLOAD_MAX: u64 = 1 << 30;
/// The longest command line: what a Linux kernel takes on x86.
pub const COMMAND_LINE_MAX: u64 = 2048;
/// Parts start at multiples of this, so that they can be handed out in place.
pub const PART_ALIGN: u64 = 4096;

const MAGIC: [u8; 8] = *b"BHDIMAGE";
const VERSION: u16 = 1;
const SIGNED_LEN: usize = 444;
const DOMAIN: [u8; 16] = *b"bulkhead image 1";
/// Bytes of the message that is signed.
pub const MESSAGE_LEN: usize = DOMAIN.len().saturating_add(SIGNED_LEN);

/// Why bytes are not the header of an image container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not a container at all; an erased or never flashed slot.
    #[error("there is no image container")]
    Magic,
    /// A version this code does not know (V41).
    #[error("container format {found} is not supported, only format 1 is")]
    Version {
        /// The version in the header.
        found: u16,
    },
    /// The checksum does not hold.
    #[error("header checksum is wrong")]
    Checksum,
    /// A reserved byte is not zero, or the header length is not 4,096.
    #[error("a reserved field is not zero")]
    Reserved,
    /// The payload is empty or too large.
    #[error("payload length {found} is not between 1 byte and 1 GiB")]
    PayloadLength {
        /// The length in the header, in bytes.
        found: u64,
    },
    /// A part lies outside the payload, overlaps another, is unaligned, or is missing.
    #[error("the {part} part does not lie where it must in the payload")]
    Part {
        /// Which part.
        part: &'static str,
    },
    /// The command line is longer than [`COMMAND_LINE_MAX`].
    #[error("the command line has {found} bytes, at most 2048 are allowed")]
    CommandLine {
        /// Its length in bytes.
        found: u64,
    },
}

/// A part of the payload. Invariant: lies inside the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// First byte, from the start of the payload; a multiple of [`PART_ALIGN`].
    pub offset: u64,
    /// Bytes; 0 for an absent part.
    pub len: u64,
}

impl Part {
    /// The bytes of the part in `payload`; empty when the payload is shorter than it claims.
    pub fn of(self, payload: &[u8]) -> &[u8] {
        let range = usize::try_from(self.offset).ok().zip(usize::try_from(self.len).ok());
        let range = range.and_then(|(offset, len)| Some(offset..offset.checked_add(len)?));
        range.and_then(|range| payload.get(range)).unwrap_or_default()
    }

    const fn end(self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// SHA-256 of an Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(pub [u8; 32]);

impl core::fmt::Display for KeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&Digest(self.0), f)
    }
}

/// The header of an image container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What names the image.
    pub image: ImageId,
    /// Bytes of the payload, 1 to [`PAYLOAD_MAX`].
    pub payload_len: u64,
    /// The EFI binary: a unified kernel image, or a kernel with an EFI stub. Never empty.
    pub efi: Part,
    /// The initrd, where the EFI binary does not bring its own.
    pub initrd: Part,
    /// The command line, where the EFI binary does not bring its own.
    pub command_line: Part,
    /// The key that signed.
    pub key: KeyId,
    /// Its signature; not yet believed.
    pub signature: [u8; 64],
}

impl Header {
    /// Reads a header from the first 512 bytes of a container.
    ///
    /// # Errors
    ///
    /// The first field that is wrong, in the order of the table above.
    pub fn parse(bytes: &[u8; SECTOR]) -> Result<Self, Malformed> {
        let fields = Fields::read(bytes).ok_or(Malformed::Magic)?;
        if fields.magic != MAGIC {
            return Err(Malformed::Magic);
        }
        if fields.version != VERSION {
            return Err(Malformed::Version { found: fields.version });
        }
        if bytes.first_chunk::<508>().map(|bytes| crc32c(bytes)) != Some(fields.crc) {
            return Err(Malformed::Checksum);
        }
        if !fields.reserved || u64::from(fields.header_len) != PAYLOAD_START {
            return Err(Malformed::Reserved);
        }
        fields.header.check()?;
        Ok(fields.header)
    }

    /// Whether the lengths and parts can be those of a payload.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), Malformed> {
        if self.payload_len == 0 || PAYLOAD_MAX < self.payload_len {
            return Err(Malformed::PayloadLength { found: self.payload_len });
        }
        let parts = [("EFI binary", self.efi), ("initrd", self.initrd), ("command line", self.command_line)];
        let mut free = 0;
        for (name, part) in parts {
            let aligned = part.offset & PART_ALIGN.saturating_sub(1) == 0;
            let absent = part == Part::default() && name != "EFI binary";
            let placed = part.len != 0 && aligned && free <= part.offset && part.end() <= self.payload_len;
            if !absent && !placed {
                return Err(Malformed::Part { part: name });
            }
            free = free.max(part.end());
        }
        if COMMAND_LINE_MAX < self.command_line.len {
            return Err(Malformed::CommandLine { found: self.command_line.len });
        }
        Ok(())
    }

    /// Bytes of the whole container.
    pub const fn container_len(&self) -> u64 {
        PAYLOAD_START.saturating_add(self.payload_len)
    }

    /// The message that [`Self::signature`] signs.
    pub fn message(&self) -> [u8; MESSAGE_LEN] {
        let mut out = Writer::<MESSAGE_LEN>::default();
        out.put(&DOMAIN);
        let body = self.encode();
        out.put(body.first_chunk::<SIGNED_LEN>().map_or(&[], |body| body.as_slice()));
        out.finish()
    }

    /// The header as bytes; the container has zeros behind it up to [`PAYLOAD_START`].
    pub fn encode(&self) -> [u8; SECTOR] {
        let mut out = Writer::<SECTOR>::default();
        out.put(&MAGIC);
        out.u16(VERSION);
        out.u16(4096);
        out.u32(self.image.security.0);
        out.u64(self.image.version.0);
        out.u64(self.payload_len);
        out.put(&self.image.digest.0);
        for part in [self.efi, self.initrd, self.command_line] {
            out.u64(part.offset);
            out.u64(part.len);
        }
        out.put(&self.key.0);
        out.reserved(300);
        out.put(&self.signature);
        out.u32(crc32c(out.written()));
        out.finish()
    }
}

struct Fields {
    magic: [u8; 8],
    version: u16,
    header_len: u16,
    header: Header,
    reserved: bool,
    crc: u32,
}

impl Fields {
    fn read(bytes: &[u8; SECTOR]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let (magic, version, header_len) = (from.array()?, from.u16()?, from.u16()?);
        let (security, version_of_image) = (SecurityVersion(from.u32()?), ImageVersion(from.u64()?));
        let payload_len = from.u64()?;
        let digest = Digest(from.array()?);
        let mut part = || Some(Part { offset: from.u64()?, len: from.u64()? });
        let (efi, initrd, command_line) = (part()?, part()?, part()?);
        let key = KeyId(from.array()?);
        let reserved = from.reserved::<300>()?;
        let signature = from.array()?;
        let image = ImageId { version: version_of_image, security, digest };
        let header = Header { image, payload_len, efi, initrd, command_line, key, signature };
        Some(Self { magic, version, header_len, header, reserved, crc: from.u32()? })
    }
}
