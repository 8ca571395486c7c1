//! From the configuration to what `bulkhead_core::node` must know (F54, V40, X06).

use crate::failure::Failure;
use crate::site_config::value::time;
use crate::site_config::{Duty, Fencing, Goal, Method, Preset, SiteConfig, Timing, key};
use bulkhead_core::budget::compile::compile;
use bulkhead_core::budget::demand::Demand;
use bulkhead_core::budget::rules::Broken;
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::link::key::{NONCE_LEN, Nonce, SiteKey};
use bulkhead_core::node::settings::{Digest, MEMBERS_MAX, Member, Relay, Settings};
use bulkhead_core::register::voters::Life;
use bulkhead_core::time::Drift;

/// What this node must know at this start.
///
/// # Errors
///
/// The timers contradict each other, or the system has no random numbers.
pub fn settings(config: &SiteConfig, key: &key::SiteKey, life: Life) -> Result<Settings, Failure> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce)
        .map_err(|error| Failure::failed(format!("the system has no random numbers: {error}")))?;
    Ok(Settings {
        site: config.site,
        me: config.local.node,
        nonce: Nonce(nonce),
        key: SiteKey::new(key.0),
        members: members(config),
        timers: timers(&config.timers)?,
        drift: drift(&config.timers),
        life,
        fences: can_fence(config),
        digest: Digest(config.digest()),
        relays: relays(config),
        stores: config.local.storage.is_some(),
    })
}

/// Most wanted first: by priority, then by id, the same on every node.
pub fn members(config: &SiteConfig) -> heapless::Vec<Member, MEMBERS_MAX> {
    let mut sorted: Vec<_> = config.members.iter().collect();
    let priority = |duty: &Duty| match duty {
        Duty::Compartment { priority, .. } => *priority,
        Duty::Witness { .. } => 0,
    };
    sorted.sort_by_key(|member| (std::cmp::Reverse(priority(&member.duty)), member.id));
    let of = |member: &&crate::site_config::Member| {
        let side = match member.duty {
            Duty::Compartment { side, .. } => Some(side),
            Duty::Witness { .. } => None,
        };
        Member { node: member.id, pair: member.duty.pair(), side, votes: member.voter }
    };
    // The checks of the configuration allow no more than fit.
    sorted.iter().take(MEMBERS_MAX).map(of).collect()
}

/// The bound on drift.
pub fn drift(timing: &Timing) -> Drift {
    timing.drift_ppm.and_then(Drift::from_ppm).unwrap_or(Drift::DEFAULT)
}

/// The timers that the configuration asks for.
///
/// # Errors
///
/// What is asked for cannot be had; the message says which inequality fails.
pub fn timers(timing: &Timing) -> Result<Timers, Failure> {
    let demand = demand(timing);
    let timers = match timing.goal {
        Goal::Preset(Preset::Default) => Ok(Timers::DEFAULT),
        Goal::Preset(Preset::Tight) => Ok(Timers::TIGHT),
        Goal::Preset(Preset::Wide) => Ok(Timers::WIDE),
        Goal::Recovery(_) => compile(&demand),
    };
    // A named set, too, must fit what the configuration says of the site.
    let checked = timers.and_then(|timers| timers.check(&demand).map(|()| timers));
    checked.map_err(|broken| impossible(&demand, &broken))
}

/// What the configuration says of the site; the rest as the named set expects it, or as on a LAN.
pub fn demand(timing: &Timing) -> Demand {
    let usual = match timing.goal {
        Goal::Preset(Preset::Default) => Demand::LAN,
        Goal::Preset(Preset::Tight) => Demand::RACK,
        Goal::Preset(Preset::Wide) => Demand::METRO,
        Goal::Recovery(recovery_time) => Demand { recovery_time, ..Demand::LAN },
    };
    Demand {
        drift: drift(timing),
        round_trip: timing.round_trip.unwrap_or(usual.round_trip),
        loss_permille: timing.loss_permille.map_or(usual.loss_permille, u32::from),
        persist: timing.persist.unwrap_or(usual.persist),
        pause: timing.pause.unwrap_or(usual.pause),
        ..usual
    }
}

/// Why no timers keep `demand`, and what would help.
pub fn impossible(demand: &Demand, broken: &Broken) -> Failure {
    let Broken { rule, why, found, needed } = broken;
    let (found, needed, rto) = (time(*found), time(*needed), time(demand.recovery_time));
    let what = format!("no timers recover within {rto}: `{rule}` would be {found} >= {needed}; else {why}");
    let next =
        "allow a longer recovery time, or say that the network, the disks or the processors are better";
    Failure::refused(what).next(next)
}

/// Whose power a witness switches.
pub fn relays(config: &SiteConfig) -> heapless::Vec<Relay, MEMBERS_MAX> {
    let of = |fencing: &Fencing| match fencing.method {
        Method::Relay { witness, .. } => Some(Relay { node: fencing.node, witness }),
        Method::FenceAgent { .. } | Method::Expiry => None,
    };
    // The checks of the configuration allow one for a node.
    config.fencing.iter().filter_map(of).take(MEMBERS_MAX).collect()
}

/// Whether anybody who could be master can be fenced by a device: else leases run out.
pub fn can_fence(config: &SiteConfig) -> bool {
    let me = config.local.node;
    config.fencing.iter().any(|fencing| fencing.node != me && fencing.method != Method::Expiry)
}
