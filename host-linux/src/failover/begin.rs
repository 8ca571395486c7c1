//! One guest is begun on the node that leads its volumes, from its own volume: with nothing that this node
//! had before (S3-06, S3-11).

use super::service::Settings;
use super::sight::note_beside;
use crate::failure::Failure;
use crate::guests::own_volume::contents::Contents;
use crate::guests::own_volume::keeping::{self, Before};
use crate::guests::own_volume::served::{Access, Served};
use crate::guests::own_volume::state::LAST;
use crate::guests::own_volume::table::What;
use crate::guests::own_volume::{self as own};
use crate::guests::process::{self, Start};
use crate::vmm::begins::Kept;
use bulkhead_core::failover::life::How;
use bulkhead_core::volume::name::Name;
use std::process::Child;

/// How a guest was begun, by its process.
#[derive(Debug)]
pub struct Begun {
    /// It goes on from its last snapshot, and did not begin anew.
    pub is_resumed: bool,
    /// Why it did not, if it was to.
    pub why_not: Option<Failure>,
    /// Its process, which outlives this one; to be waited for if it does not.
    pub process: Child,
}

/// Begins a guest; returns when it runs.
///
/// # Errors
///
/// Its own volume has no whole guest, or it could not begin: what its process said.
pub fn begin(settings: &Settings, guest: &str, how: How) -> Result<Begun, Failure> {
    let volume = own::name(guest)?;
    let contents = Contents::open(Served::connect(&settings.volumes, &volume, Access::Read)?)
        .map_err(|why| own::pair::unusable(guest, &volume, &why))?;
    let home = keeping::bring(&contents, &settings.homes, guest, Before::Copy, &|_| ())?;
    let last = Name::new(LAST).ok().filter(|_| how == How::Again);
    let last = last.filter(|last| contents.table().find(&What::Snapshot(last.clone())).is_some());
    // Its process reads it itself, and so needs nobody's leave.
    drop(contents);
    // What it came to before says nothing of this time, even if its process says nothing at all.
    let _ = std::fs::remove_file(note_beside(&home.description()));
    let agent = Some(settings.agent.as_path());
    let start = Start { is_paused: false, agent, snapshot: None, bases: &[], is_here: false };
    let mut why_not = None;
    if let Some(last) = last {
        match process::start(&home, Start { snapshot: Some(&Kept::Own(last)), ..start }, &mut |_| false) {
            Ok(process) => return Ok(Begun { is_resumed: true, why_not, process }),
            Err(why) => why_not = Some(why),
        }
    }
    process::start(&home, start, &mut |_| false).map(|process| Begun { is_resumed: false, why_not, process })
}
