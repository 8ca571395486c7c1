//! Builds what a boot partition starts: Debian's kernel, its command line, and an initramfs with busybox, the
//! modules a node needs, the static `bulkhead` and `node/init`. Equal inputs give equal bytes.
//!
//! The large part is packed once (`base`); version and variant follow it in a second, small archive, so that
//! another version of the same content is a matter of milliseconds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::command::output;
use super::guest_image::guest_image;
use super::initramfs::{Archive, Compression, Entry, align, compress};
use super::kernel::{self, Kernel};
use super::modules::{Module, in_load_order};
use super::progress::step;
use super::workspace::{Workspace, write_atomically};
use super::{elf, programs};

/// The kernel's command line. The serial console comes last: it becomes `/dev/console`. `panic=3`: a node
/// whose kernel fails restarts, so that the boot application can count it.
const COMMAND_LINE: &str = "console=tty0 console=ttyS0,115200 loglevel=4 panic=3";

/// Seconds until a watchdog that nobody pets resets the machine: ten times what a start of the agent takes
/// under emulation. Intel's chipsets (and QEMU's q35) reset at its second expiry, after twice this time.
pub const WATCHDOG_SECONDS: u32 = 15;

/// What the Intel watchdog hangs on, in old chipsets and in new ones, with what it needs itself: loaded
/// before it and without its parameters.
const CHIPSET: &[&str] = &["lpc_ich", "i2c_i801", "intel_pmc_bxt", "iTCO_vendor_support", "watchdog"];

/// Watchdogs: Intel chipsets (and QEMU's q35), QEMU's PCI card, AMD chipsets. All take the same two
/// parameters.
const WATCHDOGS: &[&str] = &["iTCO_wdt", "i6300esb", "sp5100_tco"];

/// Disks, networks, consoles and file systems that a node may have.
const DEVICES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "nvme",
    "ahci",
    "sd_mod",
    "e1000e",
    "igb",
    "nbd",
    "crc32c_generic",
    "ext4",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "efivarfs",
];

/// What a node needs for guests' networks.
const GUESTS: &[&str] = &["tun", "bridge"];

/// What the node does with what it is: the good image, or one of the faults it must come back from (F45-F49).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Variant {
    /// Starts the agent, which confirms it.
    Good,
    /// Spins before the agent: the watchdog must end it.
    Hang,
    /// The kernel panics.
    Panic,
    /// Restarts at once.
    RebootLoop,
    /// Starts, but a health check fails.
    Unhealthy,
}

impl Variant {
    /// Its name on the command line, in file names, and of its folder below `node/variants`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Hang => "hang",
            Self::Panic => "panic",
            Self::RebootLoop => "reboot-loop",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Good, or which fault.
    pub variant: Variant,
    /// The image's version.
    pub version: u64,
    /// How the initramfs is packed.
    pub compression: Compression,
    /// Seconds until an unpetted watchdog resets the machine, as armed by `node/init`.
    pub watchdog_seconds: u32,
    /// Words to add to the command line.
    pub extra: String,
    /// Folders below `qemu-tests/node/overlays` to add.
    pub overlays: Vec<String>,
    /// Programs of this machine to add, with the libraries they load.
    pub programs: Vec<PathBuf>,
    /// Whether what a guest boots is in it: `/guest/vmlinuz` and `/guest/initrd`.
    pub has_guest: bool,
}

impl Recipe {
    /// An image as a node gets it.
    #[must_use]
    pub fn new(variant: Variant, version: u64) -> Self {
        Self {
            variant,
            version,
            compression: Compression::Zstd,
            watchdog_seconds: WATCHDOG_SECONDS,
            extra: String::new(),
            overlays: Vec::new(),
            programs: Vec::new(),
            has_guest: false,
        }
    }

