//! The health checks of a node: built-in ones, executables in a directory, and those its
//! configuration names. In this order; the first that fails ends the round.

use super::Pulse;
use super::process::{Child, Verdict};
use super::settings::{Identity, Settings};
use crate::disk::esp;
use crate::disk::open::{Access, Disk};
use crate::disk::state::NodeDisk;
use crate::image::boot_app;
use crate::image::verify::verify;
use crate::node_config::schema::Check;
use crate::node_site::network::Cards;
use bulkhead_core::boot::operations::Running;
use bulkhead_core::container::image::SecurityVersion;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a round of checks found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All passed.
    Healthy {
        /// How many there were.
        checks: usize,
    },
    /// One did not; the others after it were not run.
    Failed {
        /// Its name.
        check: String,
        /// Why, on one line.
        why: String,
    },
    /// The agent was asked to stop.
    Stopped,
}

/// Executables in the health directory get this long.
const EXECUTABLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Executables in the health directory: a round stays short.
const EXECUTABLES_MAX: usize = 64;
/// A control domain with less free memory is about to kill its own services.
const MEMORY_MIN_KIB: u64 = 16 << 10;
/// From one look at an unfinished check to the next.
const POLL: Duration = Duration::from_millis(50);

type Checked = Result<(), String>;
type BuiltIn<'a> = fn(&mut Round<'a>, &mut Pulse) -> Checked;

/// The checks of one node.
pub struct Round<'a> {
    settings: &'a Settings,
    disk: PathBuf,
    running: Running,
    identity: Identity,
    /// The running slot was verified in this boot; it is read whole only once.
    slot_verified: bool,
}

impl<'a> Round<'a> {
    /// The checks of the node with `identity`.
    pub fn new(settings: &'a Settings, disk: &Path, running: Running, identity: &Identity) -> Self {
        Self { settings, disk: disk.into(), running, identity: identity.clone(), slot_verified: false }
    }

