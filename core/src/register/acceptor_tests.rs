//! Stories of one voter: nothing is said before it is durable, and a lease is kept to the end.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::register::kept::room_for;
use crate::register::message::{AskId, Lending, Start};
use crate::register::record::Payload;
use crate::register::voters::{Set, Voters};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const R: RegisterId = RegisterId(1);
const LENDING: Lending = Lending { length: Millis(600), start: Start(9) };

fn settings() -> Settings {
    let drift = Drift::from_ppm(10_000).unwrap();
    Settings { life: Life(5), lease_max: Duration::from_millis(600), drift }
}

fn voter() -> Acceptor<2> {
    Acceptor::new(Instant::ZERO, settings(), [])
}

fn record(epoch: u64, holder: NodeId) -> Record {
    let voters = Voters::settled(Set::on([A, B, NodeId(3)]).unwrap());
    Record { epoch: Epoch(epoch), holder: Some(holder), voters, payload: Payload::new() }
}

fn prepare(round: u64, from: NodeId) -> (NodeId, Ask) {
    (from, Ask::Prepare { ballot: Ballot::new(round, from), fenced: None })
}

fn accept(round: u64, from: NodeId, epoch: u64) -> (NodeId, Ask) {
    let (ballot, record) = (Ballot::new(round, from), record(epoch, from));
    (from, Ask::Accept { ballot, record, lease: Some(LENDING), fenced: None })
}

/// Asks at `millis`; the disk is as fast as thought.
fn ask<const ROOM: usize>(
    voter: &mut Acceptor<2, WAITING_MAX, ROOM>,
    millis: u64,
    (from, body): (NodeId, Ask),
) -> String {
    let now = Instant::from_millis(millis);
    let request = Request { register: R, ask: AskId(1), body };
    let mut said = Vec::new();
    for action in voter.step(now, Event::Asked { from, request }) {
        match action {
            Action::Answer { answer, .. } => said.push(short(&answer.body)),
            Action::Persist { id, .. } => {
                let actions = voter.step(now, Event::Persisted(id));
                said.extend(actions.iter().map(|action| match action {
                    Action::Answer { answer, .. } => short(&answer.body),
                    Action::Persist { .. } => String::from("persist?"),
                }));
            }
        }
    }
    said.join(", ")
}

fn short(reply: &Reply) -> String {
    match reply {
        Reply::State { accepted, lease } => {
            let epoch = accepted.as_ref().map(|(_, record)| record.epoch.0);
            format!("state {epoch:?} {:?}", lease.map(|lease| lease.holder.0))
        }
        Reply::Promised { accepted } => format!("promised {:?}", accepted.as_ref().map(|(_, r)| r.epoch.0)),
        Reply::Accepted => String::from("accepted"),
        Reply::Granted { epoch } => format!("granted {}", epoch.0),
        Reply::Released => String::from("released"),
        Reply::Refused(Refusal::Leased(lease)) => format!("leased to {} {}", lease.holder.0, lease.left.0),
        Reply::Refused(refusal) => format!("{refusal:?}"),
    }
}

/// V10, V4: the answer leaves when the flush has returned, and so does whatever was asked after it.
#[test]
fn nothing_is_said_before_it_is_durable() {
    let mut voter = voter();
    let asked = |from, body| Event::Asked { from, request: Request { register: R, ask: AskId(1), body } };
    let (from, body) = prepare(1, A);
    let first: Vec<_> = voter.step(Instant::ZERO, asked(from, body)).into_iter().collect();
    assert!(
        matches!(&first[..], [Action::Persist { id: PersistId(1), place: 0, stored }] if stored.seq == 1)
    );
    assert!(voter.step(Instant::ZERO, asked(B, Ask::Read)).is_empty(), "the state read is not durable yet");
    assert!(voter.step(Instant::ZERO, Event::Persisted(PersistId(0))).is_empty());
    let said: Vec<_> = voter.step(Instant::ZERO, Event::Persisted(PersistId(1))).into_iter().collect();
    assert!(matches!(&said[..], [Action::Answer { to: A, .. }, Action::Answer { to: B, .. }]), "{said:?}");
}

