//! `bulkhead placeholder`: the process by which an agent keeps memory for guests.

use crate::failover::placeholder::holder;
use crate::failure::Failure;
use crate::output::Report;
use clap::Args;
use serde_json::json;
use std::io::{BufReader, stdin, stdout};

/// Hold memory for guests that may come to this node
///
/// The agent begins it where `room` of its node says `placeholder = true`. Each line of standard
/// input says how many MiB are to be held, locked; each line of standard output how many are. It
/// ends with its input, and what it held is free.
///
/// Examples:
///   (echo 512; sleep 60) | bulkhead placeholder
#[derive(Clone, Copy, Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Placeholder {}

pub(super) fn run(_: Placeholder) -> Result<Report, Failure> {
    holder::run(BufReader::new(stdin()), &mut stdout())?;
    Ok(Report::new(String::new(), json!({})))
}
