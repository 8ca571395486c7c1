//! A Bulkhead node: a machine with a node disk, and what its boot application says.
//!
//! ```no_run
//! use std::time::Duration;
//! use qemu_tests::{artefacts::Artefacts, node::Node};
//! Artefacts::of("first-boot", |artefacts| {
//!     let mut node = Node::new(artefacts, "node-1", "/tmp/node.img".as_ref())?;
//!     node.power_on()?;
//!     let boot = node.wait_boot(Duration::from_secs(30))?;
//!     assert_eq!(boot.to_string(), "BOOT slot=a version=1 reason=confirmed");
//!     node.power_cut()
//! }).unwrap();
//! ```

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use bulkhead_core::bcb::state::Reason;
use bulkhead_core::slot::SlotId;

use crate::artefacts::Artefacts;
use crate::console::{Console, Pattern};
use crate::disk::Image;
use crate::machine::{Drive, Machine, Powered};

/// How the line begins.
const BOOT: &str = "BOOT slot=";

/// The line by which the boot application says what it starts and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootLine {
    /// The slot; `None` when none can be started (`slot=none`).
    pub slot: Option<SlotId>,
    /// The image's version.
    pub version: u64,
    /// Why this slot.
    pub reason: Reason,
}

impl FromStr for BootLine {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let words = line.find(BOOT).and_then(|at| line.get(at..)).unwrap_or_default();
        let field = |name: &str| {
            let value = words.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.with_context(|| format!("`{line}` has no {name}"))
        };
        let slot = match field("slot")? {
            "none" => None,
            name => Some(name.parse().with_context(|| format!("the slot in `{line}`"))?),
        };
        let version = field("version")?.parse().with_context(|| format!("the version in `{line}`"))?;
        let token = field("reason")?;
        let reason = Reason::ALL.into_iter().find(|(reason, _)| reason.token() == token);
        let (reason, _) = reason.with_context(|| format!("`{token}` in `{line}` is not a reason"))?;
        Ok(Self { slot, version, reason })
    }
}

impl fmt::Display for BootLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot {
            Some(slot) => write!(f, "{BOOT}{slot}")?,
            None => write!(f, "{BOOT}none")?,
        }
        write!(f, " version={} reason={}", self.version, self.reason.token())
    }
}

/// A node. Dropping it cuts its power.
#[derive(Debug)]
pub struct Node {
    machine: Machine,
    disk: Image,
    /// `None` while the power is off.
    powered: Option<Powered>,
}

impl Node {
    /// A node with a copy of the node disk `disk`, 1 GiB of memory, and nothing else.
    ///
    /// # Errors
    /// When the disk cannot be copied.
    pub fn new(artefacts: &Artefacts, name: &str, disk: &Path) -> Result<Self> {
        Self::with(artefacts, name, disk, |machine| machine, |drive| drive)
    }

    /// As [`Node::new`], with another machine or another kind of disk.
    ///
    /// # Errors
    /// As [`Node::new`].
    pub fn with(
        artefacts: &Artefacts,
        name: &str,
        disk: &Path,
        machine: impl FnOnce(Machine) -> Machine,
        drive: impl FnOnce(Drive) -> Drive,
    ) -> Result<Self> {
        let disk = Image::copy_of(disk, artefacts.path(&format!("{name}.img")))?;
        let drive = drive(Drive::new(disk.path()));
        let machine = machine(Machine::new(artefacts, name)?.memory_mib(1024).drive(drive));
        Ok(Self { machine, disk, powered: None })
    }

    /// Switches the node on.
    ///
    /// # Errors
    /// When it is on, or QEMU does not start.
    pub fn power_on(&mut self) -> Result<()> {
        if self.powered.is_some() {
            bail!("{} is on already", self.machine.name());
        }
        self.powered = Some(self.machine.power_on()?);
        Ok(())
    }

    /// Pulls the plug.
    ///
    /// # Errors
    /// When the node is off, or QEMU had ended by itself.
    pub fn power_cut(&mut self) -> Result<()> {
        self.take_powered()?.power_cut()
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// When the node is off.
    pub fn reset(&self) -> Result<()> {
        self.powered()?.reset()
    }

    /// Waits until the node has switched itself off.
    ///
    /// # Errors
    /// When it does not within `timeout`; its power is cut then.
    pub fn wait_off(&mut self, timeout: Duration) -> Result<()> {
        self.take_powered()?.wait_off(timeout)
    }

    /// Waits for the next boot and says what the boot application chose.
    ///
    /// # Errors
    /// When there is none within `timeout`, or its line cannot be read.
    pub fn wait_boot(&self, timeout: Duration) -> Result<BootLine> {
        self.console().wait_for(BOOT, timeout)?.text.parse()
    }

    /// Waits for a line of the console, and fails at once on a kernel panic.
    ///
    /// # Errors
    /// When the line does not come within `timeout`, or a panic comes first.
    pub fn wait_for(&self, pattern: impl Into<Pattern>, timeout: Duration) -> Result<String> {
        let unwanted = [Pattern::text("Kernel panic - not syncing")];
        Ok(self.console().wait_unless(pattern, &unwanted, timeout)?.text)
    }

    /// All boots so far, from the first power-on.
    ///
    /// # Errors
    /// When a line cannot be read.
    pub fn boots(&self) -> Result<Vec<BootLine>> {
        self.console().matching(BOOT).iter().map(|line| line.text.parse()).collect()
    }

    /// How often the node has started again after its first boot.
    pub fn reboot_count(&self) -> usize {
        self.console().matching(BOOT).len().saturating_sub(1)
    }

    /// The console.
    pub fn console(&self) -> &Console {
        self.machine.console()
    }

    /// The disk. Change it only while the power is off.
    pub fn disk(&self) -> &Image {
        &self.disk
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The power-on that is going on.
    ///
    /// # Errors
    /// When the node is off.
    pub fn powered(&self) -> Result<&Powered> {
        self.powered.as_ref().with_context(|| format!("{} is off", self.machine.name()))
    }

    fn take_powered(&mut self) -> Result<Powered> {
        self.powered.take().with_context(|| format!("{} is off", self.machine.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_lines_are_read_and_printed() {
        for (reason, _) in Reason::ALL {
            for slot in [Some(SlotId::A), Some(SlotId::B), None] {
                let line = BootLine { slot, version: 12, reason };
                assert_eq!(format!("noise {line}").parse::<BootLine>().unwrap(), line);
            }
        }
        for wrong in [
            "",
            "BOOT slot=c version=1 reason=confirmed",
            "BOOT slot=a version=1",
            "BOOT slot=a version=1 reason=x",
        ] {
            assert!(wrong.parse::<BootLine>().is_err(), "{wrong}");
        }
    }
}
