//! Keys: one for the site, one for each two nodes, one for each session of theirs (V22, F32, F39).

use blake2::Blake2sMac;
use blake2::digest::consts::{U16, U32};
use blake2::digest::{KeyInit, Mac};

use crate::id::NodeId;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes of a tag: keyed BLAKE2s (RFC 7693) with 128 bits, as WireGuard's. A frame of one block costs two
/// compressions, where HMAC-SHA-256 takes five: on a microcontroller that is the time of a frame.
pub const TAG_LEN: usize = 16;
/// Bytes of a nonce.
pub const NONCE_LEN: usize = 16;

/// The secret of the site. Does not print itself.
#[derive(Clone)]
pub struct SiteKey([u8; KEY_LEN]);

/// A key that authenticates frames. Does not print itself.
#[derive(Clone)]
pub struct Key([u8; KEY_LEN]);

/// The key of a session, as long as the tags that it makes: a longer one would make the tags no harder to
/// guess. Does not print itself.
#[derive(Clone)]
pub struct SessionKey([u8; TAG_LEN]);

/// A random number, used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce(pub [u8; NONCE_LEN]);

/// The first half of the nonce of a start: enough to tell the starts of one node apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark(pub [u8; MARK_LEN]);

/// Bytes of a mark.
pub const MARK_LEN: usize = NONCE_LEN / 2;

/// One end of a session: the node, its start, and how many peers it had forgotten in this start.
pub type End<'a> = (NodeId, &'a Nonce, u32);

/// The end of a frame that proves who wrote it.
pub type Tag = [u8; TAG_LEN];

impl core::fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SiteKey(secret)")
    }
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(secret)")
    }
}

impl core::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SessionKey(secret)")
    }
}

impl SessionKey {
    /// The key to make tags with: filled up with zeros.
    pub fn key(&self) -> Key {
        let mut key = [0; KEY_LEN];
        key.iter_mut().zip(self.0).for_each(|(place, byte)| *place = byte);
        Key(key)
    }
}

impl SiteKey {
    /// The secret bytes; must be random.
    pub const fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The key that two nodes share. The same from both ends.
    pub fn between(&self, a: NodeId, b: NodeId) -> Key {
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        Key(derive(&self.0, &[b"bulkhead pair 1", &low.0.to_le_bytes(), &high.0.to_le_bytes()]))
    }
}

impl Nonce {
    /// What the start of this nonce is known by.
    pub const fn mark(&self) -> Mark {
        let [mark @ .., _, _, _, _, _, _, _, _] = self.0;
        Mark(mark)
    }
}

impl Key {
    /// The key for the frames of one session, the same from both ends. Each frame names its sender and its
    /// receiver under its tag, so that none comes back to its sender as the other end's.
    pub fn session(&self, one: End<'_>, other: End<'_>) -> SessionKey {
        let (low, high) = if one.0 < other.0 { (one, other) } else { (other, one) };
        let [low_node, high_node] = [low, high].map(|end| end.0.0.to_le_bytes());
        let [low_count, high_count] = [low, high].map(|end| end.2.to_le_bytes());
        let parts: [&[u8]; 7] =
            [b"bulkhead session 1", &low_node, &low.1.0, &low_count, &high_node, &high.1.0, &high_count];
        let [short @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = derive(&self.0, &parts);
        SessionKey(short)
    }

    /// A value nobody without this key can foretell; `count` is never repeated with one nonce.
    pub fn challenge(&self, of: NodeId, mine: &Nonce, count: u64) -> Nonce {
        let long =
            derive(&self.0, &[b"bulkhead challenge 1", &of.0.to_le_bytes(), &mine.0, &count.to_le_bytes()]);
        let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = long;
        Nonce(head)
    }

    /// The tag of `bytes`.
    pub fn tag(&self, bytes: &[u8]) -> Tag {
        let mut mac = keyed::<Blake2sMac<U16>>(&self.0);
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    /// Whether `tag` is the tag of `bytes`. Takes the same time wherever they differ.
    pub fn is_tag(&self, bytes: &[u8], tag: &Tag) -> bool {
        let mut mac = keyed::<Blake2sMac<U16>>(&self.0);
        mac.update(bytes);
        mac.verify_slice(tag).is_ok()
    }
}

fn keyed<M: KeyInit>(key: &[u8; KEY_LEN]) -> M {
    let Ok(mac) = M::new_from_slice(key) else { unreachable!("BLAKE2s takes keys of 32 bytes") };
    mac
}

fn derive(key: &[u8; KEY_LEN], parts: &[&[u8]]) -> [u8; KEY_LEN] {
    let mut mac = keyed::<Blake2sMac<U32>>(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: SiteKey = SiteKey::new([7; KEY_LEN]);

    #[test]
    fn both_ends_have_one_key_and_each_session_its_own() {
        let (a, b) = (NodeId(1), NodeId(2));
        let (x, y) = (Nonce([1; 16]), Nonce([2; 16]));
        let tag = |key: &Key| key.tag(b"frame");
        assert_eq!(tag(&SITE.between(a, b)), tag(&SITE.between(b, a)));
        assert_ne!(tag(&SITE.between(a, b)), tag(&SITE.between(a, NodeId(3))));
        let pair = SITE.between(a, b);
        let there = pair.session((a, &x, 0), (b, &y, 0)).key();
        assert_eq!(tag(&there), tag(&pair.session((b, &y, 0), (a, &x, 0)).key()));
        let others = [
            pair.session((a, &y, 0), (b, &x, 0)).key(),
            pair.session((a, &y, 0), (b, &y, 0)).key(),
            pair.session((a, &x, 0), (b, &x, 0)).key(),
            pair.session((a, &x, 1), (b, &y, 0)).key(),
            pair.session((a, &x, 0), (b, &y, 1)).key(),
            pair.clone(),
        ];
        assert!(others.iter().all(|other| tag(&there) != tag(other)));
    }

    /// In the field: keyed BLAKE2s as anybody computes it, here Python's hashlib. The key is
    /// `blake2s(b"bulkhead pair 1\x01\0\x02\0", key=b"\x07" * 32).digest()`, and the tag
    /// `blake2s(b"", key=key, digest_size=16).digest()`.
    #[test]
    fn version_1_never_changes() {
        let key = SITE.between(NodeId(2), NodeId(1));
        assert_eq!(key.tag(b""), GOLDEN);
        assert!(key.is_tag(b"", &GOLDEN));
        assert!(!key.is_tag(b"x", &GOLDEN));
    }

    const GOLDEN: Tag =
        [0xd0, 0x4b, 0x81, 0x5d, 0x2b, 0xf6, 0x88, 0x3d, 0xd0, 0x4e, 0x58, 0x46, 0x5c, 0xb0, 0xed, 0x80];

    #[test]
    fn a_secret_does_not_print_itself() {
        assert_eq!(
            std::format!("{SITE:?} {:?}", SITE.between(NodeId(1), NodeId(2))),
            "SiteKey(secret) Key(secret)"
        );
    }
}
