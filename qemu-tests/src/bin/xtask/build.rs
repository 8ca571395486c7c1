//! `cargo xtask boot-app`, `bulkhead`, `kernel`, `node-image`: the builders, one at a time.

use std::path::PathBuf;

use anyhow::Result;
use qemu_tests::tooling::initramfs::Compression;
use qemu_tests::tooling::node_image::{Recipe, Variant, WATCHDOG_SECONDS};
use qemu_tests::tooling::workspace::Workspace;
use qemu_tests::tooling::{kernel, programs, setup, signed};

/// Build the boot application for UEFI: target/bulkhead/BOOTX64.EFI.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask boot-app && ls -l target/bulkhead/BOOTX64.EFI")]
pub struct BootApp {}

/// Build the static `bulkhead` that runs in node images: target/bulkhead/bulkhead.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask bulkhead && target/bulkhead/bulkhead --help")]
pub struct Bulkhead {}

/// Fetch Debian's kernel without installing it: target/bulkhead/kernel/{vmlinuz,modules,release}. Downloads
/// stay in target/bulkhead/cache, or in $BULKHEAD_CACHE.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask kernel\n  cargo xtask kernel --update    take today's kernel"
)]
pub struct KernelArguments {
    /// Take the newest kernel that apt knows, even when one is here already.
    #[arg(long)]
    update: bool,
}

/// Build a signed node image, as `bulkhead image flash` takes it:
/// target/bulkhead/images/VARIANT-vVERSION.img. Its parts stay in target/bulkhead/node/.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask node-image --version 2\n  \
    cargo xtask node-image --version 3 --variant unhealthy\n  \
    cargo xtask node-image --version 1 --append 'bulkhead.shell'    with a shell on the console")]
pub struct NodeImage {
    /// A good image, or one with a fault that a node must come back from.
    #[arg(long, default_value = "good")]
    variant: Variant,
    /// The image's version.
    #[arg(long, default_value_t = 1)]
    version: u64,
    /// How the initramfs is packed.
    #[arg(long, default_value = "zstd")]
    compression: Compression,
    /// Seconds until an unpetted watchdog resets the machine.
    #[arg(long, default_value_t = WATCHDOG_SECONDS, value_name = "SECONDS")]
    watchdog: u32,
    /// Words to add to the kernel's command line.
    #[arg(long, default_value = "", value_name = "WORDS")]
    append: String,
    /// Folder of qemu-tests/node/overlays to add; may be repeated.
    #[arg(long, value_name = "NAME")]
    overlay: Vec<String>,
    /// Private key that signs; default: target/bulkhead/keys/development.key, made when it is not there.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub fn boot_app(workspace: &Workspace) -> Result<()> {
    println!("{}", programs::boot_app(workspace)?.display());
    Ok(())
}

pub fn bulkhead(workspace: &Workspace) -> Result<()> {
    println!("{}", programs::bulkhead(workspace)?.display());
    Ok(())
}

pub fn kernel(workspace: &Workspace, arguments: &KernelArguments) -> Result<()> {
    println!("{}", kernel::fetch(workspace, arguments.update)?.vmlinuz.display());
    Ok(())
}

pub fn node_image(workspace: &Workspace, arguments: &NodeImage) -> Result<()> {
    setup::everything(workspace)?;
    let recipe = Recipe {
        variant: arguments.variant,
        version: arguments.version,
        compression: arguments.compression,
        watchdog_seconds: arguments.watchdog,
        extra: arguments.append.clone(),
        overlays: arguments.overlay.clone(),
        programs: Vec::new(),
        has_guest: false,
    };
    programs::bulkhead(workspace)?;
    let key = match &arguments.key {
        Some(key) => key.clone(),
        None => signed::keys(workspace, "development")?.secret,
    };
    println!("{}", signed::image(workspace, &recipe, &key)?.display());
    Ok(())
}
