//! What would happen if one part failed now, as far as this node can see: the question behind "is
//! everything protected".
//!
//! A pure function of what the status knows otherwise. It mirrors two rules of the core and decides nothing:
//! a majority of the voters in force decides, and a master may have agreed on going on alone (X04).

use super::status::{Node, Outlook, Pair, State};
use crate::mirror::view;

/// What follows for all parts, and in one word and one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For each part.
    pub parts: Vec<Outlook>,
    /// In one word.
    pub state: State,
    /// In one line.
    pub summary: String,
}

impl Outcome {
    /// The same beside a mirror group, of which `line` says how it is: what is written in one place only is
    /// not protected, whoever may take over.
    #[must_use]
    pub fn beside(self, group: view::State, line: &str) -> Self {
        let worst = match group {
            view::State::Synced => return self,
            view::State::Waiting => State::Critical,
            view::State::Degraded | view::State::Resyncing | view::State::Stale | view::State::Failed => {
                State::Warning
            }
        };
        let summary = match self.summary.starts_with("protected") {
            true => format!("NOT PROTECTED: {line}"),
            false => format!("{}; {line}", self.summary),
        };
        Self { state: self.state.max(worst), summary, ..self }
    }
}

/// What would happen, for the pairs that this node sees. `takeover` says how long a takeover takes at most.
pub fn outlook(pairs: &[Pair], nodes: &[Node], takeover: &str) -> Outcome {
    let mut parts = Vec::new();
    for node in nodes.iter().filter(|node| is_up(node)) {
        let name = &node.name;
        let all = pairs.iter().map(|pair| loss_of(node, pair, nodes, takeover));
        parts.push(merge(name.clone(), all));
    }
    for network in [1, 2] {
        let all = pairs.iter().map(|pair| loss_of_network(network, pair, nodes));
        parts.push(merge(format!("network {network}"), all));
    }
    let (state, summary) = summary(pairs, nodes, &parts);
    Outcome { parts, state, summary }
}

/// One part and all pairs: it survives when each pair does.
fn merge(part: String, all: impl Iterator<Item = (bool, String)>) -> Outlook {
    let mut survives = true;
    let mut words: Vec<String> = Vec::new();
    for (well, then) in all {
        survives &= well;
        if !words.contains(&then) {
            words.push(then);
        }
    }
    Outlook { part, survives, then: words.join("; ") }
}

/// Whether a node is heard, or is this one.
pub fn is_up(node: &Node) -> bool {
    matches!(node.verdict.as_str(), "self" | "up" | "slow")
}

/// Whether its votes reach anybody: a witness whose card failed is up, and silent as a voter.
pub fn votes(node: &Node) -> bool {
    is_up(node) && node.health.as_ref().is_none_or(|health| health.votes)
}

/// Whether it failed and started anew of late.
fn is_failing(node: &Node) -> bool {
    node.health.as_ref().is_some_and(|health| health.failing)
}

/// Whether those of `pair`'s voters for whom `stays` holds are a majority.
pub fn majority(pair: &Pair, nodes: &[Node], stays: impl Fn(&Node) -> bool) -> bool {
    let votes = |id: &&u16| nodes.iter().any(|node| node.id == **id && votes(node) && stays(node));
    let counted = pair.voters.iter().filter(|id| !pair.uncounted.contains(*id));
    let heard = counted.filter(votes).count();
    pair.voters.len() < heard.saturating_mul(2)
}

/// Who of `pair` would be master after `lost`: of those that run, one across first (S1-17).
fn heir<'a>(pair: &Pair, nodes: &'a [Node], lost: &Node) -> Option<&'a Node> {
    let runs = |node: &Node| matches!(node.role.as_str(), "slave" | "master" | "contending" | "starting");
    nodes
        .iter()
        .filter(|node| node.pair == Some(pair.pair) && node.id != lost.id && is_up(node) && runs(node))
        .min_by_key(|node| node.side == lost.side)
}

fn loss_of(lost: &Node, pair: &Pair, nodes: &[Node], takeover: &str) -> (bool, String) {
    let Some(master) = &pair.master else {
        return (false, format!("pair {} has no master anyway", pair.pair));
    };
    let decides = majority(pair, nodes, |node| node.id != lost.id);
    let alone = pair.voters.as_slice() == [master.id];
    if lost.id != master.id {
        // A master whose voters shrink agrees at once on going on alone, while a majority is left to agree.
        return match (decides, alone) {
            (true, _) => (true, format!("{} goes on", master.name)),
            (false, _) => {
                let why = format!("{} stops: too few voters are left to renew its lease", master.name);
                (false, why)
            }
        };
    }
    let Some(heir) = heir(pair, nodes, lost) else {
        return (false, format!("pair {} stops: no other instance of it runs", pair.pair));
    };
    match decides {
        true => (true, format!("{} takes over {takeover}", heir.name)),
        false if alone => {
            let why = format!(
                "pair {} stops: {} has agreed on going on alone and must come back, or the other voters must",
                pair.pair, master.name
            );
            (false, why)
        }
        false => {
            (false, format!("pair {} stops: too few voters are left to make {} master", pair.pair, heir.name))
        }
    }
}

