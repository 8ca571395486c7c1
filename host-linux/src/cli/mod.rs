//! The commands: one file a noun. Each turns arguments into calls and results into a report.

mod agent;
mod alerts;
mod boot;
mod boot_explain;
mod boot_foreign;
mod boot_profile;
mod boot_status;
mod cluster;
mod compartment;
mod completions;
mod config;
mod drill;
mod events;
mod fence;
mod fence_agent;
mod force_quorum;
mod image;
mod image_disk;
mod image_flash;
mod logs;
mod node;
mod placeholder;
mod plan;
mod playground;
mod playground_demo;
mod resource;
mod sim;
mod status;
mod target;
mod timers;
mod trust;
mod vm;
mod vm_console;
mod vm_home;
mod vm_log;
mod vm_migrate;
mod vm_migrate_all;
mod vm_own;
mod vm_share;
mod vm_snapshot;
mod vm_stop;
mod vm_template;
mod vm_wanted;
mod vmm;
mod volume;
mod volume_attach;
mod volume_cache;
mod volume_group;
mod volume_scrub;
mod volume_text;
mod witness;
mod witness_flash;
mod witness_provision;
mod witness_show;

use crate::failure::{Exit, Failure};
use crate::machine::Machine;
use crate::output::{Report, Voice};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  failed; the message says what state it left
  2  the command line makes no sense
  3  refused, because it would endanger the node or its data

A DISK is a block device or a file that holds a disk.
Where it may be left out, it is the disk this node booted from.";

/// Boots nodes safely: signed images, two boot slots, automatic return.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    noun: Noun,
}

/// What all commands understand.
#[derive(Clone, Debug, Args)]
struct Common {
    /// Answer with one JSON object on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Look for /proc, /sys, /dev and /etc below this directory
    #[arg(long, global = true, value_name = "DIR", default_value = "/", hide_short_help = true)]
    root: PathBuf,
}

impl Common {
    fn machine(&self) -> Machine {
        Machine::new(&self.root)
    }

    fn voice(&self) -> Voice {
        Voice::new(self.json)
    }
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Keys, images, and the disks made of them
    #[command(subcommand)]
    Image(image::Verb),
    /// The two boot slots of a node
    #[command(subcommand)]
    Boot(boot::Verb),
    /// Who a node is
    #[command(subcommand)]
    Node(node::Verb),
    /// The configuration file of the agent
    #[command(subcommand)]
    Config(config::Verb),
    Agent(agent::Agent),
    Witness(witness::Witness),
    Status(status::StatusArgs),
    Plan(plan::Plan),
    Drill(drill::Drill),
    /// How the compartments of a pair keep what is written
    #[command(subcommand)]
    Compartment(compartment::Verb),
    Alerts(alerts::AlertsArgs),
    Events(events::Events),
    /// What parts without a disk for logs say
    #[command(subcommand)]
    Logs(logs::Verb),
    /// The node that takes the cluster's decisions
    #[command(subcommand)]
    Controller(cluster::ControllerVerb),
    /// Infrastructure services: list them, try them again
    #[command(subcommand)]
    Resource(resource::Verb),
    /// Nodes made certain not to act
    #[command(subcommand)]
    Fence(fence::Verb),
    FenceAgent(fence_agent::FenceAgent),
    /// Block devices that a pair of compartments keeps
    #[command(subcommand)]
    Volume(volume::Verb),
    /// The guests of this node
    #[command(subcommand)]
    Vm(vm::Verb),
    Vmm(vmm::Vmm),
    #[command(hide = true)]
    Placeholder(placeholder::Placeholder),
    Timers(timers::TimersArgs),
    /// A whole cluster on this machine, to try and to hurt
    #[command(subcommand)]
    Playground(playground::Verb),
    Sim(sim::Sim),
    Completions(completions::Completions),
}

/// The name by which Pacemaker runs this program: the same as `bulkhead fence-agent`.
const FENCE_AGENT: &str = "fence_bulkhead";

/// Runs the command line and answers with the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let is_named = args.first().is_some_and(|name| Path::new(name).file_name() == Some(FENCE_AGENT.as_ref()));
    if is_named {
        args.insert(1, "fence-agent".into());
    }
    let is_fence_agent = args.get(1).is_some_and(|word| word == "fence-agent");
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; everything else is a usage error, which must not look like the
            // exit code of a fence agent whose node is off.
            let usage = if is_fence_agent { fence_agent::FAILED } else { Exit::Usage.code() };
            let code = if error.use_stderr() { usage } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(cli.noun, &cli.common) {
        Ok(report) => {
            report.print(cli.common.json);
            ExitCode::from(report.code)
        }
        Err(failure) => {
            eprint!("{}", failure.text());
            if cli.common.json {
                Report::new(String::new(), failure.json()).print(true);
            }
            ExitCode::from(failure.exit.code())
        }
    }
}

fn run(noun: Noun, common: &Common) -> Result<Report, Failure> {
    match noun {
        Noun::Image(verb) => image::run(verb, common),
        Noun::Boot(verb) => boot::run(verb, common),
        Noun::Node(verb) => node::run(verb, common),
        Noun::Config(verb) => config::run(verb, common),
        Noun::Agent(args) => agent::agent(args, common),
        Noun::Witness(args) => witness::run(&args, common),
        Noun::Status(args) => status::status(&args, common),
        Noun::Plan(args) => plan::plan(&args),
        Noun::Compartment(verb) => compartment::run(&verb),
        Noun::Drill(args) => drill::drill(&args, common.json),
        Noun::Alerts(args) => alerts::alerts(&args),
        Noun::Events(args) => events::events(&args, common),
        Noun::Logs(verb) => logs::run(&verb, common),
        Noun::Controller(verb) => cluster::controller(&verb),
        Noun::Resource(verb) => resource::run(&verb),
        Noun::Fence(verb) => fence::run(&verb),
        Noun::FenceAgent(args) => Ok(fence_agent::fence_agent(&args)),
        Noun::Volume(verb) => volume::run(&verb, common.voice()),
        Noun::Playground(verb) => playground::run(verb, common),
        Noun::Vm(verb) => vm::run(&verb, common.json, common.voice()),
        Noun::Vmm(args) => vmm::run(&args, common),
        Noun::Placeholder(args) => placeholder::run(args),
        Noun::Timers(args) => timers::timers(&args),
        Noun::Sim(args) => sim::sim(&args, common),
        Noun::Completions(completions) => Ok(completions::run(&completions)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    /// Every command of every noun, with its path.
    fn leaves(command: &clap::Command, path: &str, out: &mut Vec<(String, clap::Command)>) {
        let path = format!("{path} {}", command.get_name());
        if command.has_subcommands() && command.get_name() != "rauc-backend" {
            command.get_subcommands().for_each(|command| leaves(command, &path, out));
        } else {
            out.push((path, command.clone()));
        }
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        let mut commands = Vec::new();
        leaves(&<Cli as clap::CommandFactory>::command(), "", &mut commands);
        assert!(15 <= commands.len(), "{}", commands.len());
        for (path, command) in commands {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!((1..80).contains(&about.len()) && !about.contains('\n'), "{path}: `{about}`");
            let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            assert!(long.contains("Example") && long.contains("bulkhead"), "{path}: {long}");
            assert!(long.lines().all(|line| line.len() <= 100), "{path}: {long}");
        }
    }
}
