//! One run of a site: a cold start, a time of faults, repair, and drills, each of them forecast (X09, X22).

use std::collections::BTreeSet;

use bulkhead_core::budget::timers::Timers;
use bulkhead_core::failover::forecast::Follows;

use super::drill::{Forecast, reached};
use super::faults::{FAULTS, Fault, strike};
use crate::chance::Chance;
use crate::oracle::Violation;
use crate::shape::{Shape, Witnesses};
use crate::world::World;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Determines everything.
    pub seed: u64,
    /// Pairs of compartments.
    pub pairs: u16,
    /// Nodes of each pair in each compartment.
    pub per_side: u16,
    /// Guests of each pair.
    pub guests: u16,
    /// Keep every line of the trace.
    pub whole_trace: bool,
}

impl Options {
    /// The largest site: 64 nodes, 4,000 guests.
    pub const fn largest(seed: u64) -> Self {
        Self { seed, pairs: 32, per_side: 1, guests: 125, whole_trace: false }
    }

    /// A small one, of another shape for each seed.
    pub const fn small(seed: u64) -> Self {
        let per_side = if seed % 8 == 7 { 2 } else { 1 };
        let pairs = match seed % 5 {
            0 => 3,
            1 | 2 => 2,
            _ => 1,
        };
        let guests = match seed % 7 {
            0 => 24,
            1 => 12,
            _ => 6,
        };
        Self { seed, pairs, per_side, guests, whole_trace: false }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of everything that happened: the same seed, the same hash.
    pub hash: u64,
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// What should happen sometimes, and did.
    pub reached: BTreeSet<&'static str>,
    /// Simulated time, microseconds.
    pub simulated: u64,
    /// Events.
    pub steps: u64,
    /// Starts of guests.
    pub starts: u64,
    /// The last lines of the trace, or all.
    pub trace: Vec<String>,
}

/// Simulated seconds.
const SECOND: u64 = 1_000_000;
/// Until a cold site is well; from repair, too: a guest that failed four times waits for eight seconds.
const WELL: u64 = 60 * SECOND;
/// Faults.
const FAULTY: u64 = 15 * SECOND;
/// How long a site is watched in which nobody is to lead.
const NOBODY: u64 = 5 * SECOND;
/// From a loss until all is as forecast.
const OUTCOME: u64 = 30 * SECOND;
/// From a loss or a repair before a drill until those that are there know it, and have agreed on who votes.
const AGREED: u64 = 5 * SECOND;
/// How often it is looked.
const LOOK: u64 = SECOND / 2;
/// Drills of a run.
const DRILLS: u64 = 3;

/// Runs one seed.
pub fn run(options: &Options) -> Outcome {
    assert!(usize::from(options.guests) <= super::GUESTS_MAX, "a pair has no more guests than that");
    let mut chance = Chance::new(options.seed ^ 0x5173);
    let timers = if options.pairs < 8 && chance.happens(125) { Timers::TIGHT } else { Timers::DEFAULT };
    let mut faults: Vec<Fault> = FAULTS.into_iter().filter(|_| chance.happens(500)).collect();
    if faults.is_empty() {
        faults.push(Fault::Power);
    }
    let witnesses = match chance.happens(500) || 8 < options.pairs {
        true => Witnesses::Shared,
        false => Witnesses::Each,
    };
    let shape = Shape { pairs: options.pairs, per_side: options.per_side, witnesses };
    let mut world = World::of(chance, &shape, timers, false);
    (world.stores, world.trace.is_whole) = (true, options.whole_trace);
    world.begin_max = world.chance.between(20_000, 200_000);
    world.steps_max *= 20;
    world.make_guests(options.guests);
    world.begin_groups();
    world.note(&|| format!("seed {}: {shape:?}, {} guests each: {faults:?}", options.seed, options.guests));
    for node in world.all() {
        let at = world.chance.below(20_000);
        world.run_until(world.now + at);
        world.power_on(node);
    }
    all_is_well(&mut world, "after a cold start");
    go_wrong(&mut world, &faults);
    world.heal();
    all_is_well(&mut world, "after repair");
    for _ in 0..DRILLS {
        drill(&mut world);
    }
    let trace = world.trace.lines().map(String::from).collect();
    Outcome {
        hash: world.trace.hash(),
        violation: world.oracle.violation.clone(),
        reached: world.oracle.reached.clone(),
        simulated: world.now,
        steps: world.steps,
        starts: world.serials,
        trace,
    }
}

/// Faults, at random, and what repairs them.
fn go_wrong(world: &mut World, faults: &[Fault]) {
    let end = world.now + FAULTY;
    let pace = world.chance.between(20_000, 1_500_000);
    while world.now < end && world.oracle.violation.is_none() {
        let fault = world.chance.one_of(faults);
        strike(world, fault);
        let wait = world.chance.between(100, 2 * pace);
        world.run_until((world.now + wait).min(end));
    }
}

/// In time, every pair is led and its guests run (L-1, S3-08, S3-14).
fn all_is_well(world: &mut World, when: &str) {
    let end = world.now + WELL;
    while world.oracle.violation.is_none() {
        let wrong = (0..world.groups.len()).find_map(|pair| world.guests_are_well(pair).err());
        match wrong {
            None => return,
            Some(why) if end <= world.now => {
                return world.oracle.violated(world.now, format!("{when}, in time: {why}"));
            }
            Some(_) => world.run_until(world.now + LOOK),
        }
    }
}

/// Now and then something is lost already; then a part is, which is forecast.
fn drill(world: &mut World) {
    if world.oracle.violation.is_some() {
        return;
    }
    world.run_until(world.now + AGREED);
    if world.chance.happens(600) {
        let before = world.any_part();
        world.note(&|| format!("before the drill {before:?} is lost"));
        let lost = world.lost_with(before);
        world.lose(&lost);
    }
    world.run_until(world.now + AGREED);
    // What has just begun is waited for; in a pair that nobody leads nothing will.
    let led: Vec<usize> = (0..world.groups.len()).filter(|pair| !world.primaries(*pair).is_empty()).collect();
    let end = world.now + OUTCOME;
    while led.iter().any(|pair| world.guests_are_well(*pair).is_err() || !world.is_steady(*pair)) {
        if end <= world.now || world.oracle.violation.is_some() {
            let why = led.iter().find_map(|pair| world.guests_are_well(*pair).err());
            return world.oracle.violated(world.now, format!("before a drill, in time: {why:?}"));
        }
        world.run_until(world.now + LOOK / 10);
    }
    let part = world.any_part();
    let lost = world.lost_with(part);
    let forecasts: Vec<Forecast> = (0..world.groups.len()).map(|pair| world.forecast(pair, &lost)).collect();
    for forecast in &forecasts {
        world.oracle.reached.insert(reached(forecast.follows));
    }
    world.note(&|| format!("drill: {part:?} is lost"));
    world.lose(&lost);
    compare(world, &forecasts);
    world.heal();
    all_is_well(world, "after a drill");
}

/// In time, and for a while, all is as it was forecast.
fn compare(world: &mut World, forecasts: &[Forecast]) {
    // Leases that run are waited for, in any case.
    let (begun, end) = (world.now, world.now + OUTCOME);
    world.run_until(begun + NOBODY);
    while world.oracle.violation.is_none() {
        let mut all = forecasts.iter().enumerate();
        let wrong = all.find_map(|(pair, forecast)| {
            let differs = world.differs(pair, forecast).err()?;
            Some((differs, matches!(forecast.follows, Follows::Nobody(_))))
        });
        match wrong {
            None => return,
            // Who was not to lead does not lead later, either.
            Some((why, is_nobody)) if is_nobody || end <= world.now => {
                return world.oracle.violated(world.now, format!("not as forecast: {why}"));
            }
            Some(_) => world.run_until(world.now + LOOK),
        }
    }
}
