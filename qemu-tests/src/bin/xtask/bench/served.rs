//! Disks over NBD on Unix sockets, of one size: a mirrored volume of ours, and files by qemu-nbd.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use qemu_tests::artefacts::Artefacts;
use qemu_tests::process::Owned;

/// Bytes of every volume and file.
pub const SIZE: u64 = 512 << 20;
/// Longest wait for one to be served.
const BEGIN_MAX: Duration = Duration::from_secs(30);

/// Two agents and a witness, and the socket of the node that leads.
pub fn playground(bulkhead: &Path, directory: &Path) -> Result<(Owned, PathBuf)> {
    let mut command = Command::new(bulkhead);
    command.args(["playground", "run", "--volumes", "--direct", "--dir"]).arg(directory);
    let running = Owned::start(&command, [Stdio::null(), Stdio::null(), Stdio::null()])?;
    let begun = Instant::now();
    loop {
        for node in ["a1", "b1"] {
            let volume = |args: &[&str]| {
                let socket = directory.join(format!("{node}.sock"));
                let mut command = Command::new(bulkhead);
                command.arg("volume").args(args).arg("--socket").arg(socket);
                command.output().is_ok_and(|output| output.status.success())
            };
            let is_synced = volume(&["wait", "--for", "in-sync", "--timeout", "1s"]);
            if is_synced && volume(&["create", "vm1", "--size", &format!("{}MiB", SIZE >> 20)]) {
                return Ok((running, directory.join(node).join("nbd.sock")));
            }
        }
        ensure!(begun.elapsed() < BEGIN_MAX, "no node of the playground leads its volumes");
    }
}

/// A qemu-nbd over a file of its own, or over others by the quorum driver. Every write is durable.
pub fn qemu_nbd(artefacts: &Artefacts, name: &str, children: &[String]) -> Result<(Owned, PathBuf)> {
    let socket = artefacts.socket(&format!("{name}.nbd"));
    let mut command = Command::new("qemu-nbd");
    command.args(["--persistent", "--shared=4", "--export-name=vm1", "--socket"]).arg(&socket);
    if children.is_empty() {
        let file = artefacts.path(name);
        std::fs::File::create(&file)?.set_len(SIZE)?;
        command.args(["--format=raw", "--cache=writethrough", "--aio=threads"]).arg(file);
    } else {
        let mut options = format!("driver=quorum,vote-threshold={}", children.len());
        for (number, path) in children.iter().enumerate() {
            options.push_str(&format!(
                ",children.{number}.driver=nbd,children.{number}.server.type=unix,\
                 children.{number}.server.path={path},children.{number}.export=vm1"
            ));
        }
        command.args(["--cache=writethrough", "--image-opts"]).arg(options);
    }
    let mut running = Owned::start(&command, [Stdio::null(), Stdio::null(), Stdio::null()])?;
    let begun = Instant::now();
    while !socket.exists() {
        if let Some(status) = running.ended()? {
            bail!("qemu-nbd for {name} ended with {status}");
        }
        ensure!(begun.elapsed() < BEGIN_MAX, "qemu-nbd for {name} does not serve");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((running, socket))
}
