//! `bulkhead vm home`: guests that run in the other compartment than their own go home as they run (S0-09).

use super::cluster::AgentArg;
use super::vm::GuestsArg;
use super::vm_migrate::parse_bandwidth;
use super::vm_migrate_all;
use crate::cluster::request::Request;
use crate::cluster::status::Status;
use crate::failover::homing::{Homing, homing};
use crate::failure::{Exit, Failure};
use crate::guests::process::Leave;
use crate::output::Report;
use crate::site_config::value::parse_time;
use clap::Args;
use serde_json::json;
use std::time::{Duration, Instant};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(500);
/// For how long each may stand still, as far as can be known before.
const DOWNTIME: Duration = Duration::from_millis(300);

/// Have guests go home that run in the other compartment
///
/// Guests whose description has a `home` belong there. Those that run here and belong into the other
/// compartment move there while they run, all together as by `vm migrate --all`, to the node that has
/// all their volumes in sync. With --after it waits until their home has been well for so long without
/// a break, and then moves them; it says what it waits for. Run it on the node that leads the volumes.
/// Exit code 3: their home is not well, or guests of both compartments run here.
///
/// Examples:
///   bulkhead vm home
///   bulkhead vm home --after 10min
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Home {
    /// Wait until their home has been well for so long
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    after: Option<Duration>,
    /// Bytes a second at most while they run, at least 1MiB, of all together
    #[arg(long, value_name = "SIZE", value_parser = parse_bandwidth)]
    bandwidth: Option<u64>,
    #[command(flatten)]
    guests: GuestsArg,
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn run(args: &Home, is_quiet: bool) -> Result<Report, Failure> {
    let agent = args.agent.path()?;
    let look = || homing(&args.agent.connect()?.ask_for::<Status>(&Request::Status, "status")?);
    let found = match args.after {
        None => look()?,
        Some(after) => wait(after, is_quiet, look)?,
    };
    let Homing::To { node, guests } = found else {
        let text = "No guest here belongs into the other compartment.\n";
        return Ok(Report::new(text.into(), json!({ "ok": true, "guests": [] })));
    };
    if !is_quiet {
        eprintln!("{} to {node}: {}", if guests.len() == 1 { "home" } else { "all home" }, guests.join(", "));
    }
    let leave = Leave {
        node: &node,
        agent: &agent,
        downtime: DOWNTIME,
        bandwidth: args.bandwidth,
        is_quick: false,
        with_disks: false,
        together: None,
    };
    vm_migrate_all::run(&args.guests.homes(), leave, is_quiet)
}

/// Waits until it has been so for so long that they can go home, to the same node.
fn wait(
    after: Duration,
    is_quiet: bool,
    look: impl Fn() -> Result<Homing, Failure>,
) -> Result<Homing, Failure> {
    let (mut since, mut said): (Option<(Instant, Homing)>, String) = (None, String::new());
    loop {
        let why = match look() {
            Ok(Homing::AtHome) => return Ok(Homing::AtHome),
            Ok(found) => {
                let same = since.take().filter(|(_, before)| *before == found);
                let (begun, found) = same.unwrap_or((Instant::now(), found));
                if after <= begun.elapsed() {
                    return Ok(found);
                }
                since = Some((begun, found));
                format!("their home is well; they go when it has been so for {} s", after.as_secs())
            }
            // An agent that is away may come back; what was asked wrongly does not become right.
            Err(failure) if failure.exit == Exit::Usage => return Err(failure),
            Err(failure) => {
                since = None;
                failure.what
            }
        };
        if !is_quiet && why != said {
            eprintln!("{why}");
            said = why;
        }
        std::thread::sleep(LOOK);
    }
}
