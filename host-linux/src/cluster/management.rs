//! Feeds `bulkhead_core::resource::tenure` with what this node sees: whether the management system belongs
//! here (S1-06, S2-03).

use super::node_settings::drift;
use crate::site_config::SiteConfig;
use bulkhead_core::boot::profile::{Outcome, Profile, Reach};
use bulkhead_core::monitor::pair::Role;
use bulkhead_core::node::machine::Node;
use bulkhead_core::node::message::Office;
use bulkhead_core::resource::tenure::{Event, Tenure};
use bulkhead_core::time::Instant;
use std::time::Duration;

/// What a node that has lost the role may need to stop what belongs to it or to be reset, when its stops take
/// `stop` at most and its watchdog `watchdog`.
///
/// The agent may die and come back just before the watchdog would have reset the node, and then fail to stop
/// it: so the watchdog counts twice, and each time twice, for some chipsets reset at the second expiry only.
pub fn grace(stop: Duration, watchdog: Duration) -> Duration {
    if stop.is_zero() { stop } else { stop.saturating_add(watchdog.saturating_mul(4)) }
}

/// A tenure for the timing of a site.
pub fn tenure(config: &SiteConfig, grace: Duration) -> Tenure {
    // The other node's clock may be slow.
    Tenure::new(drift(&config.timers).at_least(grace))
}

/// Tells `tenure` how things are at `now`.
pub fn look(tenure: &mut Tenure, now: Instant, node: &Node, config: &SiteConfig, profile: Option<&Outcome>) {
    let Some(post) = node.post(Office::Controller) else { return };
    for member in config.members.iter().filter(|member| member.id != config.local.node) {
        let said = post.pair().said(member.id).filter(|said| said.role == Role::Master);
        if let Some(said) = said {
            tenure.step(now, Event::Seen { holder: member.id, epoch: said.epoch });
        }
    }
    tenure.step(now, Event::Profile { manages: profile.is_some_and(manages) });
    tenure.step(now, post.seat().holds(now).map_or(Event::Lost, |epoch| Event::Held { epoch }));
}

/// Whether a boot profile has the management system on the node that is the designated controller: by its own
/// words, or because the controller that is to be followed is this node itself, and most of the others see
/// that.
fn manages(outcome: &Outcome) -> bool {
    let most = matches!(outcome.inputs.reach, Reach::Majority | Reach::NearlyAll);
    outcome.profile.manages() || (outcome.profile == Profile::Follow && most)
}
