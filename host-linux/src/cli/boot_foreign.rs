//! Our slots in the words of other tools: RAUC's custom backend, U-Boot's environment.

use super::target::{DiskArg, DryRun, Target};
use super::{Common, boot, trust};
use crate::failure::Failure;
use crate::image::flash::verify_slot;
use crate::output::Report;
use crate::slots;
use bulkhead_core::bcb::state::{Bcb, SlotState, Tries};
use bulkhead_core::boot::operations::{flash_begins, flash_ends, roll_back, set_next};
use bulkhead_core::gpt::layout::Role;
use bulkhead_core::slot::SlotId;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

/// The backend RAUC calls as `bootloader=custom`
///
/// Speaks the protocol of RAUC's `bootloader=custom`. NAME is the `bootname` of the slot: A or
/// B. An image that RAUC wrote is verified before it becomes a candidate.
///
/// Example, in /etc/rauc/system.conf:
///   [system]
///   bootloader=custom
///   [handlers]
///   bootloader-custom-backend=/usr/lib/bulkhead/rauc-backend
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Rauc {
    #[command(subcommand)]
    verb: RaucVerb,
    /// The disk; default: the one this node booted from
    #[arg(long, global = true, value_name = "DISK")]
    disk: Option<std::path::PathBuf>,
}

#[derive(Debug, Subcommand)]
enum RaucVerb {
    /// Print the slot that is considered first
    GetPrimary,
    /// Make a slot the one that is considered first
    SetPrimary {
        /// The slot
        name: SlotId,
    },
    /// Print whether a slot can start: good or bad
    GetState {
        /// The slot
        name: SlotId,
    },
    /// Confirm a slot, or give it up
    SetState {
        /// The slot
        name: SlotId,
        /// What it is
        state: RaucState,
    },
    /// Print the slot that is running
    GetCurrent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RaucState {
    /// It works
    Good,
    /// It must not start
    Bad,
}

/// A slot's `bootname`.
const fn bootname(slot: SlotId) -> &'static str {
    match slot {
        SlotId::A => "A",
        SlotId::B => "B",
    }
}

/// Whether the next boot may start the slot.
fn bootable(bcb: &Bcb, slot: SlotId) -> bool {
    match bcb.slots.get(slot) {
        SlotState::Confirmed { .. } => true,
        SlotState::Candidate { left, .. } => *left != Tries::NONE,
        SlotState::Empty | SlotState::Bad { .. } => false,
    }
}

fn word(text: &str) -> Report {
    Report::new(format!("{text}\n"), json!({ "ok": true, "answer": text }))
}

pub(super) fn rauc(args: &Rauc, common: &Common) -> Result<Report, Failure> {
    let dry = DryRun { dry_run: false };
    let look = DryRun { dry_run: true };
    let open = |dry| Target::change_path(common, args.disk.as_deref(), &[Role::Bcb], dry);
    match args.verb {
        RaucVerb::GetPrimary => Ok(word(bootname(open(look)?.stored()?.bcb.preferred))),
        RaucVerb::GetState { name } => {
            let good = bootable(&open(look)?.stored()?.bcb, name);
            Ok(word(if good { "good" } else { "bad" }))
        }
        RaucVerb::GetCurrent => Ok(word(bootname(open(look)?.running()?.slot))),
        RaucVerb::SetPrimary { name } => set_primary(&open(dry)?, common, name),
        RaucVerb::SetState { name, state: RaucState::Good } => set_good(&open(dry)?, name, dry),
        RaucVerb::SetState { name, state: RaucState::Bad } => set_bad(&open(dry)?, name, dry),
    }
}

