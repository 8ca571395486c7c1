//! `bulkhead status`: how the site is, as this node sees it; where no cluster agent runs, how the node is.

use super::Common;
use super::cluster::AgentArg;
use crate::agent::status::{FILE, Status as Health};
use crate::cluster::client::Client;
use crate::cluster::request::Request;
use crate::cluster::status::Status;
use crate::cluster::status_text::{one_line, text};
use crate::failure::{Exit, Failure};
use crate::output::Report;
use clap::Args;
use serde_json::json;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// From one look to the next.
const WATCH: Duration = Duration::from_secs(1);
/// Nagios: nobody knows.
const UNKNOWN: u8 = 3;

/// Show whether everything is protected, and if not what and why
///
/// Shows the site as this node sees it: who is master, who is heard over which network, and what
/// would happen if a part failed now. Exit code 0: any one part may fail; 1: not, or no agent.
/// Where no cluster agent runs, it says whether the node is healthy.
///
/// With --one-line it is a plugin for Nagios and its kin: exit code 0 OK, 1 WARNING, 2 CRITICAL,
/// 3 UNKNOWN.
///
/// Examples:
///   bulkhead status --watch
///   bulkhead status --json --socket /var/lib/bulkhead/control.sock
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    agent: AgentArg,
    /// Look again every second, until interrupted
    #[arg(long, conflicts_with = "one_line")]
    watch: bool,
    /// One line for a monitoring system
    #[arg(long)]
    one_line: bool,
    /// Also show who was fenced
    #[arg(long, conflicts_with_all = ["one_line", "watch"])]
    fence_history: bool,
}

pub(super) fn status(args: &StatusArgs, common: &Common) -> Result<Report, Failure> {
    let path = args.agent.path()?;
    if args.one_line {
        let report = look(&path).map(|status| {
            let (text, code) = one_line(&status);
            Report { text, json: json!({ "ok": code == 0, "status": status }), code }
        });
        return Ok(report.unwrap_or_else(|failure| Report {
            text: format!("BULKHEAD UNKNOWN - {}\n", failure.what),
            json: failure.json(),
            code: UNKNOWN,
        }));
    }
    if args.watch {
        return watch(&path, common);
    }
    let has_health = args.agent.state_dir.join(FILE).exists();
    if !args.agent.is_named() && !path.exists() && has_health {
        return health(&args.agent.state_dir, common);
    }
    if !args.agent.is_named() && !path.exists() {
        let what = format!("no agent ever ran here ({})", args.agent.state_dir.display());
        let next = "start it with `bulkhead agent --config FILE`, or name it with --socket or --config.";
        return Err(Failure::failed(what).left("").next(next));
    }
    let status = look(&path)?;
    let code = if status.protected { 0 } else { Exit::Failed.code() };
    let mut report =
        Report { text: text(&status), json: json!({ "ok": status.protected, "status": status }), code };
    if args.fence_history {
        let (text, fences) = super::fence::history(&mut Client::connect(&path)?)?;
        report.text.push_str(&format!("\nfenced:\n{text}"));
        if let Some(object) = report.json.as_object_mut() {
            object.insert("fences".into(), json!(fences));
        }
    }
    Ok(report)
}

fn look(path: &Path) -> Result<Status, Failure> {
    let answer = Client::connect(path)?.ask(&Request::Status)?;
    let status = answer.get("status").cloned().unwrap_or_default();
    serde_json::from_value(status).map_err(|error| {
        let what = format!("the agent at {} speaks another version: {error}", path.display());
        Failure::failed(what).left("").next("use the `bulkhead` that runs as agent.")
    })
}

/// Looks again and again. An agent that is away is said so, and looked for again.
fn watch(path: &Path, common: &Common) -> Result<Report, Failure> {
    loop {
        let found = look(path);
        let mut out = std::io::stdout().lock();
        let written = if common.json {
            let json =
                found.map_or_else(|failure| failure.json(), |status| json!({ "ok": true, "status": status }));
            writeln!(out, "{json}")
        } else {
            let text = found.map_or_else(|failure| failure.text(), |status| text(&status));
            // Clear the screen, and begin at its top.
            write!(out, "\x1b[2J\x1b[H{text}")
        };
        if written.and_then(|()| out.flush()).is_err() {
            // Whoever looked went away.
            return Ok(Report::new(String::new(), json!({ "ok": true })));
        }
        drop(out);
        std::thread::sleep(WATCH);
    }
}

/// Whether the node itself is healthy: what the agent without a cluster writes down.
fn health(state_dir: &Path, common: &Common) -> Result<Report, Failure> {
    let path = state_dir.join(FILE);
    let not_running = |what: String| Failure::failed(what).left("").next("start it with `bulkhead agent`.");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| not_running(format!("the agent never ran here ({}: {error})", path.display())))?;
    let status: Health = serde_json::from_str(&text)
        .map_err(|error| not_running(format!("{} is damaged: {error}", path.display())))?;
    let alive = status.running && common.machine().path(&format!("proc/{}", status.pid)).exists();
    let healthy = alive && status.health == "ok";
    let Health { node, slot, boot, slot_state, health, .. } = &status;
    let mut text = match (alive, healthy) {
        (true, true) => format!("node {node} is healthy\n"),
        (true, false) => format!("node {node} is not healthy: health {health}\n"),
        (false, _) => format!("node {node}: the agent does not run\n"),
    };
    text.push_str(&format!("slot {slot} ({slot_state}), boot {boot}, disk {}\n", status.disk));
    if let Some(error) = &status.last_error {
        text.push_str(&format!("last error: {error}\n"));
    }
    let json = json!({ "ok": healthy, "agent_running": alive, "agent": status });
    Ok(Report { text, json, code: if healthy { 0 } else { Exit::Failed.code() } })
}
