//! S4-07, S4-08, S4-12 to S4-14, X07, V3: what a primary does, story by story.

use core::time::Duration;
use std::vec::Vec;

use super::*;
use crate::id::Epoch;
use crate::log::Life;

const LATE: Duration = Duration::from_millis(60);
const EPOCH: Epoch = Epoch(9);
const LOG: Log = Log { oldest: Seq(1), newest: Seq(10), applied: Seq(8) };

fn ms(at: u64) -> Instant {
    Instant::from_millis(at)
}

fn holder(node: u16) -> Holder {
    Holder { node: NodeId(node), life: Life(7) }
}

/// A primary that took over with ten writes, eight of them in the store. Its lease ends at 10 s.
fn primary() -> Primary {
    let settings = Settings { me: holder(1), epoch: EPOCH, late: LATE, policy: Policy::Back };
    let (primary, todo) = Primary::new(ms(0), settings, LOG, ms(10_000));
    assert_eq!(todo.iter().collect::<Vec<_>>(), [&Action::Apply(Seq(10)), &Action::Acknowledge(Seq(8))]);
    primary
}

fn step(primary: &mut Primary, at: u64, event: Event) -> Vec<Action> {
    primary.step(ms(at), event).into_iter().collect()
}

fn have(from: u16, durable: u64) -> Event {
    Event::Have { from: NodeId(from), epoch: EPOCH, durable: Seq(durable) }
}

/// One with a holder in sync, in write-back, at 0 ms: everything is acknowledged.
fn mirrored() -> Primary {
    let mut primary = primary();
    step(&mut primary, 0, Event::Applied(Seq(10)));
    step(&mut primary, 0, Event::Met(NodeId(2)));
    let told = step(&mut primary, 0, Event::Ready { from: holder(2), epoch: EPOCH, next: Seq(11) });
    // What it has appended may not be durable there yet.
    assert_eq!(told, [Action::Commit { to: NodeId(2), seq: Seq(10) }]);
    let asked = step(&mut primary, 0, have(2, 10));
    let both = Membership::alone(holder(1)).with(holder(2)).under(Policy::Back);
    assert_eq!(asked, [Action::Propose(both.clone())]);
    step(&mut primary, 0, Event::Chosen(both));
    assert_eq!((primary.mode(), primary.acknowledged()), (&Mode::Steady, Seq(10)));
    primary
}

#[test]
fn alone_it_acknowledges_what_is_in_the_backing_store() {
    let mut primary = primary();
    assert_eq!(step(&mut primary, 1, Event::Write), [Action::Append(Seq(11))]);
    assert_eq!(step(&mut primary, 1, Event::Durable(Seq(11))), [Action::Apply(Seq(11))]);
    assert_eq!(step(&mut primary, 2, Event::Applied(Seq(11))), [Action::Acknowledge(Seq(11))]);
    assert_eq!(step(&mut primary, 2, Event::Want(Policy::Back)), [], "S4-08");
}

#[test]
fn mirrored_it_acknowledges_what_both_have() {
    let mut primary = mirrored();
    let feed = Action::Feed { to: NodeId(2), first: Seq(11), last: Seq(11) };
    assert_eq!(step(&mut primary, 1, Event::Write), [Action::Append(Seq(11)), feed]);
    assert_eq!(step(&mut primary, 1, Event::Durable(Seq(11))), []);
    let commit = Action::Commit { to: NodeId(2), seq: Seq(11) };
    let done = [Action::Apply(Seq(11)), Action::Acknowledge(Seq(11)), commit];
    assert_eq!(step(&mut primary, 2, have(2, 11)), done);
    assert_eq!(step(&mut primary, 2, have(2, 11)), [], "told twice");
    assert_eq!(step(&mut primary, 2, have(2, 99)), [], "nothing counts that was not sent");
}

/// V3, F19: whoever slept longer than its lease tells the guest nothing.
#[test]
fn nothing_is_acknowledged_after_the_lease() {
    let mut primary = mirrored();
    step(&mut primary, 1, Event::Write);
    step(&mut primary, 1, Event::Durable(Seq(11)));
    let done = step(&mut primary, 10_000, have(2, 11));
    assert!(!done.contains(&Action::Acknowledge(Seq(11))), "{done:?}");
    let renewed = step(&mut primary, 10_001, Event::Leased { until: ms(11_000) });
    assert_eq!(renewed, [Action::Acknowledge(Seq(11))]);
    assert_eq!(step(&mut primary, 10_002, Event::Lost), []);
    assert_eq!(step(&mut primary, 10_002, Event::Write), []);
    assert_eq!((primary.mode(), primary.deadline()), (&Mode::Stopped, None));
}

