//! What stays in memory of what is read, as an operator and a guest meet it (S4-02).

use super::plant::Plant;
use super::{BLOCK, check, client, roles, within, write};
use serde_json::Value;

/// It is chosen at run time, of the pair and of a volume, and outlives a change of primary.
#[test]
fn an_operator_says_what_stays_in_memory() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    for name in ["vm1", "vm2"] {
        plant.ok(primary, &["create", name, "--size", "16MiB"]);
    }
    let said = |node: &str| {
        let listed = plant.ok(node, &["list"]);
        let cached = [0, 1].map(|volume: usize| listed["volumes"][volume]["cached"].clone());
        (listed["group"]["storage"]["cache"]["algorithm"].clone(), cached.map(|cached| cached == true))
    };
    assert_eq!(said(primary), (Value::from("arc"), [true, true]));
    plant.ok(primary, &["cache", "--algorithm", "clock"]);
    plant.ok(primary, &["cache", "vm2", "--algorithm", "none"]);
    for arguments in [&["cache", "vm1", "--algorithm", "lru"][..], &["cache", "--algorithm", "pair"]] {
        let refused = plant.volume(primary, arguments);
        assert_eq!(refused.code, 2, "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains("Nothing was changed."), "{}", refused.err);
    }
    assert_eq!(plant.volume(secondary, &["cache", "--algorithm", "lru"]).code, 3);

    // What is in the store, and was read before, comes out of memory; of the other volume nothing does.
    let cache = |node: &str| plant.ok(node, &["show", "vm1"])["group"]["storage"]["cache"].clone();
    let (one, two) = (client(&plant, primary, "vm1", 16 << 20), client(&plant, primary, "vm2", 16 << 20));
    write(&two, 0, 1);
    write(&one, 0, 1);
    within("a block to be read out of memory", || {
        check(&two, 0, 1);
        check(&one, 0, 1);
        (cache(primary)["hits"].as_u64()? != 0).then_some(())
    });
    let now = cache(primary);
    assert_eq!((&now["bytes"], &now["usedBytes"]), (&(16 << 20).into(), &BLOCK.into()), "{now}");
    // Shown some times a second.
    within("the times of reads", || {
        plant.ok(primary, &["list"])["group"]["storage"]["reads"]["p99Us"].as_u64()
    });

    plant.ok(primary, &["wait", "--for", "in-sync", "--timeout", "60s"]);
    plant.fault(&["kill", primary]);
    let far = client(&plant, secondary, "vm1", 16 << 20);
    check(&far, 0, 1);
    assert_eq!(said(secondary), (Value::from("clock"), [true, false]));
    plant.ok(secondary, &["cache", "vm2", "--algorithm", "pair"]);
    plant.ok(secondary, &["cache", "--algorithm", "none"]);
    assert_eq!(said(secondary), (Value::from("none"), [true, true]));
    assert_eq!(cache(secondary)["usedBytes"], 0);
}
