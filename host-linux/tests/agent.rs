//! The agent as a process: confirms a healthy candidate, gives up a sick one, stops when asked.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod common;

use common::{Plant, boot, bulkhead, machine};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const NODE: &str = "\
[node]
name = 'n1'
id = '2f1cb1a0-6d2f-4f3e-9a57-0c6f6f3c5a11'
compartment = 'a'
zone = 'dmz'
[health]
interval_s = 1
";

fn script(directory: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(directory).unwrap();
    // One that runs cannot be written to.
    let new = directory.with_extension("new");
    std::fs::write(&new, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, directory.join(name)).unwrap();
}

/// Starts the agent on a disk that has just booted; the output goes to a file.
fn start(plant: &Plant, more: &[&str]) -> Child {
    start_after(plant, more, |_| ())
}

/// As [`start`], when something happened to the disk after the boot.
fn start_after(plant: &Plant, more: &[&str], happened: impl FnOnce(&Path)) -> Child {
    let disk = plant.path("node.disk");
    let root = machine(plant, &disk, boot(&disk).unwrap());
    happened(&disk);
    let out = std::fs::File::create(plant.path("out")).unwrap();
    bulkhead(&["agent", "--no-watchdog", "--no-reboot", "--root"])
        .arg(root)
        .args(["--state-dir".as_ref(), plant.path("state").as_os_str()])
        .args(["--health-dir".as_ref(), plant.path("health.d").as_os_str()])
        .args(more)
        .stdout(out)
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

fn wait_for(plant: &Plant, words: &str) -> String {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        let out = std::fs::read_to_string(plant.path("out")).unwrap();
        if out.contains(words) {
            return out;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("no `{words}` in: {}", std::fs::read_to_string(plant.path("out")).unwrap());
}

fn stop(mut agent: Child) {
    let begin = Instant::now();
    // Without a signal's name, kill(1) sends SIGTERM.
    assert!(Command::new("kill").arg(agent.id().to_string()).status().unwrap().success());
    assert!(agent.wait().unwrap().success());
    assert!(begin.elapsed() < Duration::from_secs(5), "SIGTERM is a clean stop within 5 s");
}

fn candidate() -> Plant {
    let plant = Plant::new();
    plant.disk("node.disk", &[]);
    std::fs::write(plant.path("n1.toml"), NODE).unwrap();
    plant.ok(&["node", "config", "set", "node.disk", "n1.toml"]);
    plant.ok(&["image", "flash", "node.disk", "2.img"]);
    plant
}

#[test]
fn a_healthy_candidate_is_confirmed_and_the_disk_says_so() {
    let plant = candidate();
    script(&plant.path("health.d"), "10-good", "exit 0");
    let agent = start(&plant, &[]);
    let out = wait_for(&plant, "CONFIRMED slot=b version=2");
    assert!(out.starts_with("bulkhead agent: node n1 slot b boot 0000000000000001 state candidate"), "{out}");
    assert!(out.contains("HEALTH ok checks=7"), "{out}");
    let status = plant.ok(&["boot", "status", "node.disk"]);
    assert!(status.contains("slot b  confirmed (good)"), "{status}");
    assert!(status.contains("BOOT slot=b version=2 reason=candidate"), "{status}");
    assert!(
        plant.ok(&["image", "repair", "node.disk"]).contains("needs no repair"),
        "the mark is written too"
    );
    let state = plant.path("state");
    assert!(plant.ok(&["status", "--state-dir", state.to_str().unwrap()]).starts_with("node n1 is healthy"));
    stop(agent);
    assert_eq!(plant.run(&["status", "--state-dir", state.to_str().unwrap()]).code, 1);
}

#[test]
fn a_sick_candidate_is_given_up_unconfirmed() {
    let plant = candidate();
    script(&plant.path("health.d"), "10-net", "echo no route; exit 1");
    let mut agent = start(&plant, &["--timeout-s", "2"]);
    assert_eq!(agent.wait().unwrap().code(), Some(1));
    let out = wait_for(&plant, "GAVE-UP slot=b after_s=2 check=health.d/10-net");
    assert!(out.contains("HEALTH failed check=health.d/10-net why=exit code 1: no route"), "{out}");
    assert!(!out.contains("CONFIRMED"), "{out}");
    assert!(plant.ok(&["boot", "status", "node.disk"]).contains("2 tries left, 1 done"));
}

#[test]
fn a_sick_confirmed_slot_keeps_running_and_says_why() {
    let plant = candidate();
    plant.ok(&["boot", "rollback", "node.disk"]);
    script(&plant.path("health.d"), "10-net", "exit 1");
    let mut agent = start(&plant, &["--timeout-s", "1"]);
    wait_for(&plant, "HEALTH failed check=health.d/10-net");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(agent.try_wait().unwrap(), None, "no endless restart of the last good slot");
    script(&plant.path("health.d"), "10-net", "exit 0");
    wait_for(&plant, "HEALTH ok");
    stop(agent);
}

#[test]
fn a_check_that_hangs_fails_and_leaves_nothing_behind() {
    let plant = candidate();
    let config = format!("{NODE}checks = [{{ command = ['/bin/sh', '-c', 'sleep 1000'], timeout_s = 1 }}]\n");
    std::fs::write(plant.path("n1.toml"), config).unwrap();
    plant.ok(&["node", "config", "set", "node.disk", "n1.toml"]);
    let agent = start(&plant, &[]);
    wait_for(&plant, "HEALTH failed check=config/1 why=did not finish within 1 s");
    stop(agent);
}

#[test]
fn a_slot_that_rotted_since_it_was_started_is_not_confirmed() {
    let plant = candidate();
    // Slot B starts behind 1 MiB of table, 20 of ESP, 1 of boot control block and 16 of slot A.
    let rot = |disk: &Path| {
        let disk = std::fs::OpenOptions::new().write(true).open(disk).unwrap();
        disk.write_all_at(b"rot", (38 << 20) + 9000).unwrap();
    };
    let mut agent = start_after(&plant, &["--timeout-s", "1"], rot);
    assert_eq!(agent.wait().unwrap().code(), Some(1));
    let out = wait_for(&plant, "GAVE-UP slot=b after_s=1 check=slot");
    assert!(out.contains("why=the payload does not match its digest"), "{out}");
}

/// BLACKBOX 1: one agent per node. The cluster's loop and the health checks run in one process, and one stop
/// ends both.
#[test]
fn one_agent_confirms_the_slot_and_speaks_for_the_cluster() {
    let plant = candidate();
    let key = plant.path("site.key");
    bulkhead::site_config::key::generate(&key).unwrap();
    let mut config =
        bulkhead::site_config::SiteConfig::parse(Path::new("site.toml"), bulkhead::site_config::EXAMPLE)
            .unwrap();
    let free = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    config.listen = [free(), free()].map(|socket| socket.local_addr().unwrap());
    config.local.key_file = key;
    config.local.state = plant.path("cluster");
    config.local.socket = plant.path("control.sock");
    std::fs::write(plant.path("site.toml"), config.to_toml()).unwrap();
    let agent = start(&plant, &["--config", plant.path("site.toml").to_str().unwrap()]);
    wait_for(&plant, "CONFIRMED slot=b version=2");
    let socket = plant.path("control.sock");
    let status = plant.run(&["status", "--json", "--socket", socket.to_str().unwrap()]);
    assert!(status.code == 1 && status.out.contains("NOT PROTECTED: pair 1 has no master"), "{}", status.out);
    stop(agent);
    assert!(!socket.exists() && plant.path("cluster/votes").exists());
}
