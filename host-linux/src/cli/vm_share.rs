//! `bulkhead vm share`: which part of the time a guest runs (S1-52).

use super::vm::GuestArg;
use crate::failure::Failure;
use crate::guests::process;
use crate::output::Report;
use clap::Args;
use serde_json::{Value, json};

/// Have a guest run for a part of the time
///
/// It stands still for the rest, in moments of some hundredths of a second, so that it still answers.
/// That holds over its resets, until its process ends; 100 has it run all the time again. A move
/// slows a guest down as well when it has to: the stronger of both counts.
///
/// Examples:
///   bulkhead vm share batch1 40
///   bulkhead vm share batch1 100
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Share {
    #[command(flatten)]
    guest: GuestArg,
    /// How many hundredths of the time, 5 to 100
    #[arg(value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(5..=100))]
    percent: u8,
}

pub(super) fn run(args: &Share) -> Result<Report, Failure> {
    let home = args.guest.home()?;
    process::share(&home, args.percent)?;
    let text = format!("Guest {} runs for {} % of the time.\n", home.name, args.percent);
    Ok(Report::new(text, json!({ "ok": true, "name": home.name, "percent": args.percent })))
}

/// The share of a guest that has less than all of the time, for people.
pub(super) fn told(share: &Value) -> Option<String> {
    share.as_u64().filter(|share| *share < 100).map(|share| format!("{share} % of the time"))
}
