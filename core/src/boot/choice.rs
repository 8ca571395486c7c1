//! Which slot starts: a pure function of the boot control block and of what is known about the
//! images (S1-10, I8, V30, V31, V35, X20).
//!
//! Images are examined only when the answer matters: [`decide`] asks for one slot at a time, the
//! shell examines it and asks again. The same evidence gives the same decision in every shell.
//!
//! The rules, first match wins, for the slots in the order *chosen by a person*, *preferred*,
//! *other*:
//!
//! | slot is                          | then                                                       |
//! |----------------------------------|------------------------------------------------------------|
//! | empty, or bad                    | passed over; started only when a person chose it           |
//! | a candidate without tries left   | bad from now on, passed over                               |
//! | any other, image not good        | passed over; a candidate is bad from now on                |
//! | a candidate, image good          | one try less is recorded durably, then started             |
//! | confirmed, image good            | recorded where possible, started                           |
//!
//! Nothing left: rescue. A confirmed slot whose image cannot be read today stays confirmed: it
//! is passed over for this boot and asked again at the next (I8).
//!
//! Both copies of the block lost (F9): a slot is taken for confirmed when it carries the mark of
//! the image it holds, or when what it holds cannot be told today; the later mark is preferred,
//! and no slot gets new tries.

use super::explain::{Considered, Explanation, Finding};
use crate::bcb::copies::Copies;
use crate::bcb::state::{Bcb, BootId, Reason, SlotState, TRIES_DEFAULT, Tries, Why};
use crate::container::image::{ImageId, SecurityVersion};
use crate::container::mark::Mark;
use crate::container::trust::ImageFault;
use crate::slot::{PerSlot, SlotId};

/// What is known about the image in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// It has not been examined yet.
    #[default]
    Unknown,
    /// It was verified in memory, whole, and is at or above [`floor`].
    Good(ImageId),
    /// It must not be started.
    Bad(ImageFault),
}

/// Everything a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The boot control block.
    pub copies: Copies,
    /// The confirmation marks; looked at only when both copies of the block are lost.
    pub marks: PerSlot<Option<Mark>>,
    /// What is known about the images.
    pub checks: PerSlot<Check>,
    /// The floor the firmware keeps outside the disk, where it keeps one (F49).
    pub firmware_floor: SecurityVersion,
    /// The slot a person chose on the rescue console, for this boot only.
    pub chosen: Option<SlotId>,
    /// Whether the block may be written, and writes of it reach the disk. `false` from the beginning
    /// when a copy has a newer format (V41); the shell sets it to `false` after a write failed.
    pub can_record: bool,
}

impl Evidence {
    /// The evidence at the beginning of a boot.
    pub fn new(copies: Copies, marks: PerSlot<Option<Mark>>) -> Self {
        Self {
            copies: copies.resume_after(&marks),
            marks,
            checks: PerSlot::default(),
            firmware_floor: SecurityVersion(0),
            chosen: None,
            can_record: !copies.newer_format(),
        }
    }
}

/// The lowest security version that may boot, by disk, marks and firmware: images are verified
/// against it.
pub fn floor(evidence: &Evidence) -> SecurityVersion {
    let marks = [evidence.marks.a, evidence.marks.b].into_iter().flatten().map(|mark| mark.floor);
    let disk = match evidence.copies.newest() {
        Some(stored) => stored.bcb.floor,
        None => marks.fold(SecurityVersion(0), SecurityVersion::max),
    };
    disk.max(evidence.firmware_floor)
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Examine the image in this slot, put the result into the evidence, and decide again.
    Examine(SlotId),
    /// Start a slot.
    Start(Start),
    /// Nothing may be started: go to the rescue console (X20).
    Rescue(Rescue),
}

/// A slot to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The slot.
    pub slot: SlotId,
    /// Its verified image.
    pub image: ImageId,
    /// The block to make durable before the image gets control; not written without `can_record`.
    pub record: Bcb,
    /// The image may be started even when the record cannot be written. Never so for a candidate
    /// (V30): when its record fails, decide again with `can_record` false.
    pub record_optional: bool,
    /// Why.
    pub explanation: Explanation,
}

