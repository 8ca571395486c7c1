//! The configuration file as an operator meets it: everything wrong is named with line, column, key and
//! remedy, and what is right alone but wrong in the site is refused (F54, V40, F46).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod common;

use bulkhead::site_config::{EXAMPLE, Secrecy, SiteConfig};
use common::bulkhead;
use std::path::Path;

/// The failure of the example with `from` replaced by `to`.
fn wrong(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "the example has no `{from}`");
    let failure = SiteConfig::parse(Path::new("site.toml"), &EXAMPLE.replacen(from, to, 1)).unwrap_err();
    assert_eq!(failure.exit.code(), 1);
    failure.text()
}

/// Each change of the example, and words of the message it must give.
const WRONG: &[(&str, &str, &[&str])] = &[
    // Misspelt, missing, of the wrong kind.
    ("pair = 1 ", "pear = 1 ", &["site.toml:40:1", "`node.pear`", "unknown field", "config example"]),
    ("\n[local]", "\n[locale]", &["unknown field `locale`"]),
    ("state = ", "#state = ", &["missing field `state`"]),
    ("node = 1 ", "node = \"one\" ", &["site.toml:9:8", "`local.node`", "expected u16"]),
    ("side = \"a\"", "side = \"c\"", &["`node.side`", "unknown variant `c`"]),
    ("id = \"2f1c", "id = \"zz", &["`site.id`", "is not a site id", "keygen"]),
    ("\"10.0.1.1\", ", "\"a1\", ", &["`node.addresses`", "is not an address", "write one such as"]),
    ("\"20s\"", "\"20 minutes\"", &["`fencing.timeout`", "is not a time", "write a whole number"]),
    ("\"20s\"", "\"2h\"", &["`fencing.timeout`", "out of range", "write 1s to 10m"]),
    ("[site]", "[site", &["site.toml:4:", "The file is not used"]),
    // Right alone, wrong in this site.
    ("node = 1 ", "node = 9 ", &["`local.node`", "is not one of the nodes of the site"]),
    ("id = 2", "id = 1", &["`node.id`", "b1 has the id 1 of a1", "id of its own"]),
    ("id = 2", "id = 0", &["`node.id`", "number the nodes from 1"]),
    ("name = \"b1\"", "name = \"a1\"", &["`node.name`", "two nodes named a1"]),
    ("\"10.0.1.2\", ", "\"10.0.1.1\", ", &["`node.addresses`", "b1 has the address 10.0.1.1:7901 of a1"]),
    ("\"10.0.1.2\", ", "\"10.0.2.1\", ", &["b1 has the address 10.0.2.1:7901 of a1"]),
    ("\"10.0.1.2\", ", "\"fd00::2\", ", &["addresses of different kinds in one network"]),
    (
        "\"10.0.1.2\", \"10.0.2.2\"",
        "\"10.0.1.2\", \"10.0.1.2:7902\"",
        &["both addresses of b1 are on one network"],
    ),
    ("side = \"b\"", "side = \"a\"", &["alone has the majority", "pair 1 has no node on side b"]),
    ("voter = true", "voter = false", &["2 nodes of pair 1 have `voter = true`", "let 3 vote"]),
    ("witness = true", "pair = 2\nside = \"a\" #", &["pair 2 has no node on side b"]),
    ("witness = true", "witness = true\nside = \"a\"", &["witness is a witness and stands in a compartment"]),
    ("witness = true", "witness = true\npair = 2", &["1 nodes of pair 2", "2 nodes of pair 1"]),
    ("pair = 1 ", "#pair = 1", &["a1 is in no compartment"]),
    ("pair = 1 ", "pair = \"every\"", &["a1 stands in every pair", "only a witness"]),
    ("pair = 1 ", "pair = 32767", &["there is no pair 32767", "the last one is 32766"]),
    ("pair = 1 ", "pair = \"all\"", &["`all` is no pair", "write its number, or \"every\""]),
    ("#[network]", "[network]\nlisten = [\"10.0.2.1\", \"10.0.1.1\"]\n#", &["`network.listen`", "swapped"]),
    // A copy of the mirror group.
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"log\"",
        &["`local.storage`", "a1 has a log", "nbd = \"10"],
    ),
    ("#[local.storage]", "[local.storage]", &["`local.storage`", "missing field `log`"]),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\nlog_size = \"big\"",
        &["`big` is not a size", "512M"],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\nlog_size = \"7MiB\"",
        &["7MiB is out of range", "8MiB"],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\nmemory = \"2GiB\"",
        &["`local.storage.memory`", "1GiB"],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\nread_cache = \"65GiB\"",
        &["`local.storage.read_cache`", "1MiB to 64GiB"],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\n[local.storage.tls]\nmode = \"off\"",
        &["`local.storage.tls.mode`", "unknown variant `off`", "`allow` or `require`"],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\n[local.storage.tls]\nstreams = \"off\"",
        &["`local.storage.tls.streams`", "unknown variant `off`", "`clear`, `allow`"],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\n[local.storage.tls]\nkey = \"k\"",
        &["`local.storage.tls`", "missing field `certificate`"],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\n[local.storage.backing]\nvm1 = \"/srv/vm1.img\"",
        &["`local.storage.backing.vm1`", "`/srv/vm1.img` is no block device", "is in a file in `volumes`"],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\n[local.storage.backing]\nvm1 = \"/dev/x\"\nvm2 = \"/dev/x\"",
        &["`local.storage.backing.vm2`", "vm2 is to be on /dev/x, as vm1 is", "a device of its own"],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\n[local.storage.backing]\nvm1 = \"nbds://10.0.5.1/x\"",
        &["`local.storage.backing.vm1`", "by which certificates", "?tls-certificates=/DIRECTORY"],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\n[local.storage.backing]\nvm1 = \"http://10.0.5.1/x\"",
        &["`http://10.0.5.1/x` is no NBD URI", "begins with nbd://", "nbd://10.0.5.1/vm1"],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\n[local.storage.backing]\n\"a/b\" = \"/dev/x\"",
        &["no volume can be called \"a/b\"", "write the name of a volume"],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\nshared = true",
        &["`local.storage`", "nobody knows where the store is that all reach", "write such as `volumes = "],
    ),
    (
        "#[local.storage]",
        "[local.storage]\nlog = \"l\"\nvolumes = \"v\"\nshared = true\nbacking.vm1 = \"/dev/x\"",
        &["`local.storage.backing.vm1`", "all other content in a shared store", "take it out"],
    ),
    ("#nbd = \"10.0.1.1:10809\"", "nbd = \"10.0.1.1:0\"", &["`node.nbd`", "is no place of a node"]),
    ("witness = true", "witness = true\nnbd = \"10.0.1.3\"", &["`node.nbd`", "would serve volumes"]),
    ("#guests = \"10.0.1.1:7902\"", "guests = \"0.0.0.0\"", &["`node.guests`", "is no place of a node"]),
    ("witness = true", "witness = true\nguests = \"10.0.1.3\"", &["`node.guests`", "take in guests"]),
    ("#rto", "rto", &["`timers.preset`", "both `rto` and `preset`", "keep one"]),
    ("#drift_ppm = 10000", "drift_ppm = 500000", &["`timers.drift_ppm`", "is broken", "at most 100000"]),
    ("witness = 3\n", "witness = 2\n", &["`fencing.method`", "2 is no witness"]),
    ("relay = 1", "", &["a relay needs `witness`, and `relay` or `strip`"]),
    ("relay = 1", "relay = 0", &["nonzero"]),
    ("relay = 1", "relay = 1\nstrip = 1", &["`relay` and `strip` are two places"]),
    ("relay = 1", "strip = 1\nagent = \"fence_apc\"", &["an `agent` and its `options` go with `relay`"]),
    ("node = 2\n", "node = 3\n", &["`fencing.node`", "3 is no node that could act"]),
    ("node = 2\n", "node = 1\n", &["node 1 is fenced in two ways"]),
    ("username = \"admin\"", "username = \"a\\nb\"", &["cannot be told to an agent"]),
    ("name = \"dhcp\"", "name = \"dns\"", &["`resource.name`", "there twice"]),
    ("unit = ", "#unit = ", &["`dns` does not say what runs it"]),
];

