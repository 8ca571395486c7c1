//! A Unix socket for its owner only: nobody else ever connects to it, and one that nobody serves any more is
//! replaced (V43, I11).

use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Opens it at `path`. `None`: somebody serves it.
///
/// # Errors
///
/// The path cannot be used.
pub fn listen(path: &Path) -> Result<Option<UnixListener>> {
    if UnixStream::connect(path).is_ok() {
        return Ok(None);
    }
    // It gets its name when nobody else can connect to it any more.
    let partial = partial(path);
    std::fs::remove_file(&partial).or_else(unless_missing)?;
    let listener = UnixListener::bind(&partial)?;
    std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&partial, path)?;
    Ok(Some(listener))
}

/// What it is called until then. Of two sockets in one directory it is never the same.
fn partial(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".new");
    partial.into()
}

fn unless_missing(error: Error) -> Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_its_owners_and_one_that_nobody_serves_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let [path, beside] = ["x.sock", "x.other"].map(|name| directory.path().join(name));
        let _beside = listen(&beside).unwrap().unwrap();
        for _ in 0..3 {
            // What an earlier attempt left.
            std::fs::write(partial(&path), "").unwrap();
            let listener = listen(&path).unwrap().unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(listen(&path).unwrap().is_none(), "somebody serves it");
            assert!(listen(&beside).unwrap().is_none(), "another socket is none of its business");
            drop(listener);
            // Nobody serves it, and it is still there.
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        }
    }

    #[test]
    fn a_path_that_cannot_be_used_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let at = |length: usize| {
            let name = length - directory.path().as_os_str().len() - 1;
            listen(&directory.path().join("x".repeat(name)))
        };
        // What messages promise, and what a Unix socket's address has no room for.
        assert!(at(99).unwrap().is_some());
        for long in [104, 108, 200] {
            assert_eq!(at(long).unwrap_err().kind(), ErrorKind::InvalidInput, "{long}");
        }
        assert_eq!(listen(&directory.path().join("none/x.sock")).unwrap_err().kind(), ErrorKind::NotFound);
        // What an earlier attempt cannot have left is not removed.
        std::fs::create_dir(directory.path().join("y.new")).unwrap();
        assert!(listen(&directory.path().join("y")).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
