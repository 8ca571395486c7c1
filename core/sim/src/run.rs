//! One run: a cold start, a time of faults, repair, and a time of calm in which all must be well (L-1, L-4).

use std::collections::BTreeSet;

use bulkhead_core::budget::timers::Timers;
use bulkhead_core::monitor::pair::Role;

use crate::chance::Chance;
use crate::oracle::Violation;
use crate::plan::{Fault, Profile, strike};
use crate::world::World;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Determines everything.
    pub seed: u64,
    /// Which faults.
    pub profile: Profile,
    /// Nodes in each compartment.
    pub per_side: u16,
    /// The nodes hold a mirror group.
    pub stores: bool,
    /// Keep every line of the trace.
    pub whole_trace: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of everything that happened: the same seed, the same hash.
    pub hash: u64,
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// The "sometimes" properties that were reached.
    pub reached: BTreeSet<&'static str>,
    /// Simulated time, microseconds.
    pub simulated: u64,
    /// Events.
    pub steps: u64,
    /// Writes of the mirror group that count: each was looked for at every takeover, and in every store.
    pub writes: u64,
    /// The last lines of the trace, or all.
    pub trace: Vec<String>,
}

/// Phases, in leases: cold start, faults, from repair until all must be well, and calm.
const START: u64 = 4;
const FAULTS: u64 = 16;
const REPAIR: u64 = 10;
/// The same where a cut may be under way when all is repaired: its node stays off for some seconds.
const REPAIR_WITH_RELAYS: u64 = 30;
const CALM: u64 = 3;
/// From the calm until the mirror group is together, whatever it had to be filled with.
const TOGETHER: u64 = 10;
/// Activating, fencing and switching on are no faster with tighter timers: for them this lease counts.
const LEASE: u64 = 600_000;

/// The timers of a seed: one site in eight, of every profile, has the tight ones; not the largest. Links and
/// disks without a fault are good enough for both.
pub const fn timers(seed: u64) -> Timers {
    if seed / 8 % 8 == 1 { Timers::TIGHT } else { Timers::DEFAULT }
}

/// Runs one seed.
pub fn run(options: &Options) -> Outcome {
    let mut chance = Chance::new(options.seed);
    let timers = timers(options.seed);
    let lease = u64::try_from(timers.lease.as_micros()).unwrap_or(600_000);
    let allowed = options.profile.faults();
    let mut faults: Vec<Fault> = allowed.iter().copied().filter(|_| chance.happens(600)).collect();
    if faults.is_empty() {
        faults.extend(allowed.first());
    }
    // Whatever else happens: a mirror group is there for nodes that die.
    if options.stores && !faults.is_empty() && !faults.contains(&Fault::Power) && chance.happens(500) {
        faults.push(Fault::Power);
    }
    let fences = faults.contains(&Fault::Fence);
    let mut world = World::new(chance, options.per_side, timers, fences);
    world.relays = fences && world.chance.happens(500);
    world.stores = options.stores;
    world.trace.is_whole = options.whole_trace;
    if options.stores {
        world.groups[0].harms = faults.contains(&Fault::BadFlush);
        world.begin_groups();
    }
    world.note(&|| format!("seed {}, leases of {} ms: {faults:?}", options.seed, lease / 1_000));
    for node in world.all() {
        // Not all at once, and not always all.
        let at = world.chance.below(lease);
        world.run_until(world.now + at / 4);
        if faults.is_empty() || !world.chance.happens(100) {
            world.power_on(node);
        }
    }
    world.run_until(START * lease);
    let end = (START + FAULTS) * lease;
    let pace = world.chance.between(lease / 20, lease);
    while !faults.is_empty() && world.now < end && world.oracle.violation.is_none() {
        let fault = world.chance.one_of(&faults);
        strike(&mut world, fault);
        let wait = world.chance.between(100, 2 * pace);
        world.run_until((world.now + wait).min(end));
    }
    if world.oracle.violation.is_none() {
        settle(&mut world, lease);
    }
    let trace = world.trace.lines().map(String::from).collect();
    Outcome {
        hash: world.trace.hash(),
        violation: world.oracle.violation.clone(),
        reached: world.oracle.reached.clone(),
        simulated: world.now,
        steps: world.steps,
        writes: world.groups[0].ledger.upto().0,
        trace,
    }
}

/// After repair: one master, the others slaves, in time; and then nothing changes (L-1, L-4, V24).
fn settle(world: &mut World, lease: u64) {
    world.heal();
    let (repaired, repair) = (world.now, if world.relays { REPAIR_WITH_RELAYS } else { REPAIR });
    if !world.fences {
        world.run_until(repaired + REPAIR * lease);
        let roles = world.roles();
        if roles.iter().filter(|(_, role)| *role == Role::Master).count() != 1 {
            world.oracle.violated(world.now, format!("in time after repair: not one master, but {roles:?}"));
        }
    }
    if world.relays {
        world.run_until(repaired + repair * lease.max(LEASE) / 2);
        // A cut that was under way is seen by the operator alone: an instance still runs in its compartment;
        // or it hit the one that was to go on alone (X04), and without a master nobody switches it on.
        let has_master = world.roles().iter().any(|(_, role)| *role == Role::Master);
        if 2 < world.nodes().len() || !has_master {
            world.all().into_iter().for_each(|node| world.power_on(node));
        }
    }
    world.run_until(repaired + repair * lease.max(LEASE));
    all_is_well(world, "after repair");
    let before = world.oracle.role_changes;
    world.run_until(world.now + CALM * lease);
    all_is_well(world, "in the calm");
    if before != world.oracle.role_changes {
        world.oracle.violated(world.now, String::from("a role changed in the calm"));
    }
    if world.stores {
        settle_group(world, lease);
    }
}

/// The guests rest, and the group comes together: all in sync, and all stores alike (L-1, X13, X14).
fn settle_group(world: &mut World, lease: u64) {
    world.groups[0].pace = 0;
    let end = world.now + TOGETHER * lease.max(LEASE);
    let mut apart = world.is_together(0);
    while apart.is_err() && world.now < end && world.oracle.violation.is_none() {
        world.run_until(world.now + lease);
        apart = world.is_together(0);
    }
    if let Err(why) = apart {
        let modes = world.group_modes(0);
        world.oracle.violated(world.now, format!("the group does not come together: {why}; {modes:?}"));
    }
    world.oracle.reached.insert("group together");
}

fn all_is_well(world: &mut World, when: &str) {
    let roles = world.roles();
    let masters = roles.iter().filter(|(_, role)| *role == Role::Master).count();
    let slaves = roles.iter().filter(|(_, role)| *role == Role::Slave).count();
    if masters != 1 || masters + slaves != world.nodes().len() {
        world.oracle.violated(world.now, format!("{when}: not one master and its slaves, but {roles:?}"));
    }
}
