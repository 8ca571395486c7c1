//! Every model is sound within its bounds, and says what they are and how many states there were.
//!
//! `cargo xtask soak --models` goes further, for a few minutes.

use bulkhead_core::holder::words::Backing;
use bulkhead_model::run::{Report, run};
use bulkhead_model::{lease, mirror, pair, register};

fn is_wide() -> bool {
    std::env::var_os("BULKHEAD_MODEL").is_some_and(|value| value == "wide")
}

/// Shows how much was visited, and demands that nothing was wrong there and that it was no less than `floor`:
/// a model that has collapsed finds nothing either.
fn check(floor: usize, reports: impl Iterator<Item = Report>) {
    let shown = reports.inspect(|report| {
        println!("{report}");
        report.expect_sound();
    });
    let states: usize = shown.map(|report| report.states).sum();
    assert!(floor <= states, "{states} states are fewer than ever");
}

const REGISTER: register::Bounds = register::Bounds { rounds: [1, 1], cuts: 0, restarts: 0, repeats: 0 };

/// I1, V2, V10, F25.
#[test]
fn a_register_has_one_line_of_records() {
    let mut all = vec![
        register::Bounds { rounds: [2, 1], restarts: 1, repeats: 1, ..REGISTER },
        register::Bounds { cuts: 1, ..REGISTER },
    ];
    if is_wide() {
        all.extend([
            register::Bounds { rounds: [2, 2], ..REGISTER },
            register::Bounds { cuts: 1, repeats: 1, ..REGISTER },
        ]);
    }
    check(
        2_000_000,
        all.into_iter().map(|bounds| run("register", bounds.to_string(), register::Register::new(bounds))),
    );
}

/// The worst clocks: the first holder's slow, those of its voters fast; and the other way round.
const TIGHT: &[[bool; 3]] = &[[false, true, true]];
const LOOSE: &[[bool; 3]] = &[[true, false, false]];
const ALL: &[[bool; 3]] = &[
    [false, false, false],
    [true, false, false],
    [false, true, false],
    [true, true, false],
    [false, false, true],
    [true, false, true],
    [false, true, true],
    [true, true, true],
];

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
    fast: TIGHT,
};

/// The first seat holds, and nothing is under way.
const HELD: lease::Bounds = lease::Bounds { late: 0, settled: true, ..LEASE };

/// I1, I5, V3, V11, V20, X04; F19, F22, F25.
#[test]
fn a_lease_has_one_holder() {
    let mut all = vec![
        LEASE,
        lease::Bounds { second_from: 6, late: 0, fast: LOOSE, ..LEASE },
        lease::Bounds { rounds: [0, 1], late: 1, renewals: 1, fast: ALL, ..HELD },
        lease::Bounds { restarts: 1, voter_restarts: 1, ..HELD },
        lease::Bounds { rounds: [1, 2], restarts: 1, fenced: true, ..HELD },
        lease::Bounds { releases: 1, ..HELD },
        lease::Bounds { rounds: [0, 1], revotes: 1, second_from: 7, ..HELD },
    ];
    if is_wide() {
        all.extend([
            lease::Bounds { restarts: 1, voter_restarts: 1, renewals: 1, ..HELD },
            lease::Bounds { rounds: [1, 2], restarts: 1, fenced: true, late: 1, ..HELD },
        ]);
    }
    check(
        5_000_000,
        all.into_iter().map(|bounds| run("lease", bounds.to_string(), lease::Lease::new(bounds))),
    );
}

const PAIR: pair::Bounds = pair::Bounds { ticks: 2, crashes: 0, commands: 0, fencing: false, lends: false };

/// S1-17 to S1-20, L-1, L-4, V19, V20, V21, X14.
#[test]
fn a_pair_has_one_master_and_heals() {
    let mut all = vec![
        pair::Bounds { ticks: 3, fencing: true, ..PAIR },
        pair::Bounds { crashes: 1, ..PAIR },
        pair::Bounds { commands: 1, ..PAIR },
        pair::Bounds { commands: 1, lends: true, ..PAIR },
    ];
    if is_wide() {
        all.extend([
            pair::Bounds { ticks: 4, ..PAIR },
            pair::Bounds { ticks: 3, crashes: 1, ..PAIR },
            pair::Bounds { ticks: 3, commands: 1, ..PAIR },
        ]);
    }
    check(3_000_000, all.into_iter().map(|bounds| run("pair", bounds.to_string(), pair::Pair::new(bounds))));
}

/// I1, I2, I3, I10, V2, V3, V4, V8, S4-10, L-1 to L-3, X14.
#[test]
fn a_mirror_group_loses_nothing_and_heals() {
    let one = mirror::Bounds { backing: Backing::Shared, ..mirror::Bounds::LEAST };
    let short = mirror::Bounds { blocks: 300, writes: 2, ..mirror::Bounds::LEAST };
    let three = mirror::Bounds { holders: 3, ..mirror::Bounds::LEAST };
    let mut all = vec![
        mirror::Bounds { writes: 2, crashes: 1, ..mirror::Bounds::LEAST },
        mirror::Bounds { crashes: 1, losses: 1, ..mirror::Bounds::LEAST },
        mirror::Bounds { losses: 1, breaks: 1, timeouts: 2, ..mirror::Bounds::LEAST },
        mirror::Bounds { losses: 2, ..mirror::Bounds::LEAST },
        mirror::Bounds { crashes: 2, ..mirror::Bounds::LEAST },
        mirror::Bounds { crashes: 1, timeouts: 1, gone: true, ..mirror::Bounds::LEAST },
        mirror::Bounds { settled: false, crashes: 1, timeouts: 1, ..mirror::Bounds::LEAST },
        mirror::Bounds { crashes: 1, losses: 1, ..one },
        mirror::Bounds { crashes: 1, ..short },
        mirror::Bounds { crashes: 1, ..three },
    ];
    if is_wide() {
        all.extend([
            mirror::Bounds { writes: 2, losses: 2, ..mirror::Bounds::LEAST },
            mirror::Bounds { writes: 2, crashes: 1, breaks: 1, ..mirror::Bounds::LEAST },
            mirror::Bounds { crashes: 1, losses: 1, breaks: 1, ..mirror::Bounds::LEAST },
            mirror::Bounds { crashes: 1, losses: 1, gone: true, ..mirror::Bounds::LEAST },
            mirror::Bounds { breaks: 1, timeouts: 1, backing: Backing::Shared, ..short },
            mirror::Bounds { crashes: 1, backing: Backing::Shared, ..three },
        ]);
    }
    check(
        1_000_000,
        all.into_iter().map(|bounds| run("mirror", bounds.to_string(), mirror::Mirror::new(bounds))),
    );
}
