//! I1, V2, F20, F51: what a holder that follows does, story by story.

use std::vec::Vec;

use super::*;

const P: NodeId = NodeId(1);
const Q: NodeId = NodeId(3);

fn history(writes: &[(u64, u64)]) -> History {
    let mut history = History::new(Seq(1));
    writes.iter().for_each(|(epoch, count)| history.append(Epoch(*epoch), *count));
    history
}

fn step(secondary: &mut Secondary, event: Event) -> Vec<Action> {
    secondary.step(event).into_iter().collect()
}

fn offer(from: NodeId, epoch: u64, writes: &[(u64, u64)]) -> Event {
    Event::Offered { from, epoch: Epoch(epoch), history: history(writes), oldest: Seq(1) }
}

fn fed(from: NodeId, epoch: u64, seq: u64) -> Event {
    Event::Fed { from, epoch: Epoch(epoch), made: Epoch(epoch), seq: Seq(seq) }
}

/// Follows P, which leads under epoch 4; both have five writes, three of them known to be on all.
fn following() -> Secondary {
    let mut secondary = Secondary::new(Epoch(3), history(&[(2, 5)]), Seq(3));
    let adopt = Action::Adopt { epoch: Epoch(4), from: Seq(6) };
    assert_eq!(step(&mut secondary, offer(P, 4, &[(2, 5)])), [adopt]);
    let ready = Action::Ready { to: P, epoch: Epoch(4), next: Seq(6) };
    let have = Action::Have { to: P, epoch: Epoch(4), durable: Seq(5) };
    assert_eq!(step(&mut secondary, Event::Adopted), [ready, have]);
    secondary
}

#[test]
fn what_it_is_fed_counts_when_it_is_durable() {
    let mut secondary = following();
    assert_eq!(step(&mut secondary, fed(P, 4, 6)), [Action::Append { seq: Seq(6), made: Epoch(4) }]);
    assert_eq!(step(&mut secondary, fed(P, 4, 6)), [], "fed twice");
    let have = Action::Have { to: P, epoch: Epoch(4), durable: Seq(6) };
    assert_eq!(step(&mut secondary, Event::Durable(Seq(6))), [have, Action::Apply(Seq(3))]);
    let committed = Event::Committed { from: P, epoch: Epoch(4), seq: Seq(9) };
    assert_eq!(step(&mut secondary, committed), [Action::Apply(Seq(6))], "what is durable here, too");
    assert_eq!((secondary.commit(), secondary.safe()), (Seq(9), Seq(6)), "what else counts is not here yet");
}

/// A write is asked for once: what was sent before the question is still on its way.
#[test]
fn what_was_lost_on_the_way_is_asked_for_again() {
    let again = Action::Ready { to: P, epoch: Epoch(4), next: Seq(7) };
    // A write that says to be older than one before it, or newer than its primary, is none of its log.
    for (made, seq) in [(4, 8), (1, 7), (5, 7)] {
        let mut secondary = following();
        step(&mut secondary, fed(P, 4, 6));
        let event = Event::Fed { from: P, epoch: Epoch(4), made: Epoch(made), seq: Seq(seq) };
        assert_eq!(step(&mut secondary, event).first(), Some(&again), "{seq} made under {made}");
        assert_eq!(step(&mut secondary, fed(P, 4, 9)), [], "sent before the question");
        assert_eq!(step(&mut secondary, fed(P, 4, 7)).len(), 1, "fed");
        assert_eq!(step(&mut secondary, fed(P, 4, 9)).len(), 2, "another one was lost");
    }
}

/// I1, V2, F20: whoever promised an epoch follows no older one.
#[test]
fn a_primary_that_was_outranked_is_told_so() {
    let mut secondary = following();
    let told = [Action::Outranked { to: Q, promised: Epoch(4) }];
    let committed = Event::Committed { from: Q, epoch: Epoch(3), seq: Seq(9) };
    for event in [offer(Q, 3, &[(2, 5)]), fed(Q, 3, 6), committed] {
        assert_eq!(step(&mut secondary, event), told);
    }
    assert_eq!(step(&mut secondary, fed(Q, 4, 6)), [], "of the same epoch, and not the one that it follows");
}

