//! What the directory of a backing store says beside its volumes: that it is being filled, where the search
//! for damage goes on, how much room there is (S4-14, V14).

use super::store::Store;
use bulkhead_core::log::batch::Volume;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Is there while a primary fills this store: between its first block and its last one, the store has parts
/// of two times.
const FILLING: &str = "filling";

/// Says where the search for damage goes on.
const SCRUB: &str = "scrub";

/// Bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// That the store takes.
    pub used: u64,
    /// That nobody takes.
    pub free: u64,
}

impl Store {
    /// What [`Self::remember`] was told last.
    pub fn recall(&self) -> Option<String> {
        std::fs::read_to_string(self.directory().join(SCRUB)).ok()
    }

    /// Keeps a note over a start. It is lost without harm, and kept only in a store that
    /// this holder has.
    pub fn remember(&self, note: &str) {
        if !self.is_ours() {
            return;
        }
        let (new, path) = (self.directory().join("scrub.new"), self.directory().join(SCRUB));
        let _ = std::fs::write(&new, note).and_then(|()| std::fs::rename(&new, &path));
    }

    /// Says durably that what is in it now is of two times, until [`Self::end_fill`].
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn begin_fill(&self) -> Result<(), io::Error> {
        if self.is_part_filled() {
            return Ok(());
        }
        File::create(self.directory().join(FILLING))?;
        File::open(self.directory())?.sync_all()
    }

    /// What is in it is of one time again.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn end_fill(&self) -> Result<(), io::Error> {
        self.remove_durably(&self.directory().join(FILLING))
    }

    /// Whether a fill was begun and has not ended: only another one, or the log of a primary that still has
    /// all since then, makes it whole.
    pub fn is_part_filled(&self) -> bool {
        self.directory().join(FILLING).exists()
    }

    /// What its directory takes and can still take.
    ///
    /// # Errors
    ///
    /// The file system cannot tell.
    pub fn room(&self) -> Result<Room, io::Error> {
        let mut used = 0_u64;
        for file in std::fs::read_dir(self.directory())? {
            used = used.saturating_add(file?.metadata()?.blocks().saturating_mul(512));
        }
        let system = rustix::fs::statvfs(self.directory())?;
        Ok(Room { used, free: system.f_bavail.saturating_mul(system.f_frsize) })
    }

    /// The volumes that it has content of.
    pub fn volumes(&self) -> Vec<Volume> {
        let files = std::fs::read_dir(self.directory()).into_iter().flatten().flatten();
        let number = |name: std::ffi::OsString| name.to_str()?.strip_prefix("volume-")?.parse().ok();
        files.filter_map(|file| number(file.file_name())).map(Volume).collect()
    }

    pub(super) fn remove_durably(&self, path: &Path) -> Result<(), io::Error> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => File::open(self.directory())?.sync_all(),
        }
    }
}
