//! Which snapshot a file is, and which one it builds on: what was written since that is all of memory that it
//! has (S3-06; docs/formats.md).
//!
//! The content of the record:
//!
//! | at | len | value |
//! |---:|----:|-------|
//! | 0 | 16 | its id: drawn by chance |
//! | 16 | 16 | the id of its base; here and below nothing, if it has all of memory |
//! | 32 | 32 | the base's digest, as stands in its end |
//! | 64 | 1 to 255 | the name of the base's file beside it, in UTF-8: no path |

use super::format::Unreadable;
use std::path::Path;

const ID: usize = 16;
const NAME_MAX: usize = 255;
/// The longest content of the record.
pub const LENGTH_MAX: usize = 2 * ID + blake3::OUT_LEN + NAME_MAX;

/// What a snapshot is called among all that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub(super) [u8; ID]);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What all bytes of a snapshot come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub [u8; blake3::OUT_LEN]);

/// The snapshot that another one builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Which it is.
    pub id: Id,
    /// What its bytes come to.
    pub digest: Digest,
    /// What its file was called: a name, no path.
    pub name: String,
}

/// Which snapshot this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Which it is.
    pub id: Id,
    /// What it builds on; `None`: it has all of memory.
    pub base: Option<Base>,
}

/// Whether this is the name of a file, and no path.
fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && !name.contains(['/', '\0']) && name != "." && name != ".."
}

/// The name of the file at `path`. `None`: it has none that could stand in a snapshot.
#[must_use]
pub fn name_of(path: &Path) -> Option<String> {
    path.file_name()?.to_str().filter(|name| is_name(name)).map(str::to_owned)
}

impl Lineage {
    /// That of a new snapshot.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn draw(base: Option<Base>) -> std::io::Result<Self> {
        let mut id = [0; ID];
        getrandom::fill(&mut id).map_err(std::io::Error::other)?;
        Ok(Self { id: Id(id), base })
    }

    /// The content of its record.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.id.0.to_vec();
        if let Some(Base { id, digest, name }) = &self.base {
            bytes.extend(id.0);
            bytes.extend(digest.0);
            bytes.extend(name.as_bytes());
        }
        bytes
    }

    /// What a record says.
    ///
    /// # Errors
    ///
    /// Nothing that this program writes.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let nonsense = || Unreadable::Nonsense("what it says of itself is nothing that a snapshot is".into());
        let (id, rest) = bytes.split_first_chunk().ok_or_else(nonsense)?;
        if rest.is_empty() {
            return Ok(Self { id: Id(*id), base: None });
        }
        let (of_base, rest) = rest.split_first_chunk().ok_or_else(nonsense)?;
        let (digest, name) = rest.split_first_chunk().ok_or_else(nonsense)?;
        let name = str::from_utf8(name).ok().filter(|name| is_name(name)).ok_or_else(nonsense)?;
        let base = Base { id: Id(*of_base), digest: Digest(*digest), name: name.into() };
        Ok(Self { id: Id(*id), base: Some(base) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn small() -> Lineage {
        let base = Base { id: Id([2; ID]), digest: Digest([3; 32]), name: "old".into() };
        Lineage { id: Id([0x1f; ID]), base: Some(base) }
    }

    /// These bytes are in the field. If this test fails, add a version; do not edit them.
    #[test]
    fn version_2_never_changes() {
        let golden = [&[0x1f; 16][..], &[2; 16], &[3; 32], b"old"].concat();
        assert_eq!(small().bytes(), golden);
        assert_eq!(Lineage::read(&golden).unwrap(), small());
        let full = Lineage { base: None, ..small() };
        assert_eq!((full.bytes(), Lineage::read(&golden[..16]).unwrap()), (golden[..16].to_vec(), full));
        assert_eq!(small().id.to_string(), "1f".repeat(16));
        assert_ne!(Lineage::draw(None).unwrap(), Lineage::draw(None).unwrap());
    }

    /// I11: what leads elsewhere is no name, and what is too short is nothing.
    #[test]
    fn a_name_is_no_path() {
        let long = "x".repeat(NAME_MAX);
        let read = |name: &str| Lineage::read(&[&small().bytes()[..64], name.as_bytes()].concat());
        for name in ["a", "..a", "web 1.snapshot", &long] {
            assert_eq!(read(name).unwrap().base.unwrap().name, name);
            assert_eq!(name_of(&Path::new("/srv").join(name)).unwrap(), name);
        }
        for name in ["", ".", "..", "a/b", "/etc/passwd", "a\0b", &format!("{long}x")] {
            assert!(read(name).is_err(), "{name}");
        }
        assert!(Lineage::read(&[&small().bytes()[..64], &[0xff]].concat()).is_err());
        for length in (0..16).chain(17..65) {
            assert!(Lineage::read(&small().bytes()[..length]).is_err(), "{length}");
        }
        assert_eq!((name_of(Path::new("/")), name_of(Path::new("/srv/.."))), (None, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// I11: any bytes are a lineage, the same that is written again, or none.
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(lineage) = Lineage::read(&bytes) {
                prop_assert_eq!(lineage.bytes(), bytes);
            }
        }
    }
}
