//! A kernel in a guest's memory: an ELF file that starts by the PVH protocol or in 64-bit mode, or a Linux
//! `bzImage` (Documentation/arch/x86/boot.rst, 64-bit protocol).

use super::description::Description;
use super::layout::{ACPI, COMMAND_LINE, DEVICES, KERNEL, MEMORY_MAP, MODULES, START_INFO, ZERO_PAGE};
use super::memory::{Memory, Part, parts};
use crate::failure::Failure;
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::elf::start_info::{
    XEN_HVM_MEMMAP_TYPE_RAM, XEN_HVM_MEMMAP_TYPE_RESERVED, XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry,
    hvm_modlist_entry, hvm_start_info,
};
use linux_loader::loader::{BzImage, Elf, KernelLoader, KernelLoaderResult};
use std::fs::File;
use std::path::Path;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// Where and how the first processor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// In 32-bit mode without pages, with a `hvm_start_info`.
    Pvh(u64),
    /// In 64-bit mode, with a `boot_params`.
    Long(u64),
}

/// How far behind the start of a `bzImage` 64-bit code begins.
const LONG_ENTRY: u64 = 0x200;
/// What a boot loader without a number of its own calls itself.
const LOADER: u8 = 0xff;
/// `XLF_KERNEL_64` of `xloadflags`.
const HAS_LONG_ENTRY: u16 = 1;
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
const PAGE: u64 = 4096;
/// The version of `hvm_start_info` that has a map of memory.
const START_INFO_VERSION: u32 = 1;

/// An initrd in memory.
#[derive(Clone, Copy, Debug, Default)]
struct Initrd {
    at: u64,
    length: u64,
}

/// Loads what the description names, and tells it what there is.
///
/// # Errors
///
/// A file cannot be read, is no kernel, or does not fit.
pub fn load(description: &Description, memory: &Memory) -> Result<Entry, Failure> {
    let path = &description.kernel;
    let wrong = |error: &dyn std::fmt::Display| Failure::failed(format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let from = Some(GuestAddress(KERNEL));
    let is_elf = Elf::load(memory, None, &mut file, from);
    let loaded = match is_elf {
        Ok(loaded) => loaded,
        Err(error) if is_elf_file(path) => return Err(wrong(&error)),
        Err(_) => BzImage::load(memory, None, &mut file, from)
            .map_err(|error| wrong(&format!("it is no ELF file, and as a Linux bzImage: {error}")))?,
    };
    let initrd = description.initrd.as_deref().map(|initrd| place(initrd, memory, &loaded)).transpose()?;
    command_line(&description.command_line, memory)?;
    let told = Told {
        memory,
        map: parts(description.memory, description.pages),
        initrd: initrd.unwrap_or_default(),
    };
    let entry = match (loaded.setup_header, loaded.pvh_boot_cap) {
        (Some(header), _) if header.xloadflags & HAS_LONG_ENTRY == 0 => {
            return Err(wrong(&"it is no 64-bit kernel"));
        }
        (Some(header), _) => {
            told.by_linux(header)?;
            Entry::Long(loaded.kernel_load.0.saturating_add(LONG_ENTRY))
        }
        (None, PvhBootCapability::PvhEntryPresent(at)) => {
            told.by_pvh()?;
            Entry::Pvh(at.0)
        }
        (None, PvhBootCapability::PvhEntryNotPresent | PvhBootCapability::PvhEntryIgnored) => {
            told.by_linux(setup_header::default())?;
            Entry::Long(loaded.kernel_load.0)
        }
    };
    Ok(entry)
}

fn is_elf_file(path: &Path) -> bool {
    let mut start = [0; 4];
    File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start)).is_ok()
        && start == *b"\x7fELF"
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let why = Failure::io("read", path, error);
    match error.kind() == std::io::ErrorKind::PermissionDenied {
        // Also where that is root, who has set aside what makes it more than a user (`sandbox`).
        true => why.next("let the user that runs the guest read it."),
        false => why,
    }
}

fn does_not_fit(what: &str) -> Failure {
    Failure::failed(format!("{what} does not fit into the guest's memory"))
        .next("give the guest more `memory`")
}

