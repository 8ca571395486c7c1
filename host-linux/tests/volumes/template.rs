//! S0-24, S3-13: a guest that is made of a template has its volumes and its failover, or nothing was made.

use super::failover::wanted;
use super::migrate::{Site, counter, ok, vm};
use super::plant::Plant;
use super::{bulkhead, roles};
use serde_json::{Value, json};

const TEMPLATE: &str = r#"
version = 1
processors = 1
memory = "64MiB"
kernel = "vmlinuz"
[[disk]]
volume = "{name}-root"
size = "4MiB"
mode = "through"
[[disk]]
volume = "{name}-data"
size = "8MiB"
[failover]
policy = "stay"
priority = 7
"#;

fn volumes(plant: &Plant, node: &str) -> Vec<(String, Value)> {
    let list = plant.ok(node, &["list"]);
    let all = list["group"]["storage"]["volumes"].as_array().unwrap().iter();
    let mut all: Vec<_> =
        all.map(|volume| (volume["name"].as_str().unwrap().to_owned(), volume["wanted"].clone())).collect();
    all.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    all
}

#[test]
fn a_guest_of_a_template_has_what_it_says() {
    let plant = Site(Plant::start());
    let (here, _) = roles(&plant);
    let directory = tempfile::tempdir().unwrap();
    let template = directory.path().join("plc.toml");
    std::fs::write(&template, TEMPLATE).unwrap();
    let of =
        |name: &str| ["create", "--template", template.to_str().unwrap(), "--name", name].map(str::to_owned);
    let create = |name: &str| vm(&plant, here, &of(name).each_ref().map(String::as_str));

    // Its kernel is not there yet: nothing is left of its disks.
    let none = create("plc1");
    assert!(none.code != 0 && none.err.contains("vmlinuz"), "{}", none.err);
    assert_eq!(volumes(&plant, here), []);

    std::fs::write(directory.path().join("vmlinuz"), counter()).unwrap();
    let made = ok(&plant, here, &of("plc1").each_ref().map(String::as_str));
    assert_eq!(made["volumes"], json!(["plc1-root", "plc1-data"]));
    let expected = [("plc1-data", json!(null)), ("plc1-root", json!("through")), ("plc1.guest", json!(null))];
    assert_eq!(volumes(&plant, here), expected.map(|(name, mode)| (name.to_owned(), mode)));
    let shown = ok(&plant, here, &["show", "plc1"]);
    assert_eq!(shown["config"]["failover"], json!({ "policy": "stay", "priority": 7 }), "{shown}");

    // What is somebody's stays so.
    plant.ok(here, &["create", "plc2-data", "--size", "4MiB"]);
    let refused = create("plc2");
    assert!(refused.code == 3 && refused.err.contains("plc2-data already"), "{}", refused.err);
    assert_eq!(volumes(&plant, here).len(), 4);

    // A file of its own says what is different, and the node's usual template comes from its surroundings.
    let own = directory.path().join("plc2.toml");
    let text = "name = \"plc2\"\n[[disk]]\nvolume = \"plc2-data\"\n[failover]\npriority = 9\n";
    std::fs::write(&own, text).unwrap();
    let homes = directory.path().join("homes");
    let mut command = bulkhead(&["vm", "create", own.to_str().unwrap(), "--json"]);
    command.env("BULKHEAD_TEMPLATE", &template).env("BULKHEAD_GUESTS", &homes);
    command.env("BULKHEAD_SOCKET", plant.part(here)["socket"].as_str().unwrap());
    let answer = command.output().unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let described = std::fs::read_to_string(homes.join("plc2/guest.toml")).unwrap();
    assert!(described.contains("priority = 9") && described.contains("policy = \"stay\""), "{described}");
    assert!(!described.contains("size") && described.contains("plc2-data"), "{described}");
    assert_eq!(wanted(&plant, here, "plc2"), json!(null), "it was never started");
}
