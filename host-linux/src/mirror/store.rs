//! The backing store of a holder: the content of each volume, below one directory, and its checksums (S4-03;
//! V1, V5, V13, F4, F7, F10 to F13).
//!
//! What does not fit its checksum is damaged, and never read as good: it is mended with what another holder
//! has there (`mends`).

use super::backing::claims::{Claims, blocks_of};
use super::backing::file::Sparse;
use super::backing::{Backing, How};
use super::extents::Content;
use super::handle::lock;
use super::read_cache::ReadCache;
use super::sums::Sums;
use super::tenancy::{Said, Tenancy, Wish};
use crate::failure::Failure;
use crate::site_config::BackedBy;
use crate::volume::catalogue::Catalogue;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::log::{BLOCK_LEN, Block};
use bulkhead_core::volume::record::Record;
use bulkhead_core::volume::tenure::Tenure;
use bulkhead_core::volume::{CATALOGUE, CATALOGUE_BLOCKS};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Whoever has a file of a store open that is left is waited for; it is looked so often.
const CLOSING: Duration = Duration::from_millis(2);

/// One volume.
#[derive(Debug)]
struct Kept {
    content: Backing,
    sums: Sums,
    /// Held while blocks and their checksums change, which is not one step.
    changing: Mutex<()>,
}

/// Why a block cannot be read, and another holder is to be asked for it: its content is not what was written,
/// or the disk cannot read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("block {block} of volume {volume} is damaged", volume = volume.0)]
pub struct Damaged {
    /// Of which volume.
    pub volume: Volume,
    /// Which block.
    pub block: u64,
}

impl Damaged {
    /// If it is this that went wrong.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<Damaged> for io::Error {
    fn from(damaged: Damaged) -> Self {
        Self::new(ErrorKind::InvalidData, damaged)
    }
}

/// The volumes of a group.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    claims: Claims,
    /// Whose it is; `None`: nobody else reaches it.
    tenancy: Option<Tenancy>,
    opened: Mutex<BTreeMap<Volume, Arc<Kept>>>,
    /// What is read again and again. Whatever changes the content of a volume says so to it.
    pub cache: ReadCache,
    /// Held by a test, no write ends: a disk that stands still.
    #[cfg(test)]
    pub gate: Mutex<()>,
    /// Set by a test: there is no room.
    #[cfg(test)]
    pub is_full: std::sync::atomic::AtomicBool,
}

impl Store {
    /// The store below this directory, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// It cannot be made, or used.
    pub fn open(directory: &Path) -> Result<Self, Failure> {
        let made = std::fs::create_dir_all(directory).and_then(|()| File::open(directory)?.sync_all());
        made.map_err(|error| Failure::io("use", directory, &error))?;
        Ok(Self {
            directory: directory.into(),
            claims: Claims::none(directory),
            tenancy: None,
            opened: Mutex::default(),
            cache: ReadCache::default(),
            #[cfg(test)]
            gate: Mutex::default(),
            #[cfg(test)]
            is_full: Default::default(),
        })
    }

    /// The same, with the content of these volumes where the configuration says.
    ///
    /// # Errors
    ///
    /// It is not there, or cannot be used.
    pub fn backed_by(self, entries: BTreeMap<String, BackedBy>) -> Result<Self, Failure> {
        let catalogue = Catalogue::load(&self.path(CATALOGUE))?;
        let claims = Claims::open(&self.directory, entries, &catalogue)?;
        Ok(Self { claims, ..self })
    }

    /// The same, as one that other holders reach, too: it is used only while this one has it.
    pub fn shared(self, tenancy: Tenancy) -> Self {
        Self { tenancy: Some(tenancy), ..self }
    }

    /// Whether other holders reach it, too.
    pub const fn is_shared(&self) -> bool {
        self.tenancy.is_some()
    }

    /// Whether it is this holder's now.
    pub fn is_ours(&self) -> bool {
        self.tenancy.as_ref().is_none_or(Tenancy::is_held)
    }

