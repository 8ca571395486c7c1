//! Keys, images and disks through the command, with other people's tools as second opinions.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod common;

use common::{Plant, pe};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Runs another tool; `None` where it is not installed.
fn tool(name: &str, args: &[&str]) -> Option<String> {
    match Command::new(name).args(args).output() {
        Ok(output) => {
            let text = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(output.status.success(), "{name} {args:?}: {text}");
            Some(text)
        }
        Err(error) => {
            eprintln!("skipped: {name} {error}");
            None
        }
    }
}

#[test]
fn keys_are_private_never_overwritten_and_readable_by_openssl() {
    let plant = Plant::new();
    let mode = std::fs::metadata(plant.path("plant.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = plant.fails(3, &["image", "keygen", "--out", "plant"]);
    assert_eq!(
        error,
        "bulkhead: plant.key exists already; a key is never overwritten. Nothing was written.\n  \
         Next: choose another name with `--out`.\n"
    );
    let key = plant.path("plant.key").display().to_string();
    if let Some(text) = tool("openssl", &["pkey", "-in", &key, "-pubout"]) {
        assert_eq!(text, std::fs::read_to_string(plant.path("plant.pub")).unwrap());
    }
}

#[test]
fn a_key_of_openssl_signs_too() {
    let plant = Plant::new();
    let (key, public) =
        (plant.path("o.key").display().to_string(), plant.path("o.pub").display().to_string());
    if tool("openssl", &["genpkey", "-algorithm", "ed25519", "-out", &key]).is_some() {
        tool("openssl", &["pkey", "-in", &key, "-pubout", "-out", &public]);
        plant.build("o.img", "o.key", 1, 1);
        plant.ok(&["image", "verify", "o.img", "--trust", "o.pub"]);
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let plant = Plant::new();
    plant.build("again.img", "plant.key", 1, 1);
    let read = |name: &str| std::fs::read(plant.path(name)).unwrap();
    assert!(read("1.img") == read("again.img"));
    for more in
        [&[][..], &["--sector-size", "4096", "--zone", "mz", "--admin-size", "2M", "--image-b", "2.img"]]
    {
        plant.disk("one.disk", more);
        plant.disk("two.disk", more);
        assert!(read("one.disk") == read("two.disk"));
        for name in ["one.disk", "two.disk"] {
            std::fs::remove_file(plant.path(name)).unwrap();
        }
    }
}

#[test]
fn other_tools_find_nothing_wrong_with_a_disk() {
    let plant = Plant::new();
    let disk = plant.disk("node.disk", &[]).display().to_string();
    if let Some(text) = tool("sgdisk", &["-v", &disk]) {
        assert!(text.contains("No problems found"), "{text}");
    }
    let esp = format!("{disk}@@1M");
    if let Some(text) = tool("mdir", &["-i", &esp, "-/", "-b", "::"]) {
        let files: Vec<_> = text.lines().filter(|line| !line.ends_with('/')).collect();
        assert_eq!(files, ["::/EFI/BOOT/BOOTX64.EFI"]);
    }
    let out = plant.path("out.efi").display().to_string();
    if tool("mcopy", &["-n", "-i", &esp, "::/EFI/BOOT/BOOTX64.EFI", &out]).is_some() {
        let read = |name: &str| std::fs::read(plant.path(name)).unwrap();
        assert!(read("out.efi") == read("trusting.efi"));
    }
    let fat = plant.path("esp").display().to_string();
    let bytes = std::fs::read(&disk).unwrap();
    std::fs::write(&fat, &bytes[1 << 20..21 << 20]).unwrap();
    tool("fsck.fat", &["-n", &fat]);
}

#[test]
fn verify_says_good_or_what_is_wrong() {
    let plant = Plant::new();
    assert!(plant.ok(&["image", "verify", "1.img", "--trust", "plant.pub"]).starts_with("1.img is good."));
    plant.ok(&["image", "keygen", "--out", "other"]);
    let error = plant.fails(1, &["image", "verify", "1.img", "--trust", "other.pub"]);
    assert!(error.starts_with("bulkhead: 1.img is not good: signed by unknown key "), "{error}");
    let error = plant.fails(1, &["image", "verify", "1.img", "--trust", "plant.pub", "--floor", "2"]);
    assert!(error.contains("security version 1 is below the floor 2"), "{error}");
    let mut bytes = std::fs::read(plant.path("1.img")).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(plant.path("bad.img"), &bytes).unwrap();
    let error = plant.fails(1, &["image", "verify", "bad.img", "--trust", "plant.pub"]);
    assert!(error.contains("the payload does not match its digest"), "{error}");
    std::fs::write(plant.path("bad.img"), &bytes[..5000]).unwrap();
    let error = plant.fails(1, &["image", "verify", "bad.img", "--trust", "plant.pub"]);
    assert!(error.contains("it is cut short, 5000 of "), "{error}");
}

#[test]
fn what_is_no_efi_binary_is_not_built_in() {
    let plant = Plant::new();
    std::fs::write(plant.path("no.efi"), "just text").unwrap();
    let base = [
        "image",
        "build",
        "--key",
        "plant.key",
        "--version",
        "1",
        "--security-version",
        "1",
        "--out",
        "x.img",
    ];
    let error = plant.fails(1, &[&base[..], &["--efi", "no.efi"]].concat());
    assert!(error.starts_with("bulkhead: no.efi is not an EFI binary: it has no PE header."), "{error}");
    let error = plant.fails(1, &[&base[..], &["--efi", "1.efi", "--cmdline", "a\nb"]].concat());
    assert!(error.contains("control characters"), "{error}");
    assert!(!plant.path("x.img").exists());
    plant.fails(2, &["image", "build", "--efi", "1.efi"]);
}

#[test]
fn a_signed_boot_application_is_not_changed() {
    let plant = Plant::new();
    let mut app = pe(&[1; 512], true);
    // The certificate table's size, fifth entry of the data directories.
    app[0x98 + 112 + 4 * 8 + 4] = 1;
    std::fs::write(plant.path("signed.efi"), app).unwrap();
    let args = ["image", "boot-app", "--app", "signed.efi", "--trust", "plant.pub", "--out", "y.efi"];
    let error = plant.fails(3, &args);
    assert!(error.contains("carries a signature") && error.contains("then sign it"), "{error}");
    let error = plant.fails(1, &[&args[..3], &["1.efi"], &args[4..]].concat());
    assert!(error.contains("it has no section .bhkeys"), "{error}");
}

#[test]
fn a_disk_that_would_not_boot_is_not_made() {
    let plant = Plant::new();
    let base =
        ["image", "disk", "--out", "x.disk", "--size", "128M", "--slot-size", "16M", "--infra-size", "4M"];
    let error = plant.fails(1, &[&base[..], &["--boot-app", "app.efi", "--image", "1.img"]].concat());
    assert!(error.contains("the boot application cannot be used: key table"), "{error}");
    plant.ok(&["image", "keygen", "--out", "other"]);
    let other = ["--boot-app", "app.efi", "--trust", "other.pub", "--image", "1.img"];
    let error = plant.fails(3, &[&base[..], &other].concat());
    assert!(
        error.starts_with("bulkhead: 1.img would not start from slot a: signed by unknown key"),
        "{error}"
    );
    let error = plant.fails(
        1,
        &[
            "image",
            "disk",
            "--out",
            "x.disk",
            "--size",
            "512M",
            "--boot-app",
            "trusting.efi",
            "--image",
            "1.img",
        ],
    );
    assert!(error.contains("the disk has 512 MiB") && error.contains("2 x slot 512 MiB"), "{error}");
    assert!(!plant.path("x.disk").exists() && !plant.path("x.disk.partial").exists());
    plant.disk("node.disk", &[]);
    let error = plant.fails(
        3,
        &[&base[..3], &["node.disk"], &base[4..], &["--boot-app", "trusting.efi", "--image", "1.img"]]
            .concat(),
    );
    assert!(error.contains("node.disk exists already"), "{error}");
}

/// S1-03, V40: the site and its key stand on the node's disk; the key is shown to nobody.
#[test]
fn a_node_carries_its_site_and_shows_all_of_it_but_the_key() {
    let plant = Plant::new();
    plant.ok(&["config", "keygen", "site.key"]);
    let example = plant.ok(&["config", "example"]);
    std::fs::write(plant.path("site.toml"), &example).unwrap();
    plant.disk("node.disk", &["--site", "site.toml"]);
    let shown = plant.ok(&["node", "site", "show", "node.disk"]);
    let key = std::fs::read_to_string(plant.path("site.key")).unwrap();
    assert!(
        shown.contains("plant-7") && shown.contains("node = 1\n") && !shown.contains(key.trim()),
        "{shown}"
    );
    assert!(!shown.contains("/var/lib"), "a node has its own places: {shown}");
    let disk = std::fs::read(plant.path("node.disk")).unwrap();
    assert!(
        disk.windows(key.trim().len()).any(|bytes| bytes == key.trim().as_bytes()),
        "the key is on the disk"
    );

    // Another node of the site; a dry run first, which writes nothing.
    std::fs::write(plant.path("site.toml"), example.replace("node = 1  ", "node = 2  ")).unwrap();
    plant.ok(&["node", "site", "set", "node.disk", "site.toml", "--dry-run"]);
    assert!(disk == std::fs::read(plant.path("node.disk")).unwrap());
    let said = plant.ok(&["node", "site", "set", "node.disk", "site.toml"]);
    assert!(said.contains("is b1 of site plant-7 from its next boot on"), "{said}");
    assert!(plant.ok(&["node", "site", "show", "node.disk"]).contains("node = 2\n"));

    // What cannot run is not put there, and a disk without a site says so.
    std::fs::write(plant.path("site.toml"), example.replace("voter = true", "voter = false")).unwrap();
    plant.fails(1, &["node", "site", "set", "node.disk", "site.toml"]);
    assert!(plant.ok(&["node", "site", "show", "node.disk"]).contains("node = 2\n"));
    plant.disk("bare.disk", &[]);
    let bare = plant.fails(1, &["node", "site", "show", "bare.disk"]);
    assert!(bare.contains("bulkhead node site set DISK FILE"), "{bare}");
}
