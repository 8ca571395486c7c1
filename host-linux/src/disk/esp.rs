//! The EFI System Partition: a FAT volume whose only file is `\EFI\BOOT\BOOTX64.EFI`.
//!
//! What we write is always the same FAT16 volume; `fatfs` would put long names even before the
//! dot entries, which `fsck.fat` takes for damage. What is read may be anything (F45, V39): the
//! reader is total, bounded by the number of clusters, and looks for that one file. FAT as in
//! Microsoft's "FAT32 File System Specification", 1.03.

use super::open::Disk;
use bulkhead_core::block::Lba;
use bulkhead_core::bytes::Writer;
use bulkhead_core::gpt::entries::Partition;
use bulkhead_core::plan::DiskOffset;
use std::io;

/// The largest boot application that is read: ours has a quarter of a mebibyte.
pub const BOOT_APP_MAX: usize = 16 << 20;

/// Sectors in front of the first FAT: the boot sector.
const RESERVED: u64 = 1;
const FATS: u64 = 2;
const ROOT_ENTRIES: u16 = 512;
const ENTRY: u64 = 32;
/// FAT16 has between these numbers of clusters; we stay away from the ends, where readers differ.
const CLUSTERS: std::ops::RangeInclusive<u64> = 4100..=65_000;
/// Cluster of `\EFI`, of `\EFI\BOOT`, and the first one of the file.
const CLUSTER_EFI: u16 = 2;
const CLUSTER_BOOT: u16 = 3;
const CLUSTER_FILE: u16 = 4;

/// Where the parts of a new FAT16 volume are, in sectors.
struct Shape {
    sector: u64,
    sectors: u64,
    per_cluster: u64,
    per_fat: u64,
    root: u64,
    clusters: u64,
}

impl Shape {
    /// The smallest clusters for which `sectors` make a FAT16 volume.
    fn of(sector: u64, sectors: u64) -> Option<Self> {
        let root = u64::from(ROOT_ENTRIES).checked_mul(ENTRY)?.div_ceil(sector);
        (0..=7).find_map(|shift| {
            let per_cluster = 1_u64 << shift;
            let per_fat = sectors.div_ceil(per_cluster).checked_add(2)?.checked_mul(2)?.div_ceil(sector);
            let overhead = RESERVED.checked_add(FATS.checked_mul(per_fat)?)?.checked_add(root)?;
            let clusters = sectors.checked_sub(overhead)? >> shift;
            let shape = Self { sector, sectors, per_cluster, per_fat, root, clusters };
            CLUSTERS.contains(&clusters).then_some(shape)
        })
    }

    const fn root_at(&self) -> u64 {
        RESERVED.saturating_add(FATS.saturating_mul(self.per_fat)).saturating_mul(self.sector)
    }

    const fn cluster_bytes(&self) -> u64 {
        self.per_cluster.saturating_mul(self.sector)
    }

    fn cluster_at(&self, cluster: u16) -> u64 {
        let data = self.root_at().saturating_add(self.root.saturating_mul(self.sector));
        data.saturating_add(u64::from(cluster.saturating_sub(2)).saturating_mul(self.cluster_bytes()))
    }

    /// The first 512 bytes of the volume.
    fn boot_sector(&self, first: Lba, serial: u32) -> [u8; 512] {
        let small = |number: u64| u16::try_from(number).unwrap_or(0);
        let mut out = Writer::<512>::default();
        out.put(&[0xeb, 0x3c, 0x90]);
        out.put(b"BULKHEAD");
        out.u16(small(self.sector));
        out.u8(u8::try_from(self.per_cluster).unwrap_or(0));
        out.u16(small(RESERVED));
        out.u8(u8::try_from(FATS).unwrap_or(0));
        out.u16(ROOT_ENTRIES);
        // A count that fits in 16 bits stands in the old field and only there.
        out.u16(small(self.sectors));
        out.u8(0xf8);
        out.u16(small(self.per_fat));
        // Sectors a track and heads: of no meaning since disks are addressed by block.
        out.u16(32);
        out.u16(64);
        out.u32(u32::try_from(first.0).unwrap_or(u32::MAX));
        out.u32(if small(self.sectors) == 0 { u32::try_from(self.sectors).unwrap_or(u32::MAX) } else { 0 });
        out.put(&[0x80, 0, 0x29]);
        out.u32(serial);
        out.put(LABEL);
        out.put(b"FAT16   ");
        out.reserved(448);
        out.put(&[0x55, 0xaa]);
        out.finish()
    }
}