    /// Whether this holder can take over a store that another one has.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn in_reach(&self, of: &Tenure) -> Result<(), String> {
        self.tenancy.as_ref().map_or(Ok(()), |tenancy| tenancy.is_in_reach(of))
    }

    /// Does what is asked of a store that others reach, too; of any other one, nothing. To leave it takes as
    /// long as what is being read there.
    ///
    /// # Errors
    ///
    /// It cannot be said whose it is.
    pub fn tenancy(&self, wish: Wish) -> Result<Option<Said>, io::Error> {
        let Some(tenancy) = &self.tenancy else { return Ok(None) };
        match wish {
            Wish::Take => Ok(Some(Said::Took(tenancy.take()))),
            Wish::Look => Ok(Some(Said::Saw(tenancy.look()))),
            Wish::Mark(epoch) => tenancy.mark(epoch).map(|()| None),
            Wish::Leave => {
                // From now on nobody opens anything there.
                let held = tenancy.close();
                let volumes = std::mem::take(&mut *lock(&self.opened));
                for (volume, kept) in volumes {
                    drop(self.cache.change_all(volume));
                    // Nothing of it is open when another one may have it.
                    while 1 < Arc::strong_count(&kept) {
                        std::thread::sleep(CLOSING);
                    }
                }
                drop(held);
                Ok(None)
            }
        }
    }

    /// Which volumes have their content where.
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a volume's content is.
    pub fn path(&self, volume: Volume) -> PathBuf {
        self.directory.join(format!("volume-{}", volume.0))
    }

    /// Writes into a volume; [`Self::sync`] makes it durable.
    ///
    /// # Errors
    ///
    /// The disk is full, or fails.
    pub fn write(&self, volume: Volume, first: u64, blocks: u64, content: &Content) -> Result<(), io::Error> {
        let _change = self.cache.change(volume, first, blocks);
        #[cfg(test)]
        drop(self.gate.lock());
        #[cfg(test)]
        if self.is_full.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(ErrorKind::StorageFull.into());
        }
        if volume == CATALOGUE {
            return self.write_catalogue(first, blocks, content);
        }
        self.put(volume, first, blocks, content)
    }

    /// Where a volume's content is depends on what the catalogue says of it.
    fn write_catalogue(&self, first: u64, blocks: u64, content: &Content) -> Result<(), io::Error> {
        let news = match content {
            Content::Data(piece) => blocks_of(piece.bytes()),
            Content::Zeroes => vec![None; usize::try_from(blocks.min(CATALOGUE_BLOCKS)).unwrap_or(0)],
        };
        let gone = self.learn(first, &news)?;
        self.put(CATALOGUE, first, blocks, content)?;
        if gone.is_empty() {
            return Ok(());
        }
        self.sync(CATALOGUE)?;
        self.claims.forget(&gone)
    }

    /// The catalogue is about to have these blocks. Returns what is to be forgotten when it has, durably.
    fn learn(&self, first: u64, news: &[Option<&Block>]) -> Result<Vec<Record>, io::Error> {
        let learnt = self.claims.learn(first, news)?;
        for volume in &learnt.changed {
            // The checksums, and what is in memory, are of what was there before.
            let _change = self.cache.change_all(*volume);
            lock(&self.opened).remove(volume);
            self.remove_durably(&self.sums_path(*volume))?;
        }
        Ok(learnt.gone)
    }

    fn put(&self, volume: Volume, first: u64, blocks: u64, content: &Content) -> Result<(), io::Error> {
        match content {
            Content::Data(piece) => {
                let kept = self.made(volume)?;
                let _changing = lock(&kept.changing);
                kept.content.write(first, piece.bytes())?;
                kept.sums.write(first, piece.bytes())
            }
            Content::Zeroes => {
                // What was never written is zero.
                let Some(kept) = self.kept(volume)? else { return Ok(()) };
                let _changing = lock(&kept.changing);
                kept.content.zero(first, blocks)?;
                kept.sums.zero(first, blocks)
            }
        }
    }

    /// Makes durable what was written into a volume.
    ///
    /// # Errors
    ///
    /// The disk failed: nobody knows what it has, and another flush would not tell (F5).
    pub fn sync(&self, volume: Volume) -> Result<(), io::Error> {
        let Some(kept) = self.kept(volume)? else { return Ok(()) };
        kept.content.sync()?;
        kept.sums.sync()
    }

    /// Reads from a volume.
    ///
    /// # Errors
    ///
    /// [`Damaged`]; or the disk failed, or would have to be waited for.
    pub fn read(&self, volume: Volume, first: u64, bytes: &mut [u8], how: How) -> Result<(), io::Error> {
        let Some(kept) = self.kept(volume)? else {
            bytes.fill(0);
            return Ok(());
        };
        match kept.read(first, bytes, how) {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => {}
            Err(error) if is_medium(&error) => {}
            Err(error) => return Err(error),
        }
        if how == How::AtOnce {
            return Err(ErrorKind::WouldBlock.into());
        }
        // It may have been changed while it was read, or be damaged in memory only.
        let _changing = lock(&kept.changing);
        for (block, bytes) in (first..).zip(bytes.chunks_mut(BLOCK_LEN)) {
            if kept.is_damaged(block, bytes)? {
                return Err(Damaged { volume, block }.into());
            }
        }
        Ok(())
    }

    /// Puts what was there into a damaged block, durably. Whatever else came there meanwhile stays.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn mend(&self, Damaged { volume, block }: Damaged, content: &[u8]) -> Result<(), io::Error> {
        let Some(kept) = self.kept(volume)? else { return Ok(()) };
        let _change = self.cache.change(volume, block, 1);
        let _changing = lock(&kept.changing);
        if !kept.is_damaged(block, &mut [0; BLOCK_LEN])? {
            return Ok(());
        }
        let is_catalogue = volume == CATALOGUE;
        let gone = if is_catalogue { self.learn(block, &blocks_of(content))? } else { Vec::new() };
        kept.content.write(block, content)?;
        kept.sums.write(block, content)?;
        kept.content.sync()?;
        kept.sums.sync()?;
        self.claims.forget(&gone)
    }

    /// For how many blocks, of so many, nothing was ever written.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn unwritten(&self, volume: Volume, first: u64, blocks: u64) -> Result<u64, io::Error> {
        let Some(kept) = self.kept(volume)? else { return Ok(blocks) };
        match kept.content.run(first, blocks)? {
            (true, _) => Ok(0),
            (false, run) => kept.sums.unwritten(first, run),
        }
    }

    /// Whether every block of a volume has a checksum; one that was written by a Bulkhead of before has not.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn is_checked(&self, volume: Volume) -> Result<bool, io::Error> {
        Ok(self.kept(volume)?.is_none_or(|kept| kept.sums.is_whole()))
    }

    /// Gives blocks that have no checksum one, as they are.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn adopt(&self, volume: Volume, first: u64, bytes: &mut [u8]) -> Result<(), io::Error> {
        let Some(kept) = self.kept(volume)? else { return Ok(()) };
        let _changing = lock(&kept.changing);
        kept.content.read(first, bytes, How::Waiting)?;
        kept.sums.adopt(first, bytes)
    }

    /// Every block of a volume has a checksum from now on.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn set_checked(&self, volume: Volume) -> Result<(), io::Error> {
        self.kept(volume)?.map_or(Ok(()), |kept| kept.sums.set_whole())
    }

    /// Has the system read some blocks ahead: a hint.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn fetch(&self, volume: Volume, first: u64, blocks: u64) -> Result<(), io::Error> {
        if let Some(kept) = self.kept(volume)? {
            kept.content.fetch(first, blocks);
        }
        Ok(())
    }

    /// Whether there is data at a block, and for how many blocks, of so many, it goes on like that.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn run(&self, volume: Volume, first: u64, blocks: u64) -> Result<(bool, u64), io::Error> {
        self.kept(volume)?.map_or(Ok((false, blocks)), |kept| kept.content.run(first, blocks))
    }

    /// Deletes a volume's content, durably.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn remove(&self, volume: Volume) -> Result<(), io::Error> {
        let _change = self.cache.change_all(volume);
        if self.is_shared() {
            return self.empty(volume);
        }
        if let Some(claimed) = self.claims.get(volume) {
            // It is given back when the catalogue says so.
            claimed.clear()?;
        }
        // Nobody opens, meanwhile, what is about to go.
        let mut opened = lock(&self.opened);
        opened.remove(&volume);
        // In this order: a volume that has no content is made anew, with other checksums.
        self.remove_durably(&self.path(volume))?;
        self.remove_durably(&self.sums_path(volume))
    }

    /// As [`Self::remove`], of a store that others reach: a name could be taken away from whoever has the
    /// store by then, what is in a locked file cannot.
    fn empty(&self, volume: Volume) -> Result<(), io::Error> {
        let Some(kept) = self.kept(volume)? else { return Ok(()) };
        let _changing = lock(&kept.changing);
        if let Backing::File(file) = &kept.content {
            file.clear()?;
        }
        kept.sums.clear()
    }

    pub(super) fn sums_path(&self, volume: Volume) -> PathBuf {
        self.directory.join(format!("volume-{}.sums", volume.0))
    }

    /// A volume; `None` when nothing was ever written into it.
    fn kept(&self, volume: Volume) -> Result<Option<Arc<Kept>>, io::Error> {
        self.opened(volume, false)
    }

    /// A volume, made if there is none. Its name is durable before anything is in it.
    fn made(&self, volume: Volume) -> Result<Arc<Kept>, io::Error> {
        let made = self.opened(volume, true)?;
        made.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "a file that was made is not there"))
    }

    fn opened(&self, volume: Volume, make: bool) -> Result<Option<Arc<Kept>>, io::Error> {
        let claimed = self.claims.get(volume);
        let mut opened = lock(&self.opened);
        if let Some(tenancy) = self.tenancy.as_ref().filter(|tenancy| !tenancy.is_held()) {
            return Err(tenancy.not_ours());
        }
        // It may have been given back, or been claimed, since it was opened.
        if let Some(kept) = opened.get(&volume).filter(|kept| kept.content.is_on(claimed.as_ref())) {
            return Ok(Some(Arc::clone(kept)));
        }
        let (path, sums) = (self.path(volume), self.sums_path(volume));
        let (content, sums) = match claimed {
            Some(claimed) => {
                let is_new = claimed.is_empty() && !sums.exists();
                let sums = if is_new {
                    self.new_sums(volume)?
                } else {
                    Sums::open(&sums, volume, self.is_shared())?
                };
                (Backing::Claimed(Arc::downgrade(&claimed)), sums)
            }
            None => match Sparse::open(&path, false) {
                Ok(content) => (Backing::File(content), Sums::open(&sums, volume, self.is_shared())?),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Err(_) if !make => return Ok(None),
                Err(_) => {
                    let sums = self.new_sums(volume)?;
                    let content = Sparse::open(&path, true)?;
                    File::open(&self.directory)?.sync_all()?;
                    (Backing::File(content), sums)
                }
            },
        };
        if let (Some(_), Backing::File(file)) = (&self.tenancy, &content) {
            file.take()?;
            sums.take()?;
        }
        let kept = Arc::new(Kept { content, sums, changing: Mutex::default() });
        opened.insert(volume, Arc::clone(&kept));
        Ok(Some(kept))
    }

    /// The checksums of a volume without content, durably: before there is content, so that none is without
    /// them.
    fn new_sums(&self, volume: Volume) -> Result<Sums, io::Error> {
        let sums = Sums::create(&self.sums_path(volume), volume, self.is_shared())?;
        File::open(&self.directory)?.sync_all()?;
        Ok(sums)
    }
}

impl Kept {
    /// Reads; returns the first block that is not what was written.
    fn read(&self, first: u64, bytes: &mut [u8], how: How) -> Result<Option<u64>, io::Error> {
        self.content.read(first, bytes, how)?;
        self.sums.damaged(first, bytes, how)
    }

    /// Reads one block. Whether it is of use is certain only while nobody changes it.
    fn is_damaged(&self, block: u64, bytes: &mut [u8]) -> Result<bool, io::Error> {
        match self.read(block, bytes, How::FromDisk) {
            Ok(damaged) => Ok(damaged.is_some()),
            Err(error) if is_medium(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Whether it is this place that the disk cannot read, as far as it knows (F10).
fn is_medium(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::IO | Errno::NODATA | Errno::ILSEQ | Errno::BADMSG))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
