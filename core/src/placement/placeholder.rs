//! Where a guest's placeholder goes: when it is made, and when its host was lost (S4-04, S4-05, S4-12).

use core::cmp::Reverse;

use super::TooSmall;
use super::guest::GuestIndex;
use super::hosts::HostIndex;
use super::memory::Memory;
use super::search::{Question, Search};
use super::steps::Found;

/// The host that is to keep room for a guest. It has that room now: nobody has to go for a placeholder. It is
/// as far from the guest as can be, so that one loss is not likely to take both; equally far ones come as in
/// the five steps. The guest's siblings and their placeholders are elsewhere.
///
/// `None`: there is no such host, or no such guest. It is asked again when something has changed; until then
/// the guest is one of those that look for room when their host is lost.
///
/// # Errors
///
/// `memory` has not a row for each guest.
pub fn host_for<const K: usize>(
    question: Question<'_, '_, K>,
    guest: GuestIndex,
    memory: &mut Memory<'_>,
) -> Result<Option<HostIndex>, TooSmall> {
    let needed = question.site.description().guests.len();
    let memory = memory.again().fit(needed)?;
    if needed <= usize::from(guest.0) {
        return Ok(None);
    }
    let search = Search::new(question, memory);
    let candidates = search.view(0).candidates(guest);
    let free = candidates.iter().filter(|candidate| match candidate.found {
        Found::Placeholder | Found::Alternate | Found::SameZone | Found::SamePool | Found::SameClass => true,
        Found::Kept | Found::PreemptedHere | Found::PreemptedElsewhere => false,
    });
    Ok(free.min_by_key(|candidate| (Reverse(candidate.distance), **candidate)).map(|best| best.host))
}
