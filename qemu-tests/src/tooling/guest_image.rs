//! What a Linux guest of the tests boots: the same kernel as nodes, and an initramfs with busybox, the
//! modules of virtio over memory, and over PCI for QEMU, and `guest/init`.

use std::path::PathBuf;

use anyhow::Result;

use super::initramfs::{Archive, Compression, Entry, compress};
use super::kernel;
use super::modules::in_load_order;
use super::node_image::{busybox, read};
use super::workspace::{Workspace, write_atomically};

/// What a guest needs for its devices, ours or QEMU's, to hear of its power button, and to beat.
const MODULES: &[&str] = &[
    "virtio_mmio",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "virtio_console",
    "button",
    "evdev",
    "ib700wdt",
];

/// A guest's kernel and initramfs.
#[derive(Clone, Debug)]
pub struct GuestImage {
    /// The kernel, a `bzImage`.
    pub kernel: PathBuf,
    /// The packed initramfs.
    pub initrd: PathBuf,
}

/// Builds them below `target/bulkhead/guest/`.
///
/// # Errors
/// When one of the inputs cannot be had, or a file cannot be written.
pub fn guest_image(workspace: &Workspace) -> Result<GuestImage> {
    let kernel = kernel::fetch(workspace, false)?;
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "sys", "tmp"] {
        archive.add(folder, Entry::Directory);
    }
    archive.add("dev/console", Entry::Device { mode: 0o600, major: 5, minor: 1 });
    archive.file("init", 0o755, read(&workspace.root().join("qemu-tests/guest/init"))?);
    busybox(&mut archive)?;
    let mut list = String::new();
    for module in in_load_order(&kernel, MODULES)? {
        archive.file(&format!("lib/modules/{}.ko", module.name), 0o644, read(&module.path)?);
        list.push_str(&format!("{}\n", module.name));
    }
    archive.file("etc/modules", 0o644, list);
    let initrd = workspace.out().join("guest/initrd");
    write_atomically(&initrd, &compress(archive.pack()?, Compression::Zstd)?)?;
    Ok(GuestImage { kernel: kernel.vmlinuz, initrd })
}
