//! The volumes of a group, in memory: told block by block, in the order in which the catalogue was written;
//! read back from its file after a start (S3-07, F4, V41).
//!
//! # Numbers
//!
//! A deleted volume keeps its number, and its record, until all 4094 numbers were used; then the one that was
//! deleted first gives its number to the next volume. That is safe whenever it happens, for a log is applied
//! in order: a store is told of a volume of another [`Uuid`] by [`Change::Made`], and drops what the number
//! had before, before it is given any write that followed. Numbers are kept apart for as long as they can be
//! so that nothing rests on that in a plant's life.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::num::NonZeroU64;
use std::path::Path;

use bulkhead_core::cache::residents::Algorithm;
use bulkhead_core::id::NodeId;
use bulkhead_core::log::BLOCK_LEN;
use bulkhead_core::log::batch::Volume;
use bulkhead_core::mirror::membership::Policy;
use bulkhead_core::volume::group::{Group, REMOVED_MAX};
use bulkhead_core::volume::guest::{Guest, Needs};
use bulkhead_core::volume::name::Name;
use bulkhead_core::volume::record::{Record, Seal, State, Uuid};
use bulkhead_core::volume::{BLOCKS_MAX, CATALOGUE, NUMBER_MAX};

use crate::failure::Failure;
use crate::output::size;

/// What a block of the catalogue changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// No volume came, went or has another size.
    Same,
    /// There is a volume that was not there before. What its number had before, if anything, is void.
    Made(Record),
    /// A volume has another size. A store that repeats its log is told an old size again, and keeps what it
    /// has beyond.
    Resized {
        /// What it is now.
        record: Record,
        /// What it had before.
        was: u64,
    },
    /// A volume is there no more, and nothing of it is needed.
    Deleted(Record),
}

/// The volumes of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// By number, deleted ones among them. Invariant: each under its own number.
    records: BTreeMap<u16, Record>,
    /// What is wanted of all of them.
    group: Group,
}

