//! `bulkhead fence`: have a node's power cut, say that it is off, and see what was done (V19, V20, V21).

use super::cluster::AgentArg;
use crate::cluster::client::Client;
use crate::cluster::fence_agent::Power;
use crate::cluster::fence_history::{CONFIRMED, FenceRecord, UNDER_WAY};
use crate::cluster::request::{PowerWord, Request};
use crate::failure::Failure;
use crate::output::Report;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// From one look at an order to the next.
pub(super) const UNDER_WAY_POLL: Duration = Duration::from_millis(200);
/// A look and a cut through a witness take at most three steps of a device, a minute each.
const PATIENCE: Duration = Duration::from_secs(190);
/// The word of a look at a node that is off.
pub(super) const IS_OFF: &str = Power::Off.word();

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Node(Node),
    Confirm(Confirm),
    History(History),
    Status(Status),
}

/// Have the power of another node cut, and read back as off
///
/// Asks this node's agent to have it done by the node's fencing device or the witness, unless its
/// power reads as off. Exit code 3: refused, because this node is neither master nor controller, or
/// the witness knows better; or held, for something would end with that node: what, and the word
/// that lets it pass once, is said.
///
/// Examples:
///   bulkhead fence node a1 --reason "smoke in room A" --yes
///   bulkhead fence node a1 --yes --override 1f0a93bc
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Node {
    /// The name or `id` of the node
    #[arg(value_name = "NODE")]
    node: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Yes, cut it
    #[arg(long)]
    yes: bool,
    /// The word that was given when it was held
    #[arg(long = "override", value_name = "WORD")]
    word: Option<String>,
    #[command(flatten)]
    agent: AgentArg,
}

/// Say that a node is off, where no device can
///
/// Takes your word that the node's power is off, as a fencing device would have confirmed it: what
/// waits for its lease, or for it to stop its services, goes on at once. If it runs after all, it and
/// its successor may both act.
///
/// Example:
///   bulkhead fence confirm a1 --reason "unplugged, I stand before it" --yes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Confirm {
    /// The name or `id` of the node
    #[arg(value_name = "NODE")]
    node: String,
    /// How you know, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Yes, it is off
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    agent: AgentArg,
}

/// Show who was fenced, by whom, why, and how that ended
///
/// Shows what this node asked for, or this witness was asked for, and where that is kept. Every
/// agent keeps its own.
///
/// Example:
///   bulkhead fence history --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct History {
    #[command(flatten)]
    agent: AgentArg,
}

/// Show how each node can be fenced, and whether this one may have it done
///
/// Shows each node's fencing device and whether this node has the right to use it now.
///
/// Example:
///   bulkhead fence status
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Status {
    #[command(flatten)]
    agent: AgentArg,
}

/// A node as `fence-status` shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Found {
    node: u16,
    pub(super) name: String,
    pub(super) is_witness: bool,
    how: String,
    may_fence: bool,
    alive: bool,
}

impl Found {
    /// Its `id`.
    pub(super) const fn id(&self) -> u16 {
        self.node
    }
}

/// What `fence-status` answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fencing {
    me: u16,
    kept_in: Option<String>,
    nodes: Vec<Found>,
}

impl Fencing {
    fn name(&self, id: u16) -> String {
        let found = self.nodes.iter().find(|node| node.node == id).map(|node| node.name.clone());
        found.unwrap_or_else(|| format!("node {id}"))
    }

    /// Whose records these are, and how long they last.
    fn origin(&self) -> String {
        let me = self.name(self.me);
        let is_witness = self.nodes.iter().any(|node| node.node == self.me && node.is_witness);
        let whose = if is_witness { "asked of" } else { "asked for by" };
        let kept = match &self.kept_in {
            Some(path) => format!("kept there in {path}"),
            None => "kept in the memory of its agent only, for its disk failed".into(),
        };
        format!("these were {whose} {me}, {kept}; every other node and witness has its own\n")
    }
}