#[test]
fn what_is_wrong_is_named_with_its_place_and_its_remedy() {
    let mut missing = String::new();
    for (from, to, words) in WRONG {
        let text = wrong(from, to);
        for word in words.iter().chain([&"bulkhead: site.toml"]).filter(|word| !text.contains(**word)) {
            missing.push_str(&format!("`{from}` -> `{to}`: no `{word}` in\n{text}\n"));
        }
    }
    assert!(missing.is_empty(), "{missing}");
}

/// S4-07: where a node's copy of its mirror group is, with what is not said.
#[test]
fn a_node_keeps_a_copy_of_its_mirror_group() {
    let text = EXAMPLE.replacen("#nbd = ", "nbd = ", 1).replacen("#[local.storage]", "[local.storage]", 1);
    let text = text.replacen("#log = \"/var/lib/bulkhead/log\"", "log = \"disk/log\"", 1);
    let read = |text: &str| SiteConfig::parse(Path::new("/etc/site.toml"), text);
    let config = read(&text).unwrap();
    let storage = config.local.storage.clone().unwrap();
    assert_eq!((storage.log.as_path(), storage.log_size), (Path::new("/etc/disk/log"), None));
    assert_eq!(
        (storage.volumes.as_path(), storage.memory, storage.read_cache),
        (Path::new("/var/lib/bulkhead/volumes"), 64 << 20, 0)
    );
    let cached = text.replacen("#read_cache =", "read_cache =", 1);
    assert_eq!(read(&cached).unwrap().local.storage.unwrap().read_cache, 256 << 20);
    assert_eq!(config.me().unwrap().nbd.unwrap().to_string(), "10.0.1.1:10809");

    // Its clients encrypt, unless it is said that they need not.
    let secure = text
        .replacen("#[local.storage.tls]", "[local.storage.tls]", 1)
        .replacen("#certificate =", "certificate =", 1)
        .replacen("#key = \"tls", "key = \"tls", 1)
        .replacen("#authorities =", "authorities =", 1);
    let tls = read(&secure).unwrap().local.storage.unwrap().tls.unwrap();
    assert_eq!((tls.is_required, tls.key.as_path()), (true, Path::new("/etc/tls/a1-key.pem")));
    assert_eq!(tls.streams, Secrecy::Required);
    let allowed = secure.replacen("#mode = \"require\"", "mode = \"allow\"", 1);
    let tls = read(&allowed).unwrap().local.storage.unwrap().tls.unwrap();
    assert_eq!((tls.is_required, tls.streams), (false, Secrecy::Allowed));
    // What the holders say to each other goes as that does, unless it is said otherwise.
    for (word, streams) in
        [("clear", Secrecy::Clear), ("allow", Secrecy::Allowed), ("require", Secrecy::Required)]
    {
        let said = format!("streams = \"{word}\"");
        let text = allowed.replacen("#streams = \"require\"", &said, 1);
        let tls = read(&text).unwrap().local.storage.unwrap().tls.unwrap();
        assert_eq!((tls.is_required, tls.streams), (false, streams));
    }

    // Both nodes cannot serve at one place, and the witness keeps nothing.
    let twice = text.replacen("side = \"b\"", "side = \"b\"\nnbd = \"10.0.1.1\"", 1);
    let told = read(&twice).unwrap_err().text();
    assert!(told.contains("b1 serves volumes at 10.0.1.1:10809, as a1 does"), "{told}");
    let told = read(&text.replacen("node = 1 ", "node = 3 ", 1)).unwrap_err().text();
    assert!(told.contains("witness is a witness and would hold volumes"), "{told}");
}

