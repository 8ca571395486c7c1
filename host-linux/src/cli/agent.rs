//! `bulkhead agent`, and the witness on Linux.

use super::Common;
use crate::agent::beats::Beats;
use crate::agent::settings::Settings;
use crate::agent::{Ended, default_state_dir, find_disk, run};
use crate::cluster::fencer;
use crate::cluster::start::{Kind, Plan, start};
use crate::failure::{Exit, Failure};
use crate::node_site::{self, Prepared};
use crate::output::Report;
use crate::playground::site::PARENT;
use crate::site_config::SiteConfig;
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Run the node agent
///
/// Runs the node agent. Started once by the node's init; SIGTERM stops it.
///
/// With --config it is the cluster agent: two compartments watch each other, one is master, the
/// other takes over; `bulkhead status` says how things are. A node that booted from its boot
/// partition finds its site on its own disk (`bulkhead node site set`), and also checks its health
/// and confirms the running slot.
///
/// A candidate slot is confirmed when all checks pass, and given up (the machine restarts) when
/// they do not pass in time. A confirmed slot that is not healthy keeps running; `bulkhead
/// status` says why.
///
/// Examples:
///   bulkhead agent --config /etc/bulkhead/site.toml
///   bulkhead agent --state-dir /run/bulkhead --health-dir /etc/bulkhead/health.d
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Agent {
    /// The configuration of the site: run the cluster agent (`bulkhead config example`)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read the node configuration from this file, not from the infra partition
    #[arg(long, value_name = "FILE")]
    node_config: Option<PathBuf>,
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
    let mut settings = Settings {
        machine: common.machine(),
        disk: args.disk,
        config: args.node_config,
        state_dir: args.state_dir,
        health_dir: args.health_dir,
        watchdog: (!args.no_watchdog).then_some(args.watchdog),
        timeout_s: args.timeout_s,
        reboot: !args.no_reboot,
        beats: None,
        site_fault: None,
        cards: None,
    };
    if let Some(file) = &args.config {
        let config = read(file)?;
        let health = settings.machine.running().is_some().then_some(settings);
        return cluster((config, Some(file)), Kind::Agent, common, health);
    }
    if settings.machine.running().is_some() {
        match own_site(&settings, common) {
            Ok(None) => {}
            Ok(Some(report)) => return Ok(report),
            // The node stays up and says why, or, on trial, goes back to the image before.
            Err(failure) => {
                eprint!("{}", failure.text());
                settings.site_fault = Some(failure.what);
            }
        }
    }
    let (ended, code) = match run(&settings)? {
        Ended::Stopped => ("stopped", 0),
        Ended::GaveUp => ("gave-up", Exit::Failed.code()),
    };
    Ok(Report { text: String::new(), json: json!({ "ok": code == 0, "ended": ended }), code })
}

/// Runs a witness on this machine.
pub(super) fn witness(config: &Path, common: &Common) -> Result<Report, Failure> {
    cluster((read(config)?, Some(config)), Kind::Witness, common, None)
}

fn read(config: &Path) -> Result<SiteConfig, Failure> {
    SiteConfig::read(config).map_err(|failure| failure.left("Nothing was started."))
}

/// Runs the part of the site that stands on this node's own disk; `None` when none does.
fn own_site(settings: &Settings, common: &Common) -> Result<Option<Report>, Failure> {
    let disk = find_disk(settings, &mut || true).transpose()?;
    let Some(disk) = disk else { return Ok(None) };
    let prepared = node_site::prepare(&disk, &settings.state_dir, settings.watchdog.clone())?;
    let Some(Prepared { config, cards }) = prepared else { return Ok(None) };
    let is_witness = config.me().is_some_and(|me| me.duty.is_witness());
    let kind = if is_witness { Kind::Witness } else { Kind::Agent };
    let settings = Settings { cards: Some(cards), ..settings.clone() };
    cluster((config, None), kind, common, Some(settings)).map(Some)
}

/// Runs the cluster agent. With `health`, on a node that Bulkhead booted, the checks that confirm its slot
/// run beside it, and the cluster's loop feeds the watchdog for both.
fn cluster(
    (config, file): (SiteConfig, Option<&Path>),
    kind: Kind,
    common: &Common,
    health: Option<Settings>,
) -> Result<Report, Failure> {
    if std::env::var_os(PARENT).is_some() {
        // A part of a playground ends with it, also when that is killed.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::INT));
    }
    let health =
        health.map(|settings| Settings { watchdog: None, beats: Some(Beats::default()), ..settings });
    let root = common.machine().path("");
    let beats = health.as_ref().and_then(|settings| settings.beats.clone());
    let cards = health.as_ref().and_then(|settings| settings.cards.clone());
    let plan = Plan { kind, root: &root, perform: fencer::perform, file, health: beats, cards };
    let agent = start(config, &plan)?;
    if let Some(settings) = health {
        let checks = move || match run(&settings) {
            Ok(Ended::Stopped | Ended::GaveUp) => {}
            Err(failure) => eprint!("{}", failure.text()),
        };
        let thread = std::thread::Builder::new().name("health".into()).spawn(checks);
        thread.map_err(|error| Failure::failed(format!("the health checks cannot start: {error}")))?;
    }
    agent.run();
    Ok(Report::new(String::new(), json!({ "ok": true, "ended": "stopped" })))
}
