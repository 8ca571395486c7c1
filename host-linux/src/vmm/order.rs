//! What happens to a guest, what it can be asked, and who hears what came of that.

use super::snapshot::task::Settings;
use super::vcpu::End;
use crate::failure::Failure;
use crate::migration::barrier::Advance;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// What happens to a guest.
#[derive(Debug)]
pub enum Event {
    /// A processor of the machine of this number has ended.
    Ended(u64, End),
    /// Somebody has typed on its console.
    Typed,
    /// Its heartbeat has begun, or is due earlier than it was.
    Beats,
    /// Somebody asks it.
    Asked(Order, Answer),
    /// It must not run any more.
    Lost(Failure),
    /// Its move to another node has come to an end.
    Departed,
    /// The taking of its snapshot has.
    Captured,
    /// It is to end at once, as by a loss of power.
    Stop,
}

/// What a guest can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// What it is, and what it does.
    Info,
    /// What its disks and networks have carried.
    Counters,
    /// To stand still.
    Pause,
    /// To go on.
    Resume,
    /// To be written there, and to end there or to go on.
    Snapshot(Settings),
    /// Not to be written any more.
    Abandon,
    /// To run for so many hundredths of the time.
    Share(u8),
    /// To move to another node.
    Leave(Leave),
    /// To go so far, while it moves with others.
    Advance(Advance),
    /// Not to move.
    Stay,
    /// To begin anew.
    Reboot,
    /// To end itself.
    PowerButton,
    /// To end at once.
    Shutdown,
}

/// Where a guest is told to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// The node's name.
    pub node: String,
    /// The agent of this node, for a guest that runs without one.
    pub agent: Option<PathBuf>,
    /// For how long it may stand still.
    pub downtime: Duration,
    /// Bytes a second; `None`: as many as can.
    pub bandwidth: Option<u64>,
    /// It stands still from the beginning.
    pub is_quick: bool,
    /// What is on its disks goes with it.
    pub with_disks: bool,
    /// Whoever moves others with it is called so; `None`: it moves by itself.
    pub together: Option<String>,
}

/// Who hears what came of an order. Dropped unheard, it was not carried out.
pub struct Answer(Box<dyn FnOnce(Result<Value, Failure>) + Send>);

impl Answer {
    /// Calls this.
    pub fn new(hear: impl FnOnce(Result<Value, Failure>) + Send + 'static) -> Self {
        Self(Box::new(hear))
    }

    /// This came of it.
    pub fn hear(self, answer: Result<Value, Failure>) {
        (self.0)(answer);
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}
