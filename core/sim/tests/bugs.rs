//! Every planted bug that is the simulator's to find is caught, by a seed that is shown: a check that has
//! caught nothing proves nothing.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, reason = "a test")]

use std::any::Any;
use std::panic::{catch_unwind, set_hook, take_hook};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bulkhead_core::bug::{BUGS, Layer, plant};
use bulkhead_sim::plan::PROFILES;
use bulkhead_sim::run::{Options, run};
use bulkhead_sim::site;

/// Seeds spent on each bug before it counts as missed: as many as check a change. The rarest is found by one
/// seed in some thousands.
const BUDGET: u64 = 20_000;

/// Of sites with guests.
const SITES: u64 = 300;

/// What a seed says with this bug: its profile, and what was seen.
fn seen(layer: Layer, seed: u64) -> (&'static str, Option<String>) {
    if layer == Layer::Guests {
        let outcome = catch_unwind(|| site::run::run(&site::run::Options::small(seed)).violation);
        let text = outcome.map(|violation| violation.map(|violation| violation.text));
        return ("site", text.unwrap_or_else(|panic| Some(said(&*panic))));
    }
    let stores = layer == Layer::Group;
    let profile = PROFILES[usize::try_from(seed).unwrap() % PROFILES.len()];
    let per_side = 1 + u16::from(stores && seed % 4 == 3);
    let options = Options { seed, profile, per_side, stores, whole_trace: false };
    // A self-check of the machines that fails is a bug found, too.
    let outcome = catch_unwind(|| run(&options).violation.map(|violation| violation.text));
    (profile.name(), outcome.unwrap_or_else(|panic| Some(said(&*panic))))
}

/// The first seed found, its profile, and what it says.
fn caught(layer: Layer) -> Option<(u64, &'static str, String)> {
    let budget = if layer == Layer::Guests { SITES } else { BUDGET };
    let (found, next) = (Mutex::new(None::<(u64, &'static str, String)>), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if budget <= seed || found.lock().unwrap().is_some() {
                        return;
                    }
                    let (profile, text) = seen(layer, seed);
                    if let Some(text) = text {
                        let mut found = found.lock().unwrap();
                        if found.as_ref().is_none_or(|(other, ..)| seed < *other) {
                            *found = Some((seed, profile, text));
                        }
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a self-check: {}", text.unwrap_or("failed"))
}

#[test]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let only = std::env::var("BULKHEAD_BUG").ok();
    println!("{:<24} {:>6}  {:<11} what was seen", "bug", "seed", "profile");
    for planted in BUGS.iter().filter(|planted| planted.layer != Layer::Register) {
        let name = planted.name;
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        plant(Some(planted.bug));
        match caught(planted.layer) {
            Some((seed, profile, text)) => println!("{name:<24} {seed:>6}  {profile:<11} {text}"),
            None => {
                println!("{name:<24}      -  not found");
                missed.push(name);
            }
        }
    }
    plant(None);
    set_hook(hook);
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
