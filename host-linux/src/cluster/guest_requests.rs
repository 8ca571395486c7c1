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
use crate::volume::orders::no_storage;
use crate::volume::serve::NBD_SOCKET;
use bulkhead_core::node::message::Office;
use bulkhead_core::node::storage;
use bulkhead_core::node::words::Event;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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

impl Agent {
    /// Until when guests may run here; refused while another node leads, failed while none does.
    pub(super) fn guest_lease(&mut self) -> Answer {
        match self.lend() {
            Ok(lease) => Answer::done("guestLease", serde_json::to_value(lease).unwrap_or_default()),
            Err(failure) => Answer::failure(&failure),
        }
    }

    fn lend(&mut self) -> Result<GuestLease, Failure> {
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
