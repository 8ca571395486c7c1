//! Where guests would go: the search, asked ahead for every loss that may come (S3-21, S3-08).
//!
//! Whoever computes this need not be highly available: the nodes keep the last table that they were given,
//! and each of them can make it anew from the same lists. To be made again when a guest or a host comes or
//! goes, and from time to time, for what guests use changes (`Guest::load`).

use super::TooSmall;
use super::answer::Placement;
use super::hosts::{HostIndex, HostSet};
use super::memory::Memory;
use super::search::{Question, place};
use super::site::{Site, running_on};
use super::zones::ZoneIndex;

/// What may be lost at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// One host.
    Host(HostIndex),
    /// All hosts of a zone: of a rack, a fire compartment, a building.
    Zone(ZoneIndex),
}

impl Loss {
    /// The hosts that are lost.
    pub fn hosts<const K: usize>(self, site: &Site<'_, K>) -> HostSet {
        match self {
            Self::Host(host) => HostSet::one(host),
            Self::Zone(zone) => site.hosts_in(zone),
        }
    }
}

/// Each host, and each zone that has hosts.
pub fn losses<'s, const K: usize>(site: &'s Site<'_, K>) -> impl Iterator<Item = Loss> + 's {
    let zones = (0..).map(ZoneIndex).zip(site.description().zones).map(|(zone, _)| Loss::Zone(zone));
    let some = |loss: &Loss| loss.hosts(site) != HostSet::NONE;
    site.hosts().iter().map(Loss::Host).chain(zones.filter(some))
}

/// Where every guest would run after a loss.
///
/// # Errors
///
/// `memory` has not a row for each guest.
pub fn after<'q, 'a, const K: usize>(
    question: Question<'q, 'a, K>,
    loss: Loss,
    memory: Memory<'q>,
) -> Result<Placement<'q, 'a, K>, TooSmall> {
    let up = question.up.without(loss.hosts(question.site));
    place(Question { up, ..question }, memory)
}

/// The table that the nodes keep: of each guest, the host that it goes to when it loses its own. `None`: it
/// has no host, or would find no other one; [`after`] says why.
///
/// # Errors
///
/// `memory` or `table` has not a row for each guest.
pub fn table<const K: usize>(
    question: Question<'_, '_, K>,
    memory: &mut Memory<'_>,
    table: &mut [Option<HostIndex>],
) -> Result<(), TooSmall> {
    let needed = question.site.description().guests.len();
    let table = table.get_mut(..needed).ok_or(TooSmall { needed })?;
    table.fill(None);
    for host in question.site.hosts().among(question.up).iter() {
        let placement = after(question, Loss::Host(host), memory.again())?;
        for (row, (guest, what)) in table.iter_mut().zip(question.site.guests()) {
            if running_on(what) == Some(host) {
                *row = placement.host_of(guest);
            }
        }
    }
    Ok(())
}
