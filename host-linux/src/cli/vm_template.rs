//! The volumes that `bulkhead vm create --template` makes for a guest, before that is made (S0-24).

use super::cluster::AgentArg;
use crate::cluster::client::Client;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::guests::template::NewVolume;
use crate::output::{Report, size};
use crate::volume::orders::Listing;
use crate::volume::size::BLOCK;

/// Volumes that were made, and whom to ask to delete them again.
pub(super) struct Made<'a> {
    agent: Option<Client>,
    volumes: &'a [NewVolume],
}

/// Makes them, all or none. Those that are there already are somebody's.
pub(super) fn make<'a>(agent: &AgentArg, guest: &str, volumes: &'a [NewVolume]) -> Result<Made<'a>, Failure> {
    if volumes.is_empty() {
        return Ok(Made { agent: None, volumes });
    }
    let mut client = agent.connect()?;
    let listing: Listing = client.ask_for(&Request::VolumeList, "volumes")?;
    let is_there = |new: &&NewVolume| listing.storage.volumes.iter().any(|one| one.name == new.name.as_str());
    if let Some(new) = volumes.iter().find(is_there) {
        let what =
            format!("there is a volume {} already, and the template would make it for {guest}", new.name);
        let next = format!("name it as a [[disk]] without `size` in a file of {guest}'s own, or delete it.");
        return Err(Failure::refused(what).left("Nothing was made.").next(next));
    }
    let mut made = Made { agent: Some(client), volumes: &[] };
    for (at, new) in (1..).zip(volumes) {
        let asked = made.ask(&Request::VolumeCreate { name: new.name.to_string(), blocks: new.blocks });
        asked.map_err(|why| made.undo(why))?;
        made.volumes = volumes.get(..at).unwrap_or(volumes);
        if new.mode.is_some() {
            let volume = Some(new.name.to_string());
            made.ask(&Request::VolumeMode { volume, mode: new.mode }).map_err(|why| made.undo(why))?;
        }
    }
    Ok(made)
}

impl Made<'_> {
    fn ask(&mut self, request: &Request) -> Result<(), Failure> {
        self.agent.as_mut().map_or(Ok(()), |agent| agent.ask(request).map(drop))
    }

    /// Says what was made beside the guest.
    pub(super) fn beside(self, mut report: Report) -> Report {
        let names: Vec<String> = self.volumes.iter().map(|volume| volume.name.to_string()).collect();
        for volume in self.volumes {
            let bytes = size(volume.blocks.saturating_mul(BLOCK));
            report.text = format!("Volume {} was made: {bytes}\n{}", volume.name, report.text);
        }
        if let Some(object) = report.json.as_object_mut() {
            object.insert("volumes".into(), names.into());
        }
        report
    }

    /// Deletes them: the guest was not made, for this reason.
    pub(super) fn undo(&mut self, why: Failure) -> Failure {
        let mut left = Vec::new();
        for volume in self.volumes {
            if self.ask(&Request::VolumeDelete { name: volume.name.to_string() }).is_err() {
                left.push(volume.name.as_str());
            }
        }
        if left.is_empty() {
            return why;
        }
        let left = format!("{} Of its disks there are {}.", why.left, left.join(", "));
        why.left(left.trim_start())
    }
}
