//! Makes a complete node disk: partition table, ESP with the boot application, slot A with an
//! image, boot control block. Without root for a file, and without mounting anything.
//!
//! The table is written last: until everything it names is durable, there is no node disk. The
//! same inputs and the same seed give the same bytes.

use super::flash::verify_slot;
use super::verify::ImageFile;
use crate::disk::busy::ENDS;
use crate::disk::esp;
use crate::disk::open::Disk;
use crate::disk::write::{Supplies, carry_out};
use crate::failure::Failure;
use crate::node_config::record::Kind;
use crate::node_config::store;
use crate::node_site::Texts;
use crate::output::{Voice, size};
use bulkhead_core::bcb::copies::Copies;
use bulkhead_core::bcb::state::Tries;
use bulkhead_core::bcb::state::{Bcb, SlotState};
use bulkhead_core::block::{Extent, Geometry, Lba};
use bulkhead_core::boot::operations::{first_image, flash_writes, mark_writes};
use bulkhead_core::container::image::SecurityVersion;
use bulkhead_core::container::trust::Trust;
use bulkhead_core::gpt::entries::{Name, Partition, Table};
use bulkhead_core::gpt::format::{create, usable};
use bulkhead_core::gpt::header::ARRAY_LEN_MAX;
use bulkhead_core::gpt::layout::{Layout, Role, SlotPlace, Zone};
use bulkhead_core::plan::DiskOffset;
use bulkhead_core::slot::SlotId;
use sha2::{Digest as _, Sha256};
use uguid::Guid;

/// Partitions start and end at multiples of this, so that they suit erase blocks and arrays.
const ALIGN: u64 = 1 << 20;

/// How large each partition is.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// EFI System Partition.
    pub esp: u64,
    /// Boot control block.
    pub bcb: u64,
    /// Each boot slot.
    pub slot: u64,
    /// Infra partition.
    pub infra: u64,
    /// Guest partition; `None` for the rest of the disk.
    pub guest: Option<u64>,
    /// Admin partition, on nodes of the militarized zone.
    pub admin: u64,
}

/// What makes two disks different: the disk's GUID, from which all other identities follow.
#[derive(Clone, Copy, Debug)]
pub struct Identity(pub Guid);

impl Identity {
    /// An identity from any text: the same text, the same disk.
    pub fn from_seed(seed: &[u8]) -> Self {
        Self(derive(&[b"bulkhead disk", seed]))
    }

    fn partition(self, role: Role) -> Guid {
        derive(&[b"bulkhead partition", &self.0.to_bytes(), role.name().as_bytes()])
    }

    fn volume_serial(self) -> u32 {
        let bytes = derive(&[b"bulkhead volume", &self.0.to_bytes()]).to_bytes();
        bytes.first_chunk().map_or(1, |head| u32::from_le_bytes(*head))
    }
}

/// A version 4 GUID from the SHA-256 of `parts`.
fn derive(parts: &[&[u8]]) -> Guid {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
        hasher.update([0]);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    Guid::from_random_bytes(digest.first_chunk().copied().unwrap_or_default())
}

