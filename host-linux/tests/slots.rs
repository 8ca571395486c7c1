//! Flash, confirm, set-next, roll back, repair and explain through the command; and what is left
//! when the command is killed, or the disk is damaged.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod common;

use common::{Plant, boot, bulkhead};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

fn plant() -> Plant {
    let plant = Plant::new();
    plant.disk("node.disk", &[]);
    plant
}

fn bytes(plant: &Plant) -> Vec<u8> {
    std::fs::read(plant.path("node.disk")).unwrap()
}

fn boot_line(plant: &Plant) -> String {
    let text = plant.ok(&["boot", "explain", "node.disk"]);
    text.lines().last().unwrap().to_owned()
}

#[test]
fn an_update_is_tried_confirmed_and_stays() {
    let plant = plant();
    let disk = plant.path("node.disk");
    assert_eq!(boot_line(&plant), "BOOT slot=a version=1 reason=confirmed");
    plant.ok(&["image", "flash", "node.disk", "2.img"]);
    let running = boot(&disk).unwrap();
    let (slot, number) = (running.slot.to_string(), running.boot.to_string());
    assert_eq!(slot, "b");
    let told = ["--running-slot", &slot, "--running-boot", &number];
    let text = plant.ok(&[&["boot", "confirm", "node.disk"][..], &told].concat());
    assert_eq!(text, "CONFIRMED slot=b version=2\n");
    let text = plant.ok(&[&["boot", "confirm", "node.disk"][..], &told].concat());
    assert_eq!(text, "Slot b was confirmed before.\n");
    assert_eq!(boot_line(&plant), "BOOT slot=b version=2 reason=confirmed");
    assert!(plant.ok(&["boot", "rollback", "node.disk"]).contains("Slot a (confirmed)"));
    assert_eq!(boot_line(&plant), "BOOT slot=a version=1 reason=confirmed");
    plant.ok(&["boot", "set-next", "b", "node.disk"]);
    assert_eq!(boot_line(&plant), "BOOT slot=b version=2 reason=confirmed");
}

#[test]
fn an_update_that_is_never_confirmed_is_given_up_after_its_tries() {
    let plant = plant();
    plant.ok(&["image", "flash", "node.disk", "2.img"]);
    let disk = plant.path("node.disk");
    let slots: Vec<_> = (0..4).map(|_| boot(&disk).unwrap().slot.to_string()).collect();
    assert_eq!(slots, ["b", "b", "b", "a"]);
    let status = plant.ok(&["boot", "status", "node.disk"]);
    assert!(status.contains("slot b  bad (bad)"), "{status}");
    assert!(status.ends_with("BOOT slot=a version=1 reason=fallback-tries-used-up\n"), "{status}");
    plant.fails(3, &["boot", "set-next", "b", "node.disk"]);
}

#[test]
fn refusals_write_nothing_and_say_why() {
    let plant = plant();
    plant.ok(&["image", "keygen", "--out", "other"]);
    plant.build("stranger.img", "other.key", 3, 1);
    plant.build("old.img", "plant.key", 3, 0);
    let mut cut = std::fs::read(plant.path("2.img")).unwrap();
    cut[70_000] ^= 1;
    std::fs::write(plant.path("rotten.img"), &cut).unwrap();
    let before = bytes(&plant);
    let cases: [(i32, &[&str], &str); 8] = [
        (3, &["image", "flash", "node.disk", "stranger.img"], "signed by unknown key"),
        (3, &["image", "flash", "node.disk", "old.img"], "security version 0 is below the floor 1"),
        (3, &["image", "flash", "node.disk", "rotten.img"], "the payload does not match its digest"),
        (3, &["image", "flash", "node.disk", "2.img", "--slot", "a"], "slot a is the only confirmed slot"),
        (1, &["image", "flash", "2.img", "2.img"], "2.img is not a Bulkhead disk: no partition table"),
        (3, &["boot", "confirm", "node.disk"], "this machine did not boot from node.disk"),
        (3, &["boot", "rollback", "node.disk"], "slot b is empty, so there is nothing to go back to"),
        (2, &["boot", "set-next", "c", "node.disk"], "a boot slot is `a` or `b`"),
    ];
    for (code, args, words) in cases {
        let error = plant.fails(code, args);
        assert!(error.contains(words), "{args:?}: {error}");
        assert!(code == 2 || error.contains("Nothing was written."), "{args:?}: {error}");
    }
    let told = ["--running-slot", "b", "--running-boot", "1"];
    plant.fails(3, &[&["boot", "confirm", "node.disk"][..], &told].concat());
    assert!(before == bytes(&plant));
    assert_eq!(
        plant.fails(3, &["image", "flash", "node.disk", "old.img"]),
        "bulkhead: slot b is not flashed: security version 0 is below the floor 1 of this disk. Nothing was \
         written.\n  Next: `bulkhead boot status` shows both slots and the floor.\n"
    );
}

