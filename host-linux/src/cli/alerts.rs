//! `bulkhead alerts`: what is wrong and stays so.

use super::cluster::AgentArg;
use crate::alerts::raised::Alert;
use crate::cluster::request::Request;
use crate::cluster::status::Status;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use clap::Args;
use serde_json::json;
use std::fmt::Write as _;

/// Show what is wrong and stays so, and what to do about it
///
/// Each thing that is wrong is raised once and cleared once: what holds for a moment only is no alert,
/// and what comes and goes is one. A node shows what it sees; of volumes and guests, the one that
/// leads them. `bulkhead events --follow` tells when one begins (alert-raised) and ends
/// (alert-cleared), and runs a program for each with --exec.
///
/// Exit code 0: there is none; 1: there are some.
///
/// Examples:
///   bulkhead alerts
///   bulkhead alerts --json --socket /var/lib/bulkhead/control.sock
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct AlertsArgs {
    #[command(flatten)]
    agent: AgentArg,
}

pub(super) fn alerts(args: &AlertsArgs) -> Result<Report, Failure> {
    let status: Status = args.agent.connect()?.ask_for(&Request::Status, "status")?;
    let (all, is_well) = (&status.alerts, status.alerts.is_empty());
    let code = if is_well { 0 } else { Exit::Failed.code() };
    let json = json!({ "ok": is_well, "node": status.node.name, "alerts": all });
    Ok(Report { text: text(&status.node.name, all), json, code })
}

fn text(node: &str, all: &[Alert]) -> String {
    if all.is_empty() {
        return format!("{node} sees nothing wrong.\n");
    }
    let mut out = String::new();
    for Alert { kind, gravity, what, next, for_ms, .. } in all {
        let mark = if gravity == "critical" { "!!" } else { "! " };
        // Writing into a string does not fail.
        let _ = writeln!(out, "{mark} {kind}, for {} s: {what}\n     Next: {next}", for_ms / 1000);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_says_what_to_do() {
        let alert = Alert {
            kind: "node-away".into(),
            gravity: "warning".into(),
            subject: "b1".into(),
            what: "the node b1 is not heard".into(),
            next: "see whether it has power".into(),
            for_ms: 61_999,
        };
        let expected =
            "!  node-away, for 61 s: the node b1 is not heard\n     Next: see whether it has power\n";
        assert_eq!(text("a1", std::slice::from_ref(&alert)), expected);
        let critical = Alert { gravity: "critical".into(), ..alert };
        assert!(text("a1", &[critical]).starts_with("!! "));
        assert_eq!(text("a1", &[]), "a1 sees nothing wrong.\n");
    }
}