/// V13, F5: after a failed flush it is silent for good.
#[test]
fn a_failed_flush_ends_the_voter() {
    let mut voter = voter();
    let (from, body) = prepare(1, A);
    let request = Request { register: R, ask: AskId(1), body };
    let _ = voter.step(Instant::ZERO, Event::Asked { from, request });
    assert!(voter.step(Instant::ZERO, Event::PersistFailed).is_empty());
    assert!(voter.step(Instant::ZERO, Event::Persisted(PersistId(1))).is_empty());
    assert_eq!(ask(&mut voter, 1, (B, Ask::Read)), "");
    assert_eq!(voter.mode(), Mode::Failed);
}

/// V3, V11: who asks while somebody else has a lease is told how long; the lease ends on the voter's clock
/// only after the holder's has, at any drift; and it is looked at again when the record is written.
#[test]
fn a_lease_is_kept_to_its_end() {
    let mut voter = voter();
    assert_eq!(ask(&mut voter, 0, prepare(1, A)), "promised None");
    assert_eq!(ask(&mut voter, 0, accept(1, A, 1)), "accepted");
    assert_eq!(ask(&mut voter, 1, prepare(2, B)), "leased to 1 605");
    assert_eq!(ask(&mut voter, 605, prepare(2, B)), "leased to 1 1", "600 ms on a clock that runs 1 % fast");
    assert_eq!(ask(&mut voter, 606, prepare(2, B)), "promised Some(1)");
    // The holder, late but alive, renews before the other has written.
    assert_eq!(ask(&mut voter, 607, (A, Ask::Renew(LENDING))), "granted 1");
    assert_eq!(ask(&mut voter, 608, accept(2, B, 2)), "leased to 1 605");
    assert_eq!(ask(&mut voter, 1_213, accept(2, B, 2)), "accepted");
    assert_eq!(ask(&mut voter, 1_214, (A, Ask::Renew(LENDING))), "NotHolder { epoch: Epoch(2) }");
}

/// V10, V39: a record that no attempt carries cannot be kept, so it is not accepted. Found by the fuzzer.
#[test]
fn a_record_of_no_attempt_is_refused() {
    let mut voter = voter();
    let said = ask(&mut voter, 0, accept(0, NodeId(0), 1));
    assert!(said.starts_with("Outbid"), "{said}");
    assert_eq!(voter.accepted(R), None);
    assert_eq!(ask(&mut voter, 1, accept(1, A, 1)), "accepted", "the first attempt that is one");
}

/// A late message gives back what it names, not what was won since.
#[test]
fn a_late_release_does_not_end_a_newer_lease() {
    let mut voter = voter();
    ask(&mut voter, 0, prepare(1, A));
    ask(&mut voter, 0, accept(1, A, 7));
    assert_eq!(ask(&mut voter, 1, (A, Ask::Release { epoch: Epoch(6) })), "released");
    assert_eq!(ask(&mut voter, 2, prepare(2, B)), "leased to 1 604");
    assert_eq!(ask(&mut voter, 3, (A, Ask::Release { epoch: Epoch(7) })), "released");
    assert_eq!(ask(&mut voter, 4, prepare(2, B)), "promised Some(7)");
}

/// F25, V11: after a restart the voter keeps the longest lease it could have granted, to whom it could.
#[test]
fn a_restarted_voter_waits_out_the_longest_lease() {
    let mut before = voter();
    ask(&mut before, 0, prepare(1, A));
    ask(&mut before, 0, accept(1, A, 1));
    let stored: Vec<_> = before.table.iter().map(|entry| entry.kept.stored()).collect();
    let mut after = <Acceptor<2>>::new(Instant::from_millis(10), settings(), stored);
    assert_eq!(ask(&mut after, 10, prepare(2, B)), "leased to 1 606");
    assert_eq!(ask(&mut after, 20, (A, Ask::Renew(LENDING))), "granted 1", "the holder itself may go on");
    assert_eq!(ask(&mut after, 700, prepare(1, A)), "Outbid { promised: Ballot { round: 1, by: 1 } }");
    assert_eq!(ask(&mut after, 700, prepare(2, B)), "promised Some(1)");
    assert_eq!(ask(&mut after, 700, accept(2, B, 0)), "OldEpoch { epoch: Epoch(1) }");
}

