//! How a mirror group is, seen by one of its holders: what the group tells the commands, the status and a
//! monitoring system (S4-10, X14). docs/volumes.md documents every field; fields are added, never renamed.

use crate::failover::wanted::Wanted;
use crate::output::size;
use crate::volume::catalogue::bytes;
use bulkhead_core::cache::residents;
use bulkhead_core::mirror::membership;
use bulkhead_core::volume::record::Record;
use serde::{Deserialize, Serialize};

/// How a mirror group is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// What this holder does.
    pub mode: Mode,
    /// How the group is, as far as this holder knows.
    pub state: State,
    /// Under which it leads or follows; 0: neither yet.
    pub epoch: u64,
    /// Whether this node leads, and its lease holds now.
    pub leads: bool,
    /// The node that leads; `None` when this one knows of none.
    pub primary: Option<u16>,
    /// Why this holder does not lead where nobody does, and what would change it.
    pub waits: Option<String>,
    /// When writes are to be acknowledged, of volumes without a policy of their own.
    pub wanted: Policy,
    /// When they are acknowledged now: without a second holder in sync always [`Policy::Through`] (S4-08).
    pub policy: Policy,
    /// The holders, this one among them, in the order of their nodes.
    pub holders: Vec<HolderView>,
    /// Who votes now on who leads: it need not be who votes on the pair's master, once one was lost (X04).
    #[serde(default)]
    pub voters: Vec<u16>,
    /// Those of them whose votes do not count yet.
    #[serde(default)]
    pub uncounted: Vec<u16>,
    /// This holder's log.
    pub log: LogView,
    /// Bytes that are in the log and not yet in the backing store of this holder.
    pub dirty_bytes: u64,
    /// Whether a fill of this holder's store was begun and has not ended: it has parts of two times.
    #[serde(default)]
    pub part_filled: bool,
    /// Why this holder's store takes nothing now: it is full. The log goes on as long as it has room; then
    /// guests' writes wait, or, if this holder follows, it is left behind.
    #[serde(default)]
    pub full: Option<String>,
    /// The search for damage in this holder's store.
    #[serde(default)]
    pub scrub: ScrubView,
    /// Bytes that were acknowledged and are in one place only: what the loss of this node for good would lose
    /// at most (X11). `None`: only the node that leads knows.
    pub at_risk_bytes: Option<u64>,
    /// More is not acknowledged: guests wait instead. `None`: there is no bound.
    pub at_risk_max: Option<u64>,
    /// Guests' writes that wait because of it.
    pub held_writes: u64,
    /// What this holder has for writes on their way.
    pub memory: MemoryView,
    /// What this node has for what is read, and how well that goes (S4-02).
    #[serde(default)]
    pub cache: CacheView,
    /// What this holder takes of its node.
    #[serde(default)]
    pub placeholder: PlaceholderView,
    /// How long guests' writes take, while this node leads.
    pub writes: Latency,
    /// How long their reads take.
    #[serde(default)]
    pub reads: Latency,
    /// The volumes of the group.
    pub volumes: Vec<VolumeView>,
    /// The last error, in plain words; kept after it is over.
    pub last_error: Option<String>,
}

impl View {
    /// How the group of this pair is, in one line for people.
    #[must_use]
    pub fn line(&self, pair: u16, name_of: impl Fn(u16) -> String) -> String {
        let in_sync = self.holders.iter().filter(|holder| holder.in_sync).count();
        let state = match self.state {
            State::Synced => "synced: any one holder may be lost",
            State::Degraded if 1 < in_sync => "DEGRADED: a holder is away",
            State::Degraded => "DEGRADED: what is written is in one place only",
            State::Resyncing => "resyncing: a holder is being brought up to date",
            State::Stale => "STALE: this node missed writes, and nobody feeds it",
            State::Waiting => "WAITING: nobody leads, clients wait",
            State::Failed => "FAILED: the disk of this node's log or store failed",
        };
        let leads = self.primary.map_or_else(String::new, |node| format!("; {} leads", name_of(node)));
        let epoch = if self.epoch == 0 { String::new() } else { format!(", epoch {}", self.epoch) };
        let risk = self.at_risk_bytes.filter(|bytes| *bytes != 0);
        let mut risk = risk.map_or_else(String::new, |bytes| format!("; {} at risk", size(bytes)));
        if let (Some(max), true) = (self.at_risk_max, self.held_writes != 0) {
            let held = self.held_writes;
            risk = format!("{risk}; {held} WRITES WAIT, for no more than {} may be at risk", size(max));
        }
        let removed = self.holders.iter().filter(|holder| holder.removed).map(|holder| {
            let name = name_of(holder.node);
            format!("; {name} was taken out: `bulkhead volume secondary add {name}` takes it in again")
        });
        let removed: String = removed.collect();
        let waits = self.waits.as_ref().map_or_else(String::new, |why| format!("; {why}"));
        let damaged = match self.scrub.damaged_blocks {
            0 => String::new(),
            count => format!("; {count} BLOCKS ARE DAMAGED in this node's store, and nobody can mend them"),
        };
        let full = self.full.as_ref().map_or_else(String::new, |why| {
            let free = size(self.log.free_bytes);
            format!("; THE STORE OF THIS NODE IS FULL ({why}), its log has room for {free}")
        });
        format!("pair {pair} is {state}{leads}{epoch}{risk}{full}{damaged}{removed}{waits}")
    }
}