impl Catalogue {
    /// A catalogue without a volume.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the catalogue back from the store's file of volume 0. A file that is not there, or ends early,
    /// is zeroes.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds a block that is no record.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::new()),
            Err(error) => return Err(Failure::io("read the catalogue of volumes", path, &error)),
        };
        let mut catalogue = Self::new();
        for number in 0..=u64::from(NUMBER_MAX) {
            let mut block = [0; BLOCK_LEN];
            match file.read_exact(&mut block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(Failure::io("read the catalogue of volumes", path, &error)),
            }
            catalogue.take(number, &block).map_err(|failure| {
                let what = format!("{}: {}", path.display(), failure.what);
                Failure::failed(what).left("Nothing was started.").next(failure.next)
            })?;
        }
        Ok(catalogue)
    }

    /// Takes block `number` of the catalogue, as it was written.
    ///
    /// # Errors
    ///
    /// It is no record, and nothing has changed.
    pub fn take(&mut self, number: u64, block: &[u8]) -> Result<Change, Failure> {
        let damage = |why: &dyn std::fmt::Display| {
            Failure::failed(format!("block {number} of the catalogue of volumes cannot be used: {why}"))
                .next("the other holder has it: have this one filled anew (docs/volumes.md).")
        };
        let block = <&[u8; BLOCK_LEN]>::try_from(block).map_err(|_| damage(&"it is no block"))?;
        let volume = u16::try_from(number).ok().filter(|number| *number <= NUMBER_MAX).map(Volume);
        let Some(volume) = volume else {
            let is_empty = block.iter().all(|byte| *byte == 0);
            return if is_empty { Ok(Change::Same) } else { Err(damage(&"no volume has this number")) };
        };
        if volume == CATALOGUE {
            self.group = Group::decode(block).map_err(|fault| damage(&fault))?.unwrap_or_default();
            return Ok(Change::Same);
        }
        let new = Record::decode(volume, block).map_err(|fault| damage(&fault))?;
        let old = match &new {
            Some(record) => self.records.insert(volume.0, record.clone()),
            None => self.records.remove(&volume.0),
        };
        Ok(change(old, new))
    }

    /// The volume of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Record> {
        self.list().find(|record| record.name.as_str() == name)
    }

    /// The volume with this number.
    #[must_use]
    pub fn get(&self, volume: Volume) -> Option<&Record> {
        self.records.get(&volume.0).filter(|record| record.state == State::Present)
    }

    /// All volumes, by number.
    pub fn list(&self) -> impl Iterator<Item = &Record> {
        self.records.values().filter(|record| record.state == State::Present)
    }

    /// What is wanted of the group.
    #[must_use]
    pub const fn group(&self) -> &Group {
        &self.group
    }

    /// When the writes of a volume are to be acknowledged.
    #[must_use]
    pub fn policy(&self, volume: Volume) -> Policy {
        self.get(volume).and_then(|record| record.policy).unwrap_or(self.group.policy)
    }

    /// Under which policy the group must be, so that every volume can have its own: whoever wants more waits
    /// for it besides.
    #[must_use]
    pub fn least_policy(&self) -> Policy {
        let own = self.list().filter_map(|record| record.policy);
        match own.chain([self.group.policy]).any(|policy| policy == Policy::Back) {
            true => Policy::Back,
            false => Policy::Through,
        }
    }

    /// A number for another volume: the smallest that was never used, else that of the volume that was
    /// deleted first; `None`: all are in use.
    #[must_use]
    pub fn free_number(&self) -> Option<Volume> {
        let never = (1..=NUMBER_MAX).find(|number| !self.records.contains_key(number));
        let deleted = || {
            let gone = self.records.values().filter(|record| record.state == State::Deleted);
            gone.min_by_key(|record| record.change).map(|record| record.volume)
        };
        never.map(Volume).or_else(deleted)
    }

    /// The record of a new volume, to be written to the catalogue.
    ///
    /// # Errors
    ///
    /// The name is none or is taken, there is no such size, or all numbers are in use.
    pub fn make(&self, name: &str, blocks: u64, uuid: Uuid) -> Result<Record, Failure> {
        let named = Name::new(name).map_err(|why| {
            let next = "choose another name.";
            unchanged(Failure::usage(format!("a volume cannot be called {name:?}: {why}"))).next(next)
        })?;
        if self.by_name(name).is_some() {
            let next = format!("choose another name, or look at it: `bulkhead volume show {name}`.");
            return Err(unchanged(Failure::refused(format!("there is a volume {name} already"))).next(next));
        }
        check_size(blocks)?;
        let Some(volume) = self.free_number() else {
            let what = format!("this group has {NUMBER_MAX} volumes, and room for no other");
            return Err(unchanged(Failure::refused(what)).next("delete one that nobody needs any more."));
        };
        let change = self.next_change();
        let (state, policy, is_cached) = (State::Present, None, true);
        Ok(Record {
            volume,
            state,
            name: named,
            uuid,
            blocks,
            change,
            policy,
            is_cached,
            seal: None,
            guest: None,
        })
    }

    /// The record of a volume with another size, to be written to the catalogue.
    ///
    /// # Errors
    ///
    /// There is no such volume or size, or it would become smaller.
    pub fn resize(&self, volume: Volume, blocks: u64) -> Result<Record, Failure> {
        let record = self.present(volume)?;
        check_size(blocks)?;
        if blocks < record.blocks {
            let (name, has) = (&record.name, size(bytes(record.blocks)));
            let what = format!("{name} has {has}, and a volume does not become smaller: data would be lost");
            let next = "make a smaller volume, copy what is needed into it, and delete this one.";
            return Err(unchanged(Failure::refused(what)).next(next));
        }
        Ok(Record { blocks, change: self.next_change(), ..record.clone() })
    }

    /// The record of a volume that is to be no more, to be written to the catalogue.
    ///
    /// # Errors
    ///
    /// There is no such volume.
    pub fn delete(&self, volume: Volume) -> Result<Record, Failure> {
        let record = self.present(volume)?;
        let change = self.next_change();
        Ok(Record { state: State::Deleted, seal: None, guest: None, change, ..record.clone() })
    }

    /// The record of a volume with another policy, to be written to the catalogue; `None`: as the group's.
    ///
    /// # Errors
    ///
    /// There is no such volume.
    pub fn want(&self, volume: Volume, policy: Option<Policy>) -> Result<Record, Failure> {
        let record = self.present(volume)?;
        Ok(Record { policy, change: self.next_change(), ..record.clone() })
    }

    /// The record of a volume of which something is to stay in the read caches, or nothing, to be written to
    /// the catalogue.
    ///
    /// # Errors
    ///
    /// There is no such volume.
    pub fn cache(&self, volume: Volume, is_cached: bool) -> Result<Record, Failure> {
        let record = self.present(volume)?;
        Ok(Record { is_cached, change: self.next_change(), ..record.clone() })
    }

    /// The record of a volume with this seal, or with none, to be written to the catalogue.
    ///
    /// # Errors
    ///
    /// There is no such volume.
    pub fn seal(&self, volume: Volume, seal: Option<Seal>) -> Result<Record, Failure> {
        let record = self.present(volume)?;
        Ok(Record { seal, change: self.next_change(), ..record.clone() })
    }

    /// The record of a guest's own volume with what is wanted of the guest, to be written to the catalogue.
    ///
    /// # Errors
    ///
    /// There is no such volume.
    pub fn guest(&self, volume: Volume, guest: Guest) -> Result<Record, Failure> {
        let record = self.present(volume)?;
        Ok(Record { guest: Some(guest), change: self.next_change(), ..record.clone() })
    }

    /// The record of a guest's own volume with what the guest takes of its node, to be written to the
    /// catalogue: whatever else is wanted of it by then stays so.
    ///
    /// # Errors
    ///
    /// There is no such volume, or it is no guest's own, or what the guest takes is known.
    pub fn count(&self, volume: Volume, needs: Needs) -> Result<Record, Failure> {
        let record = self.present(volume)?;
        let known = record.guest.filter(|guest| guest.needs.is_none());
        let guest = known.ok_or_else(|| {
            let what =
                format!("volume {} is no own volume of a guest that is yet to be counted", record.name);
            unchanged(Failure::refused(what))
        })?;
        let guest = Some(Guest { needs: Some(needs), ..guest });
        Ok(Record { guest, change: self.next_change(), ..record.clone() })
    }

    /// The group's record with another algorithm of the read caches, to be written to the catalogue.
    #[must_use]
    pub fn cache_of_all(&self, algorithm: Option<Algorithm>) -> Group {
        let mut group = self.group.clone();
        (group.cache, group.change) = (algorithm, self.next_change());
        group
    }

    /// The group's record with another policy, to be written to the catalogue.
    #[must_use]
    pub fn want_of_all(&self, policy: Policy) -> Group {
        let mut group = self.group.clone();
        (group.policy, group.change) = (policy, self.next_change());
        group
    }

    /// The group's record with another bound of the bytes at risk, to be written to the catalogue.
    #[must_use]
    pub fn bound(&self, max: Option<NonZeroU64>) -> Group {
        let mut group = self.group.clone();
        (group.at_risk_max, group.change) = (max, self.next_change());
        group
    }

    /// The group's record with a node that may be a secondary again, to be written to the catalogue.
    #[must_use]
    pub fn admit(&self, node: NodeId) -> Group {
        let mut group = self.group.with(node);
        group.change = self.next_change();
        group
    }

    /// The group's record with a node that is no secondary any more, to be written to the catalogue.
    ///
    /// # Errors
    ///
    /// It has room for no other.
    pub fn dismiss(&self, node: NodeId) -> Result<Group, Failure> {
        let mut group = self.group.without(node).ok_or_else(|| {
            let what = format!("{REMOVED_MAX} nodes are taken out, and there is room for no other");
            let next = "take in one that does not exist any more: `bulkhead volume secondary add NODE`.";
            unchanged(Failure::refused(what)).next(next)
        })?;
        group.change = self.next_change();
        Ok(group)
    }

    fn present(&self, volume: Volume) -> Result<&Record, Failure> {
        self.get(volume).ok_or_else(|| {
            let failure = unchanged(Failure::usage(format!("this group has no volume {}", volume.0)));
            failure.next("`bulkhead volume list` shows them.")
        })
    }

    fn next_change(&self) -> u64 {
        let newest = self.records.values().map(|record| record.change).max().unwrap_or(0);
        newest.max(self.group.change).saturating_add(1)
    }
}