/// Why nothing is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescue {
    /// The block to write; what it says is true whether or not it can be written.
    pub record: Bcb,
    /// Why.
    pub explanation: Explanation,
}

/// Decides.
pub fn decide(evidence: &Evidence) -> Decision {
    let (bcb, lost) = match evidence.copies.newest() {
        Some(stored) => (stored.bcb, false),
        None => match rebuild(evidence) {
            Ok(bcb) => (bcb, true),
            Err(slot) => return Decision::Examine(slot),
        },
    };
    let mut choice = Choice::new(evidence, bcb, lost);
    let preferred = bcb.preferred;
    let by_itself = [preferred, preferred.other()].into_iter().filter(|slot| evidence.chosen != Some(*slot));
    for slot in evidence.chosen.into_iter().chain(by_itself) {
        match choice.consider(slot) {
            Verdict::Examine => return Decision::Examine(slot),
            Verdict::Start { image, record_optional } => {
                return Decision::Start(choice.start(slot, image, record_optional));
            }
            Verdict::Pass(finding) => choice.pass(slot, finding),
        }
    }
    Decision::Rescue(choice.rescue())
}

/// The block as the marks tell it, or the slot that must be examined first.
fn rebuild(evidence: &Evidence) -> Result<Bcb, SlotId> {
    let mut bcb = Bcb::new(TRIES_DEFAULT);
    let mut latest = None;
    for slot in SlotId::ALL {
        let mark = *evidence.marks.get(slot);
        let (image, vouched) = match (evidence.checks.get(slot), mark) {
            (Check::Unknown, _) => return Err(slot),
            // What cannot be read today may be asked again tomorrow: it keeps what the mark says.
            (Check::Bad(fault), Some(mark)) if fault.may_pass() => (mark.image, true),
            (Check::Bad(_), _) => continue,
            (Check::Good(image), mark) => (*image, mark.is_some_and(|mark| mark.image == *image)),
        };
        if image.security < floor(evidence) {
            continue;
        }
        let state = match vouched {
            true => SlotState::Confirmed { image },
            false => SlotState::Bad { image, why: Why::RecordLost },
        };
        bcb = bcb.with(slot, state);
        if let Some(mark) = mark.filter(|_| vouched)
            && latest < Some(mark.seq)
        {
            latest = Some(mark.seq);
            bcb.preferred = slot;
            bcb.tries_max = Tries::new(mark.tries_max).unwrap_or(TRIES_DEFAULT);
        }
    }
    bcb.floor = floor(evidence);
    Ok(bcb)
}

/// A decision in progress.
struct Choice<'a> {
    evidence: &'a Evidence,
    /// The block as it will be recorded.
    bcb: Bcb,
    lost: bool,
    explanation: Explanation,
    /// Why the preferred slot was passed over.
    fallback: Option<Reason>,
}

enum Verdict {
    Examine,
    Start { image: ImageId, record_optional: bool },
    Pass(Finding),
}

impl<'a> Choice<'a> {
    fn new(evidence: &'a Evidence, bcb: Bcb, lost: bool) -> Self {
        let explanation = Explanation::new(floor(evidence), lost);
        Self { evidence, bcb, lost, explanation, fallback: None }
    }

    fn by_person(&self, slot: SlotId) -> bool {
        self.evidence.chosen == Some(slot)
    }

