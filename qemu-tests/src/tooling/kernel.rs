//! Debian's kernel, taken from its package without installing it: `vmlinuz` and the tree of modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::command::{output, run};
use super::progress::step;
use super::workspace::Workspace;

/// The package that always depends on Debian's current kernel.
const META_PACKAGE: &str = "linux-image-amd64";

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The EFI-stub kernel image.
    pub vmlinuz: PathBuf,
    /// What is `/lib/modules/RELEASE` on a Debian machine.
    pub modules: PathBuf,
    /// What `uname -r` says on it.
    pub release: String,
}

impl Kernel {
    fn unpacked(workspace: &Workspace) -> Option<Self> {
        let folder = workspace.out().join("kernel");
        let release = fs::read_to_string(folder.join("release")).ok()?.trim().to_owned();
        Some(Self { vmlinuz: folder.join("vmlinuz"), modules: folder.join("modules"), release })
    }
}

/// The kernel under `target/bulkhead/kernel`, fetched when it is not there or when `update` asks for today's.
///
/// # Errors
/// When the package can neither be found in the cache nor be downloaded, or does not hold a kernel.
pub fn fetch(workspace: &Workspace, update: bool) -> Result<Kernel> {
    step("build: Debian's kernel", || {
        if let (Some(kernel), false) = (Kernel::unpacked(workspace), update) {
            return Ok(format!("{}, up to date", kernel.release));
        }
        let package = match (cached(&workspace.cache()), update) {
            (Some(package), false) => package,
            (_, true) | (None, false) => download(workspace)?,
        };
        unpack(workspace, &package)
    })?;
    Kernel::unpacked(workspace).context("the kernel vanished while it was being unpacked")
}

/// The kernel package in the cache; the last by name when there are several.
fn cached(cache: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(cache).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_kernel = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("linux-image-") && name.ends_with("_amd64.deb")
    };
    files.filter(is_kernel).max()
}

fn download(workspace: &Workspace) -> Result<PathBuf> {
    if let Ok(package) = download_by_known_lists(workspace) {
        return Ok(package);
    }
    // No package lists yet, or lists older than the mirror. The system's lists are root's to renew.
    run(Command::new("apt-get").arg("update"), &workspace.log("apt-update"))
        .context("the kernel could not be downloaded, nor the package lists renewed")?;
    download_by_known_lists(workspace)
}

fn download_by_known_lists(workspace: &Workspace) -> Result<PathBuf> {
    let cache = workspace.cache();
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let depends = output(Command::new("apt-cache").args(["depends", META_PACKAGE]))?;
    let mut names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let name = names.find(|name| name.starts_with("linux-image-"));
    let name = name.with_context(|| format!("{META_PACKAGE} depends on no kernel"))?;
    // Apt checks the package against the signed lists. It writes as it goes, so not straight into the cache.
    let partial = tempfile::tempdir_in(&cache)?;
    let mut apt = Command::new("apt-get");
    apt.args(["download", name]).current_dir(partial.path());
    run(&mut apt, &workspace.log("apt-download"))?;
    let package = cached(partial.path()).with_context(|| format!("apt downloaded no {name}"))?;
    let kept = cache.join(package.file_name().unwrap_or_default());
    fs::rename(&package, &kept).with_context(|| format!("cannot keep {}", kept.display()))?;
    Ok(kept)
}

fn unpack(workspace: &Workspace, package: &Path) -> Result<String> {
    let out = workspace.out();
    let folder = out.join("kernel");
    let whole = tempfile::tempdir_in(&out)?;
    let mut dpkg = Command::new("dpkg");
    dpkg.arg("-x").arg(package).arg(whole.path());
    run(&mut dpkg, &workspace.log("dpkg"))?;
    // Debian 12 has /lib/modules, its successor /usr/lib/modules.
    let places = ["lib/modules", "usr/lib/modules"].map(|place| whole.path().join(place));
    let Some(releases) = places.iter().find_map(|place| fs::read_dir(place).ok()) else {
        bail!("{} holds no kernel modules", package.display());
    };
    let [release] = releases.collect::<Result<Vec<_>, _>>()?.try_into().map_err(|found: Vec<_>| {
        anyhow::anyhow!("{} holds {} kernels, expected one", package.display(), found.len())
    })?;
    let name = release.file_name().to_string_lossy().into_owned();

    let ready = tempfile::tempdir_in(&out)?;
    fs::rename(release.path(), ready.path().join("modules"))?;
    fs::rename(whole.path().join("boot").join(format!("vmlinuz-{name}")), ready.path().join("vmlinuz"))
        .with_context(|| format!("{} holds no vmlinuz-{name}", package.display()))?;
    fs::write(ready.path().join("release"), &name)?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    // From here on the folder is not a temporary one: it must survive `ready`.
    fs::rename(ready.keep(), &folder).with_context(|| format!("cannot put {} in place", folder.display()))?;
    Ok(name)
}
