//! Stories: what happens to a node, and what each of its boots makes of it.

use super::Event::*;
use super::SlotId::{A, B};
use super::*;

#[test]
fn first_boot() {
    check(
        &[Boot, Confirm],
        "
        confirmed
          slot a chosen
          -> a confirmed 1, b empty, next a, floor 1
        confirmed
          slot a chosen
          -> a confirmed 1, b empty, next a, floor 1
        the boot confirms itself
          -> a confirmed 1, b empty, next a, floor 1
        ",
    );
}

#[test]
fn an_update_that_is_good() {
    check(
        &[Flash(B, 2, 2), Confirm, Boot],
        "
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        the boot confirms itself
          -> a bad 1 below-floor, b confirmed 2, next b, floor 2
        confirmed
          slot b chosen
          -> a bad 1 below-floor, b confirmed 2, next b, floor 2
        ",
    );
}

#[test]
fn a_candidate_that_is_never_confirmed_is_left_after_its_tries() {
    check(
        &[Flash(B, 2, 2), Boot, Boot, Boot, Boot],
        "
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        candidate
          slot b chosen, try 2, 0 left
          -> a confirmed 1, b candidate 2 with 0, next b, floor 1
        fallback-tries-used-up
          slot b had 2 tries and was never confirmed
          slot a chosen
          -> a confirmed 1, b bad 2 tries-used-up, next a, floor 1
        confirmed
          slot a chosen
          -> a confirmed 1, b bad 2 tries-used-up, next a, floor 1
        ",
    );
}

#[test]
fn a_bad_image_is_passed_over() {
    check(
        &[Flash(B, 2, 2), Rot(B), Boot, Boot],
        "
        fallback-image-bad
          slot b passed over: the payload does not match its digest
          slot a chosen
          -> a confirmed 1, b bad 2 image-bad, next a, floor 1
        confirmed
          slot a chosen
          -> a confirmed 1, b bad 2 image-bad, next a, floor 1
        ",
    );
}

#[test]
fn a_candidate_that_does_not_start_is_bad_at_once() {
    check(
        &[Flash(B, 2, 2), StartFails(B), Boot, Boot],
        "
        fallback-start-failed
          slot b passed over: the image did not start
          slot a chosen
          -> a confirmed 1, b bad 2 start-failed, next a, floor 1
        confirmed
          slot a chosen
          -> a confirmed 1, b bad 2 start-failed, next a, floor 1
        ",
    );
}

#[test]
fn a_confirmed_image_that_cannot_be_read_is_asked_again() {
    check(
        &[Flash(B, 2, 1), Confirm, Rot(B), Boot, Smuggle(B, 2, 1), Boot],
        "
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        the boot confirms itself
          -> a confirmed 1, b confirmed 2, next b, floor 1
        fallback-image-bad
          slot b passed over: the payload does not match its digest
          slot a chosen
          -> a confirmed 1, b confirmed 2, next b, floor 1
        confirmed
          slot b chosen
          -> a confirmed 1, b confirmed 2, next b, floor 1
        ",
    );
}

#[test]
fn a_candidate_whose_try_cannot_be_recorded_waits() {
    check(
        &[Flash(B, 2, 2), NoRecord, Boot, Boot],
        "
        fallback-no-record
          slot b passed over: a try of it cannot be recorded
          slot a chosen
          -> a confirmed 1, b candidate 2 with 2, next b, floor 1
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        ",
    );
}

#[test]
fn one_copy_lost_takes_no_try_back() {
    check(
        &[Flash(B, 2, 2), Boot, LoseOne(1), Boot, LoseOne(0), Boot],
        "
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        candidate
          slot b chosen, try 2, 0 left
          -> a confirmed 1, b candidate 2 with 0, next b, floor 1
        fallback-tries-used-up
          slot b had 2 tries and was never confirmed
          slot a chosen
          -> a confirmed 1, b bad 2 tries-used-up, next a, floor 1
        ",
    );
}