/// What became of a number.
fn change(old: Option<Record>, new: Option<Record>) -> Change {
    let present = |record: Record| (record.state == State::Present).then_some(record);
    match (old.and_then(present), new.and_then(present)) {
        (None, None) => Change::Same,
        (Some(old), None) => Change::Deleted(old),
        (Some(old), Some(new)) if old.uuid == new.uuid && old.name == new.name => {
            let (record, was) = (new, old.blocks);
            if record.blocks == was { Change::Same } else { Change::Resized { record, was } }
        }
        (Some(_) | None, Some(new)) => Change::Made(new),
    }
}

fn check_size(blocks: u64) -> Result<(), Failure> {
    if (1..=BLOCKS_MAX).contains(&blocks) {
        return Ok(());
    }
    let what = format!("a volume cannot have {blocks} blocks of 4 KiB");
    Err(unchanged(Failure::usage(what)).next(format!("give it 4 KiB to {}.", size(bytes(BLOCKS_MAX)))))
}

fn unchanged(failure: Failure) -> Failure {
    failure.left("Nothing was changed.")
}

/// The bytes of so many blocks.
#[must_use]
pub const fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(4096)
}

/// A uuid that nothing else has.
///
/// # Errors
///
/// The system has no randomness.
pub fn draw() -> Result<Uuid, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| unchanged(Failure::failed(format!("no randomness can be had: {error}"))))?;
    // RFC 9562: version 4, and its variant.
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    Ok(Uuid(bytes))
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
