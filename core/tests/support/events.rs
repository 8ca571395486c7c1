//! What can happen to a node. One byte becomes one event: the walk, the fuzzer and a replay of
//! its crash files share this decoding (STYLE rule 35).

use super::Dice;
use super::disk::{Effort, Stop};
use super::node::{Fate, Node, Outcome, place};
use bulkhead_core::slot::SlotId;

/// Something that happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An image is flashed into a slot.
    Flash(SlotId, usize),
    SetNext(SlotId),
    Confirm,
    RollBack,
    /// Power comes, or comes back.
    Boot(Fate),
    /// Power comes, and the disk refuses writes.
    BootReadOnly(Fate),
    /// Power comes, and for this boot a slot cannot be read.
    BootUnreadable(SlotId),
    /// Power comes, and a person chooses a slot.
    Choose(SlotId),
    /// A copy of the block rots.
    LoseOne(usize),
    /// Both do.
    LoseBoth,
    /// The image in a slot rots.
    Rot(SlotId),
    /// The mark of a slot rots.
    LoseMark(SlotId),
}

/// All events, in the order of their codes.
pub const EVENTS: [Event; 26] = [
    Event::Boot(Fate::Runs),
    Event::Boot(Fate::Hangs),
    Event::Boot(Fate::Returns),
    Event::BootReadOnly(Fate::Runs),
    Event::BootReadOnly(Fate::Returns),
    Event::Confirm,
    Event::RollBack,
    Event::SetNext(SlotId::A),
    Event::SetNext(SlotId::B),
    Event::Flash(SlotId::A, 0),
    Event::Flash(SlotId::A, 1),
    Event::Flash(SlotId::A, 2),
    Event::Flash(SlotId::B, 0),
    Event::Flash(SlotId::B, 1),
    Event::Flash(SlotId::B, 2),
    Event::Choose(SlotId::A),
    Event::Choose(SlotId::B),
    Event::LoseOne(0),
    Event::LoseOne(1),
    Event::LoseBoth,
    Event::Rot(SlotId::A),
    Event::Rot(SlotId::B),
    Event::LoseMark(SlotId::A),
    Event::LoseMark(SlotId::B),
    Event::BootUnreadable(SlotId::A),
    Event::BootUnreadable(SlotId::B),
];

/// The event of a byte of fuzzer input, and whether power is cut during it: the top bit.
pub fn decode(byte: u8) -> (Event, bool) {
    (EVENTS[usize::from(byte & 0x7f) % EVENTS.len()], byte & 0x80 != 0)
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was done.
    Done,
    /// It was refused, and nothing changed.
    Refused,
    /// A boot ended like this.
    Booted(Outcome),
}

impl Node {
    /// Lets `event` happen.
    pub fn tell(&mut self, event: Event) -> Result<Told, Stop> {
        let done = |done| if done { Told::Done } else { Told::Refused };
        if !matches!(event, Event::LoseOne(_)) {
            self.truth.settle(self.newest().as_ref());
        }
        match event {
            Event::Flash(slot, image) => self.flash(slot, image).map(done),
            Event::SetNext(slot) => self.set_next(slot).map(done),
            Event::Confirm => self.confirm().map(done),
            Event::RollBack => self.roll_back().map(done),
            Event::Boot(fate) => self.boot(fate, None).map(Told::Booted),
            Event::BootReadOnly(fate) => {
                self.disk.refuses = true;
                let outcome = self.boot(fate, None);
                self.disk.refuses = false;
                outcome.map(Told::Booted)
            }
            Event::BootUnreadable(slot) => {
                self.unreadable = Some(slot);
                let outcome = self.boot(Fate::Runs, None);
                self.unreadable = None;
                outcome.map(Told::Booted)
            }
            Event::Choose(slot) => self.boot(Fate::Runs, Some(slot)).map(Told::Booted),
            Event::LoseOne(copy) => Ok(done(self.lose_one(copy))),
            Event::LoseBoth => {
                self.lose_both();
                Ok(Told::Done)
            }
            Event::Rot(slot) => {
                self.disk.put(place(slot).image.plus(5000).0, &[0x5a; 512]);
                self.lose_again();
                Ok(Told::Done)
            }
            Event::LoseMark(slot) => {
                self.disk.put(place(slot).mark.0, &[0; 512]);
                self.lose_again();
                Ok(Told::Done)
            }
        }
    }

    /// With the block lost before, image and mark were all that vouched for a slot.
    fn lose_again(&mut self) {
        if self.truth.lost {
            self.lose_both();
        }
    }

    /// What becomes of the node by the event of a byte. Where power is cut during it, the dice
    /// say at which write and what is left.
    pub fn after_byte(&self, byte: u8, dice: &mut Dice) -> Self {
        let (event, cut) = decode(byte);
        let mut after = self.clone();
        after.disk.power = cut.then(|| dice.below(24));
        match after.tell(event) {
            Ok(_) => after.disk.power = None,
            Err(stop) => {
                assert_eq!(stop, Stop::Cut);
                let mut left = after.disk.outcomes(Effort::Few, dice);
                let left = left.swap_remove(dice.below(left.len()));
                after = after.after_cut(left);
            }
        }
        after
    }
}
