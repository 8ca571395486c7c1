//! `bulkhead vm log`: what a guest has said last.

use super::vm::GuestArg;
use crate::failure::Failure;
use crate::output::Report;
use clap::Args;
use serde_json::json;

/// Print what a guest has said on its console
///
/// Prints the last of it: 1 to 2 MiB are kept.
///
/// Example:
///   bulkhead vm log web1 | tail
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Log {
    #[command(flatten)]
    guest: GuestArg,
}

pub(super) fn run(args: &Log) -> Result<Report, Failure> {
    let home = args.guest.home()?;
    let path = home.log();
    let mut said = Vec::new();
    for path in [crate::vmm::log::old(&path), path] {
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            read => said.extend(read.map_err(|error| Failure::io("read", &path, &error))?),
        }
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok(Report::new(said.clone(), json!({ "ok": true, "name": home.name, "log": said })))
}
