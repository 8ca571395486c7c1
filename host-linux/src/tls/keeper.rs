//! The certificate of this node, read again when its files are replaced: certificates end, connections and
//! agents go on.

use super::files::{Credentials, Files};
use crate::failure::Failure;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the files, and the time the certificate ends, are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What tells one state of a file from another: its number, its length, and when it was changed.
type Stamp = (u64, u64, i64, i64);

/// Keeps credentials.
#[derive(Debug)]
pub struct Keeper {
    files: Files,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    credentials: Credentials,
    /// Of the files as they were looked at last, in order.
    stamps: [Option<Stamp>; 3],
    looked: Instant,
    lack: Option<Failure>,
}

impl Keeper {
    /// Keeps what is in these files.
    ///
    /// # Errors
    ///
    /// They cannot be used. That a certificate is too old is no error here: [`Self::look`] tells it.
    pub fn open(files: Files) -> Result<Self, Failure> {
        let stamps = stamps(&files);
        let credentials = files.read()?;
        let lack = doubt(&files, &credentials);
        Ok(Self { files, kept: Mutex::new(Kept { credentials, stamps, looked: Instant::now(), lack }) })
    }

    /// What new connections use.
    #[must_use]
    pub fn current(&self) -> Credentials {
        self.lock().credentials.clone()
    }

    /// Looks at the files again if it is time. What is wrong with them, if something is: then new connections
    /// go on using what there was. It may wait for a disk; [`Self::current`] does not.
    #[must_use]
    pub fn look(&self) -> Option<Failure> {
        let (credentials, before, lack) = {
            let mut kept = self.lock();
            if kept.looked.elapsed() < LOOK {
                return kept.lack.clone();
            }
            kept.looked = Instant::now();
            (kept.credentials.clone(), kept.stamps, kept.lack.clone())
        };
        let stamps = stamps(&self.files);
        // A set that was half written when it was looked at is looked at again as long as it is wrong.
        let read = match stamps == before && lack.is_none() {
            true => Ok(credentials),
            false => self.files.read(),
        };
        let lack = match &read {
            Ok(credentials) => doubt(&self.files, credentials),
            Err(failure) => Some(failure.clone().left("The certificate of before is used.")),
        };
        let mut kept = self.lock();
        kept.credentials = read.unwrap_or_else(|_| kept.credentials.clone());
        (kept.stamps, kept.lack) = (stamps, lack.clone());
        lack
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn doubt(files: &Files, credentials: &Credentials) -> Option<Failure> {
    let why = credentials.doubt()?;
    let what = format!("nobody believes the certificate {}: {why}", files.certificate.display());
    let next = "write one that an authority of the site has signed for this node, and its key.";
    Some(Failure::failed(what).left("Others refuse new connections with it.").next(next))
}

fn stamps(files: &Files) -> [Option<Stamp>; 3] {
    let stamp = |path: &Path| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
    };
    [&files.certificate, &files.key, &files.authorities].map(|path| stamp(path))
}
