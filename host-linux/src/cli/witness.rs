//! `bulkhead witness`: the third voter of a site, on Linux or on a microcontroller.

use super::{Common, agent, witness_flash, witness_provision, witness_show};
use crate::failure::Failure;
use crate::output::Report;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Run the third voter of a site, or prepare one on a microcontroller
///
/// With --config it runs a witness: it only votes, on any Linux machine that stands in neither
/// compartment. Its [[node]] in the configuration has `witness = true`. SIGTERM stops it.
///
/// A witness on a microcontroller is told who it is by a card: `provision` writes it, `show` tells
/// what one holds, `flash` prepares its firmware. docs/witness.md has the whole story.
///
/// Examples:
///   bulkhead witness --config /etc/bulkhead/site.toml
///   bulkhead witness provision --config site.toml --node w --device /dev/sdX
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Witness {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The configuration of the site
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Provision(Box<witness_provision::Provision>),
    Show(witness_show::Show),
    Flash(witness_flash::Flash),
}

pub(super) fn run(args: &Witness, common: &Common) -> Result<Report, Failure> {
    match (&args.verb, &args.config) {
        (Some(Verb::Provision(args)), _) => witness_provision::run(args, common),
        (Some(Verb::Show(args)), _) => witness_show::run(args),
        (Some(Verb::Flash(args)), _) => witness_flash::run(args),
        (None, Some(config)) => agent::witness(config, common),
        (None, None) => Err(Failure::usage("no configuration is named").next("add `--config FILE`.")),
    }
}
