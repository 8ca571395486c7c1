//! Builds our two programs as they are shipped: the boot application for UEFI, and a static `bulkhead` that
//! runs in the node image, which has no C library. Equal sources give equal bytes, wherever and whenever
//! built.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::command::run;
use super::elf;
use super::progress::step;
use super::toolchain::{self, UEFI, own_cargo};
use super::workspace::{Workspace, copy_atomically};

/// Cargo's profile for what is shipped.
const PROFILE: &str = "image";
/// The node's target. Named so that build scripts are built apart, without the static flags.
const LINUX: &str = "x86_64-unknown-linux-gnu";

/// Builds the boot application and returns its path, `target/bulkhead/BOOTX64.EFI`.
///
/// # Errors
/// When no toolchain can be made ready, or when it does not compile.
pub fn boot_app(workspace: &Workspace) -> Result<PathBuf> {
    let app = workspace.out().join("BOOTX64.EFI");
    step("build: boot application", || {
        let (choice, _) = toolchain::ensure(workspace)?;
        let mut cargo = choice.way.cargo(workspace, "build", UEFI);
        cargo.args(["-p", "bulkhead-boot", "--profile", PROFILE]);
        // The linker would otherwise write the time of the build into the header, and a name and a digest of
        // debug information that holds this machine's folders.
        let mut flags = ["-Clink-arg=/Brepro", "-Clink-arg=/DEBUG:NONE"].map(str::to_owned).to_vec();
        flags.extend(without_paths(workspace));
        let flags: Vec<_> = flags.iter().map(|flag| format!("{flag:?}")).collect();
        // Added to those of `.cargo/config.toml`, which the environment's would replace.
        cargo.arg("--config").arg(format!("target.{}.rustflags=[{}]", UEFI.triple, flags.join(",")));
        run(&mut cargo, &workspace.log("boot-app"))?;
        let built = choice.way.built(workspace, UEFI, PROFILE).join("bulkhead-boot.efi");
        place(&built, &app).map(|remark| format!("{remark}, {}", choice.way.name()))
    })?;
    Ok(app)
}

/// Builds the static `bulkhead` and returns its path, `target/bulkhead/bulkhead`.
///
/// # Errors
/// When it does not compile, or came out dynamic: it would then not start in the node image.
pub fn bulkhead(workspace: &Workspace) -> Result<PathBuf> {
    let program = workspace.out().join("bulkhead");
    step("build: bulkhead, static", || {
        let mut cargo = own_cargo(workspace);
        cargo.args(["build", "-p", "bulkhead", "--profile", PROFILE, "--target", LINUX]);
        cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
        let paths = without_paths(workspace).join(" ");
        cargo.env("RUSTFLAGS", format!("-C target-feature=+crt-static {paths}"));
        run(&mut cargo, &workspace.log("bulkhead"))?;
        let built = workspace.target().join(LINUX).join(PROFILE).join("bulkhead");
        let content = fs::read(&built).with_context(|| format!("cargo left no {}", built.display()))?;
        if !elf::is_static(&content)? {
            bail!("{} asks for a dynamic loader, which a node image does not have", built.display());
        }
        place(&built, &program)
    })?;
    Ok(program)
}

/// Flags that replace the folders of this machine: equal sources give equal programs wherever they are built.
fn without_paths(workspace: &Workspace) -> [String; 2] {
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let root = workspace.root().display();
    [format!("--remap-path-prefix={root}=bulkhead"), format!("--remap-path-prefix={}=cargo", cargo.display())]
}

fn place(built: &Path, shipped: &Path) -> Result<String> {
    let new = fs::read(built).with_context(|| format!("cargo left no {}", built.display()))?;
    let size = format!("{} KiB", new.len().div_ceil(1024));
    if fs::read(shipped).is_ok_and(|old| old == new) {
        return Ok(format!("{size}, up to date"));
    }
    copy_atomically(built, shipped)?;
    Ok(size)
}
