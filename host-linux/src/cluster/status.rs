//! How things are, as `bulkhead status --json` says it. docs/status.md documents every field; fields are
//! added, never renamed (BLACKBOX 3).

use crate::alerts::raised::Alert;
use crate::mirror::view::View;
use serde::{Deserialize, Serialize};
use std::num::{NonZeroU16, NonZeroU32};

/// The version of this structure: raised when a field changes its meaning.
pub const API_VERSION: &str = "bulkhead.status/1";

/// How things are, seen by one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// [`API_VERSION`].
    pub api_version: String,
    /// Of the agent.
    pub version: String,
    /// Whether any one part may fail now and the site goes on.
    pub protected: bool,
    /// The answer to "is everything protected, and if not what and why", in one line.
    pub summary: String,
    /// `ok`, `warning` (it works, and is not protected) or `critical` (nobody may act).
    pub state: State,
    /// The site.
    pub site: Site,
    /// This node.
    pub node: NodeName,
    /// Its role: `stopped`, `starting`, `slave`, `contending`, `master`, or `witness`.
    pub role: String,
    /// The epoch it acts under, or last heard of; 0: none.
    pub epoch: u64,
    /// How long it may still act without renewing, in milliseconds; `null` when it holds nothing.
    pub lease_left_ms: Option<u64>,
    /// Why it has this role, in plain words.
    pub reason: String,
    /// The pairs of compartments this node knows about.
    pub pairs: Vec<Pair>,
    /// The designated controller.
    pub controller: Controller,
    /// Its vote.
    pub voter: Voter,
    /// The boot profile it chose, and why; `null` before it chose.
    pub profile: Option<Profile>,
    /// The infrastructure resources of this node.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// The mirror group of its pair; `null` when it has no log.
    #[serde(default)]
    pub storage: Option<View>,
    /// The guests of its pair, on the node that leads their volumes.
    #[serde(default)]
    pub guests: Vec<Guest>,
    /// What is wrong and stays so, as this node sees it, the gravest first.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// Everybody, in the order of the configuration.
    pub nodes: Vec<Node>,
    /// What would happen if one part failed now.
    pub outlook: Vec<Outlook>,
    /// How long a takeover takes at most, in milliseconds.
    #[serde(default)]
    pub takeover_ms: u64,
    /// What the agent could not get from the system.
    pub lacks: Vec<Lacking>,
    /// The last error, in plain words; kept after it is over.
    pub last_error: Option<String>,
    /// What was lost or refused, counted since the start.
    pub counters: Counters,
    /// Milliseconds since the agent started.
    pub uptime_ms: u64,
}

/// The answer in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Any one part may fail.
    Ok,
    /// It works, but the loss of one more part would stop it.
    Warning,
    /// Nobody may act.
    Critical,
}

/// The site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Site {
    /// Its identity.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Of what its nodes must agree on.
    pub digest: String,
}

/// A node's identity and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeName {
    /// Its identity.
    pub id: u16,
    /// Its name.
    pub name: String,
}

/// A pair of compartments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// Its number.
    pub pair: u16,
    /// The node that is master; `null` when this node knows of none.
    pub master: Option<NodeName>,
    /// Under which epoch; 0: none.
    pub epoch: u64,
    /// Who votes on its register now: the configured voters, or fewer while some are lost (X04).
    pub voters: Vec<u16>,
    /// Those of them whose votes do not count yet: they are new, or lost their disk, and the record does not
    /// name the life of their state.
    pub uncounted: Vec<u16>,
    /// Whether they are not the configured ones.
    pub reduced: bool,
}

/// The designated controller (S2-03).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Controller {
    /// Which node; `null` when this node knows of none.
    pub node: Option<NodeName>,
    /// Under which epoch; 0: none.
    pub epoch: u64,
    /// How long it may still decide without renewing, when it is this node.
    pub lease_left_ms: Option<u64>,
    /// Why, in plain words.
    pub reason: String,
}

/// This node's vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Voter {
    /// `none` (it has no vote), `voting`, or `failed` (its disk failed; silent until it is replaced).
    pub mode: String,
    /// The life of its state: another one after its disk was lost. 0: it has no vote.
    pub life: u32,
    /// Questions dropped because answers waited for the disk.
    pub dropped: u32,
}

/// A boot profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The row of the table that fired.
    pub row: u8,
    /// What it starts.
    pub start: String,
    /// Why, in plain words.
    pub reason: String,
}

/// An infrastructure resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// `infrastructure` or `management`.
    pub on: String,
    /// `unknown`, `stopped`, `starting`, `running`, `stopping`, `waiting` (it is tried again), `given-up` (an
    /// operator must look) or `stuck` (it could not be stopped).
    pub state: String,
    /// Failures in a row.
    pub failures: u8,
    /// Its last failure, in words; kept after it is over.
    pub why: String,
}