/// RAUC writes a slot itself and then names it: what it wrote is verified and becomes a
/// candidate.
fn set_primary(target: &Target, common: &Common, slot: SlotId) -> Result<Report, Failure> {
    let dry = DryRun { dry_run: false };
    let bcb = target.stored()?.bcb;
    let running = target.running.is_some_and(|running| running.slot == slot);
    if running || matches!(bcb.slots.get(slot), SlotState::Confirmed { .. }) {
        return boot::change(target, "", dry, |bcb| set_next(bcb, slot));
    }
    let Target { disk, node, .. } = target;
    let trusted = trust::for_disk(&common.machine(), disk, node, &[])?;
    let verified = verify_slot(disk, node.layout.slot(slot), &trusted.trust, bcb.floor, &mut |_| {});
    let image = verified.map_err(|why| {
        Failure::refused(format!("slot {slot} does not hold an image that may start: {why}"))
            .next("install a bundle whose payload `bulkhead image build` made, signed by a trusted key.")
    })?;
    let known = bcb.slots.get(slot).image() == Some(&image.image());
    boot::change(target, "", dry, |bcb| {
        if known && bootable(bcb, slot) {
            set_next(bcb, slot)
        } else {
            let begun = flash_begins(bcb, target.running, slot, image.image())?;
            Ok(flash_ends(&begun, slot, image.image()))
        }
    })
}

fn set_good(target: &Target, slot: SlotId, dry: DryRun) -> Result<Report, Failure> {
    let confirmed = matches!(target.stored()?.bcb.slots.get(slot), SlotState::Confirmed { .. });
    if target.running.is_some_and(|running| running.slot == slot) {
        boot::confirm_on(target, dry)
    } else if confirmed {
        Ok(word("good"))
    } else {
        let what =
            format!("slot {slot} is not running, and only the boot that started a slot can confirm it");
        Err(Failure::refused(what).next("boot the slot, then confirm it."))
    }
}

/// The running slot is left for the other; any other slot becomes empty, as before a flash.
fn set_bad(target: &Target, slot: SlotId, dry: DryRun) -> Result<Report, Failure> {
    let bcb = target.stored()?.bcb;
    let running = target.running.is_some_and(|running| running.slot == slot);
    let Some(image) = bcb.slots.get(slot).image().copied().filter(|_| bootable(&bcb, slot)) else {
        return Ok(word("bad"));
    };
    if running && bcb.preferred == slot {
        return boot::change(target, "", dry, roll_back);
    }
    let begun = flash_begins(&bcb, target.running, slot, image);
    let next = begun.map_err(|why| {
        Failure::refused(format!("slot {slot} is not given up: {why}"))
            .next("`bulkhead boot status` shows both slots.")
    })?;
    slots::write(&target.disk, &target.node, &next)?;
    Ok(word("bad"))
}

/// Print the slots in the words of another boot loader
///
/// Prints the slots as variables of another boot loader. Read-only: nothing reads them back.
///
/// Example:
///   bulkhead boot env --format uboot
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Env {
    #[command(flatten)]
    disk: DiskArg,
    /// Whose words
    #[arg(long, value_enum, default_value = "uboot")]
    format: EnvFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EnvFormat {
    /// BOOT_ORDER, BOOT_A_LEFT, BOOT_B_LEFT
    Uboot,
}

pub(super) fn env(args: &Env, common: &Common) -> Result<Report, Failure> {
    let EnvFormat::Uboot = args.format;
    let bcb = Target::look(common, &args.disk)?.stored()?.bcb;
    let order = [bcb.preferred, bcb.preferred.other()];
    let order: Vec<&str> = order.into_iter().filter(|slot| bootable(&bcb, *slot)).map(bootname).collect();
    let left = |slot| match bcb.slots.get(slot) {
        SlotState::Confirmed { .. } => bcb.tries_max.count(),
        SlotState::Candidate { left, .. } => left.count(),
        SlotState::Empty | SlotState::Bad { .. } => 0,
    };
    let (order, a, b) = (order.join(" "), left(SlotId::A), left(SlotId::B));
    let text = format!("BOOT_ORDER={order}\nBOOT_A_LEFT={a}\nBOOT_B_LEFT={b}\n");
    let json = json!({ "ok": true, "BOOT_ORDER": order, "BOOT_A_LEFT": a, "BOOT_B_LEFT": b });
    Ok(Report::new(text, json))
}
