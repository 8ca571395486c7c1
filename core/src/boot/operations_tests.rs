//! Every refusal, and what each operation makes of the block.

use super::*;
use crate::container::image::{Digest, ImageVersion};
use crate::plan::{DiskOffset, Step};

const A: SlotId = SlotId::A;
const B: SlotId = SlotId::B;
const PLACE: SlotPlace =
    SlotPlace { image: DiskOffset(0x10_0000), capacity: 0x8000, mark: DiskOffset(0x10_8000) };

fn image(version: u8, security: u32) -> ImageId {
    ImageId {
        version: ImageVersion(u64::from(version)),
        security: SecurityVersion(security),
        digest: Digest([version; 32]),
    }
}

fn tries(count: u8) -> Tries {
    Tries::new(count).unwrap()
}

fn confirmed(version: u8) -> SlotState {
    SlotState::Confirmed { image: image(version, 1) }
}

fn candidate(version: u8, left: u8) -> SlotState {
    SlotState::Candidate { image: image(version, 1), left: tries(left), done: tries(3 - left) }
}

fn bad(version: u8, why: Why) -> SlotState {
    SlotState::Bad { image: image(version, 1), why }
}

/// Boot 5 started `booted`.
fn block(a: SlotState, b: SlotState, booted: SlotId) -> Bcb {
    let bcb = Bcb::new(tries(3)).with(A, a).with(B, b);
    Bcb { boot: BootId(5), booted: Some(booted), floor: SecurityVersion(1), ..bcb }
}

const fn running(slot: SlotId) -> Running {
    Running { slot, boot: BootId(5) }
}

#[test]
fn every_refusal_to_flash() {
    let both = block(confirmed(1), confirmed(2), A);
    let refused = |bcb: &Bcb, running, slot, security| flash_begins(bcb, running, slot, image(9, security));
    assert_eq!(refused(&both, Some(running(A)), A, 1), Err(Refused::Running { slot: A }));
    let low = Refused::BelowFloor { found: SecurityVersion(0), floor: SecurityVersion(1) };
    assert_eq!(refused(&both, Some(running(A)), B, 0), Err(low));
    let only = block(confirmed(1), candidate(2, 3), B);
    assert_eq!(refused(&only, Some(running(B)), A, 1), Err(Refused::OnlyConfirmed { slot: A }));
    assert_eq!(refused(&only, None, A, 1), Err(Refused::OnlyConfirmed { slot: A }));
    let first = block(SlotState::Empty, SlotState::Empty, A);
    assert!(refused(&first, None, A, 1).is_ok());
}

#[test]
fn a_flash_empties_the_slot_first_and_offers_it_last() {
    let before = Bcb { preferred: B, ..block(confirmed(1), confirmed(2), A) };
    let begun = flash_begins(&before, Some(running(A)), B, image(3, 1)).unwrap();
    assert_eq!((*begun.slots.get(B), begun.preferred), (SlotState::Empty, A));
    assert_eq!(begun.slots.get(A), before.slots.get(A));
    let ended = flash_ends(&begun, B, image(3, 1));
    assert_eq!((*ended.slots.get(B), ended.preferred), (candidate(3, 3), B));
}

#[test]
fn the_payload_is_durable_before_its_header() {
    let steps: std::vec::Vec<Step> = flash_writes(PLACE, 0x3000).steps().to_vec();
    let write = |at, from, len| Step::Write { at: DiskOffset(at), data: Data::Image { from, len } };
    let payload = write(0x10_1000, 0x1000, 0x2000);
    assert_eq!(steps, [payload, Step::Flush, write(0x10_0000, 0, 0x1000), Step::Flush]);
}

#[test]
fn only_what_can_start_is_set_next() {
    let set = |b| set_next(&block(confirmed(1), b, A), B).map(|bcb| bcb.preferred);
    assert_eq!(set(confirmed(2)), Ok(B));
    assert_eq!(set(candidate(2, 1)), Ok(B));
    assert_eq!(set(candidate(2, 0)), Err(Refused::NoTriesLeft { slot: B }));
    for state in [SlotState::Empty, bad(2, Why::ImageBad)] {
        assert_eq!(set(state), Err(Refused::NotBootable { slot: B, state }));
    }
}

#[test]
fn only_the_boot_that_started_a_slot_confirms_it() {
    let bcb = block(confirmed(1), candidate(2, 2), B);
    for boot in [4, 6] {
        let boot = BootId(boot);
        let late = Running { slot: B, boot };
        assert_eq!(confirm(&bcb, late), Err(Refused::NotThisBoot { slot: B, boot }));
    }
    assert_eq!(confirm(&bcb, running(A)), Err(Refused::NotThisBoot { slot: A, boot: BootId(5) }));
    let rescue = Bcb { booted: None, ..bcb };
    assert_eq!(confirm(&rescue, running(B)), Err(Refused::NotThisBoot { slot: B, boot: BootId(5) }));
    let next = confirm(&bcb, running(B)).unwrap();
    assert_eq!((*next.slots.get(B), next.preferred), (confirmed(2), B));
    assert_eq!(next.slots.get(A), &confirmed(1));
}

