//! Three nodes that keep volumes: a second one in a compartment (S4-11, S4-12, S4-14).

use super::plant::Plant;
use super::{check, client, roles, within, write};
use serde_json::Value;

/// Whichever dies, the others go on, and whoever comes back is brought up to date.
#[test]
fn three_nodes_keep_a_volume() {
    let plant = Plant::of(&["--nodes", "2", "--volumes=3"]);
    let (first, _) = roles(&plant);
    plant.ok(first, &["create", "vm1", "--size", "16MiB"]);
    let nodes = ["a1", "b1", "a2"];
    let mut clients = nodes.map(|node| (node, client(&plant, node, "vm1", 16 << 20)));
    let in_sync = |node: &str| {
        let answer: Value = serde_json::from_str(&plant.volume(node, &["list"]).out).unwrap();
        let group = &answer["group"]["storage"];
        if group["leads"] != true {
            return None;
        }
        let holders = group["holders"].as_array().unwrap().clone();
        Some(holders.iter().filter(|holder| holder["inSync"] == true).count())
    };
    let whole = |node: &str| within("all three in sync", || (in_sync(node)? == 3).then_some(()));
    whole(first);
    let mut expected = [0; 48];
    for (round, victim) in (1..).zip(nodes) {
        for (block, expected) in (0..).zip(&mut expected) {
            let near = clients.iter().filter(|(node, _)| *node != victim).nth(block as usize % 2);
            write(&near.unwrap().1, block, round);
            *expected = round;
            if block == 16 {
                plant.fault(&["kill", victim]);
            }
        }
        for (_, client) in clients.iter().filter(|(node, _)| *node != victim) {
            (0..).zip(expected).for_each(|(block, round)| check(client, block, round));
        }
        plant.fault(&["start", victim]);
        let leads = within("somebody to lead", || nodes.into_iter().find(|node| in_sync(node).is_some()));
        whole(leads);
        for (_, its) in clients.iter_mut().filter(|(node, _)| *node == victim) {
            *its = client(&plant, victim, "vm1", 16 << 20);
            (0..).zip(expected).for_each(|(block, round)| check(its, block, round));
        }
    }
}