const LABEL: &[u8; 11] = b"BULKHEAD   ";
const DIRECTORY: u8 = 0x10;
const VOLUME_LABEL: u8 = 0x08;
const ARCHIVE: u8 = 0x20;
/// 1 January 1980, the first day FAT can express: the day a disk was made is not part of it.
const EPOCH: u16 = 1 << 5 | 1;

fn entry(name: &[u8; 11], attributes: u8, cluster: u16, len: u32) -> [u8; 32] {
    let mut out = Writer::<32>::default();
    out.put(name);
    out.u8(attributes);
    out.reserved(4);
    out.u16(EPOCH);
    out.u16(EPOCH);
    out.reserved(4);
    out.u16(EPOCH);
    out.u16(cluster);
    out.u32(len);
    out.finish()
}

/// Writes a FAT16 file system into `partition` whose only file is the boot application.
///
/// The same inputs give the same bytes: time stamps are FAT's first day, the volume's serial
/// number is `serial`.
///
/// # Errors
///
/// The disk refused, or the application does not fit.
pub fn write(disk: &Disk, partition: &Partition, serial: u32, boot_app: &[u8]) -> io::Result<()> {
    let unfit = |why: &str| io::Error::other(why.to_owned());
    let sector = u64::from(disk.geometry.block_size.bytes());
    let shape = Shape::of(sector, partition.extent.blocks());
    let shape = shape.ok_or_else(|| unfit("it must have at least 4,200 blocks and at most 2 GiB"))?;
    let len = u32::try_from(boot_app.len()).map_err(io::Error::other)?;
    let needed = u64::from(len).div_ceil(shape.cluster_bytes());
    let last = u64::from(CLUSTER_FILE).saturating_add(needed).saturating_sub(1);
    if shape.clusters <= last || needed == 0 {
        return Err(unfit("the boot application does not fit in it"));
    }
    let start = DiskOffset(partition.extent.first().byte_offset(disk.geometry.block_size));
    let put = |at: u64, bytes: &[u8], room: u64| {
        let mut bytes = bytes.to_vec();
        bytes.resize(usize::try_from(room).map_err(io::Error::other)?, 0);
        disk.write(start.plus(at), &bytes)
    };
    put(0, &shape.boot_sector(partition.extent.first(), serial), sector)?;
    let mut fat = vec![0xfff8_u16, 0xffff, 0xffff, 0xffff];
    let file_end = u16::try_from(last).map_err(io::Error::other)?;
    fat.extend((CLUSTER_FILE..file_end).map(|cluster| cluster.saturating_add(1)));
    fat.push(0xffff);
    let fat: Vec<u8> = fat.into_iter().flat_map(u16::to_le_bytes).collect();
    let fat_bytes = shape.per_fat.saturating_mul(sector);
    for copy in 0..FATS {
        let at = RESERVED.saturating_mul(sector).saturating_add(copy.saturating_mul(fat_bytes));
        put(at, &fat, fat_bytes)?;
    }
    let (dot, dots) = (b".          ", b"..         ");
    let root = [entry(LABEL, VOLUME_LABEL, 0, 0), entry(NAME_EFI, DIRECTORY, CLUSTER_EFI, 0)];
    let efi = [
        entry(dot, DIRECTORY, CLUSTER_EFI, 0),
        entry(dots, DIRECTORY, 0, 0),
        entry(NAME_BOOT, DIRECTORY, CLUSTER_BOOT, 0),
    ];
    let boot = [
        entry(dot, DIRECTORY, CLUSTER_BOOT, 0),
        entry(dots, DIRECTORY, CLUSTER_EFI, 0),
        entry(NAME_APP, ARCHIVE, CLUSTER_FILE, len),
    ];
    put(shape.root_at(), root.as_flattened(), shape.root.saturating_mul(sector))?;
    put(shape.cluster_at(CLUSTER_EFI), efi.as_flattened(), shape.cluster_bytes())?;
    put(shape.cluster_at(CLUSTER_BOOT), boot.as_flattened(), shape.cluster_bytes())?;
    put(shape.cluster_at(CLUSTER_FILE), boot_app, needed.saturating_mul(shape.cluster_bytes()))
}

