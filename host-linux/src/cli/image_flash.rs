//! `bulkhead image flash` and `bulkhead image repair`.

use super::target::{DiskArg, DryRun, Target, dry_run};
use super::{Common, trust};
use crate::disk::state::NodeDisk;
use crate::failure::Failure;
use crate::image::flash::Flash;
use crate::image::repair::{carry_out_mend, next};
use crate::image::verify::ImageFile;
use crate::output::Report;
use bulkhead_core::gpt::layout::Role;
use bulkhead_core::slot::SlotId;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Put an image into the slot that is not running
///
/// Puts an image into the slot that is not running, verifies it on the disk, and makes it the
/// one that is tried at the next boot. The other slot is not touched: a power cut at any moment
/// leaves the node bootable, and an image that does not prove itself is given up by itself.
///
/// The keys that count are those of the boot application on the disk, unless you name others.
///
/// Examples:
///   bulkhead image flash node-2.img                      (on the node)
///   bulkhead image flash node.disk node-2.img --dry-run  (a disk image)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, override_usage = "bulkhead image flash [OPTIONS] [DISK] <IMG>")]
pub(super) struct FlashArgs {
    /// The disk (default: the one this node booted from), and the image
    #[arg(value_name = "[DISK] IMG", required = true, num_args = 1..=2)]
    paths: Vec<PathBuf>,
    /// The slot; default: the one that is not running
    #[arg(long, value_name = "a|b")]
    slot: Option<SlotId>,
    /// Public key that may have signed it; may be repeated
    #[arg(long, value_name = "PUB")]
    trust: Vec<PathBuf>,
    #[command(flatten)]
    dry: DryRun,
}

pub(super) fn flash(args: &FlashArgs, common: &Common) -> Result<Report, Failure> {
    let (path, image) = match args.paths.as_slice() {
        [image] => (None, image),
        [disk, image] => (Some(disk.as_path()), image),
        [] | [_, _, _, ..] => return Err(Failure::usage("give a disk and an image, or an image")),
    };
    let image = ImageFile::open(image)?;
    let roles = [Role::Bcb, Role::BootA, Role::BootB];
    // Which slot is written is known only after the disk was read; the running one is never mounted.
    let target = Target::change_path(common, path, &roles, args.dry)?;
    let Target { disk, node, running, .. } = &target;
    let trusted = trust::for_disk(&common.machine(), disk, node, &args.trust)?;
    let voice = common.voice();
    let flash = Flash::check(disk, node, *running, args.slot, &image, &trusted.trust, voice)?;
    let (slot, version) = (flash.slot, flash.verified.image().version);
    let what = format!("flash version {version} into slot {slot} of {}", disk.path.display());
    if args.dry.dry_run {
        return Ok(dry_run(&what, &flash.steps()));
    }
    let bcb = flash.carry_out(disk, &image, &trusted.trust, voice)?;
    let tries = bcb.tries_max;
    let text = format!(
        "Slot {slot} holds version {version}, verified on the disk against the keys of {}.\n\
         It is tried at the next boot, at most {tries} times, until it is confirmed; slot {} is kept.\n",
        trusted.from,
        slot.other()
    );
    let json = json!({
        "ok": true,
        "dry_run": false,
        "slot": slot.to_string(),
        "version": version.0,
        "tries": tries.count(),
        "trust": trusted.from,
    });
    Ok(Report::new(text, json))
}

/// Mend what a disk has two of
///
/// Mends what a disk has two of: a bad copy of the partition table, a damaged or stale copy of
/// the boot control block, a missing confirmation mark. Data partitions are not touched.
///
/// Example:
///   bulkhead image repair /dev/nvme0n1 --dry-run
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    disk: DiskArg,
    /// Public key that may have signed its images; may be repeated
    #[arg(long, value_name = "PUB")]
    trust: Vec<PathBuf>,
    #[command(flatten)]
    dry: DryRun,
}

/// Kinds of things that can need mending: table, block, two marks.
const MENDS_MAX: usize = 4;

pub(super) fn repair(args: &RepairArgs, common: &Common) -> Result<Report, Failure> {
    let target = Target::change(common, &args.disk, &[Role::Bcb], args.dry)?;
    let Target { disk, node, .. } = &target;
    // The keys matter only when the block must be rebuilt; without any, no slot is believed.
    let trusted = trust::for_disk(&common.machine(), disk, node, &args.trust);
    let trust = trusted.map(|trusted| trusted.trust).unwrap_or_default();
    let mut node = node.clone();
    let mut mended = Vec::new();
    for _ in 0..MENDS_MAX {
        let Some(mend) = next(disk, &node, &trust)? else { break };
        if args.dry.dry_run {
            return Ok(dry_run(&format!("repair {}: {}", disk.path.display(), mend.what), &mend.steps()));
        }
        carry_out_mend(disk, &node, &mend)?;
        mended.push(mend.what);
        node = NodeDisk::read(disk)?;
    }
    let path = disk.path.display();
    let mut text = match mended.len() {
        0 => format!("{path} needs no repair. Nothing was written.\n"),
        _ => format!("{path} is repaired:\n"),
    };
    for what in &mended {
        text.push_str(&format!("  {what}\n"));
    }
    Ok(Report::new(text, json!({ "ok": true, "dry_run": args.dry.dry_run, "mended": mended })))
}
