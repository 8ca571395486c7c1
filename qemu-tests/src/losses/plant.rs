//! Two nodes, a witness and guests on this machine's own KVM: a playground that is hurt and repaired, and
//! that does not outlive who has it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bulkhead::cluster::client::Client;
use bulkhead::cluster::request::Request;
use bulkhead::cluster::status::Status;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::fault::{Fault, Kind, Lost, Node};
use crate::process::{Owned, Run};

/// The guests, and what follows when one is to run and does not. The second has a snapshot that is older
/// than its disk from its first write on: who begins it must not go on from there.
pub const GUESTS: [(&str, &str); 2] = [("anew", "restart"), ("last", "resume")];
/// Two agents and a witness come to agree within this time, on a machine that does ten other things.
const BEGINS: Duration = Duration::from_secs(60);
/// A status that does not come within this time does not come: whoever asks watches guests meanwhile.
const ANSWERS: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);

/// A playground with guests.
#[derive(Debug)]
pub struct Plant {
    bulkhead: PathBuf,
    directory: PathBuf,
    agents: Owned,
}

impl Plant {
    /// Starts it below `directory`, with the guests of [`GUESTS`], which run `kernel`.
    ///
    /// # Errors
    /// When it does not come to run.
    pub fn start(bulkhead: &Path, kernel: &Path, directory: &Path) -> Result<Self> {
        let mut command = Command::new(bulkhead);
        command.args(["playground", "run", "--volumes", "--json", "--dir"]).arg(directory);
        let agents = Owned::start(&command, [Stdio::null(), Stdio::null(), Stdio::null()])?;
        let this = Self { bulkhead: bulkhead.to_owned(), directory: directory.to_owned(), agents };
        let leads = this.leads()?;
        for (name, policy) in GUESTS {
            this.tool(leads, &["volume", "create", name, "--size", "1MiB"]).succeed()?;
            let described = directory.join(format!("{name}.toml"));
            let text = format!(
                "version = 1\nname = \"{name}\"\nprocessors = 1\nmemory = \"16MiB\"\nkernel = \"{}\"\n\
                 [[disk]]\nvolume = \"{name}\"\n[failover]\npolicy = \"{policy}\"\n",
                kernel.display()
            );
            std::fs::write(&described, text)?;
            this.tool(leads, &["vm", "create"]).arg(&described).succeed()?;
            this.tool(leads, &["vm", "start", name]).succeed()?;
            if policy == "resume" {
                this.tool(leads, &["vm", "snapshot", name]).succeed()?;
            }
        }
        Ok(this)
    }

