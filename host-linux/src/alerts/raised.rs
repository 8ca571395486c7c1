//! The alerts that this node has raised: said as events when they begin and end, and shown until then (X25).

use super::conditions::{Words, conditions};
use crate::cluster::events::{Log, News};
use crate::cluster::status::Status;
use bulkhead_core::alert::board::{Board, Change, Condition};
use bulkhead_core::alert::kind::Gravity;
use bulkhead_core::time::Instant;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// Alerts at once at most. A site of 64 nodes whose every node is away, on both networks, has fewer.
const AT_ONCE: usize = 256;

/// An alert, as programs are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// In one word: docs/alerts.md has all of them.
    pub kind: String,
    /// `warning` or `critical`.
    pub gravity: String,
    /// With whom something is wrong.
    pub subject: String,
    /// What, in plain words.
    pub what: String,
    /// What to do about it.
    pub next: String,
    /// Milliseconds since it was raised.
    pub for_ms: u64,
}

/// The alerts of this node.
#[derive(Debug, Default)]
pub struct Alerts {
    board: Box<Board<AT_ONCE>>,
    /// In the words of the last time that it held.
    words: BTreeMap<Condition, Words>,
    next: Option<Instant>,
}

impl Alerts {
    /// Whether it is time to look again.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// Looks at how things are, and says what that changes.
    pub fn look(&mut self, now: Instant, status: &Status, log: &mut Log) {
        self.next = Some(now.after(LOOK));
        let found = conditions(status);
        let words = &mut self.words;
        words.extend(found.clone());
        self.board.look(now, found.into_keys(), &mut |change| log.say(news(change, words)));
        let raised: Vec<Condition> = self.board.raised().map(|(condition, _)| condition).collect();
        words.retain(|condition, _| raised.binary_search(condition).is_ok());
    }

    /// Those that are raised, the gravest first.
    #[must_use]
    pub fn show(&self, now: Instant) -> Vec<Alert> {
        let shown = |(condition, since): (Condition, Instant)| {
            let Words { subject, what, next } = self.words.get(&condition)?.clone();
            let for_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
            let (kind, gravity) = (condition.kind.name().into(), condition.kind.gravity().name().into());
            Some(Alert { kind, gravity, subject, what, next, for_ms })
        };
        self.board.raised().filter_map(shown).collect()
    }
}

fn news(change: Change, words: &BTreeMap<Condition, Words>) -> News {
    let (Change::Raised(condition) | Change::Cleared(condition)) = change;
    let kind = condition.kind.name();
    let words = words.get(&condition);
    let subject = words.map_or("", |words| words.subject.as_str());
    let what = words.map_or("", |words| words.what.as_str());
    let fields = json!({ "alert": kind, "gravity": condition.kind.gravity().name(), "subject": subject });
    match change {
        Change::Raised(_) => {
            let loud = if condition.kind.gravity() == Gravity::Critical { "ALERT" } else { "alert" };
            News::new("alert-raised", format!("{loud}, {kind}: {what}"), fields)
        }
        Change::Cleared(_) => News::new("alert-cleared", format!("no more, {kind}: {what}"), fields),
    }
}
