//! What a boot partition and an ESP take: signed images, and the boot application that trusts their key. Made
//! by the very `bulkhead` that is shipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::command::run;
use super::node_image::{self, Parts, Recipe};
use super::programs;
use super::progress::step;
use super::workspace::Workspace;

/// The security version of images built here.
const SECURITY_VERSION: u32 = 1;

/// A key pair.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Signs.
    pub secret: PathBuf,
    /// Is trusted.
    pub public: PathBuf,
}

/// The key pair `name` in `target/bulkhead/keys`, made when it is not there. For development and tests: the
/// keys of a plant stay off build machines.
///
/// # Errors
/// When `bulkhead` cannot be built or cannot write them.
pub fn keys(workspace: &Workspace, name: &str) -> Result<Keys> {
    let pair = workspace.out().join("keys").join(name);
    let keys = Keys { secret: pair.with_extension("key"), public: pair.with_extension("pub") };
    if !(keys.secret.exists() && keys.public.exists()) {
        std::fs::create_dir_all(workspace.out().join("keys"))?;
        let mut keygen = bulkhead(workspace)?;
        keygen.args(["image", "keygen", "--out"]).arg(&pair);
        run(&mut keygen, &workspace.log("keygen"))?;
    }
    Ok(keys)
}

/// Builds the node image of `recipe` and signs it: `target/bulkhead/images/VARIANT-vVERSION.img`.
///
/// # Errors
/// When one of the inputs cannot be had, or the key cannot sign.
pub fn image(workspace: &Workspace, recipe: &Recipe, secret: &Path) -> Result<PathBuf> {
    let parts = node_image::parts(workspace, recipe)?;
    let out = workspace.out().join("images").join(format!("{}.img", recipe.name()));
    sign(workspace, &parts, recipe.version, secret, &out)?;
    Ok(out)
}

/// Signs parts, into `out`.
///
/// # Errors
/// When the key cannot sign, or `out` cannot be written.
pub fn sign(workspace: &Workspace, parts: &Parts, version: u64, secret: &Path, out: &Path) -> Result<()> {
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let name = out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    step(&format!("sign: {name}"), || {
        let mut build = bulkhead(workspace)?;
        build.args(["image", "build", "--efi"]).arg(&parts.kernel).arg("--initrd").arg(&parts.initrd);
        build.arg("--cmdline").arg(format!("@{}", parts.command_line_file.display()));
        build.arg("--version").arg(version.to_string());
        build.arg("--security-version").arg(SECURITY_VERSION.to_string());
        build.arg("--key").arg(secret).arg("--out").arg(out);
        run(&mut build, &workspace.log(&format!("sign-{name}")))?;
        Ok(format!("{} KiB", std::fs::metadata(out)?.len().div_ceil(1024)))
    })
}

/// The boot application `app` with `public` as the only trusted key, in `out`.
///
/// # Errors
/// When `app` is no boot application of ours.
pub fn trusting(workspace: &Workspace, app: &Path, public: &Path, out: &Path) -> Result<()> {
    let mut patch = bulkhead(workspace)?;
    patch.args(["image", "boot-app", "--app"]).arg(app).arg("--trust").arg(public).arg("--out").arg(out);
    run(&mut patch, &workspace.log("boot-app-trust"))
}

/// The `bulkhead` that was built; it is built when it is not there. Builders call [`programs::bulkhead`]
/// themselves where it must be of today.
fn bulkhead(workspace: &Workspace) -> Result<Command> {
    let built = workspace.out().join("bulkhead");
    Ok(Command::new(if built.exists() { built } else { programs::bulkhead(workspace)? }))
}
