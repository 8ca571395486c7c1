//! Which volume's content is on which device: what the configuration says, what was so before, and that the
//! two agree (S1-24, S1-26; V5, V40, F14, F15).
//!
//! ```text
//! entry    volume made ──▶ claim ──┬─▶ used at every start, if entry, device and size are as they were
//! in the                           ├─▶ refused: the entry is gone, or names another device
//! file                             └─▶ released, when the volume is deleted: the device is not wiped
//!          volume was there before it ──▶ refused: its content is in a file
//! ```
//!
//! Invariant: what the catalogue of the store says durably, the claims do: of a volume whose name has an
//! entry there is one before the catalogue has the volume, and until it has it no more. So who finds a volume
//! without its claim at a start knows that its content is elsewhere, and does not begin with an empty one;
//! and a claim without its volume is of no use.
//!
//! A log that is repeated makes volumes again that were deleted since, and whose device a later volume of the
//! same name has by now. They stay files, until the log deletes them, too: a device is its claim's.

use super::claimed::Claimed;
use super::device::{Device, PATIENCE};
use super::medium::Medium;
use super::remote::Remote;
use super::written::Written;
use crate::failure::Failure;
use crate::mirror::handle::lock;
use crate::site_config::BackedBy;
use crate::volume::catalogue::{Catalogue, bytes};
use bulkhead_core::log::batch::Volume;
use bulkhead_core::log::{BLOCK_LEN, Block};
use bulkhead_core::volume::claim::{Claim, TEXT_MAX};
use bulkhead_core::volume::record::{Record, State, Uuid};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{Error, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the files of claims are called, in front of the uuid; and those of their maps.
const CLAIM: &str = "backing-";
const MAP: &str = "written-";
/// A claim that is being written.
const NEXT: &str = "backing-next";

/// The claims of a store.
#[derive(Debug)]
pub struct Claims {
    directory: PathBuf,
    /// By the names of volumes.
    entries: BTreeMap<String, BackedBy>,
    /// The volumes that the store's catalogue has, all of them. Locked while devices are opened.
    records: Mutex<BTreeMap<Volume, Record>>,
    /// Never locked for long: it is asked how things are while a device does not answer.
    held: Mutex<BTreeMap<Volume, Held>>,
    /// What is not as it was, and no harm.
    note: Option<String>,
    is_over: AtomicBool,
}

impl Claims {
    /// Those of the store in `directory`, as the configuration says.
    ///
    /// # Errors
    ///
    /// A volume's content is not where the configuration says, or cannot be used.
    pub fn open(
        directory: &Path,
        entries: BTreeMap<String, BackedBy>,
        catalogue: &Catalogue,
    ) -> Result<Self, Failure> {
        let mut claims = Self { entries, ..Self::none(directory) };
        let mut held = BTreeMap::new();
        for record in catalogue.list() {
            if let Some(claim) = claims.kept(record)? {
                let (claimed, note) = claims.reopen(record, &claim)?;
                held.insert(record.volume, Held::new(record, claimed));
                claims.note = claims.note.take().or(note);
            }
        }
        for record in catalogue.list() {
            let named = catalogue.list().filter(|other| other.name == record.name);
            let is_claimed = named.map(|other| other.volume).any(|other| held.contains_key(&other));
            if let Some(entry) = claims.entries.get(record.name.as_str()).filter(|_| !is_claimed) {
                return Err(was_there_before(record, entry));
            }
        }
        let is_of_none = |uuid: &str| catalogue.list().all(|record| record.uuid.to_string() != uuid);
        let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
        for name in files.filter_map(|file| file.file_name().into_string().ok()) {
            let uuid = name.strip_prefix(CLAIM).or(name.strip_prefix(MAP));
            if uuid.is_some_and(is_of_none) {
                let path = directory.join(&name);
                std::fs::remove_file(&path).map_err(|error| Failure::io("delete", &path, &error))?;
            }
        }
        let records = catalogue.list().map(|record| (record.volume, record.clone())).collect();
        Ok(Self { records: Mutex::new(records), held: Mutex::new(held), ..claims })
    }

    /// No claims, and none to be made.
    pub fn none(directory: &Path) -> Self {
        let (records, held) = Default::default();
        Self {
            directory: directory.into(),
            entries: BTreeMap::new(),
            records,
            held,
            note: None,
            is_over: AtomicBool::new(false),
        }
    }

    /// What is not as it was when it was used last, and no harm.
    pub fn note(&self) -> Option<String> {
        self.note.clone()
    }

    /// What has a volume's content, if that is not a file.
    pub fn get(&self, volume: Volume) -> Option<Arc<Claimed>> {
        lock(&self.held).get(&volume).map(|held| Arc::clone(&held.claimed))
    }

    /// Where the volume of this name has its content, or will have it when it comes to the store; `None`: in
    /// a file.
    pub fn place_of(&self, name: &str) -> Option<String> {
        self.entries.get(name).map(BackedBy::to_string)
    }

    /// Whether a volume of this name and size can be here.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self, name: &str, blocks: u64) -> Result<(), Failure> {
        let Some(BackedBy::Device(path)) = self.entries.get(name) else {
            // Whether an export has room is not known before it is connected to, and nobody waits for that
            // here.
            return Ok(());
        };
        // It may be this very volume's, or that of one that was deleted and is not gone from the store yet.
        let all = lock(&self.held);
        let held = all.values().find(|held| held.name == name).map(|held| Arc::clone(&held.claimed));
        drop(all);
        let has = match held {
            Some(claimed) => claimed.medium().blocks(blocks),
            None => Device::open(path, Duration::ZERO)?.blocks(),
        };
        fits(&path.display(), has.map_err(|error| Failure::io("look at", path, &error))?, name, blocks)
    }

    /// Why the content of a volume cannot be written or read now; `None`: all of it can.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.held).values().find_map(|held| held.claimed.medium().trouble())
    }

    /// Whoever waits for what is away waits no longer: the agent stops.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        lock(&self.held).values().for_each(|held| held.claimed.medium().stop());
    }

    /// The catalogue is about to have these blocks, from this one on: what is to be on a device is claimed
    /// durably.
    ///
    /// # Errors
    ///
    /// A device cannot be used.
    pub fn learn(&self, first: u64, blocks: &[Option<&Block>]) -> Result<Learnt, Error> {
        let mut records = lock(&self.records);
        let (mut learnt, mut new) = (Learnt::default(), Vec::new());
        for (volume, record) in told(first, blocks) {
            let old = records.remove(&volume);
            let is_same = old.as_ref().zip(record.as_ref()).is_some_and(|(old, new)| are_same(old, new));
            if !is_same && lock(&self.held).remove(&volume).is_some() {
                learnt.gone.extend(old);
                learnt.changed.push(volume);
            }
            let Some(record) = record else { continue };
            let entry = self.entries.get(record.name.as_str());
            if let Some((claimed, entry)) = self.get(volume).zip(entry)
                && claimed.blocks() < record.blocks
            {
                let has = size_of(claimed.medium(), entry, &record).map_err(as_error)?;
                grow(&claimed, has, entry).map_err(as_error)?;
                // What is made zero at the next start must not be what is written from now on.
                self.keep(&record, entry, &claimed)?;
            }
            if !is_same {
                new.push(volume);
            }
            records.insert(volume, record);
        }
        for (name, entry) in &self.entries {
            let mut named: Vec<_> =
                records.values().filter(|record| record.name.as_str() == name).cloned().collect();
            named.sort_by_key(|record| record.change);
            if named.iter().any(|record| self.get(record.volume).is_some()) {
                continue;
            }
            let Some(record) = named.pop() else { continue };
            if !new.contains(&record.volume) {
                return Err(as_error(was_there_before(&record, entry)));
            }
            let claimed = self.claim(&record, entry).map_err(as_error)?;
            lock(&self.held).insert(record.volume, Held::new(&record, claimed));
            if self.is_over.load(Ordering::SeqCst) {
                self.stop();
            }
            learnt.changed.push(record.volume);
        }
        Ok(learnt)
    }

    /// Volumes are there no more, durably: their devices are free for others, and are not wiped.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn forget(&self, gone: &[Record]) -> Result<(), Error> {
        for record in gone {
            for path in [self.path(CLAIM, record.uuid), self.path(MAP, record.uuid)] {
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    done => {
                        done?;
                        File::open(&self.directory)?.sync_all()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The claim of this very volume, if it is kept.
    fn kept(&self, record: &Record) -> Result<Option<Kept>, Failure> {
        let path = self.path(CLAIM, record.uuid);
        let block = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| Failure::io("read", &path, &error))?,
        };
        let block = <&Block>::try_from(block.as_slice()).map_err(|_| damaged(&path, &"it is no block"))?;
        let claim = Claim::decode(block).map_err(|fault| damaged(&path, &fault))?;
        if (claim.volume, claim.uuid) != (record.volume, record.uuid) {
            return Err(damaged(&path, &"it is of another volume"));
        }
        let (place, identity) = (claim.place.to_owned(), claim.identity.to_owned());
        Ok(Some(Kept { place, identity, blocks: claim.blocks }))
    }

    /// Uses what a volume has claimed before, if it is still that; and says what has changed.
    fn reopen(&self, record: &Record, claim: &Kept) -> Result<(Claimed, Option<String>), Failure> {
        let Some(entry) = self.entries.get(record.name.as_str()) else {
            let (name, place) = (&record.name, &claim.place);
            let what =
                format!("{name} has its content on {place}, and [local.storage.backing] does not say so");
            return Err(Failure::refused(what).left(NOTHING_STARTED).next(format!(
                "write `{name} = \"{place}\"` there. To keep {name} in a file from now on, have this node's \
                 copy filled anew (docs/volumes.md, \"On a device\")."
            )));
        };
        let medium = use_of(entry, record).map_err(|failure| failure.left(NOTHING_STARTED))?;
        let is_known = medium.identities().contains(&claim.identity);
        if !is_known && (!claim.identity.is_empty() || *claim.place != entry.to_string()) {
            let identity = if claim.identity.is_empty() { "no identity" } else { &claim.identity };
            let what = format!(
                "{} has its content elsewhere than on {entry}: on {}, with {identity}",
                record.name, claim.place
            );
            return Err(Failure::refused(what).left(NOTHING_STARTED).next(
                "name that in [local.storage.backing]; if it is lost, have this node's copy filled anew \
                 (docs/volumes.md, \"On a device\").",
            ));
        }
        let has = size_of(&medium, entry, record).map_err(|failure| failure.left(NOTHING_STARTED))?;
        let note = (has != claim.blocks).then(|| {
            let (now, was) = (bytes(has), bytes(claim.blocks));
            format!("{entry} has {now} bytes, and had {was} when {} was last opened there", record.name)
        });
        let map = self.path(MAP, record.uuid);
        let written =
            Written::open(&map, record.volume, record.uuid).map_err(|error| damaged(&map, &error))?;
        let claimed = Claimed::new(medium, written, claim.blocks.min(has));
        if claim.blocks < has {
            grow(&claimed, has, entry).map_err(|failure| failure.left(NOTHING_STARTED))?;
        }
        self.keep(record, entry, &claimed)
            .map_err(|error| Failure::io("write to", &self.directory, &error))?;
        Ok((claimed, note))
    }

    /// Has a volume that is new have its content where the configuration says.
    fn claim(&self, record: &Record, entry: &BackedBy) -> Result<Claimed, Failure> {
        let failed = |error: Error| Failure::io("write to", &self.directory, &error);
        let medium = use_of(entry, record)?;
        let has = size_of(&medium, entry, record)?;
        let map = self.path(MAP, record.uuid);
        let written = Written::create(&map, record.volume, record.uuid).map_err(failed)?;
        let claimed = Claimed::new(medium, written, has);
        self.keep(record, entry, &claimed).map_err(failed)?;
        Ok(claimed)
    }

    /// Makes a claim durable.
    fn keep(&self, record: &Record, entry: &BackedBy, claimed: &Claimed) -> Result<(), Error> {
        let place = entry.to_string();
        let identity = claimed.medium().identities().first().map_or("", String::as_str);
        let Record { volume, uuid, .. } = *record;
        let claim = Claim { volume, uuid, blocks: claimed.blocks(), place: &place, identity };
        let block = claim.encode().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("{place} is longer than {TEXT_MAX} bytes"))
        })?;
        let (path, next) = (self.path(CLAIM, uuid), self.directory.join(NEXT));
        let mut file = File::create(&next)?;
        file.write_all(&block)?;
        file.sync_all()?;
        std::fs::rename(&next, &path)?;
        File::open(&self.directory)?.sync_all()
    }

    fn path(&self, kind: &str, uuid: Uuid) -> PathBuf {
        self.directory.join(format!("{kind}{uuid}"))
    }
}

