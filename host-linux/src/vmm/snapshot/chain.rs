//! A snapshot and those that it builds on, each found by what the one behind it says of it: by id, and whole
//! by its digest (S3-06, I11).

use super::super::description::Description;
use super::copied;
use super::format::{Kind, Reader, Unreadable};
use super::lineage::{Base, Lineage};
use crate::failure::Failure;
use rustix::fs::{Mode, OFlags, open as open_file};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// The longest chain: each costs time when a guest is restored, and a file that must not be lost.
pub const CHAIN_MAX: usize = 16;
const BUFFER: usize = 1 << 20;

/// A snapshot of which the beginning was read: what it is.
#[derive(Debug)]
pub struct Link {
    /// What errors call it.
    pub name: String,
    /// Behind that.
    pub reader: Reader<BufReader<File>>,
    /// What its guest is.
    pub description: Description,
    /// `None`: it is of a time when they said nothing of that, and has all of memory.
    pub lineage: Option<Lineage>,
    /// How long it is.
    pub length: u64,
}

impl Link {
    /// Reads the beginning of the file at `path`.
    ///
    /// # Errors
    ///
    /// There is no snapshot.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::io("read", path, &error).left("");
        // What is no file, but waits for somebody, is not waited for.
        let file = open_file(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
        let file = File::from(file.map_err(|errno| failed(errno.into()))?);
        let length = file.metadata().map_err(failed)?.len();
        let name = path.display().to_string();
        let wrong = |why: Unreadable| Failure::failed(format!("{name}: {why}")).left("");
        let mut reader = Reader::begin(BufReader::with_capacity(BUFFER, file)).map_err(wrong)?;
        let (description, lineage) = begin(&mut reader).map_err(wrong)?;
        Ok(Self { name, reader, description, lineage, length })
    }

    fn base(&self) -> Option<&Base> {
        self.lineage.as_ref().and_then(|lineage| lineage.base.as_ref())
    }

    /// What it is, for people.
    fn called(&self) -> String {
        match &self.lineage {
            Some(lineage) => format!("{} (snapshot {})", self.name, lineage.id),
            None => format!("{} (of version 1, without an id)", self.name),
        }
    }
}

/// Reads the records with which each begins.
///
/// # Errors
///
/// They are not there.
pub fn begin<R: std::io::Read>(reader: &mut Reader<R>) -> Result<(Description, Option<Lineage>), Unreadable> {
    let description = copied::description(reader)?;
    if !reader.is_kept() {
        return Ok((description, None));
    }
    match reader.record()? {
        Some((Kind::Lineage, content)) => Ok((description, Some(Lineage::read(content)?))),
        Some(_) | None => Err(copied::out_of_order()),
    }
}

/// Which snapshot is in the file at `path`; `None`: it does not say.
///
/// # Errors
///
/// There is none.
pub fn lineage(path: &Path) -> Result<Option<Lineage>, Failure> {
    Link::open(path).map(|link| link.lineage)
}

/// The snapshot at `path` and all that it builds on, the newest first: those of `bases`, or beside it.
///
/// # Errors
///
/// One is missing, or another one, or there are too many.
pub fn open(path: &Path, bases: &[PathBuf]) -> Result<Vec<Link>, Failure> {
    let mut given = bases.iter().map(|base| Link::open(base)).collect::<Result<Vec<_>, _>>()?;
    let mut at = path.to_owned();
    let mut links = vec![Link::open(path)?];
    while let Some((newest, base)) = links.last().and_then(|link| Some((link, link.base()?.clone()))) {
        let is_it = |link: &Link| link.lineage.as_ref().is_some_and(|found| found.id == base.id);
        let next = match given.iter().position(is_it) {
            Some(place) => given.swap_remove(place),
            None => {
                at = at.with_file_name(&base.name);
                beside(&at, newest, &base)?
            }
        };
        if !is_it(&next) {
            let what = format!(
                "{} builds on snapshot {}, and {} is another one",
                newest.name,
                base.id,
                next.called()
            );
            return Err(refused(what));
        }
        if next.description.text != newest.description.text {
            let what =
                format!("{} and {}, on which it builds, are of different guests", newest.name, next.name);
            return Err(Failure::failed(what).left(""));
        }
        links.push(next);
        if CHAIN_MAX < links.len() {
            let what = format!("{} is in a chain of more than {CHAIN_MAX}", path.display());
            return Err(Failure::failed(what).left(""));
        }
    }
    match given.first() {
        None => Ok(links),
        Some(other) => {
            let what = format!("{} does not build on {}", path.display(), other.called());
            Err(Failure::refused(what).left("").next("leave that --base out, or name the right one."))
        }
    }
}

fn beside(at: &Path, newest: &Link, base: &Base) -> Result<Link, Failure> {
    if std::fs::symlink_metadata(at).is_ok() {
        return Link::open(at);
    }
    let what = format!("{} builds on snapshot {}, which is not at {}", newest.name, base.id, at.display());
    Err(refused(what))
}

fn refused(what: String) -> Failure {
    Failure::refused(what).left("").next("put that one there, or say where it is: --base FILE.")
}
