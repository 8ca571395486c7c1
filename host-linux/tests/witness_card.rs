//! `bulkhead witness provision` and `show`, as an operator meets them (V40, F25, F54).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod common;

use bulkhead::site_config::EXAMPLE;
use common::{Answer, bulkhead};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        std::fs::write(site.path("site.toml"), EXAMPLE).unwrap();
        let key = site.path("site.key");
        assert!(bulkhead(&["config", "keygen"]).arg(key).output().unwrap().status.success());
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Answer {
        bulkhead(&[&["witness"], args].concat()).current_dir(self.0.path()).output().unwrap().into()
    }

    fn provision(&self, args: &[&str]) -> Answer {
        let usual = ["provision", "--config", "site.toml", "--node", "witness", "--out", "card.img"];
        self.run(&[&usual, args].concat())
    }

    fn change(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path("site.toml")).unwrap();
        assert!(text.contains(from));
        std::fs::write(self.path("site.toml"), text.replacen(from, to, 1)).unwrap();
    }
}

/// A program of four bytes at 0, and a comment behind it.
fn small_elf() -> Vec<u8> {
    let mut elf = b"\x7fELF\x01\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend([2, 0, 40, 0, 1, 0, 0, 0, 1, 4, 0, 0, 52, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend([52, 0, 32, 0, 1, 0, 40, 0, 0, 0, 0, 0]);
    for field in [1_u32, 84, 0, 0, 4, 4, 5, 4] {
        elf.extend(field.to_le_bytes());
    }
    elf.extend(b"\x01\x02\x03\x04 and more");
    elf
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_card_is_made_shown_and_changed_and_its_votes_are_never_lost_by_mistake() {
    let site = Site::new();
    let made = site.provision(&[]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(
        made.out.starts_with("card.img is the card of witness, a voter without a past.\n"),
        "{}",
        made.out
    );
    assert_eq!(mode(&site.path("card.img")), 0o600, "it holds the site key");
    let bytes = std::fs::read(site.path("card.img")).unwrap();
    assert_eq!(bytes.len(), 8 << 20);
    let key = std::fs::read_to_string(site.path("site.key")).unwrap();
    for shown in [site.run(&["show", "card.img"]), site.run(&["show", "card.img", "--json"])] {
        assert_eq!(shown.code, 0, "{}", shown.err);
        assert!(!shown.out.contains(key.trim()), "the key is shown");
    }
    let shown = site.run(&["show", "card.img", "--config", "site.toml"]).out;
    for words in ["witness (3)", "10.0.1.3/24 port 7901", "b1 (2): pair 1 b, votes, relay 1", "starts    0"] {
        assert!(shown.contains(words), "no `{words}`: {shown}");
    }

    let again = site.provision(&[]);
    assert!(again.code == 0 && again.out.contains("Nothing was written"), "{}", again.out);
    assert_eq!(std::fs::read(site.path("card.img")).unwrap(), bytes);

    site.change("10.0.1.1\"", "10.0.1.77\"");
    let planned = site.provision(&["--dry-run"]);
    assert!(planned.out.starts_with("Would make: card.img has new settings of witness"), "{}", planned.out);
    assert_eq!(std::fs::read(site.path("card.img")).unwrap(), bytes);
    let changed = site.provision(&["--json"]);
    let changed: serde_json::Value = serde_json::from_str(&changed.out).unwrap();
    assert_eq!((&changed["done"], &changed["seq"]), (&"settings".into(), &2.into()));
    let life =
        |answer: &Answer| serde_json::from_str::<serde_json::Value>(&answer.out).unwrap()["life"].clone();
    let before = life(&site.run(&["show", "card.img", "--json"]));
    assert_eq!(before, changed["life"]);

    for refused in [site.provision(&["--new"]), {
        site.change("2f1cb1a0", "2f1cb1a1");
        site.provision(&[])
    }] {
        assert_eq!(refused.code, 3, "{}", refused.out);
        assert!(refused.err.contains("--new --yes") && refused.err.contains("Nothing was written"));
    }
    assert_eq!(life(&site.run(&["show", "card.img", "--json"])), before);
    assert_eq!(site.provision(&["--new", "--yes"]).code, 0);
    assert_ne!(life(&site.run(&["show", "card.img", "--json"])), before, "a new voter has a life of its own");
}

#[test]
fn what_is_no_card_is_named_and_left_alone() {
    let site = Site::new();
    assert_eq!(site.run(&["show", "none.img"]).code, 1);
    let file = std::fs::File::create(site.path("card.img")).unwrap();
    file.set_len(4096).unwrap();
    assert!(site.provision(&[]).err.contains("a card needs"));
    file.set_len(4 << 20).unwrap();
    let blank = site.run(&["show", "card.img"]);
    assert!(blank.code == 1 && blank.err.contains("nothing was ever written to it"), "{}", blank.err);
    std::os::unix::fs::FileExt::write_all_at(&file, b"\x55\xaa", 510).unwrap();
    let foreign = site.provision(&[]);
    assert!(foreign.code == 3 && foreign.err.contains("an MBR partition table"), "{}", foreign.err);
    let made = site.provision(&["--new", "--yes"]);
    assert!(made.code == 0 && made.out.contains("lost: it holds a boot sector"), "{}{}", made.out, made.err);
    assert_eq!(mode(&site.path("card.img")), 0o600, "also a file that was open to others");
    let device = site.run(&["provision", "--config", "site.toml", "--node", "3", "--device", "card.img"]);
    assert!(device.code == 2 && device.err.contains("is no block device"), "{}", device.err);
    for (node, words) in [("a1", "a1 is no witness"), ("w", "the site has no node w")] {
        let args = ["provision", "--config", "site.toml", "--node", node, "--out", "x.img"];
        let answer = site.run(&args);
        assert!(answer.code == 2 && answer.err.contains(words) && answer.err.contains("witness (3)"));
    }
    // A sector of the votes' owner rots: the other copy is used; both, and nobody starts with it.
    let file = std::fs::File::options().write(true).open(site.path("card.img")).unwrap();
    for (at, code) in [(1 << 20, 0), ((1 << 20) + 4096, 1)] {
        std::os::unix::fs::FileExt::write_all_at(&file, b"rotten", at + 20).unwrap();
        let shown = site.run(&["show", "card.img"]);
        assert!(shown.code == code && shown.out.contains("! damaged"), "{}", shown.out);
    }
}

/// V41: the firmware has no secret, and what was not flashed is not said to be.
#[test]
fn the_firmware_is_prepared_and_the_board_is_flashed_only_on_demand() {
    let site = Site::new();
    let elf = std::fs::read(env!("CARGO_BIN_EXE_bulkhead")).unwrap();
    std::fs::write(site.path("host.elf"), &elf[..4096]).unwrap();
    let other = site.run(&["flash", "--elf", "host.elf"]);
    assert!(other.code == 1 && other.err.contains("no ELF file for a 32-bit"), "{}", other.err);
    let elf = small_elf();
    std::fs::write(site.path("w.elf"), &elf).unwrap();
    let made = site.run(&["flash", "--elf", "w.elf", "--out", "out", "--config", "site.toml"]);
    assert_eq!(made.code, 0, "{}", made.err);
    for words in [
        "the key of the site is not in it",
        "not flashed",
        "probe-rs download --chip LM3S6965 --verify w.elf",
    ] {
        assert!(made.out.contains(words), "no `{words}`: {}", made.out);
    }
    assert_eq!(std::fs::read(site.path("out/w.bin")).unwrap(), [1, 2, 3, 4]);
    let hex = ":0400000001020304F2\r\n:0400000500000401F2\r\n:00000001FF\r\n";
    assert_eq!(std::fs::read_to_string(site.path("out/w.hex")).unwrap(), hex);
    assert_eq!(std::fs::read(site.path("out/w.elf")).unwrap(), elf);

    let key = std::fs::read_to_string(site.path("site.key")).unwrap();
    std::fs::write(site.path("bad.elf"), [&elf, key.as_bytes()].concat()).unwrap();
    let bad = site.run(&["flash", "--elf", "bad.elf", "--out", "bad", "--config", "site.toml"]);
    assert!(bad.code == 3 && bad.err.contains("the key of site plant-7 is in bad.elf"), "{}", bad.err);
    assert!(!site.path("bad").exists());
}

/// The line that is shown is the line that is run: a program in its place writes it down, and fails on
/// demand.
#[test]
fn probe_rs_is_run_as_it_is_shown() {
    let site = Site::new();
    let elf = small_elf();
    std::fs::write(site.path("w.elf"), &elf).unwrap();
    let run = |path: &str| -> Answer {
        let mut command = bulkhead(&["witness", "flash", "--elf", "w.elf", "--probe", "1366:0101"]);
        command.current_dir(site.0.path()).env("PATH", path).output().unwrap().into()
    };
    let none = run("/nowhere");
    assert!(none.code == 1 && none.err.contains("probe-rs is not installed. The board was not flashed."));
    let tool = site.path("probe-rs");
    std::fs::write(&tool, "#!/bin/sh\necho probe-rs \"$@\" >> said\n[ ! -e fail ]\n").unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", site.0.path().display());
    let done = run(&path);
    assert!(done.code == 0 && done.out.contains("has flashed and reset the board"), "{}", done.err);
    let said = std::fs::read_to_string(site.path("said")).unwrap();
    let wanted = "probe-rs download --chip LM3S6965 --probe 1366:0101 --verify w.elf\n\
                  probe-rs reset --chip LM3S6965 --probe 1366:0101\n";
    assert_eq!(said, wanted);
    std::fs::write(site.path("fail"), "").unwrap();
    let failed = run(&path);
    assert!(failed.code == 1 && failed.err.contains("What the board holds is not known"), "{}", failed.err);
}
