//! How the witnesses are, as they say themselves, and whether one fails again and again (F13, F25, F32).
//!
//! Nobody stands beside a witness: a board that starts anew every hour still votes in between, and looks well
//! to whoever only listens for it.

use super::events::News;
use super::status::Health as HealthStatus;
use crate::site_config::SiteConfig;
use bulkhead_core::id::NodeId;
use bulkhead_core::node::health::Health;
use bulkhead_core::time::{Instant, micros};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a failure stays a warning: an operator looks once a day.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);
/// More than a site has members: what is said is authentic, so this is never reached.
const WITNESSES_MAX: usize = 256;

/// What all of them said last.
#[derive(Clone, Debug, Default)]
pub struct Witnesses(BTreeMap<NodeId, Known>);

#[derive(Clone, Copy, Debug)]
struct Known {
    health: Health,
    heard: Instant,
    /// When its failures were seen to have become more.
    failed: Option<Instant>,
}

impl Witnesses {
    /// Takes what a witness says; what is news of it for the event log.
    pub fn take(&mut self, now: Instant, node: NodeId, health: Health, config: &SiteConfig) -> Option<News> {
        if WITNESSES_MAX <= self.0.len() && !self.0.contains_key(&node) {
            return None;
        }
        let before = self.0.get(&node).copied();
        let sum =
            |health: &Health| u32::from(health.history.failures).saturating_add(health.history.silent.into());
        let (count, old) = (sum(&health), before.map(|known| sum(&known.health)));
        let more = old.is_some_and(|old| old < count);
        let failed = match count {
            // The power came back: they are counted anew.
            0 => None,
            1.. if more => Some(now),
            1.. => before.and_then(|known| known.failed),
        };
        self.0.insert(node, Known { health, heard: now, failed });
        let name = config.name_of(node);
        let text = if !health.votes && before.is_none_or(|known| known.health.votes) {
            format!("{name} does not vote: its card or disk failed. {NO_VOTE_NEXT}")
        } else if more {
            format!("{name} failed and started anew; failures since its power came: {count}. {FAILING_NEXT}")
        } else {
            return None;
        };
        let fields = json!({
            "node": node.0,
            "votes": health.votes,
            "failures": health.history.failures,
            "silentResets": health.history.silent,
        });
        Some(News::new("witness", text, fields))
    }

    /// How `node` is, for the status; `None` when it said nothing yet.
    pub fn show(&self, now: Instant, node: NodeId) -> Option<HealthStatus> {
        let known = self.0.get(&node)?;
        let failing = known.failed.is_some_and(|at| now.since(at) < FRESH);
        let ago = now.since(known.heard);
        Some(HealthStatus { failing, heard_ms: micros(ago) / 1000, ..shown(&known.health, ago) })
    }
}

/// What to do about a witness that fails again and again.
pub const FAILING_NEXT: &str =
    "Read its log (`bulkhead logs witness`); if it goes on, replace the board (docs/witness.md)";
/// What to do about a witness that does not vote.
pub const NO_VOTE_NEXT: &str = "Look whether its card sits well, then replace it (docs/witness.md)";

/// What a witness says of itself, `ago` after it said so.
pub fn shown(health: &Health, ago: Duration) -> HealthStatus {
    let uptime = Duration::from_secs(health.uptime.0.into()).saturating_add(ago);
    HealthStatus {
        votes: health.votes,
        starts: health.history.starts,
        failures: health.history.failures,
        silent_resets: health.history.silent,
        failing: false,
        votes_written: health.written,
        uptime_ms: micros(uptime) / 1000,
        heard_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_core::node::health::{History, Uptime};
    use std::path::Path;

    fn said(failures: u16, silent: u16, votes: bool) -> Health {
        let history = History { starts: 9, failures, silent };
        Health { history, votes, written: 4, uptime: Uptime(60) }
    }

    /// F13: what was counted before this agent heard of it is shown, and is no alarm; what is counted while
    /// it listens is one, for a day.
    #[test]
    fn failures_that_become_more_are_a_warning_for_a_day() {
        let config = SiteConfig::parse(Path::new("site.toml"), crate::site_config::EXAMPLE).unwrap();
        let (mut all, node) = (Witnesses::default(), NodeId(3));
        let at = |hours: u64| Instant::from_millis(hours * 3_600_000);
        assert_eq!(all.show(at(0), node), None);
        assert!(all.take(at(1), node, said(2, 0, true), &config).is_none());
        let shown = all.show(at(2), node).unwrap();
        assert_eq!((shown.failures, shown.failing, shown.uptime_ms), (2, false, 60_000 + 3_600_000));
        let news = all.take(at(3), node, said(2, 1, true), &config).unwrap();
        assert!(news.text.contains("came: 3.") && news.text.contains("bulkhead logs witness"), "{news:?}");
        assert!(all.take(at(4), node, said(2, 1, true), &config).is_none(), "said once");
        assert!(all.show(at(26), node).unwrap().failing);
        assert!(!all.show(at(27), node).unwrap().failing);
        assert!(all.take(at(28), node, said(3, 1, true), &config).is_some());
        assert!(all.take(at(29), node, said(0, 0, true), &config).is_none(), "its power was cut");
        assert!(!all.show(at(29), node).unwrap().failing);
    }

    /// F25: a witness whose card failed says so itself.
    #[test]
    fn a_witness_that_does_not_vote_is_news_once() {
        let config = SiteConfig::parse(Path::new("site.toml"), crate::site_config::EXAMPLE).unwrap();
        let (mut all, now) = (Witnesses::default(), Instant::ZERO);
        let mut take = |votes| all.take(now, NodeId(3), said(0, 0, votes), &config).map(|news| news.text);
        assert!(take(false).is_some_and(|text| text.contains("does not vote")));
        assert_eq!((take(false), take(true)), (None, None));
        assert!(take(false).is_some());
    }
}