/// What became of claims when the catalogue was about to change.
#[derive(Debug, Default)]
pub struct Learnt {
    /// Volumes that have a claim, and had none or another one; or had one.
    pub changed: Vec<Volume>,
    /// Volumes that had one, and are others or not there any more: to be given to [`Claims::forget`] when the
    /// catalogue is durable.
    pub gone: Vec<Record>,
}

/// What has a volume's content.
#[derive(Debug)]
struct Held {
    name: String,
    claimed: Arc<Claimed>,
}

impl Held {
    fn new(record: &Record, claimed: Claimed) -> Self {
        Self { name: record.name.as_str().to_owned(), claimed: Arc::new(claimed) }
    }
}

/// What a claim says.
struct Kept {
    place: String,
    identity: String,
    blocks: u64,
}

const NOTHING_STARTED: &str = "Nothing was started.";

/// The records that blocks of the catalogue have; of a volume that is not there, none. What is no record is
/// told by whoever reads the catalogue.
fn told<'a>(first: u64, blocks: &'a [Option<&Block>]) -> impl Iterator<Item = (Volume, Option<Record>)> + 'a {
    (first..).zip(blocks).filter_map(|(number, block)| {
        let volume = Volume(u16::try_from(number).ok().filter(|number| *number != 0)?);
        let record = block.and_then(|block| Record::decode(volume, block).ok().flatten());
        Some((volume, record.filter(|record| record.state == State::Present)))
    })
}

