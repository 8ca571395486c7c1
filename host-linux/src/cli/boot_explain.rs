//! `bulkhead boot explain`: the next slot choice, with every input, made by the same function as
//! in the boot application, on the same disk, without writing.

use super::target::{DiskArg, Target};
use super::{Common, boot_profile, boot_status, trust};
use crate::failure::Failure;
use crate::image::repair::check;
use crate::output::Report;
use bulkhead_core::bcb::state::Bcb;
use bulkhead_core::boot::choice::{Check, Decision, Evidence, decide, floor};
use bulkhead_core::boot::explain::Explanation;
use bulkhead_core::slot::SlotId;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Show every input of the next slot choice and which rule fires
///
/// Says which slot the next boot starts and why, with every input of the decision. Reads and
/// verifies the images as the boot application would; writes nothing.
///
/// Exit code 0: a slot starts; 1: none does, the next boot ends in the rescue console.
///
/// With --contacted and --configured it explains the boot profile instead: what a control domain starts
/// that reached so many other nodes, and which row of the table fired.
///
/// Examples:
///   bulkhead boot explain node.disk
///   bulkhead boot explain --contacted 3 --configured 5 --highest-priority
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Explain {
    #[command(flatten)]
    disk: DiskArg,
    /// Public key that may have signed the images; default: the keys of the boot application
    #[arg(long, value_name = "PUB")]
    trust: Vec<PathBuf>,
    #[command(flatten)]
    profile: boot_profile::Profile,
}

pub(super) fn run(args: &Explain, common: &Common) -> Result<Report, Failure> {
    if let Some(report) = boot_profile::explain(&args.profile) {
        if args.disk.disk.is_some() || !args.trust.is_empty() {
            let failure =
                Failure::usage("a boot profile is explained from the inputs given, not from a disk");
            return Err(
                failure.next("leave out either the disk and --trust, or --contacted and --configured")
            );
        }
        return Ok(report);
    }
    let target = Target::look(common, &args.disk)?;
    let Target { disk, node, .. } = &target;
    let trusted = trust::for_disk(&common.machine(), disk, node, &args.trust)?;
    let mut evidence = Evidence::new(node.copies, node.marks);
    let (slot, record, explanation) = loop {
        match decide(&evidence) {
            Decision::Examine(slot) => {
                *evidence.checks.get_mut(slot) = check(disk, node, &trusted.trust, &evidence, slot);
            }
            Decision::Start(start) => break (Some(start.slot), start.record, start.explanation),
            Decision::Rescue(rescue) => break (None, rescue.record, rescue.explanation),
        }
    };
    let inputs = inputs(&target, &evidence, &trusted);
    let mut text = String::from("Inputs:\n");
    for (name, value) in &inputs {
        text.push_str(&format!("  {name:<22} {value}\n"));
    }
    let considered: Vec<String> = explanation.considered().iter().map(ToString::to_string).collect();
    text.push_str("Decision of the next boot:\n");
    for line in &considered {
        text.push_str(&format!("  {line}\n"));
    }
    let line = boot_status::boot_line(&record);
    text.push_str(&format!("  rule: {}\n{line}\n", rule(&explanation)));
    let inputs: serde_json::Map<_, _> =
        inputs.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let json = json!({
        "ok": slot.is_some(),
        "slot": slot.map(|slot| slot.to_string()),
        "reason": explanation.reason.token(),
        "floor": explanation.floor.0,
        "record_lost": explanation.record_lost,
        "considered": considered,
        "inputs": inputs,
        "record": record_json(&record),
        "boot_line": line,
    });
    Ok(Report { text, json, code: if slot.is_some() { 0 } else { 1 } })
}

fn inputs(target: &Target, evidence: &Evidence, trusted: &trust::Trusted) -> Vec<(&'static str, String)> {
    let node = &target.node;
    let [first, second] = node.copies.each().map(|copy| match copy {
        Ok(copy) => format!("good, sequence {}", copy.seq),
        Err(damage) => damage.to_string(),
    });
    let mut inputs = vec![
        ("partition table", node.table.state.to_string()),
        ("block, copy 1", first),
        ("block, copy 2", second),
    ];
    if let Some(stored) = node.copies.newest() {
        inputs.push(("preferred", stored.bcb.preferred.to_string()));
        let tries = |slot| match stored.bcb.slots.get(slot) {
            bulkhead_core::bcb::state::SlotState::Candidate { left, done, .. } => {
                format!("candidate, {left} tries left, {done} done")
            }
            state @ (bulkhead_core::bcb::state::SlotState::Empty
            | bulkhead_core::bcb::state::SlotState::Confirmed { .. }
            | bulkhead_core::bcb::state::SlotState::Bad { .. }) => state.name().to_owned(),
        };
        inputs.push(("slot a", tries(SlotId::A)));
        inputs.push(("slot b", tries(SlotId::B)));
    }
    for (slot, name, image) in
        [(SlotId::A, "mark of a", "image in a"), (SlotId::B, "mark of b", "image in b")]
    {
        let mark = node.marks.get(slot).map(|mark| format!("version {}", mark.image.version));
        inputs.push((name, mark.unwrap_or_else(|| "none".into())));
        inputs.push((image, describe(evidence.checks.get(slot))));
    }
    inputs.push(("floor", format!("security version {}", floor(evidence))));
    inputs.push(("floor of the firmware", "not visible from here, taken as 0".into()));
    inputs.push(("trusted keys", format!("{} from {}", trusted.trust.keys.len(), trusted.from)));
    inputs
}

fn describe(check: &Check) -> String {
    match check {
        Check::Unknown => "not examined: the answer does not depend on it".into(),
        Check::Good(image) => format!("verified, version {}, security {}", image.version, image.security),
        Check::Bad(fault) => format!("not good: {fault}"),
    }
}

/// The rule that fired, in words.
const fn rule(explanation: &Explanation) -> &'static str {
    use bulkhead_core::bcb::state::Reason;
    match explanation.reason {
        Reason::Never => "no decision",
        Reason::Confirmed => "the preferred slot is confirmed",
        Reason::Candidate => "the preferred slot is a candidate with tries left",
        Reason::FallbackTries => "the preferred slot used up its tries, so the other",
        Reason::FallbackImage => "the preferred slot's image is not good, so the other",
        Reason::FallbackStart => "the preferred slot's image did not start, so the other",
        Reason::FallbackState => "the preferred slot is empty or bad, so the other",
        Reason::FallbackRecord => "a try of the preferred slot cannot be recorded, so the other",
        Reason::Operator => "a person chose the slot",
        Reason::Rebuilt => "both copies of the block are lost, so the slot that was confirmed last",
        Reason::Rescue => "no slot may be started, so the rescue console",
    }
}

fn record_json(record: &Bcb) -> serde_json::Value {
    json!({
        "boot": record.boot.to_string(),
        "preferred": record.preferred.to_string(),
        "a": record.slots.a.name(),
        "b": record.slots.b.name(),
    })
}
