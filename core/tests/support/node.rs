//! The shell: reads the disk, asks the core, carries out its plans, and tells the oracle.

use super::disk::{Disk, Stop};
use super::images::{Images, SECURITY};
use super::truth::{Change, InDoubt, TRIES, Truth};
use bulkhead_core::bcb::copies::Copies;
use bulkhead_core::bcb::format::Stored;
use bulkhead_core::bcb::state::Reason;
use bulkhead_core::bcb::state::{Bcb, SlotState, Tries};
use bulkhead_core::boot::choice::{Check, Decision, Evidence, decide, floor};
use bulkhead_core::boot::operations::{
    Running, confirm, first_image, flash_begins, flash_ends, flash_writes, mark_writes, roll_back, set_next,
};
use bulkhead_core::container::image::{ImageId, SecurityVersion};
use bulkhead_core::container::mark::Mark;
use bulkhead_core::container::trust::ImageFault;
use bulkhead_core::gpt::layout::SlotPlace;
use bulkhead_core::plan::{DiskOffset, SECTOR};
use bulkhead_core::slot::{PerSlot, SlotId};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Where the copies of the block are.
pub const COPIES: [DiskOffset; 2] = [DiskOffset(0), DiskOffset(0x1_0000)];

/// Where a slot keeps its image and its mark.
pub const fn place(slot: SlotId) -> SlotPlace {
    let image = match slot {
        SlotId::A => DiskOffset(0x10_0000),
        SlotId::B => DiskOffset(0x20_0000),
    };
    SlotPlace { image, capacity: 0x2000, mark: image.plus(0x2000) }
}

/// What becomes of an image that is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It runs.
    Runs,
    /// It hangs, and the watchdog resets the machine.
    Hangs,
    /// It returns to the boot application; the next one runs.
    Returns,
    /// It hangs unless it was confirmed.
    RunsIfConfirmed,
}

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This slot runs.
    Running(SlotId, Reason),
    /// This slot was started and hung.
    Hung(SlotId, Reason),
    /// The rescue console.
    Rescue,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    pub disk: Disk,
    pub truth: Truth,
    /// What runs, and the image it was started with.
    pub running: Option<(Running, usize)>,
    /// The boot before the last recorded one: a confirmation in its name must be refused.
    pub stale: Option<Running>,
    /// Every change of a slot's state that was recorded: from, to, by what.
    pub edges: Rc<RefCell<BTreeSet<Edge>>>,
    /// A slot that the disk does not return during the next boot.
    pub unreadable: Option<SlotId>,
    images: Rc<Images>,
}

