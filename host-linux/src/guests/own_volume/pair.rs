//! The own volumes of this node's pair, as its agent knows them.

use super::contents::{Contents, NotOpen};
use super::format::Unsound;
use super::served::{Access, Served};
use super::{guest, name};
use crate::cluster::client::Client;
use crate::cluster::request::Request;
use crate::cluster::status::Status;
use crate::failover::room;
use crate::failover::wanted::{Failover, Needs, Wanted};
use crate::failure::Failure;
use crate::vmm::description::Description;
use crate::volume::orders::Listing;
use bulkhead_core::volume::name::Name;
use std::path::{Path, PathBuf};

/// What a guest's description says of what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct Says {
    /// What follows when it does not run.
    pub failover: Failover,
    /// What it takes.
    pub needs: Needs,
}

impl Says {
    /// Of a guest that is described so.
    #[must_use]
    pub fn of(described: &Description) -> Self {
        let needs = Needs::of(described.memory, described.processors);
        Self { failover: described.failover, needs }
    }
}

/// An agent that serves the volumes of its pair.
#[derive(Debug)]
pub struct Pair {
    client: Client,
    status: Status,
    listing: Listing,
    socket: PathBuf,
}

impl Pair {
    /// Asks the agent at this control socket; `None`: its node has no volumes.
    ///
    /// # Errors
    ///
    /// It does not answer, or cannot say.
    pub fn ask(agent: &Path) -> Result<Option<Self>, Failure> {
        let mut client = Client::connect(agent)?;
        let status: Status = client.ask_for(&Request::Status, "status")?;
        if status.storage.is_none() {
            return Ok(None);
        }
        let listing: Listing = client.ask_for(&Request::VolumeList, "volumes")?;
        let Some(socket) = listing.socket.clone() else { return Ok(None) };
        Ok(Some(Self { client, status, listing, socket }))
    }

    /// The own volume of a guest, if it has one.
    #[must_use]
    pub fn volume(&self, guest: &str) -> Option<Name> {
        let name = name(guest).ok()?;
        let is_there = |name: &Name| self.listing.storage.volumes.iter().any(|one| one.name == name.as_str());
        Some(name).filter(is_there)
    }

    /// The guests that have one.
    pub fn guests(&self) -> impl Iterator<Item = &str> {
        self.listing.storage.volumes.iter().filter_map(|volume| guest(&volume.name))
    }

    /// How things were when the agent was asked.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// Whether a guest is to run in this pair.
    #[must_use]
    pub fn wants(&self, guest: &str) -> bool {
        let volume = name(guest).ok().and_then(|name| self.listing.volume(name.as_str()).ok());
        volume.and_then(|volume| volume.guest).is_some_and(|wanted| wanted.running)
    }

    /// Whether this node leads.
    ///
    /// # Errors
    ///
    /// Another one does, or none: which, and what to do.
    pub fn leads(&self) -> Result<(), Failure> {
        if self.listing.storage.leads { Ok(()) } else { Err(self.listing.no_guests_here()) }
    }

    /// Opens the own volume of a guest.
    ///
    /// # Errors
    ///
    /// It has none, or that is not served, not whole, or, where it is to be changed, not led here.
    pub fn open(&self, guest: &str, access: Access) -> Result<Contents<Served>, Failure> {
        if access == Access::Change {
            self.leads()?;
        }
        let volume = self.volume(guest).ok_or_else(|| has_none(guest))?;
        Contents::open(Served::connect(&self.socket, &volume, access)?)
            .map_err(|why| unusable(guest, &volume, &why))
    }

    /// As [`Self::open`], to change it; made, with so many blocks, if there is none.
    ///
    /// # Errors
    ///
    /// As there; or there is a guest in it.
    pub fn make(&mut self, guest: &str, blocks: u64) -> Result<Contents<Served>, Failure> {
        let contents = self.find_or_make(guest, blocks)?;
        if contents.table().entries().is_empty() {
            return Ok(contents);
        }
        let what = format!("there is a guest called {guest} already, in volume {}", name(guest)?);
        let next = format!("`bulkhead vm show {guest}` shows it; `vm update` describes it anew.");
        Err(Failure::refused(what).next(next))
    }

    /// The same, whatever is in it.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn find_or_make(&mut self, guest: &str, blocks: u64) -> Result<Contents<Served>, Failure> {
        self.leads()?;
        let volume = name(guest)?;
        if self.volume(guest).is_none() {
            self.client.ask(&Request::VolumeCreate { name: volume.to_string(), blocks })?;
        }
        let served = Served::connect(&self.socket, &volume, Access::Change)?;
        Contents::open_new(served).map_err(|why| unusable(guest, &volume, &why))
    }

    /// Deletes the own volume of a guest, and all that is in it.
    ///
    /// # Errors
    ///
    /// This node does not lead, or the agent does not do it.
    pub fn delete(&mut self, guest: &str) -> Result<(), Failure> {
        self.client.ask(&Request::VolumeDelete { name: name(guest)?.to_string() }).map(drop)
    }
}

/// Says that a guest is to run on whichever node leads, as its description says, or to run nowhere; durably,
/// on both sides. Nothing is said of a guest without an own volume.
///
/// # Errors
///
/// The agent does not answer, or does not lead.
pub fn want(agent: &Path, guest: &str, running: bool, says: Option<Says>) -> Result<(), Failure> {
    let Some(mut pair) = Pair::ask(agent)? else { return Ok(()) };
    let Some(volume) = pair.volume(guest) else { return Ok(()) };
    let known = pair.listing.volume(volume.as_str())?.guest;
    let (failover, needs) = match says {
        Some(Says { failover, needs }) => (failover, Some(needs).filter(|_| room::is_counted(&pair.status))),
        None => (known.map(Wanted::failover).unwrap_or_default(), known.and_then(|known| known.needs)),
    };
    let wanted = Wanted::of(running, failover, needs);
    if known == Some(wanted) || (known.is_none() && !running) {
        return Ok(());
    }
    pair.client.ask(&Request::GuestWanted { name: volume.to_string(), wanted }).map(drop)
}

/// There is none where one is needed.
pub fn has_none(guest: &str) -> Failure {
    let what = format!("guest {guest} has no volume of its own on this pair");
    Failure::failed(what)
        .next("`bulkhead vm list` lists the guests; name a FILE for one that is on one node.")
}

/// A volume that is there, and is not what it is to be.
pub fn unusable(guest: &str, volume: &Name, why: &NotOpen) -> Failure {
    let failure = Failure::failed(format!("volume {volume}: {why}"));
    match why {
        NotOpen::Unsound(Unsound::Empty) => {
            let what = format!("there is no guest in volume {volume}: its making was not finished");
            let next = format!("`bulkhead vm create` makes it; `vm delete {guest}` deletes the volume.");
            Failure::failed(what).next(next)
        }
        NotOpen::Unsound(Unsound::Version(_)) => failure.next("use the version of `bulkhead` that wrote it."),
        NotOpen::Unsound(_) => {
            let next = format!(
                "`bulkhead volume scrub` looks for damage; `vm delete {guest}` and `vm create` make it anew."
            );
            failure.next(next)
        }
        NotOpen::Io(_) => failure.next("`bulkhead volume list` says how the volumes are."),
    }
}
