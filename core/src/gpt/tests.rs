//! The table on whole small disks: what is written is what is read, and every damage has its name.

#[path = "tests_damage.rs"]
mod damage;
#[path = "tests_places.rs"]
mod places;
#[path = "tests_repairs.rs"]
mod repairs;

use super::entries::{Name, Partition, Table};
use super::format::{create, usable};
use super::header::ARRAY_LEN_MAX;
use super::layout::Role;
use super::reading::{Found, NoTable, Reading};
use crate::block::{BlockSize, Extent, Geometry, Lba};
use crate::plan::{Data, Plan, Step};
use std::vec;
use std::vec::Vec;
use uguid::{Guid, guid};

pub const DISK: Guid = guid!("0b0b0b0b-0000-4000-8000-000000000001");
pub const SIZES: [BlockSize; 2] = [BlockSize::B512, BlockSize::B4096];
/// Enough for both arrays and for one block each of seven partitions, on either block size.
pub const BLOCKS: u64 = 160;

/// A disk small enough to copy for every cut.
#[derive(Clone)]
pub struct Disk {
    pub geometry: Geometry,
    pub bytes: Vec<u8>,
}

/// What a cut leaves of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Nothing,
    FirstBytes(usize),
    LastBytes(usize),
    Garbage,
}

impl Disk {
    pub fn blank(block_size: BlockSize) -> Self {
        let geometry = Geometry { block_size, blocks: BLOCKS };
        Self { geometry, bytes: vec![0; usize::try_from(BLOCKS).unwrap() * size(block_size)] }
    }

    pub fn with(block_size: BlockSize, table: &Table) -> Self {
        let mut disk = Self::blank(block_size);
        let plan = create(table, disk.geometry);
        disk.carry_out(&plan, table, usize::MAX, Left::Nothing);
        disk
    }

    pub fn block(&mut self, lba: u64) -> &mut [u8] {
        let len = size(self.geometry.block_size);
        let at = usize::try_from(lba).unwrap() * len;
        &mut self.bytes[at..at + len]
    }

    /// The same disk after `blocks` were added at its end.
    pub fn grown(mut self, blocks: u64) -> Self {
        self.geometry.blocks += blocks;
        let len = usize::try_from(self.geometry.blocks).unwrap() * size(self.geometry.block_size);
        self.bytes.resize(len, 0);
        self
    }

    /// Carries out the first `writes` writes of `plan`, and of the next one what `left` says.
    /// Returns the number of writes in the plan.
    pub fn carry_out(&mut self, plan: &Plan, table: &Table, writes: usize, left: Left) -> usize {
        let mut done = 0;
        for step in plan.steps() {
            let Step::Write { at, data } = step else { continue };
            let mut bytes = match data {
                Data::Sector(sector) => sector.to_vec(),
                Data::Entries => {
                    let mut entries = [0; ARRAY_LEN_MAX];
                    table.encode(&mut entries);
                    entries[..table.array_len()].to_vec()
                }
                Data::Image { .. } => panic!("no image in the plan of a table"),
            };
            bytes.resize(bytes.len().next_multiple_of(size(self.geometry.block_size)), 0);
            let from = usize::try_from(at.0).unwrap();
            let old = &mut self.bytes[from..from + bytes.len()];
            match (done.cmp(&writes), left) {
                (core::cmp::Ordering::Less, _) => old.copy_from_slice(&bytes),
                (core::cmp::Ordering::Equal, Left::FirstBytes(count)) => {
                    let count = count.min(bytes.len());
                    old[..count].copy_from_slice(&bytes[..count]);
                }
                (core::cmp::Ordering::Equal, Left::LastBytes(count)) => {
                    let count = bytes.len() - count.min(bytes.len());
                    old[count..].copy_from_slice(&bytes[count..]);
                }
                (core::cmp::Ordering::Equal, Left::Garbage) => old.fill(0x5a),
                (core::cmp::Ordering::Equal, Left::Nothing) | (core::cmp::Ordering::Greater, _) => {}
            }
            done += 1;
        }
        done
    }

    pub fn read(&self) -> Result<Found, NoTable> {
        let mut reading = Reading::new(self.geometry);
        while let Some(extent) = reading.wants() {
            let len = size(self.geometry.block_size);
            let from = usize::try_from(extent.first().0).unwrap() * len;
            let to = (usize::try_from(extent.last().0).unwrap() + 1) * len;
            reading.supply(self.bytes.get(from..to));
        }
        reading.finish()
    }
}

pub fn size(block_size: BlockSize) -> usize {
    usize::try_from(block_size.bytes()).unwrap()
}

pub fn partition(index: u8, type_guid: Guid, first: u64, count: u64) -> Partition {
    Partition {
        index,
        type_guid,
        unique_guid: Guid::from_bytes([index + 1; 16]),
        extent: Extent::with_len(Lba(first), count).unwrap(),
        attributes: 0,
        name: Name::new("x"),
    }
}

/// A table with one small partition of every role.
pub fn table(block_size: BlockSize) -> Table {
    let usable = usable(Geometry { block_size, blocks: BLOCKS }).unwrap();
    let mut table = Table::empty(DISK, usable);
    for (index, role) in (0_u8..).zip(Role::ALL) {
        let first = usable.first().0 + u64::from(index) * 3;
        table.add(partition(index, role.type_guid(), first, 3)).unwrap();
    }
    table
}