/// Lays out the partitions of a node disk.
///
/// # Errors
///
/// They do not fit; the answer names every size.
pub fn lay_out(disk: Geometry, sizes: &Sizes, zone: Zone, identity: Identity) -> Result<Table, Failure> {
    let block = u64::from(disk.block_size.bytes());
    let total = disk.blocks.saturating_mul(block);
    let too_small = |needed: u64| {
        let Sizes { esp, bcb, slot, infra, guest, admin } = *sizes;
        let admin = if zone == Zone::Mz { format!(" + admin {}", size(admin)) } else { String::new() };
        let guest = guest.map_or_else(|| "at least 1 MiB".to_owned(), size);
        Failure::failed(format!(
            "the disk has {}, at least {} are needed: esp {} + bcb {} + 2 x slot {} + infra {} + \
             guest {guest}{admin} \
             + 2 MiB for the partition table",
            size(total),
            size(needed),
            size(esp),
            size(bcb),
            size(slot),
            size(infra),
        ))
        .next("enlarge `--size`, or shrink `--slot-size` or `--infra-size`.")
    };
    let usable = usable(disk).ok_or_else(|| too_small(ALIGN))?;
    let admin = if zone == Zone::Mz { sizes.admin } else { 0 };
    let fixed = [sizes.esp, sizes.bcb, sizes.slot, sizes.slot, sizes.infra, admin];
    let fixed = fixed.into_iter().map(|bytes| bytes.next_multiple_of(ALIGN)).fold(ALIGN, u64::saturating_add);
    let end = usable.last().plus(1).byte_offset(disk.block_size) & !ALIGN.saturating_sub(1);
    let guest = sizes.guest.unwrap_or_else(|| end.saturating_sub(fixed));
    let needed = fixed.saturating_add(guest.max(ALIGN).next_multiple_of(ALIGN));
    if end < needed {
        return Err(too_small(needed.saturating_add(ALIGN)));
    }
    let mut table = Table::empty(identity.0, usable);
    let mut at = ALIGN;
    for (index, role) in (0..).zip(Role::ALL) {
        let bytes = match role {
            Role::Esp => sizes.esp,
            Role::Bcb => sizes.bcb,
            Role::BootA | Role::BootB => sizes.slot,
            Role::Infra => sizes.infra,
            Role::Guest => guest,
            Role::Admin if zone == Zone::Dmz => continue,
            Role::Admin => sizes.admin,
        };
        if bytes < role.bytes_min() {
            let least = size(role.bytes_min());
            return Err(Failure::usage(format!("partition {role} cannot be smaller than {least}")));
        }
        let blocks = disk.block_size.blocks_for(bytes);
        let first = Lba(at.checked_div(block).unwrap_or(0));
        let extent = Extent::with_len(first, blocks).ok_or_else(|| too_small(needed))?;
        let (type_guid, unique_guid) = (role.type_guid(), identity.partition(role));
        let name = Name::new(role.name());
        let partition = Partition { index, type_guid, unique_guid, extent, attributes: 0, name };
        table.add(partition).map_err(|fault| Failure::failed(format!("partition {role} {fault}")))?;
        at = at.saturating_add(bytes.next_multiple_of(ALIGN));
    }
    Ok(table)
}

/// What goes onto a new disk.
pub struct Contents<'a> {
    /// The table, from [`lay_out`].
    pub table: &'a Table,
    /// Identity of the disk.
    pub identity: Identity,
    /// The boot application, with its keys.
    pub boot_app: &'a [u8],
    /// The verified image for slot A.
    pub image_a: &'a ImageFile,
    /// A verified image for slot B.
    pub image_b: Option<&'a ImageFile>,
    /// The keys the boot application trusts.
    pub trust: &'a Trust,
    /// Tries a candidate gets on this disk.
    pub tries: Tries,
    /// Text of the node configuration.
    pub node_config: Option<&'a str>,
    /// The site it runs its part of.
    pub site: Option<&'a Texts>,
}

impl Contents<'_> {
    /// The boot control block of the new disk: whoever makes the disk vouches for its images.
    fn bcb(&self) -> Bcb {
        let bcb = first_image(self.tries, self.image_a.header.image);
        match self.image_b {
            Some(image) => bcb.with(SlotId::B, SlotState::Confirmed { image: image.header.image }),
            None => bcb,
        }
    }
}

