//! The holder's side of a lease: until when may it act? (V3, F19, F22)
//!
//! Each renewal asks all voters at once. When a quorum has granted it, the lease runs from the moment the
//! question was *sent*, for at most what was promised. Late grants of an earlier question still count, for
//! what they are worth.

use core::time::Duration;

use heapless::Vec;

use super::message::AskId;
use super::voters::{ASKED_MAX, Voter, Voters};
use crate::bug::{Bug, is_planted};
use crate::time::{Drift, Instant};

/// Renewals that may be under way at once: what fits a lease when every third is answered.
const UNDER_WAY_MAX: usize = 4;

/// A lease being kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// What is promised by each grant, counted on this node's clock at its fastest.
    counted: Duration,
    /// The first instant at which the holder may not act.
    until: Instant,
    under_way: Vec<Renewal, UNDER_WAY_MAX>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Renewal {
    ask: AskId,
    sent: Instant,
    granted: Vec<Voter, ASKED_MAX>,
}

impl Lease {
    /// A lease of `length` that a quorum granted with a question sent at `sent`.
    pub fn granted(length: Duration, drift: Drift, sent: Instant) -> Self {
        let counted = match is_planted(Bug::HolderIgnoresDrift) {
            true => drift.at_least(drift.at_least(length)),
            false => drift.at_most(length),
        };
        Self { counted, until: sent.after(counted), under_way: Vec::new() }
    }

    /// The first instant at which the holder may not act.
    pub const fn until(&self) -> Instant {
        self.until
    }

    /// Whether the holder may act. Asked immediately before every effect that leaves the process.
    pub fn holds(&self, now: Instant) -> bool {
        now < self.until || is_planted(Bug::LeaseNotChecked)
    }

    /// A question to all voters is about to be sent.
    pub fn asks(&mut self, ask: AskId, sent: Instant) {
        if self.under_way.is_full() {
            self.under_way.remove(0);
        }
        // There is room now.
        let _ = self.under_way.push(Renewal { ask, sent, granted: Vec::new() });
    }

    /// `voter` granted `ask`. Whether the lease became longer.
    pub fn grants(&mut self, now: Instant, ask: AskId, voter: Voter, voters: &Voters, settled: bool) -> bool {
        let Some(renewal) = self.under_way.iter_mut().find(|renewal| renewal.ask == ask) else {
            return false;
        };
        if !renewal.granted.contains(&voter) && renewal.granted.push(voter).is_err() {
            return false;
        }
        let from = if is_planted(Bug::LeaseFromReceipt) { now } else { renewal.sent };
        let until = from.after(self.counted);
        let quorum = match settled {
            true => voters.current.majority(&renewal.granted),
            false => voters.quorum(&renewal.granted),
        };
        if quorum && self.until < until {
            self.until = until;
            return true;
        }
        false
    }

    /// A quorum granted a lease together with a record, by a question sent at `sent`.
    pub fn extend(&mut self, sent: Instant) {
        self.until = self.until.max(sent.after(self.counted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::register::voters::{Life, Set};

    fn voter(node: u16) -> Voter {
        Voter { node: NodeId(node), life: Life(7) }
    }

    /// V3: a lease runs from the newest question that a majority granted. What comes late for an older one
    /// takes nothing away.
    #[test]
    fn a_late_grant_shortens_nothing() {
        let voters = Voters::settled(Set::new([1, 2, 3].map(voter)).unwrap());
        let (length, drift) = (Duration::from_millis(600), Drift::from_ppm(0).unwrap());
        let mut lease = Lease::granted(length, drift, Instant::ZERO);
        lease.asks(AskId(1), Instant::from_millis(100));
        lease.asks(AskId(2), Instant::from_millis(200));
        for (ask, by, is_longer, until, why) in [
            (2, 1, false, 600, "one of three"),
            (2, 1, false, 600, "the same one again"),
            (3, 2, false, 600, "never asked"),
            (2, 2, true, 800, "a majority"),
            (1, 1, false, 800, "late"),
            (1, 2, false, 800, "a majority of a question before"),
        ] {
            let longer = lease.grants(Instant::from_millis(300), AskId(ask), voter(by), &voters, false);
            assert_eq!((longer, lease.until()), (is_longer, Instant::from_millis(until)), "{why}");
        }
        for (sent, until) in [(150, 800), (250, 850)] {
            lease.extend(Instant::from_millis(sent));
            assert_eq!(lease.until(), Instant::from_millis(until), "with a record asked for at {sent} ms");
        }
    }
}
