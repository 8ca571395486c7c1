//! The handshake of one stream (V22, V41, F30, F39).
//!
//! ```text
//! lower id                                 higher id
//! hello(nonce)                       ->
//!                                    <-    welcome(nonce)          or refused(why), and the end
//! begun, sealed                      ->                            by keys of both nonces and the site key
//!                                    <-    begun, sealed           here the old stream, if any, is over
//! ```
//!
//! Each end has proved to the other that it knows the key, and lives now: a recorded hello meets a new nonce.
//! So it is where frames go in the clear (version 1). Where they are encrypted (version 2) TLS follows when
//! both have proved the key, and the stream begins inside it ([`super::veil`]):
//!
//! ```text
//! hello(nonce)                       ->
//!                                    <-    welcome(nonce)          or refused(why), and the end
//! begun, sealed                      ->                            by keys of both nonces and the site key
//!                                    <-    begun, sealed           by the same: this end knows the key, too
//! TLS 1.3, as its client            <-->   certificates of both    each for the node's address in `nbd`
//! begun, sealed                      ->                            by keys of all that and this TLS session
//!                                    <-    begun, sealed           here the old stream, if any, is over
//! ```
//!
//! Who changes a hello or a welcome, as to have both speak in the clear, changes the keys of one end.
//!
//! One message, 64 bytes, little-endian:
//!
//! | at | len | field    | unit, values                                                              |
//! |---:|----:|----------|---------------------------------------------------------------------------|
//! |  0 |   6 | magic    | "BHREPL"                                                                  |
//! |  6 |   1 | kind     | 1 hello, 2 welcome, 3 refused                                             |
//! |  7 |   1 | why      | refused: 1 version, 2 site, 3 group, 4 stranger, 5 key; else 0            |
//! |  8 |   1 | low      | lowest version of the frames that the sender speaks; welcome: the one:    |
//! |    |     |          | 1 in the clear, 2 the same in TLS                                         |
//! |  9 |   1 | high     | the highest; welcome: the same one                                        |
//! | 10 |   2 | from     | node                                                                      |
//! | 12 |   2 | to       | node                                                                      |
//! | 14 |   2 | reserved | zero                                                                      |
//! | 16 |  16 | site     |                                                                           |
//! | 32 |  16 | group    | the mirror group                                                          |
//! | 48 |  16 | nonce    | random, of this stream                                                    |
//!
//! The layout stays for ever: by it two releases learn what both speak. A refusal proves nothing, and is only
//! shown to people.

use bulkhead_core::bytes::{Reader, Writer};
use bulkhead_core::id::{GroupId, NodeId, SiteId};

/// Bytes of a message.
pub const HELLO_LEN: usize = 64;
/// Bytes of a nonce.
pub const NONCE_LEN: usize = 16;

const MAGIC: [u8; 6] = *b"BHREPL";
/// Frames in the clear.
const CLEAR: u8 = 1;
/// The same frames in TLS.
const ENCRYPTED: u8 = 2;

/// What of the versions a holder speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// It cannot encrypt.
    Clear,
    /// It encrypts with whom can.
    Either,
    /// It encrypts.
    Encrypted,
}

impl Speaks {
    /// The lowest and the highest.
    const fn versions(self) -> (u8, u8) {
        match self {
            Self::Clear => (CLEAR, CLEAR),
            Self::Either => (CLEAR, ENCRYPTED),
            Self::Encrypted => (ENCRYPTED, ENCRYPTED),
        }
    }
}

/// Why two ends without a common version have none.
const fn apart(mine: (u8, u8), theirs: (u8, u8)) -> Refusal {
    match (mine, theirs) {
        ((ENCRYPTED, _), (_, CLEAR)) => Refusal::Clear,
        ((_, CLEAR), (ENCRYPTED, _)) => Refusal::Encrypted,
        ((_, _), (_, _)) => Refusal::Version,
    }
}

/// Why a connection does not become a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// No version is spoken by both (V41).
    Version,
    /// The other end does not encrypt, and this one does nothing else. It is told as [`Self::Version`].
    Clear,
    /// The other way round. It is told as [`Self::Version`].
    Encrypted,
    /// There was no encryption, though both wanted it: one does not believe the other's certificate.
    Tls,
    /// Another site (F54).
    Site,
    /// Another mirror group.
    Group,
    /// The sender is no peer here, or means somebody else.
    Stranger,
    /// The proof does not fit: another site key, or a recording.
    Key,
    /// What was sent is no handshake.
    Nonsense,
    /// It took too long, or ended before.
    Unfinished,
    /// It had to make room for others.
    Crowded,
}

