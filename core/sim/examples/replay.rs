//! Replays one seed with its whole trace:
//! `cargo run -p bulkhead-sim --example replay -- SEED PROFILE [PER_SIDE] [stores]`.
#![allow(clippy::indexing_slicing, reason = "a tool")]

use bulkhead_sim::plan::PROFILES;
use bulkhead_sim::run::{Options, run};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse().ok());
    let seed = number(0).unwrap_or(0);
    let named = arguments.get(1).map_or("everything", String::as_str);
    let profile = PROFILES.into_iter().find(|profile| profile.name() == named).unwrap_or(PROFILES[0]);
    let per_side = number(2).and_then(|count| u16::try_from(count).ok()).unwrap_or(1);
    let stores = arguments.iter().any(|text| text == "stores");
    let outcome = run(&Options { seed, profile, per_side, stores, whole_trace: true });
    outcome.trace.iter().for_each(|line| println!("{line}"));
    println!("seed {seed}, hash {:016x}: {:?}", outcome.hash, outcome.violation);
}
