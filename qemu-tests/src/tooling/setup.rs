//! Makes a fresh Debian 12 machine ready, in well under a second when nothing is missing, as often as asked.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::command::{find, output, run};
use super::packages::{Need, Package, missing};
use super::progress::step;
use super::toolchain;
use super::workspace::Workspace;

/// How often packages are looked for and installed.
const ROUNDS_MAX: usize = 4;

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
        let installed = until_present(|| missing(need), |absent| install(workspace, absent))?;
        Ok(match installed.is_empty() {
            true => "all present".to_owned(),
            false => format!("installed {}", names(&installed)),
        })
    })
}

/// Installs what is missing until nothing is: a package that was there may be taken away for one that comes,
/// for of another release it does not fit.
fn until_present(
    missing: impl Fn() -> Vec<&'static Package>,
    mut install: impl FnMut(&[&'static Package]) -> Result<()>,
) -> Result<Vec<&'static Package>> {
    let mut installed = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let absent = missing();
        if absent.is_empty() {
            return Ok(installed);
        }
        install(&absent)?;
        installed.extend(absent);
    }
    bail!("these take each other away, whichever is installed: {}", names(&installed))
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
    let _quiet = Quiet::below(Path::new("/usr/sbin"))?;
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"]);
    apt.args(packages.iter().map(|package| package.name)).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut apt, log)
}

/// While it lives, packages that are installed start no daemons: Debian asks a file whether they may. Where
/// the machine has such a file, its own answer counts.
#[derive(Debug)]
struct Quiet {
    made: Option<PathBuf>,
}

impl Quiet {
    fn below(folder: &Path) -> Result<Self> {
        let path = folder.join("policy-rc.d");
        let mut options = OpenOptions::new();
        let mut file = match options.write(true).create_new(true).mode(0o755).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Self { made: None }),
            Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
        };
        let quiet = Self { made: Some(path) };
        file.write_all(
            b"#!/bin/sh\n# Made by cargo xtask while it installs packages, gone when it is done.\nexit 101\n",
        )?;
        Ok(quiet)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.made.take().map(fs::remove_file) {
            eprintln!("  /usr/sbin/policy-rc.d stays, and keeps packages from starting daemons: {error}");
        }
    }
}

fn is_root() -> Result<bool> {
    Ok(output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn names(packages: &[&Package]) -> String {
    packages.iter().map(|package| package.name).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::packages::PACKAGES;
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn what_is_taken_away_for_another_package_is_installed_again() {
        let [one, other] = [&PACKAGES[0], &PACKAGES[1]];
        let absent = RefCell::new(vec![one]);
        let install = |these: &[&Package]| {
            *absent.borrow_mut() = if these[0].name == one.name { vec![other] } else { vec![] };
            Ok(())
        };
        let installed = until_present(|| absent.borrow().clone(), install).unwrap();
        assert_eq!(names(&installed), format!("{} {}", one.name, other.name));
        let refused = until_present(|| vec![one], |_| Ok(())).unwrap_err().to_string();
        assert!(refused.contains("take each other away"), "{refused}");
    }

    #[test]
    fn daemons_may_not_start_while_packages_are_installed_and_may_again_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy-rc.d");
        let quiet = Quiet::below(folder.path()).unwrap();
        let asked = Command::new("sh").arg(&policy).args(["keepalived", "start"]).status().unwrap();
        assert_eq!(asked.code(), Some(101), "Debian's word for: it may not");
        drop(quiet);
        assert!(!policy.exists());

        fs::write(&policy, "the machine's own").unwrap();
        drop(Quiet::below(folder.path()).unwrap());
        assert_eq!(fs::read(&policy).unwrap(), b"the machine's own");
    }
}
