//! A snapshot in a file: the old one or the new one is there, and whole (S3-06).

use super::super::console::Console;
use super::super::description::Description;
use super::super::lease::Lease;
use super::super::machine::Machine;
use super::Progress;
use super::copied::{self, Copied};
use super::disks;
use super::format::{Reader, Unreadable};
use super::still::Still;
use crate::failure::Failure;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

const BUFFER: usize = 1 << 20;

/// Captures a guest into the file at `path`, in place of what is there. The guest stands still until what is
/// answered is dropped; then it is on disk. The agent at this socket seals its volumes; `None`: nobody does.
///
/// # Errors
///
/// It cannot be captured or not be written: what was there is there still.
pub fn save<'a>(
    machine: &'a Machine,
    path: &Path,
    agent: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Still<'a>, Failure> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let saved = write(machine, &new, agent, progress);
    let saved = saved.and_then(|still| replace(&new, path).map(|()| still));
    if saved.is_err() {
        // It may not even be there.
        let _ = std::fs::remove_file(&new);
    }
    saved
}

fn write<'a>(
    machine: &'a Machine,
    new: &Path,
    agent: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Still<'a>, Failure> {
    let still = machine.stand_still()?;
    let sealed = agent.map(|agent| disks::seal(&machine.origin().description, agent)).transpose()?;
    let failed = |error: std::io::Error| Failure::io("write", new, &error);
    let mut out = BufWriter::with_capacity(BUFFER, File::create(new).map_err(failed)?);
    still.write(&mut out, &sealed.unwrap_or_default(), progress)?;
    out.flush().map_err(failed)?;
    out.get_ref().sync_all().map_err(failed)?;
    Ok(still)
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
    let file = File::open(path).map_err(|error| Failure::io("read", path, &error))?;
    copied::description(&mut Reader::begin(file).map_err(|why| wrong(path, &why))?)
        .map_err(|why| wrong(path, &why))
}

fn wrong(path: &Path, why: &Unreadable) -> Failure {
    Failure::failed(format!("{}: {why}", path.display())).left("")
}

/// Reads the guest in the file at `path`; it speaks on this console, and runs by this lease.
///
/// # Errors
///
/// The file cannot be read, is not whole, or this node cannot run its guest: why.
pub fn open(path: &Path, console: Console, lease: Option<&Lease>) -> Result<Copied, Failure> {
    let failed = |error: std::io::Error| Failure::io("read", path, &error);
    let file = File::open(path).map_err(failed)?;
    let name = path.display().to_string();
    let (copied, mut rest) = Copied::read(BufReader::with_capacity(BUFFER, file), &name, console, lease)?;
    match rest.read(&mut [0]).map_err(failed)? {
        0 => Ok(copied),
        _ => Err(Failure::failed(format!("{name}: there is more behind its end")).left("")),
    }
}
