//! What the agent says about itself, for `bulkhead status`: `agent.status.json` in its state
//! directory, replaced as a whole.

use super::health::Outcome;
use super::settings::Identity;
use bulkhead_core::boot::operations::Running;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Name of the file in the state directory.
pub const FILE: &str = "agent.status.json";

/// The agent's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's process.
    pub pid: u32,
    /// Whether it runs; `false` after a clean stop.
    pub running: bool,
    /// When this was written, in seconds since 1970.
    pub updated_s: u64,
    /// The node's name.
    pub node: String,
    /// The slot the node runs from.
    pub slot: String,
    /// The boot it runs in.
    pub boot: String,
    /// What the slot is: empty, candidate, confirmed, bad, unknown.
    pub slot_state: String,
    /// The disk it booted from.
    pub disk: String,
    /// `ok`, `failed`, or `unknown` before the first round.
    pub health: String,
    /// The check that failed last, and why; kept after it passes again.
    pub last_error: Option<String>,
}

impl Status {
    /// The state before the first round.
    pub fn new(identity: &Identity, running: Running, disk: &Path) -> Self {
        Self {
            pid: std::process::id(),
            running: true,
            updated_s: 0,
            node: identity.name().to_owned(),
            slot: running.slot.to_string(),
            boot: running.boot.to_string(),
            slot_state: "unknown".into(),
            disk: disk.display().to_string(),
            health: "unknown".into(),
            last_error: None,
        }
    }

    /// Takes in the outcome of a round.
    pub fn update(&mut self, directory: &Path, slot_state: Option<&'static str>, outcome: &Outcome) {
        slot_state.unwrap_or("unknown").clone_into(&mut self.slot_state);
        match outcome {
            Outcome::Healthy { .. } => self.health = "ok".into(),
            Outcome::Failed { check, why } => {
                self.health = "failed".into();
                self.last_error = Some(format!("{check}: {why}"));
            }
            Outcome::Stopped => {}
        }
        self.write(directory);
    }

    /// The agent stopped cleanly.
    pub fn stopped(&mut self, directory: &Path) {
        self.running = false;
        self.write(directory);
    }

    /// A status that cannot be written is no reason to stop; the health check of the state
    /// directory says so.
    fn write(&mut self, directory: &Path) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.updated_s = now.as_secs();
        let partial = directory.join("agent.status.partial");
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let written = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&partial, text));
        let _ = written.and_then(|()| std::fs::rename(&partial, directory.join(FILE)));
    }
}
