//! The files of an EFI system partition inside a disk image, by mtools: no mounting, no root.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Image, Partition};
use crate::process::{Output, Run};

/// A FAT file system at an offset of an image.
#[derive(Clone, Debug)]
pub struct Esp {
    image: PathBuf,
    offset: u64,
}

impl Esp {
    /// The file system in `partition` of `image`.
    pub fn open(image: &Image, partition: &Partition) -> Self {
        Self { image: image.path().to_owned(), offset: partition.start }
    }

    /// A new, empty FAT32 in `partition` of `image` (512-byte blocks).
    ///
    /// # Errors
    /// When `mkfs.vfat` fails.
    pub fn format(image: &Image, partition: &Partition) -> Result<Self> {
        Run::new("mkfs.vfat")
            .args(["-F", "32", "-n", "ESP", "--invariant", "--offset"])
            .arg((partition.start / 512).to_string())
            .arg(image.path())
            .arg((partition.length / 1024).to_string())
            .succeed()
            .context("formatting the EFI system partition")?;
        Ok(Self::open(image, partition))
    }

    /// Puts the host's file `from` at `to`, as `/EFI/BOOT/BOOTX64.EFI`, making directories.
    ///
    /// # Errors
    /// When it does not fit, or cannot be read.
    pub fn put(&self, from: &Path, to: &str) -> Result<()> {
        let mut directory = String::new();
        let parts: Vec<_> = to.split('/').filter(|part| !part.is_empty()).collect();
        for part in parts.iter().take(parts.len().saturating_sub(1)) {
            directory = format!("{directory}/{part}");
            // `-D s`: a directory that is there stays as it is. Its exit code is 1 then, so a real
            // failure shows in the copy.
            self.tool("mmd").args(["-D", "s"]).arg(format!("::{directory}")).output()?;
        }
        self.tool("mcopy").args(["-D", "o"]).arg(from).arg(format!("::{to}")).succeed().map(drop)
    }

    /// The bytes of the file `path`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let output: Output = self.tool("mtype").arg(format!("::{path}")).succeed()?;
        Ok(output.stdout)
    }

    /// The paths in `directory`; directories end with a slash.
    ///
    /// # Errors
    /// When it is not there.
    pub fn list(&self, directory: &str) -> Result<Vec<String>> {
        let output = self.tool("mdir").arg("-b").arg(format!("::{directory}")).succeed()?;
        let text = output.stdout_text();
        Ok(text.lines().map(|line| line.trim_start_matches("::").to_owned()).collect())
    }

    /// Deletes the file `path`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, path: &str) -> Result<()> {
        self.tool("mdel").arg(format!("::{path}")).succeed().map(drop)
    }

    fn tool(&self, name: &str) -> Run {
        // Without the check, mtools takes any size of the disk it is given.
        Run::new(name).env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(format!(
            "{}@@{}",
            self.image.display(),
            self.offset
        ))
    }
}
