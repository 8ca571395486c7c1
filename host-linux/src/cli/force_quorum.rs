//! `bulkhead node force-quorum`: go on when voters are lost for good (X14, F56).

use super::cluster::AgentArg;
use super::fence::{Found, find, within};
use crate::cluster::client::Client;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::output::Report;
use clap::Args;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// From one look to the next.
const POLL: Duration = Duration::from_millis(200);
/// All that are left are read, a lease of a lost one ends, and this node asks for its roles.
const PATIENCE: Duration = Duration::from_secs(60);

/// Have this node decide without voters that are lost for good
///
/// DANGEROUS: for the case that a majority of the voters will never answer again, so that nobody may
/// lead. That can be one node: who stayed alone was agreed on as the one who decides alone. From then
/// on this node decides alone, until all are back or replaced. Name every voter that is lost; all
/// others must be heard. A node that is named must never run again with the disks it had: cut off
/// from this one it would act beside it. Put an empty disk into it first.
///
/// Exit code 3: a voter that is named is heard, one that is not named is not heard, or those that are
/// left can decide without it. The volumes stay closed until `bulkhead volume recover` says with what.
///
/// Examples:
///   bulkhead node force-quorum --lost a1 --yes-they-never-return
///   bulkhead node force-quorum --lost a1 --lost w --yes-they-never-return
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ForceQuorum {
    /// The name or `id` of a voter that is lost; once for each
    #[arg(long, value_name = "NODE", required = true)]
    lost: Vec<String>,
    /// Yes, none of them will ever run again with the disks it had
    #[arg(long)]
    yes_they_never_return: bool,
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn run(args: &ForceQuorum) -> Result<Report, Failure> {
    let mut client = args.agent.connect()?;
    let lost: Vec<Found> = args.lost.iter().map(|text| find(&mut client, text)).collect::<Result<_, _>>()?;
    let names: Vec<&str> = lost.iter().map(|node| node.name.as_str()).collect();
    let names = names.join(" and ");
    if !args.yes_they_never_return {
        let what =
            format!("this has this node decide without {names}; if that comes back with its disks, two act");
        let next = "say it again with --yes-they-never-return if you made certain of it.";
        return Err(Failure::refused(what).left("Nothing was changed.").next(next));
    }
    let ids: Vec<u16> = lost.iter().map(Found::id).collect();
    client.ask(&Request::ForceQuorum { lost: ids.clone() })?;
    let until = within(PATIENCE);
    loop {
        let offices = offices(&mut client)?;
        // The volumes wait for an operator; the other roles are taken at once.
        let (storage, others): (Vec<&Value>, _) = offices.iter().partition(|one| one["office"] == "storage");
        let waits = storage.iter().any(|one| one["state"] == "alone");
        let is_idle = |one: &&Value| one["state"] == "idle";
        let is_over = others.iter().all(is_idle) && (waits || storage.iter().all(is_idle));
        if is_over && (waits || others.iter().any(|one| one["holds"] == true)) {
            return Ok(Report::new(
                text(&names, waits),
                json!({ "ok": true, "lost": ids, "offices": offices }),
            ));
        }
        if is_over {
            let failure = Failure::refused("those that are left can decide, or one that was named answered");
            return Err(failure
                .left("Nothing was changed.")
                .next("look at `bulkhead status`, then try again."));
        }
        if until <= Instant::now() {
            let failure = Failure::failed("this node does not lead its pair yet");
            let left = "It decides without them as soon as it asks for the role.";
            return Err(failure.left(left).next("`bulkhead status` says what it waits for."));
        }
        std::thread::sleep(POLL);
    }
}

fn offices(client: &mut Client) -> Result<Vec<Value>, Failure> {
    let answer = client.ask(&Request::ForceShow)?;
    Ok(answer.get("forcing").and_then(Value::as_array).cloned().unwrap_or_default())
}

fn text(names: &str, waits: bool) -> String {
    let mut text =
        format!("this node leads, and decides without {names} until all voters are back or replaced\n");
    if waits {
        text.push_str(
            "its volumes wait until you say with what: `bulkhead volume list` shows what each node has,\n\
             `bulkhead volume recover --yes-lose-writes` goes on with what this one has\n",
        );
    }
    text
}
