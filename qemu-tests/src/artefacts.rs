//! One directory per test run: gone after success, kept after a failure with its path printed.
//!
//! It holds consoles, the QEMU command lines as scripts that can be run again, the firmware's
//! variables and the disks. Runs that were kept are bounded: the newest [`KEPT_MAX`] per test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Kept runs of one test. They hold disk images; older ones are deleted when the test runs again.
pub const KEPT_MAX: usize = 5;
/// Directory names tried for one test before giving up.
const NAMES_MAX: u32 = 100_000;

/// The directory of one run of one test.
#[derive(Debug)]
pub struct Artefacts {
    directory: PathBuf,
    /// Held while the run lives, so that another run of the same test does not delete it as an old one.
    /// `None` once it was given up.
    claim: Option<File>,
    /// Sockets have names of at most 107 bytes, so they cannot live below a long target directory.
    sockets: TempDir,
    keep: AtomicBool,
}

impl Artefacts {
    /// A new directory for a run of `test`: `target/bulkhead/runs/<test>-<n>`.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(test: &str) -> Result<Self> {
        Self::below(&target_directory().join("bulkhead/runs"), test)
    }

    /// Runs `body` with a new directory. An error keeps the directory as a panic does, and is
    /// returned with its path; so tests may use `?`.
    ///
    /// # Errors
    /// Those of `body`, and when the directory cannot be made.
    pub fn of<T>(test: &str, body: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let artefacts = Self::new(test)?;
        let result = body(&artefacts);
        if result.is_err() {
            artefacts.keep();
        }
        result.with_context(|| {
            format!("the test {test} failed; its artefacts are in {}", artefacts.directory.display())
        })
    }

    fn below(runs: &Path, test: &str) -> Result<Self> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' };
        let test: String = test.chars().map(plain).collect();
        std::fs::create_dir_all(runs).with_context(|| format!("making {}", runs.display()))?;
        prune(runs, &test);
        for number in 1..NAMES_MAX {
            let directory = runs.join(format!("{test}-{number}"));
            match std::fs::create_dir(&directory) {
                Ok(()) => {
                    let claim = File::create(directory.join(".claim"))?;
                    claim.lock()?;
                    let sockets = tempfile::Builder::new().prefix("bh-").tempdir_in("/tmp")?;
                    let keep = AtomicBool::new(std::env::var_os("BULKHEAD_KEEP").is_some_and(|v| v == "1"));
                    return Ok(Self { directory, claim: Some(claim), sockets, keep });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("making {}", directory.display())),
            }
        }
        bail!("{} holds {NAMES_MAX} runs of {test}; delete that directory", runs.display())
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A short path for a Unix socket; sockets are never kept.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.sockets.path().join(name)
    }

    /// Keeps the directory even if the test succeeds. `BULKHEAD_KEEP=1` does that for all tests.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }
}

impl Drop for Artefacts {
    fn drop(&mut self) {
        let claim = self.claim.take();
        if std::thread::panicking() || self.keep.load(Ordering::Relaxed) {
            eprintln!("artefacts kept: {}", self.directory.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("artefacts of a passed test stay in {}: {error}", self.directory.display());
        }
        drop(claim);
    }
}

/// The workspace's target directory, where builds and runs live.
pub fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => std::path::absolute(&directory).unwrap_or_else(|_| directory.into()),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).join("target"),
    }
}

/// Deletes all but the newest kept runs of `test`. A run that is going on holds its claim and is spared.
fn prune(runs: &Path, test: &str) {
    let of_test = |name: &str| {
        name.strip_prefix(test)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let mut kept: Vec<_> = std::fs::read_dir(runs)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| of_test(&entry.file_name().to_string_lossy()))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    kept.sort();
    let surplus = (kept.len() + 1).saturating_sub(KEPT_MAX);
    for (_, directory) in kept.into_iter().take(surplus) {
        let free = match File::open(directory.join(".claim")) {
            Ok(claim) => claim.try_lock().is_ok(),
            Err(_) => false,
        };
        if free {
            // A run that another test deletes at the same time is gone as well.
            let _ = std::fs::remove_dir_all(&directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(place: &Path) -> usize {
        std::fs::read_dir(place).unwrap().count()
    }

    #[test]
    fn success_deletes_failure_keeps_and_old_failures_go() {
        let place = tempfile::tempdir().unwrap();
        drop(Artefacts::below(place.path(), "story").unwrap());
        assert_eq!(runs(place.path()), 0);
        let panicked = std::panic::catch_unwind(|| {
            let _artefacts = Artefacts::below(place.path(), "story").unwrap();
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        assert_eq!(runs(place.path()), 1);
        for _ in 0..3 * KEPT_MAX {
            Artefacts::below(place.path(), "story").unwrap().keep();
        }
        assert_eq!(runs(place.path()), KEPT_MAX);
    }
}
