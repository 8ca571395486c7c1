//! The machine this runs on: which disk it booted from, which slot, which boot.
//!
//! All of it is found below a root directory, `/` unless told otherwise, so that it can be tried
//! on any machine.

use crate::disk::open::{Access, Disk, Kind};
use crate::disk::state::{NodeDisk, read_table};
use crate::failure::Failure;
use bulkhead_core::bcb::state::BootId;
use bulkhead_core::boot::operations::Running;
use bulkhead_core::gpt::layout::Layout;
use std::path::{Path, PathBuf};

/// The variable in which a boot loader leaves the identity of the ESP it came from: the Boot Loader
/// Interface, <https://systemd.io/BOOT_LOADER_INTERFACE/>.
const LOADER_DEVICE: &str =
    "sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// The variable in which the boot application leaves the same words as on the command line, for
/// images whose EFI binary brings a command line of its own.
const RUNNING: &str = "sys/firmware/efi/efivars/BulkheadRunning-6d9c1b52-3f0e-4c57-9a41-b5e1c0defa1e";
/// Attributes in front of the value of a variable in efivarfs.
const EFIVAR_ATTRIBUTES: usize = 4;

/// The machine.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The machine whose `/proc`, `/sys`, `/dev` and `/etc` are below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// A path below the root.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The boot that is running, as the boot application put it on the kernel's command line, or,
    /// where the image has a command line of its own, into a variable.
    pub fn running(&self) -> Option<Running> {
        let line = std::fs::read_to_string(self.path("proc/cmdline")).unwrap_or_default();
        running_in(&line).or_else(|| running_in(&self.variable(RUNNING)?))
    }

    /// Identity of the ESP the boot loader came from, in lower case.
    fn loader_device(&self) -> Option<String> {
        self.variable(LOADER_DEVICE).map(|text| text.to_ascii_lowercase())
    }

    /// The text of an EFI variable.
    fn variable(&self, path: &str) -> Option<String> {
        let bytes = std::fs::read(self.path(path)).ok()?;
        let units =
            bytes.get(EFIVAR_ATTRIBUTES..)?.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
        String::from_utf16(&units.take_while(|unit| *unit != 0).collect::<Vec<_>>()).ok()
    }

    /// Whether the machine booted from this disk: the firmware says so, or, where it says nothing,
    /// the boot that is running is the last one the disk recorded. A file is never booted from.
    pub fn booted_from(&self, disk: &Disk, node: &NodeDisk) -> bool {
        if disk.kind == Kind::Image {
            return false;
        }
        match self.loader_device() {
            Some(device) => device == node.layout.esp.unique_guid.to_string(),
            None => self.last_boot_is(node),
        }
    }

    fn last_boot_is(&self, node: &NodeDisk) -> bool {
        let last = node.copies.newest().and_then(|stored| Some((stored.bcb.boot, stored.bcb.booted?)));
        self.running().is_some_and(|running| last == Some((running.boot, running.slot)))
    }

    /// The boot that is running, when the machine booted from this very disk.
    pub fn running_from(&self, disk: &Disk, node: &NodeDisk) -> Option<Running> {
        self.running().filter(|_| self.booted_from(disk, node))
    }

    /// The disk this machine booted from.
    ///
    /// # Errors
    ///
    /// No disk, or more than one, can be it.
    pub fn find_disk(&self) -> Result<PathBuf, Failure> {
        let name_it = "name the disk, such as /dev/nvme0n1, or the file that holds one.";
        if self.running().is_none() && self.loader_device().is_none() {
            return Err(Failure::usage(
                "this machine was not booted by Bulkhead, so there is no disk to take by default",
            )
            .next(name_it));
        }
        let hits: Vec<PathBuf> = self.disks().into_iter().filter(|path| self.is_booted_disk(path)).collect();
        match hits.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(Failure::failed("the disk this machine booted from was not found").next(name_it)),
            [_, ..] => {
                let names: Vec<String> = hits.iter().map(|path| path.display().to_string()).collect();
                let what = format!("this machine may have booted from any of {}", names.join(", "));
                Err(Failure::failed(what).next(name_it))
            }
        }
    }

    fn is_booted_disk(&self, path: &Path) -> bool {
        let Ok(disk) = Disk::open(path, Access::Read) else { return false };
        let layout = read_table(&disk).ok().map(|found| Layout::find(&found.table, disk.geometry.block_size));
        if !matches!(layout, Some(Ok(_))) {
            return false;
        }
        NodeDisk::read(&disk).is_ok_and(|node| match self.loader_device() {
            Some(device) => device == node.layout.esp.unique_guid.to_string(),
            None => self.last_boot_is(&node),
        })
    }

    /// All whole disks, by name.
    fn disks(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path("sys/block")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        let devices = names.into_iter().filter(|name| {
            // No node boots from memory, a loop device, a floppy or a CD, and probing those takes
            // seconds or loads modules.
            let name = name.to_string_lossy();
            !["loop", "ram", "zram", "fd", "sr"].iter().any(|prefix| name.starts_with(prefix))
        });
        devices.map(|name| self.path("dev").join(name)).collect()
    }
}

