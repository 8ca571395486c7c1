//! What we stand on: the core has a short list of dependencies, everything comes from the registry or from
//! here, and every licence is one that a closed plant can ship. Reads `cargo metadata`, without network.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a host tool: a panic is its error message")]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// All that product code of the core may use. A new name needs a sentence in ARCHITECTURE.md.
const CORE: &[&str] =
    &["blake2", "crc", "ed25519-dalek", "heapless", "postcard", "serde", "sha2", "thiserror", "uguid"];

/// Licences that ask for nothing but their text to be kept.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

fn metadata(arguments: &[&str]) -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--format-version", "1"]).args(arguments);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn packages(metadata: &Value) -> &[Value] {
    metadata["packages"].as_array().unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn the_core_stands_on_its_short_list() {
    let metadata = metadata(&["--no-deps"]);
    let core = packages(&metadata).iter().find(|package| text(package, "name") == "bulkhead-core").unwrap();
    let used = core["dependencies"].as_array().unwrap().iter();
    // Neither for tests (`dev`) nor for a build script (`build`): those do not reach a node.
    let used: BTreeSet<_> = used.filter(|one| one["kind"].is_null()).map(|one| text(one, "name")).collect();
    assert_eq!(used, CORE.iter().copied().collect());
}

#[test]
fn everything_comes_from_the_registry_or_from_here() {
    let metadata = metadata(&["--no-deps"]);
    let root = text(&metadata, "workspace_root");
    for package in packages(&metadata) {
        for dependency in package["dependencies"].as_array().unwrap() {
            let registry =
                text(dependency, "source").starts_with("registry+https://github.com/rust-lang/crates.io");
            let here = text(dependency, "path").starts_with(root);
            assert!(registry || here, "{}: {dependency}", text(package, "name"));
        }
    }
}

#[test]
fn every_licence_may_be_shipped() {
    let targets = ["x86_64-unknown-linux-gnu", "x86_64-unknown-uefi"];
    let filter: Vec<_> = targets.iter().flat_map(|target| ["--filter-platform", target]).collect();
    let metadata = metadata(&filter);
    let wrong = packages(&metadata).iter().filter(|package| {
        let this = (text(package, "name"), text(package, "license"));
        !EXCEPTIONS.iter().any(|(name, licence, _)| (*name, *licence) == this) && !allowed(this.1)
    });
    let wrong: Vec<_> = wrong.map(|package| (text(package, "name"), text(package, "license"))).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Other licences, crate by crate: name, licence, and why it may be shipped.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "ucs2",
        "MPL-2.0",
        "below `uefi`; its copyleft is per file, and we ship its files unchanged from the registry",
    ),
    (
        "alterable_logger",
        "MPL-2.0",
        "below `defmt-decoder`, which `bulkhead logs witness` needs; per file, and unchanged, as `ucs2`",
    ),
    ("colored", "MPL-2.0", "as `alterable_logger`"),
];

/// Every part joined by AND must offer at least one licence of the list.
fn allowed(expression: &str) -> bool {
    let parts = expression.split(" AND ").map(|part| part.trim_matches(['(', ')']).replace('/', " OR "));
    parts.into_iter().all(|part| part.split(" OR ").any(|one| LICENCES.contains(&one.trim())))
}

/// What speaks of a guest's memory and of KVM must speak of the same types: there is one of each.
#[test]
fn there_is_one_of_each_of_rust_vmm() {
    let metadata = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    for name in ["kvm-bindings", "vm-memory", "vmm-sys-util"] {
        let count = packages(&metadata).iter().filter(|package| text(package, "name") == name).count();
        assert_eq!(count, 1, "{name}");
    }
}

#[test]
fn licences_are_read_as_they_are_written() {
    for good in ["MIT", "MIT OR GPL-3.0", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert!(allowed(good), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-2.0 OR GPL-3.0) AND MIT"] {
        assert!(!allowed(bad), "{bad}");
    }
}
