//! The model of a mirror group finds what comes of a world in which holders cannot keep their promises: a
//! check that has caught nothing proves nothing.

use bulkhead_model::mirror::{Bounds, Lie, Mirror};
use bulkhead_model::run::{Report, run};

/// Each lie, and within which bounds it is found out.
const LIES: &[(Lie, Bounds)] = &[
    (Lie::BatchLost, Bounds { crashes: 1, ..Bounds::LEAST }),
    (Lie::SuperblockLost, Bounds { crashes: 1, losses: 1, ..Bounds::LEAST }),
    (Lie::OldWords, Bounds { settled: false, crashes: 2, ..Bounds::LEAST }),
    (Lie::LossForgotten, Bounds { timeouts: 1, ..Bounds::LEAST }),
    (Lie::EpochReused, Bounds { losses: 1, ..Bounds::LEAST }),
    (Lie::LeaseOutlived, Bounds { losses: 1, ..Bounds::LEAST }),
    (Lie::AllInSync, Bounds { losses: 1, crashes: 1, ..Bounds::LEAST }),
    (Lie::SaidEarly, Bounds { writes: 2, ..Bounds::LEAST }),
    (Lie::AppliedEarly, Bounds { writes: 2, ..Bounds::LEAST }),
    (Lie::NeverToldLost, Bounds { losses: 1, ..Bounds::LEAST }),
];

#[test]
fn the_model_of_a_mirror_group_finds_every_lie() {
    let mut missed = Vec::new();
    for (lie, bounds) in LIES {
        let bounds = Bounds { lie: Some(*lie), ..*bounds };
        let name = format!("{lie:?}");
        let Report { states, violation, .. } = run("mirror", bounds.to_string(), Mirror::new(bounds));
        match violation {
            Some((property, steps)) => {
                println!("{name:<24} {:<9} {states:>9} {:>6}  not so: {property}", "mirror", steps.len());
            }
            None => missed.push((name, states)),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