/// A change of a slot's state.
pub type Edge = (String, String, &'static str);

fn name(state: &SlotState) -> String {
    match state {
        SlotState::Bad { why, .. } => format!("bad, {}", why.token()),
        SlotState::Empty | SlotState::Candidate { .. } | SlotState::Confirmed { .. } => state.name().into(),
    }
}

impl Node {
    /// A new disk with image 0 in slot A.
    pub fn new(images: &Rc<Images>) -> Self {
        let bcb = first_image(Tries::new(TRIES).unwrap(), images.images[0].id);
        let mut disk = Disk::new(SECTOR);
        disk.never_together = COPIES.map(|at| at.0 / 512).to_vec();
        disk.put(place(SlotId::A).image.0, &images.images[0].container);
        for (seq, at) in (1..).zip(COPIES) {
            disk.put(at.0, &Stored { seq, bcb }.encode());
        }
        disk.carry_out(&mark_writes(&bcb, 2, SlotId::A, place(SlotId::A)), &[], &[]).unwrap();
        disk.writes = 0;
        let truth = Truth::new(bcb, &SECURITY);
        Self {
            disk,
            truth,
            running: None,
            stale: None,
            edges: Rc::default(),
            unreadable: None,
            images: Rc::clone(images),
        }
    }

    /// The same node with what a cut left of its disk.
    pub fn after_cut(&self, disk: Disk) -> Self {
        Self { disk, running: None, stale: None, ..self.clone() }
    }

    fn sector(&self, at: DiskOffset) -> Option<[u8; SECTOR]> {
        self.disk.bytes(at.0, SECTOR).map(|bytes| *bytes.first_chunk().unwrap())
    }

    pub fn marks(&self) -> PerSlot<Option<Mark>> {
        let mark = |slot| self.sector(place(slot).mark).and_then(|sector| Mark::parse(&sector));
        PerSlot { a: mark(SlotId::A), b: mark(SlotId::B) }
    }

    pub fn copies(&self) -> Copies {
        let [first, second] = COPIES.map(|at| self.sector(at));
        Copies::parse([first.as_ref(), second.as_ref()]).resume_after(&self.marks())
    }

    pub fn newest(&self) -> Option<Bcb> {
        self.copies().newest().map(|stored| stored.bcb)
    }

    /// Which image is whole in each slot.
    pub fn whole(&self) -> PerSlot<Option<usize>> {
        let whole = |slot| self.images.whole(&self.disk, place(slot));
        PerSlot { a: whole(SlotId::A), b: whole(SlotId::B) }
    }

    fn index(&self, id: ImageId) -> usize {
        self.images.images.iter().position(|image| image.id == id).expect("an image that exists")
    }

    /// Makes `next` the block.
    fn commit(&mut self, what: &'static str, next: &Bcb, change: Change) -> Result<(), Stop> {
        let before = self.newest();
        let plan = self.copies().write(COPIES, next);
        self.truth.in_doubt.push(InDoubt { next: *next, change });
        match self.disk.carry_out(&plan, &[], &[]) {
            Ok(()) => self.truth.completed(*next, change),
            Err(Stop::Cut) => return Err(Stop::Cut),
            Err(Stop::Refused) => {
                self.truth.in_doubt.pop();
                return Err(Stop::Refused);
            }
        }
        for slot in SlotId::ALL {
            let from = before.as_ref().map_or_else(|| "record lost".into(), |bcb| name(bcb.slots.get(slot)));
            let to = name(next.slots.get(slot));
            if from != to {
                self.edges.borrow_mut().insert((from, to, what));
            }
        }
        assert_eq!(self.newest(), Some(*next), "a completed record does not count");
        Ok(())
    }

    /// Power comes: the boot application decides and starts.
    pub fn boot(&mut self, fate: Fate, chosen: Option<SlotId>) -> Result<Outcome, Stop> {
        let before = self.running.take().map(|(running, _)| running);
        self.truth.settle(self.newest().as_ref());
        self.disk.only = Some(self.disk.never_together.clone());
        let outcome = self.decide(fate, chosen);
        self.disk.only = None;
        // A boot that could not be recorded leaves the last word to the one before it.
        self.stale = before.filter(|before| self.newest().is_none_or(|bcb| bcb.boot != before.boot));
        outcome
    }

    fn decide(&mut self, mut fate: Fate, chosen: Option<SlotId>) -> Result<Outcome, Stop> {
        let mut returned = Vec::new();
        let mut evidence = Evidence { chosen, ..Evidence::new(self.copies(), self.marks()) };
        loop {
            match decide(&evidence) {
                Decision::Examine(slot) => {
                    let readable = self.unreadable != Some(slot);
                    let examine = || self.images.examine(&self.disk, place(slot), floor(&evidence));
                    let check = readable.then(examine).unwrap_or(Check::Bad(ImageFault::Unreadable));
                    *evidence.checks.get_mut(slot) = check;
                }
                Decision::Rescue(rescue) => {
                    let mut whole = self.whole();
                    for slot in returned.into_iter().chain(self.unreadable) {
                        *whole.get_mut(slot) = None;
                    }
                    let must = self.truth.must_start(whole);
                    assert_eq!(must, None, "I8: dark although a confirmed slot is whole");
                    self.commit("boot", &rescue.record, Change::Nothing).or_else(forgive)?;
                    return Ok(Outcome::Rescue);
                }
                Decision::Start(start) => {
                    match self.commit("boot", &start.record, Change::Nothing) {
                        Ok(()) => {}
                        Err(Stop::Refused) if start.record_optional => {}
                        Err(Stop::Refused) => {
                            evidence.can_record = false;
                            evidence.copies = self.copies();
                            continue;
                        }
                        Err(Stop::Cut) => return Err(Stop::Cut),
                    }
                    let slot = start.slot;
                    let on_disk = *self.whole().get(slot);
                    if chosen == Some(slot) {
                        assert!(on_disk.is_some_and(|image| SECURITY[image] >= self.truth.floor), "V32, V35");
                    } else {
                        self.truth.started(slot, on_disk);
                    }
                    if fate == Fate::Returns {
                        fate = Fate::Runs;
                        returned.push(slot);
                        *evidence.checks.get_mut(slot) = Check::Bad(ImageFault::StartFailed);
                        evidence.copies = self.copies();
                        evidence.chosen = None;
                        continue;
                    }
                    let confirmed = self.truth.slots.get(slot).confirmed;
                    if fate == Fate::Hangs || fate == Fate::RunsIfConfirmed && !confirmed {
                        return Ok(Outcome::Hung(slot, start.explanation.reason));
                    }
                    let running = Running { slot, boot: start.record.boot };
                    self.running = Some((running, on_disk.unwrap()));
                    return Ok(Outcome::Running(slot, start.explanation.reason));
                }
            }
        }
    }

    /// Flashes an image; `false` when it is refused.
    pub fn flash(&mut self, slot: SlotId, image: usize) -> Result<bool, Stop> {
        let Some(bcb) = self.newest() else { return Ok(false) };
        let images = Rc::clone(&self.images);
        let super::images::Image { id, container } = &images.images[image];
        let running = self.running.map(|(running, _)| running);
        let Ok(begun) = flash_begins(&bcb, running, slot, *id) else { return Ok(false) };
        self.commit("flash begins", &begun, Change::Emptied(slot))?;
        let recorded = *self.newest().unwrap().slots.get(slot);
        assert_eq!(recorded, SlotState::Empty, "V31: a slot is written over while its record vouches for it");
        let len = u64::try_from(container.len()).unwrap();
        self.disk.carry_out(&flash_writes(place(slot), len), container, &[])?;
        let check = self.images.examine(&self.disk, place(slot), begun.floor);
        assert_eq!(check, Check::Good(*id), "what was flashed does not read back");
        self.commit("flash ends", &flash_ends(&begun, slot, *id), Change::Offered(slot, image))?;
        Ok(true)
    }

    pub fn set_next(&mut self, slot: SlotId) -> Result<bool, Stop> {
        let Some(next) = self.newest().and_then(|bcb| set_next(&bcb, slot).ok()) else { return Ok(false) };
        self.commit("set next", &next, Change::Nothing)?;
        Ok(true)
    }

    /// The running boot confirms itself and marks its image.
    pub fn confirm(&mut self) -> Result<bool, Stop> {
        let Some(bcb) = self.newest() else { return Ok(false) };
        if let Some(stale) = self.stale {
            let same = self.running.is_some_and(|(running, _)| running == stale);
            assert!(same || confirm(&bcb, stale).is_err(), "V38: a boot that is over confirmed a slot");
        }
        let Some((running, image)) = self.running else { return Ok(false) };
        let Ok(next) = confirm(&bcb, running) else { return Ok(false) };
        let id = *next.slots.get(running.slot).image().unwrap();
        assert_eq!(self.index(id), image, "V31: confirmed an image that does not run");
        if next != bcb {
            self.commit("confirm", &next, Change::Confirmed(running.slot, image))?;
        }
        let mark = *self.marks().get(running.slot);
        if mark.is_none_or(|mark| mark.image != id) {
            let seq = self.copies().newest().unwrap().seq;
            let plan = mark_writes(&next, seq, running.slot, place(running.slot));
            self.disk.carry_out(&plan, &[], &[])?;
        }
        Ok(true)
    }

    pub fn roll_back(&mut self) -> Result<bool, Stop> {
        let Some(bcb) = self.newest() else { return Ok(false) };
        let Ok(next) = roll_back(&bcb) else { return Ok(false) };
        let change = match bcb.slots.get(bcb.preferred) {
            SlotState::Candidate { .. } => Change::GivenUp(bcb.preferred),
            SlotState::Empty | SlotState::Confirmed { .. } | SlotState::Bad { .. } => Change::Nothing,
        };
        self.commit("roll back", &next, change)?;
        Ok(true)
    }

    /// Both copies of the block rot.
    pub fn lose_both(&mut self) {
        let (marks, whole) = (self.marks(), self.whole());
        let floor = [marks.a, marks.b].into_iter().flatten().map(|mark| mark.floor).max();
        let vouched = |slot| {
            let mark: Mark = (*marks.get(slot))?;
            whole.get(slot).filter(|image| self.images.images[*image].id == mark.image)
        };
        let vouched = PerSlot { a: vouched(SlotId::A), b: vouched(SlotId::B) };
        self.truth.lose_record(vouched, floor.unwrap_or(SecurityVersion(0)).0);
        for at in COPIES {
            self.disk.spoil(at.0);
        }
    }

    /// One copy rots, if what the other says is still the truth: after a cut that left the
    /// copies different, a second loss before the next record may take that record back.
    pub fn lose_one(&mut self, copy: usize) -> bool {
        let Ok(other) = self.copies().each()[1 - copy] else { return false };
        let in_doubt = self.truth.in_doubt.iter().any(|in_doubt| in_doubt.next == other.bcb);
        let true_still = other.bcb == self.truth.last || in_doubt;
        if true_still {
            self.disk.spoil(COPIES[copy].0);
        }
        true_still
    }

    /// However candidates fail from now on, the node comes up in a confirmed slot that is whole.
    pub fn comes_back(&mut self) {
        self.truth.settle(self.newest().as_ref());
        let must = self.truth.must_start(self.whole());
        for _ in 0..=2 * self.truth.tries {
            match self.boot(Fate::RunsIfConfirmed, None).unwrap() {
                Outcome::Running(..) => return,
                Outcome::Rescue => {
                    assert_eq!(must, None, "I8: dark although a confirmed slot is whole");
                    return;
                }
                Outcome::Hung(..) => {}
            }
        }
        panic!("V30: candidates are tried for ever");
    }
}

/// A rescue whose record the disk refuses is a rescue all the same.
fn forgive(stop: Stop) -> Result<(), Stop> {
    match stop {
        Stop::Refused => Ok(()),
        Stop::Cut => Err(Stop::Cut),
    }
}
