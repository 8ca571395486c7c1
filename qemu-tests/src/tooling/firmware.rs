//! Builds the witness's firmware for its board.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::command::run;
use super::progress::step;
use super::toolchain::{self, THUMBV7M};
use super::workspace::{Workspace, copy_atomically};

/// Builds the firmware and returns its path, `target/bulkhead/witness.elf`: with what the log needs to be
/// read, which never reaches the board.
///
/// # Errors
/// When no toolchain can be made ready, or when it does not compile or does not fit the board.
pub fn witness(workspace: &Workspace) -> Result<PathBuf> {
    build(workspace, "witness", "witness.elf")
}

/// Builds the program that fails in every way, and returns its path.
///
/// # Errors
/// As [`witness`].
pub fn failures(workspace: &Workspace) -> Result<PathBuf> {
    build(workspace, "failures", "failures.elf")
}

/// Builds the program that holds a witness on its board to a record, and returns its path.
///
/// # Errors
/// As [`witness`].
pub fn replay(workspace: &Workspace) -> Result<PathBuf> {
    build(workspace, "replay", "replay.elf")
}

/// Tests of one program run beside each other, and want the same file.
static BUILDING: Mutex<()> = Mutex::new(());

fn build(workspace: &Workspace, program: &str, name: &str) -> Result<PathBuf> {
    let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let elf = workspace.out().join(name);
    step(&format!("build: {program} firmware"), || {
        let (choice, _) = toolchain::ensure(workspace)?;
        let mut cargo = choice.way.cargo(workspace, "build", THUMBV7M);
        cargo.args(["--release", "--locked", "--bin", program, "--manifest-path"]);
        cargo.arg(workspace.root().join("firmware/witness/Cargo.toml"));
        run(&mut cargo, &workspace.log(&format!("{program}-firmware")))?;
        let built = choice.way.built(workspace, THUMBV7M, "release").join(program);
        copy_atomically(&built, &elf)?;
        Ok(choice.way.name().to_owned())
    })?;
    Ok(elf)
}
