//! How the connection begins by which a guest is moved: two messages in the clear, and keys of what they say
//! and of the site key, which nobody else has (V22). docs/formats.md describes the bytes.
//!
//! | at | len | field | value |
//! |---:|----:|-------|-------|
//! | 0 | 8 | magic and version | "BHMOVE", 0, 1 |
//! | 8 | 2 | from | the node that speaks |
//! | 10 | 2 | to | the node that it means |
//! | 12 | 4 | reserved | 0 |
//! | 16 | 16 | site | |
//! | 32 | 32 | nonce | random |

use crate::site_config::key::SiteKey;
use bulkhead_core::id::{NodeId, SiteId};
use serde::{Deserialize, Serialize};

/// Bytes of a message.
pub const HELLO_LEN: usize = 64;
/// Bytes of a nonce.
pub const NONCE_LEN: usize = 32;
const MAGIC: [u8; 8] = *b"BHMOVE\0\x01";
/// What the key of a direction is made for. Never changes for this version of the messages.
const CONTEXT: &str = "bulkhead migration 1: the key of one connection in one direction";

/// The first message, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who speaks.
    pub from: NodeId,
    /// Whom it means.
    pub to: NodeId,
    /// Its site.
    pub site: SiteId,
    /// Of this connection.
    pub nonce: [u8; NONCE_LEN],
}

impl Hello {
    /// With a nonce of its own.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn new(site: SiteId, from: NodeId, to: NodeId) -> std::io::Result<Self> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
        Ok(Self { from, to, site, nonce })
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO_LEN] {
        let parts: [&[u8]; 6] = [
            &MAGIC,
            &self.from.0.to_le_bytes(),
            &self.to.0.to_le_bytes(),
            &[0; 4],
            &self.site.0,
            &self.nonce,
        ];
        let mut bytes = [0; HELLO_LEN];
        bytes.iter_mut().zip(parts.concat()).for_each(|(place, byte)| *place = byte);
        bytes
    }

    /// What these bytes say; `None`: nothing of ours.
    #[must_use]
    pub fn parse(bytes: &[u8; HELLO_LEN]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (from, rest) = rest.split_first_chunk()?;
        let (to, rest) = rest.split_first_chunk()?;
        let (reserved, rest) = rest.split_first_chunk::<4>()?;
        let (site, rest) = rest.split_first_chunk()?;
        let nonce = rest.first_chunk()?;
        let is_ours = *magic == MAGIC && *reserved == [0; 4];
        is_ours.then(|| Self {
            from: NodeId(u16::from_le_bytes(*from)),
            to: NodeId(u16::from_le_bytes(*to)),
            site: SiteId(*site),
            nonce: *nonce,
        })
    }

    /// Whether `answer` is one to this message.
    #[must_use]
    pub fn is_answered_by(&self, answer: &Self) -> bool {
        (answer.from, answer.to, answer.site) == (self.to, self.from, self.site)
    }
}

/// The keys of a connection. They do not print themselves.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Of what goes to the node that takes the guest in.
    pub out: [u8; blake3::KEY_LEN],
    /// Of what comes from there.
    pub back: [u8; blake3::KEY_LEN],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(secret)")
    }
}

impl Keys {
    /// Of a connection that began with this message and this answer.
    #[must_use]
    pub fn new(key: &SiteKey, hello: &Hello, welcome: &Hello) -> Self {
        let of = |direction: u8| {
            let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
            hasher.update(&key.0).update(&hello.encode()).update(&welcome.encode()).update(&[direction]);
            hasher.finalize().into()
        };
        Self { out: of(0), back: of(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello { from: NodeId(1), to: NodeId(0x203), site: SiteId([7; 16]), nonce: [9; NONCE_LEN] }
    }

    /// These bytes are in the field. If this test fails, add a version; do not edit the numbers.
    #[test]
    fn version_1_never_changes() {
        let bytes = hello().encode();
        let expected = [&b"BHMOVE\0\x01\x01\0\x03\x02\0\0\0\0"[..], &[7; 16], &[9; 32]].concat();
        assert_eq!(bytes[..], expected);
        assert_eq!(Hello::parse(&bytes), Some(hello()));
        let welcome = Hello { from: NodeId(0x203), to: NodeId(1), nonce: [8; NONCE_LEN], ..hello() };
        assert!(hello().is_answered_by(&welcome) && !hello().is_answered_by(&hello()));
        let keys = Keys::new(&SiteKey([5; 32]), &hello(), &welcome);
        let both = [keys.out, keys.back].concat();
        assert_eq!(crc32c::crc32c(&both), 4_124_456_662);
        assert_eq!(format!("{keys:?}"), "Keys(secret)");
    }

    #[test]
    fn what_is_not_ours_is_none() {
        for at in (0..8).chain(12..16) {
            let mut bytes = hello().encode();
            bytes[at] ^= 1;
            assert_eq!(Hello::parse(&bytes), None, "byte {at}");
        }
    }

    /// Each connection has keys of its own, and each direction, and each site.
    #[test]
    fn keys_are_of_all_that_was_said() {
        let (site, welcome) = (SiteKey([5; 32]), Hello { nonce: [1; NONCE_LEN], ..hello() });
        let keys = Keys::new(&site, &hello(), &welcome);
        let other = Hello { nonce: [2; NONCE_LEN], ..hello() };
        let others = [
            Keys::new(&SiteKey([6; 32]), &hello(), &welcome),
            Keys::new(&site, &other, &welcome),
            Keys::new(&site, &hello(), &other),
        ];
        assert_ne!(keys.out, keys.back);
        assert!(others.iter().all(|other| other.out != keys.out && other.back != keys.back));
    }
}
