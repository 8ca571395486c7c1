//! Bulkhead's partitions on a node disk (S1-01).
//!
//! A node disk holds exactly one partition of each role below, `admin` only on nodes of the
//! militarized zone. Partitions of other types may be present and are left alone. The role is
//! the type GUID; labels are for people. The ESP has the GUID of its specification, all others
//! have GUIDs of our own, so that no other system mounts or formats them.

use super::entries::{Partition, Table};
use crate::block::BlockSize;
use crate::plan::DiskOffset;
use crate::slot::SlotId;
use uguid::{Guid, guid};

/// What a partition of a node disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// EFI System Partition: the boot application and nothing else.
    Esp,
    /// Boot control block.
    Bcb,
    /// Boot slot A.
    BootA,
    /// Boot slot B.
    BootB,
    /// The infra instance's partition: node configuration, later the mirrored write log.
    Infra,
    /// Storage for guests.
    Guest,
    /// The admin instance's partition, on nodes of the militarized zone.
    Admin,
}

impl Role {
    /// All roles, in the order in which the tool lays them out.
    pub const ALL: [Self; 7] =
        [Self::Esp, Self::Bcb, Self::BootA, Self::BootB, Self::Infra, Self::Guest, Self::Admin];

    /// The label and the name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Esp => "esp",
            Self::Bcb => "bcb",
            Self::BootA => "boot-a",
            Self::BootB => "boot-b",
            Self::Infra => "infra",
            Self::Guest => "guest",
            Self::Admin => "admin",
        }
    }

    /// The partition type.
    pub const fn type_guid(self) -> Guid {
        match self {
            Self::Esp => guid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
            Self::Bcb => guid!("6d9c1b52-3f0e-4c57-9a41-b5e1c0de0001"),
            Self::BootA => guid!("6d9c1b52-3f0e-4c57-9a41-b5e1c0de000a"),
            Self::BootB => guid!("6d9c1b52-3f0e-4c57-9a41-b5e1c0de000b"),
            Self::Infra => guid!("6d9c1b52-3f0e-4c57-9a41-b5e1c0de0003"),
            Self::Guest => guid!("6d9c1b52-3f0e-4c57-9a41-b5e1c0de0004"),
            Self::Admin => guid!("6d9c1b52-3f0e-4c57-9a41-b5e1c0de0005"),
        }
    }

    /// The smallest size that makes sense, in bytes.
    pub const fn bytes_min(self) -> u64 {
        match self {
            Self::Bcb => BCB_BYTES_MIN,
            Self::Esp | Self::BootA | Self::BootB | Self::Infra | Self::Guest | Self::Admin => 1 << 20,
        }
    }

    /// The partition of a boot slot.
    pub const fn of_slot(slot: SlotId) -> Self {
        match slot {
            SlotId::A => Self::BootA,
            SlotId::B => Self::BootB,
        }
    }
}

impl core::fmt::Display for Role {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// Room for both copies of the boot control block, each in an erase block of its own.
const BCB_BYTES_MIN: u64 = 128 << 10;
/// From one copy of the boot control block to the other.
const BCB_STRIDE: u64 = 64 << 10;
/// The confirmation mark has the last 4 KiB of its slot, so that it shares a physical block with
/// nothing else.
const MARK_AREA: u64 = 4096;

/// Why a valid partition table is not that of a node disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutFault {
    /// A required partition is not there.
    #[error("no `{role}` partition")]
    Missing {
        /// The role nobody has.
        role: Role,
    },
    /// Two partitions claim one role.
    #[error("entries {first} and {second} are both `{role}`")]
    Duplicate {
        /// The role both have.
        role: Role,
        /// Entry of the first, from 0.
        first: u8,
        /// Entry of the second, from 0.
        second: u8,
    },
    /// A partition is too small to be used.
    #[error("partition `{role}` has {found} bytes, at least {needed} are needed")]
    TooSmall {
        /// Its role.
        role: Role,
        /// Its size in bytes.
        found: u64,
        /// The smallest size in bytes.
        needed: u64,
    },
}

