//! What a guest is: one file, of which every key is known, so that a mistake is said and not passed over
//! (S3-06).

use crate::failure::Failure;
use crate::nbd::uri::Uri;
use crate::output::parse_size;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The version of the file that this program writes and reads (V41).
pub const VERSION: u32 = 1;
/// Processors that a guest can have.
pub const PROCESSORS_MAX: u8 = 32;
/// Below this no kernel starts.
pub const MEMORY_MIN: u64 = 4 << 20;
/// More than any node has.
pub const MEMORY_MAX: u64 = 16 << 40;
/// Disks that a guest can have: other devices need interrupts, too.
pub const DISKS_MAX: usize = 16;
const PAGE: u64 = 4096;

/// What a guest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What people call it.
    pub name: String,
    /// 1 to [`PROCESSORS_MAX`].
    pub processors: u8,
    /// Bytes of memory: whole pages, [`MEMORY_MIN`] to [`MEMORY_MAX`].
    pub memory: u64,
    /// Its kernel, on this node: an ELF file or a `bzImage`.
    pub kernel: PathBuf,
    /// What the kernel finds its first files in.
    pub initrd: Option<PathBuf>,
    /// What the kernel is told.
    pub command_line: String,
    /// Its disks, in the order in which it finds them; at most [`DISKS_MAX`].
    pub disks: Vec<Disk>,
    /// The file that says so, with names of files that mean the same everywhere on this node.
    pub text: String,
}

/// A disk of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Where its content is served.
    pub uri: Uri,
    /// The guest cannot write.
    pub is_read_only: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    name: String,
    processors: u8,
    memory: String,
    kernel: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    initrd: Option<PathBuf>,
    #[serde(default)]
    command_line: String,
    #[serde(default)]
    disk: Vec<FileDisk>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileDisk {
    uri: String,
    #[serde(default)]
    read_only: bool,
}

impl Description {
    /// Reads the file at `path`. Names of files in it are relative to it.
    ///
    /// # Errors
    ///
    /// It cannot be read, or says what makes no sense: which key, and what would.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
        let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
        let path = std::path::absolute(path).map_err(|error| Failure::io("find", path, &error))?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("/"))).map_err(wrong)
    }

    /// All of it, for machines.
    #[must_use]
    pub fn json(&self) -> Value {
        let disk = |disk: &Disk| json!({ "uri": disk.uri.to_string(), "read_only": disk.is_read_only });
        json!({
            "name": self.name,
            "cpus": { "boot_vcpus": self.processors, "max_vcpus": self.processors },
            "memory": { "size": self.memory },
            "payload": { "kernel": self.kernel, "initramfs": self.initrd, "cmdline": self.command_line },
            "disks": self.disks.iter().map(disk).collect::<Vec<_>>(),
        })
    }

    fn parse(text: &str, beside: &Path) -> Result<Self, String> {
        let mut file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if file.version != VERSION {
            return Err(format!("`version` is {}; this program knows {VERSION}", file.version));
        }
        if !is_name(&file.name) {
            return Err("`name` has 1 to 64 letters, digits, `-`, `_` or `.`, and no `.` first".into());
        }
        if !(1..=PROCESSORS_MAX).contains(&file.processors) {
            return Err(format!("`processors` is 1 to {PROCESSORS_MAX}"));
        }
        let memory = parse_size(&file.memory).map_err(|why| format!("`memory`: {why}"))?;
        if !(MEMORY_MIN..=MEMORY_MAX).contains(&memory) || !memory.is_multiple_of(PAGE) {
            return Err("`memory` is whole pages of 4 KiB, 4 MiB to 16 TiB".into());
        }
        if file.command_line.contains('\0') {
            return Err("`command_line` has a zero byte in it".into());
        }
        if DISKS_MAX < file.disk.len() {
            return Err(format!("there are {} `[[disk]]`; a guest has {DISKS_MAX} at most", file.disk.len()));
        }
        file.kernel = beside.join(&file.kernel);
        file.initrd = file.initrd.map(|initrd| beside.join(initrd));
        let text = toml::to_string(&file).map_err(|error| error.to_string())?;
        let disk = |disk: FileDisk| {
            let uri = disk.uri.parse().map_err(|why| format!("`uri` of [[disk]], `{}`: {why}", disk.uri))?;
            Ok(Disk { uri, is_read_only: disk.read_only })
        };
        let disks = file.disk.into_iter().map(disk).collect::<Result<_, String>>()?;
        let File { name, processors, kernel, initrd, command_line, .. } = file;
        Ok(Self { name, processors, memory, kernel, initrd, command_line, disks, text })
    }
}

/// Whether a guest may be called so. It is no path, either.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_known = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.chars().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str =
        "version = 1\nname = \"web\"\nprocessors = 1\nmemory = \"64M\"\nkernel = \"vmlinuz\"\n";

    #[test]
    fn a_description_is_read() {
        let least = Description::parse(LEAST, Path::new("/srv")).unwrap();
        assert_eq!((least.processors, least.memory, least.disks.len()), (1, 64 << 20, 0));
        let disk = "[[disk]]\nuri = \"nbd+unix:///vm1?socket=/run/nbd.sock\"\nread_only = true\n";
        let with_disk = Description::parse(&format!("{LEAST}{disk}"), Path::new("/srv")).unwrap();
        assert!(with_disk.disks[0].is_read_only);
        // The text means the same elsewhere.
        assert_eq!(Description::parse(&with_disk.text, Path::new("/tmp")).unwrap(), with_disk);
        assert_eq!(with_disk.kernel, Path::new("/srv/vmlinuz"));

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.toml");
        std::fs::write(&path, LEAST).unwrap();
        assert_eq!(Description::read(&path).unwrap().kernel, directory.path().join("vmlinuz"));
        assert!(Description::read(&directory.path().join("none")).unwrap_err().what.contains("none"));
    }

    /// V41, I11: what is not understood is refused, and which key it is, is said.
    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let cases = [
            ("version = 1", "version = 2", "this program knows 1"),
            ("\"web\"", "\"we b\"", "`name` has"),
            ("\"web\"", "\"\"", "`name` has"),
            ("\"web\"", "\"..\"", "`name` has"),
            ("processors = 1", "processors = 0", "`processors` is 1 to 32"),
            ("processors = 1", "processors = 33", "`processors` is 1 to 32"),
            ("processors = 1", "processors = 1\ncores = 2", "unknown field `cores`"),
            ("\"64M\"", "\"64 apples\"", "`memory`:"),
            ("\"64M\"", "\"1M\"", "`memory` is whole pages"),
            ("\"64M\"", "\"4194305\"", "`memory` is whole pages"),
            ("kernel = \"vmlinuz\"\n", "", "missing field `kernel`"),
            ("\"vmlinuz\"\n", "\"vmlinuz\"\ncommand_line = \"a\\u0000b\"\n", "zero byte"),
            ("\"vmlinuz\"\n", "\"vmlinuz\"\n[[disk]]\nuri = \"http://x\"\n", "`uri` of [[disk]], `http://x`"),
        ];
        for (old, new, expected) in cases {
            let why = Description::parse(&LEAST.replace(old, new), Path::new("/")).unwrap_err();
            assert!(why.contains(expected), "{new}: {why}");
        }
        let many = "[[disk]]\nuri = \"nbd://h/x\"\n".repeat(17);
        assert!(
            Description::parse(&format!("{LEAST}{many}"), Path::new("/"))
                .unwrap_err()
                .contains("17 `[[disk]]`")
        );
    }
}
