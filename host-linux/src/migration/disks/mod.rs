//! What is on the disks of a guest goes over with it, to a node that has nothing of it: read where it runs,
//! while it writes there, and durable at the other node before the guest is given away (S0-11, X15).
//!
//! # Reading order
//!
//! 1. [`piece`]: a part of a disk in bytes.
//! 2. [`source`]: where the guest leaves; [`target`]: where it comes.
//! 3. [`volumes`]: made there, if they are volumes.
//! 4. [`partial`]: what is noted there of disks that are not all there.

pub mod partial;
pub mod piece;
pub mod source;
pub mod target;
pub mod volumes;

#[cfg(test)]
mod tests;

use crate::cluster::guest_moves::GuestRoad;
use crate::failure::Failure;
use crate::guests::home::ORIGIN;
use crate::nbd::export::{Answer, Errno, Failed, Reply, Request};
use crate::vmm::description::{Content, Description};
use std::path::Path;
use std::sync::mpsc::channel;

/// Asks a server, and waits for its answer: as long as its client does.
fn ask(submit: impl FnOnce(Request, Reply), request: Request) -> Answer {
    let (tell, heard) = channel();
    submit(request, Reply::new(move |answer| drop(tell.send(answer))));
    heard.recv().unwrap_or_else(|_| Err(Failed::new(Errno::Shutdown, "nobody has answered")))
}

/// Whether what is on the disks of a guest can go this way; `record` stands beside its description.
///
/// # Errors
///
/// It is there already, or the guest is one of its pair.
pub fn may_go(
    described: &Description,
    road: &GuestRoad,
    is_leased: bool,
    record: Option<&Path>,
) -> Result<(), Failure> {
    let name = &described.name;
    let is_volume = |content: &Content| matches!(content, Content::Volume(_));
    let has_volume = described.disks.iter().any(|disk| !disk.is_read_only && is_volume(&disk.content));
    if road.is_of_same_pair() && (is_leased || has_volume) {
        let what = format!("{} has the volumes of guest {name} already: both are of one pair", road.name);
        return Err(Failure::refused(what).next("leave --copy-disks out."));
    }
    if is_own(record) && !is_leased {
        let what = format!("guest {name} is in a volume of its own, and runs by nobody's lease");
        let next = format!("stop it, and start it by the lease of this node: `bulkhead vm start {name}`.");
        return Err(Failure::refused(what).next(next));
    }
    Ok(())
}

/// Whether the guest whose record is there has a volume of its own.
#[must_use]
pub fn is_own(record: Option<&Path>) -> bool {
    record.is_some_and(|record| record.with_file_name(ORIGIN).exists())
}
