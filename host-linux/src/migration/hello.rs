//! How the connection begins by which a guest is moved: two messages in the clear, and keys of what they say
//! and of the site key, which nobody else has (V22). What follows where the two encrypt is in
//! [`super::opening`].
//!
//! | at | len | field | value |
//! |---:|----:|-------|-------|
//! | 0 | 8 | magic and version | "BHMOVE", 0; 1: all goes in the clear; 2: as `low` and `high` say |
//! | 8 | 2 | from | the node that speaks |
//! | 10 | 2 | to | the node that it means |
//! | 12 | 1 | low | of the versions that the sender speaks; in an answer the one that is spoken, or 0: none |
//! | 13 | 1 | high | the highest; in an answer the same one. Both are 0 in a message of version 1 |
//! | 14 | 2 | reserved | 0 |
//! | 16 | 16 | site | |
//! | 32 | 32 | nonce | random |

use crate::site_config::key::SiteKey;
use bulkhead_core::id::{NodeId, SiteId};
use serde::{Deserialize, Serialize};

/// Bytes of a message.
pub const HELLO_LEN: usize = 64;
/// Bytes of a nonce.
pub const NONCE_LEN: usize = 32;
const MAGIC: [u8; 7] = *b"BHMOVE\0";
const CLEAR: u8 = 1;
const ENCRYPTED: u8 = 2;
/// What the key of a direction is made for. Never changes for this version of the messages.
const CONTEXT: &str = "bulkhead migration 1: the key of one connection in one direction";
/// The same where frames go in TLS.
const CONTEXT_IN_TLS: &str = "bulkhead migration 2: the key of one connection in one direction, in TLS";

/// Which versions an end speaks: the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions(u8, u8);

impl Versions {
    /// In an answer: there is none that both speak.
    pub const NONE: Self = Self(0, 0);
    /// It does not encrypt.
    pub const CLEAR: Self = Self(CLEAR, CLEAR);
    /// It encrypts with whom can.
    pub const EITHER: Self = Self(CLEAR, ENCRYPTED);
    /// It encrypts.
    pub const ENCRYPTED: Self = Self(ENCRYPTED, ENCRYPTED);

    /// Whether all of `other` is spoken.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 <= other.0 && other.1 <= self.1
    }

    /// What is spoken with somebody who speaks `other`: the highest that both do.
    #[must_use]
    pub fn with(self, other: Self) -> Option<Self> {
        let (low, high) = (self.0.max(other.0), self.1.min(other.1));
        (low <= high && low != 0).then_some(Self(high, high))
    }
}

/// The first message, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who speaks.
    pub from: NodeId,
    /// Whom it means.
    pub to: NodeId,
    /// Its site.
    pub site: SiteId,
    /// What it speaks, or what is spoken.
    pub versions: Versions,
    /// Of this connection.
    pub nonce: [u8; NONCE_LEN],
}

