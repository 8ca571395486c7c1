//! `bulkhead agent` and `bulkhead status`.

use super::Common;
use crate::agent::settings::Settings;
use crate::agent::status::{FILE, Status};
use crate::agent::{Ended, default_state_dir, run};
use crate::failure::{Exit, Failure};
use crate::output::Report;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Run the node agent
///
/// Runs the node agent: health checks, confirmation of the running slot, watchdog. Started once
/// by the node's init; SIGTERM stops it.
///
/// A candidate slot is confirmed when all checks pass, and given up (the machine restarts) when
/// they do not pass in time. A confirmed slot that is not healthy keeps running; `bulkhead
/// status` says why.
///
/// Examples:
///   bulkhead agent
///   bulkhead agent --state-dir /run/bulkhead --health-dir /etc/bulkhead/health.d
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Agent {
    /// Read the node configuration from this file, not from the infra partition
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The disk; default: the one this node booted from
    #[arg(long, value_name = "DISK")]
    disk: Option<PathBuf>,
    /// The one directory the agent writes to
    #[arg(long, value_name = "DIR", default_value_os = default_state_dir().as_os_str())]
    state_dir: PathBuf,
    /// Directory of executables that check the node's health: exit code 0 is healthy
    #[arg(long, value_name = "DIR", default_value = "/etc/bulkhead/health.d")]
    health_dir: PathBuf,
    /// The watchdog to feed
    #[arg(long, value_name = "DEVICE", default_value = "/dev/watchdog")]
    watchdog: PathBuf,
    /// Feed no watchdog
    #[arg(long, conflicts_with = "watchdog")]
    no_watchdog: bool,
    /// Seconds after which a candidate is given up; default: the node configuration's
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=3600))]
    timeout_s: Option<u32>,
    /// Exit with code 1 instead of restarting the machine when the slot is given up
    #[arg(long)]
    no_reboot: bool,
}

pub(super) fn agent(args: Agent, common: &Common) -> Result<Report, Failure> {
    let settings = Settings {
        machine: common.machine(),
        disk: args.disk,
        config: args.config,
        state_dir: args.state_dir,
        health_dir: args.health_dir,
        watchdog: (!args.no_watchdog).then_some(args.watchdog),
        timeout_s: args.timeout_s,
        reboot: !args.no_reboot,
    };
    let (ended, code) = match run(&settings)? {
        Ended::Stopped => ("stopped", 0),
        Ended::GaveUp => ("gave-up", Exit::Failed.code()),
    };
    Ok(Report { text: String::new(), json: json!({ "ok": code == 0, "ended": ended }), code })
}

/// Show how this node is
///
/// Says how this node is: healthy or not, and why not. Exit code 0: healthy; 1: not, or the agent
/// does not run.
///
/// Example:
///   bulkhead status --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct StatusArgs {
    /// The agent's state directory
    #[arg(long, value_name = "DIR", default_value_os = default_state_dir().as_os_str())]
    state_dir: PathBuf,
}

pub(super) fn status(args: &StatusArgs, common: &Common) -> Result<Report, Failure> {
    let path = args.state_dir.join(FILE);
    let not_running = |what: String| Failure::failed(what).left("").next("start it with `bulkhead agent`.");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| not_running(format!("the agent never ran here ({}: {error})", path.display())))?;
    let status: Status = serde_json::from_str(&text)
        .map_err(|error| not_running(format!("{} is damaged: {error}", path.display())))?;
    let alive = status.running && common.machine().path(&format!("proc/{}", status.pid)).exists();
    let healthy = alive && status.health == "ok";
    let Status { node, slot, boot, slot_state, health, .. } = &status;
    let mut text = match (alive, healthy) {
        (true, true) => format!("node {node} is healthy\n"),
        (true, false) => format!("node {node} is not healthy: health {health}\n"),
        (false, _) => format!("node {node}: the agent does not run\n"),
    };
    text.push_str(&format!("slot {slot} ({slot_state}), boot {boot}, disk {}\n", status.disk));
    if let Some(error) = &status.last_error {
        text.push_str(&format!("last error: {error}\n"));
    }
    let json = json!({ "ok": healthy, "agent_running": alive, "agent": status });
    Ok(Report { text, json, code: if healthy { 0 } else { Exit::Failed.code() } })
}
