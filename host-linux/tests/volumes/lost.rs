//! The one node that decides is lost for good, and an operator goes on without it (X14, F56, X04).

use super::common::{Answer, bulkhead};
use super::plant::Plant;
use super::{check, client, roles, within, write};
use serde_json::Value;

fn run(plant: &Plant, node: &str, args: &[&str]) -> Answer {
    let socket = plant.part(node)["socket"].as_str().unwrap();
    bulkhead(&[args, &["--json", "--socket", socket]].concat()).output().unwrap().into()
}

fn status(plant: &Plant, node: &str) -> Option<Value> {
    let answer: Value = serde_json::from_str(&run(plant, node, &["status"]).out).ok()?;
    Some(answer["status"].clone())
}

/// Waits until these decide about the pair of `node`, as it knows.
fn voters(plant: &Plant, node: &str, count: usize) {
    within("the voters", || {
        let status = status(plant, node)?;
        (status["pairs"][0]["voters"].as_array()?.len() == count).then_some(())
    });
}

/// The node that leads the volumes and is master of the pair, and the other one. Both start at once, so one
/// may have come to be the one, and one the other.
fn decides(plant: &Plant) -> (&'static str, &'static str) {
    let (leads, other) = roles(plant);
    let master = within("a master", || {
        let name = status(plant, leads)?["pairs"][0]["master"]["name"].as_str()?.to_owned();
        [leads, other].into_iter().find(|node| *node == name)
    });
    if master == leads {
        return (leads, other);
    }
    plant.ok(leads, &["promote", master]);
    within("it to lead", || {
        plant.ok(master, &["list"])["group"]["storage"]["leads"].as_bool().filter(|leads| *leads)
    });
    (master, leads)
}

const YES: &str = "--yes-they-never-return";

/// The witness dies, then the node that went on alone. Nobody may act, until an operator says that it is
/// lost; and even then nobody leads the volumes until one says with what.
#[test]
fn an_operator_goes_on_without_the_one_that_decides() {
    let plant = Plant::start();
    let (first, second) = decides(&plant);
    plant.ok(first, &["create", "vm1", "--size", "16MiB"]);
    let near = client(&plant, first, "vm1", 16 << 20);
    (0..8).for_each(|block| write(&near, block, 1));
    plant.ok(first, &["wait", "--for", "in-sync"]);

    let force = |lost: &str, more: &[&str]| {
        run(&plant, second, &[&["node", "force-quorum", "--lost", lost], more].concat())
    };
    let refused = |answer: Answer, why: &str| {
        assert_eq!(answer.code, 3, "{}{}", answer.out, answer.err);
        assert!(answer.err.contains(why), "{}", answer.err);
    };
    refused(force(first, &[YES]), "is heard");
    plant.fault(&["kill", "witness"]);
    voters(&plant, first, 1);
    (8..16).for_each(|block| write(&near, block, 2));
    plant.fault(&["kill", first]);
    within("silence", || (status(&plant, second)?["pairs"][0]["master"].is_null()).then_some(()));
    within("silence", || {
        let answer = force(first, &[YES]);
        answer.err.contains("witness is not heard, and may know").then_some(())
    });
    plant.fault(&["start", "witness"]);
    within("the witness", || force("witness", &[YES]).err.contains("is heard").then_some(()));
    refused(force(first, &[]), "two act");
    assert_eq!(force(second, &[YES]).code, 2);
    assert_eq!(force("z9", &[YES]).code, 2);
    within("b1 to know who decides", || {
        let waits = plant.ok(second, &["list"])["group"]["storage"]["waits"].clone();
        waits.as_str()?.contains("node force-quorum").then_some(())
    });
    refused(plant.volume(second, &["recover", "--yes-lose-writes"]), "force-quorum");

    let answer = force(first, &[YES]);
    assert_eq!(answer.code, 0, "{}{}", answer.out, answer.err);
    within("b1 to lead", || (status(&plant, second)?["role"] == "master").then_some(()));
    let group = plant.ok(second, &["list"])["group"]["storage"].clone();
    assert!(group["primary"].is_null(), "{group}");
    within("the end of its lease", || {
        (plant.volume(second, &["recover", "--yes-lose-writes"]).code == 0).then_some(())
    });
    plant.ok(second, &["wait", "--for", "primary"]);
    let other = client(&plant, second, "vm1", 16 << 20);
    let check_all = |client| {
        (0..8).for_each(|block| check(client, block, 1));
        (8..16).for_each(|block| check(client, block, 2));
    };
    check_all(&other);
    write(&other, 16, 3);

    // It was not lost after all: it follows, and all vote again.
    plant.fault(&["start", first]);
    voters(&plant, second, 3);
    plant.ok(second, &["wait", "--for", "in-sync"]);
    assert_eq!(status(&plant, first).unwrap()["role"], "slave");
    let near = client(&plant, first, "vm1", 16 << 20);
    check_all(&near);
    check(&near, 16, 3);
    refused(force(first, &[YES]), "is heard");
}
