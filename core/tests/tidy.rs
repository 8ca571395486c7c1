//! House rules that `rustc` and `clippy` cannot check, over all crates. Runs with `cargo test` and `cargo
//! xtask tidy`. The tables are in `tidy/rules.rs`, the checks of one text in `tidy/text.rs`.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a host tool: a panic is its error message"
)]

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/text.rs"]
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use rules::{FLOORS, FUNCTION_LINES_MAX, LONG_FUNCTIONS, TOP_LEVEL, UNSAFE_SITES};
use text::{check_rust, check_words, functions, unsafe_sites};

/// The files that must hold the wrong words, to be able to tell them.
const KNOWS_THE_WRONG_WORDS: &[&str] = &["core/tests/tidy.rs", "core/tests/tidy/rules.rs"];

#[test]
fn tidy() {
    let mut errors = Vec::new();
    for (path, text) in rust_files() {
        if !KNOWS_THE_WRONG_WORDS.contains(&path.as_str()) {
            check_rust(&path, &text, &mut errors);
        }
    }
    for (path, text) in pages() {
        check_words(&path, &text, &mut errors);
    }
    none(&errors);
}

#[test]
fn exemptions_are_of_functions_that_exist_and_need_them() {
    let files = rust_files();
    let all = files.iter().flat_map(|(path, text)| {
        functions(text).into_iter().map(move |(_, name, length)| (format!("{path}::{name}"), length))
    });
    let all: Vec<_> = all.collect();
    for (exempt, _, reason) in LONG_FUNCTIONS {
        assert!(!reason.is_empty(), "{exempt} has no reason");
        let needed = all.iter().any(|(name, length)| name == exempt && FUNCTION_LINES_MAX < *length);
        assert!(needed, "{exempt} is gone or short enough: take it out of LONG_FUNCTIONS");
    }
}

#[test]
fn floors_name_only_what_is_below_and_exists() {
    let mut errors = Vec::new();
    for (index, (module, below)) in FLOORS.iter().enumerate() {
        let lower: Vec<_> = FLOORS[..index].iter().map(|(name, _)| *name).collect();
        errors.extend(
            below
                .iter()
                .filter(|name| !lower.contains(name))
                .map(|name| format!("{module}: {name} is no lower floor")),
        );
        let source = root().join("core/src");
        if !source.join(module).is_dir() && !source.join(format!("{module}.rs")).is_file() {
            errors.push(format!("FLOORS names `{module}`, which core/src does not have"));
        }
    }
    none(&errors);
}

#[test]
fn unsafe_sites_are_counted() {
    let mut errors = Vec::new();
    for (member, expected) in UNSAFE_SITES {
        let files = rust_files().into_iter().filter(|(path, _)| path.starts_with(&format!("{member}/")));
        let files = files.filter(|(path, _)| !path.starts_with("core/tests/tidy"));
        let counts: Vec<_> = files.map(|(path, text)| (path, unsafe_sites(&text))).collect();
        let count: usize = counts.iter().map(|(_, count)| count).sum();
        if count != *expected {
            let places: Vec<_> = counts.iter().filter(|(_, count)| 0 < *count).collect();
            errors.push(format!("{member}: {count} unsafe sites, UNSAFE_SITES says {expected}: {places:?}"));
        }
    }
    none(&errors);
}

#[test]
fn the_top_level_is_as_the_map_says() {
    let mut errors = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) {
            errors.push(format!("{name} does not belong at the top; if it does, add it to TOP_LEVEL"));
        }
    }
    none(&errors);
}

#[test]
fn every_folder_of_the_core_is_on_the_map() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut errors = Vec::new();
    for folder in folders(&root().join("core/src")) {
        let name = relative(&folder);
        if !map.lines().any(|line| line.starts_with(&format!("| `{name}` |"))) {
            errors.push(format!("{name} has no line in ARCHITECTURE.md's map"));
        }
    }
    let named = map.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    for (name, _) in named.filter(|(name, _)| name.contains('/')) {
        if !root().join(name).exists() {
            errors.push(format!("ARCHITECTURE.md's map names {name}, which does not exist"));
        }
    }
    none(&errors);
}

