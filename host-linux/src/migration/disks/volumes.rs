//! Volumes of the pair that a guest comes to, for what comes with it: made as large, under the same names.

use crate::cluster::client::Client;
use crate::cluster::request::Request;
use crate::failure::Failure;
use crate::guests::own_volume::table::{BLOCK, blocks};
use crate::migration::words::Sizes;
use crate::vmm::description::{Content, Description};
use crate::volume::orders::Listing;
use std::path::Path;

/// Has the volumes be there that a guest's disks are, as it is described here, by the agent at this socket.
/// One that is there already is left: whether it can be written is seen later.
///
/// # Errors
///
/// This node does not lead, or the agent does not make one.
pub fn make(agent: &Path, described: &Description, sizes: &Sizes, is_leased: bool) -> Result<(), Failure> {
    if !is_leased {
        return Ok(());
    }
    let mut client = Client::connect(agent)?;
    let listing: Listing = client.ask_for(&Request::VolumeList, "volumes")?;
    if !listing.storage.leads {
        return Err(listing.no_guests_here());
    }
    for (disk, size) in described.disks.iter().zip(sizes) {
        let (Content::Volume(name), Some(size)) = (&disk.content, size) else { continue };
        if listing.storage.volumes.iter().any(|volume| volume.name == name.as_str()) {
            continue;
        }
        let blocks = blocks(*size);
        if !size.is_multiple_of(BLOCK as u64) {
            let what = format!("a disk has {size} bytes, and volume {name} would have blocks of {BLOCK}");
            return Err(Failure::refused(what).next("name a `uri` in its description there."));
        }
        client.ask(&Request::VolumeCreate { name: name.to_string(), blocks })?;
    }
    Ok(())
}
