//! A guest of a volume: the kernel's NBD client, ext4 and an `SQLite` database in it, in the machine of the
//! witness. The database says each transaction's number when it has committed it; no number that was said may
//! be missing later.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::{LONG, Lab, Rig};
use crate::site::{Part, Site};
use crate::tooling::command::find;
use crate::tooling::node_image::{Recipe, Variant};

/// The machine it runs in.
const MACHINE: Part = Part::Witness;
/// A command that reads all of the volume, under emulation.
const COMMAND: Duration = Duration::from_secs(120);
/// What the guest has besides the image of a node.
const PROGRAMS: [&str; 4] = ["nbd-client", "mkfs.ext4", "e2fsck", "sqlite3"];
/// How the database makes a transaction durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// The old pages are kept in a journal, which is deleted at the commit.
    Rollback,
    /// The new pages are appended to a log.
    Ahead,
}

/// A database on a volume.
#[derive(Debug)]
pub struct Database {
    volume: String,
    /// The number of the next transaction.
    next: u64,
    /// How often it was started.
    runs: u32,
}

impl Database {
    /// What nodes and guest boot.
    ///
    /// # Errors
    /// When a program of the guest is not installed.
    pub fn recipe() -> Result<Recipe> {
        let programs = PROGRAMS
            .map(|name| find(name).with_context(|| format!("{name} is not installed: `cargo xtask doctor`")));
        let overlays = ["shell", "volumes", "database"].map(str::to_owned).into();
        let programs = programs.into_iter().collect::<Result<_>>()?;
        // A node that stands still for a while is to wake, not to be reset.
        let watchdog_seconds = 60;
        Ok(Recipe { overlays, programs, watchdog_seconds, ..Lab::recipe(Variant::Good, 1) })
    }

    /// A new file system on `volume`, reached by way of `path`, with an empty database.
    ///
    /// # Errors
    /// When a step fails in the guest.
    pub fn create(site: &Site, volume: &str, path: Part) -> Result<Self> {
        let database = Self { volume: volume.to_owned(), next: 1, runs: 0 };
        database.attach(site, path)?;
        database
            .command(site, "mkfs.ext4 -q -E nodiscard /dev/nbd0 && mkdir -p /mnt && mount /dev/nbd0 /mnt")?;
        let table = "CREATE TABLE t (n INTEGER PRIMARY KEY, body TEXT NOT NULL);";
        database.command(site, &format!("sqlite3 /mnt/db \"{table}\""))?;
        database.detach(site)?;
        Ok(database)
    }

    /// Mounts by way of all nodes at once, and begins to commit transactions.
    ///
    /// # Errors
    /// When a step fails in the guest.
    pub fn start(&mut self, site: &Site, journal: Journal) -> Result<()> {
        let uri = |part| Ok::<_, anyhow::Error>(format!("nbd://{}/{}", Site::path(part)?, self.volume));
        let attach = format!("bulkhead volume attach /dev/nbd0 {} {}", uri(Part::A)?, uri(Part::B)?);
        rig(site)?.shell.start(&format!("({attach} >/dev/ttyS0 2>&1 &)"))?;
        rig(site)?.node.wait_for("/dev/nbd0 is attached", LONG)?;
        let mode = match journal {
            Journal::Rollback => "DELETE",
            Journal::Ahead => "WAL",
        };
        self.runs = self.runs.saturating_add(1);
        let (run, first) = (self.runs, self.next);
        self.command(site, "mount /dev/nbd0 /mnt")?;
        rig(site)?.shell.start(&format!("(transactions {run} {first} {mode} &)"))
    }

    /// The newest transaction that the guest was told is committed.
    ///
    /// # Errors
    /// When the guest is off.
    pub fn committed(&self, site: &Site) -> Result<u64> {
        let lines = rig(site)?.node.console().matching("committed ");
        let number = |text: &str| {
            text.split_once("committed ").and_then(|(_, rest)| rest.split_once('.')?.0.parse::<u64>().ok())
        };
        Ok(lines.iter().filter_map(|line| number(&line.text)).max().unwrap_or_default())
    }

