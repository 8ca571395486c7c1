//! `bulkhead plan`: what would follow a loss.

use super::cluster::AgentArg;
use crate::cluster::request::Request;
use crate::cluster::status::Status;
use crate::failover::forecast::{Begins, Down, Forecast, Part, forecast, parts};
use crate::failover::wanted::Policy;
use crate::failure::{Exit, Failure};
use crate::output::{Report, size};
use clap::Args;
use serde_json::json;
use std::fmt::Write as _;

/// Forecast what the loss of a node or a compartment would mean
///
/// Says who would lead the volumes, which guests would begin there and in which order, which would
/// go on, which would be down and why, and what only the lost part has. Without --lose: for each
/// node of this pair and each witness. Nothing is done. Ask on the node that leads: it knows what
/// every holder has.
///
/// Exit code 0: every guest that is to run runs then; 1: not every one.
///
/// Examples:
///   bulkhead plan
///   bulkhead plan --lose node plant-a-1
///   bulkhead plan --lose compartment a --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Plan {
    /// What is lost: `node`, `witness` or `compartment`, and its name
    #[arg(long, num_args = 2, value_names = ["KIND", "NAME"])]
    lose: Option<Vec<String>>,
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn plan(args: &Plan) -> Result<Report, Failure> {
    let lost = args.lose.as_deref().map(named).transpose()?;
    let status: Status = args.agent.connect()?.ask_for(&Request::Status, "status")?;
    let asked = lost.map_or_else(|| parts(&status), |part| vec![part]);
    let all = asked.iter().map(|part| forecast(&status, part)).collect::<Result<Vec<_>, _>>()?;
    let is_well = all.iter().all(|one| one.down.is_empty());
    let text: Vec<String> = all.iter().map(text).collect();
    let code = if is_well { 0 } else { Exit::Failed.code() };
    Ok(Report { text: text.join("\n"), json: json!({ "ok": is_well, "plan": all }), code })
}

pub(super) fn named(words: &[String]) -> Result<Part, Failure> {
    match words {
        [kind, name] => Part::named(kind, name),
        _ => Err(Failure::usage("--lose needs a kind and a name").next("say `--lose node a1`.")),
    }
}

/// In words, for people.
pub(super) fn text(forecast: &Forecast) -> String {
    let Forecast { lost, nodes, leads, moves, within_ms, because, begins, goes_on, down, only_there_bytes } =
        forecast;
    let with = if nodes.len() < 2 { String::new() } else { format!(" ({})", nodes.join(", ")) };
    let mut out = format!("if {lost}{with} is lost now:\n");
    let _ = match because {
        Some(why) => writeln!(out, "  nobody leads the volumes: {why}"),
        None if *moves => writeln!(out, "  {} leads the volumes within {within_ms} ms", leads.join(" or ")),
        None => writeln!(out, "  {} goes on to lead the volumes", leads.join(" or ")),
    };
    if *only_there_bytes != 0 {
        let _ = writeln!(out, "  {} were acknowledged and are only there", size(*only_there_bytes));
    }
    for (place, Begins { guest, policy, priority }) in (1..).zip(begins) {
        let how = match policy {
            Policy::Resume => "from its last snapshot, if its disks are as they were then; else anew",
            Policy::Restart | Policy::Stay => "anew",
        };
        let _ = writeln!(out, "  begins {place:3}.  {guest} (priority {priority}), {how}");
    }
    if !goes_on.is_empty() {
        let _ = writeln!(out, "  go on        {}", goes_on.join(", "));
    }
    for Down { guest, why } in down {
        let _ = writeln!(out, "  DOWN         {guest}: {why}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_is_told_in_words() {
        let mut told = Forecast {
            lost: "compartment a".into(),
            nodes: vec!["a1".into(), "a2".into()],
            leads: vec!["b1".into(), "b2".into()],
            moves: true,
            within_ms: 1600,
            because: None,
            begins: vec![Begins { guest: "db".into(), policy: Policy::Restart, priority: 200 }],
            goes_on: Vec::new(),
            down: vec![Down { guest: "test".into(), why: "its policy is `stay`".into() }],
            only_there_bytes: 0,
        };
        let expected = [
            "if compartment a (a1, a2) is lost now:",
            "  b1 or b2 leads the volumes within 1600 ms",
            "  begins   1.  db (priority 200), anew",
            "  DOWN         test: its policy is `stay`",
            "",
        ];
        let expected = expected.join("\n");
        assert_eq!(text(&told), expected);
        (told.moves, told.goes_on, told.only_there_bytes) = (false, vec!["db".into(), "web".into()], 8192);
        (told.begins, told.down, told.leads) = (Vec::new(), Vec::new(), vec!["a1".into()]);
        let text = text(&told);
        assert!(text.contains("  a1 goes on to lead") && text.contains("  go on        db, web\n"), "{text}");
        assert!(text.contains("8 KiB were acknowledged and are only there"), "{text}");
    }

    #[test]
    fn a_part_is_named_by_its_kind() {
        let words = |words: &[&str]| named(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["node", "a1"]), Ok(Part::Node("a1".into())));
        assert_eq!(words(&["compartment", "b"]), Ok(Part::Compartment("b".into())));
        assert!(words(&["node"]).is_err() && words(&["shelf", "1"]).is_err());
    }
}
