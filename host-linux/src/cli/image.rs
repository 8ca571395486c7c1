//! `bulkhead image`: keys, images, the boot application, disks.

use super::{Common, image_disk, image_flash, trust};
use crate::failure::Failure;
use crate::image::build::{Contents, Draft, partial};
use crate::image::verify::{ImageFile, verify};
use crate::image::{boot_app, keys};
use crate::output::{Report, size};
use bulkhead_core::container::header::Header;
use bulkhead_core::container::image::{ImageVersion, SecurityVersion};
use bulkhead_core::container::trust::Key;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Keygen(Keygen),
    Build(Build),
    Inspect(Inspect),
    Verify(Verify),
    BootApp(BootApp),
    Disk(Box<image_disk::MakeDisk>),
    Flash(image_flash::FlashArgs),
    Repair(image_flash::RepairArgs),
}

pub(super) fn run(verb: Verb, common: &Common) -> Result<Report, Failure> {
    match verb {
        Verb::Keygen(args) => keygen(&args),
        Verb::Build(args) => build(&args, common),
        Verb::Inspect(args) => inspect(&args),
        Verb::Verify(args) => verify_image(&args, common),
        Verb::BootApp(args) => patch_boot_app(&args),
        Verb::Disk(args) => image_disk::run(&args, common),
        Verb::Flash(args) => image_flash::flash(&args, common),
        Verb::Repair(args) => image_flash::repair(&args, common),
    }
}

/// Make a key pair that signs images
///
/// Makes NAME.key (readable by you only; keep it off the nodes) and NAME.pub, in PEM form.
///
/// Example:
///   bulkhead image keygen --out plant
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Keygen {
    /// Path of the pair without its endings
    #[arg(long, value_name = "NAME")]
    out: PathBuf,
}

fn keygen(args: &Keygen) -> Result<Report, Failure> {
    let key = keys::generate()?;
    let (secret, public) = keys::save(&key, &args.out)?;
    let id = Key { public: key.verifying_key().to_bytes(), revoked: false }.id().to_string();
    let text =
        format!("Wrote {} (keep it secret) and {}.\nKey id {id}\n", secret.display(), public.display());
    Ok(Report::new(text, json!({ "ok": true, "key": secret, "public": public, "key_id": id })))
}

/// Make a signed image from a kernel or a unified kernel image
///
/// Makes a signed image container for a boot slot. The same inputs give the same bytes.
///
/// Examples:
///   bulkhead image build --efi vmlinuz --initrd initrd.img --cmdline 'console=ttyS0' \
///       --version 1 --security-version 1 --key plant.key --out node-1.img
///   bulkhead image build --efi node.efi --version 2 --security-version 1 --key plant.key \
///       --out node-2.img
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Build {
    /// Linux kernel with EFI stub, or unified kernel image
    #[arg(long, value_name = "FILE")]
    efi: PathBuf,
    /// Initrd; leave out for a unified kernel image
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Kernel command line, or @FILE to read it from a file
    #[arg(long, value_name = "TEXT|@FILE")]
    cmdline: Option<String>,
    /// Version of the image; larger is newer
    #[arg(long, value_name = "N")]
    version: u64,
    /// Security version; raise it when older images must not boot any more
    #[arg(long, value_name = "N")]
    security_version: u32,
    /// Private key that signs
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the image goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Check the inputs and say what would be written
    #[arg(long)]
    dry_run: bool,
}

fn build(args: &Build, common: &Common) -> Result<Report, Failure> {
    let key = keys::read_signing(&args.key)?;
    let command_line = args.cmdline.as_deref().map(command_line).transpose()?;
    let draft = Draft::new(Contents {
        efi: args.efi.clone(),
        initrd: args.initrd.clone(),
        command_line,
        version: ImageVersion(args.version),
        security: SecurityVersion(args.security_version),
    })?;
    let len = draft.container_len();
    if args.dry_run {
        let text = format!("Would write {} ({}). Nothing was written.\n", args.out.display(), size(len));
        return Ok(Report::new(text, json!({ "ok": true, "dry_run": true, "out": args.out, "bytes": len })));
    }
    let header = draft.write(&key, &args.out, common.voice())?;
    let text = format!("Wrote {} ({}).\n{}", args.out.display(), size(len), describe(&header));
    Ok(Report::new(text, json!({ "ok": true, "out": args.out, "bytes": len, "image": header_json(&header) })))
}

fn command_line(text: &str) -> Result<String, Failure> {
    let Some(path) = text.strip_prefix('@').map(Path::new) else { return Ok(text.to_owned()) };
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// What a header says, for people.
fn describe(header: &Header) -> String {
    let part = |len: u64| if len == 0 { "none".to_owned() } else { size(len) };
    format!(
        "  version           {}\n  security version  {}\n  EFI binary        {}\n  initrd            {}\n  \
         command line      {}\n  digest            {}\n  key id            {}\n",
        header.image.version,
        header.image.security,
        part(header.efi.len),
        part(header.initrd.len),
        part(header.command_line.len),
        header.image.digest,
        header.key,
    )
}

/// What a header says, for machines.
pub(super) fn header_json(header: &Header) -> serde_json::Value {
    json!({
        "version": header.image.version.0,
        "security_version": header.image.security.0,
        "digest": header.image.digest.to_string(),
        "key_id": header.key.to_string(),
        "container_bytes": header.container_len(),
        "efi_bytes": header.efi.len,
        "initrd_bytes": header.initrd.len,
        "cmdline_bytes": header.command_line.len,
    })
}

/// Show what an image or a disk holds; believes nothing
///
/// Shows an image's header, or a disk's partitions, slots and key table. Nothing is verified:
/// for that, `image verify` and `boot explain`.
///
/// Examples:
///   bulkhead image inspect node-2.img
///   bulkhead image inspect /dev/nvme0n1 --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Inspect {
    /// An image, a disk, or a file that holds one
    #[arg(value_name = "IMG|DISK")]
    what: PathBuf,
}

