//! Makes a fresh Debian 12 machine ready, in well under a second when nothing is missing, as often as asked.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::command::{find, output, run};
use super::packages::{Need, Package, missing};
use super::progress::step;
use super::toolchain;
use super::workspace::Workspace;

/// Everything that `demo` and `test` need.
///
/// # Errors
/// When something is missing and cannot be installed; the error ends with the one command that does it.
pub fn everything(workspace: &Workspace) -> Result<()> {
    packages(workspace, Need::Everything)?;
    step("setup: rust for bare metal", || {
        toolchain::ensure_lints(workspace)?;
        Ok(toolchain::ensure(workspace)?.1)
    })
}

/// The packages that `need` asks for.
///
/// # Errors
/// As [`everything`].
pub fn packages(workspace: &Workspace, need: Need) -> Result<()> {
    step("setup: packages", || {
        let absent = missing(need);
        if absent.is_empty() {
            return Ok("all present".to_owned());
        }
        install(workspace, &absent)?;
        Ok(format!("installed {}", names(&absent)))
    })
}

/// Installs `absent` by apt, as root on Debian; otherwise fails with the command that a person can run.
///
/// # Errors
/// When apt may not be used here or fails, or when a package did not bring what proves it present.
pub fn install(workspace: &Workspace, absent: &[&Package]) -> Result<()> {
    let names = names(absent);
    let by_hand = format!("apt-get install -y --no-install-recommends {names}");
    if find("apt-get").is_none() || !Path::new("/etc/debian_version").exists() {
        bail!("missing here: {names}. This is not Debian: install what these Debian packages hold");
    }
    if !is_root()? {
        bail!("missing here: {names}. Nothing was changed.\n  Next: sudo {by_hand}");
    }
    let log = workspace.log("apt");
    if apt(absent, &log).is_err() {
        // The usual reason on a fresh machine: no package lists, or lists older than the mirror.
        run(Command::new("apt-get").arg("update"), &workspace.log("apt-update"))?;
        apt(absent, &log).with_context(|| format!("apt could not install {names}"))?;
    }
    let still: Vec<_> = absent.iter().copied().filter(|package| package.found().is_none()).collect();
    if !still.is_empty() {
        bail!("apt installed {names}, but what should come with them is not there: {}", self::names(&still));
    }
    Ok(())
}

fn apt(packages: &[&Package], log: &Path) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"]);
    apt.args(packages.iter().map(|package| package.name)).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut apt, log)
}

fn is_root() -> Result<bool> {
    Ok(output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn names(packages: &[&Package]) -> String {
    packages.iter().map(|package| package.name).collect::<Vec<_>>().join(" ")
}
