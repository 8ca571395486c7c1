//! What a guest's disks held when it was captured, so that memory and disks belong to one instant (S3-06): a
//! seal on each volume that it may write to, which the next write takes away, whoever writes it
//! (`bulkhead_core::volume::record::Seal`).

use super::super::description::{Content, Description};
use super::super::lease::is_at;
use super::format::Unreadable;
use crate::cluster::client::Client;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::volume::orders::Listing;
use bulkhead_core::volume::record::Seal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// What a volume held. The order of fields is that of the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedDisk {
    /// The volume's name.
    volume: String,
    /// Which one it is, whatever is called so.
    uuid: String,
    /// What it held, by name.
    seal: String,
}

/// Seals the volumes that a guest writes to, by the agent at this socket. The guest stands still, and nothing
/// of it is under way.
///
/// # Errors
///
/// The agent does not lead its volumes, or does not answer.
pub fn seal(described: &Description, agent: &Path) -> Result<Vec<SealedDisk>, Failure> {
    let captured = |failure: Failure| {
        let what = format!("guest {} cannot be captured: {}", described.name, failure.what);
        Failure { what, ..failure }.left("Nothing was written; the guest goes on.")
    };
    seal_each(described, agent).map_err(captured)
}

fn seal_each(described: &Description, agent: &Path) -> Result<Vec<SealedDisk>, Failure> {
    let mut client = Client::connect(agent)?;
    let listing: Listing = client.ask_for(&Request::VolumeList, "volumes")?;
    let mut sealed = Vec::new();
    for name in writable(described, &listing) {
        let seal = draw()?.to_string();
        client.ask_for::<Value>(&Request::VolumeSeal { name: name.clone(), seal: seal.clone() }, "volume")?;
        let uuid = listing.volume(&name)?.uuid.clone();
        sealed.push(SealedDisk { volume: name, uuid, seal });
    }
    Ok(sealed)
}

/// Whether the volumes still hold what they held, by the agent at this socket.
///
/// # Errors
///
/// One of them does not, and which; or the agent does not answer.
pub fn check(sealed: &[SealedDisk], agent: &Path) -> Result<(), Failure> {
    if sealed.is_empty() {
        return Ok(());
    }
    let listing: Listing = Client::connect(agent)?.ask_for(&Request::VolumeList, "volumes")?;
    for SealedDisk { volume: name, uuid, seal } in sealed {
        let volume = listing.storage.volumes.iter().find(|volume| volume.name == *name);
        let why = match volume {
            None => format!("pair {} has no volume {name} any more", listing.pair),
            Some(volume) if volume.uuid != *uuid => format!("{name} is another volume than it was then"),
            Some(volume) if volume.seal.as_ref() != Some(seal) => {
                format!("volume {name} was written to since the snapshot was taken")
            }
            Some(_) => continue,
        };
        let next = "start it anew (`bulkhead vm start`): its disks have everything that was acknowledged.";
        let what = format!("its memory and its disks are not of one instant: {why}");
        return Err(Failure::refused(what).left("The guest was not started.").next(next));
    }
    Ok(())
}

/// The volumes of the agent that the guest may write to.
fn writable(described: &Description, listing: &Listing) -> Vec<String> {
    let writable = described.disks.iter().filter(|disk| !disk.is_read_only);
    let of_agent = writable.filter_map(|disk| match &disk.content {
        Content::Volume(name) => Some(name.to_string()),
        Content::Served(uri) => {
            let socket = listing.socket.as_ref()?;
            is_at(uri, socket).then(|| uri.export.clone())
        }
    });
    let mut names: Vec<_> = of_agent.collect();
    names.sort();
    names.dedup();
    names
}

fn draw() -> Result<Seal, Failure> {
    let failed = |why: String| Failure::failed(format!("no random numbers: {why}"));
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| failed(error.to_string()))?;
    Seal::new(bytes).ok_or_else(|| failed("all of them are zero".into()))
}

/// In bytes.
///
/// # Errors
///
/// None that is known.
pub fn bytes(sealed: &[SealedDisk]) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(sealed, Vec::new())
}

/// What these bytes are.
///
/// # Errors
///
/// Nothing that this program writes.
pub fn read(bytes: &[u8]) -> Result<Vec<SealedDisk>, Unreadable> {
    let nonsense = |why: String| Unreadable::Nonsense(format!("what its disks held: {why}"));
    let (sealed, rest) = postcard::take_from_bytes(bytes).map_err(|error| nonsense(error.to_string()))?;
    match rest {
        [] => Ok(sealed),
        rest => Err(nonsense(format!("{} bytes too many", rest.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes are in the field. If this test fails, add a version; do not edit the bytes.
    #[test]
    fn version_1_never_changes() {
        let disk = SealedDisk { volume: "web1".into(), uuid: "0707".into(), seal: "a5".into() };
        let expected = b"\x01\x04web1\x040707\x02a5";
        assert_eq!(bytes(std::slice::from_ref(&disk)).unwrap(), expected);
        assert_eq!(read(expected).unwrap(), [disk]);
        for cut in 0..expected.len() {
            assert!(read(&expected[..cut]).is_err(), "{cut}");
        }
        assert!(read(&[&expected[..], &[0]].concat()).is_err());
    }
}