impl Refusal {
    /// All that is told to the other end, by its number.
    const TOLD: [(u8, Self); 5] =
        [(1, Self::Version), (2, Self::Site), (3, Self::Group), (4, Self::Stranger), (5, Self::Key)];

    fn number(self) -> Option<u8> {
        let told = if matches!(self, Self::Clear | Self::Encrypted) { Self::Version } else { self };
        Self::TOLD.into_iter().find(|(_, one)| *one == told).map(|(number, _)| number)
    }

    /// Whether it stays until somebody changes something at one end.
    #[must_use]
    pub const fn is_lasting(self) -> bool {
        match self {
            Self::Version | Self::Clear | Self::Encrypted | Self::Tls => true,
            Self::Site | Self::Group | Self::Stranger | Self::Key => true,
            Self::Nonsense | Self::Unfinished | Self::Crowded => false,
        }
    }

    /// In the operator's words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Version => "no version is spoken by both: update the older one",
            Self::Clear => {
                "it does not encrypt its streams, and this node does nothing else: write \
                 `[local.storage.tls]` in its file, or `streams = \"allow\"` in this node's until then"
            }
            Self::Encrypted => {
                "it wants its streams encrypted, and this node does not encrypt: write \
                 `[local.storage.tls]` in this node's file, or `streams = \"allow\"` in its until then"
            }
            Self::Tls => {
                "nothing was encrypted: each node needs a certificate that an authority of the other has \
                 signed for the address in its `nbd` (docs/nbd.md, \"Encryption\")"
            }
            Self::Site => "it belongs to another site",
            Self::Group => "it belongs to another mirror group",
            Self::Stranger => "one of the two is not in the other's configuration",
            Self::Key => "its site key is another one, or somebody sent a recording",
            Self::Nonsense => "what was sent is no handshake",
            Self::Unfinished => "the handshake did not come to its end",
            Self::Crowded => "too many connections were open that had proved nothing",
        }
    }
}

/// A refusal, and what else is known of its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub why: Refusal,
    /// In the words of whoever noticed it.
    pub cause: Option<String>,
}

impl Refused {
    /// In the operator's words.
    #[must_use]
    pub fn text(&self) -> String {
        let text = self.why.text();
        self.cause.as_ref().map_or_else(|| text.to_owned(), |cause| format!("{cause}; {text}"))
    }
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        Self { why, cause: None }
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first one.
    Hello,
    /// The answer.
    Welcome,
    /// The other answer.
    Refused(Refusal),
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What it is.
    pub kind: Kind,
    /// Lowest and highest version.
    pub versions: (u8, u8),
    /// The sender.
    pub from: NodeId,
    /// Whom it means.
    pub to: NodeId,
    /// Its site.
    pub site: SiteId,
    /// Its group.
    pub group: GroupId,
    /// Of this stream.
    pub nonce: [u8; NONCE_LEN],
}

impl Hello {
    /// The first message of a stream in the clear.
    #[must_use]
    pub const fn new(site: SiteId, group: GroupId, from: NodeId, to: NodeId, nonce: [u8; NONCE_LEN]) -> Self {
        Self { kind: Kind::Hello, versions: Speaks::Clear.versions(), from, to, site, group, nonce }
    }

    /// The same of who speaks so.
    #[must_use]
    pub const fn speaking(self, speaks: Speaks) -> Self {
        Self { versions: speaks.versions(), ..self }
    }

