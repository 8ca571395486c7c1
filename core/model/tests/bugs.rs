//! Every model finds the planted bugs within its reach: a check that has caught nothing proves nothing.
//! One test, because a bug is planted in the whole process.

use bulkhead_core::bug::{BUGS, Bug, plant};
use bulkhead_model::run::{Report, run};
use bulkhead_model::{lease, pair, register};

const REGISTER: register::Bounds = register::Bounds { rounds: [1, 1], cuts: 0, restarts: 0, repeats: 0 };

const LEASE: lease::Bounds = lease::Bounds {
    ticks: 7,
    late: 1,
    settled: false,
    second_from: 0,
    rounds: [1, 1],
    renewals: 0,
    voter_restarts: 0,
    restarts: 0,
    fenced: false,
    releases: 0,
    revotes: 0,
    fast: &[[false, true, true]],
};

const HELD: lease::Bounds = lease::Bounds { late: 0, settled: true, ..LEASE };

fn registers(bounds: register::Bounds) -> Report {
    run("register", bounds.to_string(), register::Register::new(bounds))
}

fn leases(bounds: lease::Bounds) -> Report {
    run("lease", bounds.to_string(), lease::Lease::new(bounds))
}

fn pairs() -> Report {
    let bounds = pair::Bounds { ticks: 3, crashes: 0, commands: 0, fencing: false, lends: false };
    run("pair", bounds.to_string(), pair::Pair::new(bounds))
}

/// What must be found, and by which model.
fn canaries() -> Vec<(Bug, fn() -> Report)> {
    vec![
        (Bug::AnswerBeforePersist, || registers(register::Bounds { cuts: 1, ..REGISTER })),
        (Bug::AcceptUnwritten, || registers(register::Bounds { cuts: 1, ..REGISTER })),
        (Bug::AcceptBelowPromise, || registers(REGISTER)),
        (Bug::HalfIsEnough, || registers(REGISTER)),
        (Bug::PromiseTwice, || registers(register::Bounds { rounds: [2, 1], restarts: 1, ..REGISTER })),
        (Bug::FirstFoundWins, || registers(register::Bounds { rounds: [2, 1], ..REGISTER })),
        (Bug::HalfIsEnough, || leases(LEASE)),
        (Bug::LeaseIgnored, || leases(lease::Bounds { ticks: 1, ..LEASE })),
        (Bug::VoterIgnoresDrift, || leases(LEASE)),
        (Bug::HolderIgnoresDrift, || leases(LEASE)),
        (Bug::LeaseFromReceipt, || leases(LEASE)),
        (Bug::LeaseNotChecked, || leases(LEASE)),
        (Bug::FenceIgnoresStart, || {
            leases(lease::Bounds { rounds: [1, 2], restarts: 1, fenced: true, ..HELD })
        }),
        (Bug::NeverSlave, pairs),
        (Bug::LossIgnored, pairs),
        (Bug::LeaseForgotten, || leases(lease::Bounds { ticks: 1, voter_restarts: 1, ..LEASE })),
    ]
}

#[test]
fn every_model_finds_its_planted_bugs() {
    let mut missed = Vec::new();
    println!("{:<24} {:<9} {:>9} {:>6}  what was seen", "bug", "model", "states", "steps");
    for (bug, check) in canaries() {
        let name = BUGS.iter().find(|planted| planted.bug == bug).map_or("?", |planted| planted.name);
        plant(Some(bug));
        let Report { name: model, states, violation, .. } = check();
        match violation {
            Some((property, steps)) => {
                println!("{name:<24} {model:<9} {states:>9} {:>6}  not so: {property}", steps.len());
            }
            None => missed.push((name, model)),
        }
    }
    plant(None);
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