#[test]
fn tidy_finds_what_it_claims_to_find() {
    let bad = "\
use crate::boot::choice;
use crate::{crc, gpt};
fn f() {
    let t = Instant::now(); // Ask the leader at long-term.
}
pub enum Mode {
    /// Lost.
    Stuck {
        /// A field is no mode.
        since: u64,
    },
}
match mode {
    _ => todo!(),
}
";
    let mut errors = Vec::new();
    check_rust("core/src/gpt/bad.rs", bad, &mut errors);
    assert_eq!(
        errors,
        [
            "core/src/gpt/bad.rs:1: file does not start with its promise (`//! ...`)",
            "core/src/gpt/bad.rs:14: `todo!` is banned, use a test that fails",
            "core/src/gpt/bad.rs:4: \"leader\" has no meaning here, say `master` for infrastructure instances, \
             `primary` for caches",
            "core/src/gpt/bad.rs:1: `gpt` may not stand on `boot`",
            "core/src/gpt/bad.rs:2: name one module per `use crate::`, so that floors can be read",
            "core/src/gpt/bad.rs:4: `Instant::now` is banned in the core, use the `now` argument",
            "core/src/gpt/bad.rs:14: catch-all arm: name what is ignored",
            "core/src/gpt/bad.rs:8: mode `Stuck` does not say how it is left (\"Exit:\" or \"Final\")",
        ],
    );
}

#[test]
fn tidy_measures_what_it_claims_to_measure() {
    let body = "    step();\n".repeat(FUNCTION_LINES_MAX);
    let wide = format!("// {}", "w".repeat(120));
    let bad = format!(
        "//! Promise.\n    pub(crate) const unsafe fn short() {{}}\nfn long() {{\n{body}}}\n{wide}\n"
    );
    let mut errors = Vec::new();
    check_rust("host-linux/src/bad.rs", &bad, &mut errors);
    assert_eq!(
        errors,
        [
            "host-linux/src/bad.rs:3: `long` has 72 lines, at most 70",
            "host-linux/src/bad.rs:75: line is wider than 110 columns"
        ]
    );
    let mut errors = Vec::new();
    check_rust("boot/src/bad.rs", &format!("//! Promise.\n{}", "\n".repeat(500)), &mut errors);
    assert_eq!(errors, ["boot/src/bad.rs:1: file is longer than 500 lines; split it by concept"]);
    assert_eq!(unsafe_sites("unsafe { a } // unsafe\n#![deny(unsafe_code)]\nunsafe impl B for C {}"), 2);
    let mut errors = Vec::new();
    check_rust("core/src/newcomer.rs", "//! Promise.\n", &mut errors);
    assert_eq!(
        errors,
        ["core/src/newcomer.rs:1: module `newcomer` stands on no floor: give it a row in FLOORS"]
    );
}

fn none(errors: &[String]) {
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

/// Path and text of every Rust file of ours.
fn rust_files() -> Vec<(String, String)> {
    let members = ["boot", "core", "firmware", "host-linux", "qemu-tests"];
    let files: Vec<_> = members.iter().flat_map(|member| files(&root().join(member), "rs")).collect();
    // A walk that finds nothing would find nothing wrong.
    assert!(20 < files.len(), "only {} files: is the walk broken?", files.len());
    files
}

/// Path and text of every page of ours.
fn pages() -> Vec<(String, String)> {
    let top = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| root().join(name));
    let top = top.iter().filter_map(|path| Some((relative(path), fs::read_to_string(path).ok()?)));
    top.chain(files(&root().join("docs"), "md")).collect()
}

fn files(folder: &Path, extension: &str) -> Vec<(String, String)> {
    let all = folders(folder).into_iter().chain([folder.to_owned()]);
    let all = all.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let mut all: Vec<_> = all.filter(|path| path.extension().is_some_and(|own| own == extension)).collect();
    all.sort();
    all.into_iter().map(|path| (relative(&path), fs::read_to_string(&path).unwrap())).collect()
}

/// All folders below `folder`, build output left out.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(folders(&path));
            found.push(path);
        }
    }
    found.sort();
    found
}
