//! A program for the board that fails in every way it can, one after the other: each must end in a start
//! that says why, and is counted (F13, V29). `qemu-tests/tests/firmware_failures.rs` runs it; a witness has
//! nothing of it.
#![no_std]
#![no_main]
#![allow(dead_code, reason = "it starts the board as the witness does, and uses little of it")]

mod board;
mod fault;
mod log;
mod stack;
mod wake;

use core::time::Duration;

use bulkhead_witness::hardware::Watchdog as _;
use cortex_m::peripheral::SCB;
use cortex_m_rt::{entry, exception};

use board::here;

/// How often the time is told at the end.
const TELL: Duration = Duration::from_millis(50);

#[entry]
fn main() -> ! {
    static mut ONE: () = ();
    static mut TWO: () = ();
    stack::switch(fail, ONE, TWO)
}

extern "C" fn fail(_: &'static mut (), _: &'static mut ()) -> ! {
    let (mut watchdog, survivor) = wake::wake();
    match (survivor.failures, survivor.silent) {
        (0, 0) => {
            say("a stack that runs out");
            defmt::info!("{=u32}", deeper(0));
        }
        (1, 0) => {
            say("a loop that hangs");
            hang()
        }
        (1, 1) => {
            say("a loop that hangs with interrupts masked");
            cortex_m::interrupt::disable();
            hang()
        }
        (1, 2) => {
            say("an interrupt without end");
            SCB::set_pendsv();
            loop {
                watchdog.feed();
            }
        }
        (1, 3) => panic!("on purpose"),
        (2, 3) => {
            say("an instruction that is none");
            cortex_m::asm::udf()
        }
        (_, _) => {}
    }
    defmt::info!("all failures ended in a start");
    let mut tell_at = here::clock::now();
    // Without a sleep: a processor that is stopped at work goes on before an emulator's timers have.
    loop {
        watchdog.feed();
        let now = here::clock::now();
        if tell_at <= now {
            tell_at = now.after(TELL);
            defmt::info!("time {=u64} us", now.as_micros());
        }
    }
}

/// Comes again whenever it returns: nothing else ever runs.
#[exception]
fn PendSV() {
    SCB::set_pendsv();
}

/// Says it before it happens: what waits for the line would not be sent any more.
fn say(what: &str) {
    defmt::info!("now: {=str}", what);
    log::finish();
}

fn hang() -> ! {
    loop {
        cortex_m::asm::nop();
    }
}

/// Calls itself, with something to keep in each frame.
#[inline(never)]
#[expect(unconditional_recursion, reason = "this is what must end well")]
fn deeper(depth: u32) -> u32 {
    let kept = core::hint::black_box([depth; 64]);
    let below = deeper(depth.wrapping_add(1));
    kept.iter().fold(below, |sum, one| sum.wrapping_add(*one))
}