/// S4-12, S4-13: nothing is acknowledged without a holder before the register says that it is out.
#[test]
fn a_holder_that_is_late_is_left_out_by_the_register_first() {
    let mut primary = mirrored();
    assert_eq!(primary.deadline(), None, "nothing is owed");
    step(&mut primary, 100, Event::Write);
    step(&mut primary, 100, Event::Durable(Seq(11)));
    assert_eq!(primary.deadline(), Some(ms(160)));
    assert_eq!(step(&mut primary, 159, Event::Timeout), [], "X07: slow is not dead");
    let alone = Membership::alone(holder(1));
    assert_eq!(step(&mut primary, 160, Event::Timeout), [Action::Propose(alone.clone())]);
    assert_eq!(step(&mut primary, 161, Event::Applied(Seq(11))), []);
    let commit = Action::Commit { to: NodeId(2), seq: Seq(11) };
    assert_eq!(step(&mut primary, 170, Event::Chosen(alone)), [Action::Apply(Seq(11)), commit]);
    assert_eq!(step(&mut primary, 171, Event::Applied(Seq(11))), [Action::Acknowledge(Seq(11))]);
    assert_eq!(primary.chosen().policy(), Policy::Through);
}

/// S4-02, S4-12: who is taken out leaves at once, though nothing is owed, and is offered nothing until it is
/// met again, whatever it still answers.
#[test]
fn who_is_dismissed_leaves_at_once_and_comes_back_when_it_is_met() {
    let mut primary = mirrored();
    let alone = Membership::alone(holder(1));
    assert_eq!(step(&mut primary, 100, Event::Dismiss(NodeId(2))), [Action::Propose(alone.clone())]);
    assert_eq!(step(&mut primary, 101, Event::Chosen(alone.clone())), []);
    let late = Event::Ready { from: holder(2), epoch: EPOCH, next: Seq(11) };
    assert_eq!(step(&mut primary, 102, late), []);
    let behind = Event::Behind { from: NodeId(2), epoch: EPOCH, applied: Seq(3) };
    assert_eq!(step(&mut primary, 103, behind), []);
    assert_eq!(step(&mut primary, 104, Event::Gone(NodeId(2))), []);
    step(&mut primary, 105, Event::Write);
    assert_eq!(step(&mut primary, 106, Event::Durable(Seq(11))), [Action::Apply(Seq(11))]);
    assert_eq!(step(&mut primary, 107, Event::Applied(Seq(11))), [Action::Acknowledge(Seq(11))]);
    assert_eq!(step(&mut primary, 5_000, Event::Timeout), []);
    assert_eq!(step(&mut primary, 5_001, Event::Met(NodeId(2))), [Action::Offer { to: NodeId(2) }]);
    step(&mut primary, 5_002, Event::Ready { from: holder(2), epoch: EPOCH, next: Seq(11) });
    assert!(matches!(primary.mode(), Mode::Gating { .. } | Mode::Changing { .. }), "{:?}", primary.mode());
}

/// X07: a path that is lost for a moment, while nothing is owed, costs nothing.
#[test]
fn a_member_without_a_path_stays_until_something_is_owed() {
    let mut primary = mirrored();
    assert_eq!(step(&mut primary, 100, Event::Gone(NodeId(2))), []);
    assert_eq!(step(&mut primary, 5_000, Event::Timeout), []);
    assert_eq!(step(&mut primary, 5_000, Event::Met(NodeId(2))), [Action::Offer { to: NodeId(2) }]);
    step(&mut primary, 5_001, Event::Write);
    step(&mut primary, 5_001, Event::Durable(Seq(11)));
    step(&mut primary, 5_002, Event::Ready { from: holder(2), epoch: EPOCH, next: Seq(11) });
    assert!(step(&mut primary, 5_003, have(2, 11)).contains(&Action::Acknowledge(Seq(11))));
}

