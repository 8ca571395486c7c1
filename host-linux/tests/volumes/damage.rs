//! What rots in the store of a node, as guests and an operator meet it (V5, V14; F7).

use super::plant::Plant;
use super::{BLOCK, ask, check, client, roles, within, write};
use bulkhead::nbd::export::{Request, Span};
use serde_json::Value;
use std::path::Path;

/// It is not read; the other node mends it, whether a guest finds
/// it or the node that looks for it. Alone, a node says what it cannot mend.
#[test]
fn what_rots_in_a_store_is_mended_by_the_other_node() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    // What was read before the disk rotted would be read from memory.
    plant.ok(primary, &["cache", "--algorithm", "none"]);
    let near = client(&plant, primary, "vm1", 16 << 20);
    (0..64).for_each(|block| write(&near, block, 1));
    let rot = |node: &str, block: u64| {
        within("all of it to be in the store", || {
            let log = plant.ok(node, &["list"])["group"]["storage"]["log"].clone();
            (log["applied"] == log["newest"] && 64 < log["newest"].as_u64()?).then_some(())
        });
        let socket = plant.ok(node, &["list"])["group"]["socket"].as_str().unwrap().to_owned();
        let store = Path::new(&socket).with_file_name("volumes").join("volume-1");
        let file = std::fs::File::options().write(true).open(&store).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"rot", block * BLOCK + 100).unwrap();
    };
    let mended = |scrub: &Value| scrub["mendedBlocks"].as_u64().unwrap();
    rot(primary, 7);
    (0..64).for_each(|block| check(&near, block, 1));
    rot(secondary, 9);
    assert_eq!(mended(&plant.ok(secondary, &["scrub", "--wait"])["scrub"]), 1);
    assert_eq!(mended(&plant.ok(primary, &["scrub", "--wait"])["scrub"]), 1, "by the guest that read it");
    plant.fault(&["kill", secondary]);
    write(&near, 0, 2);
    rot(primary, 11);
    let found = plant.volume(primary, &["scrub", "--wait"]);
    assert_eq!(found.code, 1, "{}", found.out);
    assert!(found.err.contains("1 blocks are damaged: vm1 at byte 45056"), "{}", found.err);
    let span = Span { offset: 11 * BLOCK, length: u32::try_from(BLOCK).unwrap() };
    ask(&near, Request::Read { span }).unwrap_err();
    plant.fault(&["start", secondary]);
    within("the other one to mend it", || {
        let scrub = plant.ok(primary, &["list"])["group"]["storage"]["scrub"].clone();
        (scrub["damagedBlocks"] == 0 && mended(&scrub) == 2).then_some(())
    });
    check(&near, 0, 2);
    (1..64).for_each(|block| check(&near, block, 1));
}
