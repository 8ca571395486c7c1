//! A snapshot in a file: the old one or the new one is there, and whole (S3-06).

use super::super::console::Console;
use super::super::description::Description;
use super::super::lease::Lease;
use super::super::machine::Machine;
use super::chain::{self, Link};
use super::copied::Copied;
use super::disks::{self, SealedDisk};
use super::lineage::Digest;
use super::still::Still;
use super::tracked::{Extent, Plan};
use super::{Progress, Watch};
use crate::failure::Failure;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

const BUFFER: usize = 1 << 20;

/// Captures a guest into the file at `path`, in place of what is there, so much of it. The guest stands still
/// until what is answered is dropped; then it is on disk. The agent at this socket seals its volumes; `None`:
/// nobody does.
///
/// # Errors
///
/// It cannot be captured or not be written: what was there is there still.
pub fn save<'a>(
    machine: &'a Machine,
    path: &Path,
    extent: &Extent,
    agent: Option<&Path>,
    progress: &mut Watch<'_>,
) -> Result<Still<'a>, Failure> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let still = machine.stand_still()?;
    let plan = Plan::new(machine, extent, path)?;
    let sealed = agent.map(|agent| disks::seal(&machine.origin().description, agent)).transpose()?;
    let written = write(&still, &plan, &sealed.unwrap_or_default(), &new, progress);
    let saved = written.and_then(|digest| replace(&new, path).map(|()| digest));
    match saved {
        Ok(digest) => {
            plan.keep(digest);
            Ok(still)
        }
        Err(why) => {
            // It may not even be there.
            let _ = std::fs::remove_file(&new);
            Err(why)
        }
    }
}

fn write(
    still: &Still<'_>,
    plan: &Plan<'_>,
    sealed: &[SealedDisk],
    new: &Path,
    progress: &mut Watch<'_>,
) -> Result<Option<Digest>, Failure> {
    let failed = |error: std::io::Error| Failure::io("write", new, &error);
    let mut out = BufWriter::with_capacity(BUFFER, File::create(new).map_err(failed)?);
    let mut last = Progress { done: 0, total: 0 };
    let mut watch = |now| {
        last = now;
        progress(now)
    };
    let digest = still.write_pages(&mut out, &plan.lineage, sealed, plan.pages.as_ref(), &mut watch)?;
    out.flush().map_err(failed)?;
    out.get_ref().sync_all().map_err(failed)?;
    // Whoever does not want it any more says so now, or it is there.
    progress(last).map_err(failed)?;
    Ok(digest)
}

fn replace(new: &Path, path: &Path) -> Result<(), Failure> {
    let renamed = std::fs::rename(new, path);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = renamed.and_then(|()| File::open(directory)).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Failure::io("rename to", path, &error))
}

/// What the guest in the file at `path` is. The rest of the file is not looked at.
///
/// # Errors
///
/// The file cannot be read, or says what makes no sense.
pub fn description(path: &Path) -> Result<Description, Failure> {
    Link::open(path).map(|link| link.description)
}

/// Reads the guest in the file at `path`, and in those that it builds on: of `bases`, or beside it. It speaks
/// on this console, and runs by this lease.
///
/// # Errors
///
/// A file cannot be read, is not whole, or this node cannot run its guest: why.
pub fn open(
    path: &Path,
    bases: &[PathBuf],
    console: Console,
    lease: Option<&Lease>,
    progress: &mut Watch<'_>,
) -> Result<Copied, Failure> {
    Copied::of_chain(chain::open(path, bases)?, console, lease, progress)
}
