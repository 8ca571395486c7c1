//! The keys a node trusts, and the steps from a header to an image that may be started.
//!
//! The key table is a section of the boot application, so that under Secure Boot it is signed
//! with it. 512 bytes:
//!
//! | at  | len | field          | values                                                     |
//! |----:|----:|----------------|------------------------------------------------------------|
//! |   0 |   8 | magic          | "BHDKEYS" and a zero                                       |
//! |   8 |   2 | format version | 1                                                          |
//! |  10 |   2 | count          | keys that follow, 0 to 12                                  |
//! |  12 |   4 | reserved       | zero                                                       |
//! |  16 | 480 | keys           | 12 of: Ed25519 key (32), status (1: 1 = trusted, 2 = revoked), zero (7) |
//! | 496 |  12 | reserved       | zero                                                       |
//! | 508 |   4 | CRC            | CRC-32C of bytes 0 to 507                                  |

use super::header::{Header, KeyId, Malformed};
use super::image::{Digest, ImageId, SecurityVersion};
use crate::bytes::{Reader, Writer};
use crate::crc::crc32c;
use crate::plan::SECTOR;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::Digest as _;

/// Keys a table can hold: enough for a rotation in every year of a plant's life.
pub const KEYS_MAX: usize = 12;
/// The first bytes of the key table, by which a tool finds it in the boot application.
pub const KEYS_MAGIC: [u8; 8] = *b"BHDKEYS\0";

/// Why an image is not started. Codes are written to the boot control block and must not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageFault {
    /// The disk did not return the blocks.
    #[error("the slot could not be read")]
    Unreadable,
    /// The header is not one.
    #[error("{0}")]
    Malformed(Malformed),
    /// The container does not fit in the slot.
    #[error("the image needs {needed} bytes, the slot holds {capacity}")]
    TooLarge {
        /// Bytes of the container.
        needed: u64,
        /// Bytes the slot can hold.
        capacity: u64,
    },
    /// Nobody we know signed it.
    #[error("signed by unknown key {0}")]
    UnknownKey(KeyId),
    /// The key was withdrawn.
    #[error("signed by revoked key {0}")]
    RevokedKey(KeyId),
    /// The signature is not that of the key over this header.
    #[error("the signature is wrong")]
    Signature,
    /// Older images must not boot any more.
    #[error("security version {found} is below the floor {floor}")]
    BelowFloor {
        /// The image's security version.
        found: SecurityVersion,
        /// The lowest that may boot.
        floor: SecurityVersion,
    },
    /// The payload is not the one that was signed.
    #[error("the payload does not match its digest")]
    Digest,
    /// The command line is not UTF-8, or has control characters.
    #[error("the command line is not plain text")]
    CommandLine,
    /// The slot holds another image than the boot control block recorded for it.
    #[error("the image is not the one recorded for this slot")]
    NotAsRecorded,
    /// The firmware refused to load it, or it returned.
    #[error("the image did not start")]
    StartFailed,
    /// There is not enough memory for it.
    #[error("not enough memory for the image")]
    NoMemory,
}

impl ImageFault {
    /// Whether another boot may find the same slot good: the fault tells nothing of the image.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Unreadable | Self::StartFailed | Self::NoMemory => true,
            Self::Malformed(_)
            | Self::TooLarge { .. }
            | Self::UnknownKey(_)
            | Self::RevokedKey(_)
            | Self::Signature
            | Self::BelowFloor { .. }
            | Self::Digest
            | Self::CommandLine
            | Self::NotAsRecorded => false,
        }
    }
}

/// A key and what we think of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The Ed25519 public key (RFC 8032).
    pub public: [u8; 32],
    /// No image signed by it boots any more.
    pub revoked: bool,
}

impl Key {
    /// The name of the key.
    pub fn id(&self) -> KeyId {
        KeyId(sha2::Sha256::digest(self.public).into())
    }
}

/// The keys a node trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Trusted and revoked keys.
    pub keys: heapless::Vec<Key, KEYS_MAX>,
}

/// Why bytes are not a key table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTrust {
    /// No table here.
    #[error("there is no key table")]
    Magic,
    /// A version this code does not know.
    #[error("key table format {found} is not supported")]
    Version {
        /// The version in the table.
        found: u16,
    },
    /// The checksum does not hold.
    #[error("key table checksum is wrong")]
    Checksum,
    /// A count, status or reserved field has a value it cannot have.
    #[error("key table has an impossible field")]
    Field,
}