fn are_same(one: &Record, other: &Record) -> bool {
    one.uuid == other.uuid && one.name == other.name
}

/// What the configuration names, in use.
fn use_of(entry: &BackedBy, record: &Record) -> Result<Medium, Failure> {
    match entry {
        BackedBy::Device(path) => Device::open(path, PATIENCE).map(Medium::Device),
        BackedBy::Nbd(uri) => {
            let remote = Remote::new(uri.clone(), record.blocks);
            let failed = |error: Error| Failure::failed(format!("{uri} cannot be connected to: {error}"));
            remote.map(Medium::Remote).map_err(failed)
        }
    }
}

/// Its blocks, which are enough for a volume.
fn size_of(medium: &Medium, entry: &BackedBy, record: &Record) -> Result<u64, Failure> {
    let has = medium.blocks(record.blocks);
    let has = has.map_err(|error| Failure::failed(format!("cannot look at {entry}: {error}")))?;
    fits(entry, has, record.name.as_str(), record.blocks).map(|()| has)
}

/// What a volume is on may be larger than before.
fn grow(claimed: &Claimed, blocks: u64, entry: &BackedBy) -> Result<(), Failure> {
    let failed = |error: Error| Failure::failed(format!("cannot use all of {entry}: {error}"));
    claimed.grow(blocks).map_err(failed)
}

