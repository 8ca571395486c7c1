//! Snapshots of a guest in its own volume: it goes on from there on whichever node leads (S3-06, S3-11).

use super::contents::Contents;
use super::keeping::now;
use super::medium::{Medium, PIECE};
use super::pair::{Pair, has_none, unusable};
use super::served::{Access, Served};
use super::table::What;
use super::{SUFFIX, name};
use crate::failure::Failure;
use crate::vmm::console::Console;
use crate::vmm::lease::Lease;
use crate::vmm::machine::Machine;
use crate::vmm::snapshot::copied::Copied;
use crate::vmm::snapshot::disks::{self, SealedDisk};
use crate::vmm::snapshot::lineage::Digest;
use crate::vmm::snapshot::still::Still;
use crate::vmm::snapshot::tracked::Plan;
use crate::vmm::snapshot::{Progress, Watch};
use bulkhead_core::volume::name::Name;
use std::io::{BufReader, Read as _};
use std::path::Path;

/// What a snapshot is called unless it is said.
pub const LAST: &str = "last";

/// Captures a guest into its own volume, in place of the snapshot of this name. It stands still until what is
/// answered is dropped; then all of it is durable.
///
/// # Errors
///
/// It cannot be captured or not be written: the snapshot of before is there still.
pub fn save<'a>(
    machine: &'a Machine,
    agent: &Path,
    snapshot: &Name,
    progress: &mut Watch<'_>,
) -> Result<Still<'a>, Failure> {
    let guest = &machine.origin().description.name;
    let pair = Pair::ask(agent)?.ok_or_else(|| has_none(guest))?;
    let contents = pair.open(guest, Access::Change)?;
    let still = machine.stand_still()?;
    let plan = Plan::all(machine)?;
    let sealed = disks::seal(&machine.origin().description, agent)?;
    let written = write(&still, &plan, &sealed, contents, snapshot, progress);
    let digest = written.map_err(|why| {
        let next = format!(
            "`bulkhead vm snapshots {guest}` lists what is there, and with --delete makes room; `bulkhead \
             volume resize {guest}{SUFFIX} --size SIZE` does, too."
        );
        why.left("Snapshots of before are there still; the guest goes on.").next(next)
    })?;
    plan.keep(digest);
    Ok(still)
}

fn write<M: Medium>(
    still: &Still<'_>,
    plan: &Plan<'_>,
    sealed: &[SealedDisk],
    contents: Contents<M>,
    snapshot: &Name,
    progress: &mut Watch<'_>,
) -> Result<Option<Digest>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot write the snapshot: {error}"));
    let mut change = contents.change();
    let mut out = change.stream().map_err(failed)?;
    let mut last = Progress { done: 0, total: 0 };
    let mut watch = |now| {
        last = now;
        progress(now)
    };
    let digest = still.write_pages(&mut out, &plan.lineage, sealed, None, &mut watch)?;
    let filled = out.finish().map_err(failed)?;
    // Whoever does not want it any more says so now, or it is there.
    progress(last).map_err(failed)?;
    let kept = change.keep(What::Snapshot(snapshot.clone()), now(), filled);
    kept.and_then(|()| change.commit()).map_err(failed)?;
    Ok(digest)
}

/// Reads a guest from a snapshot in its own volume; it speaks on this console, and runs by this lease.
///
/// # Errors
///
/// There is no such snapshot, it is not whole, or this node cannot run its guest: why.
pub fn open(
    guest: &str,
    snapshot: &Name,
    console: Console,
    lease: &Lease,
    progress: &mut Watch<'_>,
) -> Result<Copied, Failure> {
    let volume = name(guest)?;
    let contents = Contents::open(Served::connect(lease.volumes(), &volume, Access::Read)?)
        .map_err(|why| unusable(guest, &volume, &why))?;
    let title = format!("snapshot {snapshot} in volume {volume}");
    let missing = || {
        let next = format!("`bulkhead vm snapshots {guest}` lists those that are there.");
        Failure::failed(format!("there is no {title}")).left("").next(next)
    };
    let what = What::Snapshot(snapshot.clone());
    let total = contents.table().find(&what).map_or(0, |entry| entry.length);
    let from = contents.read(&what).ok_or_else(missing)?;
    let mut done = 0_u64;
    let mut count = |bytes: u64| {
        done = done.saturating_add(bytes);
        progress(Progress { done, total })
    };
    let (copied, mut rest) =
        Copied::read(BufReader::with_capacity(PIECE, from), &title, console, Some(lease), &mut count)?;
    match rest.read(&mut [0]) {
        Ok(0) => Ok(copied),
        Ok(_) => Err(Failure::failed(format!("{title}: there is more behind its end")).left("")),
        Err(error) => Err(Failure::failed(format!("{title}: {error}")).left("")),
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