    /// Waits for `more` transactions from now; how many there are then, and how long the longest wait was.
    ///
    /// # Errors
    /// When they do not come.
    pub fn goes_on(&self, site: &Site, more: u64) -> Result<(u64, Duration)> {
        let begin = Instant::now();
        let from = self.committed(site)?;
        let (mut last, mut since, mut longest) = (from, begin, Duration::ZERO);
        while last < from.saturating_add(more) {
            ensure!(begin.elapsed() < LONG, "{} transactions only, from {from}: {}", last, tail(site)?);
            let ended = rig(site)?.node.console().tail(50).contains(&self.ended());
            ensure!(!ended, "after {last} transactions: {}", tail(site)?);
            std::thread::sleep(Duration::from_millis(100));
            let now = self.committed(site)?;
            if now != last {
                longest = longest.max(since.elapsed());
                (last, since) = (now, Instant::now());
            }
        }
        Ok((last, longest))
    }

    /// Ends the database in the middle of what it does, and looks at all it has by way of `path`: the file
    /// system is whole, the database is whole, and every transaction that was said to be committed is there.
    ///
    /// # Errors
    /// When it is not so.
    pub fn verify(&mut self, site: &Site, path: Part) -> Result<u64> {
        self.command(site, "kill -9 $(pidof sqlite3)")?;
        rig(site)?.node.wait_for(self.ended(), LONG)?;
        let committed = self.committed(site)?;
        self.command(site, "umount /mnt && bulkhead volume detach /dev/nbd0")?;
        self.attach(site, path)?;
        // The journal first, as a mount does; then nothing may be left to repair.
        self.command(site, "e2fsck -E journal_only -p /dev/nbd0 && e2fsck -f -n /dev/nbd0")?;
        let ask = "mount /dev/nbd0 /mnt && sqlite3 -bail /mnt/db </etc/bulkhead/verify.sql";
        let said = self.command(site, ask)?;
        self.detach(site)?;
        let rows = said.split_once(" to ").and_then(|(_, rest)| rest.lines().next()?.parse::<u64>().ok());
        let rows = rows.with_context(|| format!("after transaction {committed}: {said}"))?;
        let good = format!("integrity ok\nrows {rows} to {rows}\nwrong 0");
        ensure!(said.trim() == good, "after transaction {committed}: {said}");
        // One more may be committed than was said: its word was on the way when the database was ended.
        ensure!(
            (committed..=committed.saturating_add(1)).contains(&rows),
            "{committed} transactions were committed, {rows} are there"
        );
        self.next = rows.saturating_add(1);
        Ok(rows)
    }

    /// What the guest says when the database of this run has ended.
    fn ended(&self) -> String {
        format!("run {} of the database ended", self.runs)
    }

    /// By way of one node alone, with the client that Debian has.
    fn attach(&self, site: &Site, path: Part) -> Result<()> {
        let (name, address) = (&self.volume, Site::path(path)?);
        self.command(site, &format!("nbd-client -b 4096 -N {name} {address} /dev/nbd0")).map(drop)
    }

    fn detach(&self, site: &Site) -> Result<()> {
        self.command(site, "umount /mnt && nbd-client -d /dev/nbd0").map(drop)
    }

    fn command(&self, site: &Site, command: &str) -> Result<String> {
        let what = || format!("in the guest of {}: {}", self.volume, tail(site).unwrap_or_default());
        rig(site)?.shell.exit(0, command, COMMAND).with_context(what)
    }
}

fn rig(site: &Site) -> Result<&Rig> {
    site.rig(MACHINE)
}

/// What the guest said last.
fn tail(site: &Site) -> Result<String> {
    let rig = rig(site)?;
    let kernel = rig.shell.run("dmesg | tail -n 20", COMMAND).map(|answer| answer.text);
    Ok(format!("{}\n{}", rig.node.console().tail(12), kernel.unwrap_or_else(|error| format!("{error:#}"))))
}
