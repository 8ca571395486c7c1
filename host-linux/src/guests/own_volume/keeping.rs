//! A guest in its own volume: its description, kernel and first files are put there together, and copied from
//! there into its directory on the node where it begins (S3-06, S3-07).

use super::super::home::{Home, Homes};
use super::contents::{Change, Contents};
use super::medium::Medium;
use super::moving::Moving;
use super::name;
use super::table::{TABLES, Table, What, blocks};
use crate::durable;
use crate::failure::Failure;
use crate::vmm::description::Description;
use crate::vmm::in_use::is_in_use;
use bulkhead_core::volume::name::Name;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{ErrorKind, Read, Result as IoResult};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest description: as in a snapshot.
const DESCRIPTION_MAX: u64 = 64 << 10;
/// Room beside what is known.
const SPARE: u64 = 64 << 20;
const VERSION: u32 = 1;

/// Hears how many bytes more were copied.
pub type Progress<'a> = &'a dyn Fn(u64);

/// Of which volume a guest's directory has a copy.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin {
    version: u32,
    volume: String,
}

/// The volume of which a guest's directory has a copy; `None`: it is on this node alone.
///
/// # Errors
///
/// What is noted there cannot be read.
pub fn origin(home: &Home) -> Result<Option<Name>, Failure> {
    let path = home.origin();
    let Some(text) = durable::text(&path)? else { return Ok(None) };
    let known = serde_json::from_str::<Origin>(&text).ok().filter(|origin| origin.version == VERSION);
    let known = known.and_then(|origin| Name::new(&origin.volume).ok());
    known.map(Some).ok_or_else(|| {
        let next = "delete it if the guest has no own volume; use a newer `bulkhead` if one wrote it.";
        Failure::failed(format!("{} names no volume that this program knows", path.display())).next(next)
    })
}

/// How long a file is.
fn length(path: &Path) -> Result<u64, Failure> {
    std::fs::metadata(path).map(|file| file.len()).map_err(|error| Failure::io("read", path, &error))
}

/// Bytes of its files.
///
/// # Errors
///
/// They cannot be looked at.
pub fn files(described: &Description) -> Result<u64, Failure> {
    let initrd = described.initrd.as_deref().map_or(Ok(0), length)?;
    Ok(length(&described.kernel)?.saturating_add(initrd))
}

/// Blocks that a guest's own volume has unless it is said: its files and its memory twice, because what is
/// replaced is there until what replaces it is whole; and some.
///
/// # Errors
///
/// Its files cannot be looked at.
pub fn room(described: &Description) -> Result<u64, Failure> {
    let once = files(described)?.saturating_add(described.memory);
    Ok(blocks(once.saturating_mul(2).saturating_add(SPARE)).saturating_add(TABLES))
}

/// Now, for people.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What was not written of a guest, and why.
fn failed(guest: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::failed(format!("cannot write guest {guest} into its own volume: {error}"));
    let failure = failure.left("What was in it is there still.");
    match error.kind() == ErrorKind::StorageFull {
        true => failure.next(format!("make room: `bulkhead volume resize {guest}.guest --size SIZE`.")),
        false => failure.next("`bulkhead volume list` says how the volumes are; try again."),
    }
}

/// Puts a guest there as it is described, in place of what is there; its snapshots stay.
///
/// # Errors
///
/// Its files cannot be read, or not be written: what was there is there still.
pub fn put<M: Medium>(
    contents: Contents<M>,
    described: &Description,
    progress: Progress<'_>,
) -> Result<Contents<M>, Failure> {
    let name = &described.name;
    let loaded = described.loading(Path::new("kernel"), Path::new("initrd"));
    let text = loaded.map_err(|why| Failure::failed(format!("guest {name}: {why}")))?.text;
    let mut change = contents.change();
    put_file(&mut change, What::Kernel, &described.kernel, name, progress)?;
    match &described.initrd {
        Some(initrd) => put_file(&mut change, What::Initrd, initrd, name, progress)?,
        None => drop(change.remove(&What::Initrd)),
    }
    finish(change, name, &text)
}

/// Puts a guest there that comes from another pair, in place of what is there: its kernel and its first
/// files, of so many bytes, one behind the other. It is noted with it that it comes.
///
/// # Errors
///
/// What comes does not make a guest, or is not taken: what was there is there still.
pub fn take<M: Medium>(
    contents: Contents<M>,
    described: &Description,
    (kernel, initrd): (u64, Option<u64>),
    from: &mut impl Read,
    moving: &Moving,
) -> Result<Contents<M>, Failure> {
    let name = &described.name;
    let loaded = described.loading(Path::new("kernel"), Path::new("initrd"));
    let text = loaded.map_err(|why| Failure::failed(format!("guest {name}: {why}")))?.text;
    if initrd.is_some() != described.initrd.is_some() {
        return Err(Failure::failed(format!("the files of guest {name} are not those that it names")));
    }
    let mut change = contents.change();
    let mut put = || {
        change.put(What::Kernel, now(), kernel, from)?;
        match initrd {
            Some(length) => change.put(What::Initrd, now(), length, from)?,
            None => drop(change.remove(&What::Initrd)),
        }
        moving.put(&mut change)
    };
    put().map_err(|error| failed(name, &error))?;
    finish(change, name, &text)
}

