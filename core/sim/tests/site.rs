//! Sites with guests, small ones from many seeds and the largest from a few: no promise is broken, no guest
//! that is to run is left down, and what follows a loss is what was forecast (I1 to I12; X09, X22).
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_sim::site::run::{Options, run};

/// From the environment, else what every change must pass.
fn count(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(otherwise)
}

#[derive(Default)]
struct Sum {
    reached: BTreeMap<&'static str, u64>,
    simulated: u64,
    steps: u64,
    starts: u64,
    failed: Vec<String>,
}

fn run_one(options: &Options, size: &str, sum: &Mutex<Sum>) {
    let outcome = run(options);
    let mut sum = sum.lock().unwrap();
    if let Some(violation) = outcome.violation {
        let trace = outcome.trace[outcome.trace.len().saturating_sub(60)..].join("\n");
        let (seed, at) = (options.seed, violation.at);
        sum.failed.push(format!(
            "{trace}\nseed {seed}, a {size} site: at {}.{:06} s: {}\n\
             replay: cargo run -p bulkhead-sim --example replay -- {seed} site {size}",
            at / 1_000_000,
            at % 1_000_000,
            violation.text,
        ));
    }
    outcome.reached.iter().for_each(|what| *sum.reached.entry(what).or_default() += 1);
    sum.simulated += outcome.simulated;
    sum.steps += outcome.steps;
    sum.starts += outcome.starts;
}

/// Runs so many seeds.
fn run_all(seeds: u64, size: &str, options: impl Fn(u64) -> Options + Sync) -> Sum {
    let (sum, next) = (Mutex::new(Sum::default()), AtomicU64::new(0));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while sum.lock().unwrap().failed.is_empty() {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        seed if seed < seeds => run_one(&options(seed), size, &sum),
                        _all_done => return,
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    println!("{seeds} seeds of {size} sites: {}", rate(&sum, begun.elapsed()));
    println!("seeds that reached each of these: {:?}", sum.reached);
    sum
}

fn rate(sum: &Sum, took: Duration) -> String {
    let (hours, micros) = (sum.simulated as f64 / 3.6e9, took.as_micros().max(1));
    let per_second = u128::from(sum.steps) * 1_000_000 / micros;
    let (steps, starts) = (sum.steps, sum.starts);
    format!(
        "{hours:.1} simulated hours in {took:.0?}, {steps} events, {per_second} a second, {starts} starts"
    )
}

#[test]
fn small_sites_keep_their_promises() {
    let sum = run_all(count("BULKHEAD_SITE_SEEDS", 100), "small", Options::small);
    assert!(sum.failed.is_empty(), "{}", sum.failed.join("\n\n"));
    for what in [
        "failover",
        "forecast: goes on",
        "forecast: moves",
        "forecast: too few voters",
        "group taken over",
        "guest begun",
        "guest could not begin",
        "guest died",
        "guest ended by its lease",
        "guest off",
        "primary died",
        "wanted otherwise",
    ] {
        assert!(sum.reached.contains_key(what), "never reached: {what}");
    }
}

/// S3-08, P3: 64 nodes in 32 pairs with one witness, and 4,000 guests; whole compartments fail.
#[test]
fn the_largest_site_keeps_its_promises() {
    let sum = run_all(count("BULKHEAD_SITES", 2), "largest", Options::largest);
    assert!(sum.failed.is_empty(), "{}", sum.failed.join("\n\n"));
    assert!(sum.reached.contains_key("guest begun"), "{:?}", sum.reached);
}

/// V47: the same seed gives the same trace, another one another.
#[test]
fn a_seed_determines_a_site() {
    let hash = |seed| run(&Options::small(seed)).hash;
    assert_eq!(hash(5), hash(5));
    assert_ne!(hash(5), hash(6));
}
