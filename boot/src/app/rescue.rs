//! The rescue console (X20): shows what is there, takes orders, and tries again by itself.
//!
//! A fault that passes (a slow disk, a cable) heals without a person: after [`WAIT`] without a key
//! the machine resets and decides anew.

use super::alloc::string::String;
use super::console::{print, println, say};
use super::survey::{NoSurvey, Survey};
use super::{Wish, watchdog};
use bulkhead_core::bcb::state::{Reason, SlotState};
use bulkhead_core::slot::SlotId;
use core::time::Duration;
use uefi::proto::console::text::Key;
use uefi::runtime::ResetType;
use uefi::{Status, boot};

/// Time without a key after which the machine resets.
const WAIT: Duration = Duration::from_secs(300);
/// Time between two looks at the keyboard.
const LOOK: Duration = Duration::from_millis(20);
/// Characters of an order; more are ignored.
const ORDER_MAX: usize = 32;

/// Nothing could be read: there is no disk to show.
pub(super) fn without_disk(why: NoSurvey) -> Wish {
    say!("{why}");
    serve(&|| say!("{why}"), false)
}

/// The console over a disk on which no slot may be started.
pub(super) fn console(survey: &Survey) -> Wish {
    status(survey);
    serve(&|| status(survey), true)
}

fn serve(status: &dyn Fn(), slots: bool) -> Wish {
    watchdog::disarm();
    println!("BOOT slot=none version=0 reason={}", Reason::Rescue.token());
    say!("no slot may be started. Type `help`; without a key this machine resets in {} s", WAIT.as_secs());
    loop {
        print!("rescue> ");
        let Some(order) = read_line() else { reset() };
        let mut words = order.split_whitespace();
        match (words.next(), words.next()) {
            (None, _) => {}
            (Some("status"), None) => status(),
            (Some("retry"), None) => return Wish::Retry,
            (Some("reset"), None) => reset(),
            (Some("boot"), Some(name)) if slots => match name.parse::<SlotId>() {
                Ok(slot) => return Wish::Boot(slot),
                Err(why) => println!("{why}"),
            },
            (Some(_), _) => help(slots),
        }
    }
}

fn help(slots: bool) {
    println!("status   what is on the disk");
    if slots {
        println!("boot a   start slot a once, if its image verifies (also: boot b)");
    }
    println!("retry    read the disk again and decide");
    println!("reset    reset the machine");
}

fn status(survey: &Survey) {
    println!("partition table: {}", survey.table);
    for (name, copy) in ["first", "second"].into_iter().zip(survey.copies.each()) {
        match copy {
            Ok(stored) => println!("boot control block, {name} copy: good, sequence {}", stored.seq),
            Err(damage) => println!("boot control block, {name} copy: {damage}"),
        }
    }
    let Some(stored) = survey.copies.newest() else { return };
    println!("preferred slot {}, security floor {}", stored.bcb.preferred, stored.bcb.floor);
    for slot in SlotId::ALL {
        let state = stored.bcb.slots.get(slot);
        print!("slot {slot}: {}", state.name());
        match state {
            SlotState::Empty => println!(),
            SlotState::Candidate { image, left, done } => {
                println!(", version {}, {done} tries done, {left} left", image.version);
            }
            SlotState::Confirmed { image } => println!(", version {}", image.version),
            SlotState::Bad { image, why } => println!(", version {}: {why}", image.version),
        }
    }
}

/// A line typed by a person; `None` when nobody typed for [`WAIT`].
fn read_line() -> Option<String> {
    let mut line = String::new();
    let mut idle = Duration::ZERO;
    loop {
        match uefi::system::with_stdin(|input| input.read_key()) {
            Ok(Some(Key::Printable(key))) => {
                idle = Duration::ZERO;
                match char::from(key) {
                    '\r' | '\n' => {
                        println!();
                        return Some(line);
                    }
                    '\u{8}' | '\u{7f}' if line.pop().is_some() => print!("\u{8} \u{8}"),
                    key if !key.is_control() && line.len() < ORDER_MAX => {
                        print!("{key}");
                        line.push(key);
                    }
                    _ => {}
                }
            }
            Ok(Some(Key::Special(_))) => idle = Duration::ZERO,
            Ok(None) | Err(_) => {
                boot::stall(LOOK);
                idle = idle.saturating_add(LOOK);
                if WAIT <= idle {
                    return None;
                }
            }
        }
    }
}

fn reset() -> ! {
    say!("resetting");
    uefi::runtime::reset(ResetType::COLD, Status::SUCCESS, None)
}
