//! The agent looks at how things are: for whoever asks, for alerts, and before what an operator had better
//! not do (BLACKBOX 3, X21, X25).

use super::clock;
use super::holds::why;
use super::pressure::Lack;
use super::request::{Answer, PowerWord};
use super::run::Agent;
use super::status::Status;
use super::view::{Surroundings, status};
use super::volumes::Volumes;
use crate::node_site::network::Cards;
use bulkhead_core::id::NodeId;
use bulkhead_core::time::Instant;

impl Agent {
    /// How things are.
    pub(super) fn status(&self, now: Instant) -> Status {
        let [one, two] = &self.hands.networks;
        let mut lacks = self.lacks.clone();
        let absent = self.cards.iter().flat_map(Cards::why);
        lacks.extend(self.hands.switchboard.lack());
        lacks.extend(self.volumes.iter().flat_map(Volumes::lacks));
        lacks.extend(absent.map(|why| Lack { what: "network", why }));
        let around = Surroundings {
            config: &self.hands.config,
            started: self.started,
            lacks: &lacks,
            last_error: self.hands.last_error.as_deref(),
            counts: [one.counts(), two.counts()],
            takeover: self.takeover,
            profile: self.chooser.show(),
            resources: self.resources.show(),
            storage: self.storage_view(),
            guests: self.volumes.as_ref().map(|volumes| volumes.guests_seen(now)).unwrap_or_default(),
            witnesses: &self.hands.witnesses,
            alerts: self.alerts.show(now),
        };
        status(&self.node, now, &around)
    }

    /// Holds this node's leave where it would be the end of something.
    pub(super) fn hold_leave(&mut self, node: NodeId, word: Option<&str>) -> Result<(), Answer> {
        let name = self.hands.config.name_of(node);
        // Another node's is refused anyway.
        if node != self.hands.config.local.node {
            return Ok(());
        }
        self.hold(&format!("the leave of {name}"), &name, word)
    }

    /// Holds the cut of another node where it would be the end of something, and an operator asks for it.
    pub(super) fn hold_cut(
        &mut self,
        node: NodeId,
        want: PowerWord,
        operator: bool,
        word: Option<&str>,
    ) -> Result<(), Answer> {
        if want != PowerWord::Off || !operator {
            return Ok(());
        }
        let name = self.hands.config.name_of(node);
        self.hold(&format!("the cut of {name}"), &name, word)
    }

    fn hold(&mut self, action: &str, node: &str, word: Option<&str>) -> Result<(), Answer> {
        let now = clock::now();
        let why = why(&self.status(now), node);
        self.holds.pass(now, action, why, word)
    }

    /// Says what is wrong and stays so, and what is so no more.
    pub(super) fn look_for_alerts(&mut self) {
        let now = clock::now();
        if self.alerts.is_due(now) {
            let status = self.status(now);
            self.alerts.look(now, &status, &mut self.hands.log);
        }
    }
}
