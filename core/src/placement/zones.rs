//! Redundancy zones: site, building, fire compartment, rack, power area; each within another (S1-39, S1-42).
//!
//! They are listed from the outermost inwards, so that no zone is within itself. A zone within no other is
//! the outermost of a site; sites are not replicated synchronously, and nothing is placed across.

use core::time::Duration;

/// Zones within zones. Five are named by the requirement; more is taken for a mistake.
pub const DEPTH_MAX: usize = 8;

/// A zone, by its place in the site's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneIndex(pub u16);

/// One zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The zone that it is in. That one comes before it in the list.
    pub within: Option<ZoneIndex>,
    /// The longest round trip between two of its hosts, as measured (S1-43).
    pub round_trip: Duration,
}

/// A zone and all that it is in, from the inside out.
pub(super) fn outwards(zones: &[Zone], from: ZoneIndex) -> impl Iterator<Item = ZoneIndex> {
    let within = |zone: &ZoneIndex| zones.get(usize::from(zone.0))?.within;
    core::iter::successors(Some(from), within).take(DEPTH_MAX)
}

/// Whether a zone is in another one, or is that one.
pub(super) fn is_within(zones: &[Zone], inner: ZoneIndex, outer: ZoneIndex) -> bool {
    outwards(zones, inner).any(|zone| zone == outer)
}

/// How far `to` is from `from`: how many zones one leaves until `to` is inside. `None`: another site.
pub(super) fn distance(zones: &[Zone], from: ZoneIndex, to: ZoneIndex) -> Option<u8> {
    let mut left = (0..).zip(outwards(zones, from));
    left.find(|(_, zone)| is_within(zones, to, *zone)).map(|(steps, _)| steps)
}