/// The zone a node belongs to (S1-62).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Militarized zone: hosts the admin instance.
    Mz,
    /// Demilitarized zone: no admin partition is needed.
    Dmz,
}

/// Where a boot slot keeps its image and its confirmation mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotPlace {
    /// First byte of the image container.
    pub image: DiskOffset,
    /// Bytes the image container may have.
    pub capacity: u64,
    /// The confirmation mark.
    pub mark: DiskOffset,
}

/// The partitions of a node disk, each found exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size of a block on this disk.
    pub block_size: BlockSize,
    /// The EFI System Partition.
    pub esp: Partition,
    /// The boot control block.
    pub bcb: Partition,
    /// Boot slot A.
    pub boot_a: Partition,
    /// Boot slot B.
    pub boot_b: Partition,
    /// The infra instance's partition.
    pub infra: Partition,
    /// Storage for guests.
    pub guest: Partition,
    /// The admin instance's partition, where there is one.
    pub admin: Option<Partition>,
}

impl Layout {
    /// Finds the partitions in `table`.
    ///
    /// # Errors
    ///
    /// The first role that is missing, claimed twice, or too small.
    pub fn find(table: &Table, block_size: BlockSize) -> Result<Self, LayoutFault> {
        let one = |role| find(table, role, block_size)?.ok_or(LayoutFault::Missing { role });
        Ok(Self {
            block_size,
            esp: one(Role::Esp)?,
            bcb: one(Role::Bcb)?,
            boot_a: one(Role::BootA)?,
            boot_b: one(Role::BootB)?,
            infra: one(Role::Infra)?,
            guest: one(Role::Guest)?,
            admin: find(table, Role::Admin, block_size)?,
        })
    }

    /// Whether the disk fits a node of `zone`.
    ///
    /// # Errors
    ///
    /// The admin partition is missing on a node of the militarized zone.
    pub const fn check_zone(&self, zone: Zone) -> Result<(), LayoutFault> {
        match (zone, self.admin) {
            (Zone::Mz, None) => Err(LayoutFault::Missing { role: Role::Admin }),
            (Zone::Mz, Some(_)) | (Zone::Dmz, None | Some(_)) => Ok(()),
        }
    }

    /// The partition of `role`; `None` only for an absent `admin`.
    pub const fn partition(&self, role: Role) -> Option<&Partition> {
        match role {
            Role::Esp => Some(&self.esp),
            Role::Bcb => Some(&self.bcb),
            Role::BootA => Some(&self.boot_a),
            Role::BootB => Some(&self.boot_b),
            Role::Infra => Some(&self.infra),
            Role::Guest => Some(&self.guest),
            Role::Admin => self.admin.as_ref(),
        }
    }

    /// Where the two copies of the boot control block are.
    pub fn bcb_copies(&self) -> [DiskOffset; 2] {
        let first = DiskOffset(self.bcb.extent.first().byte_offset(self.block_size));
        [first, first.plus(BCB_STRIDE)]
    }

    /// Where `slot` keeps its image and its mark.
    pub fn slot(&self, slot: SlotId) -> SlotPlace {
        let extent = match slot {
            SlotId::A => self.boot_a.extent,
            SlotId::B => self.boot_b.extent,
        };
        let image = DiskOffset(extent.first().byte_offset(self.block_size));
        let whole = extent.bytes(self.block_size) & !MARK_AREA.saturating_sub(1);
        let capacity = whole.saturating_sub(MARK_AREA);
        SlotPlace { image, capacity, mark: image.plus(capacity) }
    }
}

fn find(table: &Table, role: Role, block_size: BlockSize) -> Result<Option<Partition>, LayoutFault> {
    let mut hits = table.partitions.iter().filter(|partition| partition.type_guid == role.type_guid());
    let Some(first) = hits.next() else { return Ok(None) };
    if let Some(second) = hits.next() {
        return Err(LayoutFault::Duplicate { role, first: first.index, second: second.index });
    }
    let found = first.extent.bytes(block_size);
    if found < role.bytes_min() {
        return Err(LayoutFault::TooSmall { role, found, needed: role.bytes_min() });
    }
    Ok(Some(*first))
}