#[test]
fn a_new_primary_has_it_cut_back_to_what_both_have() {
    let mut secondary = following();
    step(&mut secondary, fed(P, 4, 6));
    step(&mut secondary, Event::Durable(Seq(6)));
    let adopt = Action::Adopt { epoch: Epoch(7), from: Seq(6) };
    assert_eq!(step(&mut secondary, offer(Q, 7, &[(2, 5), (7, 2)])), [adopt]);
    assert_eq!(step(&mut secondary, offer(Q, 7, &[(2, 5), (7, 2)])), [], "it is on its way");
    assert_eq!(step(&mut secondary, fed(Q, 7, 6)), [], "too early");
    assert_eq!(
        (secondary.history().next(), secondary.durable(), secondary.promised()),
        (Seq(6), Seq(5), Epoch(7))
    );
}

/// I10, F51: a primary, even one that lies, takes back nothing that all had.
#[test]
fn what_all_had_is_never_cut_off() {
    let mut secondary = following();
    let liar = [Action::Contradicted { by: Q, epoch: Epoch(9) }];
    assert_eq!(step(&mut secondary, offer(Q, 9, &[(2, 2), (8, 3)])), liar);
    assert_eq!(secondary.history(), &history(&[(2, 5)]));
    assert_eq!(secondary.promised(), Epoch(4), "and it is not believed in anything else");
}

/// X13: a log that does not reach back needs the blocks that changed, and then it goes on.
#[test]
fn a_log_that_does_not_reach_back_is_said_to_be_behind() {
    let mut secondary = Secondary::new(Epoch(3), history(&[(2, 5)]), Seq(3));
    let mut theirs = History::new(Seq(9));
    theirs.append(Epoch(2), 4);
    let late = Event::Offered { from: P, epoch: Epoch(4), history: theirs, oldest: Seq(9) };
    assert_eq!(step(&mut secondary, late.clone()), [Action::Behind { to: P, epoch: Epoch(4) }]);
    assert_eq!(step(&mut secondary, late), [Action::Behind { to: P, epoch: Epoch(4) }]);
    let adopt = Action::Adopt { epoch: Epoch(4), from: Seq(6) };
    assert_eq!(step(&mut secondary, offer(P, 4, &[(2, 5)])), [adopt]);
    step(&mut secondary, Event::Adopted);
    let mut theirs = History::new(Seq(7));
    theirs.append(Epoch(2), 4);
    let trimmed = Event::Offered { from: P, epoch: Epoch(4), history: theirs, oldest: Seq(7) };
    assert_eq!(step(&mut secondary, trimmed), [Action::Behind { to: P, epoch: Epoch(4) }]);
}

/// I1, X13: what others have is not here because it was heard of. A log goes on where it ends.
#[test]
fn a_holder_that_heard_of_more_than_it_was_fed_is_behind_when_that_is_trimmed() {
    let mut secondary = following();
    let committed = Event::Committed { from: P, epoch: Epoch(4), seq: Seq(9) };
    assert_eq!(step(&mut secondary, committed.clone()), [Action::Apply(Seq(5))]);
    let theirs = history(&[(2, 5), (4, 7)]);
    let offered = |oldest| Event::Offered { from: P, epoch: Epoch(4), history: theirs.clone(), oldest };
    assert_eq!(step(&mut secondary, offered(Seq(8))), [Action::Behind { to: P, epoch: Epoch(4) }]);
    assert_eq!(secondary.history(), &history(&[(2, 5)]));
    // And another primary continues it where it ends.
    let mut secondary = following();
    step(&mut secondary, committed);
    let adopt = [Action::Adopt { epoch: Epoch(7), from: Seq(6) }];
    assert_eq!(step(&mut secondary, offer(Q, 7, &[(2, 5), (4, 4), (7, 2)])), adopt);
}

#[test]
fn a_log_that_failed_is_silent() {
    let mut secondary = following();
    assert_eq!(step(&mut secondary, Event::LogFailed), []);
    for event in [offer(Q, 9, &[(2, 5)]), fed(P, 4, 6), Event::Durable(Seq(6)), Event::LogFailed] {
        assert_eq!(step(&mut secondary, event), []);
    }
}
