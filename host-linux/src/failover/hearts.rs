//! Guests of this node whose heartbeat is lost, as their processes say it (S3-03). Whoever says so says it
//! again while it is so: what an agent knew before its end, the next one hears.

use crate::cluster::events::News;
use crate::vmm::description::{Lost, is_name};
use crate::vmm::permit::before;
use bulkhead_core::time::Instant;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// While a heartbeat is lost, this is said so often.
pub const AGAIN: Duration = Duration::from_secs(2);
/// What was not said again for so long is so no more: the process has ended.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// As many as run on a node (S0-02). Of more than these nothing is known.
const GUESTS_MAX: usize = 1024;

/// Those whose heartbeat is lost, by name.
#[derive(Debug, Default)]
pub struct Hearts(BTreeMap<String, Silent>);

#[derive(Clone, Copy, Debug)]
struct Silent {
    since: Instant,
    until: Instant,
}

impl Hearts {
    /// Hears at `now` that the heartbeat of this guest is lost for so long, or is not; and what follows. What
    /// there is to say of that, if it is new.
    pub fn hear(&mut self, now: Instant, guest: &str, lost: Option<Duration>, follows: Lost) -> Option<News> {
        self.0.retain(|_, silent| now < silent.until);
        let said = |kind, what: &str| {
            let text = format!("guest {guest}: its heartbeat is {what}");
            Some(News::new(kind, text, json!({ "guest": guest })))
        };
        let Some(lost) = lost else {
            return self.0.remove(guest).and_then(|_| said("guest-heard", "not lost any more"));
        };
        let (since, until) = (before(now, lost), now.after(GOOD_FOR));
        if let Some(silent) = self.0.get_mut(guest) {
            silent.until = until;
            return None;
        }
        if !is_name(guest) || GUESTS_MAX <= self.0.len() {
            return None;
        }
        self.0.insert(guest.to_owned(), Silent { since, until });
        let then = match follows {
            Lost::Report => "lost",
            Lost::Reset => "lost: it begins anew",
            Lost::Stop => "lost: it ends",
        };
        said("guest-silent", then)
    }

    /// For how long the heartbeat of this guest has been lost at `now`; `None`: it is not.
    #[must_use]
    pub fn silent(&self, now: Instant, guest: &str) -> Option<Duration> {
        let silent = self.0.get(guest).filter(|silent| now < silent.until)?;
        Some(now.since(silent.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: fn(u64) -> Duration = Duration::from_secs;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO.after(SECOND(seconds))
    }

    /// S3-03: each is said once when it begins and once when it ends, and is known in between.
    #[test]
    fn what_is_lost_is_known_until_it_is_back() {
        let mut hearts = Hearts::default();
        let mut hear = |now, lost: Option<u64>, follows| {
            let news = hearts.hear(at(now), "web1", lost.map(SECOND), follows);
            (news.map(|news| (news.kind, news.text)), hearts.silent(at(now), "web1"))
        };
        let said = |kind, text: &str| Some((kind, format!("guest web1: its heartbeat is {text}")));
        assert_eq!(hear(100, None, Lost::Report), (None, None), "it was not lost");
        assert_eq!(hear(100, Some(3), Lost::Report), (said("guest-silent", "lost"), Some(SECOND(3))));
        assert_eq!(hear(102, Some(5), Lost::Report), (None, Some(SECOND(5))), "once");
        assert_eq!(hear(104, None, Lost::Report), (said("guest-heard", "not lost any more"), None));
        assert_eq!(hear(105, Some(0), Lost::Reset).0, said("guest-silent", "lost: it begins anew"));
        // Nobody says it again: the process is gone.
        assert_eq!(hearts.silent(at(114), "web1"), Some(SECOND(9)));
        assert_eq!(hearts.silent(at(115), "web1"), None);
        let again = hearts.hear(at(115), "web1", Some(SECOND(1)), Lost::Stop);
        assert_eq!(again.unwrap().text, "guest web1: its heartbeat is lost: it ends");
        assert_eq!(hearts.silent(at(115), "db"), None);
    }

    /// I11: who speaks to the socket makes an agent hold so much, and no more.
    #[test]
    fn what_is_known_is_bounded() {
        let mut hearts = Hearts::default();
        for wrong in ["", "a b", &"x".repeat(1000)] {
            assert_eq!(hearts.hear(at(0), wrong, Some(SECOND(1)), Lost::Report), None, "{wrong}");
        }
        for number in 0..2000 {
            hearts.hear(at(0), &format!("g{number}"), Some(SECOND(1)), Lost::Report);
        }
        assert_eq!(hearts.0.len(), GUESTS_MAX);
        hearts.hear(at(10), "web1", Some(SECOND(1)), Lost::Report);
        assert_eq!(hearts.0.len(), 1, "what is over takes no room");
    }
}
