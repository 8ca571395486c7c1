//! The line, told as stories, and every short story against a model.

use super::*;
use std::string::String;
use std::vec::Vec;

const ONE: NonZeroU8 = NonZeroU8::MIN;

fn order(number: u32, act: Act) -> Event {
    Event::Order { order: OrderId(number), outlet: ONE, act }
}

fn answer(id: u32, act: Act, found: Found) -> Event {
    Event::Heard(Ok(Answer { to: Request { id: RequestId(id), outlet: ONE, act }, found }))
}

fn check(line: &mut Line, at: u64, event: Event) -> Vec<String> {
    let told = line.step(Instant::from_millis(at), event).into_iter().map(|action| match action {
        Action::Send(Request { id, act, .. }) => std::format!("send {} {act:?}", id.0),
        Action::Done { order, done } => std::format!("order {}: {done:?}", order.0),
    });
    told.collect()
}

fn line() -> Line {
    Line::new(RequestId(40))
}

#[test]
fn orders_are_sent_one_after_the_other_and_end_with_their_answers() {
    let mut line = line();
    assert_eq!(check(&mut line, 0, order(1, Act::Off)), ["send 41 Off"]);
    assert_eq!(check(&mut line, 1, order(2, Act::Read)), [""; 0]);
    let switched = answer(41, Act::Off, Found::Switched);
    assert_eq!(check(&mut line, 2, switched), ["order 1: Switched", "send 42 Read"]);
    // Again, and late.
    assert_eq!(check(&mut line, 3, switched), [""; 0]);
    assert_eq!(check(&mut line, 4, answer(42, Act::Read, Found::Off)), ["order 2: IsOff"]);
    assert_eq!((line.mode(), line.deadline(), line.counters().unasked), (Mode::Idle, None, 1));
}

/// F28: nothing that a strip sends, or does not send, is a success but the answer itself.
#[test]
fn a_silent_strip_has_failed_after_three_requests() {
    let mut line = line();
    assert_eq!(check(&mut line, 0, order(1, Act::Off)), ["send 41 Off"]);
    assert_eq!(check(&mut line, 799, Event::Timeout), [""; 0], "early");
    assert_eq!(check(&mut line, 800, Event::Timeout), ["send 41 Off"]);
    assert_eq!(check(&mut line, 900, Event::Heard(Err(Malformed::Damaged))), [""; 0]);
    assert_eq!(check(&mut line, 950, Event::Heard(Err(Malformed::OtherVersion(b'2')))), [""; 0]);
    assert_eq!(check(&mut line, 1_600, Event::Timeout), ["send 41 Off"]);
    assert_eq!(check(&mut line, 2_400, Event::Timeout), ["order 1: Failed"]);
    let counters = Counters { unanswered: 3, damaged: 1, other_version: 1, unasked: 0 };
    assert_eq!(*line.counters(), counters);
}

#[test]
fn an_answer_to_something_else_does_not_count() {
    let mut line = line();
    check(&mut line, 0, order(1, Act::Off));
    for wrong in [
        answer(40, Act::Off, Found::Switched),
        answer(41, Act::Read, Found::Off),
        answer(41, Act::On, Found::Switched),
    ] {
        assert_eq!(check(&mut line, 1, wrong), [""; 0]);
    }
    let other = Request { id: RequestId(41), outlet: NonZeroU8::MAX, act: Act::Off };
    let other = Event::Heard(Ok(Answer { to: other, found: Found::Switched }));
    assert_eq!(check(&mut line, 1, other), [""; 0]);
    assert_eq!(line.counters().unasked, 4);
    // The right answer, with a result that says something else than what was asked.
    assert_eq!(check(&mut line, 2, answer(41, Act::Off, Found::Off)), ["order 1: Failed"]);
}

#[test]
fn a_full_line_fails_at_once() {
    let mut line = line();
    (0..9).for_each(|number| drop(check(&mut line, 0, order(number, Act::Read))));
    assert_eq!(check(&mut line, 0, order(9, Act::Read)), ["order 9: Failed"]);
    let mut ended = 0;
    for at in 1..=27 {
        let told = check(&mut line, at * 800, Event::Timeout);
        ended += told.iter().filter(|one| one.ends_with("Failed")).count();
    }
    assert_eq!((ended, line.mode()), (9, Mode::Idle), "within ORDER_MAX");
}

/// All stories of seven events: each order ends once, and well only by an answer to a request that was sent
/// for it after it was given.
#[test]
fn every_short_story() {
    let mut stories = 0;
    let mut open = std::vec![(line(), Vec::<(u32, Act)>::new(), Vec::<u32>::new(), 0_u64)];
    while let Some((before, given, ended, depth)) = open.pop() {
        if depth == 7 {
            stories += 1;
            continue;
        }
        let asked = match before.mode() {
            Mode::Asking { order, request, .. } => Some((order, request)),
            Mode::Idle => None,
        };
        let act = if depth % 2 == 0 { Act::Off } else { Act::Read };
        let number = u32::try_from(given.len()).unwrap();
        let right = if asked.is_some_and(|(_, request)| request.act == Act::Read) {
            Found::Off
        } else {
            Found::Switched
        };
        let id = asked.map_or(40, |(_, request)| request.id.0);
        for event in [
            order(number, act),
            answer(id, asked.map_or(Act::Off, |(_, request)| request.act), right),
            answer(id, asked.map_or(Act::Off, |(_, request)| request.act), Found::Failed),
            answer(id.wrapping_sub(1), Act::Off, Found::Switched),
            Event::Heard(Err(Malformed::Damaged)),
            Event::Timeout,
        ] {
            let (mut line, mut given, mut ended) = (before.clone(), given.clone(), ended.clone());
            if let Event::Order { order, act, .. } = event {
                given.push((order.0, act));
            }
            for action in line.step(Instant::from_millis(depth * 800), event) {
                let Action::Done { order, done } = action else { continue };
                assert!(!ended.contains(&order.0), "an order ends once");
                ended.push(order.0);
                let is_answer =
                    matches!(event, Event::Heard(Ok(answer)) if asked == Some((order, answer.to)));
                assert!(done == Done::Failed || is_answer, "{event:?} is no acknowledgement");
            }
            let waits = u32::from(line.mode() != Mode::Idle) + u32::try_from(line.waiting.len()).unwrap();
            assert_eq!(given.len(), ended.len() + usize::try_from(waits).unwrap(), "none is forgotten");
            open.push((line, given, ended, depth + 1));
        }
    }
    assert_eq!(stories, 6_u32.pow(7));
}
