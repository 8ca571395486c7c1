//! Replays one seed with its whole trace:
//! `cargo run -p bulkhead-sim --example replay -- SEED PROFILE [PER_SIDE] [stores]`, or, for a site of many
//! pairs with guests, `... -- SEED site [small|largest]`.
#![allow(clippy::indexing_slicing, reason = "a tool")]

use bulkhead_sim::plan::PROFILES;
use bulkhead_sim::run::{Options, run};
use bulkhead_sim::site;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse().ok());
    let seed = number(0).unwrap_or(0);
    let named = arguments.get(1).map_or("everything", String::as_str);
    let (trace, hash, violation) = if named == "site" {
        let is_largest = arguments.get(2).is_some_and(|text| text == "largest");
        let of = if is_largest { site::run::Options::largest } else { site::run::Options::small };
        let outcome = site::run::run(&site::run::Options { whole_trace: true, ..of(seed) });
        (outcome.trace, outcome.hash, outcome.violation)
    } else {
        let profile = PROFILES.into_iter().find(|profile| profile.name() == named).unwrap_or(PROFILES[0]);
        let per_side = number(2).and_then(|count| u16::try_from(count).ok()).unwrap_or(1);
        let stores = arguments.iter().any(|text| text == "stores");
        let outcome = run(&Options { seed, profile, per_side, stores, whole_trace: true });
        (outcome.trace, outcome.hash, outcome.violation)
    };
    trace.iter().for_each(|line| println!("{line}"));
    println!("seed {seed}, hash {hash:016x}: {violation:?}");
}