#[test]
fn an_image_that_does_not_fit_is_refused() {
    let plant = Plant::new();
    std::fs::write(plant.path("2.efi"), common::pe(&vec![3; 16 << 20], false)).unwrap();
    plant.build("large.img", "plant.key", 2, 1);
    plant.disk("node.disk", &[]);
    let error = plant.fails(3, &["image", "flash", "node.disk", "large.img"]);
    assert!(error.contains("bytes, the slot holds 16773120"), "{error}");
}

#[test]
fn a_dry_run_writes_nothing() {
    let plant = plant();
    let disk = std::fs::OpenOptions::new().write(true).open(plant.path("node.disk")).unwrap();
    disk.write_all_at(&[0; 512], 512).unwrap();
    let before = bytes(&plant);
    for args in [
        &["image", "flash", "node.disk", "2.img", "--dry-run"][..],
        &["image", "repair", "node.disk", "--dry-run"],
        &["boot", "set-next", "a", "node.disk", "--dry-run"],
    ] {
        let text = plant.ok(args);
        assert!(text.contains("Nothing was written. The steps:"), "{args:?}: {text}");
    }
    assert!(before == bytes(&plant));
}

#[test]
fn json_answers_are_one_object_each() {
    let plant = plant();
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&plant.run(&[args, &["--json"]].concat()).out).unwrap()
    };
    let status = json(&["boot", "status", "node.disk"]);
    assert_eq!(status["slots"]["a"]["state"], "confirmed");
    assert_eq!(status["slots"]["b"]["systemd"], "clean");
    assert_eq!(status["boot_line"], "BOOT slot=none version=0 reason=never");
    assert_eq!(json(&["boot", "explain", "node.disk"])["slot"], "a");
    assert_eq!(json(&["image", "inspect", "node.disk"])["keys"][0]["revoked"], false);
    let refused = json(&["boot", "rollback", "node.disk"]);
    assert_eq!((&refused["ok"], &refused["error"]["code"]), (&false.into(), &3.into()));
    assert_eq!(json(&["image", "flash", "node.disk", "2.img"])["slot"], "b");
}

#[test]
fn rauc_and_u_boot_words() {
    let plant = plant();
    let rauc =
        |args: &[&str]| plant.ok(&[&["boot", "rauc-backend", "--disk", "node.disk"][..], args].concat());
    assert_eq!(rauc(&["get-primary"]), "A\n");
    assert_eq!((rauc(&["get-state", "A"]), rauc(&["get-state", "B"])), ("good\n".into(), "bad\n".into()));
    // As RAUC installs: it marks the slot bad, writes the raw image itself, then makes it primary.
    rauc(&["set-state", "B", "bad"]);
    plant.fails(3, &["boot", "rauc-backend", "--disk", "node.disk", "set-primary", "B"]);
    let disk = std::fs::OpenOptions::new().write(true).open(plant.path("node.disk")).unwrap();
    disk.write_all_at(&std::fs::read(plant.path("2.img")).unwrap(), 38 << 20).unwrap();
    rauc(&["set-primary", "B"]);
    assert_eq!((rauc(&["get-primary"]), rauc(&["get-state", "B"])), ("B\n".into(), "good\n".into()));
    assert_eq!(boot_line(&plant), "BOOT slot=b version=2 reason=candidate");
    assert_eq!(
        plant.ok(&["boot", "env", "node.disk", "--format", "uboot"]),
        "BOOT_ORDER=B A\nBOOT_A_LEFT=3\nBOOT_B_LEFT=3\n"
    );
    plant.fails(3, &["boot", "rauc-backend", "--disk", "node.disk", "set-state", "B", "good"]);
    rauc(&["set-state", "B", "bad"]);
    assert_eq!(rauc(&["get-primary"]), "A\n");
}