/// The floor rises in the write that retires the slot below it (V35).
#[test]
fn a_confirmation_raises_the_floor_and_retires_what_is_below() {
    for older in [confirmed(1), candidate(1, 2)] {
        let newer = SlotState::Candidate { image: image(2, 4), left: tries(2), done: tries(1) };
        let next = confirm(&block(older, newer, B), running(B)).unwrap();
        assert_eq!(next.floor, SecurityVersion(4));
        assert_eq!(*next.slots.get(A), bad(1, Why::BelowFloor));
    }
    let low = Bcb { floor: SecurityVersion(2), ..block(confirmed(1), candidate(2, 2), B) };
    let refused = Refused::BelowFloor { found: SecurityVersion(1), floor: SecurityVersion(2) };
    assert_eq!(confirm(&low, running(B)), Err(refused));
}

/// An agent that confirms at every boot must not undo `set-next`, a flash, or a person's choice
/// that was meant for one boot.
#[test]
fn to_confirm_again_keeps_the_choice_of_the_next_slot() {
    let bcb = Bcb { preferred: B, ..block(confirmed(1), candidate(2, 3), A) };
    assert_eq!(confirm(&bcb, running(A)), Ok(bcb));
}

/// A slot that is rolled back while it runs is not confirmed by a health check that comes late.
#[test]
fn a_bad_slot_is_confirmed_only_after_a_person_started_it() {
    for state in [SlotState::Empty, bad(2, Why::RolledBack), bad(2, Why::TriesUsedUp)] {
        let bcb = block(confirmed(1), state, B);
        assert_eq!(confirm(&bcb, running(B)), Err(Refused::NotBootable { slot: B, state }));
    }
    let chosen = Bcb { reason: Reason::Operator, ..block(confirmed(1), bad(2, Why::RolledBack), B) };
    assert_eq!(*confirm(&chosen, running(B)).unwrap().slots.get(B), confirmed(2));
}

#[test]
fn a_roll_back_needs_a_confirmed_slot() {
    let go = |from, to| roll_back(&Bcb { preferred: B, ..block(to, from, B) });
    let next = go(candidate(2, 2), confirmed(1)).unwrap();
    assert_eq!((*next.slots.get(B), next.preferred), (bad(2, Why::RolledBack), A));
    let next = go(confirmed(2), confirmed(1)).unwrap();
    assert_eq!((*next.slots.get(B), next.preferred), (confirmed(2), A));
    let next = go(bad(2, Why::ImageBad), confirmed(1)).unwrap();
    assert_eq!((*next.slots.get(B), next.preferred), (bad(2, Why::ImageBad), A));
    for state in [SlotState::Empty, candidate(1, 3), bad(1, Why::ImageBad)] {
        assert_eq!(go(candidate(2, 2), state), Err(Refused::NothingToGoBackTo { slot: A, state }));
    }
}

#[test]
fn a_mark_is_written_for_a_confirmed_slot_alone() {
    let bcb = block(confirmed(1), candidate(2, 3), A);
    assert_eq!(mark_writes(&bcb, 9, B, PLACE), Plan::new());
    let mark = Mark { image: image(1, 1), floor: SecurityVersion(1), seq: 9, tries_max: 3 };
    let mut plan = Plan::new();
    plan.write(PLACE.mark, Data::Sector(mark.encode()));
    plan.flush();
    assert_eq!(mark_writes(&bcb, 9, A, PLACE), plan);
}

#[test]
fn the_first_image_is_confirmed_and_sets_the_floor() {
    let bcb = first_image(tries(2), image(1, 3));
    assert_eq!(*bcb.slots.get(A), SlotState::Confirmed { image: image(1, 3) });
    assert_eq!((bcb.floor, bcb.tries_max, bcb.preferred), (SecurityVersion(3), tries(2), A));
    assert_eq!(*bcb.slots.get(B), SlotState::Empty);
}

#[test]
fn the_slot_to_flash_is_the_one_that_does_not_run() {
    let bcb = Bcb { preferred: B, ..block(confirmed(1), confirmed(2), B) };
    assert_eq!((inactive(&bcb, None), inactive(&bcb, Some(running(A)))), (A, B));
}

#[test]
fn the_slot_to_flash_is_neither_the_running_nor_the_only_confirmed_one() {
    let security = SecurityVersion(1);
    let image = ImageId { version: ImageVersion(1), security, digest: Digest([1; 32]) };
    let confirmed = first_image(crate::bcb::state::TRIES_DEFAULT, image);
    let flashed = flash_ends(&confirmed, SlotId::B, image);
    let both = confirmed.with(SlotId::B, SlotState::Confirmed { image });
    let running = |slot| Some(Running { slot, boot: BootId(1) });
    let cases = [
        (confirmed, None, SlotId::B),
        (flashed, None, SlotId::B),
        (both, None, SlotId::B),
        (set_next(&both, SlotId::B).unwrap(), None, SlotId::A),
        (flashed, running(SlotId::A), SlotId::B),
        (flashed, running(SlotId::B), SlotId::A),
    ];
    for (bcb, running, expected) in cases {
        assert_eq!(inactive(&bcb, running), expected, "{bcb:?} {running:?}");
    }
}
