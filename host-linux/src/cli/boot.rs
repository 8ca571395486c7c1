//! `bulkhead boot`: what the slots are, which one starts, and who says so.

use super::target::{DiskArg, DryRun, RunningArgs, Target, dry_run};
use super::{Common, boot_explain, boot_foreign, boot_status};
use crate::failure::Failure;
use crate::output::Report;
use crate::slots;
use bulkhead_core::bcb::state::{Bcb, SlotState};
use bulkhead_core::boot::operations::{Refused, roll_back, set_next};
use bulkhead_core::gpt::layout::Role;
use bulkhead_core::slot::SlotId;
use clap::{Args, Subcommand};
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Status(boot_status::Status),
    Confirm(Confirm),
    SetNext(SetNext),
    Rollback(Rollback),
    Explain(boot_explain::Explain),
    RaucBackend(boot_foreign::Rauc),
    Env(boot_foreign::Env),
}

pub(super) fn run(verb: Verb, common: &Common) -> Result<Report, Failure> {
    match verb {
        Verb::Status(args) => boot_status::run(&args, common),
        Verb::Confirm(args) => confirm(&args, common),
        Verb::SetNext(args) => set(&args, common),
        Verb::Rollback(args) => rollback(&args, common),
        Verb::Explain(args) => boot_explain::run(&args, common),
        Verb::RaucBackend(args) => boot_foreign::rauc(&args, common),
        Verb::Env(args) => boot_foreign::env(&args, common),
    }
}

/// Confirm the running slot as good
///
/// Confirms the slot that is running: it is not given up any more, and images below its
/// security version do not boot any more. Only the boot that started the slot can do this. The
/// agent does it by itself when the node is healthy.
///
/// Examples:
///   bulkhead boot confirm
///   bulkhead boot confirm node.disk --running-slot b --running-boot 0000000000000002
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Confirm {
    #[command(flatten)]
    disk: DiskArg,
    #[command(flatten)]
    running: RunningArgs,
    #[command(flatten)]
    dry: DryRun,
}

fn confirm(args: &Confirm, common: &Common) -> Result<Report, Failure> {
    let target = Target::change(common, &args.disk, &[Role::Bcb], args.dry)?.told(&args.running);
    confirm_on(&target, args.dry)
}

/// Confirms the running slot of an open disk.
pub(super) fn confirm_on(target: &Target, dry: DryRun) -> Result<Report, Failure> {
    let running = target.running()?;
    let slot = running.slot;
    if dry.dry_run {
        let what = format!("confirm slot {slot}");
        return Ok(match slots::confirm_would(&target.stored()?.bcb, running)? {
            Some(next) => target.dry_run(&what, &next),
            None => dry_run(&what, &[]),
        });
    }
    let confirmed = slots::confirm(&target.disk, &target.node, running)?;
    let version = confirmed.image.version;
    let text = match confirmed.before {
        true => format!("Slot {slot} was confirmed before.\n"),
        false => format!("CONFIRMED slot={slot} version={version}\n"),
    };
    let json = json!({
        "ok": true,
        "dry_run": false,
        "slot": slot.to_string(),
        "version": version.0,
        "confirmed_before": confirmed.before,
    });
    Ok(Report::new(text, json))
}

/// Choose the slot that is considered first at the next boots
///
/// Makes a slot the one that is considered first at the next boots. A candidate still has only
/// its tries; a slot that is empty or bad is refused.
///
/// Example:
///   bulkhead boot set-next a
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct SetNext {
    /// The slot
    #[arg(value_name = "a|b")]
    slot: SlotId,
    #[command(flatten)]
    disk: DiskArg,
    #[command(flatten)]
    dry: DryRun,
}

fn set(args: &SetNext, common: &Common) -> Result<Report, Failure> {
    let target = Target::change(common, &args.disk, &[Role::Bcb], args.dry)?;
    change(&target, &format!("prefer slot {}", args.slot), args.dry, |bcb| set_next(bcb, args.slot))
}

/// Go back to the other, confirmed slot
///
/// Goes back from the preferred slot to the other one, which must be confirmed. A candidate
/// that is left this way is bad from now on. Takes effect at the next boot.
///
/// Example:
///   bulkhead boot rollback && reboot
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Rollback {
    #[command(flatten)]
    disk: DiskArg,
    #[command(flatten)]
    dry: DryRun,
}

fn rollback(args: &Rollback, common: &Common) -> Result<Report, Failure> {
    let target = Target::change(common, &args.disk, &[Role::Bcb], args.dry)?;
    change(&target, "go back to the other slot", args.dry, roll_back)
}

/// Carries out an operation on the boot control block.
pub(super) fn change(
    target: &Target,
    what: &str,
    dry: DryRun,
    operation: impl FnOnce(&Bcb) -> Result<Bcb, Refused>,
) -> Result<Report, Failure> {
    let stored = target.stored()?;
    let next = operation(&stored.bcb).map_err(|why| refusal(&why))?;
    if dry.dry_run {
        return Ok(target.dry_run(what, &next));
    }
    slots::write(&target.disk, &target.node, &next)?;
    let preferred = next.preferred;
    let state = next.slots.get(preferred);
    let text = format!("Slot {preferred} ({}) is considered first at the next boot.\n", state.name());
    let json =
        json!({ "ok": true, "dry_run": false, "preferred": preferred.to_string(), "state": state.name() });
    Ok(Report::new(text, json))
}

/// A refusal of the core, with what to do about it.
fn refusal(why: &Refused) -> Failure {
    let next = match why {
        Refused::NotBootable { state: SlotState::Empty, .. } | Refused::NoTriesLeft { .. } => {
            "flash the slot with `bulkhead image flash`."
        }
        Refused::NotBootable { .. } => "flash the slot anew; the rescue console can start it once.",
        Refused::NothingToGoBackTo { .. }
        | Refused::Running { .. }
        | Refused::OnlyConfirmed { .. }
        | Refused::BelowFloor { .. }
        | Refused::NotThisBoot { .. } => "`bulkhead boot status` shows both slots.",
    };
    Failure::refused(why.to_string()).next(next)
}