/// Writes the disk.
///
/// # Errors
///
/// A write failed: there is no node disk.
pub fn write(disk: &Disk, contents: &Contents<'_>, voice: Voice) -> Result<(), Failure> {
    let path = disk.path.clone();
    let io_failure = move |error: std::io::Error| {
        Failure::io("write", &path, &error).left("It has no partition table and does not boot.")
    };
    let stopped = |stopped: crate::disk::write::Stopped| io_failure(stopped.error);
    let layout = Layout::find(contents.table, disk.geometry.block_size)
        .map_err(|fault| Failure::failed(format!("the disk would have {fault}")))?;
    erase(disk, contents.table).map_err(&io_failure)?;
    disk.flush().map_err(&io_failure)?;
    let serial = contents.identity.volume_serial();
    esp::write(disk, &layout.esp, serial, contents.boot_app).map_err(|error| {
        Failure::failed(format!("the EFI System Partition could not be made: {error}"))
            .left("The disk has no partition table and does not boot.")
            .next("enlarge `--esp-size`: it must hold the boot application.")
    })?;
    for (slot, image) in [(SlotId::A, Some(contents.image_a)), (SlotId::B, contents.image_b)] {
        let Some(image) = image else { continue };
        let bar = voice.bar("writing", image.header.container_len());
        let mut read = |at: u64, buffer: &mut [u8]| {
            bar.inc(u64::try_from(buffer.len()).unwrap_or(0));
            image.read(at, buffer)
        };
        let plan = flash_writes(layout.slot(slot), image.header.container_len());
        carry_out(disk, &plan, Supplies { image: Some(&mut read), entries: None }).map_err(stopped)?;
        bar.finish_and_clear();
        read_back(disk, layout.slot(slot), contents.trust, image)?;
    }
    let bcb = contents.bcb();
    let copies = Copies::parse([None, None]);
    carry_out(disk, &copies.write(layout.bcb_copies(), &bcb), Supplies::default()).map_err(stopped)?;
    let copies = crate::disk::state::read_copies(disk, &layout);
    let seq = copies.newest().map_or(1, |stored| stored.seq);
    for slot in SlotId::ALL {
        carry_out(disk, &mark_writes(&bcb, seq, slot, layout.slot(slot)), Supplies::default())
            .map_err(stopped)?;
    }
    if let Some(text) = contents.node_config {
        store::write(disk, &layout, Kind::Node, text)?;
    }
    if let Some(site) = contents.site {
        site.write(disk, &layout)?;
    }
    let mut entries = [0; ARRAY_LEN_MAX];
    contents.table.encode(&mut entries);
    let entries = entries.get(..contents.table.array_len());
    let plan = create(contents.table, disk.geometry);
    carry_out(disk, &plan, Supplies { entries, image: None }).map_err(stopped)
}

/// The image file may have changed since it was verified, and the disk may lie: what counts is what
/// the slot returns.
fn read_back(disk: &Disk, place: SlotPlace, trust: &Trust, image: &ImageFile) -> Result<(), Failure> {
    let found = verify_slot(disk, place, trust, SecurityVersion(0), &mut |_| {});
    let why = match found {
        Ok(verified) if verified.image() == image.header.image => return Ok(()),
        Ok(_) => "it returns another image".to_owned(),
        Err(why) => why.to_string(),
    };
    let what = format!("{} does not return what was written: {why}", disk.path.display());
    Err(Failure::failed(what).left("It has no partition table and does not boot."))
}

/// Wipes the ends of the disk and of each partition, so that nothing an earlier owner left is
/// taken for ours. A new file is all zeros already.
fn erase(disk: &Disk, table: &Table) -> std::io::Result<()> {
    if disk.kind == crate::disk::open::Kind::Image {
        return Ok(());
    }
    let zeros = vec![0; usize::try_from(ENDS).unwrap_or(0)];
    let block_size = disk.geometry.block_size;
    let mut ranges = vec![(0, disk.bytes())];
    for partition in &table.partitions {
        ranges.push((partition.extent.first().byte_offset(block_size), partition.extent.bytes(block_size)));
    }
    for (start, len) in ranges {
        let count = ENDS.min(len);
        let piece = zeros.get(..usize::try_from(count).unwrap_or(0)).unwrap_or_default();
        disk.write(DiskOffset(start), piece)?;
        disk.write(DiskOffset(start.saturating_add(len.saturating_sub(count))), piece)?;
    }
    Ok(())
}
