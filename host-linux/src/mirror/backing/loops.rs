//! Loop devices for tests, where this user may make them; elsewhere the tests that need one say so and end.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A block device over a file, full of what somebody else left there.
pub struct Loop {
    /// Its device node.
    pub device: PathBuf,
    /// The file below it.
    pub file: PathBuf,
}

/// What is on it at first.
pub const OLD: u8 = 0xee;

impl Loop {
    /// One of so many bytes; `None`, with a printed reason: it cannot be made here.
    pub fn new(directory: &Path, name: &str, bytes: usize) -> Option<Self> {
        let file = directory.join(name);
        std::fs::write(&file, vec![OLD; bytes]).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&file).output();
        match made {
            Ok(made) if made.status.success() => {
                let device = String::from_utf8(made.stdout).unwrap().trim().into();
                Some(Self { device, file })
            }
            Ok(made) => {
                let why = String::from_utf8_lossy(&made.stderr).into_owned();
                println!("skipped: there are no loop devices here: {}", why.trim());
                None
            }
            Err(error) => {
                println!("skipped: losetup: {error}");
                None
            }
        }
    }

    /// Another size of the file, and of the device over it.
    pub fn resize(&self, bytes: u64) {
        std::fs::OpenOptions::new().write(true).open(&self.file).unwrap().set_len(bytes).unwrap();
        let done = Command::new("losetup").arg("--set-capacity").arg(&self.device).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}