    /// What the rules say of `slot`.
    fn consider(&self, slot: SlotId) -> Verdict {
        let by_person = self.by_person(slot);
        let (recorded, is_candidate) = match self.bcb.slots.get(slot) {
            SlotState::Empty if by_person => (None, false),
            SlotState::Empty => return Verdict::Pass(Finding::Empty),
            SlotState::Bad { image, .. } if by_person => (Some(image), false),
            SlotState::Bad { why, .. } => return Verdict::Pass(Finding::Bad(*why)),
            SlotState::Candidate { left, done, .. } if *left == Tries::NONE && !by_person => {
                return Verdict::Pass(Finding::TriesUsedUp { done: *done });
            }
            SlotState::Candidate { image, .. } => (Some(image), !by_person),
            SlotState::Confirmed { image } => (Some(image), false),
        };
        if is_candidate && !self.evidence.can_record {
            return Verdict::Pass(Finding::CannotRecord);
        }
        match self.evidence.checks.get(slot) {
            Check::Unknown => Verdict::Examine,
            Check::Bad(fault) => Verdict::Pass(Finding::Image(*fault)),
            Check::Good(ImageId { security: found, .. }) if *found < self.explanation.floor => {
                let (found, floor) = (*found, self.explanation.floor);
                Verdict::Pass(Finding::Image(ImageFault::BelowFloor { found, floor }))
            }
            Check::Good(image) if !by_person && recorded != Some(image) => {
                Verdict::Pass(Finding::Image(ImageFault::NotAsRecorded))
            }
            Check::Good(image) => Verdict::Start { image: *image, record_optional: !is_candidate },
        }
    }

    /// Notes why `slot` is passed over, and what that makes of it.
    fn pass(&mut self, slot: SlotId, finding: Finding) {
        self.explanation.note(Considered { slot, finding });
        if self.fallback.is_none() && slot == self.bcb.preferred {
            self.fallback = Some(finding.fallback_reason());
        }
        let why = match finding {
            Finding::TriesUsedUp { .. } => Why::TriesUsedUp,
            Finding::Image(ImageFault::StartFailed) => Why::StartFailed,
            Finding::Image(_) => Why::ImageBad,
            Finding::Empty | Finding::Bad(_) | Finding::CannotRecord | Finding::Started { .. } => return,
        };
        if let SlotState::Candidate { image, .. } = *self.bcb.slots.get(slot) {
            self.bcb = self.bcb.with(slot, SlotState::Bad { image, why });
        }
    }

    fn start(mut self, slot: SlotId, image: ImageId, record_optional: bool) -> Start {
        let mut try_number = None;
        if self.by_person(slot) && self.bcb.slots.get(slot).image() != Some(&image) {
            // What is about to run is not what was recorded: a confirmation must name what ran.
            self.bcb = self.bcb.with(slot, SlotState::Bad { image, why: Why::RecordLost });
        }
        if let SlotState::Candidate { image, left, done } = *self.bcb.slots.get(slot) {
            let left = left.spend().unwrap_or(Tries::NONE);
            let done = done.count_up();
            try_number = Some((done, left));
            self.bcb = self.bcb.with(slot, SlotState::Candidate { image, left, done });
        }
        let reason = if self.by_person(slot) {
            Reason::Operator
        } else if self.lost {
            Reason::Rebuilt
        } else if slot != self.bcb.preferred {
            self.fallback.unwrap_or(Reason::FallbackState)
        } else if try_number.is_some() {
            Reason::Candidate
        } else {
            Reason::Confirmed
        };
        // A preferred slot that has become bad is not asked first again.
        if matches!(self.bcb.slots.get(self.bcb.preferred), SlotState::Bad { .. } | SlotState::Empty)
            && reason != Reason::Operator
        {
            self.bcb.preferred = slot;
        }
        self.explanation.note(Considered { slot, finding: Finding::Started { try_number } });
        self.explanation.reason = reason;
        let record = self.finish(Some(slot), reason);
        Start { slot, image, record, record_optional, explanation: self.explanation }
    }

    fn rescue(mut self) -> Rescue {
        self.explanation.reason = Reason::Rescue;
        Rescue { record: self.finish(None, Reason::Rescue), explanation: self.explanation }
    }

    const fn finish(&self, booted: Option<SlotId>, reason: Reason) -> Bcb {
        Bcb { boot: BootId(self.bcb.boot.0.saturating_add(1)), booted, reason, ..self.bcb }
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
