//! Two agents as processes of this machine and the firmware witness in QEMU: `bulkhead playground` with a
//! board.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::board::{Parts, Wire};
use super::device::Device;
use super::playground;
use super::tap::{Tap, free_ports};
use crate::artefacts::Artefacts;
use crate::lab::Lab;
use crate::limit::Permit;
use crate::process::Owned;

/// Longer than any takeover on a machine that does ten other things.
const LONG: Duration = Duration::from_secs(60);
/// From one look at a status to the next.
const POLL: Duration = Duration::from_millis(50);

/// A cluster. Dropping it ends it.
#[derive(Debug)]
pub struct Cluster<'a> {
    lab: &'a Lab,
    directory: PathBuf,
    /// On the way from the agents to the witness.
    pub tap: Tap,
    /// The witness.
    pub device: Device,
    _playground: Owned,
    /// The playground would end if nobody held the other end.
    _told: BufReader<ChildStdout>,
}

impl<'a> Cluster<'a> {
    /// Starts both agents, and waits until one of them is master; the witness is off.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start(artefacts: &Artefacts, lab: &'a Lab, elf: &Path) -> Result<Self> {
        Self::start_among(artefacts, lab, elf, 0)
    }

    /// The same with a card that names so many more pairs, of nodes that are not there.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_among(artefacts: &Artefacts, lab: &'a Lab, elf: &Path, more_pairs: u16) -> Result<Self> {
        let permit = Arc::new(Permit::take(1)?);
        let (ports, directory) = (free_ports()?, artefacts.path("playground"));
        let tap = Tap::start(ports)?;
        let [one, two] = tap.entrances;
        let mut command = Command::new(&lab.bulkhead);
        command.args(["playground", "run", "--json", "--dir"]).arg(&directory);
        command.args(["--witness", &format!("{one},{two}")]);
        let errors = std::fs::File::create(artefacts.path("playground.stderr"))?;
        let mut process = Owned::start(&command, [Stdio::null(), Stdio::piped(), errors.into()])?;
        let mut told = BufReader::new(process.stdout().context("the playground has no output")?);
        let mut line = String::new();
        told.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the playground ended");
        let card = artefacts.path("witness.card");
        playground::card(lab, &directory, &card, more_pairs)?;
        let wire = Wire::User(ports);
        let parts = Parts {
            elf: elf.into(),
            card: Some(card),
            strip: None,
            wire,
            control: artefacts.socket("w.qmp"),
        };
        let device = Device::new(parts, &permit);
        Ok(Self { lab, directory, tap, device, _playground: process, _told: told })
    }

    /// The card's image.
    pub fn card(&self) -> &Path {
        self.device.parts().card.as_deref().unwrap_or(Path::new(""))
    }

    /// Hurts a part, or repairs it: `bulkhead playground fault`.
    ///
    /// # Errors
    /// When it is refused.
    pub fn fault(&self, words: &[&str]) -> Result<()> {
        let run = self.lab.tool(["playground", "fault"]).args(words).arg("--dir").arg(&self.directory);
        run.succeed().map(drop)
    }

    /// Runs a command against the agent of a part.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run(&self, part: &str, words: &[&str]) -> Result<crate::process::Output> {
        let socket = self.directory.join(format!("{part}.sock"));
        self.lab.tool(words).arg("--socket").arg(socket).output()
    }

    /// What a part says of itself; `None` while it does not answer.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn status(&self, part: &str) -> Result<Option<Value>> {
        let output = self.run(part, &["status", "--json"])?;
        let json: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        Ok(json.and_then(|json| json.get("status").cloned()))
    }

    /// Waits until the status of a part is as wanted.
    ///
    /// # Errors
    /// When it is not for a long time; shows the last one and what the witness logged.
    pub fn wait(&self, part: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let begin = Instant::now();
        let mut last = None;
        while begin.elapsed() < LONG {
            if let Some(status) = self.status(part)? {
                if wanted(&status) {
                    return Ok(status);
                }
                last = Some(status);
            }
            std::thread::sleep(POLL);
        }
        let log = self.device.lines().join("\n");
        let last = last.map_or_else(|| "no status".into(), |status| format!("{status:#}"));
        bail!("{part}: not within {LONG:?}: {what}\n{last}\nthe witness:\n{log}")
    }

    /// Waits until any part may fail, as both nodes see it.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_protected(&self) -> Result<()> {
        for part in ["a1", "b1"] {
            self.wait(part, "everything is protected", |status| {
                status.get("protected") == Some(&Value::Bool(true))
            })?;
        }
        Ok(())
    }

    /// Waits until one of the two is master and the other one its slave: both, in this order.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_master(&self) -> Result<[&'static str; 2]> {
        let role = |status: &Value| status.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
        let status =
            self.wait("a1", "one is master", |status| matches!(&*role(status), "master" | "slave"))?;
        let order = if role(&status) == "master" { ["a1", "b1"] } else { ["b1", "a1"] };
        for (part, wanted) in order.into_iter().zip(["master", "slave"]) {
            self.wait(part, wanted, |status| role(status) == wanted)?;
        }
        Ok(order)
    }

    /// Everything that happened on a part since its agent started.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn events(&self, part: &str) -> Result<Vec<Value>> {
        let output = self.run(part, &["events", "--json"])?;
        let mut json: Value = serde_json::from_slice(&output.stdout)?;
        Ok(serde_json::from_value(json.get_mut("events").map(Value::take).unwrap_or_default())?)
    }
}
