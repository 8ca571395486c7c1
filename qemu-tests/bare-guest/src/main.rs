//! A guest without an operating system: numbers its writes, looks whether its disk and its memory still
//! agree, and says on its serial line what it found (P3; S2-01, S3-06, S4-01; I2). It uses no vectors, so
//! that it runs where KVM is emulated, too.
//!
//! | it says | |
//! |---|---|
//! | `bare: found N` | as it begins: the last number that its disk has |
//! | `bare: kept N` | this number and all before are durable |
//! | `bare: jump: ...` | its disk, or its clock, is not where its memory says |
//! | `bare: wrong: ...` | its disk failed, or has not what was written |
//!
//! `q` switches it off.
#![no_std]
#![no_main]

mod begins;
mod console;
mod disk;
mod memory;
mod pattern;
mod ports;

use core::panic::PanicInfo;

use console::{say, typed};
use disk::{Broken, Disk};

/// The block that has the last number; those behind it have the numbers, in turn.
const HEAD: u32 = 0;
const SLOTS: u32 = 64;
/// So many numbers, and it says how far it is.
const TOLD: u32 = 8;

/// What it does; it never comes back.
extern "C" fn runs() -> ! {
    say(format_args!("begins"));
    match works() {
        Ok(()) => say(format_args!("is off")),
        Err(why) => say(format_args!("wrong: {why}")),
    }
    ports::power_off()
}

fn slot(number: u32) -> u32 {
    (number % SLOTS).saturating_add(1)
}

/// Until `q` is typed.
fn works() -> Result<(), Broken> {
    let mut disk = Disk::find()?;
    let mut number = head(&mut disk)?;
    if number != 0 {
        holds(&mut disk, number)?;
    }
    say(format_args!("found {number}"));
    let first = number;
    let mut before = ports::clock();
    while typed() != Some(b'q') {
        let found = head(&mut disk)?;
        if found != number {
            say(format_args!("jump: the disk has {found}, memory {number}"));
        }
        let now = ports::clock();
        if now < before {
            say(format_args!("jump: the clock went from {before} to {now}"));
        }
        before = now;
        if number != 0 {
            holds(&mut disk, number)?;
        }
        number = number.wrapping_add(1);
        // Whoever lost its power behind the write of a number and before that of the last one finds it here.
        if number != first.wrapping_add(1) && !is_next(&mut disk, number)? {
            say(format_args!("jump: the disk is further than {number}"));
        }
        pattern::fill(number);
        disk.write(slot(number))?;
        pattern::mark(number);
        disk.write(HEAD)?;
        disk.flush()?;
        if number.is_multiple_of(TOLD) {
            say(format_args!("kept {number}"));
        }
    }
    Ok(())
}

/// The last number.
fn head(disk: &mut Disk) -> Result<u32, Broken> {
    disk.read(HEAD)?;
    pattern::marked().ok_or(Broken::Head)
}

/// Looks whether this number is on the disk, whole.
fn holds(disk: &mut Disk, number: u32) -> Result<(), Broken> {
    disk.read(slot(number))?;
    if pattern::is_whole(number) { Ok(()) } else { Err(Broken::Content(number)) }
}

/// Whether the place of this number has the one that was there before, or nothing yet. A guest that goes on
/// while its disk was written by another life of its own finds that one's numbers.
fn is_next(disk: &mut Disk, number: u32) -> Result<bool, Broken> {
    disk.read(slot(number))?;
    Ok(match number.checked_sub(SLOTS) {
        None | Some(0) => pattern::is_empty(),
        Some(before) => pattern::begins_as(before),
    })
}

#[panic_handler]
fn panics(why: &PanicInfo<'_>) -> ! {
    say(format_args!("wrong: {why}"));
    ports::power_off()
}
