//! A console between a driver written by hand and whoever types and reads (F43, V44).

use super::super::VERSION_1;
use super::super::testing::{DATA, Driver, SIZE, event, initialise_queues, set};
use super::super::transport::Transport;
use super::*;
use crate::vmm::said::Said;
use proptest::prelude::*;
use std::io::Read as _;

/// A driver of both queues, and the device.
struct Guest {
    receive: Driver,
    send: Driver,
    transport: Transport,
    typed: Typed,
}

impl Guest {
    fn new(out: Console) -> Self {
        let receive = Driver::default();
        let (send, typed) = (receive.beside(), Typed::new().unwrap());
        let device = Box::new(Terminal::new(typed.clone(), out));
        let mut transport =
            Transport::new(device, receive.memory.clone(), event(), vec![event(), event()]).unwrap();
        assert_eq!(initialise_queues(&mut transport, VERSION_1, 2), 15);
        Self { receive, send, transport, typed }
    }

    fn notify(&mut self, queue: u32) {
        set(&mut self.transport, 0x50, queue);
    }
}

#[test]
fn what_a_guest_says_is_heard_and_what_is_typed_comes() {
    let (mut said, console) = Said::new();
    let mut guest = Guest::new(console);
    guest.send.put(DATA, b"hello, world");
    guest.send.ask(0, &[(DATA, 5, false), (DATA + 5, 7, false)]);
    guest.notify(1);
    assert_eq!(guest.send.wait(1), [(0, 0)]);
    said.hears("hello, world");

    // Typed before it asks, and after; in one piece, or a letter at a time.
    assert_eq!(guest.typed.input(b"abc"), 3);
    guest.receive.ask(0, &[(DATA + 0x100, 16, true)]);
    guest.notify(0);
    assert_eq!(guest.receive.wait(1), [(0, 3)]);
    guest.receive.ask(1, &[(DATA + 0x200, 1, true)]);
    guest.receive.ask(2, &[(DATA + 0x201, 1, true)]);
    guest.notify(0);
    assert_eq!(guest.typed.input(b"de"), 2);
    assert_eq!(guest.receive.wait(2), [(1, 1), (2, 1)]);
    assert_eq!(guest.receive.get(DATA + 0x100, 3), b"abc");
    assert_eq!(guest.receive.get(DATA + 0x200, 2), b"de");
    assert_eq!(guest.typed.lock().len(), 0);
}

/// V16: who reads nothing costs a bounded amount, and loses nothing of that.
#[test]
fn what_is_typed_is_bounded_and_waits() {
    let mut guest = Guest::new(Console::default());
    assert_eq!(guest.typed.input(&[b'x'; 1000]), TYPED_MAX);
    assert_eq!(guest.typed.input(b"y"), 0);
    let mut came = 0;
    while came < TYPED_MAX {
        guest.receive.ask(0, &[(DATA, 4096, true)]);
        guest.notify(0);
        came += usize::try_from(guest.receive.wait(1)[0].1).unwrap();
    }
    assert_eq!(came, TYPED_MAX);
}

/// S3-06: a copy goes on where it was: what is asked and not answered yet is answered there.
#[test]
fn a_copy_of_it_goes_on() {
    let mut guest = Guest::new(Console::default());
    guest.receive.ask(0, &[(DATA, 16, true)]);
    guest.notify(0);
    guest.transport.pause();
    let saved = guest.transport.saved();
    let device = Box::new(Terminal::new(guest.typed.clone(), Console::default()));
    let memory = guest.receive.memory.clone();
    let mut copy = Transport::new(device, memory, event(), vec![event(), event()]).unwrap();
    copy.restore(&saved).unwrap();
    assert_eq!(guest.typed.input(b"z"), 1);
    assert_eq!(guest.receive.wait(1), [(0, 1)]);
    assert_eq!(guest.receive.get(DATA, 1), b"z");
    copy.end();
}

/// Of what is said at once, no more is read than is kept: a chain may claim all of memory many times.
#[test]
fn a_chain_that_never_ends_ends() {
    let (mut said, console) = Said::new();
    let mut guest = Guest::new(console);
    let all = [(0, 4 << 20, false); 8];
    guest.send.ask(0, &all);
    guest.notify(1);
    assert_eq!(guest.send.wait(1), [(0, 0)]);
    guest.send.put(DATA, b"still here");
    guest.send.ask(8, &[(DATA, 10, false)]);
    guest.notify(1);
    guest.send.wait(1);
    let mut all = Vec::new();
    while !all.ends_with(b"still here") {
        let mut bytes = [0; 4096];
        let count = said.0.read(&mut bytes).unwrap();
        all.extend(&bytes[..count]);
    }
    assert!(all.len() <= KEPT_MAX + 10, "{}", all.len());
}

/// A part of what a hostile driver asks.
fn any_part() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let at = prop_oneof![0_u64..5 << 20, any::<u64>()];
    let length = prop_oneof![0_u32..8192, any::<u32>()];
    (at, length, 0_u16..8, 0..SIZE)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked: the device ends when it is told to, and nothing outside memory is touched.
    #[test]
    fn whatever_is_asked_it_can_be_ended(
        parts in prop::collection::vec(any_part(), usize::from(SIZE)),
        heads in prop::collection::vec(any::<u16>(), 1..20),
        typed in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut guest = Guest::new(Console::default());
        for (place, (at, length, flags, next)) in (0..).zip(&parts) {
            guest.receive.describe(place, (*at, *length), *flags, *next);
            guest.send.describe(place, (*at, *length), *flags, *next);
        }
        let _ = guest.typed.input(&typed);
        for head in heads {
            guest.receive.offer(head);
            guest.send.offer(head);
            guest.notify(0);
            guest.notify(1);
        }
        guest.transport.end();
        let before = guest.receive.get(0, 4 << 20);
        let _ = guest.typed.input(b"late");
        prop_assert!(before == guest.receive.get(0, 4 << 20), "it writes although it has ended");
    }
}