    /// The node that leads, once all is in sync.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn leads(&self) -> Result<Node> {
        let begun = Instant::now();
        while begun.elapsed() < BEGINS {
            let is_whole = |status: &Status| status.protected;
            let said = Node::ALL.map(|node| self.status(node));
            let leads = |node: &Node| node.of(&said).as_ref().is_some_and(leads);
            if said.iter().flatten().filter(|status| is_whole(status)).count() == said.len()
                && let Some(node) = Node::ALL.into_iter().find(leads)
            {
                return Ok(node);
            }
            std::thread::sleep(POLL);
        }
        bail!("the playground is not in sync within {BEGINS:?}; its logs are in {}", self.directory.display())
    }

    /// A command of an operator on a node.
    #[must_use]
    pub fn tool(&self, node: Node, words: &[&str]) -> Run {
        let run = Run::new(&self.bulkhead).args(words);
        let run = run.env("BULKHEAD_SOCKET", self.directory.join(format!("{}.sock", node.name())));
        run.env("BULKHEAD_GUESTS", self.state(node).join("guests"))
    }

    /// What the agent of a node says; `None` when it does not answer.
    #[must_use]
    pub fn status(&self, node: Node) -> Option<Status> {
        let socket = self.directory.join(format!("{}.sock", node.name()));
        Client::connect_for(&socket, ANSWERS).ok()?.ask_for(&Request::Status, "status").ok()
    }

    /// Who decides which node leads the volumes, if events of a node say so that are newer than the one with
    /// the number `after`; and the number of the newest. The status says it of the pair's master alone.
    #[must_use]
    pub fn voters(&self, node: Node, after: u64) -> (u64, Option<Vec<u16>>) {
        let socket = self.directory.join(format!("{}.sock", node.name()));
        let ask = || {
            Client::connect_for(&socket, ANSWERS).ok()?.ask(&Request::Events { after, follow: false }).ok()
        };
        let answer = ask().unwrap_or_default();
        let events = answer.get("events").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let newest = events.last().and_then(|event| event.get("seq")?.as_u64()).unwrap_or(after);
        let is_it = |event: &&Value| {
            let is = |key: &str, word: &str| event.get(key).is_some_and(|found| found == word);
            is("kind", "voters") && is("office", "storage")
        };
        let voters = events.iter().rev().find(is_it).and_then(|event| event.get("voters")?.as_array());
        let number = |voter: &Value| u16::try_from(voter.as_u64()?).ok();
        (newest, voters.map(|voters| voters.iter().filter_map(number).collect()))
    }

    /// Where a guest's files are on a node.
    #[must_use]
    pub fn guest(&self, node: Node, name: &str) -> PathBuf {
        self.state(node).join("guests").join(name)
    }

    /// What was printed last by the agent of a node.
    #[must_use]
    pub fn tail(&self, node: Node, lines: usize) -> String {
        let log = self.directory.join(format!("{}.log", node.name()));
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let all: Vec<_> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }

    fn state(&self, node: Node) -> PathBuf {
        self.directory.join(node.name())
    }

    /// Something is lost.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn strike(&self, fault: Fault) -> Result<()> {
        let node = fault.node.name();
        match fault.kind {
            Kind::Guests => self.kill("", &["vmm"]),
            Kind::Agent => self.fault(&["kill", node])?,
            Kind::Power => {
                self.kill(node, &["agent", "vmm"]);
                // What its agent began in its last moment is gone with it.
                self.fault(&["kill", node])?;
                self.kill(node, &["vmm"]);
            }
            Kind::Sleep => self.fault(&["pause", node])?,
            Kind::Store => self.empty_store(fault.node)?,
            Kind::Witness => self.fault(&["kill", "witness"])?,
            Kind::Link | Kind::WitnessLink | Kind::Alone => {
                for (one, other) in fault.links() {
                    self.fault(&["cut", one.name(), other.name()])?;
                }
            }
        }
        Ok(())
    }

    /// What was lost is there again; `lost` is what still is not.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn repair(&self, fault: Fault, lost: &Lost) -> Result<()> {
        match fault.kind {
            Kind::Guests | Kind::Store => {}
            Kind::Agent | Kind::Power => self.fault(&["start", fault.node.name()])?,
            Kind::Sleep => self.fault(&["resume", fault.node.name()])?,
            Kind::Witness => self.fault(&["start", "witness"])?,
            Kind::Link | Kind::WitnessLink | Kind::Alone => {
                for (one, other) in fault.links() {
                    if !lost.is_cut(one, other) {
                        self.fault(&["heal", one.name(), other.name()])?;
                    }
                }
            }
        }
        Ok(())
    }

    fn fault(&self, words: &[&str]) -> Result<()> {
        let run = Run::new(&self.bulkhead).args(["playground", "fault"]).args(words);
        run.arg("--dir").arg(&self.directory).succeed().map(drop)
    }

    /// Cuts the files of a node's store to nothing, as they are used; the other node mends them.
    fn empty_store(&self, node: Node) -> Result<()> {
        let mut emptied = 0;
        for entry in std::fs::read_dir(self.state(node).join("volumes"))? {
            let entry = entry?;
            // Beside each there are its checksums.
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.strip_prefix("volume-").is_some_and(|number| number.parse::<u32>().is_ok()) {
                let file = std::fs::OpenOptions::new().write(true).open(entry.path())?;
                let bytes = file.metadata()?.len();
                // Its size is as it was: holes are where its content was.
                file.set_len(0)?;
                file.set_len(bytes)?;
                emptied += 1;
            }
        }
        ensure!(0 < emptied, "{} has no volumes", node.name());
        self.tool(node, &["volume", "scrub", "--wait"]).succeed().map(drop)
    }

    /// Ends the processes of these commands that have a path of this node, or of any, in their arguments.
    fn kill(&self, node: &str, commands: &[&str]) {
        let own = self.directory.join(node);
        let own = own.as_os_str().as_encoded_bytes();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let mut words = words.split(|byte| *byte == 0);
            let is_theirs =
                words.nth(1).is_some_and(|word| commands.iter().any(|one| one.as_bytes() == word))
                    && words.any(|word| word.starts_with(own));
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid.filter(|_| is_theirs).and_then(Pid::from_raw) {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Whether a node leads the volumes, as it says.
#[must_use]
pub fn leads(status: &Status) -> bool {
    status.storage.as_ref().is_some_and(|storage| storage.leads)
}

impl Drop for Plant {
    fn drop(&mut self) {
        self.agents.kill();
        // Guests outlive their agents, and what such an agent began in its last moment does.
        for _ in 0..2 {
            self.kill("", &["agent", "witness", "vmm"]);
        }
    }
}
