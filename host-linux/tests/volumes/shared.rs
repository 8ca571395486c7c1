//! Both nodes reach one store, with real agents: only the one that leads writes there, and the other one goes
//! on with it when the first is dead, and not before (S4-03; I1, F19, V5, X14).

use super::plant::Plant;
use super::{check, client, roles, within, write};
use std::path::Path;
use std::time::Duration;

fn waits(plant: &Plant, node: &str) -> Option<String> {
    let group = plant.ok(node, &["list"])["group"]["storage"].clone();
    Some(group["waits"].as_str()?.to_owned())
}

fn leads(plant: &Plant, node: &str) {
    let number = plant.part(node)["node"].as_u64();
    within(&format!("{node} to lead"), || {
        let found = plant.ok(node, &["list"])["group"]["storage"]["primary"].as_u64();
        (found == number).then_some(())
    });
}

/// A primary that stands still has the store: its lease is over, and nobody else leads, for it could go on
/// with a write. When it is dead, or has seen that it leads no more, the other one leads with all of it.
#[test]
fn a_store_of_both_is_one_nodes_at_a_time() {
    let plant = Plant::of(&["--volumes", "--shared"]);
    let (first, second) = roles(&plant);
    plant.ok(first, &["create", "vm1", "--size", "16MiB"]);
    let near = client(&plant, first, "vm1", 16 << 20);
    (0..8).for_each(|block| write(&near, block, 1));
    plant.ok(first, &["wait", "--for", "in-sync"]);
    let socket = plant.part(first)["socket"].as_str().unwrap();
    let all = Path::new(socket).parent().unwrap();
    assert!(all.join("volumes/shared").exists());

    plant.fault(&["pause", first]);
    let why = within("b1 to wait for the store", || waits(&plant, second));
    within("the reason", || {
        waits(&plant, second).filter(|why| why.contains("the store of all holders is still"))
    });
    std::thread::sleep(Duration::from_secs(2));
    assert!(plant.ok(second, &["list"])["group"]["storage"]["primary"].is_null(), "{why}");
    plant.fault(&["kill", first]);
    leads(&plant, second);
    let far = client(&plant, second, "vm1", 16 << 20);
    (0..8).for_each(|block| check(&far, block, 1));
    (0..16).for_each(|block| write(&far, block, 2));

    plant.fault(&["start", first]);
    plant.ok(second, &["wait", "--for", "in-sync"]);
    (8..16).for_each(|block| write(&far, block, 3));
    // It stands still for longer than its lease, and goes on: it leaves the store by itself.
    plant.fault(&["pause", second]);
    within("the reason", || {
        waits(&plant, first).filter(|why| why.contains("the store of all holders is still"))
    });
    plant.fault(&["resume", second]);
    plant.ok(first, &["wait", "--for", "in-sync"]);
    let near = client(&plant, first, "vm1", 16 << 20);
    (0..8).for_each(|block| check(&near, block, 2));
    (8..16).for_each(|block| check(&near, block, 3));
    for node in [first, second] {
        assert!(!all.join(node).join("volumes").exists(), "{node} has a store of its own");
    }
}
