//! Volumes on block devices and on exports of NBD servers, with real agents and a real server (S1-24, S1-26,
//! S1-31; V1, V5, V40, X14).

use super::common::bulkhead;
use super::plant::Plant;
use super::{check, client, roles, within, write};
use serde_json::Value;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A qemu-nbd of our own, which is killed as a machine is.
struct Qemu(Child);

impl Qemu {
    fn start(disk: &Path, socket: &Path) -> Self {
        let mut qemu = Command::new("qemu-nbd");
        qemu.args(["-t", "-f", "raw", "-e", "8", "--cache=writeback", "-x", "disk", "-k"]).arg(socket);
        let child = qemu.arg(disk).stdout(Stdio::null()).spawn().unwrap();
        within("qemu-nbd", || UnixStream::connect(socket).ok());
        Self(child)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A loop device; `None`, with a printed reason: there are none here.
struct Loop(PathBuf);

impl Loop {
    fn new(file: &Path) -> Option<Self> {
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok();
        let Some(made) = made.filter(|made| made.status.success()) else {
            println!("without a block device: there are no loop devices here");
            return None;
        };
        Some(Self(String::from_utf8(made.stdout).unwrap().trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

/// What a node's configuration says of `vm1` from its next start on.
fn back(plant: &Plant, node: &str, place: &str) {
    let config = Path::new(plant.part(node)["socket"].as_str().unwrap()).with_extension("toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.split("\n[local.storage.backing]").next().unwrap().to_owned();
    let entry = if place.is_empty() { String::new() } else { format!("vm1 = \"{place}\"\n") };
    std::fs::write(&config, format!("{text}\n[local.storage.backing]\n{entry}")).unwrap();
    assert!(bulkhead(&["config", "check"]).arg(&config).output().unwrap().status.success(), "{text}");
}

fn shown(plant: &Plant, node: &str) -> Value {
    plant.ok(node, &["show", "vm1"])
}

/// One node has a block device of somebody else's before it, the other one an export of a server that dies
/// and comes back; whoever leads, every acknowledged write is there.
#[test]
fn nothing_is_lost_whatever_the_content_is_on() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, socket) = (directory.path().join("export"), directory.path().join("nbd.sock"));
    let old = directory.path().join("old");
    [&disk, &old].into_iter().for_each(|file| std::fs::write(file, vec![0xee; 16 << 20]).unwrap());
    let device = Loop::new(&old);
    let mut server = Some(Qemu::start(&disk, &socket));
    let remote = format!("nbd+unix:///disk?socket={}", socket.display());

    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    let local = device.as_ref().map(|device| device.0.display().to_string()).unwrap_or_default();
    for (node, place) in [(secondary, &remote), (primary, &local)] {
        plant.fault(&["kill", node]);
        back(&plant, node, place);
        plant.fault(&["start", node]);
        plant.ok(if node == primary { secondary } else { primary }, &["wait", "--for", "in-sync"]);
    }
    let (primary, secondary) = roles(&plant);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    let places = [primary, secondary].map(|node| shown(&plant, node)["volume"]["backing"].clone());
    assert!(places.contains(&Value::from(remote.as_str())), "{places:?}");
    let near = client(&plant, primary, "vm1", 16 << 20);
    let far = client(&plant, secondary, "vm1", 16 << 20);
    for round in 1..4 {
        (0..128).for_each(|block| write(if block % 2 == 0 { &near } else { &far }, block * 16, round));
        // The server dies under writes, and comes back.
        drop(server.take());
        (128..160).for_each(|block| write(&near, block * 16, round));
        server = Some(Qemu::start(&disk, &socket));
        (0..160).for_each(|block| check(&near, block * 16, round));
    }
    drop((near, far));

    // Either of them alone has everything, and nothing of what was there before.
    for node in [primary, secondary] {
        // It leads, and only who leads knows that the voters know.
        plant.ok(node, &["wait", "--for", "in-sync", "--timeout", "60s"]);
        plant.fault(&["kill", node]);
        let other = if node == primary { secondary } else { primary };
        plant.ok(other, &["wait", "--for", "primary", "--timeout", "60s"]);
        let alone = client(&plant, other, "vm1", 16 << 20);
        (0..160).for_each(|block| check(&alone, block * 16, 3));
        let zeroes = super::Request::Read { span: super::Span { offset: 4096, length: 4096 } };
        assert!(super::ask(&alone, zeroes).unwrap().iter().all(|byte| *byte == 0));
        plant.fault(&["start", node]);
    }
    plant.ok(primary, &["wait", "--for", "in-sync", "--timeout", "60s"]);
    drop(server);
}

/// X14: a node whose store is away, and which is alone, says what it waits for; its guests' writes wait, and
/// are acknowledged when it is back.
#[test]
fn a_store_that_is_away_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, socket) = (directory.path().join("export"), directory.path().join("nbd.sock"));
    std::fs::write(&disk, vec![0xee; 16 << 20]).unwrap();
    let mut server = Some(Qemu::start(&disk, &socket));
    let plant = Plant::start();
    let (primary, secondary) = roles(&plant);
    plant.fault(&["kill", secondary]);
    back(&plant, secondary, &format!("nbd+unix:///disk?socket={}", socket.display()));
    plant.fault(&["start", secondary]);
    plant.ok(primary, &["wait", "--for", "in-sync", "--timeout", "60s"]);
    plant.ok(primary, &["create", "vm1", "--size", "16MiB"]);
    plant.fault(&["kill", primary]);
    plant.ok(secondary, &["wait", "--for", "primary", "--timeout", "60s"]);
    let client = client(&plant, secondary, "vm1", 16 << 20);
    write(&client, 3, 1);
    check(&client, 3, 1);
    drop(server.take());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| write(&client, 5, 1));
        within("it says what it waits for", || {
            let told = plant.ok(secondary, &["list"])["group"]["storage"]["lastError"].clone();
            told.as_str()?.contains("is away: ").then_some(())
        });
        assert!(!waits.is_finished(), "alone, a write is acknowledged when it is in the store");
        server = Some(Qemu::start(&disk, &socket));
        waits.join().unwrap();
    });
    (3..6).step_by(2).for_each(|block| check(&client, block, 1));
    plant.fault(&["start", primary]);
    plant.ok(secondary, &["wait", "--for", "in-sync", "--timeout", "60s"]);

    // V40: a node whose entry is gone does not begin with an empty volume.
    plant.fault(&["kill", secondary]);
    back(&plant, secondary, "");
    plant.fault(&["start", secondary]);
    let log = plant.part(secondary)["log"].as_str().unwrap().to_owned();
    within("it says what is wrong", || {
        let told = std::fs::read_to_string(&log).ok()?;
        told.contains("[local.storage.backing] does not say so").then_some(())
    });
    drop(server);
}
