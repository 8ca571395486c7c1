//! The node agent: knows who the node is, watches its health, confirms the slot it runs from when
//! the node proves healthy, and lets the machine reset when it does not (X18, X19, V29, V38).
//!
//! One thread, one loop: a round of checks, then a wait. The watchdog is fed only from that loop
//! and from the progress of a check; whatever hangs, hangs the loop, and the machine resets.
//!
//! Lines for machines on standard output, each once when it becomes so:
//!
//! ```text
//! bulkhead agent: node n1 slot b boot 0000000000000002 state candidate disk /dev/vda
//! HEALTH ok checks=7
//! HEALTH failed check=health.d/10-net why=exit code 1: no route
//! CONFIRMED slot=b version=2
//! GAVE-UP slot=b after_s=120 check=health.d/10-net
//! ```
//!
//! A candidate that is not healthy within its time is given up: the machine restarts, and the boot
//! application counts the try. A confirmed slot that is not healthy keeps running and says so:
//! restarting it for ever would help nobody.
//!
//! Reading order: [`settings`], [`health`] (with [`process`]), [`watchdog`], [`notify`],
//! [`status`], then [`run`] here.

pub mod beats;
pub mod health;
pub mod notify;
pub mod process;
pub mod settings;
pub mod status;
pub mod watchdog;
mod watchdog_ioctl;

use crate::disk::open::{Access, Disk};
use crate::disk::state::NodeDisk;
use crate::failure::Failure;
use crate::slots;
use beats::Beats;
use bulkhead_core::bcb::state::SlotState;
use bulkhead_core::boot::operations::Running;
use health::{Outcome, Round};
use notify::Notify;
use settings::{Identity, Settings};
use status::Status;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use watchdog::Watchdog;

/// Longest sleep: bounds how late a stop request is seen and how seldom the watchdog is fed.
const TICK: Duration = Duration::from_millis(250);
/// From one round to the next while a candidate is not healthy yet.
const RETRY: Duration = Duration::from_secs(1);
/// How long the disk may take to appear: drivers load while the agent starts.
const DISK_WAIT: Duration = Duration::from_secs(30);

/// What keeps the machine alive: fed while the loop makes progress, and starved on purpose.
pub struct Pulse {
    watchdog: Option<Watchdog>,
    notify: Notify,
    beats: Option<Beats>,
    stop: Arc<AtomicBool>,
}

impl Pulse {
    /// Progress was made.
    pub fn beat(&mut self) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.feed();
        }
        if let Some(beats) = &self.beats {
            beats.beat();
        }
        self.notify.alive();
    }

    /// Whether the agent was asked to stop.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Why the agent ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// It gave the slot up and may not restart the machine itself.
    GaveUp,
}

/// Prints a line at once: the last words before a reset must not sit in a buffer.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Runs until asked to stop, or until the node is given up.
///
/// # Errors
///
/// The node cannot even be identified: no disk, or not started by Bulkhead.
pub fn run(settings: &Settings) -> Result<Ended, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    }
    let running = settings.machine.running().ok_or_else(|| {
        Failure::failed("this machine was not started by Bulkhead: its kernel command line names no slot")
            .next("start the agent on a node that booted from its boot partition.")
    })?;
    let watchdog = settings.watchdog.as_deref().and_then(|path| match Watchdog::open(path) {
        Ok(watchdog) => {
            say(&format!(
                "bulkhead agent: watchdog {} resets after {} s",
                path.display(),
                watchdog.seconds()
            ));
            Some(watchdog)
        }
        Err(error) => {
            say(&format!("bulkhead agent: no watchdog ({}: {error})", path.display()));
            None
        }
    });
    let beats = settings.beats.clone();
    let notify = if beats.is_some() { Notify::silent() } else { Notify::from_env() };
    let mut pulse = Pulse { watchdog, notify, beats, stop };
    let found = find_disk(settings, &mut || {
        pulse.beat();
        !pulse.stopping()
    });
    let ended = match found {
        Some(Ok(path)) => Agent::new(settings, path, running).watch(&mut pulse),
        Some(Err(failure)) => return Err(failure),
        None => Ended::Stopped,
    };
    if let (Ended::Stopped, Some(watchdog)) = (ended, pulse.watchdog.take()) {
        watchdog.disarm();
    }
    Ok(ended)
}

/// The disk this node booted from. It is waited for while `goes_on`; `None`: it did not before the disk
/// appeared.
pub fn find_disk(settings: &Settings, goes_on: &mut dyn FnMut() -> bool) -> Option<Result<PathBuf, Failure>> {
    let begin = Instant::now();
    loop {
        let found = settings.disk.clone().map_or_else(|| settings.machine.find_disk(), Ok);
        let found = found.and_then(|path| Disk::open(&path, Access::Read).map(|_| path));
        if found.is_ok() || DISK_WAIT <= begin.elapsed() {
            return Some(found);
        }
        if !goes_on() {
            return None;
        }
        std::thread::sleep(TICK);
    }
}

