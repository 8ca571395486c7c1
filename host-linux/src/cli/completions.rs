//! `bulkhead completions`: what a shell needs to complete our commands.

use crate::output::Report;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Print the completion script of a shell
///
/// Examples:
///   bulkhead completions bash > /etc/bash_completion.d/bulkhead
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Completions) -> Report {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "bulkhead", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    let json = serde_json::json!({ "ok": true, "script": text });
    Report::new(text, json)
}
