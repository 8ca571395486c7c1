//! The compiler for bare-metal targets: rustup's target where it can be had, else Debian's toolchain with
//! `-Zbuild-std`. Which way was taken is said in one line, remembered, and can be forced; both give the same
//! program.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::command::{find, output, run_within};
use super::packages::{Need, missing};
use super::setup;
use super::workspace::{Workspace, write_atomically};

/// A bare-metal target, and the linker that Debian's compiler must be given for it (rustup brings its own).
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name rustc knows.
    pub triple: &'static str,
    /// From Debian's package lld: `lld-link` for UEFI, `ld.lld` for ELF.
    debian_linker: &'static str,
}

/// The bare-metal targets in use. A new one is a line here, added with the program that needs it.
pub const TARGETS: &[Target] = &[UEFI, THUMBV7M, NONE];
/// The boot application.
pub const UEFI: Target = Target { triple: "x86_64-unknown-uefi", debian_linker: "/usr/bin/lld-link" };

/// The witness on a microcontroller.
pub const THUMBV7M: Target = Target { triple: "thumbv7m-none-eabi", debian_linker: "/usr/bin/ld.lld" };

/// Guests of the tests without an operating system.
pub const NONE: Target = Target { triple: "x86_64-unknown-none", debian_linker: "/usr/bin/ld.lld" };

/// `rustup target add` on an open network takes a few seconds; on a closed one it would retry for minutes.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// A way to compile for a bare-metal target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The cargo that runs us, with the target's library installed by rustup.
    Rustup,
    /// `rustc-web` and `cargo-web` from Debian, with the library built from `rust-web-src`.
    Debian,
}

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Wish {
    /// rustup where it works, else Debian.
    Auto,
    /// rustup or an error.
    Rustup,
    /// Debian or an error.
    Debian,
}

/// What was decided, as kept in `target/bulkhead/toolchain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The way in use.
    pub way: Toolchain,
    /// The operator forced it: never fall back to the other.
    pub forced: bool,
}

impl Toolchain {
    /// The word on the command line and in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        }
    }

    /// Whether this way can compile for every target in use, without installing anything.
    #[must_use]
    pub fn is_ready(self) -> bool {
        match self {
            Self::Rustup => TARGETS.iter().all(|target| rustup_library(*target).is_some()),
            Self::Debian => missing(Need::DebianRust).is_empty(),
        }
    }

    /// `cargo VERB` for the bare-metal `target`, run in the workspace. The caller adds packages and profiles.
    #[must_use]
    pub fn cargo(self, workspace: &Workspace, verb: &str, target: Target) -> Command {
        let mut cargo = match self {
            Self::Rustup => own_cargo(workspace),
            Self::Debian => debian_cargo(workspace),
        };
        cargo.args([verb, "--target", target.triple]);
        // Flags meant for the host (a static libc, a linker) mean nothing to firmware.
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        match self {
            Self::Rustup => {}
            Self::Debian => {
                cargo.args(["-Zbuild-std=core,alloc", "-Zbuild-std-features=compiler-builtins-mem"]);
                let name = target.triple.to_uppercase().replace('-', "_");
                cargo.env(format!("CARGO_TARGET_{name}_LINKER"), target.debian_linker);
            }
        }
        cargo
    }

    /// Where [`Toolchain::cargo`] leaves what it built for `target` with `profile`.
    #[must_use]
    pub fn built(self, workspace: &Workspace, target: Target, profile: &str) -> PathBuf {
        match self {
            Self::Rustup => workspace.target().join(target.triple).join(profile),
            Self::Debian => debian_target(workspace).join(target.triple).join(profile),
        }
    }
}

/// A cargo for host programs, free of what an outer `cargo run` left in the environment about *its* package.
#[must_use]
pub fn own_cargo(workspace: &Workspace) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.current_dir(workspace.root()).env("CARGO_TARGET_DIR", workspace.target());
    for name in inherited() {
        cargo.env_remove(name);
    }
    colour(&mut cargo);
    cargo
}