#[test]
fn every_cut_and_every_changed_byte_gives_an_answer_and_no_panic() {
    let path = Path::new("site.toml");
    for at in (0..EXAMPLE.len()).step_by(7) {
        let _ = SiteConfig::parse(path, EXAMPLE.get(..at).unwrap());
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1;
        }
        if let Ok(text) = String::from_utf8(bytes) {
            let _ = SiteConfig::parse(path, &text);
        }
    }
}

#[test]
fn the_commands_draw_a_key_print_an_example_and_check_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("site.toml");
    let example = bulkhead(&["config", "example"]).output().unwrap();
    assert!(example.status.success());
    std::fs::write(&file, &example.stdout).unwrap();

    let check = || bulkhead(&["config", "check", "--json"]).arg(&file).output().unwrap();
    let answer =
        |out: &std::process::Output| serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap();
    assert_eq!(answer(&check()).get("keyUsable").unwrap(), false);

    let key = directory.path().join("site.key");
    let drawn = bulkhead(&["config", "keygen", "--json"]).arg(&key).output().unwrap();
    let id = answer(&drawn).get("siteId").unwrap().as_str().unwrap().to_owned();
    let (again, what) = (bulkhead(&["config", "keygen"]).arg(&key).output().unwrap(), "never overwritten");
    assert!(again.status.code() == Some(1) && String::from_utf8_lossy(&again.stderr).contains(what));

    let text = EXAMPLE.replace("2f1cb1a0-6d2f-4f3e-9a57-0c6f6f3c5a11", &id);
    std::fs::write(&file, text).unwrap();
    let good = answer(&check());
    assert_eq!((good.get("keyUsable").unwrap(), good.get("voters").unwrap()), (&true.into(), &3.into()));
    assert_eq!(good.get("site").unwrap(), &id);

    std::fs::write(&file, EXAMPLE.replace("voter = true", "")).unwrap();
    let bad = check();
    assert_eq!(bad.status.code(), Some(1));
    let what = answer(&bad).pointer("/error/what").unwrap().as_str().unwrap().to_owned();
    assert!(what.contains("site.toml:"), "{what}");
}
