//! What volumes tell of their holes, and of what only the logs have, by way of every node (S1-27, V42).

use super::plant::Plant;
use super::{Request, Span, ask, client, content, roles, within, write};
use serde_json::Value;

/// V42, S1-27: holes are told by every node, whichever leads, to the programs that ask for them; a copy of a
/// sparse volume is sparse.
#[test]
fn a_copy_of_a_sparse_volume_is_sparse() {
    let programs = ["nbdinfo", "nbdcopy", "qemu-img"];
    let paths = std::env::var_os("PATH").unwrap();
    if !programs.iter().all(|one| std::env::split_paths(&paths).any(|path| path.join(one).is_file())) {
        println!("SKIPPED: {programs:?} are not all here; `cargo xtask doctor --fix` installs them");
        return;
    }
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "256MiB"]);
    let near = client(&plant, primary, "vm1", 256 << 20);
    drop(client(&plant, secondary, "vm1", 256 << 20));
    // A MiB of which half is given back, and two blocks far behind it.
    (256..512).chain(32_768..32_770).for_each(|block| write(&near, block, 1));
    let gone = Span { offset: 3 << 19, length: 1 << 19 };
    ask(&near, Request::Trim { span: gone, durable: false }).unwrap();
    let expected = [(1 << 20, false), (1 << 19, true), (253 << 19, false), (8192, true), (0, false)];
    for node in [primary, secondary] {
        let uri = format!("nbd://{}/vm1", plant.part(node)["nbd"]["address"].as_str().unwrap());
        // Dirty at first, in the store when the applier had its turn: the same answer.
        let info: Value = serde_json::from_str(&tool(&["nbdinfo", "--json", &uri])).unwrap();
        let export = &info["exports"][0];
        assert_eq!(export["contexts"][0], "base:allocation", "{info}");
        let sizes = ["minimum", "preferred", "maximum"].map(|one| &export[format!("block_size_{one}")]);
        assert_eq!(sizes, [4096, 4096, 32 << 20], "{info}");
        assert_eq!(export["can_cache"], true, "{info}");
        let maps = [
            map(&tool(&["nbdinfo", "--map", "--json", &uri]), "offset", |one| one["type"] == 0),
            map(&tool(&["qemu-img", "map", "-f", "raw", "--output=json", &uri]), "start", |one| {
                one["data"] == true && one["zero"] == false
            }),
        ];
        let mut at = 0;
        let mut told = expected.map(|(length, data)| {
            let this = (at, length, data);
            at += length;
            this
        });
        told[4].1 = (256 << 20) - told[4].0;
        assert_eq!(maps, [told, told], "{node}");
        let copy = tempfile::NamedTempFile::new().unwrap();
        tool(&["nbdcopy", "--connections=4", &uri, copy.path().to_str().unwrap()]);
        let kept = std::os::unix::fs::MetadataExt::blocks(&copy.as_file().metadata().unwrap()) * 512;
        assert!(kept <= 1 << 20, "{kept} bytes are kept");
        let copied = std::fs::read(copy.path()).unwrap();
        let at = |block: usize| &copied[block * 4096..][..4096];
        assert!(copied.len() == 256 << 20 && at(256) == content(256, 1) && at(32_769) == content(32_769, 1));
        assert!(copied[3 << 19..128 << 20].iter().all(|byte| *byte == 0));
        // What only the logs have is told, until the store has it.
        let is_dirty = || {
            let told = tool(&["nbdinfo", "--map=x-bulkhead:dirty", "--json", &uri]);
            let told: Value = serde_json::from_str(&told).unwrap();
            let number = |one: &Value, key: &str| one[key].as_u64().unwrap();
            let has = |one: &&Value| {
                (number(one, "offset")..number(one, "offset") + number(one, "length")).contains(&(256 << 12))
            };
            told.as_array().unwrap().iter().find(has).unwrap()["type"] == 1
        };
        within("a block that only the logs have", || {
            write(&near, 256, 1);
            is_dirty().then_some(())
        });
        within("the store to have it", || (!is_dirty()).then_some(()));
    }
}

/// Runs a client that must succeed.
fn tool(args: &[&str]) -> String {
    let output = std::process::Command::new("timeout").arg("60").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a client's map of a volume says: where, how long, and whether it is data. What is alike is one.
fn map(json: &str, at: &str, data: impl Fn(&Value) -> bool) -> Vec<(u64, u64, bool)> {
    let told: Vec<Value> = serde_json::from_str(json).unwrap();
    let mut map: Vec<(u64, u64, bool)> = Vec::new();
    for one in &told {
        let (at, length) = (one[at].as_u64().unwrap(), one["length"].as_u64().unwrap());
        match map.last_mut() {
            Some(last) if last.2 == data(one) => last.1 += length,
            _ => map.push((at, length, data(one))),
        }
    }
    map
}
