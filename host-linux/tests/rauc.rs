//! The real RAUC drives our slots through its custom backend, with the configuration we ship.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod common;

use common::Plant;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// RAUC talks to its own service over D-Bus; a bus of our own keeps the test from the system's.
const SCRIPT: &str = r#"
export DBUS_STARTER_BUS_TYPE=session
rauc --conf=system.conf --override-boot-slot=A service >service.log 2>&1 &
service=$!
tries=0
until rauc status >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 50 ] || { cat service.log; exit 1; }
    sleep 0.1
done
set -e
rauc status mark-active other
rauc status --output-format=shell | grep RAUC_BOOT_PRIMARY
rauc status mark-active booted
rauc status mark-bad other
rauc status mark-good booted
rauc status --output-format=shell | grep -E 'RAUC_BOOT_PRIMARY|BOOT_STATUS'
kill $service
"#;

fn installed(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok()
}

#[test]
fn rauc_sees_and_changes_our_slots() {
    if !installed("rauc") || !installed("dbus-run-session") || !installed("openssl") {
        eprintln!("skipped: rauc, dbus-run-session and openssl are needed");
        return;
    }
    let plant = Plant::new();
    plant.disk("node.disk", &["--image-b", "2.img"]);
    let path = |name: &str| plant.path(name).display().to_string();
    let backend = format!(
        "#!/bin/sh\nexec {} boot rauc-backend --disk {} \"$@\"\n",
        env!("CARGO_BIN_EXE_bulkhead"),
        path("node.disk")
    );
    std::fs::write(plant.path("backend"), backend).unwrap();
    std::fs::set_permissions(plant.path("backend"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let key = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=plant", "-days", "2"];
    let mut openssl = Command::new("openssl");
    let made = openssl.args(key).args(["-keyout", &path("rauc.key"), "-out", &path("keyring.pem")]);
    assert!(made.output().unwrap().status.success());
    let shipped = include_str!("../dist/rauc-system.conf");
    let config = shipped
        .replace("/usr/lib/bulkhead/rauc-backend", &path("backend"))
        .replace("/etc/rauc/keyring.pem", &path("keyring.pem"))
        .replace("/dev/disk/by-partlabel/", &path("slot-"))
        .replace("bootloader=custom", &format!("bootloader=custom\nstatusfile={}", path("rauc.status")));
    std::fs::write(plant.path("system.conf"), config).unwrap();
    for slot in ["slot-boot-a", "slot-boot-b"] {
        std::fs::write(plant.path(slot), [0; 512]).unwrap();
    }
    let output = Command::new("dbus-run-session")
        .args(["--", "sh", "-c", SCRIPT])
        .current_dir(plant.path(""))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("RAUC_")).collect();
    let expected = [
        "RAUC_BOOT_PRIMARY='boot.1'",
        "RAUC_BOOT_PRIMARY='boot.0'",
        "RAUC_SLOT_BOOT_STATUS_1='good'",
        "RAUC_SLOT_BOOT_STATUS_2='bad'",
    ];
    assert_eq!(lines, expected, "{text}");
    assert!(plant.ok(&["boot", "status", "node.disk"]).contains("slot b  empty"));
}
