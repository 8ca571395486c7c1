//! A site whose nodes keep volumes: who leads their mirror group, and in what state it is.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::ground::Ground;
use super::{POLL, Part, Site, Third, text};
use crate::artefacts::Artefacts;
use crate::lab::{LONG, Lab};

/// Where volumes are served by the nodes of the pair.
const PATHS: [(Part, &str); 2] = [(Part::A, "10.71.1.1"), (Part::B, "10.71.1.2")];

impl Site {
    /// As [`Site::new`], with two more disks in each node of the pair, which keeps volumes there: one is the
    /// log, whole, the other one has a file system. `image` needs the overlay `volumes`.
    ///
    /// # Errors
    /// As [`Site::new`].
    pub fn with_volumes(artefacts: &Artefacts, lab: &Lab, image: &Path, timers: &str) -> Result<Self> {
        let mut ground = Ground::new(artefacts, lab, timers)?;
        ground.volumes = true;
        let rigs = ground.rigs(artefacts, lab, image)?;
        let third = ground.rig(artefacts, lab, image, Part::Witness)?;
        Ok(ground.site(rigs, Third::Node(Box::new(third))))
    }

    /// The address at which a node serves volumes.
    ///
    /// # Errors
    /// When it serves none.
    pub fn path(part: Part) -> Result<&'static str> {
        let found = PATHS.iter().find(|(of, _)| *of == part).map(|(_, address)| *address);
        found.with_context(|| format!("{} serves no volumes", part.name()))
    }

    /// Waits until both nodes have every write and one of them leads; which.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn wait_synced(&self) -> Result<Part> {
        let begin = Instant::now();
        let mut last = Vec::new();
        while begin.elapsed() < LONG {
            last.clear();
            for part in [Part::A, Part::B] {
                // A node that starts does not answer at all.
                let status = self.status(part).ok().flatten();
                let storage = status.and_then(|status| status.get("storage").cloned());
                last.push((part, storage.unwrap_or_default()));
            }
            let leads = |storage: &serde_json::Value| storage.pointer("/leads") == Some(&true.into());
            if last.iter().all(|(_, storage)| text(storage, "/state") == "synced")
                && let Some((part, _)) = last.iter().find(|(_, storage)| leads(storage))
            {
                eprintln!("{:8.2} s  in sync, {} leads", begin.elapsed().as_secs_f64(), part.name());
                return Ok(*part);
            }
            std::thread::sleep(POLL);
        }
        let events =
            |part| self.command(part, "bulkhead events").unwrap_or_else(|error| format!("{error:#}"));
        bail!("not in sync within {LONG:?}: {last:#?}\n{}\n{}", events(Part::A), events(Part::B))
    }

    /// The whole machine of a node stands still, its clocks do not; for `time`.
    ///
    /// # Errors
    /// When it is off.
    pub fn freeze(&self, part: Part, time: Duration) -> Result<()> {
        let id = i32::try_from(self.rig(part)?.node.powered()?.process_id())?;
        let process = Pid::from_raw(id).context("QEMU without a process id")?;
        kill_process(process, Signal::STOP)?;
        std::thread::sleep(time);
        Ok(kill_process(process, Signal::CONT)?)
    }
}
