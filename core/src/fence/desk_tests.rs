//! The desk, told as stories.

use super::*;
use crate::fence::words::FenceId;
use crate::id::{Epoch, RegisterId};
use crate::register::message::Start;
use std::vec::Vec as Many;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const SETTINGS: Settings =
    Settings { step_max: Duration::from_millis(1_000), off_min: Duration::from_millis(4_000) };

fn plea(id: u64, node: NodeId, want: Want) -> Plea {
    let (register, epoch) = (RegisterId(3), Epoch(5));
    Plea { id: FenceId(id), node, start: Some(Start(77)), register, epoch, want }
}

fn ask(from: NodeId, plea: Plea) -> Event {
    Event::Asked { from, plea, right: Ok(Ground::Holder) }
}

fn done(order: u32, done: Done) -> Event {
    Event::PowerDone { order: OrderId(order), done }
}

/// The power actions of a step, and the outcomes told.
type Seen = (Many<(u32, u16, Act)>, Many<(u16, Outcome)>);

fn check(desk: &mut Desk, at: u64, event: Event) -> Seen {
    let (mut powers, mut told) = (Many::new(), Many::new());
    for action in desk.step(Instant::from_millis(at), event) {
        match action {
            Action::Power { order, node, act } => powers.push((order.0, node.0, act)),
            Action::Answer { to, reply } => told.push((to.0, reply.outcome)),
            Action::Record(entry) => assert!(desk.entries().any(|kept| *kept == entry)),
        }
    }
    (powers, told)
}

/// V20, V21: cut once, told off only when read back as off, and again to whoever asks again.
#[test]
fn a_plea_is_carried_out_once_and_read_back() {
    let mut desk = Desk::new(SETTINGS);
    let off = ask(B, plea(9, A, Want::Off));
    assert_eq!(check(&mut desk, 0, off), ([(1, 1, Act::Off)].into(), [(2, Outcome::UnderWay)].into()));
    assert_eq!(check(&mut desk, 1, off), ([].into(), [(2, Outcome::UnderWay)].into()));
    assert_eq!(check(&mut desk, 300, done(1, Done::Switched)), ([(1, 1, Act::Read)].into(), [].into()));
    assert_eq!(check(&mut desk, 301, off), ([].into(), [(2, Outcome::UnderWay)].into()), "not read yet");
    assert_eq!(check(&mut desk, 310, done(1, Done::IsOff)), ([].into(), [(2, Outcome::Off)].into()));
    assert_eq!(check(&mut desk, 311, done(1, Done::IsOn)), ([].into(), [].into()), "late news");
    assert_eq!(check(&mut desk, 320, off), ([].into(), [(2, Outcome::Off)].into()));
    // Another node with the right is told of the same cut; one without it is not.
    let other = plea(1, A, Want::Off);
    assert_eq!(check(&mut desk, 330, ask(NodeId(4), other)), ([].into(), [(4, Outcome::Off)].into()));
    let right = Err(Refusal::NotHolder);
    let refused = Event::Asked { from: NodeId(5), plea: other, right };
    let no = [(5, Outcome::Refused(Refusal::NotHolder))];
    assert_eq!(check(&mut desk, 340, refused), ([].into(), no.into()));
    // One record for the cut, one for the refusal, however often it is repeated.
    let _ = check(&mut desk, 350, refused);
    let kept: Many<_> = desk.entries().map(|entry| (entry.number, entry.outcome)).collect();
    assert_eq!(kept, [(1, Outcome::Off), (2, Outcome::Refused(Refusal::NotHolder))]);
}

/// F28: a switch that lies, fails or hangs confirms nothing, and may be tried again by a new plea.
#[test]
fn what_is_not_read_back_is_failed() {
    let mut desk = Desk::new(SETTINGS);
    let failed = || (Many::new(), Many::from([(2, Outcome::Failed)]));
    let _ = check(&mut desk, 0, ask(B, plea(1, A, Want::Off)));
    let _ = check(&mut desk, 1, done(1, Done::Switched));
    assert_eq!(check(&mut desk, 2, done(1, Done::IsOn)), failed(), "it lied");
    assert_eq!(check(&mut desk, 3, ask(B, plea(1, A, Want::Off))), failed(), "the same plea is not retried");
    let again = check(&mut desk, 4, ask(B, plea(2, A, Want::Off)));
    assert_eq!(again.0, [(2, 1, Act::Off)]);
    assert_eq!(check(&mut desk, 5, done(2, Done::Failed)), failed());
    let _ = check(&mut desk, 10, ask(B, plea(3, A, Want::Off)));
    assert_eq!(desk.deadline(), Some(Instant::from_millis(1_010)));
    assert_eq!(check(&mut desk, 1_009, Event::Timeout), ([].into(), [].into()));
    assert_eq!(check(&mut desk, 1_010, Event::Timeout), failed(), "it hung");
    assert_eq!(desk.deadline(), None);
}

/// F29: who is being cut has nobody cut, and two orders for one node are never under way.
#[test]
fn a_node_that_is_being_cut_cuts_nobody() {
    let mut desk = Desk::new(SETTINGS);
    let _ = check(&mut desk, 0, ask(B, plea(1, A, Want::Off)));
    let no = |to, refusal| (Many::new(), Many::from([(to, Outcome::Refused(refusal))]));
    assert_eq!(check(&mut desk, 1, ask(A, plea(1, B, Want::Off))), no(1, Refusal::BeingCut));
    assert_eq!(check(&mut desk, 2, ask(B, plea(2, A, Want::On))), no(2, Refusal::Busy));
}

#[test]
fn a_node_stays_off_for_the_least_time() {
    let mut desk = Desk::new(SETTINGS);
    let _ = check(&mut desk, 0, ask(B, plea(1, A, Want::Off)));
    let _ = check(&mut desk, 1, done(1, Done::Switched));
    let _ = check(&mut desk, 100, done(1, Done::IsOff));
    let on = ask(B, plea(2, A, Want::On));
    let no = (Many::new(), Many::from([(2, Outcome::Refused(Refusal::OffTooShort))]));
    assert_eq!(check(&mut desk, 4_099, on), no);
    assert_eq!(check(&mut desk, 4_100, on).0, [(2, 1, Act::On)]);
    let _ = check(&mut desk, 4_200, done(2, Done::Switched));
    assert_eq!(check(&mut desk, 4_201, done(2, Done::IsOn)).1, [(2, Outcome::On)]);
}

/// V16: any number of pleas keeps the tables at their size, and looking leaves no trace.
#[test]
fn the_tables_are_bounded() {
    let mut desk = Desk::new(SETTINGS);
    for id in 0..200 {
        let node = NodeId(10 + u16::try_from(id).unwrap());
        let told = check(&mut desk, id, ask(B, plea(id, node, Want::Off))).1;
        let want = if id < 8 { Outcome::UnderWay } else { Outcome::Refused(Refusal::Busy) };
        assert_eq!(told, [(2, want)], "{id}");
    }
    assert_eq!(desk.entries().count(), ENTRIES_MAX);
    let _ = check(&mut desk, 5_000, Event::Timeout);
    let before: Many<_> = desk.entries().copied().collect();
    let look = check(&mut desk, 5_001, ask(B, plea(900, A, Want::Look)));
    let [(order, 1, Act::Read)] = look.0[..] else { panic!("{look:?}") };
    assert_eq!(check(&mut desk, 5_002, done(order, Done::IsOn)).1, [(2, Outcome::On)]);
    assert_eq!(desk.entries().copied().collect::<Many<_>>(), before);
}
