//! How much room a node has for guests, and who gets it (S1-38, S1-40, S3-14 to S3-18).
//!
//! All guests of a pair run on one of its nodes, so of the five steps of S1-40 one question is left: in which
//! order they get that node's room. Those that are there have theirs already. The others take it by what they
//! matter; one that does not fit waits, and smaller ones behind it may still find room. One that is tried
//! again and again keeps what it takes: nobody who matters less gets it meanwhile, and has to go again.

use crate::placement::amounts::{AMOUNT_MAX, Amounts, Kind, Shortage};
use crate::volume::guest::Needs;

/// Of how many kinds a node has something.
pub const KINDS: usize = 2;
/// MiB of memory.
pub const MEMORY: Kind = Kind(0);
/// Processors of guests; a node may have less of its own.
pub const PROCESSORS: Kind = Kind(1);

/// What a node has for guests.
pub type Room = Amounts<KINDS>;

/// That of a node of which nobody said how much it is.
pub const UNBOUNDED: Room = Amounts([AMOUNT_MAX; KINDS]);

/// What a guest takes; nothing, if nobody counts that.
pub fn taken(needs: Option<Needs>) -> Room {
    needs.map_or(Amounts::NONE, |Needs { memory, processors }| {
        Amounts([u64::from(memory.get()), u64::from(processors.get())])
    })
}

/// What is left of a node's room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left(Room);

impl Left {
    /// All of it.
    pub const fn of(room: Room) -> Self {
        Self(room)
    }

    /// How much that is.
    pub const fn amounts(self) -> Room {
        self.0
    }

    /// A guest is there already, and has what it takes, also where that is more than there was.
    pub fn take(&mut self, needs: Option<Needs>) {
        self.0 = self.0.minus(taken(needs));
    }

    /// A guest takes what it needs.
    ///
    /// # Errors
    ///
    /// It does not fit: what is missing. Then it takes nothing.
    pub fn fit(&mut self, needs: Option<Needs>) -> Result<(), Shortage> {
        match taken(needs).shortage(self.0) {
            None => {
                self.take(needs);
                Ok(())
            }
            Some(shortage) => Err(shortage),
        }
    }
}

/// What guests take that find room on a node which has so much, and no guest yet: by what each of them needs,
/// the most important first.
pub fn taken_by(room: Room, guests: impl Iterator<Item = Option<Needs>>) -> Room {
    let mut left = Left::of(room);
    for needs in guests {
        // Who does not fit is passed over, as when they begin.
        let _ = left.fit(needs);
    }
    room.minus(left.amounts())
}

#[cfg(test)]
mod tests {
    use core::num::{NonZeroU8, NonZeroU32};

    use super::*;

    fn needs(memory: u32, processors: u8) -> Option<Needs> {
        Some(Needs { memory: NonZeroU32::new(memory)?, processors: NonZeroU8::new(processors)? })
    }

    /// S3-16: each kind by itself; who does not fit takes nothing.
    #[test]
    fn what_fits_is_taken_and_what_does_not_is_named() {
        let mut left = Left::of(Amounts([1000, 4]));
        assert_eq!(left.fit(needs(600, 1)), Ok(()));
        let short = left.fit(needs(600, 1)).unwrap_err();
        assert_eq!((short.kind, short.lacks), (MEMORY, 200));
        let short = left.fit(needs(400, 4)).unwrap_err();
        assert_eq!((short.kind, short.lacks), (PROCESSORS, 1));
        assert_eq!(left.fit(needs(400, 3)), Ok(()));
        assert_eq!(left.amounts(), Amounts::NONE);
        assert_eq!(left.fit(None), Ok(()), "nobody counts it");
        left.take(needs(5000, 1));
        assert_eq!(left.amounts(), Amounts::NONE, "no debts");
    }

    /// S4-04: what is kept for guests is what they will take, and no more than there is.
    #[test]
    fn what_is_taken_is_what_finds_room() {
        let guests = || [600, 500, 400].map(|memory| needs(memory, 1)).into_iter();
        assert_eq!(taken_by(Amounts([1000, 4]), guests()), Amounts([1000, 2]), "the second one waits");
        assert_eq!(taken_by(Amounts([999, 4]), guests()), Amounts([600, 1]));
        assert_eq!(taken_by(UNBOUNDED, guests()), Amounts([1500, 3]));
        assert_eq!(taken_by(UNBOUNDED, [None].into_iter()), Amounts::NONE, "nobody counts it");
    }

    /// A node of which nothing was said has room for all that there may be.
    #[test]
    fn a_node_without_a_bound_has_room_for_everybody() {
        let mut left = Left::of(UNBOUNDED);
        for _ in 0..crate::volume::NUMBER_MAX {
            assert_eq!(left.fit(needs(1 << 24, u8::MAX)), Ok(()));
        }
    }
}