impl Trust {
    /// Reads a key table.
    ///
    /// # Errors
    ///
    /// [`BadTrust`]: nothing is trusted then.
    pub fn parse(bytes: &[u8; SECTOR]) -> Result<Self, BadTrust> {
        let mut from = Reader::new(bytes);
        if from.array() != Some(KEYS_MAGIC) {
            return Err(BadTrust::Magic);
        }
        let version = from.u16().unwrap_or_default();
        if version != 1 {
            return Err(BadTrust::Version { found: version });
        }
        let crc = bytes.last_chunk::<4>().map(|crc| u32::from_le_bytes(*crc));
        if bytes.first_chunk::<508>().map(|bytes| crc32c(bytes)) != crc {
            return Err(BadTrust::Checksum);
        }
        Self::parse_keys(from).ok_or(BadTrust::Field)
    }

    fn parse_keys(mut from: Reader<'_>) -> Option<Self> {
        let count = usize::from(from.u16()?);
        let mut trust = Self::default();
        let mut zero = from.reserved::<4>()?;
        for index in 0..KEYS_MAX {
            let (public, status) = (from.array()?, from.u8()?);
            zero &= from.reserved::<7>()?;
            if index < count {
                let revoked = [1, 2].iter().position(|known| *known == status)? == 1;
                trust.keys.push(Key { public, revoked }).ok()?;
            } else {
                zero &= status == 0 && public == [0; 32];
            }
        }
        zero &= from.reserved::<12>()?;
        (zero && count <= KEYS_MAX).then_some(trust)
    }

    /// The table as bytes.
    pub fn encode(&self) -> [u8; SECTOR] {
        let mut out = Writer::<SECTOR>::default();
        out.put(&KEYS_MAGIC);
        out.u16(1);
        out.u16(u16::try_from(self.keys.len()).unwrap_or(u16::MAX));
        out.reserved(4);
        for key in &self.keys {
            out.put(&key.public);
            out.u8(if key.revoked { 2 } else { 1 });
            out.reserved(7);
        }
        let free = KEYS_MAX.saturating_sub(self.keys.len());
        out.reserved(free.saturating_mul(40).saturating_add(12));
        out.u32(crc32c(out.written()));
        out.finish()
    }

    /// Believes a header: parsed, fits in `capacity` bytes, signed by a trusted key, at or above
    /// `floor`.
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn believe(
        &self,
        header: &[u8; SECTOR],
        capacity: u64,
        floor: SecurityVersion,
    ) -> Result<Signed, ImageFault> {
        let header = Header::parse(header).map_err(ImageFault::Malformed)?;
        let needed = header.container_len();
        if capacity < needed {
            return Err(ImageFault::TooLarge { needed, capacity });
        }
        let entries = || self.keys.iter().filter(|key| key.id() == header.key);
        let key = entries().next().ok_or(ImageFault::UnknownKey(header.key))?;
        // A key that a table names twice is revoked when either entry says so (F48).
        if entries().any(|key| key.revoked) {
            return Err(ImageFault::RevokedKey(header.key));
        }
        let public = VerifyingKey::from_bytes(&key.public).map_err(|_| ImageFault::Signature)?;
        let signature = Signature::from_bytes(&header.signature);
        public.verify_strict(&header.message(), &signature).map_err(|_| ImageFault::Signature)?;
        let found = header.image.security;
        if found < floor {
            return Err(ImageFault::BelowFloor { found, floor });
        }
        Ok(Signed { header })
    }
}

/// A header with a good signature. The payload has not been seen yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    header: Header,
}

impl Signed {
    /// The header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Believes the payload whose SHA-256 the shell computed over the very memory it will hand
    /// out, after the last read from the disk (V34).
    ///
    /// # Errors
    ///
    /// [`ImageFault::Digest`] when it is not the payload that was signed,
    /// [`ImageFault::CommandLine`] when the command line is not plain text.
    pub fn verify(self, computed: Digest, command_line: &[u8]) -> Result<Verified, ImageFault> {
        if computed != self.header.image.digest {
            return Err(ImageFault::Digest);
        }
        let text = core::str::from_utf8(command_line).map_err(|_| ImageFault::CommandLine)?;
        if text.chars().any(char::is_control) {
            return Err(ImageFault::CommandLine);
        }
        Ok(Verified { header: self.header })
    }
}

/// An image whose every byte is vouched for by a trusted key. Only such an image is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    header: Header,
}

impl Verified {
    /// The header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What names the image.
    pub const fn image(&self) -> ImageId {
        self.header.image
    }
}
