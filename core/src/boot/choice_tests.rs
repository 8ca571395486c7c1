//! A node for stories: its disk, what happens to it, and the lines its boots leave.

#[path = "choice_stories.rs"]
mod stories;

use super::*;
use crate::bcb::format::Stored;
use crate::boot::operations::{Running, confirm, first_image, flash_begins, flash_ends, roll_back, set_next};
use crate::container::image::{Digest, ImageVersion};
use crate::plan::SECTOR;
use std::format;
use std::string::String;
use std::vec::Vec;

/// What happens to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// It boots, and nothing more is heard of it: a hang, a crash, a power cut.
    Boot,
    /// It boots and confirms what it booted.
    Confirm,
    /// A new image, version and security version, in this slot.
    Flash(SlotId, u8, u32),
    SetNext(SlotId),
    RollBack,
    /// The image in this slot rots.
    Rot(SlotId),
    /// At the next boot, the disk does not return this slot.
    Unreadable(SlotId),
    /// An image comes into this slot that nobody recorded.
    Smuggle(SlotId, u8, u32),
    /// At the next boot, the image in this slot returns to the firmware.
    StartFails(SlotId),
    /// At the next boot, writes do not reach the disk.
    NoRecord,
    /// At the next boot, a person chooses this slot.
    Choose(SlotId),
    /// One copy of the block is lost.
    LoseOne(usize),
    /// Both are.
    LoseBoth,
    /// The mark of this slot is lost.
    LoseMark(SlotId),
    /// The firmware's own floor.
    FirmwareFloor(u32),
}
use Event::*;
use SlotId::{A, B};

struct Node {
    blocks: [[u8; SECTOR]; 2],
    marks: PerSlot<Option<Mark>>,
    images: PerSlot<Option<ImageId>>,
    fails: Option<SlotId>,
    unreadable: Option<SlotId>,
    can_record: bool,
    chosen: Option<SlotId>,
    firmware_floor: SecurityVersion,
}

fn image(version: u8, security: u32) -> ImageId {
    let version_of_image = ImageVersion(u64::from(version));
    ImageId { version: version_of_image, security: SecurityVersion(security), digest: Digest([version; 32]) }
}

impl Node {
    fn new() -> Self {
        let first = image(1, 1);
        let mut node = Self {
            blocks: [[0; SECTOR]; 2],
            marks: PerSlot::default(),
            images: PerSlot { a: Some(first), b: None },
            fails: None,
            unreadable: None,
            can_record: true,
            chosen: None,
            firmware_floor: SecurityVersion(0),
        };
        node.write(&first_image(Tries::new(2).unwrap(), first));
        node.mark(A);
        node
    }

    fn copies(&self) -> Copies {
        let [first, second] = &self.blocks;
        Copies::parse([Some(first), Some(second)])
    }

    fn bcb(&self) -> Bcb {
        self.copies().newest().unwrap().bcb
    }

    fn write(&mut self, bcb: &Bcb) {
        let seq = self.copies().resume_after(&self.marks).next_seq();
        self.blocks = [seq, seq + 1].map(|seq| Stored { seq, bcb: *bcb }.encode());
    }

    fn mark(&mut self, slot: SlotId) {
        let stored = self.copies().newest().unwrap();
        if let SlotState::Confirmed { image } = *stored.bcb.slots.get(slot) {
            let (floor, tries_max) = (stored.bcb.floor, stored.bcb.tries_max.count());
            *self.marks.get_mut(slot) = Some(Mark { image, floor, seq: stored.seq, tries_max });
        }
    }

    fn tell(&mut self, event: Event) -> Option<String> {
        match event {
            Boot => {
                let line = self.boot();
                self.unreadable = None;
                return Some(line);
            }
            Confirm => {
                let line = self.boot();
                self.unreadable = None;
                let bcb = self.bcb();
                let running = Running { slot: bcb.booted?, boot: bcb.boot };
                match confirm(&bcb, running) {
                    Ok(bcb) => self.write(&bcb),
                    Err(why) => return Some(format!("{line}\nnot confirmed: {why}")),
                }
                self.mark(running.slot);
                return Some(format!("{line}\nthe boot confirms itself\n  -> {}", self.state()));
            }
            Flash(slot, version, security) => {
                let begun = flash_begins(&self.bcb(), None, slot, image(version, security)).unwrap();
                *self.images.get_mut(slot) = Some(image(version, security));
                self.write(&flash_ends(&begun, slot, image(version, security)));
            }
            SetNext(slot) => self.write(&set_next(&self.bcb(), slot).unwrap()),
            RollBack => self.write(&roll_back(&self.bcb()).unwrap()),
            Rot(slot) => *self.images.get_mut(slot) = None,
            Smuggle(slot, version, security) => {
                *self.images.get_mut(slot) = Some(image(version, security));
            }
            Unreadable(slot) => self.unreadable = Some(slot),
            StartFails(slot) => self.fails = Some(slot),
            NoRecord => self.can_record = false,
            Choose(slot) => self.chosen = Some(slot),
            LoseOne(copy) => self.blocks[copy] = [0; SECTOR],
            LoseBoth => self.blocks = [[0; SECTOR]; 2],
            LoseMark(slot) => *self.marks.get_mut(slot) = None,
            FirmwareFloor(floor) => self.firmware_floor = SecurityVersion(floor),
        }
        None
    }

