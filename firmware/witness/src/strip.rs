//! The power strip on a serial line: outlets for nodes that no relay of the board reaches (S1-06, V20, F28).
//!
//! What is asked and what counts as an answer is the core's (`fence::strip`); this carries the bytes, a few
//! at a time and only as many as the line has or takes, so nothing ever waits for the strip.

use bulkhead_core::fence::desk::{Act, Done, OrderId};
use bulkhead_core::fence::strip::line::{Action, Counters, Event, Line};
use bulkhead_core::fence::strip::words::{Answer, Ear, LINE_LEN, RequestId};
use bulkhead_core::fence::words::Outlet;
use bulkhead_core::time::Instant;
use embedded_io::{Read, ReadReady, Write, WriteReady};
use heapless::{Deque, Vec};

use crate::hardware::Outlets;

/// Bytes taken from the line in one turn, whatever it sends: two lines and some.
const BYTES_MAX: usize = 64;
/// Orders that ended and were not yet asked for: each that can be on the line, and one that found no room.
const ENDED_MAX: usize = bulkhead_core::fence::desk::ORDERS_MAX + 2;
/// How far the numbers of one start are from those of the next.
const REQUESTS_A_START: u64 = 1 << 16;

/// A power strip, and where its line is.
#[derive(Debug)]
pub struct Strip<S> {
    serial: S,
    line: Line,
    ear: Ear,
    /// What is still to be sent of the last request.
    unsent: Vec<u8, LINE_LEN>,
    ended: Deque<(OrderId, Done), ENDED_MAX>,
}

impl<S: Read + ReadReady + Write + WriteReady> Strip<S> {
    /// A strip of which nothing is known. `start` is another at each start of the witness.
    pub const fn new(serial: S, start: u64) -> Self {
        let [a, b, c, d, ..] = start.wrapping_mul(REQUESTS_A_START).to_le_bytes();
        let line = Line::new(RequestId(u32::from_le_bytes([a, b, c, d])));
        Self { serial, line, ear: Ear::new(), unsent: Vec::new(), ended: Deque::new() }
    }

    fn step(&mut self, now: Instant, event: Event) {
        for action in self.line.step(now, event) {
            match action {
                Action::Send(request) => {
                    self.unsent.clear();
                    // The first byte to send is the last one here.
                    self.unsent.extend(request.encode().into_iter().rev());
                }
                Action::Done { order, done } => {
                    // One that finds no room is overdue for the desk, and so has failed.
                    let _ = self.ended.push_back((order, done));
                }
            }
        }
    }

    fn hear(&mut self, now: Instant) {
        for _ in 0..BYTES_MAX {
            let mut byte = [0];
            if !matches!(self.serial.read_ready(), Ok(true)) || !matches!(self.serial.read(&mut byte), Ok(1))
            {
                return;
            }
            let [byte] = byte;
            if let Some(heard) = self.ear.hear(byte) {
                self.step(now, Event::Heard(Answer::parse(&heard)));
            }
        }
    }

    fn send(&mut self) {
        while let Some(byte) = self.unsent.last()
            && matches!(self.serial.write_ready(), Ok(true))
            && matches!(self.serial.write(&[*byte]), Ok(1))
        {
            self.unsent.pop();
        }
    }
}

impl<S: Read + ReadReady + Write + WriteReady> Outlets for Strip<S> {
    fn begin(&mut self, now: Instant, order: OrderId, outlet: Outlet, act: Act) {
        match outlet {
            Outlet::Strip(outlet) => self.step(now, Event::Order { order, outlet, act }),
            Outlet::Relay(_) => drop(self.ended.push_back((order, Done::Failed))),
        }
    }

    fn turn(&mut self, now: Instant) -> Option<(OrderId, Done)> {
        self.hear(now);
        if self.line.deadline().is_some_and(|due| due <= now) {
            self.step(now, Event::Timeout);
        }
        self.send();
        self.ended.pop_front()
    }

    fn counters(&self) -> Counters {
        *self.line.counters()
    }
}

#[cfg(test)]
#[path = "strip_tests.rs"]
mod tests;