/// Puts the description there, and all of the change in force.
fn finish<M: Medium>(mut change: Change<M>, guest: &str, text: &str) -> Result<Contents<M>, Failure> {
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if DESCRIPTION_MAX < length {
        return Err(Failure::usage(format!("the description of guest {guest} is too long: {length} bytes")));
    }
    let put = change.put(What::Description, now(), length, &mut text.as_bytes());
    put.and_then(|()| change.commit()).map_err(|error| failed(guest, &error))
}

fn put_file<M: Medium>(
    change: &mut Change<M>,
    what: What,
    path: &Path,
    guest: &str,
    progress: Progress<'_>,
) -> Result<(), Failure> {
    let file = File::open(path).map_err(|error| Failure::io("read", path, &error))?;
    let length = length(path)?;
    change
        .put(what, now(), length, &mut Counted { from: file, progress })
        .map_err(|error| failed(guest, &error))
}

/// What is read, and counted.
struct Counted<'a, R> {
    from: R,
    progress: Progress<'a>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> IoResult<usize> {
        let count = self.from.read(into)?;
        (self.progress)(u64::try_from(count).unwrap_or(0));
        Ok(count)
    }
}

/// What the guest in a volume is, with the names of files as they are there.
///
/// # Errors
///
/// There is none, or it makes no sense.
pub fn description<M: Medium>(guest: &str, contents: &Contents<M>) -> Result<Description, Failure> {
    let wrong = |why: String| Failure::failed(format!("the own volume of guest {guest}: {why}"));
    let found = contents.table().find(&What::Description).filter(|entry| entry.length <= DESCRIPTION_MAX);
    let found = found.and_then(|entry| contents.read(&entry.what));
    let mut text = String::new();
    found
        .ok_or_else(|| wrong("it has no description".into()))?
        .read_to_string(&mut text)
        .map_err(|error| wrong(format!("its description: {error}")))?;
    let described = Description::parse(&text, Path::new("")).map_err(wrong)?;
    match described.name == guest {
        true => Ok(described),
        false => Err(wrong(format!("it has guest {} in it", described.name))),
    }
}

/// Bytes that [`bring`] copies at most.
#[must_use]
pub fn copied(table: &Table) -> u64 {
    let file = |what| table.find(&what).map_or(0, |entry| entry.length);
    file(What::Kernel).saturating_add(file(What::Initrd))
}

/// Whose a directory may be that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// A copy of the same volume.
    Copy,
    /// Anybody's of that name.
    Any,
}

/// Brings the directory of a guest up to date: what is there is a copy of what is in its own volume. That of
/// a guest that runs stays as it is.
///
/// # Errors
///
/// The volume has no whole guest, the node's disk does not take it, or another guest of its name is here.
pub fn bring<M: Medium>(
    contents: &Contents<M>,
    homes: &Homes,
    guest: &str,
    before: Before,
    progress: Progress<'_>,
) -> Result<Home, Failure> {
    let (volume, known) = (name(guest)?, homes.find(guest).ok());
    if let Some(home) = known {
        if is_in_use(&home.description()) {
            return Ok(home);
        }
        if before == Before::Copy && origin(&home)?.is_none() {
            let what = format!("there are two guests called {guest}: one of this node, and one in {volume}");
            let next = format!("`bulkhead vm delete {guest} --local --yes` forgets the one of this node.");
            return Err(Failure::refused(what).left("").next(next));
        }
    }
    let described = description(guest, contents)?;
    let home = homes.place(guest)?;
    copy(contents, &What::Kernel, &home.kernel(), progress)?;
    if described.initrd.is_some() {
        copy(contents, &What::Initrd, &home.initrd(), progress)?;
    }
    let wrong = |why| Failure::failed(format!("the own volume of guest {guest}: {why}"));
    let described = described.loading(&home.kernel(), &home.initrd()).map_err(wrong)?;
    let origin = Origin { version: VERSION, volume: volume.to_string() };
    durable::replace_json(&home.origin(), &origin)?;
    // Last: without it there is no guest here.
    home.describe(&described)?;
    Ok(home)
}

/// Copies a part into a file, if that is not the same already.
fn copy<M: Medium>(
    contents: &Contents<M>,
    what: &What,
    path: &Path,
    progress: Progress<'_>,
) -> Result<(), Failure> {
    let missing = || Failure::failed(format!("{what} is not in the guest's own volume"));
    let entry = contents.table().find(what).ok_or_else(missing)?;
    let mut hasher = blake3::Hasher::new();
    let same = File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
    if same.is_ok() && *hasher.finalize().as_bytes() == entry.digest {
        progress(entry.length);
        return Ok(());
    }
    let failed = |error: std::io::Error| {
        let what = format!("cannot copy {what} from the guest's own volume to {}: {error}", path.display());
        Failure::failed(what).left("The copy of before is there still.")
    };
    let from = contents.read(what).ok_or_else(missing)?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || {
        let mut file = File::create(&new)?;
        std::io::copy(&mut Counted { from, progress }, &mut file)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(failed)
}

#[cfg(test)]
#[path = "keeping_tests.rs"]
mod tests;
