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
use crate::vmm::snapshot::still::Still;
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
pub fn save<'a>(machine: &'a Machine, agent: &Path, snapshot: &Name) -> Result<Still<'a>, Failure> {
    let guest = &machine.origin().description.name;
    let pair = Pair::ask(agent)?.ok_or_else(|| has_none(guest))?;
    let contents = pair.open(guest, Access::Change)?;
    let still = machine.stand_still()?;
    let sealed = disks::seal(&machine.origin().description, agent)?;
    write(&still, &sealed, contents, snapshot).map_err(|why| {
        let next = format!(
            "`bulkhead vm snapshots {guest}` lists what is there, and with --delete makes room; `bulkhead \
             volume resize {guest}{SUFFIX} --size SIZE` does, too."
        );
        why.left("Snapshots of before are there still; the guest goes on.").next(next)
    })?;
    Ok(still)
}

fn write<M: Medium>(
    still: &Still<'_>,
    sealed: &[SealedDisk],
    contents: Contents<M>,
    snapshot: &Name,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot write the snapshot: {error}"));
    let mut change = contents.change();
    let mut out = change.stream().map_err(failed)?;
    still.write(&mut out, sealed, &mut |_| ())?;
    let filled = out.finish().map_err(failed)?;
    let kept = change.keep(What::Snapshot(snapshot.clone()), now(), filled);
    kept.and_then(|()| change.commit()).map(drop).map_err(failed)
}

/// Reads a guest from a snapshot in its own volume; it speaks on this console, and runs by this lease.
///
/// # Errors
///
/// There is no such snapshot, it is not whole, or this node cannot run its guest: why.
pub fn open(guest: &str, snapshot: &Name, console: Console, lease: &Lease) -> Result<Copied, Failure> {
    let volume = name(guest)?;
    let contents = Contents::open(Served::connect(lease.volumes(), &volume, Access::Read)?)
        .map_err(|why| unusable(guest, &volume, &why))?;
    let title = format!("snapshot {snapshot} in volume {volume}");
    let missing = || {
        let next = format!("`bulkhead vm snapshots {guest}` lists those that are there.");
        Failure::failed(format!("there is no {title}")).left("").next(next)
    };
    let from = contents.read(&What::Snapshot(snapshot.clone())).ok_or_else(missing)?;
    let (copied, mut rest) =
        Copied::read(BufReader::with_capacity(PIECE, from), &title, console, Some(lease))?;
    match rest.read(&mut [0]) {
        Ok(0) => Ok(copied),
        Ok(_) => Err(Failure::failed(format!("{title}: there is more behind its end")).left("")),
        Err(error) => Err(Failure::failed(format!("{title}: {error}")).left("")),
    }
}
