//! A small file in place of another: the old one or the new one is there, and whole, whenever the power goes
//! (V1).

use crate::failure::Failure;
use serde::Serialize;
use std::ffi::OsString;
use std::fs::{File, rename};
use std::io::{ErrorKind, Result, Write as _};
use std::path::{Path, PathBuf};

/// Writes these bytes to `path`, in place of what is there; then they are on disk. What lies beside it under
/// the same name with `.new` behind it is lost.
///
/// # Errors
///
/// The disk does not take it: what was there is there still, or, if the directory's flush alone failed,
/// either is.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = beside(path);
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(&new, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// As [`replace`], with this value as JSON.
///
/// # Errors
///
/// As there, in the operator's words.
pub fn replace_json(path: &Path, value: &impl Serialize) -> std::result::Result<(), Failure> {
    let put = || replace(path, &serde_json::to_vec(value)?);
    put().map_err(|error| Failure::io("write", path, &error))
}

/// The text of such a file; `None`: there is none.
///
/// # Errors
///
/// It cannot be read.
pub fn text(path: &Path) -> std::result::Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        text => text.map(Some).map_err(|error| Failure::io("read", path, &error)),
    }
}

/// What it is called until it is whole.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_one_is_there_until_the_new_one_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it");
        for content in [&b"first"[..], b"", b"another, longer one"] {
            // What an attempt left that was cut off.
            std::fs::write(beside(&path), b"half of it, and much longer than that").unwrap();
            replace(&path, content).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), content);
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        }
        // It cannot be written: nothing has changed.
        std::fs::create_dir(beside(&path)).unwrap();
        assert!(replace(&path, b"new").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"another, longer one");
        assert!(replace(&directory.path().join("none/it"), b"new").is_err());
    }
}
