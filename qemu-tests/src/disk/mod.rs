//! Disk images for tests: make, copy without copying holes, damage on purpose, look into.
//!
//! Everything here reads images by code of its own or by Debian's tools, never by the product's: a
//! second opinion is worth having only if it can differ.

mod esp;
mod partitions;
mod sparse;

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use esp::Esp;
pub use partitions::Partition;
pub use sparse::copy;

use crate::process::Run;
use crate::switch::chance;

/// A raw disk image.
#[derive(Clone, Debug)]
pub struct Image {
    path: PathBuf,
}

impl Image {
    /// A new image without contents; it takes no room until it is written.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub fn create(path: impl AsRef<Path>, bytes: u64) -> Result<Self> {
        let path = path.as_ref();
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.with_context(|| format!("making the disk image {}", path.display()))?;
        file.set_len(bytes)?;
        Ok(Self { path: path.to_owned() })
    }

    /// An image that exists.
    ///
    /// # Errors
    /// When it does not.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        File::open(path).with_context(|| format!("opening the disk image {}", path.display()))?;
        Ok(Self { path: path.to_owned() })
    }

    /// A copy of `from`, sharing blocks where the file system can, with the same holes.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn copy_of(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Self> {
        copy(from.as_ref(), to.as_ref())?;
        Ok(Self { path: to.as_ref().to_owned() })
    }

    /// A disk with one partition, an EFI system partition of 64 MiB that holds `files`, given as (path
    /// in the partition, file of the host): enough to start any EFI application.
    ///
    /// # Errors
    /// When `sgdisk`, `mkfs.vfat` or the mtools fail.
    pub fn with_esp(path: impl AsRef<Path>, files: &[(&str, &Path)]) -> Result<Self> {
        let image = Self::create(path, 68 * 1024 * 1024)?;
        Run::new("sgdisk")
            .args(["-n", "1:2048:+64M", "-t", "1:ef00", "-c", "1:esp"])
            .arg(&image.path)
            .succeed()?;
        let esp = Esp::format(&image, &image.partition("esp")?)?;
        for (inside, outside) in files {
            esp.put(outside, inside)?;
        }
        Ok(image)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size in bytes.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn size(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.path)?.len())
    }

    /// Reads `length` bytes at `offset`.
    ///
    /// # Errors
    /// When they are not all there.
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        File::open(&self.path)?
            .read_exact_at(&mut bytes, offset)
            .with_context(|| format!("reading {length} bytes at {offset} of {}", self.path.display()))?;
        Ok(bytes)
    }

    /// Writes `bytes` at `offset`, and never past the end.
    ///
    /// # Errors
    /// When they do not fit or cannot be written.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let (size, length) = (self.size()?, u64::try_from(bytes.len())?);
        if offset.checked_add(length).is_none_or(|end| end > size) {
            bail!(
                "{length} bytes at {offset} do not fit {}, which has {size}; nothing was written",
                self.path.display()
            );
        }
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.write_all_at(bytes, offset).with_context(|| format!("writing {}", self.path.display()))
    }

    /// Overwrites a range with noise from `seed`.
    ///
    /// # Errors
    /// As [`Image::write`].
    pub fn corrupt(&self, range: Range<u64>, seed: u64) -> Result<()> {
        let mut state = seed | 1;
        let noise = std::iter::repeat_with(|| {
            state = chance::next(state);
            state.to_be_bytes()
        });
        self.overwrite(range, noise.flatten())
    }

    /// Overwrites a range with zeros.
    ///
    /// # Errors
    /// As [`Image::write`].
    pub fn zero(&self, range: Range<u64>) -> Result<()> {
        self.overwrite(range, std::iter::repeat(0))
    }

    /// Inverts one bit: the smallest damage there is.
    ///
    /// # Errors
    /// As [`Image::write`].
    pub fn flip(&self, offset: u64, bit: u8) -> Result<()> {
        let byte = self.read(offset, 1)?;
        let flipped: Vec<u8> = byte.iter().map(|byte| byte ^ (1 << (bit & 7))).collect();
        self.write(offset, &flipped)
    }

    /// The partitions of the primary GPT.
    ///
    /// # Errors
    /// When there is no table that can be read.
    pub fn partitions(&self) -> Result<Vec<Partition>> {
        partitions::read(&self.path)
    }

    /// The partition called `name`.
    ///
    /// # Errors
    /// When there is none; names those that are there.
    pub fn partition(&self, name: &str) -> Result<Partition> {
        let all = self.partitions()?;
        let names: Vec<_> = all.iter().map(|partition| partition.name.clone()).collect();
        all.into_iter()
            .find(|partition| partition.name == name)
            .with_context(|| format!("{} has no partition {name}, only {names:?}", self.path.display()))
    }

    /// What `sgdisk --verify` thinks of the partition tables (512-byte blocks only).
    ///
    /// # Errors
    /// When it finds a problem.
    pub fn verify_tables(&self) -> Result<()> {
        let output = Run::new("sgdisk").arg("--verify").arg(&self.path).output()?;
        let text = output.stdout_text();
        if !output.status.success() || !text.contains("No problems found") {
            bail!("sgdisk finds problems in {}:\n{text}{}", self.path.display(), output.stderr_text());
        }
        Ok(())
    }

    fn overwrite(&self, range: Range<u64>, bytes: impl Iterator<Item = u8>) -> Result<()> {
        const PIECE: u64 = 1024 * 1024;
        let mut bytes = bytes;
        let mut offset = range.start;
        while offset < range.end {
            let length = usize::try_from((range.end - offset).min(PIECE))?;
            let piece: Vec<u8> = bytes.by_ref().take(length).collect();
            self.write(offset, &piece)?;
            offset += PIECE;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_where_it_was_asked_for_and_nowhere_else() {
        let place = tempfile::tempdir().unwrap();
        let image = Image::create(place.path().join("disk"), 3 * 1024 * 1024).unwrap();
        image.corrupt(100..1024 * 1024 + 200, 7).unwrap();
        image.flip(5, 3).unwrap();
        let bytes = image.read(0, 3 * 1024 * 1024).unwrap();
        assert_eq!(bytes[5], 8);
        assert!(bytes[6..100].iter().chain(&bytes[1024 * 1024 + 200..]).all(|byte| *byte == 0));
        let zeros = bytes[100..1024 * 1024 + 200].iter().filter(|byte| **byte == 0).count();
        assert!(zeros < 10_000, "{zeros} of a million noisy bytes are zero");
        assert!(image.write(3 * 1024 * 1024 - 1, b"xx").is_err());
    }

    #[test]
    fn copies_keep_holes_and_bytes() {
        use std::os::unix::fs::MetadataExt;
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        let image = Image::create(&from, 512 * 1024 * 1024).unwrap();
        image.corrupt(300_000_000..300_300_000, 9).unwrap();
        image.write(0, b"first").unwrap();
        let twin = Image::copy_of(&from, &to).unwrap();
        assert_eq!(twin.size().unwrap(), image.size().unwrap());
        assert_eq!(twin.read(299_999_000, 400_000).unwrap(), image.read(299_999_000, 400_000).unwrap());
        assert_eq!(twin.read(0, 5).unwrap(), b"first");
        assert!(std::fs::metadata(&to).unwrap().blocks() < 4096, "the holes were filled");
    }

    #[test]
    fn an_esp_gives_back_what_was_put_in() {
        let place = tempfile::tempdir().unwrap();
        let text = place.path().join("text");
        std::fs::write(&text, "hello").unwrap();
        let image = Image::with_esp(place.path().join("disk"), &[("/EFI/BOOT/BOOTX64.EFI", &text)]).unwrap();
        image.verify_tables().unwrap();
        let partition = image.partition("esp").unwrap();
        assert_eq!((partition.number, partition.start, partition.length), (1, 1024 * 1024, 64 * 1024 * 1024));
        let esp = Esp::open(&image, &partition);
        assert_eq!(esp.list("/EFI/BOOT").unwrap(), ["/EFI/BOOT/BOOTX64.EFI"]);
        assert_eq!(esp.read("/EFI/BOOT/BOOTX64.EFI").unwrap(), b"hello");
        esp.remove("/EFI/BOOT/BOOTX64.EFI").unwrap();
        assert!(esp.read("/EFI/BOOT/BOOTX64.EFI").is_err());
        assert!(image.partition("boot-a").unwrap_err().to_string().contains("esp"));
    }
}
