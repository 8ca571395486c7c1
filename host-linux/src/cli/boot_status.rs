//! `bulkhead boot status`: both slots, the last boot, and what is wrong with the disk.

use super::Common;
use super::target::{DiskArg, Target};
use crate::failure::Failure;
use crate::output::Report;
use bulkhead_core::bcb::state::{Bcb, Reason, SlotState};
use bulkhead_core::slot::SlotId;
use clap::Args;
use serde_json::{Value, json};

/// Show both slots and the last boot
///
/// Shows both slots and the last boot. The state words are ours and, in brackets, those of
/// systemd-bless-boot: good, bad, indeterminate, clean (no boot counting is in effect).
///
/// Prints one line for machines: BOOT slot=<a|b|none> version=<n> reason=<word>
///
/// Examples:
///   bulkhead boot status
///   bulkhead boot status node.disk --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Status {
    #[command(flatten)]
    disk: DiskArg,
}

pub(super) fn run(args: &Status, common: &Common) -> Result<Report, Failure> {
    let target = Target::look(common, &args.disk)?;
    let stored = target.stored()?;
    let bcb = stored.bcb;
    let mut warnings = Vec::new();
    if target.node.table.state != bulkhead_core::gpt::reading::State::Good {
        warnings.push(format!("partition table: {}", target.node.table.state));
    }
    for (number, copy) in [(1, target.node.copies.each().first()), (2, target.node.copies.each().last())] {
        match copy {
            Some(Err(damage)) => warnings.push(format!("copy {number} of the boot control block: {damage}")),
            Some(Ok(copy)) if copy.bcb != bcb => {
                warnings.push(format!("copy {number} of the boot control block is stale"));
            }
            Some(Ok(_)) | None => {}
        }
    }
    let line = boot_line(&bcb);
    let mut text = String::new();
    for slot in SlotId::ALL {
        let state = bcb.slots.get(slot);
        let preferred = if bcb.preferred == slot { ", preferred" } else { "" };
        let running = target.running.is_some_and(|running| running.slot == slot);
        let running = if running { ", running" } else { "" };
        let words = format!("{} ({})", state.name(), bless(&bcb, slot));
        text.push_str(&format!("slot {slot}  {words:<25} {}{preferred}{running}\n", details(state)));
    }
    text.push_str(&format!("floor   no image below security version {} boots\n", bcb.floor));
    text.push_str(&format!("boots   {} so far\n", bcb.boot.0));
    for warning in &warnings {
        text.push_str(&format!("warning {warning}; `bulkhead image repair` mends it\n"));
    }
    text.push_str(&line);
    text.push('\n');
    let json = json!({
        "ok": true,
        "disk": target.disk.path,
        "disk_guid": target.node.table.table.disk_guid.to_string(),
        "preferred": bcb.preferred.to_string(),
        "running": target.running.map(|running| json!({
            "slot": running.slot.to_string(),
            "boot": running.boot.to_string(),
        })),
        "last_boot": {
            "boot": bcb.boot.to_string(),
            "slot": bcb.booted.map(|slot| slot.to_string()),
            "reason": bcb.reason.token(),
        },
        "floor": bcb.floor.0,
        "tries_max": bcb.tries_max.count(),
        "sequence": stored.seq,
        "slots": { "a": slot_json(&bcb, SlotId::A), "b": slot_json(&bcb, SlotId::B) },
        "warnings": warnings,
        "boot_line": line,
    });
    Ok(Report::new(text, json))
}

/// The line the boot application printed for the last boot.
pub(super) fn boot_line(bcb: &Bcb) -> String {
    let slot = bcb.booted.map_or_else(|| "none".to_owned(), |slot| slot.to_string());
    let image = bcb.booted.and_then(|slot| bcb.slots.get(slot).image());
    let version = image.map_or(0, |image| image.version.0);
    format!("BOOT slot={slot} version={version} reason={}", bcb.reason.token())
}

/// The word of systemd-bless-boot for a slot. A confirmed slot is `good` when the last boot
/// proved it, and `clean` when that boot had nothing to count.
pub(super) fn bless(bcb: &Bcb, slot: SlotId) -> &'static str {
    match bcb.slots.get(slot) {
        SlotState::Empty => "clean",
        SlotState::Candidate { .. } => "indeterminate",
        SlotState::Confirmed { .. } if bcb.booted == Some(slot) && bcb.reason == Reason::Confirmed => "clean",
        SlotState::Confirmed { .. } => "good",
        SlotState::Bad { .. } => "bad",
    }
}

fn details(state: &SlotState) -> String {
    match state {
        SlotState::Empty => "no image".into(),
        SlotState::Candidate { image, left, done } => {
            format!("version {}, security {}, {left} tries left, {done} done", image.version, image.security)
        }
        SlotState::Confirmed { image } => format!("version {}, security {}", image.version, image.security),
        SlotState::Bad { image, why } => {
            format!("version {}, security {}, {why}", image.version, image.security)
        }
    }
}

fn slot_json(bcb: &Bcb, slot: SlotId) -> Value {
    let state = bcb.slots.get(slot);
    let (left, done, why) = match state {
        SlotState::Candidate { left, done, .. } => (Some(left.count()), Some(done.count()), None),
        SlotState::Bad { why, .. } => (None, None, Some(why.token())),
        SlotState::Empty | SlotState::Confirmed { .. } => (None, None, None),
    };
    let image = state.image();
    json!({
        "state": state.name(),
        "systemd": bless(bcb, slot),
        "version": image.map(|image| image.version.0),
        "security_version": image.map(|image| image.security.0),
        "digest": image.map(|image| image.digest.to_string()),
        "tries_left": left,
        "tries_done": done,
        "why": why,
    })
}