pub(super) fn run(verb: &Verb) -> Result<Report, Failure> {
    match verb {
        Verb::Node(args) => node(args),
        Verb::Confirm(args) => confirm(args),
        Verb::History(args) => {
            let (text, fences) = history(&mut args.agent.connect()?)?;
            Ok(Report::new(text, json!({ "ok": true, "fences": fences })))
        }
        Verb::Status(args) => status(args),
    }
}

/// All nodes, as the agent knows them.
pub(super) fn nodes(client: &mut Client) -> Result<Vec<Found>, Failure> {
    Ok(fencing(client)?.nodes)
}

fn fencing(client: &mut Client) -> Result<Fencing, Failure> {
    let answer = client.ask(&Request::FenceStatus)?;
    let fencing = answer.get("fencing").cloned().unwrap_or_default();
    serde_json::from_value(fencing).map_err(|error| {
        Failure::failed(format!("the agent speaks another version: {error}")).left("Nothing was changed.")
    })
}

/// The node with this name or id.
pub(super) fn find(client: &mut Client, text: &str) -> Result<Found, Failure> {
    let found = nodes(client)?.into_iter().find(|node| node.name == text || node.node.to_string() == text);
    found.ok_or_else(|| {
        let failure = Failure::usage(format!("the site has no node `{text}`")).left("Nothing was changed.");
        failure.next("`bulkhead fence status` lists them.")
    })
}

/// Orders something, and waits for its end, but not past `until`: the word of the record.
pub(super) fn order_and_wait(
    client: &mut Client,
    node: &Found,
    want: PowerWord,
    reason: Option<String>,
    until: Instant,
) -> Result<String, Failure> {
    order(client, &asked(node, want, reason), until)
}

/// What has a node switched, whoever asks for it.
pub(super) const fn asked(node: &Found, want: PowerWord, reason: Option<String>) -> Request {
    Request::FencePower { node: node.node, want, reason, operator: false, word: None }
}

/// The same for a request that is made already.
fn order(client: &mut Client, request: &Request, until: Instant) -> Result<String, Failure> {
    let answer = client.ask(request)?;
    let seq = answer.pointer("/fence/seq").and_then(Value::as_u64).unwrap_or(0);
    loop {
        let record = records(client)?.into_iter().find(|record| record.seq == seq);
        match record.map(|record| record.ended) {
            Some(ended) if ended != UNDER_WAY => return Ok(ended),
            None => return Ok("its record is lost".into()),
            Some(_) if until <= Instant::now() => return Ok("it had not ended in time".into()),
            Some(_) => std::thread::sleep(UNDER_WAY_POLL),
        }
    }
}

/// How a cut ended.
pub(super) enum Cut {
    /// There was nothing to cut: its power was read as off.
    WasOff,
    /// It was cut, and its power was read back as off.
    Done,
    /// The word of the record.
    Failed(String),
}

/// Has a node cut, unless its power reads as off: asked twice, it is cut once (V21). What the power was some
/// time ago does not count, for somebody may have switched it on by hand. `request` is what cuts it.
pub(super) fn cut(
    client: &mut Client,
    node: &Found,
    request: &Request,
    until: Instant,
) -> Result<Cut, Failure> {
    let is = order_and_wait(client, node, PowerWord::Look, None, until)?;
    if is == IS_OFF {
        return Ok(Cut::WasOff);
    }
    let ended = order(client, request, until)?;
    Ok(if ended == CONFIRMED { Cut::Done } else { Cut::Failed(ended) })
}

/// A time from now.
pub(super) fn within(patience: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(patience).unwrap_or(now)
}

