//! `bulkhead events`: what happened, to people, programs and hooks.

use super::Common;
use super::cluster::AgentArg;
use crate::agent::process::{Child, Verdict};
use crate::cluster::client::Client;
use crate::cluster::events::Event;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::output::Report;
use clap::Args;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A hook may take this long; then it is ended, and the next event is told.
const HOOK_MAX: Duration = Duration::from_secs(30);

/// Show what happened on this node
///
/// Shows the events of this node since its agent started, oldest first: roles, peers, voters,
/// fencing. `--json` prints one object a line. A gap in `seq` means that events were lost.
///
/// With --exec a program is run for each event, one after the other, with the event's kind in
/// BULKHEAD_EVENT and the event as JSON in BULKHEAD_EVENT_JSON.
///
/// Examples:
///   bulkhead events --follow
///   bulkhead events --follow --exec /etc/bulkhead/notify
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Events {
    #[command(flatten)]
    agent: AgentArg,
    /// Go on with what will happen, until interrupted
    #[arg(long)]
    follow: bool,
    /// Only events after the one with this number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
    /// Run this program for each event
    #[arg(long, value_name = "PROG")]
    exec: Option<PathBuf>,
}

pub(super) fn events(args: &Events, common: &Common) -> Result<Report, Failure> {
    let mut client = args.agent.connect()?;
    let request = Request::Events { after: args.after, follow: args.follow };
    let mut after = args.after;
    if args.follow {
        client.follow(&request)?;
        while let Some(event) = next(&mut client)? {
            if !tell(&event, &mut after, args, common) {
                return Ok(Report::new(String::new(), json!({ "ok": true })));
            }
        }
        return Err(Failure::failed("the agent stopped")
            .left("")
            .next("start it again, or look at its log."));
    }
    let answer = client.ask(&request)?;
    let mut text = String::new();
    for event in answer.get("events").and_then(Value::as_array).into_iter().flatten() {
        let event = parse(event)?;
        text.push_str(&line(&event, &mut after));
        if let Some(program) = &args.exec {
            run_hook(program, &event);
        }
    }
    Ok(Report::new(text, answer))
}

fn next(client: &mut Client) -> Result<Option<Event>, Failure> {
    client.line()?.as_ref().map(parse).transpose()
}

fn parse(event: &Value) -> Result<Event, Failure> {
    serde_json::from_value(event.clone())
        .map_err(|error| Failure::failed(format!("the agent sent what is no event: {error}")).left(""))
}

/// An event in one line, after the gap before it, if there is one.
fn line(event: &Event, after: &mut u64) -> String {
    let lost = event.seq.saturating_sub(*after).saturating_sub(1);
    *after = event.seq;
    let gap = if lost == 0 { String::new() } else { format!("({lost} events were lost here)\n") };
    format!("{gap}{} {:>6} {:10} {}\n", clock(event.at_ms), event.seq, event.kind, event.text)
}

/// Prints an event and runs the hook; `false` when nobody reads any more.
fn tell(event: &Event, after: &mut u64, args: &Events, common: &Common) -> bool {
    let text = line(event, after);
    let mut out = std::io::stdout().lock();
    let printed = if common.json {
        writeln!(out, "{}", serde_json::to_value(event).unwrap_or_default())
    } else {
        out.write_all(text.as_bytes())
    };
    let printed = printed.and_then(|()| out.flush());
    drop(out);
    if let Some(program) = &args.exec {
        run_hook(program, event);
    }
    printed.is_ok()
}

fn run_hook(program: &Path, event: &Event) {
    let json = serde_json::to_value(event).unwrap_or_default();
    let variables = [("BULKHEAD_EVENT", event.kind.clone()), ("BULKHEAD_EVENT_JSON", json.to_string())];
    let name = program.display().to_string();
    let ended = Child::start_with(std::slice::from_ref(&name), &variables).map(|mut child| {
        let begin = Instant::now();
        while begin.elapsed() < HOOK_MAX {
            match child.poll() {
                Verdict::Running => std::thread::sleep(Duration::from_millis(20)),
                Verdict::Passed => return None,
                Verdict::Failed(why) => return Some(why),
            }
        }
        child.kill();
        Some(format!("it did not end within {} s", HOOK_MAX.as_secs()))
    });
    match ended {
        Ok(None) => {}
        Ok(Some(why)) => eprintln!("bulkhead: {name}, event {}: {why}", event.seq),
        Err(error) => eprintln!("bulkhead: {name}, event {}: {error}", event.seq),
    }
}

/// Time of day in UTC: the log's date is where the log is.
fn clock(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1000, at_ms % 1000);
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{h:02}:{m:02}:{s:02}.{ms:03}")
}
