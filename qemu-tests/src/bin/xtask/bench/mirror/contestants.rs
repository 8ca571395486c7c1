//! Who takes part: how each is started, loaded, and what it costs the processors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use qemu_tests::artefacts::Artefacts;
use qemu_tests::process::Owned;

use super::super::fio::{self, Figures};
use super::super::served::{SIZE, playground, qemu_nbd};
use super::Load;

/// One of them.
pub struct Contestant {
    pub name: &'static str,
    servers: Vec<Owned>,
    what: What,
}

enum What {
    /// An NBD server on this socket.
    Nbd(PathBuf),
    /// So many files at once, each with the whole load.
    Files(Vec<PathBuf>),
}

impl Contestant {
    /// All of them; the first one is ours.
    pub fn all(artefacts: &Artefacts, bulkhead: &Path) -> Result<Vec<Self>> {
        let (playground, socket) = playground(bulkhead, &artefacts.path("ours"))?;
        let ours = Self { name: "bulkhead, mirrored", servers: vec![playground], what: What::Nbd(socket) };
        let (server, socket) = qemu_nbd(artefacts, "alone", &[])?;
        let alone = Self { name: "qemu-nbd, alone", servers: vec![server], what: What::Nbd(socket) };
        let (one, socket_one) = qemu_nbd(artefacts, "one", &[])?;
        let (two, socket_two) = qemu_nbd(artefacts, "two", &[])?;
        let children = [socket_one, socket_two].map(|path| path.display().to_string());
        let (both, socket) = qemu_nbd(artefacts, "quorum", &children)?;
        let name = "quorum over two qemu-nbd";
        let quorum = Self { name, servers: vec![one, two, both], what: What::Nbd(socket) };
        let files = ["plain-one", "plain-two"].map(|name| artefacts.path(name));
        for file in &files {
            fio::fill(Command::new("fio"), file, SIZE >> 20)?;
        }
        let [first, second] = files;
        let files = |name, files| Self { name, servers: Vec::new(), what: What::Files(files) };
        let one = files("fio, one file", vec![first.clone()]);
        let two = files("fio, two files at once", vec![first, second]);
        Ok(vec![ours, alone, quorum, one, two])
    }

    /// Loads it for so long. Of several files, each one's rate.
    pub fn measure(&self, load: &Load, seconds: u32) -> Result<Figures> {
        let mut fio = Command::new("fio");
        fio.args(["--time_based", "--group_reporting", &format!("--runtime={seconds}")]);
        fio.args([format!("--rw={}", load.way), format!("--bs={}k", load.kib)]);
        fio.args([format!("--iodepth={}", load.depth), format!("--size={SIZE}")]);
        match &self.what {
            What::Nbd(socket) => {
                fio.args(["--name=mirror", "--ioengine=nbd"]);
                fio.arg(format!("--uri=nbd+unix:///vm1?socket={}", socket.display()));
            }
            What::Files(files) => {
                fio.args(["--ioengine=io_uring", "--direct=1", "--sync=dsync"]);
                for (number, file) in files.iter().enumerate() {
                    fio.arg(format!("--name=file-{number}")).arg(format!("--filename={}", file.display()));
                }
            }
        }
        let mut figures = fio::run(fio, load.kind())?;
        if let What::Files(files) = &self.what {
            figures.per_second /= f64::from(u32::try_from(files.len())?);
        }
        Ok(figures)
    }

    /// What its servers, with all their children, have had of the processors; `None` when it has none.
    pub fn processor_time(&self) -> Option<Duration> {
        let mut tree: BTreeSet<u32> = self.servers.iter().map(Owned::id).collect();
        let processes = processes();
        // A parent is older than its child, but its number need not be smaller.
        while processes.iter().any(|one| tree.contains(&one.parent) && tree.insert(one.id)) {}
        let ticks: u64 = processes.iter().filter(|one| tree.contains(&one.id)).map(|one| one.ticks).sum();
        let second = rustix::param::clock_ticks_per_second();
        (!self.servers.is_empty()).then(|| Duration::from_millis(ticks * 1000 / second))
    }
}

struct Process {
    id: u32,
    parent: u32,
    /// In user and kernel mode; with those of its children that ended.
    ticks: u64,
}

/// Those that can be looked at (proc(5), `/proc/PID/stat`).
fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = entries.filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // Behind the name, which may have anything in it: state, parent, and further on the times.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let ticks = (11..15).filter_map(number).sum();
        Some(Process { id, parent: u32::try_from(number(1)?).ok()?, ticks })
    });
    stats.collect()
}