const NAME_EFI: &[u8; 11] = b"EFI        ";
const NAME_BOOT: &[u8; 11] = b"BOOT       ";
const NAME_APP: &[u8; 11] = b"BOOTX64 EFI";

/// Why the boot application could not be read.
#[derive(Debug)]
pub enum NoBootApp {
    /// The disk did not answer.
    Io(io::Error),
    /// There is no FAT file system.
    NotFat,
    /// A directory or the file is not there.
    Missing,
    /// The chain of clusters is broken, or the file is too large to be a boot application.
    Damaged,
}

impl std::fmt::Display for NoBootApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the EFI System Partition could not be read: {error}"),
            Self::NotFat => f.write_str("the EFI System Partition holds no FAT file system"),
            Self::Missing => f.write_str("the EFI System Partition holds no \\EFI\\BOOT\\BOOTX64.EFI"),
            Self::Damaged => f.write_str("the file system of the EFI System Partition is damaged"),
        }
    }
}

/// Reads `\EFI\BOOT\BOOTX64.EFI` from the ESP of a disk.
///
/// # Errors
///
/// [`NoBootApp`].
pub fn read_boot_app(disk: &Disk, partition: &Partition) -> Result<Vec<u8>, NoBootApp> {
    let block_size = disk.geometry.block_size;
    let start = DiskOffset(partition.extent.first().byte_offset(block_size));
    let volume = Volume::open(disk, start, partition.extent.bytes(block_size))?;
    let root = volume.root()?;
    let efi = find(&root, NAME_EFI).ok_or(NoBootApp::Missing)?;
    let boot = find(&volume.chain(efi.cluster, DIRECTORY_MAX)?, NAME_BOOT).ok_or(NoBootApp::Missing)?;
    let file = find(&volume.chain(boot.cluster, DIRECTORY_MAX)?, NAME_APP).ok_or(NoBootApp::Missing)?;
    let len = usize::try_from(file.len).unwrap_or(usize::MAX);
    if BOOT_APP_MAX < len {
        return Err(NoBootApp::Damaged);
    }
    let mut bytes = volume.chain(file.cluster, len)?;
    if bytes.len() < len {
        return Err(NoBootApp::Damaged);
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// A directory larger than this is not one of ours.
const DIRECTORY_MAX: usize = 64 << 10;

struct Entry {
    cluster: u32,
    len: u32,
}

fn find(directory: &[u8], name: &[u8; 11]) -> Option<Entry> {
    let used = directory.as_chunks::<32>().0.iter().take_while(|entry| entry.first() != Some(&0));
    let is_name = |entry: &&[u8; 32]| {
        entry.first_chunk::<11>() == Some(name)
            && le8(*entry, 11).is_some_and(|attributes| attributes & 8 == 0)
    };
    let entry = used.into_iter().find(is_name)?;
    let (high, low) = (le16(entry, 20)?, le16(entry, 26)?);
    Some(Entry { cluster: u32::from(high) << 16 | u32::from(low), len: le32(entry, 28)? })
}

#[derive(Clone, Copy)]
enum Width {
    Fat12,
    Fat16,
    Fat32,
}

struct Volume<'a> {
    disk: &'a Disk,
    start: DiskOffset,
    width: Width,
    cluster_bytes: u64,
    clusters: u64,
    fat_at: u64,
    root_at: u64,
    root_bytes: u64,
    root_cluster: u32,
    data_at: u64,
}

impl<'a> Volume<'a> {
    fn open(disk: &'a Disk, start: DiskOffset, bytes: u64) -> Result<Self, NoBootApp> {
        let mut boot = [0; 512];
        disk.read(start, &mut boot).map_err(NoBootApp::Io)?;
        Self::parse(disk, start, bytes, &boot).ok_or(NoBootApp::NotFat)
    }

    fn parse(disk: &'a Disk, start: DiskOffset, bytes: u64, boot: &[u8; 512]) -> Option<Self> {
        let sector = u64::from(le16(boot, 11)?);
        let cluster_bytes = sector.checked_mul(u64::from(le8(boot, 13)?))?;
        let sound = le16(boot, 510)? == 0xaa55 && sector.is_power_of_two() && cluster_bytes.is_power_of_two();
        let (reserved, fats) = (u64::from(le16(boot, 14)?), u64::from(le8(boot, 16)?));
        let root_bytes = u64::from(le16(boot, 17)?).checked_mul(32)?.checked_next_multiple_of(sector)?;
        let total = match le16(boot, 19)? {
            0 => u64::from(le32(boot, 32)?),
            small => u64::from(small),
        };
        let fat_sectors = match le16(boot, 22)? {
            0 => u64::from(le32(boot, 36)?),
            small => u64::from(small),
        };
        let fat_at = reserved.checked_mul(sector)?;
        let root_at = fat_sectors.checked_mul(fats)?.checked_mul(sector)?.checked_add(fat_at)?;
        let data_at = root_at.checked_add(root_bytes)?;
        let end = total.checked_mul(sector)?;
        let clusters = end.checked_sub(data_at)?.checked_div(cluster_bytes)?;
        let width = match clusters {
            0..4085 => Width::Fat12,
            4085..65525 => Width::Fat16,
            65525.. => Width::Fat32,
        };
        let root_cluster = le32(boot, 44)?;
        let volume = Self {
            disk,
            start,
            width,
            cluster_bytes,
            clusters,
            fat_at,
            root_at,
            root_bytes,
            root_cluster,
            data_at,
        };
        (sound && fats != 0 && end <= bytes).then_some(volume)
    }

    fn root(&self) -> Result<Vec<u8>, NoBootApp> {
        match self.width {
            Width::Fat32 => self.chain(self.root_cluster, DIRECTORY_MAX),
            Width::Fat12 | Width::Fat16 => {
                let len = usize::try_from(self.root_bytes).unwrap_or(usize::MAX).min(DIRECTORY_MAX);
                let mut bytes = vec![0; len];
                self.read(self.root_at, &mut bytes)?;
                Ok(bytes)
            }
        }
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), NoBootApp> {
        self.disk.read(self.start.plus(at), buffer).map_err(NoBootApp::Io)
    }

    /// The clusters from `first` on, at most as many as hold `bytes_max` bytes.
    fn chain(&self, first: u32, bytes_max: usize) -> Result<Vec<u8>, NoBootApp> {
        let mut bytes = Vec::new();
        let mut cluster = first;
        while bytes.len() < bytes_max {
            let index = u64::from(cluster).checked_sub(2).filter(|index| *index < self.clusters);
            let Some(index) = index else { break };
            let begin = bytes.len();
            let len = usize::try_from(self.cluster_bytes).unwrap_or(0);
            bytes.resize(begin.saturating_add(len), 0);
            let at = self.data_at.saturating_add(index.saturating_mul(self.cluster_bytes));
            self.read(at, bytes.get_mut(begin..).unwrap_or_default())?;
            cluster = self.next(cluster)?;
        }
        Ok(bytes)
    }

    fn next(&self, cluster: u32) -> Result<u32, NoBootApp> {
        let number = u64::from(cluster);
        let mut entry = [0; 4];
        let at = match self.width {
            Width::Fat12 => number.saturating_add(number >> 1),
            Width::Fat16 => number.saturating_mul(2),
            Width::Fat32 => number.saturating_mul(4),
        };
        self.read(self.fat_at.saturating_add(at), &mut entry)?;
        let value = u32::from_le_bytes(entry);
        Ok(match self.width {
            Width::Fat12 if cluster & 1 == 1 => (value >> 4) & 0xfff,
            Width::Fat12 => value & 0xfff,
            Width::Fat16 => value & 0xffff,
            Width::Fat32 => value & 0x0fff_ffff,
        })
    }
}

fn le8(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|field| u16::from_le_bytes(*field))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_le_bytes(*field))
}