/// Puts the initrd as high as a kernel looks for it, and not over the kernel.
fn place(path: &Path, memory: &Memory, kernel: &KernelLoaderResult) -> Result<Initrd, Failure> {
    let failed = |error: std::io::Error| unreadable(path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let low = memory.iter().next();
    let top = low.map_or(0, |low| low.start_addr().0.saturating_add(low.len())).min(DEVICES.start);
    let highest = kernel.setup_header.map(|header| header.initrd_addr_max).filter(|max| *max != 0);
    let top = highest.map_or(top, |max| top.min(u64::from(max).saturating_add(1)));
    let at = top.checked_sub(length).map(|at| at & !PAGE.wrapping_sub(1));
    // A packed kernel needs more when it is unpacked, and does not look whether something is there.
    let unpacked = kernel.setup_header.map_or(0, |header| u64::from(header.init_size));
    let end = kernel.kernel_end.max(kernel.kernel_load.0.saturating_add(unpacked));
    let at = at.filter(|at| end <= *at).ok_or_else(|| does_not_fit("the initrd"))?;
    let count = usize::try_from(length).map_err(|_| does_not_fit("the initrd"))?;
    memory
        .read_exact_volatile_from(GuestAddress(at), &mut file, count)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))?;
    Ok(Initrd { at, length })
}

fn command_line(text: &str, memory: &Memory) -> Result<(), Failure> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    let room = COMMAND_LINE.end.saturating_sub(COMMAND_LINE.start);
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= room) {
        let put = memory.write_slice(&bytes, GuestAddress(COMMAND_LINE.start));
        put.map_err(|_| does_not_fit("the command line"))
    } else {
        Err(Failure::usage(format!("the command line has more than {} bytes", room.saturating_sub(1))))
    }
}

/// What a kernel is told.
struct Told<'a> {
    memory: &'a Memory,
    map: Vec<Part>,
    initrd: Initrd,
}

impl Told<'_> {
    fn put<T: vm_memory::ByteValued>(&self, at: u64, what: T) -> Result<(), Failure> {
        let put = self.memory.write_obj(what, GuestAddress(at));
        put.map_err(|_| does_not_fit("what a kernel is told"))
    }

    fn by_pvh(&self) -> Result<(), Failure> {
        let entries = (0_u64..).zip(&self.map);
        for (number, part) in entries {
            let kind = if part.is_free { XEN_HVM_MEMMAP_TYPE_RAM } else { XEN_HVM_MEMMAP_TYPE_RESERVED };
            let (addr, size) = (part.start, part.length);
            let entry = hvm_memmap_table_entry { addr, size, type_: kind, reserved: 0 };
            self.put(MEMORY_MAP.saturating_add(number.saturating_mul(24)), entry)?;
        }
        let Initrd { at, length } = self.initrd;
        self.put(MODULES, hvm_modlist_entry { paddr: at, size: length, ..hvm_modlist_entry::default() })?;
        let info = hvm_start_info {
            magic: XEN_HVM_START_MAGIC_VALUE,
            version: START_INFO_VERSION,
            nr_modules: u32::from(length != 0),
            modlist_paddr: MODULES,
            cmdline_paddr: COMMAND_LINE.start,
            rsdp_paddr: ACPI.start,
            memmap_paddr: MEMORY_MAP,
            memmap_entries: u32::try_from(self.map.len()).unwrap_or(0),
            ..hvm_start_info::default()
        };
        self.put(START_INFO, info)
    }

    fn by_linux(&self, header: setup_header) -> Result<(), Failure> {
        let mut told = boot_params { hdr: header, acpi_rsdp_addr: ACPI.start, ..boot_params::default() };
        told.hdr.type_of_loader = LOADER;
        told.hdr.cmd_line_ptr = low(COMMAND_LINE.start);
        told.hdr.cmdline_size = low(COMMAND_LINE.end.saturating_sub(COMMAND_LINE.start).saturating_sub(1));
        (told.hdr.ramdisk_image, told.hdr.ramdisk_size) = (low(self.initrd.at), low(self.initrd.length));
        let mut table = told.e820_table;
        for (entry, part) in table.iter_mut().zip(&self.map) {
            let kind = if part.is_free { E820_RAM } else { E820_RESERVED };
            *entry = boot_e820_entry { addr: part.start, size: part.length, r#type: kind };
        }
        told.e820_table = table;
        told.e820_entries = u8::try_from(self.map.len()).unwrap_or(0);
        self.put(ZERO_PAGE, told)
    }
}

/// An address or length below 4 GiB: everything that is put somewhere here is.
fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
