//! What is wanted of a guest: in the record of its own volume, so that every holder of the pair knows,
//! durably and in the order of the log, which guests are to run, which of them first, and where they belong
//! (S3-01, S3-13, S3-19, S0-12, S0-19).

use core::fmt;
use core::num::{NonZeroU8, NonZeroU32};

use super::name::Name;
use crate::id::Side;

/// Bytes of a group's name at most.
pub const GROUP_MAX: usize = 16;
/// Bytes of a guest in a record, without what it takes.
const PLACED: usize = 20;
/// Bytes of a guest in a record.
pub(super) const LEN: usize = PLACED + 5;

/// What is wanted of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guest {
    /// It is to run.
    pub is_wanted: bool,
    /// What follows when it does not, and should.
    pub failover: Failover,
    /// Those with a higher one begin first.
    pub priority: u8,
    /// The compartment where it belongs; `None`: either.
    pub home: Option<Side>,
    /// Those of one group do each other's work, and are to run on different nodes.
    pub apart: Option<Group>,
    /// What it takes of its node; `None`: nobody counts that.
    pub needs: Option<Needs>,
}

/// What a guest takes of the node that it runs on (S3-15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Needs {
    /// MiB of memory, what is begun counted whole. Invariant: not 0.
    pub memory: NonZeroU32,
    /// Processors. Invariant: not 0.
    pub processors: NonZeroU8,
}

/// What follows when a guest that is to run does not: its node was lost, or its process (S3-11, S3-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Failover {
    /// Nothing: an operator starts it.
    Stay,
    /// It begins anew, with its kernel.
    #[default]
    Restart,
    /// It goes on from its last snapshot, if its disks hold what they held then; else it begins anew.
    Resume,
}

/// The name of guests that are to be apart. Invariant: a [`Name`] of at most [`GROUP_MAX`] bytes, the rest
/// zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group([u8; GROUP_MAX]);

impl Group {
    /// A group of this name; `None`: it is too long, or no name.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        Name::new(name).ok()?;
        let mut bytes = [0; GROUP_MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self(bytes))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let used = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        // It is a name, and so ASCII.
        core::str::from_utf8(used).unwrap_or_default()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({})", self.as_str())
    }
}

/// The bytes of a record.
pub(super) fn bytes(guest: Option<Guest>) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let Some(Guest { is_wanted, failover, priority, home, apart, needs }) = guest else { return bytes };
    let failover = match failover {
        Failover::Stay => 0,
        Failover::Restart => 1,
        Failover::Resume => 2,
    };
    let home = match home {
        None => 0,
        Some(Side::A) => 1,
        Some(Side::B) => 2,
    };
    let (memory, processors) = needs.map_or((0, 0), |needs| (needs.memory.get(), needs.processors.get()));
    let [m0, m1, m2, m3] = memory.to_le_bytes();
    if let Some((placed, needs)) = bytes.split_first_chunk_mut::<PLACED>()
        && let Some((first, group)) = placed.split_first_chunk_mut::<4>()
    {
        *first = [if is_wanted { 2 } else { 1 }, failover, priority, home];
        group.copy_from_slice(&apart.map_or([0; GROUP_MAX], |group| group.0));
        needs.copy_from_slice(&[m0, m1, m2, m3, processors]);
    }
    bytes
}

/// What the bytes of a record say; `None`: they make no sense.
pub(super) fn read(bytes: [u8; LEN]) -> Option<Option<Guest>> {
    let (placed, needs) = bytes.split_first_chunk::<PLACED>()?;
    let ([state, failover, priority, home], group) = placed.split_first_chunk::<4>()?;
    let failover = match failover {
        0 => Failover::Stay,
        1 => Failover::Restart,
        2 => Failover::Resume,
        3.. => return None,
    };
    let home = match home {
        0 => None,
        1 => Some(Side::A),
        2 => Some(Side::B),
        3.. => return None,
    };
    let used = group.split(|byte| *byte == 0).next()?;
    let apart = match used {
        [] => None,
        name => Some(Group::new(core::str::from_utf8(name).ok()?)?),
    };
    let (memory, processors) = needs.split_first_chunk::<4>()?;
    let needs = match (NonZeroU32::new(u32::from_le_bytes(*memory)), NonZeroU8::new(*processors.first()?)) {
        (Some(memory), Some(processors)) => Some(Needs { memory, processors }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return None,
    };
    let of = |is_wanted| Guest { is_wanted, failover, priority: *priority, home, apart, needs };
    match state {
        0 => Some(None),
        1 => Some(Some(of(false))),
        2 => Some(Some(of(true))),
        3.. => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_short_name() {
        for good in ["dcs", "a", "sixteen-letters."] {
            assert_eq!(Group::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a b", "seventeen-letters"] {
            assert_eq!(Group::new(bad), None, "{bad:?}");
        }
    }
}
