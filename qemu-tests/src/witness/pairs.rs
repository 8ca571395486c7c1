//! Several pairs of agents as processes of this machine, and one board in QEMU that votes for all of them
//! (S1-21, X03).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bulkhead_core::id::NodeId;
use serde_json::Value;

use super::board::{Parts, Wire};
use super::device::Device;
use super::layout::Layout;
use super::tap::free_ports;
use crate::artefacts::Artefacts;
use crate::lab::Lab;
use crate::limit::Permit;
use crate::process::Owned;

/// Longer than any takeover on a machine that does ten other things.
const LONG: Duration = Duration::from_secs(60);
/// From one look at a status to the next.
const POLL: Duration = Duration::from_millis(50);

/// The agents and the witness. Dropping it ends them.
#[derive(Debug)]
pub struct Pairs<'a> {
    lab: &'a Lab,
    directory: PathBuf,
    layout: Layout,
    /// Where this machine reaches the witness.
    outside: [u16; 2],
    /// The agents that run, by their node's number.
    agents: BTreeMap<u16, Owned>,
    /// The witness of all pairs; off at first.
    pub device: Device,
}

impl<'a> Pairs<'a> {
    /// Starts the agents of so many pairs: nodes 1 and 2 are pair 1, and so on.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start(artefacts: &Artefacts, lab: &'a Lab, elf: &Path, pairs: u16) -> Result<Self> {
        let permit = Arc::new(Permit::take(1)?);
        let (directory, outside) = (artefacts.path("pairs"), free_ports()?);
        let (layout, sockets) = Layout::new(lab, directory.clone(), pairs, "default")?;
        drop(sockets);
        let card = artefacts.path("witness.card");
        layout.provision(lab, &card)?;
        let (wire, control) = (Wire::User(outside), artefacts.socket("w.qmp"));
        let parts = Parts { elf: elf.into(), card: Some(card), strip: None, wire, control };
        let device = Device::new(parts, &permit);
        let mut site = Self { lab, directory, layout, outside, agents: BTreeMap::new(), device };
        (1..=pairs * 2).try_for_each(|node| site.launch(node)).map(|()| site)
    }

    /// The card's image.
    pub fn card(&self) -> &Path {
        self.device.parts().card.as_deref().unwrap_or(Path::new(""))
    }

    /// Starts the agent of a node.
    ///
    /// # Errors
    /// When it runs, or cannot be started.
    pub fn launch(&mut self, node: u16) -> Result<()> {
        ensure!(!self.agents.contains_key(&node), "node {node} runs");
        let mut command = Command::new(&self.lab.bulkhead);
        command.args(["agent", "--config"]).arg(self.layout.file(NodeId(node), self.outside)?);
        let errors = File::options().create(true).append(true).open(self.log(node))?;
        self.agents.insert(node, Owned::start(&command, [Stdio::null(), Stdio::null(), errors.into()])?);
        Ok(())
    }

    /// Kills the agent of a node.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, node: u16) -> Result<()> {
        self.agents.remove(&node).map(|mut agent| agent.kill()).with_context(|| format!("node {node} is off"))
    }

    /// What a node says of itself; `None` while it does not answer.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn status(&self, node: u16) -> Result<Option<Value>> {
        let output = self.run(node, &["status", "--json"])?;
        let json: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        Ok(json.and_then(|json| json.get("status").cloned()))
    }

    /// Runs a command against the agent of a node.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run(&self, node: u16, words: &[&str]) -> Result<crate::process::Output> {
        self.lab.tool(words).arg("--socket").arg(self.layout.socket(NodeId(node))).output()
    }

    /// Waits until the status of a node is as wanted.
    ///
    /// # Errors
    /// When it is not for a long time; shows the last one and what all logged.
    pub fn wait(&self, node: u16, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let begin = Instant::now();
        let mut last = None;
        while begin.elapsed() < LONG {
            if let Some(status) = self.status(node)? {
                if wanted(&status) {
                    return Ok(status);
                }
                last = Some(status);
            }
            std::thread::sleep(POLL);
        }
        let last = last.map_or_else(|| "no status".into(), |status| format!("{status:#}"));
        let (log, witness) =
            (fs::read_to_string(self.log(node)).unwrap_or_default(), self.device.lines().join("\n"));
        bail!("node {node}: not within {LONG:?}: {what}\n{last}\nits log:\n{log}\nthe witness:\n{witness}")
    }

    /// Waits until one node of a pair is master and the other one its slave: both, in this order.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_master(&self, pair: u16) -> Result<[u16; 2]> {
        let [a, b] = [pair * 2 - 1, pair * 2];
        let role = |status: &Value| status.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
        let status = self.wait(a, "one is master", |status| matches!(&*role(status), "master" | "slave"))?;
        let order = if role(&status) == "master" { [a, b] } else { [b, a] };
        for (node, wanted) in order.into_iter().zip(["master", "slave"]) {
            self.wait(node, wanted, |status| role(status) == wanted)?;
        }
        Ok(order)
    }

    /// How often the infra instance of a node became master since its agent started.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn times_master(&self, node: u16) -> Result<usize> {
        let output = self.run(node, &["events", "--json"])?;
        let json: Value = serde_json::from_slice(&output.stdout)?;
        let events = json.get("events").and_then(Value::as_array).context("no events")?;
        let is = |event: &Value, key: &str, word: &str| event.get(key).is_some_and(|found| found == word);
        let won = events.iter().filter(|event| {
            is(event, "kind", "role") && is(event, "office", "infra") && is(event, "role", "master")
        });
        Ok(won.count())
    }

    fn log(&self, node: u16) -> PathBuf {
        self.directory.join(format!("{node}.log"))
    }
}
