//! A guest runs once on a node: its process locks its description, and the kernel lets go of that when the
//! process ends, however it does.

use crate::failure::Failure;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Somebody may just be looking ([`is_in_use`]), for a moment.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS: usize = 10;

/// Nobody else runs this description as long as this lives.
#[derive(Debug)]
pub struct InUse(#[expect(dead_code, reason = "the lock ends with the file")] File);

impl InUse {
    /// Locks the description at `path`.
    ///
    /// # Errors
    ///
    /// It is locked: the guest runs.
    pub fn lock(path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::io("lock", path, &error);
        let file = File::open(path).map_err(failed)?;
        let lock = || flock(&file, FlockOperation::NonBlockingLockExclusive);
        let mut locked = lock();
        for _ in 0..LOOKS {
            if locked == Err(Errno::WOULDBLOCK) {
                std::thread::sleep(LOOK);
                locked = lock();
            }
        }
        match locked {
            Ok(()) => Ok(Self(file)),
            Err(Errno::WOULDBLOCK) => {
                let what = format!("the guest of {} runs already", path.display());
                Err(Failure::refused(what).left("").next("end it first."))
            }
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

/// Whether the guest of this description runs on this node.
#[must_use]
pub fn is_in_use(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    // Shared: two who look do not take each other for the guest.
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_runs_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!is_in_use(file.path()));
        let lock = InUse::lock(file.path()).unwrap();
        assert!(is_in_use(file.path()));
        assert!(InUse::lock(file.path()).unwrap_err().what.contains("runs already"));
        drop(lock);
        assert!(!is_in_use(file.path()));
        assert!(InUse::lock(file.path()).is_ok());
    }

    /// Who only looks keeps no guest from its start.
    #[test]
    fn who_looks_is_not_in_the_way() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let looks = File::open(file.path()).unwrap();
        flock(&looks, FlockOperation::NonBlockingLockShared).unwrap();
        let starts = std::thread::scope(|scope| {
            let starts = scope.spawn(|| InUse::lock(file.path()));
            std::thread::sleep(LOOK);
            drop(looks);
            starts.join().unwrap()
        });
        assert!(starts.is_ok());
    }
}