/// V11: who writes a record that another holds has given its lease back, also if it asks for one with it.
#[test]
fn a_lease_ends_with_the_record_of_its_holder() {
    for lease in [None, Some(LENDING)] {
        let mut voter = voter();
        ask(&mut voter, 0, prepare(1, A));
        ask(&mut voter, 0, accept(1, A, 1));
        assert_eq!(ask(&mut voter, 1, (A, Ask::Read)), "state Some(1) Some(1)");
        let handed = Ask::Accept { ballot: Ballot::new(2, A), record: record(2, B), lease, fenced: None };
        assert_eq!(ask(&mut voter, 2, prepare(2, A)), "promised Some(1)");
        assert_eq!(ask(&mut voter, 2, (A, handed)), "accepted");
        assert_eq!(ask(&mut voter, 3, (B, Ask::Read)), "state Some(2) None", "asked for with it: {lease:?}");
        assert_eq!(ask(&mut voter, 4, prepare(3, B)), "promised Some(2)");
    }
}

/// V20: the lease of a start that was fenced is forgotten with the promise; who asks next need not know.
#[test]
fn a_fence_ends_the_lease_of_the_start_it_names() {
    for (start, said, later) in
        [(8, "leased to 1 605", "leased to 1 604"), (9, "promised Some(1)", "promised Some(1)")]
    {
        let mut voter = voter();
        ask(&mut voter, 0, prepare(1, A));
        ask(&mut voter, 0, accept(1, A, 1));
        let fenced = Some(Fenced { node: A, start: Start(start) });
        let by_fence = Ask::Prepare { ballot: Ballot::new(2, B), fenced };
        assert_eq!(ask(&mut voter, 1, (B, by_fence)), said, "start {start} was fenced");
        assert_eq!(ask(&mut voter, 2, prepare(3, NodeId(3))), later, "start {start} was fenced");
    }
}

#[test]
fn bounds_are_refused_by_name() {
    let mut voter = voter();
    let long = Lending { length: Millis(601), ..LENDING };
    ask(&mut voter, 0, prepare(1, A));
    ask(&mut voter, 0, accept(1, A, 1));
    assert_eq!(ask(&mut voter, 1, (A, Ask::Renew(long))), "LeaseTooLong { max: Millis(600) }");
    for register in [2, 3] {
        let request = Request { register: RegisterId(register), ask: AskId(1), body: prepare(1, A).1 };
        let actions = voter.step(Instant::ZERO, Event::Asked { from: A, request });
        let full = actions.iter().any(|action| {
            matches!(action, Action::Answer { answer, .. } if answer.body == Reply::Refused(Refusal::Full))
        });
        assert_eq!(full, register == 3, "two places");
    }
}

/// F12, V16: questions that find no room for their answers are dropped and counted.
#[test]
fn a_slow_disk_costs_questions_not_memory() {
    let mut voter = voter();
    for round in 1..=20 {
        let request = Request { register: R, ask: AskId(1), body: prepare(round, A).1 };
        let _ = voter.step(Instant::ZERO, Event::Asked { from: A, request });
    }
    assert_eq!(voter.dropped(), 4);
    assert_eq!(voter.step(Instant::ZERO, Event::Persisted(PersistId(16))).iter().count(), WAITING_MAX);
}

/// X03, V10: a voter with less room refuses a record that is too long, and keeps what it promised and
/// accepted: for that record it is as if it were away. A longer one on its disk is refused, not forgotten.
#[test]
fn a_record_that_finds_no_room_changes_nothing() {
    let mut voter = Acceptor::<2, WAITING_MAX, { room_for(3, 0) }>::new(Instant::ZERO, settings(), []);
    assert_eq!(ask(&mut voter, 0, prepare(1, A)), "promised None");
    assert_eq!(ask(&mut voter, 0, accept(1, A, 1)), "accepted");
    let (before, mut longer) = (voter.accepted(R), record(2, A));
    longer.payload = Payload::from_slice(b"!").unwrap();
    let body = Ask::Accept { ballot: Ballot::new(2, A), record: longer.clone(), lease: None, fenced: None };
    assert_eq!(ask(&mut voter, 1, (A, body)), "Full");
    assert_eq!(voter.accepted(R), before);
    assert_eq!(ask(&mut voter, 1, prepare(2, A)), "promised Some(1)", "nothing was promised away");
    assert_eq!(ask(&mut voter, 1, (A, Ask::Renew(LENDING))), "granted 1");
    let accepted = Some((Ballot::new(3, A), longer));
    let stored = Stored { register: R, seq: 1, promised: Ballot::new(3, A), accepted };
    let mut after = Acceptor::<2, WAITING_MAX, { room_for(3, 0) }>::blank(settings());
    assert!(!after.resume(Instant::ZERO, &stored));
}
