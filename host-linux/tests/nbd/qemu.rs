//! qemu-nbd, the server people use, in front of a file of ours.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A qemu-nbd of our own.
pub struct Qemu(Child);

impl Qemu {
    /// Exports `disk` at `socket` as `disk`, to eight clients at once.
    pub fn start(disk: &Path, socket: &Path) -> Self {
        let mut qemu = Command::new("qemu-nbd");
        qemu.args(["-t", "-f", "raw", "-e", "8", "--cache=writeback", "--discard=unmap", "-x", "disk", "-k"]);
        let child = qemu.arg(socket).arg(disk).stdout(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        while UnixStream::connect(socket).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(child)
    }

    /// Its process number.
    pub fn process(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
