//! The processes of a playground: started, asked, hurt, ended with it.

use super::layout::{Part, Wanted, write};
use super::ports::Ports;
use super::relay::Relay;
use crate::cluster::client::Client;
use crate::cluster::request::Request;
use crate::failure::Failure;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a part has to end by itself.
const END_MAX: Duration = Duration::from_secs(5);
/// A part that does not answer within this time does not answer: whoever asks the playground waits meanwhile.
const ANSWERS: Duration = Duration::from_secs(1);
/// The variable by which a part knows whom it must not outlive.
pub const PARENT: &str = "BULKHEAD_PLAYGROUND";

/// A running playground. Its processes end with it.
#[derive(Debug)]
pub struct Site {
    /// Its parts, the witness last.
    pub parts: Vec<Part>,
    relay: Relay,
    children: Vec<Option<Child>>,
    /// Theirs, also while they are down.
    _ports: Ports,
}

impl Site {
    /// Starts all parts below `directory`, but for a witness that runs elsewhere.
    ///
    /// # Errors
    ///
    /// The configuration cannot be written, or a process cannot be started.
    pub fn start(directory: &Path, wanted: &Wanted) -> Result<Self, Failure> {
        let (parts, relay, ports) = write(directory, wanted)?;
        let children = parts.iter().map(|_| None).collect();
        let mut site = Self { parts, relay, children, _ports: ports };
        let here: Vec<_> = site.parts.iter().map(|part| part.is_here).collect();
        for (place, _) in here.into_iter().enumerate().filter(|(_, is_here)| *is_here) {
            site.launch(place)?;
        }
        Ok(site)
    }

    /// The place of the part with this name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn place(&self, name: &str) -> Result<usize, Failure> {
        self.parts.iter().position(|part| part.name == name).ok_or_else(|| {
            let names: Vec<_> = self.parts.iter().map(|part| part.name.as_str()).collect();
            Failure::usage(format!("there is no part `{name}`; there are {}", names.join(", ")))
        })
    }

    /// The place of the part with this name, which is a process of this playground.
    ///
    /// # Errors
    ///
    /// There is none, or it runs elsewhere.
    pub fn process(&self, name: &str) -> Result<usize, Failure> {
        let place = self.place(name)?;
        match self.parts.get(place) {
            Some(part) if !part.is_here => {
                let what = format!("{name} runs elsewhere: it is not this playground's to kill or to pause");
                Err(Failure::usage(what).next(format!("`fault cut {name} a1` takes it off the network")))
            }
            Some(_) | None => Ok(place),
        }
    }

    /// The process of a part, while it runs.
    pub fn pid(&self, place: usize) -> Option<u32> {
        self.children.get(place).and_then(Option::as_ref).map(Child::id)
    }

    /// Starts a part that does not run.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn launch(&mut self, place: usize) -> Result<(), Failure> {
        let (Some(part), Some(slot)) = (self.parts.get(place), self.children.get_mut(place)) else {
            return Ok(());
        };
        // One that was ended by somebody else does not run, either.
        if slot.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(Some(_)))) {
            return Ok(());
        }
        let what = |error: std::io::Error| Failure::failed(format!("cannot start {}: {error}", part.name));
        let log = OpenOptions::new().create(true).append(true).open(&part.log).map_err(what)?;
        let program = std::env::current_exe().map_err(what)?;
        let role = if part.is_witness { "witness" } else { "agent" };
        let mut command = Command::new(program);
        command.arg(role).arg("--config").arg(&part.config);
        if !part.is_witness {
            // No slot of this machine's own is to be confirmed by a playground.
            command.arg("--no-reboot").arg("--no-watchdog");
        }
        command.env(PARENT, std::process::id().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        *slot = Some(command.spawn().map_err(what)?);
        Ok(())
    }

    /// SIGKILL: the power of a part fails.
    pub fn kill(&mut self, place: usize) {
        if let Some(mut child) = self.children.get_mut(place).and_then(Option::take) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A part sleeps, and does not know.
    pub fn pause(&self, place: usize) {
        self.signal(place, Signal::STOP);
    }

    /// A part wakes.
    pub fn resume(&self, place: usize) {
        self.signal(place, Signal::CONT);
    }

    /// Nothing gets from one part to the other, in both directions, on both networks.
    ///
    /// # Errors
    ///
    /// No relay is between them.
    pub fn cut(&self, one: usize, other: usize) -> Result<(), Failure> {
        self.has_weather()?;
        if let (Some(one), Some(other)) = (self.parts.get(one), self.parts.get(other)) {
            self.relay.part(one.node, other.node);
        }
        Ok(())
    }

    /// Everything between two parts gets through again; other links stay as they are.
    ///
    /// # Errors
    ///
    /// No relay is between them.
    pub fn mend(&self, one: usize, other: usize) -> Result<(), Failure> {
        self.has_weather()?;
        if let (Some(one), Some(other)) = (self.parts.get(one), self.parts.get(other)) {
            self.relay.mend(one.node, other.node);
        }
        Ok(())
    }

    /// Everything from and to a part takes `delay` longer, until `span` is over (X07).
    ///
    /// # Errors
    ///
    /// No relay is between it and others.
    pub fn slow(&self, place: usize, delay: Duration, span: Duration) -> Result<(), Failure> {
        self.has_weather()?;
        if let Some(part) = self.parts.get(place) {
            self.relay.slow(part.node, delay, span);
        }
        Ok(())
    }

    fn has_weather(&self) -> Result<(), Failure> {
        match self.relay.carries() {
            true => Ok(()),
            false => {
                let what = "the parts of this playground reach each other without its relay (--direct)";
                Err(Failure::usage(what).next("start it without `--direct`"))
            }
        }
    }

    /// All links carry again, as fast as they can.
    pub fn heal(&self) {
        self.relay.heal();
    }

    /// What a part says of itself; `None` when it does not answer.
    pub fn status(&self, place: usize) -> Option<Value> {
        self.pid(place)?;
        let mut client = Client::connect_for(&self.parts.get(place)?.socket, ANSWERS).ok()?;
        client.ask(&Request::Status).ok().and_then(|answer| answer.get("status").cloned())
    }

    /// Which part may act as master now, as it says itself.
    pub fn master(&self) -> Option<usize> {
        (0..self.parts.len()).find(|place| {
            self.status(*place).is_some_and(|status| status.get("role") == Some(&Value::from("master")))
        })
    }

    fn signal(&self, place: usize, signal: Signal) {
        let pid = self.pid(place).and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for place in 0..self.parts.len() {
            self.resume(place);
            self.signal(place, Signal::INT);
        }
        let begun = Instant::now();
        for child in self.children.iter_mut().flatten() {
            while matches!(child.try_wait(), Ok(None)) && begun.elapsed() < END_MAX {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