#[test]
fn both_copies_lost_the_marks_tell() {
    check(
        &[Flash(B, 2, 1), Confirm, LoseBoth, Boot, Boot],
        "
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        the boot confirms itself
          -> a confirmed 1, b confirmed 2, next b, floor 1
        rebuilt
          slot b chosen
          -> a confirmed 1, b confirmed 2, next b, floor 1
        confirmed
          slot b chosen
          -> a confirmed 1, b confirmed 2, next b, floor 1
        ",
    );
}

#[test]
fn both_copies_lost_a_candidate_gets_no_new_tries() {
    check(
        &[Flash(B, 2, 2), Boot, LoseBoth, Boot, Boot],
        "
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        rebuilt
          slot a chosen
          -> a confirmed 1, b bad 2 record-lost, next a, floor 1
        confirmed
          slot a chosen
          -> a confirmed 1, b bad 2 record-lost, next a, floor 1
        ",
    );
}

#[test]
fn both_copies_and_the_marks_lost_is_for_a_person() {
    check(
        &[LoseBoth, LoseMark(A), Boot, Choose(A), Confirm, Boot],
        "
        rescue
          slot a is bad: its record was lost and it carries no confirmation mark
          slot b is empty
          -> a bad 1 record-lost, b empty, next a, floor 0
        operator
          slot a chosen
          -> a bad 1 record-lost, b empty, next a, floor 0
        the boot confirms itself
          -> a confirmed 1, b empty, next a, floor 1
        confirmed
          slot a chosen
          -> a confirmed 1, b empty, next a, floor 1
        ",
    );
}

#[test]
fn an_image_below_the_floor_does_not_boot() {
    check(
        &[Flash(B, 2, 2), Confirm, Choose(A), Boot, FirmwareFloor(3), Boot],
        "
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        the boot confirms itself
          -> a bad 1 below-floor, b confirmed 2, next b, floor 2
        confirmed
          slot a passed over: security version 1 is below the floor 2
          slot b chosen
          -> a bad 1 below-floor, b confirmed 2, next b, floor 2
        rescue
          slot b passed over: security version 2 is below the floor 3
          slot a is bad: a later confirmation raised the security floor above it
          -> a bad 1 below-floor, b confirmed 2, next b, floor 2
        ",
    );
}

#[test]
fn a_person_chooses_for_one_boot() {
    check(
        &[Flash(B, 2, 1), Confirm, Choose(A), Boot, Boot, Choose(A), Confirm, Boot],
        "
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        the boot confirms itself
          -> a confirmed 1, b confirmed 2, next b, floor 1
        operator
          slot a chosen
          -> a confirmed 1, b confirmed 2, next b, floor 1
        confirmed
          slot b chosen
          -> a confirmed 1, b confirmed 2, next b, floor 1
        operator
          slot a chosen
          -> a confirmed 1, b confirmed 2, next b, floor 1
        the boot confirms itself
          -> a confirmed 1, b confirmed 2, next b, floor 1
        confirmed
          slot b chosen
          -> a confirmed 1, b confirmed 2, next b, floor 1
        ",
    );
}

#[test]
fn a_person_starts_a_bad_slot_and_it_proves_good() {
    check(
        &[Flash(B, 2, 1), Boot, Boot, Boot, Choose(B), Confirm, Boot],
        "
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        candidate
          slot b chosen, try 2, 0 left
          -> a confirmed 1, b candidate 2 with 0, next b, floor 1
        fallback-tries-used-up
          slot b had 2 tries and was never confirmed
          slot a chosen
          -> a confirmed 1, b bad 2 tries-used-up, next a, floor 1
        operator
          slot b chosen
          -> a confirmed 1, b bad 2 tries-used-up, next a, floor 1
        the boot confirms itself
          -> a confirmed 1, b confirmed 2, next b, floor 1
        confirmed
          slot b chosen
          -> a confirmed 1, b confirmed 2, next b, floor 1
        ",
    );
}