/// A guest of the pair, as the node knows it that leads its volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// `unseen`, `off` (it is not to run), `down` (its turn comes), `starting`, `running`, `waiting` (it
    /// failed, and is tried again), `left` (an operator is to start it) or `adrift` (it was given to another
    /// pair, and was not heard to run there).
    pub state: String,
    /// Those with a higher one begin first.
    pub priority: u8,
    /// Failures in a row.
    pub failures: u8,
    /// Its last failure, in words; kept until it runs.
    pub why: String,
    /// It runs, and its heartbeat has been lost for so many milliseconds (S3-03).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_ms: Option<u64>,
}

/// A node or a witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its identity.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Whether it only votes.
    pub witness: bool,
    /// Its pair; `null` for a witness.
    pub pair: Option<u16>,
    /// `a` or `b`; `null` for a witness.
    pub side: Option<String>,
    /// Whether it is a configured voter.
    pub voter: bool,
    /// `self`, `unknown` (not heard of yet), `up`, `slow`, `silent`, or `left`.
    pub verdict: String,
    /// How its site file compares with this node's: `same`, `differs`, `other-voters`; `null` before it told.
    #[serde(default)]
    pub configuration: Option<String>,
    /// What it has for guests; absent: nobody counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Room>,
    /// The role it says it has; `unknown` when it said nothing.
    pub role: String,
    /// The two networks; empty for this node.
    pub paths: Vec<PathState>,
    /// How often it became silent since this agent started.
    pub silences: u32,
    /// How a witness is, as it says itself; `null` for others, and before it said so.
    #[serde(default)]
    pub health: Option<Health>,
}

/// What a node has for guests; absent: as much as they want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// MiB of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<NonZeroU32>,
    /// Processors of guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processors: Option<NonZeroU16>,
}

/// How a witness is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Whether it votes: its card or disk has not failed.
    pub votes: bool,
    /// How often it started, ever; 0: nobody counts.
    pub starts: u32,
    /// Failures of its program (panics, faults) since its power came.
    pub failures: u16,
    /// Starts that ended without a word since its power came: as a rule by its watchdog.
    pub silent_resets: u16,
    /// The two counts became more within the last day, while this agent listened.
    pub failing: bool,
    /// Votes written since its start.
    pub votes_written: u32,
    /// Milliseconds since its start.
    pub uptime_ms: u64,
    /// Milliseconds since it said so; 0 for this node itself.
    pub heard_ms: u64,
}

/// One network to one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathState {
    /// 1 or 2.
    pub network: u8,
    /// Milliseconds since anything was heard on it; `null`: never.
    pub heard_ms: Option<u64>,
    /// Smoothed round trip in microseconds.
    pub round_trip_us: Option<u64>,
    /// Heartbeats lost, in thousandths of the last 64.
    pub loss_permille: u32,
    /// Whether it was heard within the limit for silence.
    pub alive: bool,
}

/// What would happen if a part failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// A node's name, or `network 1`, `network 2`.
    pub part: String,
    /// Whether the site would go on.
    pub survives: bool,
    /// What would happen, in plain words.
    pub then: String,
}

/// Something the agent did not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lacking {
    /// In one word.
    pub what: String,
    /// What it means and how to get it.
    pub why: String,
}

/// What was lost or refused, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Datagrams received on both networks.
    pub received: u64,
    /// Datagrams sent on both networks.
    pub sent: u64,
    /// Bytes sent on both networks.
    pub bytes_sent: u64,
    /// Datagrams the system did not take.
    pub unsent: u64,
    /// Datagrams longer than any of ours.
    pub oversize: u64,
    /// Datagrams of another site, for another node, or of a node that is no member.
    pub foreign: u64,
    /// Datagrams that were not authentic.
    pub not_authentic: u64,
    /// Datagrams that came again: the other copy, as a rule.
    pub repeated: u64,
    /// Datagrams that made no sense.
    pub malformed: u64,
    /// Datagrams of peers that speak no common version.
    pub no_common_version: u64,
}

impl Status {
    /// The node of this identity.
    #[must_use]
    pub fn find(&self, id: u16) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The node that says so.
    #[must_use]
    pub fn me(&self) -> Option<&Node> {
        self.find(self.node.id)
    }

    /// What a node is called.
    #[must_use]
    pub fn name_of(&self, id: u16) -> String {
        self.find(id).map_or_else(|| format!("node {id}"), |node| node.name.clone())
    }

    /// The Nagios word and exit code.
    pub const fn nagios(&self) -> (&'static str, u8) {
        match self.state {
            State::Ok => ("OK", 0),
            State::Warning => ("WARNING", 1),
            State::Critical => ("CRITICAL", 2),
        }
    }
}