/// The loop's state.
struct Agent<'a> {
    settings: &'a Settings,
    disk: PathBuf,
    running: Running,
    identity: Identity,
    status: Status,
    /// The last health line: it is said again only when it changes.
    said: String,
    began: Instant,
    /// The running slot was seen not to be a candidate: nothing restarts the machine any more. A
    /// disk that cannot be read from the beginning leaves the slot unproven.
    proven: bool,
}

impl<'a> Agent<'a> {
    fn new(settings: &'a Settings, disk: PathBuf, running: Running) -> Self {
        let identity = Identity::read(settings, &disk);
        let status = Status::new(&identity, running, &disk);
        Self {
            settings,
            disk,
            running,
            identity,
            status,
            said: String::new(),
            began: Instant::now(),
            proven: false,
        }
    }

    fn watch(mut self, pulse: &mut Pulse) -> Ended {
        let state = self.slot_state().map_or("unknown", |state| state.name());
        let Running { slot, boot } = self.running;
        let (name, disk) = (self.identity.name(), self.disk.display());
        say(&format!("bulkhead agent: node {name} slot {slot} boot {boot} state {state} disk {disk}"));
        pulse.notify.ready();
        let mut round = Round::new(self.settings, &self.disk, self.running, &self.identity);
        while !pulse.stopping() {
            let mut outcome = round.run(pulse);
            self.proven |= self.is_candidate() == Some(false);
            if let (Outcome::Healthy { checks }, Some(true)) = (&outcome, self.is_candidate()) {
                outcome = self.confirm(*checks);
            }
            self.report(&outcome);
            let wait = match &outcome {
                Outcome::Failed { check, .. } if !self.proven => {
                    if self.deadline() <= self.began.elapsed() {
                        return self.give_up(check);
                    }
                    RETRY
                }
                Outcome::Healthy { .. } | Outcome::Failed { .. } | Outcome::Stopped => {
                    Duration::from_secs(u64::from(self.identity.health().interval_s))
                }
            };
            rest(wait, pulse);
        }
        self.status.stopped(&self.settings.state_dir);
        say("bulkhead agent: stopped");
        Ended::Stopped
    }

    fn deadline(&self) -> Duration {
        let seconds = self.settings.timeout_s.unwrap_or(self.identity.health().timeout_s);
        Duration::from_secs(u64::from(seconds))
    }

    fn slot_state(&self) -> Option<SlotState> {
        let node = Disk::open(&self.disk, Access::Read).and_then(|disk| NodeDisk::read(&disk)).ok()?;
        node.copies.newest().map(|stored| *stored.bcb.slots.get(self.running.slot))
    }

    /// Whether the running slot still has to prove itself; `None` when the disk does not say.
    fn is_candidate(&self) -> Option<bool> {
        self.slot_state().map(|state| matches!(state, SlotState::Candidate { .. }))
    }

    /// Confirms the running slot. A confirmation that does not reach the disk is a failed check.
    fn confirm(&mut self, checks: usize) -> Outcome {
        let confirmed = Disk::open(&self.disk, Access::Write).and_then(|disk| {
            NodeDisk::read(&disk).and_then(|node| slots::confirm(&disk, &node, self.running))
        });
        match confirmed {
            Ok(confirmed) => {
                self.report(&Outcome::Healthy { checks });
                say(&format!("CONFIRMED slot={} version={}", self.running.slot, confirmed.image.version));
                Outcome::Healthy { checks }
            }
            Err(failure) => Outcome::Failed { check: "confirm".into(), why: failure.what },
        }
    }

    fn report(&mut self, outcome: &Outcome) {
        let line = match outcome {
            Outcome::Healthy { checks } => format!("HEALTH ok checks={checks}"),
            Outcome::Failed { check, why } => format!("HEALTH failed check={check} why={why}"),
            Outcome::Stopped => return,
        };
        if line != self.said {
            say(&line);
            self.said = line;
        }
        let state = self.slot_state().map(|state| state.name());
        self.status.update(&self.settings.state_dir, state, outcome);
    }

    /// Starves the watchdog and asks for a restart; if that does not come, the watchdog does it.
    fn give_up(&mut self, check: &str) -> Ended {
        let after = self.deadline().as_secs();
        say(&format!("GAVE-UP slot={} after_s={after} check={check}", self.running.slot));
        if !self.settings.reboot {
            return Ended::GaveUp;
        }
        rustix::fs::sync();
        if let Err(error) = rustix::system::reboot(rustix::system::RebootCommand::Restart) {
            say(&format!("bulkhead agent: the machine does not restart ({error}); its watchdog will do it"));
        }
        Ended::GaveUp
    }
}

/// Waits without missing a stop request or a beat.
fn rest(wait: Duration, pulse: &mut Pulse) {
    let begin = Instant::now();
    while begin.elapsed() < wait && !pulse.stopping() {
        pulse.beat();
        std::thread::sleep(TICK.min(wait));
    }
}

/// Where the agent keeps what it says about itself, unless told otherwise.
pub fn default_state_dir() -> &'static Path {
    Path::new("/run/bulkhead")
}
