//! Builds the guest without an operating system that tests run on this machine's own KVM.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::command::run;
use super::progress::step;
use super::toolchain::{self, NONE};
use super::workspace::{Workspace, copy_atomically};

/// Where its sources are, below the workspace.
pub const MANIFEST: &str = "qemu-tests/bare-guest/Cargo.toml";

/// Tests run beside each other, and want the same file.
static BUILDING: Mutex<()> = Mutex::new(());

/// Builds it and returns its path, `target/bulkhead/bare-guest.elf`: a kernel that starts by PVH.
///
/// # Errors
/// When no toolchain can be made ready, or when it does not compile.
pub fn bare_guest(workspace: &Workspace) -> Result<PathBuf> {
    let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let elf = workspace.out().join("bare-guest.elf");
    step("build: bare guest", || {
        let (choice, _) = toolchain::ensure(workspace)?;
        let mut cargo = choice.way.cargo(workspace, "build", NONE);
        cargo.args(["--release", "--locked", "--manifest-path"]).arg(workspace.root().join(MANIFEST));
        run(&mut cargo, &workspace.log("bare-guest"))?;
        let built = choice.way.built(workspace, NONE, "release").join("bare-guest");
        copy_atomically(&built, &elf)?;
        Ok(choice.way.name().to_owned())
    })?;
    Ok(elf)
}