/// The last slot and boot that `line` names.
fn running_in(line: &str) -> Option<Running> {
    let value =
        |key: &str| line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)).next_back();
    let slot = value("bulkhead.slot=")?.parse().ok()?;
    let boot = BootId(u64::from_str_radix(value("bulkhead.boot=")?, 16).ok()?);
    Some(Running { slot, boot })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_core::slot::SlotId;

    fn machine(root: &Path, line: &str) -> Machine {
        std::fs::create_dir_all(root.join("proc")).unwrap();
        std::fs::write(root.join("proc/cmdline"), line).unwrap();
        Machine::new(root)
    }

    #[test]
    fn the_command_line_names_slot_and_boot_or_nothing() {
        let root = tempfile::tempdir().unwrap();
        let running = |line: &str| machine(root.path(), line).running();
        let b = Some(Running { slot: SlotId::B, boot: BootId(0x1f) });
        assert_eq!(running("quiet bulkhead.slot=b bulkhead.boot=000000000000001f\n"), b);
        // The boot application appends: what stands last was not put there by the image.
        assert_eq!(running("bulkhead.slot=a bulkhead.boot=1 x bulkhead.slot=b bulkhead.boot=1f"), b);
        for line in [
            "",
            "quiet",
            "bulkhead.slot=b",
            "bulkhead.slot=c bulkhead.boot=1",
            "bulkhead.slot=b bulkhead.boot=g",
        ] {
            assert_eq!(running(line), None, "{line}");
        }
        assert_eq!(Machine::new(Path::new("/no/such/root")).running(), None);
    }

    #[test]
    fn the_loader_device_is_a_guid_in_lower_case() {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(root.path(), "");
        assert_eq!(machine.loader_device(), None);
        let path = root.path().join(LOADER_DEVICE);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B\0".encode_utf16().flat_map(u16::to_le_bytes);
        std::fs::write(&path, [6, 0, 0, 0].into_iter().chain(text).collect::<Vec<u8>>()).unwrap();
        assert_eq!(machine.loader_device().unwrap(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        for junk in [&[][..], &[6, 0], &[6, 0, 0, 0, 0, 0xd8]] {
            std::fs::write(&path, junk).unwrap();
            assert!(machine.loader_device().is_none_or(|device| device.is_empty()));
        }
    }

    #[test]
    fn the_running_boot_is_on_the_command_line_else_in_the_variable() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, bytes: &[u8]| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let running = || Machine::new(root.path()).running().map(|running| (running.slot, running.boot.0));
        assert_eq!(running(), None);
        let mut variable = vec![6, 0, 0, 0];
        let text = "bulkhead.slot=b bulkhead.boot=000000000000001f";
        variable.extend(text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        put(RUNNING, &variable);
        put("proc/cmdline", b"quiet console=ttyS0");
        assert_eq!(running(), Some((bulkhead_core::slot::SlotId::B, 31)));
        put("proc/cmdline", b"bulkhead.slot=b bulkhead.slot=a bulkhead.boot=0000000000000020");
        assert_eq!(running(), Some((bulkhead_core::slot::SlotId::A, 32)));
    }
}
