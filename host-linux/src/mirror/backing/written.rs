//! The map of what of a claimed device is the volume's, in a file of the store's directory (V5; F2, F8).
//!
//! The format is `bulkhead_core::volume::written`.

use super::How;
use super::file::read_at;
use crate::mirror::handle::lock;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::log::{BLOCK_LEN, Block};
use bulkhead_core::volume::record::Uuid;
use bulkhead_core::volume::written::{CHUNKS, Page};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Mutex;

const PAGE: u64 = 4096;
/// More pages no volume needs: 4 PiB of chunks of 128 KiB.
const PAGES_MAX: u64 = 1 << 21;

/// A map.
#[derive(Debug)]
pub struct Written {
    file: File,
    volume: Volume,
    uuid: Uuid,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pages: BTreeMap<u32, Box<Page>>,
    /// Pages that are others than in the file.
    changed: BTreeSet<u32>,
}

/// Pages as they were at one instant, to be made durable.
#[derive(Debug, Default)]
#[must_use = "what is not kept is forgotten at the next start"]
pub struct Changes(Vec<(u32, Box<Block>)>);

impl Written {
    /// An empty map, durably in place of whatever was there.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn create(path: &Path, volume: Volume, uuid: Uuid) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.sync_all()?;
        Ok(Self { file, volume, uuid, state: Mutex::default() })
    }

    /// The map as it was kept.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is damaged.
    pub fn open(path: &Path, volume: Volume, uuid: Uuid) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let count = file.metadata()?.len().div_ceil(2 * PAGE);
        if PAGES_MAX < count {
            return Err(Error::new(ErrorKind::InvalidData, format!("{} is too long", path.display())));
        }
        let mut state = State::default();
        for number in 0..u32::try_from(count).unwrap_or(u32::MAX) {
            let [mut one, mut other] = [[0; BLOCK_LEN]; 2];
            read_at(&file, place(number, 0), &mut one, How::Waiting)?;
            read_at(&file, place(number, 1), &mut other, How::Waiting)?;
            let page = Page::of_copies(volume, uuid, number, [&one, &other]).map_err(|fault| {
                let what = format!("page {number} of {}: {fault}", path.display());
                Error::new(ErrorKind::InvalidData, what)
            })?;
            if let Some(page) = page {
                // Both copies are the same again before either of them changes.
                if page.encode() != one || one != other {
                    state.changed.insert(number);
                }
                state.pages.insert(number, Box::new(page));
            }
        }
        let written = Self { file, volume, uuid, state: Mutex::new(state) };
        written.keep(&written.changes())?;
        Ok(written)
    }

    /// Whether a chunk is the volume's.
    pub fn has(&self, chunk: u64) -> bool {
        let (page, chunk) = split(chunk);
        lock(&self.state).pages.get(&page).is_some_and(|page| page.has(chunk))
    }

    /// Whether no chunk is.
    pub fn is_empty(&self) -> bool {
        lock(&self.state).pages.values().all(|page| page.is_empty())
    }

    /// Says of a chunk whether it is the volume's; [`Self::keep`] makes it durable.
    pub fn set(&self, chunk: u64, is_written: bool) {
        let (number, chunk) = split(chunk);
        let mut state = lock(&self.state);
        if !is_written && !state.pages.contains_key(&number) {
            return;
        }
        let new = || Box::new(Page::new(self.volume, self.uuid, number));
        if state.pages.entry(number).or_insert_with(new).set(chunk, is_written) {
            state.changed.insert(number);
        }
    }

    /// No chunk is the volume's any more; [`Self::keep`] makes it durable.
    pub fn clear(&self) {
        let mut state = lock(&self.state);
        let State { pages, changed } = &mut *state;
        for (number, page) in pages.iter_mut().filter(|(_, page)| !page.is_empty()) {
            page.clear();
            changed.insert(*number);
        }
    }

    /// What changed since it was asked last.
    pub fn changes(&self) -> Changes {
        let mut state = lock(&self.state);
        let changed = std::mem::take(&mut state.changed);
        let encode = |number| {
            let page = state.pages.get_mut(&number)?;
            page.change = page.change.saturating_add(1);
            Some((number, Box::new(page.encode())))
        };
        Changes(changed.into_iter().filter_map(encode).collect())
    }

    /// Changes that were not kept are to be asked for again.
    pub fn put_back(&self, Changes(pages): &Changes) {
        lock(&self.state).changed.extend(pages.iter().map(|(number, _)| *number));
    }

    /// Makes changes durable, in the order in which they were asked for: the first copies, then the second
    /// ones.
    ///
    /// # Errors
    ///
    /// The disk failed: nobody knows which of them it has.
    pub fn keep(&self, Changes(pages): &Changes) -> Result<(), Error> {
        if pages.is_empty() {
            return Ok(());
        }
        for copy in 0..2 {
            for (number, block) in pages {
                self.file.write_all_at(block.as_slice(), place(*number, copy))?;
            }
            self.file.sync_data()?;
        }
        Ok(())
    }
}

const fn place(page: u32, copy: u64) -> u64 {
    let blocks = (page as u64).saturating_mul(2).saturating_add(copy);
    blocks.saturating_mul(PAGE)
}

fn split(chunk: u64) -> (u32, u64) {
    (u32::try_from(chunk / CHUNKS).unwrap_or(u32::MAX), chunk % CHUNKS)
}