    fn check(&self, slot: SlotId, floor: SecurityVersion) -> Check {
        if self.unreadable == Some(slot) {
            return Check::Bad(ImageFault::Unreadable);
        }
        match *self.images.get(slot) {
            None => Check::Bad(ImageFault::Digest),
            Some(ImageId { security: found, .. }) if found < floor => {
                Check::Bad(ImageFault::BelowFloor { found, floor })
            }
            Some(image) => Check::Good(image),
        }
    }

    /// A boot as a shell drives it.
    fn boot(&mut self) -> String {
        let mut evidence = Evidence::new(self.copies(), self.marks);
        evidence.firmware_floor = self.firmware_floor;
        evidence.chosen = self.chosen.take();
        let fails = self.fails.take();
        let writable = core::mem::replace(&mut self.can_record, true);
        loop {
            match decide(&evidence) {
                Decision::Examine(slot) => {
                    *evidence.checks.get_mut(slot) = self.check(slot, floor(&evidence));
                }
                Decision::Start(start) if !writable && !start.record_optional => evidence.can_record = false,
                Decision::Start(start) => {
                    if writable {
                        self.write(&start.record);
                    }
                    if fails == Some(start.slot) {
                        *evidence.checks.get_mut(start.slot) = Check::Bad(ImageFault::StartFailed);
                        evidence.copies = self.copies();
                        continue;
                    }
                    return format!("{}\n  -> {}", trace(&start.explanation), self.state());
                }
                Decision::Rescue(rescue) => {
                    if writable {
                        self.write(&rescue.record);
                    }
                    return format!("{}\n  -> {}", trace(&rescue.explanation), self.state());
                }
            }
        }
    }

    fn state(&self) -> String {
        let Some(Stored { bcb, .. }) = self.copies().newest() else { return "no record".into() };
        let slot = |slot| match *bcb.slots.get(slot) {
            SlotState::Empty => "empty".into(),
            SlotState::Candidate { image, left, .. } => format!("candidate {} with {left}", image.version),
            SlotState::Confirmed { image } => format!("confirmed {}", image.version),
            SlotState::Bad { image, why } => format!("bad {} {}", image.version, why.token()),
        };
        format!("a {}, b {}, next {}, floor {}", slot(A), slot(B), bcb.preferred, bcb.floor)
    }
}

fn trace(explanation: &Explanation) -> String {
    let mut line = String::from(explanation.reason.token());
    for considered in explanation.considered() {
        line.push_str(&format!("\n  {considered}"));
    }
    line
}

/// The only helper that touches the code under test: a script, and the line each boot leaves.
fn check(script: &[Event], expected: &str) {
    let mut node = Node::new();
    let told: Vec<String> = script.iter().filter_map(|event| node.tell(*event)).collect();
    let told = told.join("\n");
    let lines = |text: &str| text.trim().lines().map(|line| line.trim().into()).collect::<Vec<String>>();
    assert_eq!(lines(&told), lines(expected), "it went like this:\n{told}\n");
}

/// F30, V41: a block of a newer Bulkhead is neither guessed at nor written over.
#[test]
fn a_block_of_a_newer_format_is_not_written_over() {
    let known = Stored { seq: 1, bcb: Bcb::new(TRIES_DEFAULT) }.encode();
    let mut newer = known;
    newer[8] = 2;
    for (blocks, may_record) in
        [([&known, &known], true), ([&known, &newer], false), ([&newer, &newer], false)]
    {
        let copies = Copies::parse(blocks.map(Some));
        assert_eq!(Evidence::new(copies, PerSlot::default()).can_record, may_record);
    }
}