/// What a person starts is recorded as what it is, so that a confirmation names what ran.
#[test]
fn an_unrecorded_image_that_a_person_starts_is_confirmed_under_its_own_name() {
    check(
        &[Flash(B, 2, 1), Boot, Smuggle(B, 3, 1), Boot, Choose(B), Confirm, Boot],
        "
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        fallback-image-bad
          slot b passed over: the image is not the one recorded for this slot
          slot a chosen
          -> a confirmed 1, b bad 2 image-bad, next a, floor 1
        operator
          slot b chosen
          -> a confirmed 1, b bad 3 record-lost, next a, floor 1
        the boot confirms itself
          -> a confirmed 1, b confirmed 3, next b, floor 1
        confirmed
          slot b chosen
          -> a confirmed 1, b confirmed 3, next b, floor 1
        ",
    );
}

#[test]
fn a_roll_back_leaves_the_candidate() {
    check(
        &[Flash(B, 2, 1), Boot, RollBack, Boot],
        "
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        confirmed
          slot a chosen
          -> a confirmed 1, b bad 2 rolled-back, next a, floor 1
        ",
    );
}

#[test]
fn set_next_chooses_between_confirmed_slots() {
    check(
        &[Flash(B, 2, 1), Confirm, SetNext(A), Boot, Boot],
        "
        candidate
          slot b chosen, try 1, 1 left
          -> a confirmed 1, b candidate 2 with 1, next b, floor 1
        the boot confirms itself
          -> a confirmed 1, b confirmed 2, next b, floor 1
        confirmed
          slot a chosen
          -> a confirmed 1, b confirmed 2, next a, floor 1
        confirmed
          slot a chosen
          -> a confirmed 1, b confirmed 2, next a, floor 1
        ",
    );
}

#[test]
fn nothing_left_is_rescue_not_darkness() {
    check(
        &[Rot(A), Boot, Smuggle(A, 1, 1), Boot],
        "
        rescue
          slot a passed over: the payload does not match its digest
          slot b is empty
          -> a confirmed 1, b empty, next a, floor 1
        confirmed
          slot a chosen
          -> a confirmed 1, b empty, next a, floor 1
        ",
    );
}

#[test]
fn a_choice_that_cannot_start_falls_back_to_the_rules() {
    check(
        &[Choose(B), Boot, Rot(A), Choose(A), Boot],
        "
        confirmed
          slot b passed over: the payload does not match its digest
          slot a chosen
          -> a confirmed 1, b empty, next a, floor 1
        rescue
          slot a passed over: the payload does not match its digest
          slot b is empty
          -> a confirmed 1, b empty, next a, floor 1
        ",
    );
}

/// The disk's silence must not cost a confirmed slot its name (I8, F9).
#[test]
fn both_copies_lost_and_a_slot_that_cannot_be_read_today() {
    check(
        &[LoseBoth, Unreadable(A), Boot, Boot],
        "
        rescue
          slot a passed over: the slot could not be read
          slot b is empty
          -> a confirmed 1, b empty, next a, floor 1
        confirmed
          slot a chosen
          -> a confirmed 1, b empty, next a, floor 1
        ",
    );
}

/// An image may be examined under one floor, and the floor be found higher before it starts: a
/// copy of the block that could not be read at first can be read now (V35).
#[test]
fn an_image_examined_under_a_lower_floor_is_not_started() {
    let node = Node::new();
    let mut evidence = Evidence::new(node.copies(), node.marks);
    evidence.checks.a = Check::Good(image(1, 1));
    assert!(matches!(decide(&evidence), Decision::Start(_)));
    evidence.firmware_floor = SecurityVersion(2);
    for chosen in [None, Some(A)] {
        evidence.chosen = chosen;
        evidence.checks.b = Check::Bad(ImageFault::Digest);
        assert!(matches!(decide(&evidence), Decision::Rescue(_)), "{chosen:?}");
    }
}
