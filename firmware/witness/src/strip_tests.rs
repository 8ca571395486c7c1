//! A strip on a line that takes and gives a byte at a time.

use core::num::NonZeroU8;
use core::time::Duration;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::vec::Vec;

use bulkhead_core::fence::strip::words::{Found, Request};
use embedded_io::ErrorType;

use super::*;

/// Both directions, as the witness sees them.
#[derive(Clone, Debug, Default)]
struct Wire(Rc<RefCell<[VecDeque<u8>; 2]>>);

impl ErrorType for Wire {
    type Error = Infallible;
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        bytes[0] = self.0.borrow_mut()[0].pop_front().expect("asked only when it is ready");
        Ok(1)
    }
}

impl ReadReady for Wire {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(!self.0.borrow()[0].is_empty())
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.0.borrow_mut()[1].push_back(bytes[0]);
        Ok(1)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl WriteReady for Wire {
    /// A queue of four bytes.
    fn write_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.0.borrow()[1].len() < 4)
    }
}

struct Bench {
    wire: Wire,
    strip: Strip<Wire>,
    now: Instant,
    ear: Ear,
    ended: Vec<(u32, Done)>,
    /// What the strip answers.
    answers: fn(Request) -> Vec<u8>,
}

fn line(to: Request, found: Found) -> Vec<u8> {
    Answer { to, found }.encode().to_vec()
}

fn honest(request: Request) -> Vec<u8> {
    let found = if request.act == Act::Read { Found::Off } else { Found::Switched };
    line(request, found)
}

impl Bench {
    fn new(answers: fn(Request) -> Vec<u8>) -> Self {
        let wire = Wire::default();
        let strip = Strip::new(wire.clone(), 7);
        Self { wire, strip, now: Instant::ZERO, ear: Ear::default(), ended: Vec::new(), answers }
    }

    fn begin(&mut self, order: u32, act: Act) {
        self.strip.begin(self.now, OrderId(order), Outlet::Strip(NonZeroU8::MIN), act);
    }

    /// Turns of a millisecond until all is quiet.
    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now = self.now.after(Duration::from_millis(1));
            self.ended.extend(self.strip.turn(self.now).map(|(order, done)| (order.0, done)));
            let sent: Vec<u8> = self.wire.0.borrow_mut()[1].drain(..).collect();
            for heard in sent.into_iter().filter_map(|byte| self.ear.hear(byte)) {
                let request = Request::parse(&heard).expect("a line of this protocol");
                let answer = (self.answers)(request);
                self.wire.0.borrow_mut()[0].extend(answer);
            }
        }
    }
}

#[test]
fn an_outlet_is_cut_and_read_back_over_a_slow_line() {
    let mut bench = Bench::new(honest);
    bench.begin(1, Act::Off);
    bench.begin(2, Act::Read);
    bench.run(40);
    assert_eq!(bench.ended, [(1, Done::Switched), (2, Done::IsOff)]);
    assert_eq!(bench.strip.counters(), Counters::default());
    bench.strip.begin(bench.now, OrderId(3), Outlet::Relay(NonZeroU8::MIN), Act::Off);
    assert_eq!(bench.strip.turn(bench.now), Some((OrderId(3), Done::Failed)), "it has no relays");
}

/// F28: absent, garbling, talking without end, answering to another number: failed within its time, and the
/// loop was never held up.
#[test]
fn a_strip_that_is_no_use_has_failed() {
    let garbles = |request: Request| {
        let mut bytes = honest(request);
        bytes[15] ^= 1;
        bytes
    };
    let another =
        |request: Request| line(Request { id: RequestId(request.id.0 - 1), ..request }, Found::Switched);
    let babbles = |request: Request| [vec![b'x'; 5_000], honest(request)].concat();
    for answers in [|_| Vec::new(), garbles, another, babbles] {
        let mut bench = Bench::new(answers);
        bench.begin(1, Act::Off);
        bench.run(2_399);
        assert_eq!(bench.ended, []);
        bench.run(2);
        assert_eq!(bench.ended, [(1, Done::Failed)]);
    }
}

#[test]
fn noise_costs_a_repetition() {
    let mut bench = Bench::new(honest);
    bench.wire.0.borrow_mut()[0].extend(b"noise");
    bench.begin(1, Act::Off);
    bench.run(700);
    assert_eq!((bench.ended.len(), bench.strip.counters().damaged), (0, 1));
    bench.run(200);
    assert_eq!(bench.ended, [(1, Done::Switched)]);
}

/// V20: an answer that was on the line when the witness restarted is none of its own.
#[test]
fn each_start_numbers_its_requests_anew() {
    let first = |start| {
        let mut bench = Bench::new(|_| Vec::new());
        bench.strip = Strip::new(bench.wire.clone(), start);
        bench.begin(1, Act::Off);
        bench.strip.unsent.iter().rev().copied().collect::<Vec<u8>>()
    };
    assert_eq!(&first(1)[4..12], b"00010001");
    assert_eq!(&first(0x0001_0002)[4..12], b"00020001");
}