impl Hello {
    /// With a nonce of its own, of who does not encrypt.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn new(site: SiteId, from: NodeId, to: NodeId) -> std::io::Result<Self> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
        Ok(Self { from, to, site, versions: Versions::CLEAR, nonce })
    }

    /// The same of who speaks so.
    #[must_use]
    pub const fn speaking(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO_LEN] {
        // One that does not encrypt says what all of them said before any did.
        let (version, versions) = match self.versions {
            Versions::CLEAR => (CLEAR, [0; 4]),
            Versions(low, high) => (ENCRYPTED, [low, high, 0, 0]),
        };
        let parts: [&[u8]; 7] = [
            &MAGIC,
            &[version],
            &self.from.0.to_le_bytes(),
            &self.to.0.to_le_bytes(),
            &versions,
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
        let (magic, rest) = bytes.split_first_chunk::<7>()?;
        let (version, rest) = rest.split_first()?;
        let (from, rest) = rest.split_first_chunk()?;
        let (to, rest) = rest.split_first_chunk()?;
        let (said, rest) = rest.split_first_chunk::<4>()?;
        let (site, rest) = rest.split_first_chunk()?;
        let nonce = rest.first_chunk()?;
        let versions = match (*version, *said) {
            (CLEAR, [0, 0, 0, 0]) => Versions::CLEAR,
            // What does not encrypt has one way to be said.
            (ENCRYPTED, [low, high, 0, 0]) if low <= high && Versions(low, high) != Versions::CLEAR => {
                Versions(low, high)
            }
            (_, _) => return None,
        };
        (*magic == MAGIC).then(|| Self {
            from: NodeId(u16::from_le_bytes(*from)),
            to: NodeId(u16::from_le_bytes(*to)),
            site: SiteId(*site),
            versions,
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
        Self::made(CONTEXT, key, hello, welcome, &[])
    }

    /// The same, in a TLS session whose two ends have this secret.
    #[must_use]
    pub fn in_tls(key: &SiteKey, hello: &Hello, welcome: &Hello, secret: &[u8; 32]) -> Self {
        Self::made(CONTEXT_IN_TLS, key, hello, welcome, secret)
    }

    fn made(context: &str, key: &SiteKey, hello: &Hello, welcome: &Hello, secret: &[u8]) -> Self {
        let of = |direction: u8| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            hasher.update(&key.0).update(&hello.encode()).update(&welcome.encode()).update(secret);
            hasher.update(&[direction]).finalize().into()
        };
        Self { out: of(0), back: of(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        let versions = Versions::CLEAR;
        Hello { from: NodeId(1), to: NodeId(0x203), site: SiteId([7; 16]), versions, nonce: [9; NONCE_LEN] }
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

    /// These bytes are in the field. If this test fails, add a version; do not edit the numbers.
    #[test]
    fn version_2_never_changes() {
        for (versions, said) in
            [(Versions::NONE, [0, 0]), (Versions::EITHER, [1, 2]), (Versions::ENCRYPTED, [2, 2])]
        {
            let bytes = hello().speaking(versions).encode();
            let expected = [&b"BHMOVE\0\x02\x01\0\x03\x02"[..], &said, &[0, 0], &[7; 16], &[9; 32]].concat();
            assert_eq!(bytes[..], expected);
            assert_eq!(Hello::parse(&bytes), Some(hello().speaking(versions)));
        }
        let welcome = Hello { nonce: [8; NONCE_LEN], ..hello() }.speaking(Versions::ENCRYPTED);
        let keys = Keys::in_tls(&SiteKey([5; 32]), &hello().speaking(Versions::EITHER), &welcome, &[6; 32]);
        assert_eq!(crc32c::crc32c(&[keys.out, keys.back].concat()), 3_484_225_671);
    }

    /// V43: what both speak, and nothing that one of them does not.
    #[test]
    fn two_ends_speak_what_both_do() {
        let (clear, either, encrypted) = (Versions::CLEAR, Versions::EITHER, Versions::ENCRYPTED);
        let cases = [
            (clear, clear, Some(clear)),
            (clear, either, Some(clear)),
            (clear, encrypted, None),
            (either, either, Some(encrypted)),
            (either, encrypted, Some(encrypted)),
            (encrypted, encrypted, Some(encrypted)),
            (either, Versions::NONE, None),
        ];
        for (one, other, both) in cases {
            assert_eq!((one.with(other), other.with(one)), (both, both), "{one:?}, {other:?}");
            assert!(both.is_none_or(|both| one.has(both) && other.has(both)));
        }
    }

    #[test]
    fn what_is_not_ours_is_none() {
        let other = |hello: Hello, at: usize, byte: u8| {
            let mut bytes = hello.encode();
            bytes[at] = byte;
            assert_eq!(Hello::parse(&bytes), None, "byte {at}: {byte}");
        };
        for at in (0..8).chain(12..16) {
            other(hello(), at, hello().encode()[at] ^ 4);
        }
        let either = hello().speaking(Versions::EITHER);
        for (at, byte) in [(7, 1), (7, 3), (12, 3), (13, 0), (13, 1), (14, 1), (15, 1)] {
            other(either, at, byte);
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