/// The output goes into a log first, so cargo sees no terminal; a person who sees its end after a failure
/// does.
fn colour(cargo: &mut Command) {
    if std::io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none() {
        cargo.env("CARGO_TERM_COLOR", "always");
    }
}

/// The decision that is on record, if any. An unreadable record counts as none: it is decided anew.
#[must_use]
pub fn remembered(workspace: &Workspace) -> Option<Choice> {
    parse(&fs::read_to_string(record(workspace)).ok()?)
}

/// Writes the operator's wish down, so that later commands follow it.
///
/// # Errors
/// When the record cannot be written.
pub fn remember_wish(workspace: &Workspace, wish: Wish) -> Result<()> {
    let way = match wish {
        Wish::Auto => match fs::remove_file(record(workspace)) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).context("cannot forget the toolchain on record"),
        },
        Wish::Rustup => Toolchain::Rustup,
        Wish::Debian => Toolchain::Debian,
    };
    remember(workspace, Choice { way, forced: true })
}

/// Makes one way ready, installing what it lacks, and says which way and how it was found.
///
/// # Errors
/// When no way, or not the forced one, can be made ready. Both causes are told.
pub fn ensure(workspace: &Workspace) -> Result<(Choice, String)> {
    let known = remembered(workspace);
    if let Some(choice) = known
        && choice.way.is_ready()
    {
        let why = if choice.forced { "as asked for" } else { "as before" };
        return Ok((choice, format!("{}, {why}", choice.way.name())));
    }
    let (choice, how) = match known {
        Some(Choice { way, forced: true }) => {
            let how = match way {
                Toolchain::Rustup => add_by_rustup(workspace)?,
                Toolchain::Debian => add_by_debian(workspace)?,
            };
            (Choice { way, forced: true }, how)
        }
        Some(Choice { forced: false, .. }) | None => choose(workspace)?,
    };
    remember(workspace, choice)?;
    Ok((choice, how))
}

fn choose(workspace: &Workspace) -> Result<(Choice, String)> {
    let forced = false;
    match add_by_rustup(workspace) {
        Ok(how) => Ok((Choice { way: Toolchain::Rustup, forced }, how)),
        Err(rustup) => {
            let how = add_by_debian(workspace)
                .with_context(|| format!("rustup gives no bare-metal target either: {rustup:#}"))?;
            let cause = rustup.to_string();
            let cause = cause.lines().last().unwrap_or_default();
            Ok((Choice { way: Toolchain::Debian, forced }, format!("{how}, because {cause}")))
        }
    }
}

fn add_by_rustup(workspace: &Workspace) -> Result<String> {
    let wanted: Vec<_> = TARGETS.iter().filter(|target| rustup_library(**target).is_none()).collect();
    if wanted.is_empty() {
        return Ok("rustup, targets present".to_owned());
    }
    let rustup = find("rustup").context("rustup is not installed")?;
    let mut add = Command::new(rustup);
    add.args(["target", "add"])
        .args(wanted.iter().map(|target| target.triple))
        .env("RUSTUP_MAX_RETRIES", "1");
    run_within(&mut add, RUSTUP_LIMIT, &workspace.log("rustup"))?;
    for target in wanted {
        let triple = target.triple;
        rustup_library(*target)
            .with_context(|| format!("rustup added {triple}, but rustc does not see it"))?;
    }
    Ok("rustup, targets added".to_owned())
}

fn add_by_debian(workspace: &Workspace) -> Result<String> {
    let absent = missing(Need::DebianRust);
    if absent.is_empty() {
        return Ok("debian, packages present".to_owned());
    }
    setup::install(workspace, &absent)?;
    Ok(format!("debian, {} packages installed", absent.len()))
}

/// The library of `target` in the sysroot of the compiler that cargo uses.
#[must_use]
pub fn rustup_library(target: Target) -> Option<PathBuf> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"])).ok()?;
    let library = PathBuf::from(sysroot.trim()).join("lib/rustlib").join(target.triple).join("lib");
    Some(library).filter(|library| library.is_dir())
}

