//! How a witness is, told to those it votes for: nobody stands beside it (F13, F25, V13).
//!
//! Told when a session begins, when its disk fails, and as seldom as a roster is told to far peers. Whoever
//! does not know this word ignores it. Nothing is decided by it: it is for the operator.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::machine::{Node, Out};
use super::message::Said;
use super::settings::MEMBERS_MAX;
use crate::id::NodeId;
use crate::register::acceptor::Mode;
use crate::time::Instant;

/// What its earlier starts came to. Only the shell knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct History {
    /// How often it started, this start included.
    pub starts: u32,
    /// Starts that ended by a failure of the program, and said so.
    pub failures: u16,
    /// Starts that ended without a word: as a rule by a watchdog.
    pub silent: u16,
}

/// How a witness is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Health {
    /// Of its earlier starts.
    pub history: History,
    /// Whether it votes: its disk or card has not failed.
    pub votes: bool,
    /// Votes written since its start.
    pub written: u32,
    /// Seconds since its start.
    pub uptime: Uptime,
}

/// Whole seconds since a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Uptime(pub u32);

impl<
    const PEERS: usize,
    const PLACES: usize,
    const ANSWERS: usize,
    const POSTS: usize,
    const WORK: usize,
    const ROOM: usize,
    const SHOWN: usize,
> Node<PEERS, PLACES, ANSWERS, POSTS, WORK, ROOM, SHOWN>
{
    /// How this voter is.
    pub fn health(&self, now: Instant) -> Health {
        let uptime = u32::try_from(now.since(self.started).as_secs()).unwrap_or(u32::MAX);
        Health {
            history: self.history,
            votes: self.voter().is_some_and(|voter| voter.mode() == Mode::Voting),
            written: self.written,
            uptime: Uptime(uptime),
        }
    }

    /// Tells one node how this witness is. Whoever has an office says what it does instead.
    pub(super) fn tell_health(&mut self, now: Instant, to: NodeId, out: Out<'_>) {
        if self.member().side.is_none() {
            let said = Said::Health(self.health(now));
            self.send(to, &said, out);
        }
    }

    /// Tells everybody.
    pub(super) fn tell_all_health(&mut self, now: Instant, out: Out<'_>) {
        let me = self.member().node;
        let others = self.settings().members.iter().map(|one| one.node).filter(|node| *node != me);
        let others: Vec<NodeId, MEMBERS_MAX> = others.collect();
        for to in others {
            self.tell_health(now, to, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::node::message::{decode, encode};
    use crate::node::testing::{A, B, S, Site, W};
    use crate::node::words::Event;

    /// In the field. If this test fails, add a version; do not edit the bytes.
    #[test]
    fn health_of_version_1_never_changes() {
        let history = History { starts: 300, failures: 2, silent: 1 };
        let health = Health { history, votes: true, written: 5, uptime: Uptime(3_600) };
        let bytes = [8, 0xac, 2, 2, 1, 1, 5, 0x90, 0x1c];
        assert_eq!(encode(&Said::Health(health)), bytes);
        assert_eq!(decode(&bytes), Some(Said::Health(health)));
        assert_eq!(decode(&[10, 0]), None, "a word of a newer Bulkhead is no word");
    }

    /// F13, F25: both nodes learn how the witness is when they meet, again now and then, and at once when
    /// its disk fails; the witness learns nothing of the kind from them.
    #[test]
    fn a_witness_says_how_it_is() {
        let mut site = Site::new(&[A, B, W]);
        let history = History { starts: 4, failures: 1, silent: 0 };
        site.step(W, Event::History(history));
        site.pass(20 * S);
        let all = std::mem::take(&mut site.health);
        let heard = |by| all.iter().filter(|(to, from, _)| (*to, *from) == (by, W)).count();
        for node in [A, B] {
            assert!((2..=20).contains(&heard(node)), "{node:?} heard of it {} times in 20 s", heard(node));
        }
        assert!(all.iter().all(|(_, from, _)| *from == W), "{all:?}");
        let (.., last) = all.last().unwrap();
        assert_eq!((last.history, last.votes), (history, true));
        assert!(1 <= last.written && 5 < last.uptime.0, "{last:?}");
        site.step(W, Event::PersistFailed);
        site.pass(S / 10);
        let told: std::vec::Vec<_> = site.health.iter().map(|(to, _, health)| (*to, health.votes)).collect();
        assert_eq!(told, [(A, false), (B, false)]);
    }
}
