//! Where the workspace, its build output and our own artefacts are; the only file that knows these paths.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folders of one checkout.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The checkout this program was built from, honouring `CARGO_TARGET_DIR`.
    #[must_use]
    pub fn locate() -> Self {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        // A test or tool started by hand inherits no variable, or that of another package of this workspace.
        let root = manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf);
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |given| root.join(given));
        Self { root, target }
    }

    /// The folder of the top `Cargo.toml`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's build folder.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Our artefacts: `target/bulkhead`.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.target.join("bulkhead")
    }

    /// The output of the last run of the step `name`, kept for reading after a failure.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        self.out().join("log").join(format!("{plain}.log"))
    }

    /// Downloads that outlive a build: `$BULKHEAD_CACHE`, or `target/bulkhead/cache`.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        env::var_os("BULKHEAD_CACHE").map_or_else(|| self.out().join("cache"), PathBuf::from)
    }
}

/// Puts `content` at `path` so that a reader sees the old file or the new one, never a part of it.
///
/// # Errors
/// When the folder or the file cannot be written; the old file is then still in place.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = beside(path)?;
    fs::write(&temporary, content).with_context(|| format!("cannot write {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("cannot put {} in place", path.display()))
}

/// Copies a file so that a reader sees the old one or the new one, never a part of it.
///
/// # Errors
/// When either cannot be read or written; the old file is then still in place.
pub fn copy_atomically(from: &Path, to: &Path) -> Result<()> {
    let temporary = beside(to)?;
    fs::copy(from, &temporary).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::rename(&temporary, to).with_context(|| format!("cannot put {} in place", to.display()))
}

/// A name next to `path`, on the same file system, that no other running process uses.
///
/// # Errors
/// When the folder of `path` cannot be made.
pub fn beside(path: &Path) -> Result<PathBuf> {
    let folder = path.parent().with_context(|| format!("{} has no folder", path.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(folder.join(format!(".{name}.{}", std::process::id())))
}
