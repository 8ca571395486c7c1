//! The inequalities between timers: what each protects, in one table (X06).

use core::time::Duration;

use super::demand::Demand;
use super::timers::Timers;

/// One inequality: the left side must be at least the right side.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name, as the operator reads it.
    pub name: &'static str,
    /// What breaks without it.
    pub why: &'static str,
    /// What must be large enough.
    pub at_least: fn(&Timers, &Demand) -> Duration,
    /// For this.
    pub needed: fn(&Timers, &Demand) -> Duration,
}

/// An inequality that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub rule: &'static str,
    /// What breaks without it.
    pub why: &'static str,
    /// What there is.
    pub found: Duration,
    /// What it takes.
    pub needed: Duration,
}

fn twice(time: Duration) -> Duration {
    time.saturating_mul(2)
}

/// All of them, in the order in which they are checked.
pub const RULES: &[Rule] = &[
    Rule {
        name: "heartbeat >= 1 ms",
        why: "heartbeats would be the load of the network",
        at_least: |timers, _| timers.heartbeat,
        needed: |_, _| Duration::from_millis(1),
    },
    Rule {
        name: "slow >= 2 heartbeats + round trip",
        why: "one lost heartbeat would make a peer slow (X07)",
        at_least: |timers, _| timers.slow,
        needed: |timers, demand| twice(timers.heartbeat).saturating_add(demand.round_trip),
    },
    Rule {
        name: "silence > slow",
        why: "a peer would be dead before it is slow (X07, V28)",
        at_least: |timers, _| timers.silence,
        needed: |timers, _| timers.slow.saturating_add(Duration::from_millis(1)),
    },
    Rule {
        name: "silence >= heartbeats that may be lost in a row + pause + round trip",
        why: "chance alone would make a healthy peer silent (V28)",
        at_least: |timers, _| timers.silence,
        needed: |timers, demand| {
            let lost = timers.heartbeat.saturating_mul(demand.losses());
            lost.saturating_add(demand.pause).saturating_add(demand.round_trip)
        },
    },
    Rule {
        name: "stable >= silence",
        why: "a link that comes and goes would bring a peer back each time (F40, L-4)",
        at_least: |timers, _| timers.stable,
        needed: |timers, _| timers.silence,
    },
    Rule {
        name: "answer >= round trip + durable write + pause",
        why: "a voter's answer would come after it was given up",
        at_least: |timers, _| timers.answer_max,
        needed: |_, demand| demand.phase(),
    },
    Rule {
        name: "lease as its holder counts it >= 2 renewals + round trip + 2 pauses",
        why: "one lost renewal would lose the lease, and with it the master (V3)",
        at_least: |timers, demand| demand.drift.at_most(timers.lease),
        needed: |timers, demand| {
            let renewals = twice(timers.renew).saturating_add(demand.round_trip);
            renewals.saturating_add(twice(demand.pause))
        },
    },
    Rule {
        name: "watch >= renewal",
        why: "those who follow would load the voters more than the master does",
        at_least: |timers, _| timers.watch,
        needed: |timers, _| timers.renew,
    },
    Rule {
        name: "pause after an attempt >= round trip",
        why: "two that try at once would disturb each other for ever",
        at_least: |timers, _| timers.backoff,
        needed: |_, demand| demand.round_trip,
    },
    Rule {
        name: "listening >= silence + heartbeat",
        why: "a node that starts would ask for the register before it can have heard the master",
        at_least: |timers, _| timers.listen,
        needed: |timers, _| timers.silence.saturating_add(timers.heartbeat),
    },
    Rule {
        name: "turn >= a round of two phases",
        why: "the next in order would disturb the one before it",
        at_least: |timers, _| timers.stagger,
        needed: |_, demand| twice(demand.phase()),
    },
    Rule {
        name: "activation >= listening",
        why: "a peer would be started again while it starts",
        at_least: |timers, _| timers.activate,
        needed: |timers, _| timers.listen,
    },
    Rule {
        name: "fencing >= what the device takes",
        why: "a fence would count as failed while it works (F28)",
        at_least: |timers, _| timers.fence,
        needed: |_, demand| demand.fence.unwrap_or_default(),
    },
    Rule {
        name: "recovery time >= takeover",
        why: "a takeover may take longer than was promised",
        at_least: |_, demand| demand.recovery_time,
        needed: |timers, demand| timers.takeover(demand),
    },
];

impl Timers {
    /// The longest time from the death of a master to the next one acting: its silence is noticed and its
    /// lease runs out at the voters, whichever is later; then one attempt in vain, and a round of two
    /// phases. In true time, with every clock that counts as slow as it may be: the voter's while it keeps
    /// the lease, and the next one's while it waits for what the voter said is left.
    pub fn takeover(&self, demand: &Demand) -> Duration {
        let drift = demand.drift;
        let noticed = drift.at_longest(self.silence).saturating_add(demand.pause);
        // The voter counts the lease stretched once, the next one stretches what is left of that again.
        let lease = drift.at_longest(drift.at_least(drift.at_least(self.lease)));
        let free = lease.saturating_add(demand.round_trip);
        let wait = noticed.max(free).saturating_add(drift.at_longest(twice(self.backoff)));
        wait.saturating_add(twice(demand.phase()))
    }

    /// Whether these timers satisfy `demand`.
    ///
    /// # Errors
    ///
    /// The first inequality that does not hold.
    pub fn check(&self, demand: &Demand) -> Result<(), Broken> {
        for rule in RULES {
            let (found, needed) = ((rule.at_least)(self, demand), (rule.needed)(self, demand));
            if found < needed {
                return Err(Broken { rule: rule.name, why: rule.why, found, needed });
            }
        }
        Ok(())
    }
}
