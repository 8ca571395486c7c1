//! What the control socket is asked by those who run guests: until when they may (I5, V23, X02).
//!
//! The right to run guests of this pair's volumes is the right to lead its mirror group, and ends when that
//! ends: the lease of the register, with the worst drift of every clock already counted
//! (`bulkhead_core::register`). What is answered is how long that is good for **from the answer on**, in time
//! of this machine. Who counts it from before it asked counts too little, never too much, however late the
//! answer is; and needs no clock whose zero is this process's.
//!
//! Whoever asked goes on by itself until then, whatever becomes of this agent. So the node is told first, and
//! does not give its register back before (`bulkhead_core::node::storage::Event::Lent`).

use super::clock;
use super::request::Answer;
use super::run::Agent;
use crate::failure::Failure;
use crate::vmm::description::Lost;
use crate::volume::orders::no_storage;
use crate::volume::serve::NBD_SOCKET;
use bulkhead_core::node::message::Office;
use bulkhead_core::node::storage;
use bulkhead_core::node::words::Event;
use bulkhead_core::time::Instant;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The answer to [`Request::GuestLease`](super::request::Request::GuestLease): guests may run here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestLease {
    /// This node.
    pub node: u16,
    /// Under which epoch it leads: while it is the same, no other node has led.
    pub epoch: u64,
    /// For so long from now on. Rounded down.
    pub left_ms: u64,
    /// Where the volumes are that it leads: the NBD socket.
    pub volumes: PathBuf,
}

/// Leases that can be given back; what others are told counts until its end.
const LEASES_MAX: usize = 1024;
/// Bytes of what one is called.
const LEASE_NAME_MAX: usize = 64;

/// What guests were told, until when.
#[derive(Debug, Default)]
pub struct Lent {
    /// By their names, those that can be given back.
    leases: BTreeMap<String, Instant>,
    /// Of all others.
    others: Instant,
}

impl Lent {
    /// A guest was told so.
    fn lend(&mut self, now: Instant, lease: Option<&str>, until: Instant) {
        self.leases.retain(|_, until| now < *until);
        let is_named = |name: &&str| {
            let is_known = self.leases.contains_key(*name);
            name.len() <= LEASE_NAME_MAX && (is_known || self.leases.len() < LEASES_MAX)
        };
        match lease.filter(is_named) {
            Some(name) => {
                let known = self.leases.entry(name.to_owned()).or_insert(until);
                *known = until.max(*known);
            }
            None => self.others = self.others.max(until),
        }
    }

    /// One was given back: until when others were told.
    fn give_back(&mut self, lease: &str) -> Instant {
        self.leases.remove(lease);
        self.leases.values().copied().fold(self.others, Instant::max)
    }
}

impl Agent {
    /// A guest stands still, and runs by its lease no more: who leads next need not wait for it.
    pub(super) fn guest_return(&mut self, lease: &str) -> Answer {
        if let Some(volumes) = &mut self.volumes {
            let until = volumes.lent.give_back(lease);
            self.step(Event::Storage(storage::Event::Returned { until }));
        }
        Answer::done("guestReturn", json!({}))
    }

    /// The heartbeat of a guest here is lost for so long, or is not (S3-03).
    pub(super) fn guest_heartbeat(&mut self, guest: &str, lost_ms: Option<u64>, follows: Lost) -> Answer {
        let now = clock::now();
        if let Some(volumes) = &mut self.volumes {
            let news = volumes.hearts.hear(now, guest, lost_ms.map(Duration::from_millis), follows);
            let _ = news.map(|news| self.hands.log.say(news));
        }
        Answer::done("guestHeartbeat", json!({}))
    }

    /// Until when guests may run here; refused while another node leads, failed while none does.
    pub(super) fn guest_lease(&mut self, lease: Option<&str>) -> Answer {
        match self.lend(lease) {
            Ok(lease) => Answer::done("guestLease", serde_json::to_value(lease).unwrap_or_default()),
            Err(failure) => Answer::failure(&failure),
        }
    }

    fn lend(&mut self, lease: Option<&str>) -> Result<GuestLease, Failure> {
        let Some(volumes) = &self.volumes else {
            return Err(no_storage(&self.hands.config.name_of(self.hands.config.local.node)));
        };
        if self.stopping.is_some() {
            let what = "this agent stops, and lets no guest run any longer";
            return Err(Failure::failed(what).left(""));
        }
        let (epoch, now) = (volumes.group().reign(), clock::now());
        let seat = self.node.post(Office::Storage).map(bulkhead_core::node::post::Post::seat);
        let until = seat.filter(|seat| seat.holds(now).is_some()).and_then(|seat| seat.until());
        let Some((epoch, until)) = epoch.zip(until) else {
            return Err(self.listing().map_or_else(
                || no_storage(&self.hands.config.name_of(self.hands.config.local.node)),
                |(_, listing)| listing.no_guests_here(),
            ));
        };
        if let Some(volumes) = &mut self.volumes {
            volumes.lent.lend(now, lease, until);
        }
        self.step(Event::Storage(storage::Event::Lent { until }));
        let left = until.since(clock::now());
        Ok(GuestLease {
            node: self.hands.config.local.node.0,
            epoch: epoch.0,
            left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            volumes: self.hands.config.local.state.join(NBD_SOCKET),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I5: what is given back is not waited for; what others were told is, whoever they are and however many.
    #[test]
    fn what_is_lent_ends_with_the_last_of_it() {
        let at = Instant::from_millis;
        let mut lent = Lent::default();
        lent.lend(at(0), Some("a"), at(600));
        lent.lend(at(100), Some("b"), at(700));
        lent.lend(at(200), Some("a"), at(800));
        assert_eq!(lent.give_back("a"), at(700));
        assert_eq!(lent.give_back("none"), at(700));
        lent.lend(at(300), None, at(650));
        assert_eq!(lent.give_back("b"), at(650), "nobody gives it back");
        let long = "x".repeat(LEASE_NAME_MAX + 1);
        lent.lend(at(300), Some(&long), at(660));
        assert_eq!(lent.give_back(&long), at(660));
        for number in 0..LEASES_MAX + 1 {
            lent.lend(at(300), Some(&number.to_string()), at(670));
        }
        assert_eq!(lent.leases.len(), LEASES_MAX);
        for number in 0..LEASES_MAX + 1 {
            lent.give_back(&number.to_string());
        }
        assert_eq!(lent.give_back("x"), at(670), "one too many to be known");
        lent.lend(at(300), Some("a"), at(700));
        lent.lend(at(700), Some("b"), at(900));
        assert_eq!(lent.leases.len(), 1, "what is over is forgotten");
    }
}
