//! The disk a command works on: the one that is named, else the one this node booted from.

use super::Common;
use crate::disk::busy::{Claim, claim_partitions};
use crate::disk::open::{Access, Disk};
use crate::disk::state::NodeDisk;
use crate::disk::write::describe;
use crate::failure::Failure;
use crate::output::Report;
use bulkhead_core::bcb::format::Stored;
use bulkhead_core::bcb::state::{Bcb, BootId};
use bulkhead_core::boot::operations::Running;
use bulkhead_core::gpt::layout::Role;
use bulkhead_core::slot::SlotId;
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

/// The disk of a command.
#[derive(Clone, Debug, Args)]
pub(super) struct DiskArg {
    /// The disk; default: the one this node booted from
    #[arg(value_name = "DISK")]
    pub(super) disk: Option<PathBuf>,
}

/// Which boot is running, for a disk that is not in the machine that booted from it.
#[derive(Clone, Debug, Args)]
pub(super) struct RunningArgs {
    /// The slot that is running; default: what the kernel's command line says
    #[arg(long, value_name = "a|b", requires = "running_boot")]
    running_slot: Option<SlotId>,
    /// The number of the boot that is running, 16 hex digits
    #[arg(long, value_name = "HEX", requires = "running_slot", value_parser = parse_boot)]
    running_boot: Option<BootId>,
}

fn parse_boot(text: &str) -> Result<BootId, String> {
    u64::from_str_radix(text, 16).map(BootId).map_err(|_| "a boot number is up to 16 hex digits".into())
}

/// Whether a command only says what it would do.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct DryRun {
    /// Check everything and say what would be written
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// An open node disk and what it says.
pub(super) struct Target {
    pub(super) disk: Disk,
    pub(super) node: NodeDisk,
    pub(super) running: Option<Running>,
    _claim: Claim,
}

impl Target {
    /// Opens the disk to look at it.
    pub(super) fn look(common: &Common, path: &DiskArg) -> Result<Self, Failure> {
        Self::open(common, path.disk.as_deref(), Access::Read, &[])
    }

    /// Opens the disk to change the partitions of `roles`, which nobody else may use meanwhile.
    pub(super) fn change(
        common: &Common,
        path: &DiskArg,
        roles: &[Role],
        dry: DryRun,
    ) -> Result<Self, Failure> {
        Self::change_path(common, path.disk.as_deref(), roles, dry)
    }

    /// As [`Self::change`], for a path that was found among other arguments.
    pub(super) fn change_path(
        common: &Common,
        path: Option<&Path>,
        roles: &[Role],
        dry: DryRun,
    ) -> Result<Self, Failure> {
        if dry.dry_run {
            return Self::open(common, path, Access::Read, &[]);
        }
        Self::open(common, path, Access::Write, roles)
    }

    fn open(common: &Common, path: Option<&Path>, access: Access, roles: &[Role]) -> Result<Self, Failure> {
        let machine = common.machine();
        let path = path.map_or_else(|| machine.find_disk(), |path| Ok(path.to_owned()))?;
        let disk = Disk::open(&path, access)?;
        let node = NodeDisk::read(&disk)?;
        let claim = claim_partitions(&disk, &node.layout, roles)?;
        let running = machine.running_from(&disk, &node);
        Ok(Self { disk, node, running, _claim: claim })
    }

    /// Takes what the arguments say of the running boot, where they say something.
    pub(super) fn told(mut self, args: &RunningArgs) -> Self {
        if let Some((slot, boot)) = args.running_slot.zip(args.running_boot) {
            self.running = Some(Running { slot, boot });
        }
        self
    }

    /// The boot control block.
    pub(super) fn stored(&self) -> Result<Stored, Failure> {
        self.node.stored(&self.disk)
    }

    /// The boot that is running.
    pub(super) fn running(&self) -> Result<Running, Failure> {
        self.running.ok_or_else(|| {
            let what = format!("this machine did not boot from {}", self.disk.path.display());
            Failure::refused(what).next("run this on the node, or say `--running-slot` and `--running-boot`.")
        })
    }

    /// The report of `--dry-run` for a change of the boot control block.
    pub(super) fn dry_run(&self, what: &str, next: &Bcb) -> Report {
        dry_run(what, &describe(&self.node.copies.write(self.node.layout.bcb_copies(), next)))
    }
}

/// A report of steps that were not carried out.
pub(super) fn dry_run(what: &str, steps: &[String]) -> Report {
    let mut text = format!("Would {what}. Nothing was written. The steps:\n");
    for (number, step) in (1_u32..).zip(steps) {
        text.push_str(&format!("  {number:>2}. {step}\n"));
    }
    Report::new(text, json!({ "ok": true, "dry_run": true, "what": what, "steps": steps }))
}