    /// Whether what follows this welcome is encrypted.
    #[must_use]
    pub const fn encrypts(&self) -> bool {
        self.versions.0 == ENCRYPTED
    }

    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO_LEN] {
        let mut out = Writer::<HELLO_LEN>::default();
        out.put(&MAGIC);
        let (kind, why) = match self.kind {
            Kind::Hello => (1, 0),
            Kind::Welcome => (2, 0),
            Kind::Refused(why) => (3, why.number().unwrap_or(0)),
        };
        [kind, why, self.versions.0, self.versions.1].iter().for_each(|field| out.u8(*field));
        out.u16(self.from.0);
        out.u16(self.to.0);
        out.reserved(2);
        out.put(&self.site.0);
        out.put(&self.group.0);
        out.put(&self.nonce);
        out.finish()
    }

    /// Reads a message; `None` when it is none.
    #[must_use]
    pub fn parse(bytes: &[u8; HELLO_LEN]) -> Option<Self> {
        let mut fields = Reader::new(bytes);
        (fields.array()? == MAGIC).then_some(())?;
        let kind = match (fields.u8()?, fields.u8()?) {
            (1, 0) => Kind::Hello,
            (2, 0) => Kind::Welcome,
            (3, why) => Kind::Refused(Refusal::TOLD.into_iter().find(|(number, _)| *number == why)?.1),
            _ => return None,
        };
        let versions = (fields.u8()?, fields.u8()?);
        let (from, to) = (NodeId(fields.u16()?), NodeId(fields.u16()?));
        let is_zero = fields.reserved::<2>()?;
        let (site, group) = (SiteId(fields.array()?), GroupId(fields.array()?));
        let nonce = fields.array()?;
        let is_sound = is_zero && versions.0 <= versions.1;
        is_sound.then_some(Self { kind, versions, from, to, site, group, nonce })
    }

    /// What the listening end `me` answers; the answer is a refusal when its kind is. Who can encrypt does.
    #[must_use]
    pub fn answer(
        &self,
        site: SiteId,
        group: GroupId,
        (me, speaks): (NodeId, Speaks),
        knows: impl FnOnce(NodeId) -> bool,
        nonce: [u8; NONCE_LEN],
    ) -> Self {
        let spoken = speaks.versions();
        let (low, high) = (self.versions.0.max(spoken.0), self.versions.1.min(spoken.1));
        let rules = [
            (high < low, apart(spoken, self.versions)),
            (self.site != site, Refusal::Site),
            (self.group != group, Refusal::Group),
            (self.to != me || me <= self.from || !knows(self.from), Refusal::Stranger),
        ];
        let (kind, versions) = match rules.into_iter().find(|(broken, _)| *broken) {
            Some((_, why)) => (Kind::Refused(why), spoken),
            None => (Kind::Welcome, (high, high)),
        };
        Self { kind, versions, from: me, to: self.from, site, group, nonce }
    }

    /// Whether the dialling end, which sent this hello, may go on after `answer`.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub fn may_go_on(&self, answer: &Self) -> Result<(), Refusal> {
        let version = answer.versions.0;
        let is_spoken =
            (self.versions.0..=self.versions.1).contains(&version) && version == answer.versions.1;
        let rules = [
            (matches!(answer.kind, Kind::Hello), Refusal::Nonsense),
            (!is_spoken, Refusal::Version),
            (self.site != answer.site, Refusal::Site),
            (self.group != answer.group, Refusal::Group),
            (self.to != answer.from || self.from != answer.to, Refusal::Stranger),
        ];
        match (answer.kind, rules.into_iter().find(|(broken, _)| *broken)) {
            (Kind::Refused(Refusal::Version), _) => Err(apart(self.versions, answer.versions)),
            (Kind::Refused(why), _) | (Kind::Hello | Kind::Welcome, Some((_, why))) => Err(why),
            (Kind::Hello | Kind::Welcome, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: SiteId = SiteId([5; 16]);
    const GROUP: GroupId = GroupId([6; 16]);

    fn hello() -> Hello {
        Hello::new(SITE, GROUP, NodeId(1), NodeId(0x0302), [7; NONCE_LEN])
    }

    fn answer(hello: &Hello) -> Hello {
        heard(hello, Speaks::Clear)
    }

    fn heard(hello: &Hello, speaks: Speaks) -> Hello {
        hello.answer(SITE, GROUP, (NodeId(0x0302), speaks), |node| node == NodeId(1), [8; NONCE_LEN])
    }

    /// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
    #[test]
    fn the_layout_never_changes() {
        let mut expected = [0; HELLO_LEN];
        expected[..16].copy_from_slice(b"BHREPL\x01\0\x01\x01\x01\0\x02\x03\0\0");
        expected[16..32].fill(5);
        expected[32..48].fill(6);
        expected[48..].fill(7);
        assert_eq!(hello().encode(), expected);
        assert_eq!(Hello::parse(&expected), Some(hello()));
        for (at, byte) in [(0, b'b'), (6, 0), (6, 4), (7, 1), (8, 2), (14, 1), (15, 1)] {
            let mut wrong = expected;
            wrong[at] = byte;
            assert_eq!(Hello::parse(&wrong), None, "byte {at}");
        }
        for (number, why) in Refusal::TOLD {
            let refused = Hello { kind: Kind::Refused(why), ..hello() };
            let bytes = refused.encode();
            assert_eq!((bytes[6], bytes[7]), (3, number));
            assert_eq!(Hello::parse(&bytes), Some(refused));
        }
    }

    /// F54, V41, F30: each mistake is told from the others, by both ends.
    #[test]
    fn who_does_not_belong_here_is_told_why() {
        let welcome = answer(&hello());
        assert_eq!(welcome.kind, Kind::Welcome);
        assert_eq!(hello().may_go_on(&welcome), Ok(()));
        let wrong = [
            (Hello { versions: (3, 9), ..hello() }, Refusal::Version),
            (Hello { site: SiteId([0; 16]), ..hello() }, Refusal::Site),
            (Hello { group: GroupId([0; 16]), ..hello() }, Refusal::Group),
            (Hello { from: NodeId(2), ..hello() }, Refusal::Stranger),
            (Hello { to: NodeId(2), ..hello() }, Refusal::Stranger),
        ];
        for (hello, why) in wrong {
            let refused = answer(&hello);
            assert_eq!(refused.kind, Kind::Refused(why));
            assert_eq!(hello.may_go_on(&refused), Err(why));
        }
        // The higher one never dials, not even itself.
        let me = Hello { from: NodeId(0x0302), ..hello() };
        let here = (NodeId(0x0302), Speaks::Clear);
        let refused = me.answer(SITE, GROUP, here, |_| true, [8; NONCE_LEN]);
        assert_eq!(refused.kind, Kind::Refused(Refusal::Stranger));
        let wrong = [
            (Hello { versions: (1, 2), ..welcome }, Refusal::Version),
            (Hello { versions: (2, 2), ..welcome }, Refusal::Version),
            (Hello { site: SiteId([0; 16]), ..welcome }, Refusal::Site),
            (Hello { group: GroupId([0; 16]), ..welcome }, Refusal::Group),
            (Hello { from: NodeId(3), ..welcome }, Refusal::Stranger),
            (Hello { to: NodeId(3), ..welcome }, Refusal::Stranger),
            (hello(), Refusal::Nonsense),
        ];
        for (welcome, why) in wrong {
            assert_eq!(hello().may_go_on(&welcome), Err(why));
        }
    }

    /// V41: a release that speaks more is answered in what both speak.
    #[test]
    fn a_newer_release_is_welcome_in_our_version() {
        let newer = Hello { versions: (1, 7), ..hello() };
        assert_eq!((answer(&newer).kind, answer(&newer).versions), (Kind::Welcome, (1, 1)));
    }

    /// V43, V41: two encrypt when both can; who must, and meets one that cannot, is told so at both ends, as
    /// the other is, also by what a release of before says.
    #[test]
    fn both_encrypt_or_nobody_is_fooled() {
        use Speaks::{Clear, Either, Encrypted};
        let cases = [
            (Clear, Clear, Ok(false)),
            (Clear, Either, Ok(false)),
            (Either, Clear, Ok(false)),
            (Either, Either, Ok(true)),
            (Either, Encrypted, Ok(true)),
            (Encrypted, Either, Ok(true)),
            (Encrypted, Encrypted, Ok(true)),
            (Encrypted, Clear, Err((Refusal::Clear, Refusal::Encrypted))),
            (Clear, Encrypted, Err((Refusal::Encrypted, Refusal::Clear))),
        ];
        for (dials, listens, expected) in cases {
            let hello = hello().speaking(dials);
            let answer = heard(&hello, listens);
            // As it arrives.
            let told = Hello::parse(&answer.encode()).unwrap();
            match expected {
                Ok(encrypts) => {
                    assert_eq!(hello.may_go_on(&told), Ok(()), "{dials:?}, {listens:?}");
                    assert_eq!((told, told.encrypts()), (answer, encrypts));
                }
                Err((here, there)) => {
                    assert_eq!(answer.kind, Kind::Refused(there), "{dials:?}, {listens:?}");
                    assert_eq!(told.kind, Kind::Refused(Refusal::Version));
                    assert_eq!(hello.may_go_on(&told), Err(here));
                }
            }
        }
        // A welcome in the clear, to who did not offer it.
        let clear = heard(&hello(), Clear);
        assert_eq!(hello().speaking(Encrypted).may_go_on(&clear), Err(Refusal::Version));
    }
}