/// Debian's cargo with nothing of rustup around it: its proxies come first on many a search path, and its
/// variables (compiler, toolchain name, library path) would send Debian's cargo to the other compiler.
fn debian_cargo(workspace: &Workspace) -> Command {
    let mut path = OsString::from("/usr/bin:/bin");
    if let Some(rest) = env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    let mut cargo = Command::new("/usr/bin/cargo");
    cargo.current_dir(workspace.root());
    for name in inherited() {
        cargo.env_remove(name);
    }
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"]
    {
        cargo.env_remove(name);
    }
    cargo
        .env("PATH", path)
        // Another compiler in the same folder would make both rewrite each other's records.
        .env("CARGO_TARGET_DIR", debian_target(workspace))
        // `-Zbuild-std` is unstable; this lets a stable compiler take it.
        .env("RUSTC_BOOTSTRAP", "1");
    cargo
}

fn debian_target(workspace: &Workspace) -> PathBuf {
    workspace.target().join("debian")
}

/// What `cargo run` sets for the program it starts. None of it is meant for another cargo.
fn inherited() -> impl Iterator<Item = OsString> {
    env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        let package =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|start| name.starts_with(start));
        package || ["LD_LIBRARY_PATH", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"].contains(&name.as_ref())
    })
}

fn record(workspace: &Workspace) -> PathBuf {
    workspace.out().join("toolchain")
}

fn remember(workspace: &Workspace, choice: Choice) -> Result<()> {
    write_atomically(&record(workspace), print(choice).as_bytes())
}

fn print(choice: Choice) -> String {
    let why = if choice.forced { "forced" } else { "chosen" };
    format!("{} {why}\n", choice.way.name())
}

fn parse(text: &str) -> Option<Choice> {
    let (way, why) = text.trim().split_once(' ')?;
    let way = [Toolchain::Rustup, Toolchain::Debian].into_iter().find(|known| known.name() == way)?;
    let forced = ["chosen", "forced"].iter().position(|known| *known == why)? == 1;
    Some(Choice { way, forced })
}

/// Checks that both `cargo fmt` and `cargo clippy` are there, and adds them by rustup where they are not.
///
/// # Errors
/// When they are missing and cannot be added.
pub fn ensure_lints(workspace: &Workspace) -> Result<()> {
    if find("cargo-fmt").is_some() && find("cargo-clippy").is_some() {
        return Ok(());
    }
    match find("rustup") {
        Some(rustup) => run_within(
            Command::new(rustup)
                .args(["component", "add", "rustfmt", "clippy"])
                .env("RUSTUP_MAX_RETRIES", "1"),
            RUSTUP_LIMIT,
            &workspace.log("rustup-component"),
        ),
        None if missing(Need::DebianRust).is_empty() => {
            bail!(
                "`cargo fmt` or `cargo clippy` is missing, and neither rustup nor Debian's toolchain gives it"
            )
        }
        None => setup::install(workspace, &missing(Need::DebianRust)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_reads_back_and_damage_counts_as_none() {
        for way in [Toolchain::Rustup, Toolchain::Debian] {
            for forced in [false, true] {
                let choice = Choice { way, forced };
                assert_eq!(parse(&print(choice)), Some(choice));
            }
        }
        for damage in ["", "rustup", "rustup maybe", "cargo forced", "\0\0\0"] {
            assert_eq!(parse(damage), None, "{damage:?}");
        }
    }

    #[test]
    fn the_debian_cargo_hears_nothing_of_the_outer_one() {
        let cargo = Toolchain::Debian.cargo(&Workspace::locate(), "build", UEFI);
        assert_eq!(cargo.get_program(), "/usr/bin/cargo");
        let kept: Vec<_> =
            cargo.get_envs().filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect();
        let linker = "CARGO_TARGET_X86_64_UNKNOWN_UEFI_LINKER";
        assert_eq!(kept, ["CARGO_TARGET_DIR", linker, "PATH", "RUSTC_BOOTSTRAP"]);
        let gone: Vec<_> =
            cargo.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        for name in
            ["CARGO", "CARGO_MANIFEST_DIR", "LD_LIBRARY_PATH", "RUSTC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"]
        {
            assert!(gone.iter().any(|other| *other == name), "{name} leaks");
        }
    }
}
