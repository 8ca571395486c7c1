//! A store whose file system is full, as guests and an operator meet it (F12, X14).

use super::plant::Plant;
use super::{check, client, roles, within, write};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in place of a node's directory of volumes. It goes with this.
struct Small(PathBuf);

impl Small {
    /// With what the directory has; `None`: this user may mount nothing.
    fn over(directory: &Path) -> Option<Self> {
        let kept = directory.with_extension("kept");
        std::fs::rename(directory, &kept).unwrap();
        std::fs::create_dir(directory).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(directory).output();
        let small = mounted.ok().filter(|output| output.status.success()).map(|_| Self(directory.into()));
        let copied = Command::new("cp").arg("-a").arg(kept.join(".")).arg(directory).status().unwrap();
        assert!(copied.success());
        small
    }

    fn grow(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&self.0).status().unwrap();
        assert!(grown.success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Whoever has files there keeps them until it ends.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Both nodes have no room for what a guest writes. It goes on by the logs, the status says what is to be
/// done, and when that is done all of it is in the stores.
#[test]
fn a_full_file_system_is_a_state_with_an_exit() {
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    let mut mounts = Vec::new();
    for node in [primary, secondary] {
        let socket = plant.ok(node, &["list"])["group"]["socket"].as_str().unwrap().to_owned();
        plant.fault(&["kill", node]);
        let small = Small::over(&Path::new(&socket).with_file_name("volumes"));
        let is_there = small.is_some();
        mounts.extend(small);
        plant.fault(&["start", node]);
        if !is_there {
            println!("SKIPPED: a file system can be mounted by root only");
            return;
        }
        let other = if node == primary { secondary } else { primary };
        plant.ok(other, &["wait", "--for", "in-sync", "--timeout", "60s"]);
    }
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    let near = client(&plant, primary, "vm1", 16 << 20);
    let storage = |node: &str| plant.ok(node, &["list"])["group"]["storage"].clone();
    // What it may come to need is told before it lacks it.
    let placeholder = within("the room to be looked at", || {
        let found = storage(primary)["placeholder"].clone();
        (found["storeBytes"] == (16 << 20) + (16 << 10)).then_some(found)
    });
    assert!(placeholder["storeFreeBytes"].as_u64().unwrap() < 2 << 20, "{placeholder}");
    assert!(placeholder["logBytes"] != 0 && placeholder["memoryBytes"] != 0, "{placeholder}");
    (0..1024).for_each(|block| write(&near, block, 1));
    for node in [primary, secondary] {
        let full = within("the store to be full", || storage(node)["full"].as_str().map(str::to_owned));
        assert!(full.contains("volumes is full: "), "{full}");
    }
    assert_eq!(storage(primary)["state"], "synced");
    (0..1024).for_each(|block| check(&near, block, 1));
    mounts.iter().for_each(Small::grow);
    for node in [primary, secondary] {
        within("all of it to be in the store", || {
            let now = storage(node);
            (now["full"] == Value::Null && now["log"]["applied"] == now["log"]["newest"]).then_some(())
        });
        assert_eq!(plant.ok(node, &["scrub", "--wait"])["scrub"]["damagedBlocks"], 0);
    }
    (0..1024).for_each(|block| check(&near, block, 1));
}
