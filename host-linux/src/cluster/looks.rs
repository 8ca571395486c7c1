//! The agent looks at how things are: for whoever asks, and for alerts (BLACKBOX 3, X25).

use super::clock;
use super::pressure::Lack;
use super::run::Agent;
use super::status::Status;
use super::view::{Surroundings, status};
use super::volumes::Volumes;
use crate::node_site::network::Cards;
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
            guests: self.volumes.as_ref().map(Volumes::guests_seen).unwrap_or_default(),
            witnesses: &self.hands.witnesses,
            alerts: self.alerts.show(now),
        };
        status(&self.node, now, &around)
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