fn loss_of_network(network: u8, pair: &Pair, nodes: &[Node]) -> (bool, String) {
    let other = if network == 1 { 2 } else { 1 };
    let stays = |node: &Node| {
        node.verdict == "self" || node.paths.iter().any(|path| path.network == other && path.alive)
    };
    let Some(lost) = nodes.iter().find(|node| is_up(node) && !stays(node)) else {
        return (true, format!("all goes on over network {other}"));
    };
    let word =
        if majority(pair, nodes, stays) { "is cut off" } else { "is cut off, and too few voters are left" };
    (majority(pair, nodes, stays), format!("{} {word}: it is not heard on network {other}", lost.name))
}

/// Why the voters that this node hears decide nothing, and who must come back.
fn too_few(pair: &Pair, nodes: &[Node]) -> String {
    let away = pair.voters.iter().filter_map(|id| nodes.iter().find(|node| node.id == *id && !is_up(node)));
    let names: Vec<&str> = away.map(|node| node.name.as_str()).collect();
    match (pair.voters.as_slice(), names.as_slice()) {
        ([_], [alone]) => format!(
            "{alone} was agreed on as the one who goes on alone, and is away. Nobody else may act until it \
             is back; if it is lost for good: `bulkhead node force-quorum`"
        ),
        (voters, []) => format!("this node hears too few of its {} voters that count", voters.len()),
        (voters, _) => {
            format!("this node hears too few of its {} voters ({} away)", voters.len(), names.join(", "))
        }
    }
}

fn summary(pairs: &[Pair], nodes: &[Node], parts: &[Outlook]) -> (State, String) {
    if let Some(pair) = pairs.iter().find(|pair| pair.master.is_none()) {
        let decides = majority(pair, nodes, |_| true);
        let why = match decides {
            true => "its instances are agreeing on one".to_owned(),
            false => too_few(pair, nodes),
        };
        return (State::Critical, format!("NOT PROTECTED: pair {} has no master: {why}", pair.pair));
    }
    let masters: Vec<String> = pairs
        .iter()
        .filter_map(|pair| {
            pair.master.as_ref().map(|master| format!("{} is master of pair {}", master.name, pair.pair))
        })
        .collect();
    let masters = masters.join(", ");
    let down: Vec<&str> = nodes.iter().filter(|node| !is_up(node)).map(|node| node.name.as_str()).collect();
    let idle: Vec<String> = nodes
        .iter()
        .filter(|node| is_up(node) && node.pair.is_some() && node.role == "stopped")
        .map(|node| format!("{} takes no part", node.name))
        .collect();
    let fatal: Vec<&str> =
        parts.iter().filter(|part| !part.survives).map(|part| part.part.as_str()).collect();
    let failing: Vec<&str> =
        nodes.iter().filter(|node| is_failing(node)).map(|node| node.name.as_str()).collect();
    match (fatal.as_slice(), down.as_slice()) {
        ([], []) if !failing.is_empty() => (
            State::Warning,
            format!("protected: {masters}, and any one part may fail; {} fails", failing.join(", ")),
        ),
        ([], []) => (State::Ok, format!("protected: {masters}, and any one part may fail")),
        ([], down) => (
            State::Warning,
            format!("protected: {masters}, and any one part may fail; away: {}", down.join(", ")),
        ),
        (fatal, down) => {
            let away = down.iter().map(|name| format!("{name} is away"));
            let uncounted =
                |node: &&Node| is_up(node) && pairs.iter().any(|pair| pair.uncounted.contains(&node.id));
            let uncounted =
                nodes.iter().filter(uncounted).map(|node| format!("{}'s vote does not count yet", node.name));
            let mute = nodes.iter().filter(|node| is_up(node) && !votes(node));
            let mute = mute.map(|node| format!("{} does not vote", node.name));
            let why: Vec<String> = away.chain(idle).chain(uncounted).chain(mute).collect();
            let why = if why.is_empty() { String::new() } else { format!(", because {}", why.join(", ")) };
            let text = format!("NOT PROTECTED: {masters}, but {} must not fail now{why}", fatal.join(", "));
            (State::Warning, text)
        }
    }
}
