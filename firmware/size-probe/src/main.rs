//! What a witness costs on a microcontroller before it has a board: the code of everything that its loop can
//! reach, and the sizes of what it holds. It is linked and measured, never run.
#![no_std]
#![no_main]

use bulkhead_core::link::links::Links;
use bulkhead_core::node::machine::{Node, REGISTERS};
use bulkhead_core::node::settings::{MEMBERS_MAX, Settings};
use bulkhead_core::node::words::{Action, Event};
use bulkhead_core::register::acceptor::Acceptor;
use bulkhead_core::register::store::{Owner, STORED_LEN, Stored};
use bulkhead_core::time::Instant;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// What a board gives to its witness.
struct Board {
    read: fn(place: u16, bytes: &mut [u8; STORED_LEN]) -> bool,
    next: fn(now: &mut Instant, until: Option<Instant>) -> Event<'static>,
    act: fn(Action),
}

/// The whole life of a witness.
fn witness(start: Instant, settings: Settings, owner: &Owner, board: &Board) {
    let stored = (0..u16::MAX).take(REGISTERS).filter_map(|place| {
        let mut bytes = [0; STORED_LEN];
        (board.read)(place, &mut bytes).then(|| Stored::parse(&bytes, owner).ok()).flatten()
    });
    let Ok(mut node) = <Node>::new(start, settings, stored) else { return };
    let mut now = start;
    loop {
        let event = (board.next)(&mut now, node.deadline());
        node.step(now, event, &mut |action| (board.act)(action));
    }
}

/// The linker keeps what it can reach from here. Nothing calls it.
#[used]
#[unsafe(no_mangle)]
static BULKHEAD_WITNESS: fn(Instant, Settings, &Owner, &Board) = witness;

/// Found in the file by its first two words: a whole node, its voter, its links, a voter of one register.
#[used]
#[unsafe(no_mangle)]
static BULKHEAD_SIZES: [u32; 6] = [
    u32::from_le_bytes(*b"BHSI"),
    u32::from_le_bytes(*b"ZES1"),
    size_of::<Node>() as u32,
    size_of::<Acceptor<REGISTERS>>() as u32,
    size_of::<Links<MEMBERS_MAX>>() as u32,
    size_of::<Acceptor<1>>() as u32,
];
