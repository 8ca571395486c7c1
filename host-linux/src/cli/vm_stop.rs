//! `bulkhead vm stop`: a guest ends, and is not to run any more.

use super::cluster::AgentArg;
use super::vm::{GuestArg, done};
use super::{vm_own, vm_wanted};
use crate::failure::Failure;
use crate::guests::own_volume::pair;
use crate::guests::process;
use crate::output::Report;
use crate::site_config::value::parse_time;
use clap::Args;
use serde_json::json;
use std::time::Duration;

/// Stop a guest
///
/// Presses its power button and waits until it has ended itself; with --now, ends it as a loss of
/// power does: what it was told to be durable is. A guest that is off already is no error, nor one of
/// which nothing is on this node yet: it is not to run any more. Exit code 1: it still runs.
///
/// Examples:
///   bulkhead vm stop web1
///   bulkhead vm stop web1 --timeout 5min
///   bulkhead vm stop web1 --now
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Stop {
    #[command(flatten)]
    guest: GuestArg,
    /// End it at once
    #[arg(long, conflicts_with = "timeout")]
    now: bool,
    /// How long it may take to end itself
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    timeout: Duration,
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn run(args: &Stop) -> Result<Report, Failure> {
    let home = match args.guest.home() {
        Ok(home) => home,
        Err(why) => return call_off(args, why),
    };
    vm_wanted::is_to_be_off(&home, &args.agent)?;
    process::stop(&home, (!args.now).then_some(args.timeout))?;
    Ok(done(&home, "is off"))
}

/// One that is to run, and that this node has never begun.
fn call_off(args: &Stop, unknown: Failure) -> Result<Report, Failure> {
    let name = &args.guest.name;
    if vm_own::of_pair(&args.agent).is_none_or(|pair| pair.volume(name).is_none()) {
        return Err(unknown);
    }
    pair::want(&args.agent.path()?, name, false, None)?;
    Ok(Report::new(format!("Guest {name} is not to run.\n"), json!({ "ok": true, "name": name })))
}
