//! I1 to I4, I10, V1, V3, V4, V7, V8 (F16 to F20, F33 to F40): whoever leads has every acknowledged write; no
//! backing store has a write that is not there in the end; and when the faults are over, all are in sync.

use std::collections::BTreeSet;

use super::testing::{Seen, World};
use super::{primary, secondary};

#[test]
fn whoever_leads_has_every_acknowledged_write() {
    let (mut seen, mut edges) = (Seen::default(), BTreeSet::new());
    let mut total = 0;
    for seed in 0..2_000 {
        let mut world = World::new(seed);
        (0..3).for_each(|node| world.start(node));
        for _ in 0..3_000 {
            world.something(false);
        }
        // L-1 to L-3: when the faults are over, all are in sync, and every write is acknowledged.
        for node in 0..3 {
            world.nodes[node].sleeps = 0;
        }
        let mut steps = 0;
        while !world.is_mirrored() {
            world.something(true);
            steps += 1;
            assert!(steps < 60_000, "seed {seed}: {:?}", world.register.set);
        }
        total += world.acknowledged.len();
        edges.extend(world.edges);
        let Seen { takeovers, cuts, joined, dropped, behind, written_back, outranked } = world.seen;
        seen.takeovers += takeovers;
        seen.cuts += cuts;
        seen.joined += joined;
        seen.dropped += dropped;
        seen.behind += behind;
        seen.written_back += written_back;
        seen.outranked += outranked;
    }
    let Seen { takeovers, cuts, joined, dropped, behind, written_back, outranked } = seen;
    let happened = [takeovers, cuts, joined, dropped, behind, written_back, outranked];
    assert!(happened.iter().all(|count| 5 < *count) && 10_000 < total, "{seen:?}, {total} acknowledged");
    // Through `steady`, in one step.
    edges.remove(&("changing", "gating"));
    let allowed: BTreeSet<_> = primary::EDGES.iter().chain(secondary::EDGES).copied().collect();
    assert_eq!(edges, allowed, "an edge is unreachable");
}

/// The pictures in the documentation are printed from the code. `UPDATE=1` rewrites them.
#[test]
fn pictures_are_current() {
    for (name, edges) in [("primary", primary::EDGES), ("secondary", secondary::EDGES)] {
        let path = std::format!("{}/src/mirror/{name}.edges.txt", env!("CARGO_MANIFEST_DIR"));
        let drawn: std::string::String =
            edges.iter().map(|(from, to)| std::format!("{from:>9} -> {to}\n")).collect();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &drawn).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), drawn, "run with UPDATE=1");
        let architecture = concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md");
        let page = std::fs::read_to_string(architecture).unwrap();
        assert!(page.contains(&drawn), "ARCHITECTURE.md shows another {name}");
    }
}
