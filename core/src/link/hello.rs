//! The handshake of two starts of two nodes (S1-09, V22, F39, F30).
//!
//! Each start of a node has a random nonce. A session exists at one end once the other has answered a
//! challenge of this end: it is alive now, and this nonce is its own. A recorded hello answers no challenge
//! of today, so it neither begins nor ends a session.
//!
//! ```text
//! A                                              B
//! hello(nonce A, challenge a, answer -)    ->
//!                                          <-    hello(nonce B, challenge b, answer a)
//! session up
//! hello(nonce A, no challenge, answer b)   ->
//!                                                session up
//! ```
//!
//! The payload of a hello, 56 bytes: nonce (16), challenge (16; zero: none), answer (16; zero: none), lowest
//! and highest version spoken (2, 2), how many peers the sender had forgotten (4). Layout and meaning of
//! these fields stay for ever: it is by them that two releases learn what both speak.

use super::key::Nonce;
use crate::bytes::{Reader, Writer};

/// Bytes of the payload.
pub const HELLO_LEN: usize = 56;

/// The versions of the messages that this Bulkhead speaks.
pub const SPOKEN: Versions = Versions { low: 1, high: 1 };

/// A range of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Versions {
    /// The lowest.
    pub low: u16,
    /// The highest.
    pub high: u16,
}

impl Versions {
    /// The version two nodes speak with each other: the highest that both know.
    pub fn common(self, other: Self) -> Option<u16> {
        let (low, high) = (self.low.max(other.low), self.high.min(other.high));
        (low <= high).then_some(high)
    }
}

/// One message of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// Of this start of the sender.
    pub nonce: Nonce,
    /// How many peers the sender had forgotten, in this start, when it began to speak with the receiver.
    pub forgotten: u32,
    /// To be answered, if there is one.
    pub challenge: Option<Nonce>,
    /// The last challenge received, if there was one.
    pub answer: Option<Nonce>,
    /// What the sender speaks.
    pub versions: Versions,
}

const NONE: [u8; 16] = [0; 16];

impl Hello {
    /// The payload.
    pub fn encode(&self) -> [u8; HELLO_LEN] {
        let mut out = Writer::<HELLO_LEN>::default();
        out.put(&self.nonce.0);
        out.put(&self.challenge.map_or(NONE, |nonce| nonce.0));
        out.put(&self.answer.map_or(NONE, |nonce| nonce.0));
        out.u16(self.versions.low);
        out.u16(self.versions.high);
        out.u32(self.forgotten);
        out.finish()
    }

    /// Reads a payload; `None` when it is none.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut fields = Reader::new(<&[u8; HELLO_LEN]>::try_from(payload).ok()?);
        let nonce = Nonce(fields.array()?);
        let some = |bytes: [u8; 16]| Some(Nonce(bytes)).filter(|_| bytes != NONE);
        let (challenge, answer) = (some(fields.array()?), some(fields.array()?));
        let versions = Versions { low: fields.u16()?, high: fields.u16()? };
        let forgotten = fields.u32()?;
        let is_range = versions.low <= versions.high;
        is_range.then_some(Self { nonce, forgotten, challenge, answer, versions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
    #[test]
    fn format_1_never_changes() {
        let versions = Versions { low: 1, high: 0x0203 };
        let (nonce, answer) = (Nonce([1; 16]), Some(Nonce([3; 16])));
        let hello = Hello { nonce, forgotten: 0x0605, challenge: None, answer, versions };
        let mut expected = [0; HELLO_LEN];
        expected[..16].fill(1);
        expected[32..48].fill(3);
        expected[48..].copy_from_slice(&[1, 0, 3, 2, 5, 6, 0, 0]);
        assert_eq!(hello.encode(), expected);
        assert_eq!(Hello::parse(&expected), Some(hello));
        assert_eq!(Hello::parse(&expected[..55]), None);
        expected[48] = 4;
        expected[50..52].fill(0);
        assert_eq!(Hello::parse(&expected), None, "versions 4 to 0 are no range");
    }

    /// V41, F30: the highest version that both speak, or none.
    #[test]
    fn two_releases_agree_or_refuse() {
        let versions = |low, high| Versions { low, high };
        assert_eq!(versions(1, 3).common(versions(2, 5)), Some(3));
        assert_eq!(versions(1, 1).common(versions(1, 2)), Some(1));
        assert_eq!(versions(1, 1).common(versions(2, 2)), None);
    }
}
