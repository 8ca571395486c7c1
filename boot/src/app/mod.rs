//! One boot, from the firmware's hand-off to the image's first instruction.
//!
//! Whatever fails is put into the evidence, and the core decides again, until an image runs or
//! nothing may be started: then the rescue console, which tries again by itself.

extern crate alloc;

mod clock;
mod console;
mod disk;
mod entry;
mod examine;
mod initrd;
mod keys;
mod memory;
mod ports;
mod record;
mod rescue;
mod start;
mod survey;
mod variables;
mod watchdog;

use bulkhead_core::boot::choice::{Check, Decision, Evidence, Start, decide, floor};
use bulkhead_core::container::trust::{ImageFault, Trust};
use bulkhead_core::slot::{PerSlot, SlotId};
use clock::Clock;
use console::say;
use disk::Disk;
use examine::Loaded;
use survey::Survey;

/// What a person chose on the rescue console.
enum Wish {
    /// Decide again from the beginning.
    Retry,
    /// Start this slot, once.
    Boot(SlotId),
}

/// Boots. Comes back only when the firmware cannot reset.
fn run() {
    let clock = Clock::start();
    variables::announce(&clock);
    say!("version {}", env!("CARGO_PKG_VERSION"));
    let mut wish = Wish::Retry;
    loop {
        wish = match Disk::loaded_from().map_err(Into::into).and_then(Survey::of) {
            Ok(survey) => Boot::new(survey, &clock).go(wish),
            Err(why) => rescue::without_disk(why),
        };
    }
}

/// A boot from one disk.
struct Boot<'a> {
    survey: Survey,
    trust: Trust,
    evidence: Evidence,
    loaded: PerSlot<Option<Loaded>>,
    clock: &'a Clock,
}

impl<'a> Boot<'a> {
    fn new(survey: Survey, clock: &'a Clock) -> Self {
        survey.report();
        let mut evidence = Evidence::new(survey.copies, survey.marks);
        evidence.firmware_floor = variables::floor();
        Self { survey, trust: keys::trust(), evidence, loaded: PerSlot::default(), clock }
    }

    /// Decides and acts until a person must be asked.
    fn go(mut self, wish: Wish) -> Wish {
        if let Wish::Boot(slot) = wish {
            self.evidence.chosen = Some(slot);
        }
        loop {
            match decide(&self.evidence) {
                Decision::Examine(slot) => self.examine(slot),
                Decision::Start(start) => self.start(&start),
                Decision::Rescue(rescue) => {
                    console::explain(&rescue.explanation);
                    if self.evidence.can_record {
                        self.survey.record(&rescue.record);
                    }
                    return rescue::console(&self.survey);
                }
            }
        }
    }

    fn examine(&mut self, slot: SlotId) {
        let floor = floor(&self.evidence);
        let check = match examine::image(&mut self.survey, slot, &self.trust, floor, self.clock) {
            Ok(loaded) => {
                let image = loaded.verified.image();
                *self.loaded.get_mut(slot) = Some(loaded);
                Check::Good(image)
            }
            Err(fault) => Check::Bad(fault),
        };
        *self.evidence.checks.get_mut(slot) = check;
    }

    /// Records and starts. When it comes back, the evidence says why.
    fn start(&mut self, start: &Start) {
        let recorded = self.evidence.can_record && self.survey.record(&start.record);
        if !recorded {
            self.evidence.can_record = false;
            if !start.record_optional {
                return;
            }
        }
        variables::raise_floor(start);
        *self.loaded.get_mut(start.slot.other()) = None;
        console::explain(&start.explanation);
        if let Some(loaded) = self.loaded.get_mut(start.slot).take() {
            start::image(&self.survey, &loaded, start, self.clock);
        }
        *self.evidence.checks.get_mut(start.slot) = Check::Bad(ImageFault::StartFailed);
        self.survey.read_copies();
        self.evidence.copies = self.survey.copies;
    }
}