    /// Its name in file names, `good-v1`, with those of its overlays and programs: `good-v1-shell`.
    #[must_use]
    pub fn name(&self) -> String {
        let programs = self.programs.iter().filter_map(|path| path.file_name()?.to_str());
        let guest = self.has_guest.then_some("guest");
        let more = self.overlays.iter().map(String::as_str).chain(programs).chain(guest);
        let overlays = more.fold(String::new(), |all, name| format!("{all}-{name}"));
        format!("{}-v{}{overlays}", self.variant.name(), self.version)
    }
}

/// The parts of a node image, ready for `bulkhead image build` or for QEMU's `-kernel`.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The EFI-stub kernel.
    pub kernel: PathBuf,
    /// The packed initramfs.
    pub initrd: PathBuf,
    /// The command line as text.
    pub command_line: String,
    /// The same in a file.
    pub command_line_file: PathBuf,
}

/// Builds the parts below `target/bulkhead/node/`, in the folder that has the recipe's name.
///
/// # Errors
/// When one of the inputs cannot be had, or a file cannot be written.
pub fn parts(workspace: &Workspace, recipe: &Recipe) -> Result<Parts> {
    let kernel = kernel::fetch(workspace, false)?;
    let bulkhead = programs::bulkhead(workspace)?;
    let folder = workspace.out().join("node").join(recipe.name());
    let initrd = folder.join("initrd");
    step(&format!("build: initramfs, {} {}", recipe.variant.name(), recipe.version), || {
        let (mut content, reused) = base(workspace, &kernel, &bulkhead, recipe.compression)?;
        align(&mut content);
        content.extend(overlay(workspace, &kernel, recipe)?.pack()?);
        write_atomically(&initrd, &content)?;
        let note = if reused { ", base up to date" } else { "" };
        Ok(format!("{} KiB{note}", content.len().div_ceil(1024)))
    })?;
    let watchdog = recipe.watchdog_seconds;
    let command_line =
        format!("{COMMAND_LINE} bulkhead.watchdog={watchdog} {}", recipe.extra).trim_end().to_owned();
    let command_line_file = folder.join("cmdline");
    write_atomically(&command_line_file, command_line.as_bytes())?;
    Ok(Parts { kernel: kernel.vmlinuz, initrd, command_line, command_line_file })
}

/// The packed part that all variants share. Packing takes seconds, so the last one is kept beside what it was
/// packed from, and used again while that is the same.
fn base(
    workspace: &Workspace,
    kernel: &Kernel,
    bulkhead: &Path,
    compression: Compression,
) -> Result<(Vec<u8>, bool)> {
    let plain = base_archive(workspace, kernel, bulkhead)?.pack()?;
    let name = format!("base-{compression:?}").to_lowercase();
    let source = workspace.out().join("node").join(format!("{name}.cpio"));
    let packed = source.with_extension("packed");
    if fs::read(&source).is_ok_and(|old| old == plain)
        && let Ok(content) = fs::read(&packed)
    {
        return Ok((content, true));
    }
    // The source is removed first and comes back last: a crash in between leaves nothing that looks reusable.
    match fs::remove_file(&source) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let content = compress(plain.clone(), compression)?;
    write_atomically(&packed, &content)?;
    write_atomically(&source, &plain)?;
    Ok((content, false))
}

fn base_archive(workspace: &Workspace, kernel: &Kernel, bulkhead: &Path) -> Result<Archive> {
    let mut archive = Archive::default();
    for folder in ["dev", "etc", "proc", "root", "run", "sys", "tmp"] {
        archive.add(folder, Entry::Directory);
    }
    // The kernel gives /init its console from here, before /dev is mounted.
    archive.add("dev/console", Entry::Device { mode: 0o600, major: 5, minor: 1 });
    archive.file("init", 0o755, read(&workspace.root().join("qemu-tests/node/init"))?);
    archive.file("bin/bulkhead", 0o755, read(bulkhead)?);
    busybox(&mut archive)?;
    modules(&mut archive, kernel)?;
    Ok(archive)
}

