//! Whether somebody else uses a disk, and whether it holds something that is not ours.
//!
//! Block devices are claimed with `O_EXCL`: the kernel refuses when the disk, or a partition of
//! it, is mounted, is swap, or belongs to a volume group or an array, and keeps others from mounting
//! it while we write.

use super::open::{Disk, Kind};
use super::state::read_table;
use crate::failure::Failure;
use bulkhead_core::gpt::layout::{Layout, Role};
use bulkhead_core::plan::DiskOffset;
use std::fs::{File, OpenOptions};
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A disk or partition nobody else may use while this lives.
#[derive(Debug)]
pub struct Claim {
    _files: Vec<File>,
}

/// Claims the whole disk; a file that holds a disk has nobody to claim it from.
///
/// # Errors
///
/// It is in use, by what as far as the kernel tells.
pub fn claim_disk(disk: &Disk) -> Result<Claim, Failure> {
    match disk.kind {
        Kind::Image => Ok(Claim { _files: Vec::new() }),
        Kind::Device => Ok(Claim { _files: vec![claim(&disk.path)?] }),
    }
}

/// Claims only the partitions of `roles`: what else is mounted from a running node's disk does not
/// stand in the way of its update.
///
/// # Errors
///
/// One of them is in use.
pub fn claim_partitions(disk: &Disk, layout: &Layout, roles: &[Role]) -> Result<Claim, Failure> {
    let mut files = Vec::new();
    if disk.kind == Kind::Device {
        for role in roles {
            let Some(partition) = layout.partition(*role) else { continue };
            let start = partition.extent.first().byte_offset(layout.block_size);
            if let Some(device) = partition_device(disk, start) {
                files.push(claim(&device)?);
            }
        }
    }
    Ok(Claim { _files: files })
}

fn claim(path: &Path) -> Result<File, Failure> {
    let excl = i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(excl).open(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::ResourceBusy {
            let users = users(path);
            let by = if users.is_empty() { String::new() } else { format!(": {}", users.join(", ")) };
            let next = "unmount it (`lsblk` shows what holds it), then try again.";
            Failure::refused(format!("{} is in use{by}", path.display())).next(next)
        } else {
            Failure::io("claim", path, &error)
        }
    })
}

/// The sysfs directory of a block device.
fn sysfs(path: &Path) -> Option<PathBuf> {
    let number = std::fs::metadata(path).ok()?.st_rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

/// The partition of `disk` that starts at byte `start`; `None` where the kernel has not split the
/// disk into partitions (a disk without its partitions scanned cannot have them mounted).
pub fn partition_device(disk: &Disk, start: u64) -> Option<PathBuf> {
    let directory = sysfs(&disk.path)?;
    for entry in std::fs::read_dir(directory).ok()?.flatten() {
        let sectors = std::fs::read_to_string(entry.path().join("start"));
        let is_partition = entry.path().join("partition").exists();
        let sectors = sectors.ok().and_then(|text| text.trim().parse::<u64>().ok());
        if is_partition && sectors.and_then(|sectors| sectors.checked_mul(512)) == Some(start) {
            return Some(Path::new("/dev").join(entry.file_name()));
        }
    }
    None
}

/// Who uses the device: mount points and holders, as far as the kernel tells.
fn users(path: &Path) -> Vec<String> {
    let mut users = Vec::new();
    let Some(directory) = sysfs(path) else { return users };
    let mut devices = vec![directory.clone()];
    let children = std::fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
    devices.extend(children.filter(|path| path.join("partition").exists()));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for device in devices {
        let number = std::fs::read_to_string(device.join("dev")).unwrap_or_default();
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(2);
            if fields.next() == Some(number.trim())
                && let Some(at) = fields.nth(1)
            {
                users.push(format!("mounted at {at}"));
            }
        }
        let holders = std::fs::read_dir(device.join("holders")).into_iter().flatten().flatten();
        users.extend(holders.map(|entry| format!("held by {}", entry.file_name().display())));
    }
    users
}

/// Bytes at each end of a disk in which partition tables and file systems leave their marks.
pub const ENDS: u64 = 1 << 20;

/// Refuses a disk that holds something that is not Bulkhead's.
///
/// # Errors
///
/// What it holds, as far as it can be told.
pub fn check_ours_or_empty(disk: &Disk) -> Result<(), Failure> {
    let holds = match read_table(disk) {
        Ok(found) if Layout::find(&found.table, disk.geometry.block_size).is_ok() => return Ok(()),
        Ok(found) => format!("a partition table with {} partitions", found.table.partitions.len()),
        Err(_) => match foreign(disk).map_err(|error| Failure::io("read", &disk.path, &error))? {
            None => return Ok(()),
            Some(name) => name.to_owned(),
        },
    };
    let what = format!("{} is not empty and not a Bulkhead disk: it holds {holds}", disk.path.display());
    Err(Failure::refused(what).next("check that it is the disk you mean; `--force` overwrites all it holds."))
}

/// Whether a disk looks as if it were taken out and put in: a card in a reader, or on the bus of such.
pub fn is_removable(disk: &Disk) -> bool {
    let Some(directory) = sysfs(&disk.path) else { return false };
    let says = |file: &str, word: &str| {
        std::fs::read_to_string(directory.join(file)).is_ok_and(|text| text.trim() == word)
    };
    // A slot of the machine itself counts as fixed for the kernel, whatever is in it; a chip on its board is
    // of type MMC.
    says("removable", "1") || says("device/type", "SD")
}

/// What a disk holds that is not ours, in words; `None` when it is empty.
///
/// # Errors
///
/// It cannot be read.
pub fn holds(disk: &Disk) -> Result<Option<String>, Failure> {
    match read_table(disk) {
        Ok(found) => {
            let count = found.table.partitions.len();
            Ok(Some(format!("a partition table with {count} partitions")))
        }
        Err(_) => match foreign(disk) {
            Ok(found) => Ok(found.map(str::to_owned)),
            Err(error) => Err(Failure::io("read", &disk.path, &error)),
        },
    }
}

/// A name for what the ends of the disk hold; `None` when they are empty.
fn foreign(disk: &Disk) -> std::io::Result<Option<&'static str>> {
    let len = usize::try_from(ENDS.min(disk.bytes())).unwrap_or(0);
    let mut head = vec![0; len];
    disk.read(DiskOffset(0), &mut head)?;
    let mut tail = vec![0; len];
    disk.read(DiskOffset(disk.bytes().saturating_sub(ENDS)), &mut tail)?;
    let known: [(usize, &[u8], &str); 9] = [
        (512, b"EFI PART", "a damaged partition table"),
        (4096, b"EFI PART", "a damaged partition table"),
        (0, b"LUKS\xba\xbe", "a LUKS volume"),
        (512, b"LABELONE", "an LVM physical volume"),
        (0x438, b"\x53\xef", "an ext file system"),
        (0, b"XFSB", "an XFS file system"),
        (0x1_0040, b"_BHRfS_M", "a btrfs file system"),
        (4086, b"SWAPSPACE2", "swap space"),
        (510, b"\x55\xaa", "a boot sector or an MBR partition table"),
    ];
    let hit = known.iter().find(|(at, magic, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    let empty = head.iter().chain(&tail).all(|byte| *byte == 0);
    Ok(hit.map(|(_, _, name)| *name).or((!empty).then_some("data of an unknown kind")))
}