/// What a holder does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Its log is being opened.
    #[default]
    Opening,
    /// Its log lacks writes that were durable in it; a primary must feed it.
    Damaged,
    /// Its log is being made anew, for a primary to feed.
    Remaking,
    /// It takes what a primary feeds it, or waits for one.
    Following,
    /// It has the register, and makes its log durable before it leads.
    Taking,
    /// It takes guests' writes.
    Leading,
    /// Its disk failed.
    Failed,
}

/// How a group is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Every holder has every acknowledged write: any one may be lost.
    Synced,
    /// A holder is away: guests go on in write-through, and what they write is in one place only.
    Degraded,
    /// A holder that was away is being brought up to date.
    Resyncing,
    /// This holder missed writes, and nobody feeds it.
    Stale,
    /// Nobody leads: guests wait. [`View::waits`] says what for.
    #[default]
    Waiting,
    /// The disk of this holder failed: it holds nothing any more.
    Failed,
}

/// When a write is acknowledged, once every holder in sync has it in its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// When it is in the backing store, too.
    #[default]
    Through,
    /// At once.
    Back,
}

impl Policy {
    /// The later of two: what both let happen.
    #[must_use]
    pub const fn but(self, other: Self) -> Self {
        match (self, other) {
            (Self::Back, Self::Back) => Self::Back,
            (Self::Through, _) | (_, Self::Through) => Self::Through,
        }
    }
}

impl From<membership::Policy> for Policy {
    fn from(policy: membership::Policy) -> Self {
        match policy {
            membership::Policy::Through => Self::Through,
            membership::Policy::Back => Self::Back,
        }
    }
}

impl From<Policy> for membership::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Through => Self::Through,
            Policy::Back => Self::Back,
        }
    }
}

/// One holder of a group, as this one knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HolderView {
    /// Its node.
    pub node: u16,
    /// Whether it has every acknowledged write: a member of the newest in-sync set.
    pub in_sync: bool,
    /// Whether there is a stream to it; always so for this node.
    pub connected: bool,
    /// Whether that is encrypted; `None` without one, and for this node.
    pub encrypted: Option<bool>,
    /// Every write up to this one is durable in its log; `None` when this node was not told.
    pub has: Option<u64>,
    /// How many writes it is behind the newest; `None` when this node was not told.
    pub lag: Option<u64>,
    /// An operator took it out: it is neither fed nor in sync until it is taken in again (S4-12).
    pub removed: bool,
    /// How far its store is being filled, while it is.
    pub fill: Option<FillView>,
}

/// How far a holder's store is, that is compared with this one and gets the blocks that are others there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FillView {
    /// What is to be compared: what this store has, and what is written meanwhile once more.
    pub bytes: u64,
    /// What was compared.
    pub compared_bytes: u64,
    /// Blocks that were sent, because they were others there.
    pub moved_bytes: u64,
    /// No more than this is left to be sent; guests' writes of from now on aside.
    pub left_bytes: u64,
    /// About how long that takes; `None` when nothing was compared yet.
    pub left_millis: Option<u64>,
}

/// The search for damage in a holder's store: every block is read once a period, and mended if it is not what
/// was written there (V14).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrubView {
    /// Times that all of it was looked at since the start.
    pub passes: u64,
    /// The size of all volumes.
    pub bytes: u64,
    /// What of that this pass has behind it.
    pub checked_bytes: u64,
    /// Whether it goes on without a pause, because an operator asked for it.
    pub hurried: bool,
    /// Blocks that were damaged and were mended since the start, by whoever found them.
    pub mended_blocks: u64,
    /// Blocks that are damaged here, and that no other holder can mend: they cannot be read until they are
    /// written again, or one comes that can.
    pub damaged_blocks: u64,
    /// The first of them.
    pub damaged: Vec<BlockView>,
}

/// A block of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockView {
    /// The number of the volume; 0 is the list of volumes.
    pub volume: u16,
    /// Of 4096 bytes, from 0.
    pub block: u64,
}

/// A log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogView {
    /// Its length.
    pub bytes: u64,
    /// What of it can take new writes now.
    pub free_bytes: u64,
    /// Its newest write.
    pub newest: u64,
    /// Every write up to this one is durable here.
    pub durable: u64,
    /// Every write up to this one is durable on all holders in sync.
    pub commit: u64,
    /// Every write up to this one is in this holder's backing store.
    pub applied: u64,
}

