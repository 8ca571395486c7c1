//! `bulkhead config`: the configuration file of the agent, checked before it is used.

use super::Common;
use super::cluster::AgentArg;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::output::Report;
use crate::site_config::value::{site_text, time};
use crate::site_config::{Duty, EXAMPLE, Goal, SiteConfig, check::letter, key};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Check(Check),
    Apply(Apply),
    Example(Example),
    Keygen(Keygen),
}

pub(super) fn run(verb: Verb, _common: &Common) -> Result<Report, Failure> {
    match verb {
        Verb::Check(args) => check(&args),
        Verb::Apply(args) => apply(&args),
        Verb::Example(Example {}) => {
            Ok(Report::new(EXAMPLE.to_owned(), json!({ "ok": true, "text": EXAMPLE })))
        }
        Verb::Keygen(args) => keygen(&args),
    }
}

/// Say all that is wrong with a configuration file
///
/// Reads a configuration file as the agent would and says all that is wrong with it, each with line,
/// column, key and remedy; or, when nothing is, what it means.
///
/// Example:
///   bulkhead config check /etc/bulkhead/site.toml
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Check {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

fn check(args: &Check) -> Result<Report, Failure> {
    let config = SiteConfig::read(&args.file)?;
    let key = key::read(&config.local.key_file);
    let mut text = format!(
        "{} is good: node {} of site {} ({})\n",
        args.file.display(),
        config.name_of(config.local.node),
        config.site_name,
        site_text(config.site)
    );
    for member in &config.members {
        let [one, two] = member.addresses;
        let duty = match member.duty {
            Duty::Witness { pair } => format!("witness of pair {}", pair.0),
            Duty::Compartment { pair, side, .. } => format!("pair {} side {}", pair.0, letter(side)),
        };
        let vote = if member.voter { ", votes" } else { "" };
        text.push_str(&format!("  {:>5} {}: {duty}{vote}, at {one} and {two}\n", member.id.0, member.name));
    }
    text.push_str(&match config.timers.goal {
        Goal::Recovery(rto) => format!("recovers within {}\n", time(rto)),
        Goal::Preset(preset) => format!("timers: preset {}\n", preset.name()),
    });
    match &key {
        Ok(_) => text.push_str(&format!("site key: {}\n", config.local.key_file.display())),
        Err(failure) => text.push_str(&format!("site key: not usable here: {}\n", failure.what)),
    }
    let json = json!({
        "ok": true,
        "site": site_text(config.site),
        "node": config.local.node.0,
        "nodes": config.members.len(),
        "voters": config.voters().count(),
        "digest": config.digest_text(),
        "keyUsable": key.is_ok(),
    });
    Ok(Report::new(text, json))
}

/// Have the running agent take its changed configuration file
///
/// Has the agent read its file again and take what can change while it runs: nodes without a vote
/// that come or go, pairs as a whole, addresses and names of others, how nodes are fenced. If anything
/// else changed, nothing is taken, exit code 3 says so and the message names it. SIGHUP does the same.
///
/// Example:
///   bulkhead config apply --config /etc/bulkhead/site.toml
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Apply {
    #[command(flatten)]
    agent: AgentArg,
}

fn apply(args: &Apply) -> Result<Report, Failure> {
    let answer = args.agent.connect()?.ask(&Request::ConfigApply)?;
    let changes = answer.get("applied").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = match changes {
        [] => "nothing changed\n".to_owned(),
        changes => changes.iter().filter_map(Value::as_str).map(|change| format!("{change}\n")).collect(),
    };
    Ok(Report::new(text, answer))
}

/// Print a commented configuration file to start from
///
/// Prints a configuration file with every key, commented, that passes `bulkhead config check`.
///
/// Example:
///   bulkhead config example > site.toml
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Example {}

/// Draw a site's key and identity
///
/// Draws a new site key, writes it to a new file that only its owner can read, and prints a new site id
/// for `[site] id`. Copy the file to all nodes of the site by a way nobody else can read.
///
/// Example:
///   bulkhead config keygen /etc/bulkhead/site.key
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Keygen {
    /// The new file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

fn keygen(args: &Keygen) -> Result<Report, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("the system has no random numbers: {error}")))?;
    // The bits that say "random" in a UUID (RFC 9562, version 4).
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    let id = site_text(bulkhead_core::id::SiteId(bytes));
    key::generate(&args.file)?;
    let text = format!(
        "{} holds a new site key: copy it to every node of the site, mode 0600\nsite id = \"{id}\"\n",
        args.file.display()
    );
    Ok(Report::new(text, json!({ "ok": true, "file": args.file.display().to_string(), "siteId": id })))
}
