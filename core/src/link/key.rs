//! Keys: one for the site, one for each two nodes, one for each session of theirs (V22, F32, F39).

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::id::NodeId;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes of a tag: HMAC-SHA-256 (RFC 2104) cut to 128 bits, as RFC 4868 does.
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
    /// The key to make tags with. HMAC fills a short key up with zeros by itself (RFC 2104).
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
        let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = derive(&self.0, &[bytes]);
        head
    }

    /// Whether `tag` is the tag of `bytes`. Takes the same time wherever they differ.
    pub fn is_tag(&self, bytes: &[u8], tag: &Tag) -> bool {
        mac(&self.0, &[bytes]).verify_truncated_left(tag).is_ok()
    }
}

fn mac(key: &[u8; KEY_LEN], parts: &[&[u8]]) -> Hmac<Sha256> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable!("HMAC takes keys of any length")
    };
    for part in parts {
        mac.update(part);
    }
    mac
}

fn derive(key: &[u8; KEY_LEN], parts: &[&[u8]]) -> [u8; KEY_LEN] {
    mac(key, parts).finalize().into_bytes().into()
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

    /// In the field: HMAC-SHA-256 as anybody computes it, cut to its first 16 bytes. RFC 4231, test case 2
    /// has another key length; this value was computed with Python's hmac module.
    #[test]
    fn version_1_never_changes() {
        let key = SITE.between(NodeId(2), NodeId(1));
        assert_eq!(key.tag(b""), GOLDEN);
        assert!(key.is_tag(b"", &GOLDEN));
        assert!(!key.is_tag(b"x", &GOLDEN));
    }

    const GOLDEN: Tag =
        [0x00, 0x40, 0x61, 0x54, 0x73, 0xe0, 0x18, 0xd6, 0xa6, 0x1a, 0xc1, 0xdf, 0x0a, 0xce, 0x88, 0xae];

    #[test]
    fn a_secret_does_not_print_itself() {
        assert_eq!(
            std::format!("{SITE:?} {:?}", SITE.between(NodeId(1), NodeId(2))),
            "SiteKey(secret) Key(secret)"
        );
    }
}
