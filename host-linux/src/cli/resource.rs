//! `bulkhead resource`: the infrastructure resources of this node.

use super::cluster::AgentArg;
use crate::cluster::request::Request;
use crate::cluster::status::Status;
use crate::cluster::status_text::resources;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use clap::{Args, Subcommand};
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    List(List),
    Cleanup(Cleanup),
}

/// List the infrastructure resources of this node
///
/// Lists what the configuration names in [[resource]], with the state of each here and its last
/// failure. Exit code 0: each runs or is stopped as it should; 1: one failed, or no agent.
///
/// Example:
///   bulkhead resource list --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct List {
    #[command(flatten)]
    agent: AgentArg,
}

/// Forget the failures of a resource and try it again
///
/// Says that the cause of its failures is gone: the resource is started, or stopped, again.
///
/// Example:
///   bulkhead resource cleanup dns
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Cleanup {
    /// Its name in the configuration
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn run(verb: &Verb) -> Result<Report, Failure> {
    match verb {
        Verb::List(args) => list(args),
        Verb::Cleanup(args) => {
            let name = args.name.clone();
            let answer = args.agent.connect()?.ask(&Request::ResourceCleanup { name })?;
            Ok(Report::new(format!("{} is tried again\n", args.name), answer))
        }
    }
}

fn list(args: &List) -> Result<Report, Failure> {
    let answer = args.agent.connect()?.ask(&Request::Status)?;
    let status: Status =
        serde_json::from_value(answer.get("status").cloned().unwrap_or_default()).map_err(|error| {
            Failure::failed(format!("the agent speaks another version: {error}"))
                .next("use the `bulkhead` that runs as agent.")
        })?;
    let all = &status.resources;
    let well = all.iter().all(|resource| matches!(resource.state.as_str(), "running" | "stopped"));
    let mut text = String::new();
    resources(all, &mut text);
    if all.is_empty() {
        text.push_str("the configuration names no [[resource]]\n");
    }
    let code = if well { 0 } else { Exit::Failed.code() };
    Ok(Report { text, json: json!({ "ok": well, "resources": all }), code })
}
