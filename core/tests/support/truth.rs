//! What is true of a node, whatever the core has written down: the oracle of walk and cut test.
//!
//! It shares no code with the core and is dumber: it counts starts and remembers confirmations.

use bulkhead_core::bcb::state::{Bcb, TRIES_DEFAULT};
use bulkhead_core::slot::{PerSlot, SlotId};

/// Tries a candidate gets in these tests.
pub const TRIES: u8 = 2;

/// What is true of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotTruth {
    /// The image that was flashed, whole, and recorded.
    pub image: Option<usize>,
    /// That image was confirmed, and not retired since.
    pub confirmed: bool,
    /// Times it was started by itself before it was confirmed.
    pub starts: u8,
    /// It was given up: rolled back, retired, or its record was lost.
    pub given_up: bool,
}

/// What a record changes in truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: a try, a preference.
    Nothing,
    /// The slot is being flashed.
    Emptied(SlotId),
    /// The image is whole in the slot and may be tried.
    Offered(SlotId, usize),
    /// The slot that runs is good, and holds this image.
    Confirmed(SlotId, usize),
    /// A person or a health check gave the slot up.
    GivenUp(SlotId),
}

/// A record that may or may not have become durable before the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InDoubt {
    pub next: Bcb,
    pub change: Change,
}

/// The truth about a node.
#[derive(Clone, Debug)]
pub struct Truth {
    pub slots: PerSlot<SlotTruth>,
    /// Highest security version that was confirmed.
    pub floor: u32,
    /// The last record that was completed.
    pub last: Bcb,
    /// Records begun since, and cut. Two torn writes of one sector may together make up an
    /// earlier one of them whole, so each stays possible until a record is completed.
    pub in_doubt: Vec<InDoubt>,
    /// Tries a candidate gets; the core's default once neither block nor mark tells.
    pub tries: u8,
    /// Both copies of the block are lost.
    pub lost: bool,
    /// Security version of each image.
    security: Vec<u32>,
}

impl Truth {
    /// A new disk: slot A holds image 0, confirmed by whoever made the disk.
    pub fn new(last: Bcb, security: &[u32]) -> Self {
        let mut truth = Self {
            slots: PerSlot::default(),
            floor: 0,
            last,
            in_doubt: Vec::new(),
            tries: TRIES,
            lost: false,
            security: security.to_vec(),
        };
        truth.apply(Change::Offered(SlotId::A, 0));
        truth.apply(Change::Confirmed(SlotId::A, 0));
        truth
    }

    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::Emptied(slot) => *self.slots.get_mut(slot) = SlotTruth::default(),
            Change::Offered(slot, image) => {
                *self.slots.get_mut(slot) = SlotTruth { image: Some(image), ..SlotTruth::default() };
            }
            Change::GivenUp(slot) => self.slots.get_mut(slot).given_up = true,
            Change::Confirmed(slot, image) => {
                let before = self.slots.get_mut(slot);
                *before = SlotTruth { image: Some(image), confirmed: true, given_up: false, ..*before };
                self.floor = self.floor.max(self.security[image]);
                let floor = self.floor;
                let other = self.slots.get_mut(slot.other());
                if other.image.is_some_and(|image| self.security[image] < floor) {
                    other.confirmed = false;
                    other.given_up = true;
                }
            }
        }
    }

    /// Settles what a cut left in doubt, from what the disk says now: all or nothing (I8).
    pub fn settle(&mut self, newest: Option<&Bcb>) {
        let Some(newest) = newest else {
            assert!(self.lost, "both copies of the block were lost to one cut");
            return;
        };
        let written = self.in_doubt.iter().rev().find(|in_doubt| in_doubt.next == *newest);
        if let Some(InDoubt { next, change }) = written.copied() {
            self.completed(next, change);
        } else {
            assert!(!self.lost, "a block appeared that nobody wrote");
            assert_eq!(*newest, self.last, "the block is neither what it was nor what it will be");
        }
    }

    /// A record became durable.
    pub fn completed(&mut self, record: Bcb, change: Change) {
        self.in_doubt.clear();
        self.lost = false;
        self.last = record;
        self.apply(change);
    }

    /// Both copies were lost: what the marks vouch for is confirmed, all else given up (F9).
    /// `vouched` is the image that is whole in each slot and named by its mark.
    pub fn lose_record(&mut self, vouched: PerSlot<Option<usize>>, floor_of_marks: u32) {
        self.lost = true;
        self.in_doubt.clear();
        self.floor = floor_of_marks;
        if vouched == PerSlot::default() {
            self.tries = TRIES_DEFAULT.count();
        }
        for slot in SlotId::ALL {
            let before = *self.slots.get(slot);
            let image = vouched.get(slot).filter(|image| self.security[*image] >= floor_of_marks);
            *self.slots.get_mut(slot) = match image {
                Some(image) => SlotTruth { image: Some(image), confirmed: true, given_up: false, ..before },
                None => SlotTruth { confirmed: false, given_up: true, ..before },
            };
        }
    }

    /// A slot with image `on_disk` got control, not because a person chose it (V30, V32, V35).
    pub fn started(&mut self, slot: SlotId, on_disk: Option<usize>) {
        let image = on_disk.unwrap_or_else(|| panic!("V32: slot {slot} was started without a whole image"));
        assert!(self.security[image] >= self.floor, "V35: slot {slot} was started below the floor");
        let truth = self.slots.get_mut(slot);
        assert_eq!(truth.image, Some(image), "slot {slot} was started with an image nobody flashed");
        assert!(!truth.given_up || truth.confirmed, "slot {slot} was started after it was given up");
        if !truth.confirmed {
            truth.starts += 1;
            assert!(truth.starts <= self.tries, "V30: slot {slot} was tried {} times", truth.starts);
        }
    }

    /// A slot that must never be dark: confirmed, and its image is whole (I8, V31).
    pub fn must_start(&self, on_disk: PerSlot<Option<usize>>) -> Option<SlotId> {
        let good = |slot: &SlotId| {
            let truth = self.slots.get(*slot);
            truth.confirmed && truth.image.is_some() && truth.image == *on_disk.get(*slot)
        };
        SlotId::ALL.into_iter().find(good)
    }
}
