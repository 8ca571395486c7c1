//! The EFI System Partition: written with `fatfs`, read with a reader of our own.
//!
//! What is read may be anything (F45, V39): the reader below is total, bounded by the number of
//! clusters, and looks for one file, `\EFI\BOOT\BOOTX64.EFI`. FAT as in Microsoft's "FAT32 File
//! System Specification", 1.03.

use super::open::Disk;
use bulkhead_core::gpt::entries::Partition;
use bulkhead_core::plan::DiskOffset;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// The largest boot application that is read: ours has a quarter of a mebibyte.
pub const BOOT_APP_MAX: usize = 16 << 20;

/// Writes a FAT file system into `partition` whose only file is the boot application.
///
/// The same inputs give the same bytes: time stamps are the format's epoch, the volume's serial
/// number is `serial`.
///
/// # Errors
///
/// The disk refused, or the application does not fit.
pub fn write(disk: &Disk, partition: &Partition, serial: u32, boot_app: &[u8]) -> io::Result<()> {
    let block = disk.geometry.block_size.bytes();
    let sectors = u32::try_from(partition.extent.blocks()).map_err(io::Error::other)?;
    let options = fatfs::FormatVolumeOptions::new()
        .bytes_per_sector(u16::try_from(block).map_err(io::Error::other)?)
        .total_sectors(sectors)
        .volume_id(serial)
        .volume_label(*b"BULKHEAD   ");
    let mut window = Window::new(disk, partition);
    fatfs::format_volume(&mut window, options)?;
    window.seek(SeekFrom::Start(0))?;
    let volume = fatfs::FileSystem::new(window, fatfs::FsOptions::new().time_provider(&EPOCH))?;
    let root = volume.root_dir();
    let mut file = root.create_dir("EFI")?.create_dir("BOOT")?.create_file("BOOTX64.EFI")?;
    file.write_all(boot_app)?;
    file.flush()?;
    drop(file);
    drop(root);
    volume.unmount()
}

/// Every time stamp is the first moment FAT can express: the day a disk was made is not part of it.
#[derive(Debug)]
struct Epoch;

static EPOCH: Epoch = Epoch;

impl fatfs::TimeProvider for Epoch {
    fn get_current_date(&self) -> fatfs::Date {
        fatfs::Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> fatfs::DateTime {
        let time = fatfs::Time { hour: 0, min: 0, sec: 0, millis: 0 };
        fatfs::DateTime { date: self.get_current_date(), time }
    }
}

/// A partition as something `fatfs` can write to.
struct Window<'a> {
    disk: &'a Disk,
    start: u64,
    len: u64,
    at: u64,
}

impl<'a> Window<'a> {
    fn new(disk: &'a Disk, partition: &Partition) -> Self {
        let block_size = disk.geometry.block_size;
        let start = partition.extent.first().byte_offset(block_size);
        Self { disk, start, len: partition.extent.bytes(block_size), at: 0 }
    }

    /// How many of `wanted` bytes lie inside, and where they are on the disk.
    fn clip(&self, wanted: usize) -> (usize, DiskOffset) {
        let room = usize::try_from(self.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        (wanted.min(room), DiskOffset(self.start.saturating_add(self.at)))
    }

    fn advance(&mut self, count: usize) -> usize {
        self.at = self.at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        count
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (count, at) = self.clip(buffer.len());
        self.disk.read(at, buffer.get_mut(..count).unwrap_or_default())?;
        Ok(self.advance(count))
    }
}

impl Write for Window<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (count, at) = self.clip(bytes.len());
        self.disk.write(at, bytes.get(..count).unwrap_or_default())?;
        Ok(self.advance(count))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

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
    let efi = find(&root, b"EFI        ").ok_or(NoBootApp::Missing)?;
    let boot = find(&volume.chain(efi.cluster, DIRECTORY_MAX)?, b"BOOT       ").ok_or(NoBootApp::Missing)?;
    let file = find(&volume.chain(boot.cluster, DIRECTORY_MAX)?, b"BOOTX64 EFI").ok_or(NoBootApp::Missing)?;
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