/// Adds busybox with all it can do.
///
/// # Errors
/// When it is not installed, or needs libraries.
pub(super) fn busybox(archive: &mut Archive) -> Result<()> {
    let program = Path::new("/bin/busybox");
    let content = read(program)?;
    anyhow::ensure!(elf::is_static(&content)?, "{} is not static; install busybox-static", program.display());
    archive.file("bin/busybox", 0o755, content);
    for applet in output(Command::new(program).arg("--list"))?.lines().filter(|name| *name != "busybox") {
        archive.add(&format!("bin/{applet}"), Entry::Symlink { target: "busybox".to_owned() });
    }
    Ok(())
}

/// The module files, and per purpose a list in load order, which `node/init` reads.
fn modules(archive: &mut Archive, kernel: &Kernel) -> Result<()> {
    let lists: [(&str, &[&str]); 5] = [
        ("chipset", CHIPSET),
        ("watchdog", WATCHDOGS),
        ("devices", DEVICES),
        ("kvm-amd", &["kvm_amd"]),
        ("kvm-intel", &["kvm_intel"]),
    ];
    let chipset = in_load_order(kernel, CHIPSET)?;
    for (purpose, wanted) in lists {
        // Loaded already when any later list is.
        let is_loaded = |module: &Module| purpose != "chipset" && chipset.contains(module);
        let modules = in_load_order(kernel, wanted)?.into_iter().filter(|module| !is_loaded(module));
        add_modules(archive, purpose, modules)?;
    }
    Ok(())
}

fn add_modules(archive: &mut Archive, purpose: &str, modules: impl Iterator<Item = Module>) -> Result<()> {
    let mut list = String::new();
    for Module { name, path } in modules {
        archive.file(&format!("lib/modules/{name}.ko"), 0o644, read(&path)?);
        list.push_str(&format!("{name}\n"));
    }
    archive.file(&format!("etc/bulkhead/modules.d/{purpose}"), 0o644, list);
    Ok(())
}

fn overlay(workspace: &Workspace, kernel: &Kernel, recipe: &Recipe) -> Result<Archive> {
    let mut archive = Archive::default();
    archive.file("etc/bulkhead/version", 0o644, format!("{} ({})\n", recipe.version, recipe.variant.name()));
    match recipe.variant {
        Variant::Good => {}
        Variant::Hang | Variant::Panic | Variant::RebootLoop | Variant::Unhealthy => {
            let root = workspace.root().join("qemu-tests/node/variants").join(recipe.variant.name());
            add_tree(&mut archive, &root, "")?;
        }
    }
    for name in &recipe.overlays {
        add_tree(&mut archive, &workspace.root().join("qemu-tests/node/overlays").join(name), "")?;
    }
    for program in &recipe.programs {
        add_program(&mut archive, program)?;
    }
    if recipe.has_guest {
        let guest = guest_image(workspace)?;
        archive.file("guest/vmlinuz", 0o644, read(&guest.kernel)?);
        archive.file("guest/initrd", 0o644, read(&guest.initrd)?);
        add_modules(&mut archive, "guests", in_load_order(kernel, GUESTS)?.into_iter())?;
    }
    Ok(archive)
}

/// A program and the libraries that its loader finds for it, at the same paths as here.
fn add_program(archive: &mut Archive, program: &Path) -> Result<()> {
    let name = program.file_name().and_then(|name| name.to_str()).context("a program without a name")?;
    archive.file(&format!("bin/{name}"), 0o755, read(program)?);
    for line in output(Command::new("ldd").arg(program))?.lines() {
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, or the loader alone with its path.
        let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
        archive.file(path.trim_start_matches('/'), 0o755, read(Path::new(path))?);
    }
    Ok(())
}

fn add_tree(archive: &mut Archive, folder: &Path, below: &str) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            add_tree(archive, &entry.path(), &format!("{name}/"))?;
            continue;
        }
        // Only the executable bit is kept: the others depend on the umask of whoever cloned this.
        let executable = entry.metadata()?.permissions().mode() & 0o100 != 0;
        archive.file(&name, if executable { 0o755 } else { 0o644 }, read(&entry.path())?);
    }
    Ok(())
}

/// A file, named when it cannot be read.
///
/// # Errors
/// It cannot.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