/// Memory for writes on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryView {
    /// All of it.
    pub bytes: u64,
    /// What is free.
    pub free_bytes: u64,
}

/// What a holder takes of its node, so that a guest of its volumes finds all it needs there when it is taken
/// over (S4-04, S4-16).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaceholderView {
    /// Of the node's memory. Taken at the start, all of it, and never more.
    pub memory_bytes: u64,
    /// The log. Taken when it was made.
    pub log_bytes: u64,
    /// What the backing store takes when every volume is written in full, with its checksums.
    pub store_bytes: u64,
    /// What it takes now; `None`: the file system cannot tell.
    pub store_used_bytes: Option<u64>,
    /// What its file system has left.
    pub store_free_bytes: Option<u64>,
    /// Memory that is to be kept for guests that would begin here; `None`: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guests_bytes: Option<u64>,
    /// As much of it as is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guests_held_bytes: Option<u64>,
}

impl PlaceholderView {
    /// How much the volumes may need that the file system has not; 0: there is room for all of them.
    #[must_use]
    pub fn lacking(&self) -> u64 {
        let used = self.store_used_bytes.unwrap_or(self.store_bytes);
        let needed = self.store_bytes.saturating_sub(used);
        needed.saturating_sub(self.store_free_bytes.unwrap_or(needed))
    }
}

/// Memory for what is read of the backing store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheView {
    /// All of it; 0: this node was given none.
    pub bytes: u64,
    /// What holds blocks.
    pub used_bytes: u64,
    /// Which blocks stay there.
    pub algorithm: Algorithm,
    /// Blocks that guests read and that were there, since the start of the agent.
    pub hits: u64,
    /// Blocks that were read from the backing store.
    pub misses: u64,
}

/// Which blocks stay in the read caches of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// What was read last.
    Lru,
    /// Nearly so: each one has a second chance.
    Clock,
    /// What was read last and what was read again, in shares that follow what is missed.
    #[default]
    Arc,
    /// None.
    #[serde(rename = "none")]
    Off,
}

impl From<Option<residents::Algorithm>> for Algorithm {
    fn from(algorithm: Option<residents::Algorithm>) -> Self {
        match algorithm {
            Some(residents::Algorithm::Lru) => Self::Lru,
            Some(residents::Algorithm::Clock) => Self::Clock,
            Some(residents::Algorithm::Arc) => Self::Arc,
            None => Self::Off,
        }
    }
}

impl From<Algorithm> for Option<residents::Algorithm> {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Lru => Some(residents::Algorithm::Lru),
            Algorithm::Clock => Some(residents::Algorithm::Clock),
            Algorithm::Arc => Some(residents::Algorithm::Arc),
            Algorithm::Off => None,
        }
    }
}

/// How long the last writes took, or the last reads, from a guest's request to its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Half of them took no longer, in microseconds; `None` before the first.
    pub p50_us: Option<u64>,
    /// Of a hundred, one took longer.
    pub p99_us: Option<u64>,
}

/// A volume of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeView {
    /// Its number in the group, from 1.
    pub number: u16,
    /// Its name, which is also the name of its export.
    pub name: String,
    /// Tells it from every other volume there ever was.
    pub uuid: String,
    /// Its size.
    pub bytes: u64,
    /// When its writes are to be acknowledged (S0-06); `None`: as [`View::wanted`] says.
    pub wanted: Option<Policy>,
    /// When they are acknowledged now, as the node that leads knows.
    pub policy: Policy,
    /// Whether what is read of it stays in the read caches, where there are some.
    #[serde(default = "yes")]
    pub cached: bool,
    /// As [`View::at_risk_bytes`], of this volume.
    pub at_risk_bytes: Option<u64>,
    /// Its seal, if it was not written to since it has that.
    #[serde(default)]
    pub seal: Option<String>,
    /// What is wanted of the guest whose own volume it is.
    #[serde(default)]
    pub guest: Option<Wanted>,
    /// Where its content is on this node: `file`, `shared`, the device's path, or the URI of an export.
    #[serde(default = "in_a_file")]
    pub backing: String,
}

/// What the configuration does not name otherwise.
pub(super) fn in_a_file() -> String {
    "file".into()
}

/// What an agent of before does not say.
const fn yes() -> bool {
    true
}

impl VolumeView {
    /// A volume as the catalogue has it, in a group that wants and does this.
    pub fn of(record: &Record, of_group: Policy, now: Policy) -> Self {
        let wanted = record.policy.map(Policy::from);
        Self {
            number: record.volume.0,
            name: record.name.as_str().to_owned(),
            uuid: record.uuid.to_string(),
            bytes: bytes(record.blocks),
            wanted,
            policy: now.but(wanted.unwrap_or(of_group)),
            cached: record.is_cached,
            // The handle adds these.
            at_risk_bytes: None,
            seal: record.seal.map(|seal| seal.to_string()),
            guest: record.guest.map(Wanted::from),
            backing: in_a_file(),
        }
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
