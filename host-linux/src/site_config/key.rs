//! The site key: 32 bytes that every node of the site has and nobody else. One line of 64 hex digits in a
//! file that only its owner can read (V22, V40).

use crate::failure::Failure;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// More than a key file ever has: 64 digits and a line end.
const FILE_MAX: u64 = 128;

/// The key. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SiteKey(pub [u8; KEY_LEN]);

impl SiteKey {
    /// The line of a key file.
    pub fn text(&self) -> String {
        let mut text: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push('\n');
        text
    }
}

impl std::fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SiteKey(..)")
    }
}

/// Reads the key file. It must belong to this user or to root, and nobody else may read it.
///
/// # Errors
///
/// It is not there, open to others, or no key.
pub fn read(path: &Path) -> Result<SiteKey, Failure> {
    let file = std::fs::File::open(path).map_err(|error| {
        let failure = Failure::io("read the site key from", path, &error);
        failure
            .next("copy it from another node, or draw the site's first with `bulkhead config keygen FILE`.")
    })?;
    let found = file.metadata().map_err(|error| Failure::io("read", path, &error))?;
    if found.mode() & 0o077 != 0 {
        let what =
            format!("others can read the site key {} (mode {:o})", path.display(), found.mode() & 0o7777);
        let next = format!(
            "`chmod 600 {0}`; if anyone may have read it, draw a new key for the site.",
            path.display()
        );
        return Err(Failure::refused(what).next(next));
    }
    let owner = found.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        let what = format!("the site key {} belongs to user {owner}", path.display());
        return Err(Failure::refused(what).next(format!("`chown root {}`.", path.display())));
    }
    let mut text = String::new();
    let read = file.take(FILE_MAX).read_to_string(&mut text);
    let key = read.ok().and_then(|_| parse(text.trim()));
    key.ok_or_else(|| {
        let what = format!("{} holds no site key: 64 hex digits, not all zero", path.display());
        Failure::failed(what).next("copy the file from another node of the site.")
    })
}

fn parse(text: &str) -> Option<SiteKey> {
    let mut key = [0; KEY_LEN];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != KEY_LEN || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from((high? << 4) | low?).ok()?;
    }
    (key != [0; KEY_LEN]).then_some(SiteKey(key))
}

/// Draws a key and writes it to a new file, durably.
///
/// # Errors
///
/// There is a file already: a key is never overwritten, the site would fall apart.
pub fn generate(path: &Path) -> Result<SiteKey, Failure> {
    let mut key = [0; KEY_LEN];
    getrandom::fill(&mut key)
        .map_err(|error| Failure::failed(format!("the system has no random numbers: {error}")))?;
    let key = SiteKey(key);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(|error| {
        let next = "use the key that is there, or name another file: a key is never overwritten.";
        Failure::io("create", path, &error).next(next)
    })?;
    let written = file.write_all(key.text().as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| Failure::io("write", path, &error).left("The file is incomplete: delete it."))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_read_as_it_was_drawn_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("site.key");
        let drawn = generate(&path).unwrap();
        assert_eq!(read(&path).unwrap(), drawn);
        assert_eq!(format!("{drawn:?}"), "SiteKey(..)");
        assert!(generate(&path).unwrap_err().what.contains("File exists"));
        assert_eq!(read(&path).unwrap(), drawn);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(&path).unwrap_err().what.contains("others can read"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("site.key");
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let zeros = "0".repeat(64);
        for text in ["", "12", &zeros, &"g".repeat(64), &"1".repeat(65), &"1".repeat(5000)] {
            write(text);
            assert!(read(&path).is_err(), "{text}");
        }
        write(&format!("{}\n", "1f".repeat(32)));
        assert_eq!(read(&path).unwrap().0, [0x1f; 32]);
    }
}