    /// Runs one round.
    pub fn run(&mut self, pulse: &mut Pulse) -> Outcome {
        let built_in: [(&str, BuiltIn<'a>); 6] = [
            ("node-config", |round, _| round.node_config()),
            ("site", |round, _| round.site()),
            ("disk", |round, _| round.read_disk().map(|_| ())),
            ("slot", Self::slot),
            ("memory", |round, _| round.memory()),
            ("state-dir", |round, _| round.state_dir()),
        ];
        let mut checks = 0_usize;
        for (name, check) in built_in {
            match self.one(name, pulse, check) {
                None => checks = checks.saturating_add(1),
                Some(outcome) => return outcome,
            }
        }
        for path in executables(&self.settings.health_dir) {
            let name = format!("health.d/{}", path.file_name().unwrap_or_default().display());
            let words = [path.display().to_string()];
            match self.one(&name, pulse, |_, pulse| command(&words, EXECUTABLE_TIMEOUT, pulse)) {
                None => checks = checks.saturating_add(1),
                Some(outcome) => return outcome,
            }
        }
        for (number, check) in (1_u32..).zip(&self.identity.health().checks) {
            match self.one(&format!("config/{number}"), pulse, |_, pulse| configured(check, pulse)) {
                None => checks = checks.saturating_add(1),
                Some(outcome) => return outcome,
            }
        }
        Outcome::Healthy { checks }
    }

    /// Runs one check; `None` when it passed.
    fn one(
        &mut self,
        name: &str,
        pulse: &mut Pulse,
        check: impl FnOnce(&mut Self, &mut Pulse) -> Checked,
    ) -> Option<Outcome> {
        pulse.beat();
        let checked = check(self, pulse);
        if pulse.stopping() {
            return Some(Outcome::Stopped);
        }
        let why = one_line(&checked.err()?);
        Some(Outcome::Failed { check: name.to_owned(), why })
    }

    fn node_config(&self) -> Checked {
        match &self.identity {
            Identity::Known(_) | Identity::Fresh => Ok(()),
            Identity::Broken(why) => Err(why.clone()),
        }
    }

    /// The node runs its part of the site, and speaks to the others on one network at least.
    fn site(&self) -> Checked {
        let none_works = || self.settings.cards.as_ref().and_then(Cards::none_works);
        self.settings.site_fault.clone().or_else(none_works).map_or(Ok(()), Err)
    }

    /// The disk can be read, is laid out as a node's, and remembers its slots.
    fn read_disk(&self) -> Result<(Disk, NodeDisk), String> {
        let disk = Disk::open(&self.disk, Access::Read).map_err(|failure| failure.what)?;
        let node = NodeDisk::read(&disk).map_err(|failure| failure.what)?;
        node.stored(&disk).map_err(|failure| failure.what)?;
        Ok((disk, node))
    }

    /// The slot this node runs from still holds, on the disk, what its record names and a trusted
    /// key signed: else the next boot would not start it.
    fn slot(&mut self, pulse: &mut Pulse) -> Checked {
        if self.slot_verified {
            return Ok(());
        }
        let (disk, node) = self.read_disk()?;
        let app = esp::read_boot_app(&disk, &node.layout.esp).map_err(|why| why.to_string())?;
        let trust = boot_app::trust_of(&app)?;
        let place = node.layout.slot(self.running.slot);
        let mut reader = disk.uncached();
        let mut read = |at: u64, buffer: &mut [u8]| {
            pulse.beat();
            if pulse.stopping() {
                return Err(std::io::Error::other("the agent is stopping"));
            }
            reader.read(place.image.plus(at), buffer)
        };
        let verified = verify(&mut read, &trust, place.capacity, SecurityVersion(0), &mut |_| {});
        let image = verified.map_err(|why| why.to_string())?.image();
        let recorded =
            node.copies.newest().and_then(|stored| stored.bcb.slots.get(self.running.slot).image().copied());
        if recorded != Some(image) {
            return Err("the slot holds another image than the one recorded for it".into());
        }
        self.slot_verified = true;
        Ok(())
    }

    fn memory(&self) -> Checked {
        let path = self.settings.machine.path("proc/meminfo");
        let text = std::fs::read_to_string(path).map_err(|error| format!("/proc/meminfo: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        let free = number.ok_or("/proc/meminfo has no MemAvailable")?;
        if free < MEMORY_MIN_KIB {
            return Err(format!(
                "{free} KiB of memory are available, at least {MEMORY_MIN_KIB} KiB are needed"
            ));
        }
        Ok(())
    }

    fn state_dir(&self) -> Checked {
        let probe = self.settings.state_dir.join("agent.probe");
        let written =
            std::fs::create_dir_all(&self.settings.state_dir).and_then(|()| std::fs::write(&probe, b"probe"));
        written.and_then(|()| std::fs::remove_file(&probe)).map_err(|error| error.to_string())
    }
}

/// The executables of the health directory, by name.
fn executables(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_executable = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let mut paths: Vec<_> = entries.filter(is_executable).collect();
    paths.sort();
    paths.truncate(EXECUTABLES_MAX);
    paths
}

fn configured(check: &Check, pulse: &mut Pulse) -> Checked {
    let timeout = Duration::from_secs(u64::from(check.timeout_s));
    match (&check.path, &check.tcp, &check.command) {
        (Some(path), None, None) if Path::new(path).exists() => Ok(()),
        (Some(path), None, None) => Err(format!("{path} is not there")),
        (None, Some(address), None) => tcp(address, timeout, pulse),
        (None, None, Some(words)) => command(words, timeout, pulse),
        (Some(_) | None, Some(_) | None, Some(_) | None) => {
            Err("the check names no or several things".into())
        }
    }
}

/// Connects in a thread of its own, so that the wait for an answer is not a hang of the loop.
fn tcp(address: &str, timeout: Duration, pulse: &mut Pulse) -> Checked {
    let (answer, answers) = mpsc::channel();
    let target = address.to_owned();
    std::thread::spawn(move || {
        let connect = || {
            let addresses = target.to_socket_addrs()?;
            let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
            for address in addresses {
                match TcpStream::connect_timeout(&address, timeout) {
                    Ok(_) => return Ok(()),
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        // The one who asked may have stopped waiting.
        let _ = answer.send(connect().map_err(|error: std::io::Error| error.to_string()));
    });
    let begin = Instant::now();
    while begin.elapsed() < timeout && !pulse.stopping() {
        match answers.recv_timeout(POLL) {
            Ok(answer) => return answer.map_err(|why| format!("{address}: {why}")),
            Err(mpsc::RecvTimeoutError::Timeout) => pulse.beat(),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    Err(format!("{address} did not answer within {} s", timeout.as_secs()))
}

fn command(words: &[String], timeout: Duration, pulse: &mut Pulse) -> Checked {
    let mut child = Child::start(words).map_err(|error| error.to_string())?;
    let begin = Instant::now();
    while begin.elapsed() < timeout && !pulse.stopping() {
        match child.poll() {
            Verdict::Running => {}
            Verdict::Passed => return Ok(()),
            Verdict::Failed(why) => return Err(why),
        }
        pulse.beat();
        std::thread::sleep(POLL);
    }
    child.kill();
    Err(format!("did not finish within {} s", timeout.as_secs()))
}

/// Reasons go into one-line records.
fn one_line(why: &str) -> String {
    let flat: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
    flat.trim().to_owned()
}
