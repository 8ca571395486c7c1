//! The status in words: one screen, the answer first. Made here only, pinned by golden files.

use super::status::{Guest, Node, PathState, Resource, Status};
use crate::mirror::view::PlaceholderView;
use crate::output::size;
use std::fmt::Write as _;

/// The whole status.
pub fn text(status: &Status) -> String {
    let mut out = format!("{}\n\n", status.summary);
    // Writing into a string does not fail.
    let _ = writeln!(out, "site {}, seen by {}: {}", status.site.name, status.node.name, me(status));
    for pair in &status.pairs {
        let reduced = if pair.reduced {
            format!(", decided by {}", names(status, &pair.voters))
        } else {
            String::new()
        };
        let _ = match &pair.master {
            Some(master) => {
                writeln!(out, "pair {}: master {}, epoch {}{reduced}", pair.pair, master.name, pair.epoch)
            }
            None => writeln!(out, "pair {}: no master{reduced}", pair.pair),
        };
    }
    let controller = &status.controller;
    let _ = match &controller.node {
        Some(node) => {
            writeln!(
                out,
                "controller: {}, epoch {}{}",
                node.name,
                controller.epoch,
                lease(controller.lease_left_ms)
            )
        }
        None => writeln!(out, "controller: none: {}", controller.reason),
    };
    if status.voter.mode == "failed" {
        let _ =
            writeln!(out, "VOTE LOST: the disk failed; this node is silent as a voter until it is replaced");
    }
    if let Some(profile) = &status.profile {
        let _ = writeln!(out, "boot profile {}: starts {}: {}", profile.row, profile.start, profile.reason);
    }
    storage(status, &mut out);
    if !status.resources.is_empty() {
        out.push_str("\nresource\n");
    }
    resources(&status.resources, &mut out);
    guests(&status.guests, &mut out);
    kept(status, &mut out);
    nodes(status, &mut out);
    healths(status, &mut out);
    configurations(status, &mut out);
    if !status.outlook.is_empty() {
        out.push_str("\nif it failed now\n");
    }
    let width = status.outlook.iter().map(|part| part.part.len()).max().unwrap_or(0);
    for part in &status.outlook {
        let mark = if part.survives { ' ' } else { '!' };
        let _ = writeln!(out, "{mark} {:width$}  {}", part.part, part.then);
    }
    if !status.lacks.is_empty() {
        out.push_str("\nnot granted by the system\n");
        for lack in &status.lacks {
            let _ = writeln!(out, "  {}: {}", lack.what, lack.why);
        }
    }
    if let Some(error) = &status.last_error {
        let _ = writeln!(out, "\nlast error: {error}");
    }
    out
}

/// The mirror group of this node's pair.
fn storage(status: &Status, out: &mut String) {
    let me = status.nodes.iter().find(|node| node.id == status.node.id);
    let (Some(view), Some(pair)) = (&status.storage, me.and_then(|me| me.pair)) else { return };
    let line = view.line(pair, |node| names(status, &[node]));
    let _ = match view.volumes.len() {
        1 => writeln!(out, "volumes: 1; {line}"),
        count => writeln!(out, "volumes: {count}; {line}"),
    };
    if view.dirty_bytes != 0 {
        let _ = writeln!(out, "  {} not yet in the backing store", size(view.dirty_bytes));
    }
    if let Some(error) = &view.last_error {
        let _ = writeln!(out, "  last error: {error}");
    }
}

/// A line for each resource; `!` marks those that are neither running nor stopped.
pub fn resources(all: &[Resource], out: &mut String) {
    let width = all.iter().map(|resource| resource.name.len()).max().unwrap_or(0);
    for resource in all {
        let name = &resource.name;
        let mark = if matches!(resource.state.as_str(), "running" | "stopped") { ' ' } else { '!' };
        let why = match (mark, resource.why.as_str()) {
            (' ', _) | (_, "") => String::new(),
            (_, why) => format!(": {why}"),
        };
        let _ = writeln!(out, "{mark} {name:width$}  {:<14}  {}{why}", resource.on, resource.state);
    }
}

/// How many guests run here, and a line for each that is to run and does not.
fn guests(all: &[Guest], out: &mut String) {
    let is_adrift = |guest: &&Guest| guest.state == "adrift";
    for Guest { name, why, .. } in all.iter().filter(is_adrift) {
        let _ = writeln!(out, "\n! guest {name} is to run in no pair that is known of here: {why}");
    }
    let is_wanted = |guest: &&Guest| guest.state != "off" && !is_adrift(guest);
    let wanted: Vec<&Guest> = all.iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        return;
    }
    let down: Vec<&&Guest> = wanted.iter().filter(|guest| guest.state != "running").collect();
    let runs = wanted.len().saturating_sub(down.len());
    let _ = writeln!(out, "\nguests: {runs} of {} that are to run do, here", wanted.len());
    let width = down.iter().map(|guest| guest.name.len()).max().unwrap_or(0);
    for Guest { name, state, failures, why, .. } in down {
        let times = match failures {
            0 => String::new(),
            count => format!(", failed {count} times in a row: {why}"),
        };
        let _ = writeln!(out, "! {name:width$}  {state}{times}");
    }
}

