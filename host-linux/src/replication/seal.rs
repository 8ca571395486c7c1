//! The keys of one stream, and the tags that its frames carry (V22, F32, F39).
//!
//! Keyed BLAKE3, not the BLAKE2s of the control networks: a block costs a third of the time, 128 KiB a tenth
//! (ARCHITECTURE.md, "Decisions about the mirrored log").
//!
//! Each stream has one key in each direction, made of the site key and of all that both ends said in the
//! handshake, their nonces among it. A tag is bound to the number of its frame: one that was changed, moved,
//! repeated or left out on the way, or comes from another stream, does not fit. The head has a tag of its
//! own, so that nobody without the key decides how much memory a frame takes.
//!
//! Inside TLS the tags stay: they bind a frame to the site key, whoever has signed certificates, and their
//! keys are made of the TLS session besides, so that nobody sits between two sessions.

use crate::site_config::key::SiteKey;

/// Bytes of the tag of a head. Who guesses it has made a receiver wait, and no more.
pub const HEAD_TAG_LEN: usize = 8;
/// Bytes of the tag of a frame.
pub const TAG_LEN: usize = 16;

/// What the key of a direction is made for. Never changes for this version of the format.
const CONTEXT: &str = "bulkhead replication 1: the key of one stream in one direction";

/// The same, of a stream inside TLS.
const CONTEXT_IN_TLS: &str = "bulkhead replication 2: the key of one stream inside TLS in one direction";
/// Bytes of the secret of a TLS session.
pub const SECRET_LEN: usize = 32;

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the end that dialled.
    Out,
    /// To it.
    Back,
}

/// The tags of one direction of one stream, frame by frame. Does not print its key.
pub struct Sealer {
    key: [u8; blake3::KEY_LEN],
    /// Of the next frame.
    number: u64,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer(frame {})", self.number)
    }
}

impl Sealer {
    /// For a stream that began with this hello and this welcome.
    #[must_use]
    pub fn new(key: &SiteKey, hello: &[u8], welcome: &[u8], direction: Direction) -> Self {
        Self::of(CONTEXT, &[&key.0, hello, welcome], direction)
    }

    /// For the same stream inside the TLS session that has this secret.
    #[must_use]
    pub fn in_tls(
        key: &SiteKey,
        hello: &[u8],
        welcome: &[u8],
        secret: &[u8; SECRET_LEN],
        direction: Direction,
    ) -> Self {
        Self::of(CONTEXT_IN_TLS, &[&key.0, hello, welcome, secret], direction)
    }

    /// Each of these parts has one length.
    fn of(context: &str, parts: &[&[u8]], direction: Direction) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        for part in parts {
            hasher.update(part);
        }
        hasher.update(match direction {
            Direction::Out => &[0],
            Direction::Back => &[1],
        });
        Self { key: hasher.finalize().into(), number: 0 }
    }

    /// The tag of the head of the next frame.
    #[must_use]
    pub fn head(&self, head: &[u8]) -> [u8; HEAD_TAG_LEN] {
        self.tag(&[head], b'h')
    }

    /// The tag of the next frame, whose head is `head` with its tag; then the one after it is the next.
    #[must_use]
    pub fn frame(&mut self, head: &[u8], meta: &[u8], payload: &[u8]) -> [u8; TAG_LEN] {
        // The payload first: whole blocks from the start are hashed fastest. The head, of one length, says
        // where each part ends.
        let tag = self.tag(&[payload, meta, head], b'f');
        self.number = self.number.saturating_add(1);
        tag
    }

    fn tag<const N: usize>(&self, parts: &[&[u8]], kind: u8) -> [u8; N] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in parts {
            hasher.update(part);
        }
        hasher.update(&self.number.to_le_bytes());
        hasher.update(&[kind]);
        let mut tag = [0; N];
        hasher.finalize_xof().fill(&mut tag);
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: u8, hello: &[u8], welcome: &[u8], direction: Direction) -> Sealer {
        Sealer::new(&SiteKey([key; 32]), hello, welcome, direction)
    }

    /// F39: no frame fits another stream, direction, place or kind of tag.
    #[test]
    fn a_tag_fits_one_frame_of_one_stream() {
        let tag = |mut sealer: Sealer| sealer.frame(b"head", b"meta", b"payload");
        let mut this = sealer(7, b"hello", b"world", Direction::Out);
        let first = this.frame(b"head", b"meta", b"payload");
        assert_eq!(first, tag(sealer(7, b"hello", b"world", Direction::Out)));
        let others = [
            tag(sealer(8, b"hello", b"world", Direction::Out)),
            tag(sealer(7, b"hallo", b"world", Direction::Out)),
            tag(sealer(7, b"hello", b"welt!", Direction::Out)),
            tag(sealer(7, b"hello", b"world", Direction::Back)),
            this.frame(b"head", b"meta", b"payload"),
        ];
        assert!(others.iter().all(|other| *other != first));
        let again = sealer(7, b"hello", b"world", Direction::Out);
        assert_ne!(again.head(b"payloadmetahead")[..], first[..HEAD_TAG_LEN]);
        assert_eq!(format!("{again:?}"), "Sealer(frame 0)");
    }

    /// In the field. If this test fails, add a version; do not edit the bytes. Computed with `b3sum`:
    /// `--derive-key CONTEXT` of 32 times 7, 64 times 1, 64 times 2 and a 0; `--keyed` of head, number
    /// and 'h', of payload, meta, head, number and 'f'.
    #[test]
    fn version_1_never_changes() {
        let mut sealer = sealer(7, &[1; 64], &[2; 64], Direction::Out);
        assert_eq!(sealer.head(b"head"), GOLDEN_HEAD);
        assert_eq!(sealer.frame(b"head", b"meta", b"payload"), GOLDEN);
    }

    /// As above, for a stream inside TLS: the derived key is of 32 times 5 besides, in front of the 0.
    #[test]
    fn version_2_never_changes() {
        let sealer = |secret: u8, direction| {
            Sealer::in_tls(&SiteKey([7; 32]), &[1; 64], &[2; 64], &[secret; SECRET_LEN], direction)
        };
        assert_eq!(sealer(5, Direction::Out).frame(b"head", b"meta", b"payload"), GOLDEN_IN_TLS);
        // Another session, or the other direction.
        assert_ne!(sealer(6, Direction::Out).frame(b"head", b"meta", b"payload"), GOLDEN_IN_TLS);
        assert_ne!(sealer(5, Direction::Back).frame(b"head", b"meta", b"payload"), GOLDEN_IN_TLS);
    }

    const GOLDEN_IN_TLS: [u8; TAG_LEN] =
        [0x81, 0x0c, 0xaf, 0x1c, 0xbb, 0x7f, 0xc6, 0x38, 0xb8, 0xb7, 0x50, 0x34, 0x4d, 0x32, 0x9f, 0x75];
    const GOLDEN_HEAD: [u8; HEAD_TAG_LEN] = [0x3d, 0x82, 0xbd, 0x9c, 0xb5, 0xdc, 0x4f, 0x75];
    const GOLDEN: [u8; TAG_LEN] =
        [0x48, 0xe6, 0xef, 0xd4, 0x45, 0xe1, 0x53, 0x15, 0x80, 0x05, 0x4a, 0xa6, 0x56, 0x1f, 0x8b, 0x76];
}
