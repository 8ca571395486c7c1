//! How a guest begins in its process: with its kernel, or where it was when it was captured or on another
//! node; and where a snapshot of it is.

use super::console::Console;
use super::description::Description;
use super::lease::Lease;
use super::machine::{Machine, Origin};
use super::order::Event;
use super::snapshot::tracked::Extent;
use super::snapshot::{Watch, copied::Copied, disks, file, restoring, still::Still};
use crate::failure::Failure;
use crate::guests::own_volume::state;
use crate::migration::arrival::Arrival;
use bulkhead_core::volume::name::Name;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

/// Where a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In this file; an absolute path.
    File(PathBuf),
    /// In the guest's own volume, under this name.
    Own(Name),
}

/// How a guest begins; after a reset, all begin with their kernels.
#[derive(Debug)]
pub enum Begins {
    /// With its kernel.
    Anew(Description),
    /// Where it was when it was captured.
    Again {
        /// All of it.
        snapshot: Kept,
        /// What a file builds on, where it is not beside it.
        bases: Vec<PathBuf>,
        /// What it is here: it is called so, and its files are there. Needed for its own volume.
        described: Option<Box<Description>>,
    },
    /// Where it was on another node.
    Here {
        /// All of it, as it comes.
        arrival: Box<Arrival>,
        /// What it is here: its files are there.
        described: Option<Box<Description>>,
    },
}

impl Begins {
    /// Finds what it names, and answers `events` meanwhile; the lease that it runs by.
    pub(super) fn find(
        self,
        console: &Console,
        agent: Option<&Path>,
        events: &Receiver<Event>,
    ) -> Result<Found, Failure> {
        let obtain = || agent.map(Lease::obtain).transpose();
        match self {
            Self::Anew(description) => {
                let lease = obtain()?;
                let origin = Origin::find(description, console.clone(), lease.as_ref())?;
                Ok(Found { origin, copied: None, lease, arrival: None })
            }
            Self::Again { snapshot, bases, described } => {
                let lease = obtain()?;
                let mut look = |progress| restoring::answer(events, &snapshot, lease.is_some(), progress);
                let here = described.as_deref();
                let copied = snapshot.open(&bases, here, console, lease.as_ref(), &mut look)?;
                agent.map_or(Ok(()), |agent| disks::check(copied.disks(), agent))?;
                let found = &copied.origin().description.name;
                if let Some(other) = described.as_deref().filter(|here| here.name != *found) {
                    let what = format!("{snapshot} is a snapshot of guest {found}, not of {}", other.name);
                    return Err(Failure::refused(what).left(""));
                }
                Ok(Found::copied(copied.loading(described.as_deref())?, lease, None))
            }
            Self::Here { mut arrival, described } => {
                let mut lease = arrival.lease()?;
                let copied = arrival.read(console.clone(), lease.as_mut(), described.as_deref());
                match copied.and_then(|copied| copied.loading(described.as_deref())) {
                    Ok(copied) => Ok(Found::copied(copied, lease, Some(arrival))),
                    Err(why) => {
                        arrival.fails(&why);
                        Err(why)
                    }
                }
            }
        }
    }
}

impl Kept {
    /// Its path, if it is a file.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        if let Self::File(path) = self { Some(path) } else { None }
    }

    /// Its name in the guest's own volume, if it is there.
    #[must_use]
    pub fn own(&self) -> Option<&str> {
        if let Self::Own(name) = self { Some(name.as_str()) } else { None }
    }

    /// Reads the guest in it.
    fn open(
        &self,
        bases: &[PathBuf],
        described: Option<&Description>,
        console: &Console,
        lease: Option<&Lease>,
        progress: &mut Watch<'_>,
    ) -> Result<Copied, Failure> {
        let snapshot = match self {
            Self::File(path) => return file::open(path, bases, console.clone(), lease, progress),
            Self::Own(snapshot) => snapshot,
        };
        let (Some(described), Some(lease)) = (described, lease) else {
            let what = "a guest's own volume is where its agent leads, and none was named, or no guest";
            return Err(Failure::usage(what).next("give its description, and no --alone."));
        };
        state::open(&described.name, snapshot, console.clone(), lease, progress)
    }

    /// Captures a guest into it; so much of it, if it is a file.
    pub(super) fn save<'a>(
        &self,
        machine: &'a Machine,
        extent: &Extent,
        agent: Option<&Path>,
        progress: &mut Watch<'_>,
    ) -> Result<Still<'a>, Failure> {
        match (self, agent) {
            (Self::File(path), agent) => file::save(machine, path, extent, agent, progress),
            (Self::Own(snapshot), Some(agent)) => state::save(machine, agent, snapshot, progress),
            (Self::Own(_), None) => {
                let what = "the guest runs alone, and only an agent has its own volume";
                Err(Failure::refused(what).left("").next("name a FILE."))
            }
        }
    }
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Own(snapshot) => write!(f, "snapshot {snapshot} in its own volume"),
        }
    }
}

/// What a guest begins with.
pub(super) struct Found {
    pub(super) origin: Origin,
    /// `None`: it begins with its kernel.
    pub(super) copied: Option<Box<Copied>>,
    pub(super) lease: Option<Lease>,
    /// Who is to hear that it runs.
    pub(super) arrival: Option<Box<Arrival>>,
}

impl Found {
    fn copied(copied: Copied, lease: Option<Lease>, arrival: Option<Box<Arrival>>) -> Self {
        Self { origin: copied.origin().clone(), copied: Some(Box::new(copied)), lease, arrival }
    }
}