/// Memory that is kept for guests that would come to this node.
fn kept(status: &Status, out: &mut String) {
    let Some(storage) = &status.storage else { return };
    let PlaceholderView { guests_bytes, guests_held_bytes, .. } = storage.placeholder;
    if let (Some(wanted @ 1..), Some(held)) = (guests_bytes, guests_held_bytes) {
        let mark = if held < wanted { "! " } else { "" };
        let _ = writeln!(
            out,
            "\n{mark}kept for guests that may come: {} of {} of memory",
            size(held),
            size(wanted)
        );
    }
}

/// How the witnesses are, and what to do.
fn healths(status: &Status, out: &mut String) {
    for node in &status.nodes {
        let Some(health) = &node.health else { continue };
        let count = |count: u16, one: &str, many: &str| match count {
            0 => String::new(),
            1 => format!(", 1 {one}"),
            2.. => format!(", {count} {many}"),
        };
        let failures = count(health.failures, "failure", "failures");
        let silent = count(health.silent_resets, "silent reset", "silent resets");
        let (mark, votes) = match (health.votes, health.failing) {
            (true, false) => (' ', "votes"),
            (true, true) => ('!', "votes"),
            (false, _) => ('!', "DOES NOT VOTE"),
        };
        let (name, starts, up) = (&node.name, health.starts, long(health.uptime_ms));
        let _ = writeln!(out, "{mark} {name}: {votes}; start {starts}, up {up}{failures}{silent}");
        if !health.votes {
            let _ = writeln!(out, "  {}", super::witnesses::NO_VOTE_NEXT);
        }
        if health.failing {
            let _ = writeln!(out, "  {}", super::witnesses::FAILING_NEXT);
        }
    }
}

/// Whose site file is another, and what to do.
fn configurations(status: &Status, out: &mut String) {
    for (word, what, next) in [
        ("differs", "differs from", super::words::DIFFERS_NEXT),
        ("other-voters", "names other voters than", super::words::OTHER_VOTERS_NEXT),
    ] {
        let theirs = status.nodes.iter().filter(|node| node.configuration.as_deref() == Some(word));
        let theirs: Vec<&str> = theirs.map(|node| node.name.as_str()).collect();
        if !theirs.is_empty() {
            let (who, me) = (theirs.join(", "), &status.node.name);
            let _ = writeln!(out, "\n! the site file of {who} {what} that of {me}:\n  {next}");
        }
    }
}

/// What this node does, and why.
fn me(status: &Status) -> String {
    format!("{}{}: {}", status.role, lease(status.lease_left_ms), status.reason)
}

fn lease(left: Option<u64>) -> String {
    left.map_or_else(String::new, |left| format!(", lease {left} ms left"))
}

fn names(status: &Status, ids: &[u16]) -> String {
    let name = |id: &u16| {
        let node = status.nodes.iter().find(|node| node.id == *id);
        node.map_or_else(|| format!("node {id}"), |node| node.name.clone())
    };
    ids.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn nodes(status: &Status, out: &mut String) {
    let width = status.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0).max(4);
    let head = format!(
        "{:width$}  {:9}  {:10}  {:7}  {:19}  network 2",
        "node", "where", "role", "heard", "network 1"
    );
    let _ = writeln!(out, "\n{head}");
    for node in &status.nodes {
        let [one, two] = [1, 2].map(|network| path(node, network));
        let line = format!(
            "{:width$}  {:9}  {:10}  {:7}  {one:19}  {two:19}",
            node.name,
            place(node),
            node.role,
            node.verdict
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn place(node: &Node) -> String {
    match (node.pair, &node.side) {
        (Some(pair), Some(side)) => format!("pair {pair} {side}{}", if node.voter { " v" } else { "" }),
        (Some(_) | None, Some(_) | None) => "witness v".to_owned(),
    }
}

/// Round trip and loss of one network to one node.
fn path(node: &Node, network: u8) -> String {
    let Some(PathState { heard_ms, round_trip_us, loss_permille, alive, .. }) =
        node.paths.iter().find(|path| path.network == network)
    else {
        return String::new();
    };
    let loss = loss_permille.div_ceil(10);
    match (alive, heard_ms, round_trip_us) {
        (false, None, _) => "never heard".to_owned(),
        (false, Some(ms), _) => format!("silent for {}", ago(*ms)),
        (true, _, Some(us)) => format!("{} ms, {loss} % lost", millis(*us)),
        (true, _, None) => format!("{loss} % lost"),
    }
}

/// Milliseconds with one decimal.
fn millis(us: u64) -> String {
    let tenths = us.saturating_add(50) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A time that may be long, as people say it.
fn long(ms: u64) -> String {
    match ms / 60_000 {
        0..=9 => ago(ms),
        minutes @ 10..=119 => format!("{minutes} min"),
        minutes @ 120..=2_879 => format!("{} h", minutes / 60),
        minutes => format!("{} days", minutes / 1_440),
    }
}

fn ago(ms: u64) -> String {
    match ms / 1000 {
        0 => format!("{ms} ms"),
        seconds @ 1..=599 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

/// One line for a monitoring system, in the form of the Nagios plugins, with its exit code.
pub fn one_line(status: &Status) -> (String, u8) {
    let (word, code) = status.nagios();
    let up =
        status.nodes.iter().filter(|node| matches!(node.verdict.as_str(), "self" | "up" | "slow")).count();
    let all = status.nodes.len();
    let lease = status.lease_left_ms.map_or_else(String::new, |left| format!(" lease_left={left}ms"));
    let line = format!(
        "BULKHEAD {word} - {} | nodes_up={up};;;0;{all} epoch={}{lease} unsent={}c\n",
        status.summary, status.epoch, status.counters.unsent
    );
    (line, code)
}
