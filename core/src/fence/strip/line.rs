//! The witness's end of a power strip's line: one request at a time, repeated until it is answered or has
//! failed (V20, F28).
//!
//! An order ends within [`ORDER_MAX`], whatever the strip does: one that is silent, garbles, or answers to
//! something else has failed. Only the answer that repeats request, outlet and act counts, so an answer that
//! comes late is never taken for another one. A request is repeated under its number: to cut twice is to cut.

use core::num::NonZeroU8;
use core::time::Duration;

use heapless::Deque;

use super::words::{Answer, Found, Malformed, Request, RequestId};
use crate::actions::Actions;
use crate::fence::desk::{Act, Done, ORDERS_MAX, OrderId};
use crate::time::Instant;

/// How long an answer may take: both lines at 9,600 baud take 52 ms, a contactor 100 ms.
pub const ANSWER_MAX: Duration = Duration::from_millis(800);
/// How often a request is sent, until it has failed.
pub const TRIES: u8 = 3;
/// Orders that wait for the line. The desk has no more under way; full means: that order has failed.
pub const WAITING_MAX: usize = ORDERS_MAX;
/// An order has ended after that long, even if it waited behind as many as there can be.
pub const ORDER_MAX: Duration = Duration::from_millis(800 * 3 * 9);

const _: () = {
    // Widening; `From` is not const.
    let tries = TRIES as u128 * (WAITING_MAX as u128 + 1);
    assert!(ANSWER_MAX.as_millis() * tries == ORDER_MAX.as_millis(), "one on the line, and all that wait");
};

/// What the desk, the strip and the clock tell the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Have this done.
    Order {
        /// Repeated in the report.
        order: OrderId,
        /// Where.
        outlet: NonZeroU8,
        /// What.
        act: Act,
    },
    /// A line came.
    Heard(Result<Answer, Malformed>),
    /// [`Line::deadline`] has passed.
    Timeout,
}

/// What the machine asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this line, in place of what is left of the one before.
    Send(Request),
    /// The order has ended.
    Done {
        /// Which.
        order: OrderId,
        /// How.
        done: Done,
    },
}

/// An order's end, and the next request.
pub const ACTIONS_MAX: usize = 2;

/// What the line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nothing is asked for. Exit: an order.
    Idle,
    /// A request was sent. Exit: its answer, or it was sent often enough.
    Asking {
        /// For which order.
        order: OrderId,
        /// What was sent.
        request: Request,
        /// How often.
        tries: u8,
        /// When it is sent again, or has failed.
        until: Instant,
    },
}

/// What was heard and said nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Requests that were not answered in time, each time.
    pub unanswered: u32,
    /// Lines that were damaged.
    pub damaged: u32,
    /// Lines in another version.
    pub other_version: u32,
    /// Answers to what was not asked, or not any more.
    pub unasked: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    order: OrderId,
    outlet: NonZeroU8,
    act: Act,
}

type Todo = Actions<Action, ACTIONS_MAX>;

/// The witness's end of the line.
#[derive(Clone, Debug)]
pub struct Line {
    mode: Mode,
    waiting: Deque<Waiting, WAITING_MAX>,
    last: RequestId,
    counters: Counters,
}

impl Line {
    /// Nothing was sent yet. Requests are numbered from `first` on: far from those of the start before, whose
    /// answers may still come.
    pub const fn new(first: RequestId) -> Self {
        let counters = Counters { unanswered: 0, damaged: 0, other_version: 0, unasked: 0 };
        Self { mode: Mode::Idle, waiting: Deque::new(), last: first, counters }
    }

    /// What it does.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// What was heard and said nothing.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// When [`Event::Timeout`] is due.
    pub const fn deadline(&self) -> Option<Instant> {
        match self.mode {
            Mode::Idle => None,
            Mode::Asking { until, .. } => Some(until),
        }
    }

    /// Takes one event and says what to do.
    pub fn step(&mut self, now: Instant, event: Event) -> Todo {
        let mut todo = Todo::none();
        match (self.mode, event) {
            (_, Event::Order { order, outlet, act }) => {
                if self.waiting.push_back(Waiting { order, outlet, act }).is_err() {
                    todo.push(Action::Done { order, done: Done::Failed });
                }
                if self.mode == Mode::Idle {
                    self.next(now, &mut todo);
                }
            }
            (Mode::Asking { order, request, .. }, Event::Heard(Ok(answer))) if answer.to == request => {
                todo.push(Action::Done { order, done: done(&answer) });
                self.next(now, &mut todo);
            }
            (Mode::Idle | Mode::Asking { .. }, Event::Heard(heard)) => self.count(heard),
            (Mode::Asking { order, request, tries, until }, Event::Timeout) if until <= now => {
                self.counters.unanswered = self.counters.unanswered.saturating_add(1);
                if tries < TRIES {
                    let (tries, until) = (tries.saturating_add(1), now.after(ANSWER_MAX));
                    self.mode = Mode::Asking { order, request, tries, until };
                    todo.push(Action::Send(request));
                } else {
                    todo.push(Action::Done { order, done: Done::Failed });
                    self.next(now, &mut todo);
                }
            }
            // Early.
            (Mode::Idle | Mode::Asking { .. }, Event::Timeout) => {}
        }
        todo
    }

    fn next(&mut self, now: Instant, todo: &mut Todo) {
        let Some(Waiting { order, outlet, act }) = self.waiting.pop_front() else {
            self.mode = Mode::Idle;
            return;
        };
        self.last = RequestId(self.last.0.wrapping_add(1));
        let request = Request { id: self.last, outlet, act };
        self.mode = Mode::Asking { order, request, tries: 1, until: now.after(ANSWER_MAX) };
        todo.push(Action::Send(request));
    }

    const fn count(&mut self, heard: Result<Answer, Malformed>) {
        let counter = match heard {
            Ok(_) => &mut self.counters.unasked,
            Err(Malformed::Damaged) => &mut self.counters.damaged,
            Err(Malformed::OtherVersion(_)) => &mut self.counters.other_version,
        };
        *counter = counter.saturating_add(1);
    }
}

/// What an answer means for the desk: one that does not fit what was asked has failed.
const fn done(answer: &Answer) -> Done {
    match (answer.to.act, answer.found) {
        (Act::Off | Act::On, Found::Switched) => Done::Switched,
        (Act::Read, Found::Off) => Done::IsOff,
        (Act::Read, Found::On) => Done::IsOn,
        (Act::Off | Act::On, Found::Off | Found::On | Found::Failed)
        | (Act::Read, Found::Switched | Found::Failed) => Done::Failed,
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
