//! Writes an initramfs: a newc cpio archive with sorted names, no times and one owner, so that equal content
//! gives equal bytes on every machine, and compresses it. The format is that of the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

/// Every part of an archive starts at a multiple of this.
const ALIGNMENT: usize = 4;
/// The name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A folder, readable by all.
    Directory,
    /// A file with permission bits.
    File {
        /// Permission bits, such as `0o755`.
        mode: u32,
        /// Its bytes.
        content: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: String,
    },
    /// A character device.
    Device {
        /// Permission bits.
        mode: u32,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// An archive in the making.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    /// Sorted by path. Invariant: the folder of every path is here too, and sorts before it.
    entries: BTreeMap<String, Entry>,
}

/// How an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Fast to unpack.
    Zstd,
    /// Smallest.
    Xz,
    /// Not at all.
    None,
}

impl Archive {
    /// Puts `entry` at `path` (relative to the root, without a leading slash), making its folders. A later
    /// entry replaces an earlier one.
    pub fn add(&mut self, path: &str, entry: Entry) {
        let mut folder = path;
        while let Some((above, _)) = folder.rsplit_once('/') {
            self.entries.entry(above.to_owned()).or_insert(Entry::Directory);
            folder = above;
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Puts a file at `path`.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.add(path, Entry::File { mode, content: content.into() });
    }

    /// The archive as the kernel reads it.
    ///
    /// # Errors
    /// When a file is 4 GiB or longer, which the format cannot say.
    pub fn pack(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            let (mode, links, content, device) = match entry {
                Entry::Directory => (DIRECTORY | 0o755, 2, &[][..], (0, 0)),
                Entry::File { mode, content } => (FILE | mode, 1, content.as_slice(), (0, 0)),
                Entry::Symlink { target } => (SYMLINK | 0o777, 1, target.as_bytes(), (0, 0)),
                Entry::Device { mode, major, minor } => {
                    (CHARACTER_DEVICE | mode, 1, &[][..], (*major, *minor))
                }
            };
            let head = Head { number, mode, links, device };
            append(&mut out, &head, path, content)?;
        }
        append(&mut out, &Head { number: 0, mode: 0, links: 1, device: (0, 0) }, TRAILER, &[])?;
        Ok(out)
    }
}

/// What an entry says besides its name and content. Owner, group and time are always zero.
struct Head {
    number: u32,
    mode: u32,
    links: u32,
    device: (u32, u32),
}

fn append(out: &mut Vec<u8>, head: &Head, path: &str, content: &[u8]) -> Result<()> {
    let size =
        u32::try_from(content.len()).with_context(|| format!("{path} is too long for a cpio archive"))?;
    let name = u32::try_from(path.len() + 1)?;
    let (major, minor) = head.device;
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    let fields = [head.number, head.mode, 0, 0, head.links, 0, size, 0, 0, major, minor, name, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    align(out);
    out.extend_from_slice(content);
    align(out);
    Ok(())
}

/// Fills up with zeros to where a next part, or a next archive in the same initramfs, may start.
pub fn align(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

/// Compresses an archive with settings that the kernel's unpacker takes. One thread: more would cut the input
/// at places that depend on the machine.
///
/// # Errors
/// When the tool is missing or fails.
pub fn compress(archive: Vec<u8>, compression: Compression) -> Result<Vec<u8>> {
    let mut tool = match compression {
        Compression::None => return Ok(archive),
        Compression::Zstd => {
            let mut zstd = Command::new("zstd");
            zstd.args(["-19", "--single-thread", "--no-check", "-q", "-c"]);
            zstd
        }
        Compression::Xz => {
            let mut xz = Command::new("xz");
            // The kernel knows no other check, and reserves what the dictionary asks for.
            xz.args(["-9", "--check=crc32", "--lzma2=dict=4MiB", "--threads=1", "-c"]);
            xz
        }
    };
    let mut child = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot compress")?;
    let mut input = child.stdin.take().context("the compressor takes no input")?;
    // Written beside: a compressor that fills its output pipe would otherwise wait for us, and we for it.
    let writer = thread::spawn(move || input.write_all(&archive));
    let output = child.wait_with_output()?;
    let written = writer.join().map_err(|_| anyhow::anyhow!("the writer to the compressor panicked"))?;
    if !output.status.success() {
        bail!("the compressor failed: {}", output.status);
    }
    written.context("the compressor did not take the archive")?;
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Archive {
        let mut archive = Archive::default();
        archive.add("bin/sh", Entry::Symlink { target: "busybox".to_owned() });
        archive.file("init", 0o755, "#!/bin/sh\n");
        archive.add("dev/console", Entry::Device { mode: 0o600, major: 5, minor: 1 });
        archive.file("etc/deep/below/name", 0o644, "node\n");
        archive
    }

    #[test]
    fn another_reader_sees_what_was_put_in() {
        let mut cpio = Command::new("cpio")
            .args(["-itv", "--numeric-uid-gid", "--quiet"])
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        cpio.stdin.take().unwrap().write_all(&sample().pack().unwrap()).unwrap();
        let listed = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
        let lines: Vec<_> =
            listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "drwxr-xr-x 2 0 0 0 Jan 1 1970 bin",
                "lrwxrwxrwx 1 0 0 7 Jan 1 1970 bin/sh -> busybox",
                "drwxr-xr-x 2 0 0 0 Jan 1 1970 dev",
                "crw------- 1 0 0 5, 1 Jan 1 1970 dev/console",
                "drwxr-xr-x 2 0 0 0 Jan 1 1970 etc",
                "drwxr-xr-x 2 0 0 0 Jan 1 1970 etc/deep",
                "drwxr-xr-x 2 0 0 0 Jan 1 1970 etc/deep/below",
                "-rw-r--r-- 1 0 0 5 Jan 1 1970 etc/deep/below/name",
                "-rwxr-xr-x 1 0 0 10 Jan 1 1970 init",
            ]
        );
    }

    #[test]
    fn the_order_of_adding_does_not_matter() {
        let mut other = Archive::default();
        for (path, entry) in sample().entries.iter().rev() {
            other.add(path, entry.clone());
        }
        assert_eq!(sample().pack().unwrap(), other.pack().unwrap());
    }

    #[test]
    fn packing_twice_gives_equal_bytes() {
        for compression in [Compression::Zstd, Compression::Xz, Compression::None] {
            let pack = || compress(sample().pack().unwrap(), compression).unwrap();
            assert_eq!(pack(), pack(), "{compression:?}");
        }
    }
}