fn inspect(args: &Inspect) -> Result<Report, Failure> {
    match ImageFile::open(&args.what) {
        Ok(image) => {
            let header = image.header;
            let text = format!("{} is an image. Its signature was not checked.\n", image.path.display());
            let json = json!({ "ok": true, "kind": "image", "image": header_json(&header) });
            Ok(Report::new(text + &describe(&header), json))
        }
        Err(not_an_image) => image_disk::inspect(&args.what).map_err(|not_a_disk| {
            Failure::failed(format!("{}; nor is it a disk: {}", not_an_image.what, not_a_disk.what))
        }),
    }
}

/// Check an image against the keys you trust
///
/// Reads the whole image, checks its signature, its digest and its security version.
/// Exit code 0: good; 1: not good.
///
/// Example:
///   bulkhead image verify node-2.img --trust plant.pub
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Verify {
    /// The image
    #[arg(value_name = "IMG")]
    image: PathBuf,
    /// Public key that may have signed it; may be repeated
    #[arg(long, value_name = "PUB", required = true, num_args = 1..)]
    trust: Vec<PathBuf>,
    /// Lowest security version that is good
    #[arg(long, value_name = "N", default_value_t = 0)]
    floor: u32,
}

fn verify_image(args: &Verify, common: &Common) -> Result<Report, Failure> {
    let image = ImageFile::open(&args.image)?;
    let trusted = trust::given(&args.trust)?.map(|trusted| trusted.trust).unwrap_or_default();
    let bar = common.voice().bar("verifying", image.header.payload_len);
    let mut read = |at: u64, buffer: &mut [u8]| image.read(at, buffer);
    let floor = SecurityVersion(args.floor);
    let verified = verify(&mut read, &trusted, u64::MAX, floor, &mut |count| bar.inc(count));
    bar.finish_and_clear();
    let verified = verified.map_err(|why| {
        Failure::failed(format!("{} is not good: {why}", args.image.display())).left("It will not boot.")
    })?;
    let header = verified.header();
    let text = format!("{} is good.\n{}", args.image.display(), describe(header));
    Ok(Report::new(text, json!({ "ok": true, "image": header_json(header) })))
}

/// Put the trusted keys into the boot application
///
/// Writes a copy of the boot application that trusts these keys and no other. Do this before
/// you sign it for Secure Boot, so that the signature covers the keys.
///
/// Example:
///   bulkhead image boot-app --app BOOTX64.EFI --trust plant.pub --revoke old.pub \
///       --out BOOTX64.trusting.EFI
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct BootApp {
    /// The boot application as it was built
    #[arg(long, value_name = "FILE")]
    app: PathBuf,
    /// Public key whose images boot; may be repeated
    #[arg(long, value_name = "PUB", required = true, num_args = 1..)]
    trust: Vec<PathBuf>,
    /// Public key whose images must not boot any more; may be repeated
    #[arg(long, value_name = "PUB", num_args = 1..)]
    revoke: Vec<PathBuf>,
    /// Where the copy goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Check the inputs and say what would be written
    #[arg(long)]
    dry_run: bool,
}

fn patch_boot_app(args: &BootApp) -> Result<Report, Failure> {
    let app = read_app(&args.app)?;
    let mut all = keys::read_public(&args.trust, false)?;
    all.extend(keys::read_public(&args.revoke, true)?);
    let trust = boot_app::table(all)?;
    let patched = boot_app::with_trust(&app, &trust, &args.app)?;
    let list = keys_json(&trust.keys);
    if !args.dry_run {
        write_whole(&args.out, &patched)?;
    }
    let verb = if args.dry_run { "Would write" } else { "Wrote" };
    let (trusted, revoked) = (args.trust.len(), args.revoke.len());
    let text = format!("{verb} {}: {trusted} trusted, {revoked} revoked keys.\n", args.out.display());
    let json = json!({ "ok": true, "dry_run": args.dry_run, "out": args.out, "keys": list });
    Ok(Report::new(text, json))
}

/// Keys, for machines.
pub(super) fn keys_json(keys: &[Key]) -> Vec<serde_json::Value> {
    keys.iter().map(|key| json!({ "key_id": key.id().to_string(), "revoked": key.revoked })).collect()
}

/// Reads a boot application of at most 16 MiB.
pub(super) fn read_app(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = std::fs::File::open(path).map_err(|error| Failure::io("open", path, &error))?;
    let mut app = Vec::new();
    let limit = u64::try_from(crate::disk::esp::BOOT_APP_MAX).unwrap_or(u64::MAX);
    std::io::Read::read_to_end(&mut std::io::Read::take(file, limit), &mut app)
        .map_err(|error| Failure::io("read", path, &error))?;
    Ok(app)
}

/// Writes a small file whole or not at all.
fn write_whole(out: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let partial = partial(out);
    let write = || {
        let mut file = std::fs::File::create(&partial)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, out)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&partial);
        Failure::io("write", out, &error)
    })
}
