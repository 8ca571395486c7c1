//! Boxes and slots: how many guests of a class have room, whichever hosts are lost (S3-15, S3-16, S3-17).
//!
//! The *box* is the largest need of any guest, kind by kind. A host has as many *slots* as boxes fit on it,
//! and from all slots those of the largest hosts are taken away, as many as may be lost. Every guest fits a
//! slot, so as many guests as slots are left find room, wherever they are.
//!
//! With *graded* boxes small guests are counted in small boxes. The large box is what the others need, and at
//! least a small one, so that a slot for a large guest also serves as slots for small ones. It counts on
//! small guests that make room for large ones, and move: the large ones must have the higher priority
//! (S4-18).
//!
//! | corner                              | then                                                      |
//! |-------------------------------------|-----------------------------------------------------------|
//! | no guest                            | there is no box, no slot is needed, and none is counted   |
//! | nobody needs any of a kind          | that kind limits nobody                                   |
//! | a host smaller than the box         | it has no slot                                            |
//! | as many losses as hosts, or more    | no slot is left                                           |
//! | hosts of different sizes            | those with the most slots count as lost                   |
//! | a placeholder                       | takes a slot as its guest does, for both have room now    |

use super::amounts::Amounts;
use super::guest::GuestIndex;
use super::hosts::HOSTS_MAX;

/// How guests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boxes<const K: usize> {
    /// All in the box of the largest.
    One,
    /// Those that need no more than this, in boxes of this size.
    Graded(Amounts<K>),
}

/// Slots of one size of box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots<const K: usize> {
    /// The box.
    pub capacity: Amounts<K>,
    /// Of each kind, who sets it: the first of those that need most. `None`: nobody needs any, or it is the
    /// size of a small box, which the operator chose.
    pub set_by: [Option<GuestIndex>; K],
    /// On all hosts.
    pub total: u64,
    /// Of those, on the largest hosts, which may be lost.
    pub lost: u64,
    /// How many it takes.
    pub needed: u64,
}

impl<const K: usize> Slots<K> {
    const NONE: Self = Self { capacity: Amounts::NONE, set_by: [None; K], total: 0, lost: 0, needed: 0 };

    /// How many there are when the largest hosts are lost.
    pub const fn max(&self) -> u64 {
        self.total.saturating_sub(self.lost)
    }

    /// How many are missing.
    pub const fn lacks(&self) -> u64 {
        self.needed.saturating_sub(self.max())
    }

    /// The larger of each kind, and who it was.
    fn widen(&mut self, guest: GuestIndex, needs: Amounts<K>) {
        let kinds = self.capacity.0.iter().zip(needs.0);
        for (by, (most, needed)) in self.set_by.iter_mut().zip(kinds) {
            if *most < needed {
                *by = Some(guest);
            }
        }
        self.capacity = self.capacity.or_more(needs);
    }

    /// Counts slots on each host.
    fn count(&mut self, losses: usize, on_hosts: impl Iterator<Item = u64>) {
        let mut slots = [0; HOSTS_MAX];
        for (place, count) in slots.iter_mut().zip(on_hosts) {
            *place = count;
        }
        slots.sort_unstable();
        let sum = |slots: &[u64]| slots.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        let kept = slots.len().saturating_sub(losses);
        self.total = sum(&slots);
        self.lost = sum(slots.get(kept..).unwrap_or_default());
    }
}

/// The slots of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<const K: usize> {
    /// For the guests that are counted in the box of the largest.
    pub large: Slots<K>,
    /// For all guests, in small boxes; `None`: boxes are not graded.
    pub small: Option<Slots<K>>,
}

impl<const K: usize> Count<K> {
    /// Counts guests and the slots of hosts, given what the hosts provide.
    pub(super) fn new(
        boxes: Boxes<K>,
        losses: usize,
        guests: impl Iterator<Item = (GuestIndex, Amounts<K>)>,
        hosts: impl Iterator<Item = Amounts<K>> + Clone,
    ) -> Self {
        let (mut large, mut small_guests) = (Slots::NONE, 0_u64);
        for (guest, needs) in guests {
            match boxes {
                Boxes::Graded(small) if needs.fits(small) => small_guests = small_guests.saturating_add(1),
                Boxes::One | Boxes::Graded(_) => {
                    large.widen(guest, needs);
                    large.needed = large.needed.saturating_add(1);
                }
            }
        }
        let Boxes::Graded(box_of_small) = boxes else {
            let capacity = large.capacity;
            large.count(losses, hosts.map(|host| capacity.times_in(host).unwrap_or(0)));
            return Self { large, small: None };
        };
        if 0 < large.needed {
            large.capacity = large.capacity.or_more(box_of_small);
        }
        let capacity = large.capacity;
        let on = |host: Amounts<K>| capacity.times_in(host).unwrap_or(0);
        large.count(losses, hosts.clone().map(on));
        let in_large = box_of_small.times_in(capacity).unwrap_or(0);
        let mut small = Slots { capacity: box_of_small, ..Slots::NONE };
        small.needed = small_guests.saturating_add(large.needed.saturating_mul(in_large));
        small.count(
            losses,
            hosts.map(|host| match on(host) {
                0 => box_of_small.times_in(host).unwrap_or(0),
                slots => slots.saturating_mul(in_large),
            }),
        );
        Self { large, small: Some(small) }
    }

    /// Whether everybody has room, whichever hosts are lost.
    pub const fn is_enough(&self) -> bool {
        let small_lacks = match &self.small {
            Some(small) => small.lacks(),
            None => 0,
        };
        self.large.lacks() == 0 && small_lacks == 0
    }
}
