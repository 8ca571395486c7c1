//! What a guest has said, in a file: bounded, the last of it always there.

use crate::failure::Failure;
use std::fs::{File, OpenOptions};
use std::io::{Result, Write};
use std::path::{Path, PathBuf};

/// Bytes of the file; then it becomes the older one, and a new one begins.
pub const BYTES_MAX: u64 = 1 << 20;

/// A log. Beside it lies the older one, with `.old` behind its name.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    /// Goes on with the log at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn open(path: &Path) -> std::result::Result<Self, Failure> {
        let open = || {
            let file = append(path)?;
            let bytes = file.metadata()?.len();
            Ok(Self { path: path.to_owned(), file, bytes })
        };
        open().map_err(|error: std::io::Error| Failure::io("open the log", path, &error))
    }
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Where the older part of the log at `path` is.
#[must_use]
pub fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

impl Log {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if BYTES_MAX <= self.bytes {
            std::fs::rename(&self.path, old(&self.path))?;
            self.file = append(&self.path)?;
            self.bytes = 0;
        }
        self.file.write_all(bytes)?;
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        // A disk that is full costs what is said now, and nothing that is said when it is not any more.
        let _ = self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V16: however much a guest says, its log has a bounded size, and its end is there.
    #[test]
    fn a_log_is_bounded_and_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web1.log");
        let line = [b'x'; 1 << 16];
        for _ in 0..3 {
            let mut log = Log::open(&path).unwrap();
            (0..40).for_each(|_| log.write_all(&line).unwrap());
            log.write_all(b"end").unwrap();
        }
        let sizes = [path.clone(), old(&path)].map(|path| std::fs::metadata(path).unwrap().len());
        assert!(sizes.iter().all(|size| *size <= BYTES_MAX + (1 << 16)), "{sizes:?}");
        assert!(std::fs::read(&path).unwrap().ends_with(b"end"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