fn node(args: &Node) -> Result<Report, Failure> {
    let mut client = args.agent.connect()?;
    let node = find(&mut client, &args.node)?;
    needs_yes(args.yes, &format!("this cuts the power of {}, {}", node.name, node.how))?;
    let (reason, word) = (args.reason.clone(), args.word.clone());
    let off = Request::FencePower { node: node.node, want: PowerWord::Off, reason, operator: true, word };
    let text = match cut(&mut client, &node, &off, within(PATIENCE))? {
        Cut::WasOff => format!("{} is off already: its power was read as off\n", node.name),
        Cut::Done => format!("{} is fenced: its power was read back as off\n", node.name),
        Cut::Failed(ended) => {
            let what = format!("{} was not fenced: {ended}", node.name);
            let is_refused = ended.starts_with("refused");
            let failure = if is_refused { Failure::refused(what) } else { Failure::failed(what) };
            let next = "look at `bulkhead fence history`; only its lease, or a device that works, ends it.";
            return Err(failure.left("It may still run.").next(next));
        }
    };
    Ok(Report::new(text, json!({ "ok": true, "fenced": { "node": node.node, "name": node.name } })))
}

fn confirm(args: &Confirm) -> Result<Report, Failure> {
    let mut client = args.agent.connect()?;
    let node = find(&mut client, &args.node)?;
    needs_yes(
        args.yes,
        &format!("this takes your word that {} is off; if it is not, two may act", node.name),
    )?;
    let request = Request::FenceConfirm { node: node.node, reason: args.reason.clone() };
    let answer = client.ask(&request)?;
    let and = match answer.pointer("/confirmed/start").and_then(Value::as_u64) {
        Some(_) => "what waits for that goes on",
        None => "this node never spoke with it, so a lease that it may hold still runs out",
    };
    Ok(Report::new(format!("{} counts as off by your word; {and}\n", node.name), answer))
}

fn needs_yes(yes: bool, what: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    Err(Failure::refused(what).left("Nothing was changed.").next("say it again with --yes if you mean it."))
}

fn records(client: &mut Client) -> Result<Vec<FenceRecord>, Failure> {
    let answer = client.ask(&Request::FenceHistory)?;
    let fences = answer.get("fences").cloned().unwrap_or_default();
    serde_json::from_value(fences).map_err(|error| {
        Failure::failed(format!("the agent speaks another version: {error}")).left("Nothing was changed.")
    })
}

/// The records for people and for machines.
pub(super) fn history(client: &mut Client) -> Result<(String, Vec<FenceRecord>), Failure> {
    let fencing = fencing(client)?;
    let records = records(client)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    let mut text = String::new();
    for record in &records {
        let FenceRecord { seq, at_ms, want, how, ended, .. } = record;
        let (node, by, at) = (fencing.name(record.node), fencing.name(record.by), ago(*at_ms, now));
        let reason = record.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        text.push_str(&format!("{seq} {at}: {node} {want}, asked by {by}{reason}, {how}: {ended}\n"));
    }
    if records.is_empty() {
        text.push_str("nobody was fenced\n");
    }
    text.push_str(&fencing.origin());
    Ok((text, records))
}

/// How long ago something was, for people.
fn ago(at_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(at_ms) / 1_000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        86_400.. => format!("{} d ago", seconds / 86_400),
    }
}

fn status(args: &Status) -> Result<Report, Failure> {
    let mut client = args.agent.connect()?;
    let answer = client.ask(&Request::FenceStatus)?;
    let mut text = String::new();
    for node in nodes(&mut client)?.iter().filter(|node| !node.is_witness) {
        let right = if node.may_fence { "this node may have it cut" } else { "not by this node now" };
        let heard = if node.alive { "heard" } else { "not heard" };
        text.push_str(&format!("{}: {heard}, fenced {}; {right}\n", node.name, node.how));
    }
    Ok(Report::new(text, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_its_largest_unit() {
        let said =
            [(999, "0 s"), (59_999, "59 s"), (60_000, "1 min"), (3_600_000, "1 h"), (172_800_000, "2 d")];
        for (age, expected) in said {
            assert_eq!(ago(1_000, 1_000 + age), format!("{expected} ago"));
        }
        assert_eq!(ago(5_000, 1_000), "0 s ago", "a clock that was set back");
    }
}