/// X07: a slow holder that comes near again and again holds nobody up for more than a part of the time.
#[test]
fn acknowledgements_wait_for_a_newcomer_only_so_long() {
    let mut primary = primary();
    step(&mut primary, 0, Event::Applied(Seq(10)));
    step(&mut primary, 0, Event::Met(NodeId(2)));
    step(&mut primary, 0, Event::Ready { from: holder(2), epoch: EPOCH, next: Seq(5) });
    let gating = Mode::Gating { holder: holder(2), until: ms(60) };
    assert_eq!(primary.mode(), &gating);
    step(&mut primary, 1, Event::Write);
    assert_eq!(step(&mut primary, 1, Event::Durable(Seq(11))), [], "it waits");
    let freed = step(&mut primary, 60, Event::Timeout);
    assert_eq!((freed.first(), primary.mode()), (Some(&Action::Apply(Seq(11))), &Mode::Steady));
    step(&mut primary, 61, have(2, 7));
    assert_eq!(primary.mode(), &Mode::Steady, "it was in vain a moment ago");
    assert_eq!(primary.deadline(), Some(ms(60 + 8 * 60)));
    step(&mut primary, 600, have(2, 8));
    assert_eq!(primary.mode(), &Mode::Gating { holder: holder(2), until: ms(660) });
}

/// S0-06: the operator's policy is in force when the register has it.
#[test]
fn the_policy_is_changed_by_the_register() {
    let mut primary = mirrored();
    let through = primary.chosen().under(Policy::Through);
    let asked = step(&mut primary, 1, Event::Want(Policy::Through));
    assert_eq!(asked, [Action::Propose(through.clone())]);
    step(&mut primary, 1, Event::Write);
    step(&mut primary, 1, Event::Durable(Seq(11)));
    let done = step(&mut primary, 2, have(2, 11));
    assert!(!done.contains(&Action::Acknowledge(Seq(11))), "it may be in force already: {done:?}");
    step(&mut primary, 3, Event::Chosen(through));
    assert_eq!(step(&mut primary, 4, Event::Applied(Seq(11))), [Action::Acknowledge(Seq(11))]);
}

/// F14: the log of a holder was made anew: it is no member, whatever its node was.
#[test]
fn another_log_of_a_member_does_not_count() {
    let mut primary = mirrored();
    step(&mut primary, 0, Event::Gone(NodeId(2)));
    step(&mut primary, 0, Event::Met(NodeId(2)));
    let anew = Holder { life: Life(8), ..holder(2) };
    step(&mut primary, 1, Event::Ready { from: anew, epoch: EPOCH, next: Seq(1) });
    step(&mut primary, 1, Event::Write);
    step(&mut primary, 1, Event::Durable(Seq(11)));
    let done = step(&mut primary, 2, have(2, 11));
    assert!(!done.contains(&Action::Acknowledge(Seq(11))), "{done:?}");
    assert_eq!(step(&mut primary, 70, Event::Timeout), [Action::Propose(Membership::alone(holder(1)))]);
}

/// X13: who lacks what is not in the log any more is offered again, and will say that it is behind.
#[test]
fn who_lacks_what_was_trimmed_is_offered_again() {
    let mut primary = primary();
    let offer = [Action::Offer { to: NodeId(2) }];
    assert_eq!(step(&mut primary, 0, Event::Met(NodeId(2))), offer);
    step(&mut primary, 1, Event::Ready { from: holder(2), epoch: EPOCH, next: Seq(3) });
    assert_eq!(primary.unsent(), Seq(11), "all of it is on its way");
    assert_eq!(step(&mut primary, 2, Event::Trimmed(Seq(9))), [], "what is on its way needs no log");
    let ready = Event::Ready { from: holder(2), epoch: EPOCH, next: Seq(8) };
    assert_eq!(step(&mut primary, 3, ready), offer, "it was lost on the way");
    let behind = Event::Behind { from: NodeId(2), epoch: EPOCH, applied: Seq(5) };
    assert_eq!(step(&mut primary, 4, behind), [Action::Fill { to: NodeId(2), since: Seq(5) }]);
}

#[test]
fn answers_to_an_earlier_offer_are_ignored() {
    let mut primary = primary();
    step(&mut primary, 0, Event::Met(NodeId(2)));
    let before = primary.clone();
    for event in [
        Event::Ready { from: holder(2), epoch: Epoch(8), next: Seq(1) },
        Event::Behind { from: NodeId(2), epoch: Epoch(8), applied: Seq(0) },
        Event::Have { from: NodeId(2), epoch: Epoch(8), durable: Seq(10) },
        Event::Chosen(Membership::alone(holder(2))),
        Event::Met(NodeId(1)),
    ] {
        assert_eq!(step(&mut primary, 1, event.clone()), [], "{event:?}");
    }
    assert_eq!(primary, before);
}
