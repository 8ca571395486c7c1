//! What a guest that leaves with others does beside what one does that leaves alone: its copy is kept up
//! until all are ready, and it stands still until all are whole (X15).

use super::barrier::{Barrier, HELD_MAX, Step};
use super::broken::Broken;
use super::channel::{Channel, Outgoing};
use super::departure::Leaving;
use super::saying::told;
use crate::cluster::client::Client;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::vmm::snapshot::format::Writer;
use crate::vmm::snapshot::written::Written;
use serde_json::Value;
use std::io::{ErrorKind, Write as _};
use std::time::{Duration, Instant};

/// How often the copy of a guest is kept up that waits for others; the other node waits for longer.
const KEEPS_UP: Duration = Duration::from_millis(500);
/// How often it is looked whether the other node is there, while a guest stands still for others.
const LOOKS: Duration = Duration::from_millis(50);

impl Leaving {
    /// It is ready: whether all are that it waits for. Returns after some time, so that its copy is kept up.
    pub(super) fn may_stand_still(&self, rounds: u32) -> Result<bool, Broken> {
        let Some(together) = &self.settings.together else { return Ok(true) };
        self.view("ready", rounds);
        together.wait(Step::Hold, KEEPS_UP).map_err(Broken::Here)
    }

    /// Copies what it wrote while it waits; something in any case, so that the other node goes on waiting.
    pub(super) fn keep_up(&self, written: &Written, out: &mut Writer<Outgoing<'_>>) -> Result<(), Broken> {
        let one = Written::one();
        let written = if written.bytes() == 0 { &one } else { written };
        written.write(self.machine.memory(), out, &mut |_| Ok(()))?;
        Ok(out.out().flush()?)
    }

    /// All of it is there: waits until that is so for all.
    pub(super) fn wait_for_others(&self, rounds: u32, channel: &mut Channel) -> Result<(), Failure> {
        let Some(together) = &self.settings.together else { return Ok(()) };
        self.view("whole", rounds);
        wait(together, Step::Give, channel)
    }

    /// Its lease is given back: waits until the other node is told to lead.
    pub(super) fn wait_to_go(&self, together: &Barrier, channel: &mut Channel) -> Result<(), Failure> {
        self.view("returned", 0);
        let waited = wait(together, Step::Go, channel);
        // Whoever had the other node lead may be gone since: it runs there, or nowhere.
        if waited.is_err() && self.has_lost_lead() && together.go() { Ok(()) } else { waited }
    }

    /// Whether another node leads by now, or none.
    fn has_lost_lead(&self) -> bool {
        let listing =
            Client::connect(&self.settings.agent).and_then(|mut agent| agent.ask(&Request::VolumeList));
        listing.is_ok_and(|listing| listing.pointer("/volumes/storage/leads") == Some(&Value::Bool(false)))
    }
}

/// Waits for this step while the other end is there and says nothing.
fn wait(together: &Barrier, step: Step, channel: &mut Channel) -> Result<(), Failure> {
    let begun = Instant::now();
    while !together.wait(step, LOOKS)? {
        if !channel.is_quiet() {
            return Err(told(channel, &ErrorKind::BrokenPipe.into()));
        }
        if HELD_MAX < begun.elapsed() {
            let what = format!("it stood still for {} s, and others were not ready", HELD_MAX.as_secs());
            let next = "move them without --quick, or fewer of them at once.";
            return Err(Failure::failed(what).next(next));
        }
    }
    Ok(())
}