fn fits(place: &dyn Display, has: u64, name: &str, needs: u64) -> Result<(), Failure> {
    if needs <= has {
        return Ok(());
    }
    let what = format!("{place} has {} bytes, and {name} needs {}", bytes(has), bytes(needs));
    Err(Failure::refused(what).next("make it larger, or give the volume another one."))
}

fn was_there_before(record: &Record, entry: &BackedBy) -> Failure {
    let name = &record.name;
    let what = format!(
        "{name} was there before [local.storage.backing] named {entry} for it, and its content is not there"
    );
    Failure::refused(what).left(NOTHING_STARTED).next(format!(
        "take {name} out of [local.storage.backing]. To move it to {entry}, have this node's copy filled \
         anew (docs/volumes.md, \"On a device\")."
    ))
}

fn damaged(path: &Path, why: &dyn Display) -> Failure {
    let what = format!("{} cannot be used: {why}", path.display());
    Failure::failed(what).left(NOTHING_STARTED).next(
        "the other holder has all of it: have this node's copy filled anew (docs/volumes.md, \"On a \
         device\").",
    )
}

/// As the applier tells it.
fn as_error(failure: Failure) -> Error {
    let Failure { what, next, .. } = failure;
    Error::other(format!("{what}; next: {next}"))
}

/// The blocks of the catalogue that some bytes are.
pub fn blocks_of(bytes: &[u8]) -> Vec<Option<&Block>> {
    bytes.chunks(BLOCK_LEN).map(|block| <&Block>::try_from(block).ok()).collect()
}