#[test]
fn repair_mends_every_kind_of_damage() {
    let plant = plant();
    let disk = std::fs::OpenOptions::new().write(true).open(plant.path("node.disk")).unwrap();
    let good = bytes(&plant);
    let bcb = 21 << 20;
    let mark_of_a = (38 << 20) - 4096;
    let last = good.len() as u64 - 512;
    let wipes: [(&[u64], &str); 5] = [
        (&[512], "the primary copy is bad"),
        (&[last], "the backup copy is bad"),
        (&[bcb], "one copy of the boot control block"),
        (&[bcb, bcb + (64 << 10)], "both copies of the boot control block are lost"),
        (&[mark_of_a], "slot a is confirmed but carries no mark"),
    ];
    for (offsets, words) in wipes {
        disk.write_all_at(&good, 0).unwrap();
        for offset in offsets {
            disk.write_all_at(&[0; 512], *offset).unwrap();
        }
        let text = plant.ok(&["image", "repair", "node.disk"]);
        assert!(text.contains(words), "{words}: {text}");
        assert!(plant.ok(&["image", "repair", "node.disk"]).contains("needs no repair"));
        assert_eq!(boot_line(&plant), "BOOT slot=a version=1 reason=confirmed");
        assert!(!plant.ok(&["boot", "status", "node.disk"]).contains("warning"));
    }
}

#[test]
fn both_slots_unusable_is_explained_as_rescue() {
    let plant = plant();
    let disk = std::fs::OpenOptions::new().write(true).open(plant.path("node.disk")).unwrap();
    disk.write_all_at(&[0; 4096], 22 << 20).unwrap();
    let answer = plant.run(&["boot", "explain", "node.disk"]);
    assert_eq!(answer.code, 1);
    assert!(
        answer.out.ends_with("so the rescue console\nBOOT slot=none version=0 reason=rescue\n"),
        "{}",
        answer.out
    );
}

/// SIGKILL at any moment of a flash: the next boot starts a verified slot, and a flash still works.
#[test]
fn a_flash_killed_at_any_moment_leaves_a_bootable_disk() {
    let plant = plant();
    // The shortest of three, so that most of the kills come in time on a busy machine too.
    let whole = (0..3).map(|_| {
        let begin = std::time::Instant::now();
        plant.ok(&["image", "flash", "node.disk", "2.img"]);
        begin.elapsed()
    });
    let whole = whole.min().unwrap();
    let mut killed = 0;
    for round in 0..40 {
        let mut flash =
            bulkhead(&["image", "flash", "node.disk", if round % 2 == 0 { "1.img" } else { "2.img" }])
                .current_dir(plant.path(""))
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
        std::thread::sleep(whole * round / 40);
        flash.kill().unwrap();
        killed += u32::from(flash.wait().unwrap().code().is_none());
        let line = boot_line(&plant);
        assert!(
            line.starts_with("BOOT slot=a version=1") || line.starts_with("BOOT slot=b version="),
            "{line}"
        );
    }
    assert!(10 <= killed, "only {killed} of 40 were killed in time");
    std::thread::sleep(Duration::from_millis(10));
    plant.ok(&["image", "flash", "node.disk", "2.img"]);
    assert_eq!(boot_line(&plant), "BOOT slot=b version=2 reason=candidate");
}

/// Whatever a disk holds, the tools answer with an exit code of theirs, in bounded time (I11, V39).
#[test]
fn garbage_never_panics() {
    let plant = plant();
    let good = bytes(&plant);
    let disk = std::fs::OpenOptions::new().write(true).open(plant.path("node.disk")).unwrap();
    let mut seed = 0x51a2_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    // Table, ESP boot sector, FAT and directories, boot control block, image header, node configuration.
    let places =
        [(0, 34 * 512), (1 << 20, 64 << 10), (21 << 20, 128 << 10), (22 << 20, 8192), (54 << 20, 1024)];
    for _ in 0..60 {
        let (start, len) = places[random(5) as usize];
        let at = start + random(len);
        let junk: Vec<u8> = (0..1 + random(64)).map(|_| random(256) as u8).collect();
        disk.write_all_at(&junk, at).unwrap();
        for args in [&["image", "inspect", "node.disk"][..], &["boot", "explain", "node.disk"]] {
            let answer = plant.run(args);
            assert!((0..=3).contains(&answer.code), "{args:?} at {at}: {}", answer.err);
        }
        disk.write_all_at(&good[at as usize..at as usize + junk.len()], at).unwrap();
    }
    for len in [0, 1, 511, 512, 1024, 40_000, 1 << 20, (22 << 20) + 5] {
        std::fs::write(plant.path("short.disk"), &good[..len]).unwrap();
        for args in [&["image", "inspect", "short.disk"][..], &["boot", "status", "short.disk"]] {
            assert_eq!(plant.run(args).code, 1, "{len}");
        }
    }
}
